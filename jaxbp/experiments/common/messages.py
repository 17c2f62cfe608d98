"""The words in which things are refused: what is known, and what was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

EXTRAS = {"dp_accounting": "private", "equinox": "interop", "flax": "interop", "torch": "interop"}
"""Which extra has a package that the extra `experiments` has not."""


class ProgramError(Exception):
    """A program that a user handed in failed; the message has lines of its own, such as where."""


def quoted(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(map(repr, names)) or "none"


def suggestion(name: object, known: Iterable[str]) -> str:
    """A half-sentence that proposes the nearest known name, or nothing."""
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)  # as low as 'h2' for 'h1'
    return f" (did you mean {near[0]!r}?)" if near else ""


def lacking(error: ModuleNotFoundError) -> str:
    """What has to be installed, in a sentence; nothing where a module of our own is missing."""
    package = (error.name or "jaxbp").partition(".")[0]
    extra = EXTRAS.get(package, "experiments")
    return "" if package == "jaxbp" else f"this needs {package}, which is not installed: pip install 'jaxbp[{extra}]'"
