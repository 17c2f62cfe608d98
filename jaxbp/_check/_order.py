"""The order of the backward phase, and the step between what is still right and the first quantity that is wrong."""

from collections.abc import Iterable, Sequence

from jaxbp._check._facts import Facts
from jaxbp._check._pass import backward_names
from jaxbp._graph import SHARED
from jaxbp._names import Name


def in_order(facts: Facts, names: Iterable[Name]) -> list[Name]:
    """The order of computation: forward, the loss, then backward with the gradients of each unit after its δ."""
    net = facts.net
    order = [Name("h", (s,)) for s in net.inputs]
    order += [Name(kind, (u,)) for u in net.order for kind in ("a", "h")]
    order += backward_names(facts)
    given = set(names)
    return [name for name in order if name in given]


def where(facts: Facts, right: Sequence[Name], first: Name) -> str:
    """Which step to look at: the one between what is still right and the first quantity that is wrong."""
    order = in_order(facts, facts.right)
    before = [name for name in order[: order.index(first)] if name in right]
    text = "".join(f"{name} is right, " for name in before[-2:])
    return f"{text}{first} is wrong: look at the step {_step_to(facts, first, right)}"


def _step_to(facts: Facts, name: Name, right: Sequence[Name]) -> str:
    kind, u = name.kind, name.unit
    if kind == "loss":
        o = Name("h", (facts.net.output,))
        return f"from {o} and y to the loss" if o in right else f"to the loss, or those to {o} before it"
    if u == SHARED:
        return _step_to_shared(facts, name, right)
    if kind in ("a", "h"):
        return f"to {name} of the forward phase"
    readers = " and ".join(f"delta.{v}" for v in facts.plan.readers[u])
    start = f"h.{u} and y" if u == facts.net.output else readers
    if kind == "Delta":
        return f"from {start} to {name}"
    if kind == "delta":
        Delta = Name("Delta", name.path)
        return f"from {Delta if Delta in right else start} to {name}"
    return f"from delta.{u} to {name}" if _is_known(u, right) else f"from {start} to delta.{u}"


def _step_to_shared(facts: Facts, name: Name, right: Sequence[Name]) -> str:
    group, weight = name.path
    using = [edge.unit for edge in facts.plan.uses[group, weight]]
    users = [u for u in reversed(facts.net.order) if u in using]
    last = f"from {' and '.join(f'delta.{u}' for u in users)} to {name}"
    unknown = [f"delta.{u}" for u in users if not _is_known(u, right)]
    return f"{last}, or those to {' and '.join(unknown)} before it" if unknown else last


def _is_known(u: str, right: Sequence[Name]) -> bool:
    return any(other.kind in ("delta", "grad") and other.unit == u for other in right)
