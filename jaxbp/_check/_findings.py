"""Findings: each quantity that was handed in, compared with the reference, and where the first wrong one comes from."""

from collections.abc import Iterable

from jaxbp._check._compare import Handed, comparison
from jaxbp._check._facts import Facts
from jaxbp._check._handed import shape_of
from jaxbp._check._pass import backward_names
from jaxbp._check._report import Finding
from jaxbp._graph import SHARED
from jaxbp._parameters import uses


def in_order(facts: Facts, names: Iterable[str]) -> list[str]:
    """The order of computation: forward, the loss, then backward with the gradients of each unit after its δ."""
    net = facts.net
    order = [f"h.{s}" for s in net.inputs]
    order += [f"{kind}.{u}" for u in net.order for kind in ("a", "h")]
    order.append("loss")
    for u in (*reversed(net.order), *net.inputs):
        order += backward_names(facts, u)
    given = set(names)
    return [name for name in order if name in given]


def compared(facts: Facts, handed: Handed, name: str, tolerated: float) -> Finding:
    """One quantity compared with the reference, where rounding may explain so large an error of an element."""
    shape = handed.arrays[name].shape
    expected, remark = facts.right[name].reshape(shape_of(facts, name)), ""
    if shape != expected.shape:
        expected, remark = expected.T, f"its shape {shape} is that of the transpose"
    return comparison(name, expected, handed, tolerated, remark)[0]


def where(facts: Facts, findings: Iterable[Finding], first: str) -> str:
    """Which step to look at: the one between what is still right and the first that is wrong."""
    right = [finding.name for finding in findings if finding.status != "wrong"]
    before = [name for name in in_order(facts, facts.right) if name in right]
    before = before[: next((i for i, name in enumerate(before) if _after(facts, name, first)), len(before))][-2:]
    text = "".join(f"{name} is right, " for name in before)
    return f"{text}{first} is wrong: look at the step {_step_to(facts, first, right)}"


def _after(facts: Facts, name: str, first: str) -> bool:
    order = in_order(facts, facts.right)
    return order.index(name) > order.index(first)


def _step_to(facts: Facts, name: str, right: list[str]) -> str:
    kind, *path = name.split(".")
    if kind == "loss":
        o = facts.net.output
        return f"from h.{o} and y to the loss" if f"h.{o}" in right else f"to the loss, or those to h.{o} before it"
    u = path[0]
    if u == SHARED:
        return _step_to_shared(facts, name, right)
    if kind in ("a", "h"):
        return f"to {name} of the forward phase"
    readers = " and ".join(f"delta.{v}" for v in facts.readers[u])
    start = f"h.{u} and y" if u == facts.net.output else readers
    if kind == "Delta":
        return f"from {start} to {name}"
    if kind == "delta":
        return f"from {f'Delta.{u}' if f'Delta.{u}' in right else start} to {name}"
    return f"from delta.{u} to {name}" if _is_known(u, right) else f"from {start} to delta.{u}"


def _step_to_shared(facts: Facts, name: str, right: list[str]) -> str:
    users = dict.fromkeys(u for u in reversed(facts.net.order) if u in _users(facts, name))
    last = f"from {' and '.join(f'delta.{u}' for u in users)} to {name}"
    unknown = [f"delta.{u}" for u in users if not _is_known(u, right)]
    return f"{last}, or those to {' and '.join(unknown)} before it" if unknown else last


def _users(facts: Facts, name: str) -> list[str]:
    return [u for u, _ in uses(facts.net, *name.split(".")[1:])]


def _is_known(u: str, right: list[str]) -> bool:
    return f"delta.{u}" in right or any(other.startswith(f"grad.{u}.") for other in right)
