"""What a hand-written backward pass is called with, in the layout in which it is written."""

from typing import Any, Literal, NoReturn

import jaxbp
from jaxbp.experiments.tools.description import Description

Layout = Literal["rows", "torch", "columns"]


class _CalledError(Exception):
    """Ends a check where it calls the function that is checked."""


def arguments(described: Description, layout: Layout) -> tuple[Any, Any, Any]:
    """The parameters, inputs and targets of a description, as `jaxbp.check` hands them to a function."""
    at = described
    if layout == "rows":
        return at.params, at.x, at.y

    def keep(*given: Any) -> NoReturn:
        raise _CalledError(*given)

    try:
        jaxbp.check(at.net, at.loss, at.params, at.x, at.y, keep, layout=layout)
    except _CalledError as called:
        params, x, y = called.args
        return params, x, y
    raise AssertionError("a function that is checked is called")
