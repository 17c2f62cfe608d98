"""Hand gradients: whether they are right, where they go wrong, and which mistake explains it.

`check` (`_check.py`) knows a network, and `check_function` (`_function.py`) a function and the tree of its parameters
(`_trees.py`, `_reference.py`). What is right is in `_facts.py`; `_handed.py`, `_forms.py`, `_layouts.py`, `_keys.py`
and `_tensors.py` read what was handed in; `_leaves.py` and `_compare.py` compare, and allow for what rounding
explains (`_rounding.py`, `_noise.py`); `_order.py` says in which order a backward pass comes to it.

Why it is wrong is one search for both (`_search.py`). It walks through the steps of a program (`_walk.py`): those of
a backward pass (`_pass.py`, of the right steps in `_steps.py`), or the leaves of a tree (`_walks.py`). In each it
tries the mistakes of the `_catalogue`, which are data (`_entry.py`): cases to be evaluated, made at a place
(`_change.py`), with constants that the numbers tell (`_constants.py`). What gives the numbers must be more than
chance (`_evidence.py`), is put in order (`_ranking.py`) and into words (`_explained.py`); where nothing does,
`_remarks.py` says what can be said.

`_stacks.py` translates names of layers, `_rules.py` looks at rules that a network brings, and all of it works in
float64 beside the session of the caller (`_session.py`). The report is in `_report.py`.
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
