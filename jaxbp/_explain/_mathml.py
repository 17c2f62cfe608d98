"""LaTeX maths as MathML, in pieces that a narrow page can put below each other."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

WIDEST = 32  # in digits: what fits beside the margins of a phone

_BEFORE_A_SIGN = "=≈←([,<>≤≥"
_RELATIONS = frozenset("=≈←")
_OPERATORS = _RELATIONS | frozenset("+−")


class Formula(NamedTuple):
    """A formula as one or several elements `math`, and whether one of them is wider than a phone."""

    elements: str
    is_wide: bool


def mathml(latex: str) -> Formula:
    """A formula, whose text cannot become an element of its own; a wide one is broken before its operators.

    Browsers break no line within an element `math`, but they do between two of them.
    """
    from xml.etree.ElementTree import tostring

    from latex2mathml.converter import convert_to_element  # here, so that `import jaxbp` does not wait for it

    tree = convert_to_element(latex)
    for element in tree.iter():
        # the converter writes characters as references and leaves it to others to escape what is none
        element.text = html.unescape(element.text or "") or None
    for row in tree.iter():
        _mark_signs(row)
    _flatten(tree)
    for over in tree.iter("mover"):
        if over[1].text == "―":
            _as_border(over)
    tree.attrib.clear()  # what there is in HTML anyway
    pieces = list(_broken(tree)) if _width(tree) > WIDEST else [tree]
    shown = " ".join(tostring(piece, encoding="unicode") for piece in pieces)
    return Formula(shown, max(map(_width, pieces)) > WIDEST)


def _mark_signs(row: "Element") -> None:
    """A sign has no room around it, but the converter takes each minus for a difference."""
    before = None
    for element in row:
        first = before is None and row.tag == "mrow"
        if first and element.tag == "mo" and element.text in _RELATIONS:
            element.set("form", "infix")
        after = before is not None and before.tag == "mo" and before.text is not None and before.text in _BEFORE_A_SIGN
        if element.tag == "mo" and element.text == "−" and (first or after):
            element.set("form", "prefix")
        before = element


def _flatten(element: "Element") -> None:
    """Take away rows of one element, which are half of what the converter writes."""
    for i, inner in enumerate(element):
        _flatten(inner)
        if element.tag != "math" and inner.tag == "mrow" and len(inner) == 1:
            element[i] = inner[0]


def _as_border(over: "Element") -> None:
    """A bar as wide as what is below it, which a browser without a font for maths does not make of a character."""
    over.tag = "mrow"
    over.set("class", "bar")
    del over[1]


def _broken(tree: "Element") -> Iterator["Element"]:
    """The same formula, with a new element before each operator; within fractions and scripts there is no place."""
    from xml.etree.ElementTree import Element, SubElement

    row = next(iter(tree), tree)
    pieces: list[list[Element]] = [[]]
    for element in row:
        if element.tag == "mo" and element.text in _OPERATORS and element.get("form") != "prefix" and pieces[-1]:
            element.set("form", "infix")  # as the first one it would be taken for a sign, without room after it
            element.set("rspace", "0.25em")
            pieces.append([])
        pieces[-1].append(element)
    for piece in pieces:
        math = Element("math")
        SubElement(math, "mrow").extend(piece)
        yield math


def _width(element: "Element") -> float:
    """About how many digits wide an element is."""
    parts = [_width(part) for part in element]
    match element.tag:
        case "mfrac" | "munder" | "mover" | "munderover":
            return max(parts)
        case "msub" | "msup":
            return parts[0] + 0.7 * parts[1]
        case "msubsup":
            return parts[0] + 0.7 * max(parts[1:])
        case "mtable":
            rows = [[_width(cell) + 1.6 for cell in row] for row in element]
            return sum(map(max, zip(*rows, strict=True)))
        case "mo":
            return 1.0 if element.text in set("()[],.·⁡") or element.get("form") == "prefix" else 2.4
        case "mspace":
            return 0.4
        case _:
            return sum(parts) + 1.1 * len(element.text or "")
