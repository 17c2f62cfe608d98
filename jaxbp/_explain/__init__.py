"""A network's own worked example, with its numbers, and the verdict on what others say about it."""

from jaxbp._explain._claims import Claim
from jaxbp._explain._explanation import Explanation, explain
from jaxbp._explain._steps import Equation, Step

__all__ = [
    "Claim",
    "Equation",
    "Explanation",
    "Step",
    "explain",
]
