"""The graph of names under a network: which unit reads which, and in what order they can be computed."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from jaxbp._checks import described, quoted, suggestion

ONE = "bias"
"""The unit that is always +1: every bias is an edge from it, and has its name in the tree of parameters."""
SHARED = "shared"
"""The group of the weights that several edges use."""


def topological_order(inputs: Iterable[str], reads: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The names of the units in an order in which each comes after all that it reads; the last one given is the output.

    A bad name, an unknown source and a cycle are refused, and so is whatever no path leads from to the output.
    """
    inputs = tuple(inputs)
    if not reads:
        raise ValueError("the network has no units; its last unit is its output")
    for name in (*inputs, *reads):
        check_name(name)
    doubled = [name for name in inputs if name in reads]
    if doubled:
        raise ValueError(f"{doubled[0]!r} is the name of both an input and a unit; rename one of them")
    known = (*inputs, *reads)
    for unit, sources in reads.items():
        for source in sources:
            if source not in known:
                raise ValueError(
                    f"unit {unit!r} reads {source!r}, which is neither an input nor a unit{suggestion(source, known)}; "
                    f"inputs: {quoted(inputs)}; units: {quoted(reads)}"
                )
    try:
        order = tuple(name for name in TopologicalSorter(reads).static_order() if name in reads)
    except CycleError as error:
        cycle = " ⇒ ".join(repr(name) for name in error.args[1])
        raise ValueError(
            f"the units form a cycle, {cycle}; a feed-forward network has none: drop a connection"
        ) from None
    output = list(reads)[-1]
    useful = {output}
    for unit in reversed(order):
        if unit in useful:
            useful.update(reads[unit])
    for kind, names in (("input", inputs), ("unit", order)):
        for name in names:
            if name not in useful:
                raise ValueError(
                    f"no path leads from {kind} {name!r} to the output {output!r} (the last unit listed); "
                    f"read it somewhere, or leave it out"
                )
    return order


def check_share(name: object) -> None:
    """Refuse what cannot be the name of a shared weight, or None."""
    if name is not None:
        check_name(name)


def check_name(name: object) -> None:
    """Refuse what cannot be the name of an input, a unit or a shared weight."""
    if not isinstance(name, str) or not name or any(c in ".[]" or c.isspace() or not c.isprintable() for c in name):
        raise ValueError(
            f"{described(name)} cannot be the name of an input, a unit or a shared weight: quantities are called like "
            "'grad.o.h1[0, 1]', so use a non-empty string of printable characters without dots, brackets or spaces"
        )
    if name == ONE:
        raise ValueError(f"{ONE!r} is reserved for the constant unit behind every bias; choose another name")
    if name == SHARED:
        raise ValueError(f"{SHARED!r} is reserved for the weights that several connections use; choose another name")
