"""An explanation in a notebook: its living page, in a frame of its own."""

from html import escape

from jaxbp._explain import _html
from jaxbp._explain._explanation import Explanation


def of_explanation(work: Explanation) -> str | None:
    """The page as the text of a frame, so that neither's style nor script meets the notebook's, and nothing is loaded.

    A network that is too large for a page has its steps with their formulas typeset. None, which shows the plain text,
    where latex2mathml is missing.
    """
    try:
        page = work.page()
    except ValueError:
        return _html.fragment(work)
    except ImportError:
        return None
    frame = "width: 100%; height: 50em; border: 0"
    return f'<iframe title="Backpropagation, step by step" srcdoc="{escape(page)}" style="{frame}"></iframe>'
