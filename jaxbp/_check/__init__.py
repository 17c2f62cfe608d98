"""Hand gradients: whether they are right, where they go wrong, and which mistake explains it.

Two checks have one report (`_report.py`). `check` (`_check.py`) knows the network: `_facts.py` has what is right,
`_forms.py` reads what was handed in (`_layouts.py`, `_keys.py` and `_tensors.py` say how), and `_order.py` says in
which order a backward pass comes to it. `_pass.py` runs that pass with single steps changed, `_catalogue` has such
changes, `_search.py` finds those that give the same numbers, and `_ranking.py` puts the best first. `_rules.py` looks
at rules that the network itself brings.

`check_function` (`_function.py`) knows a function and the tree of its parameters (`_trees.py`, `_reference.py`) and no
graph: its catalogue, `_leaf_mistakes.py`, has what the numbers alone can tell.

Both compare arrays as `_leaves.py` and `_compare.py` do, allow for what rounding explains (`_rounding.py` and
`_noise.py`), and work in float64 beside the session of the caller (`_session.py`).
"""

from jaxbp._check._check import check
from jaxbp._check._function import check_function
from jaxbp._check._layouts import LayoutName
from jaxbp._check._report import Finding, Mistake, Report

__all__ = [
    "Finding",
    "LayoutName",
    "Mistake",
    "Report",
    "check",
    "check_function",
]
