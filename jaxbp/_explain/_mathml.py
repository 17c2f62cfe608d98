"""LaTeX maths as MathML."""

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_BEFORE_A_SIGN = "=≈←([,<>≤≥"


def mathml(latex: str) -> str:
    """A formula as an element `math`, whose text cannot become an element of its own."""
    from xml.etree.ElementTree import tostring

    from latex2mathml.converter import convert_to_element  # here, so that `import jaxbp` does not wait for it

    tree = convert_to_element(latex)
    for element in tree.iter():
        # the converter writes characters as references and leaves it to others to escape what is none
        element.text = html.unescape(element.text or "") or None
    for row in tree.iter():
        _mark_signs(row)
    return tostring(tree, encoding="unicode")


def _mark_signs(row: "Element") -> None:
    """A sign has no room around it, but the converter takes each minus for a difference."""
    before = None
    for element in row:
        first = before is None and row.tag == "mrow"
        after = before is not None and before.tag == "mo" and before.text is not None and before.text in _BEFORE_A_SIGN
        if element.tag == "mo" and element.text == "−" and (first or after):
            element.set("form", "prefix")
        before = element
