"""An explanation in a notebook."""

from jaxbp._explain import _html
from jaxbp._explain._steps import Work


def of_explanation(work: Work) -> str | None:
    """Its steps with their formulas typeset; None, which shows the plain text, where latex2mathml is missing."""
    try:
        return _html.fragment(work)
    except ImportError:
        return None
