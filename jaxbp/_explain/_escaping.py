"""What people wrote is text: the one place for each format that makes it so.

Names of units, places of claims, titles and the names of functions come as they please. In maths they are signs of
`_symbols`; everywhere else they pass through here.
"""

import html
import re

_LONGEST_IN_MESSAGE = 120


def visible(text: str) -> str:
    r"""A text in one line, without what a terminal would obey: other characters than printable ones become `\x1b`."""
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def brief(value: object) -> str:
    """What came, within a message: of what is long or huge no more than one can read."""
    try:
        text = repr(value)
    except Exception:  # somebody else's __repr__, or an integer of too many digits
        return f"something of type {type(value).__name__}"
    limit = _LONGEST_IN_MESSAGE
    return text if len(text) <= limit else f"{text[: limit - 20]}…{text[-19:]}"


def in_html(text: str) -> str:
    """A text within an element, or within the quotes of an attribute."""
    return html.escape(visible(text))


def in_markdown(text: str) -> str:
    """A text within a line of Markdown."""
    escaped = re.sub(r"[\\`*_~|$\[\]]|(?<=:)/|(?<=www)\.|@", r"\\\g<0>", visible(text))
    return re.sub("[&<>]", lambda match: html.escape(match[0]), escaped)


def code_in_markdown(text: str) -> str:
    """A name in a code span, where it holds nothing that could end one or read as HTML."""
    return f"`{text}`" if re.fullmatch(r"[\w.,\[\] -]+", text) else in_markdown(text)


def in_latex(text: str) -> str:
    """A text within a paragraph of LaTeX."""
    return visible(text).translate(_IN_LATEX)


_IN_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "_#$%&{}"}
    | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "<": r"\textless{}", ">": r"\textgreater{}"}
    | {"|": r"\textbar{}", "`": r"\textasciigrave{}", "✓": r"$\checkmark$", "✗": r"$\times$", "−": "$-$"}
)
