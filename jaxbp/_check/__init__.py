"""Hand gradients: whether they are right, where they go wrong, and which mistake explains it."""

from jaxbp._check._check import check
from jaxbp._check._function import check_function
from jaxbp._check._report import Finding, Mistake, Report

__all__ = [
    "Finding",
    "Mistake",
    "Report",
    "check",
    "check_function",
]
