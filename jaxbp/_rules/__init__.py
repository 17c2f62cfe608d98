"""Custom derivative rules in any JAX program: whether they are right, which one is wrong, where, and why.

`_program.py` traces what is checked, and `_found.py` runs it and keeps what flows into every rule. `_applied.py` has
one use of a rule beside autodiff of its function, `_judged.py` says what the difference means, and `_mistakes.py` is
the catalogue of what people do. `_report.py` is the result, and `_check_rules.py` puts them together.
"""

from jaxbp._rules._check_rules import check_rules
from jaxbp._rules._report import Rule, RulesReport

__all__ = ["Rule", "RulesReport", "check_rules"]
