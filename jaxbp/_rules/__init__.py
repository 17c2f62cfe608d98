"""Custom derivative rules in any JAX program: whether they are right, which one is wrong, where, and why.

`_program.py` traces what is checked, and `_found.py` runs it and keeps what flows into every rule; `_found_eagerly.py`
does so for rules that close over what is traced. `_applied.py` has one use of a rule beside autodiff of its function,
and `_on_device.py` the same on two devices; `_rounding.py` says how far rounding may part them. `_trial.py` looks at
each use, `_judged.py` says what a difference means, `_mistakes.py` asks the catalogue of `jaxbp/_check` which mistake
it is, and `_flow.py` knows where a derivative goes on. `_places.py` has who wrote a rule, `_report.py` is the result,
and `_check_rules.py` puts them together.
"""

from jaxbp._rules._check_rules import check_rules
from jaxbp._rules._report import Rule, RulesReport

__all__ = ["Rule", "RulesReport", "check_rules"]
