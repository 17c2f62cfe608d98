"""Findings: each quantity that was handed in, compared with the reference, and where the first wrong one comes from."""

from collections.abc import Iterable

import numpy as np

from jaxbp._check._facts import Facts
from jaxbp._check._handed import Handed, shape_of
from jaxbp._check._report import Finding


def in_order(facts: Facts, names: Iterable[str]) -> list[str]:
    """The order of computation: forward, the loss, then backward with the gradients of each unit after its δ."""
    net = facts.net
    order = [f"h.{s}" for s in net.inputs]
    order += [f"{kind}.{u}" for u in net.order for kind in ("a", "h")]
    order.append("loss")
    for u in reversed(net.order):
        order += [f"Delta.{u}", f"delta.{u}", *(f"grad.{u}.{s}" for s in facts.params[u])]
    order += [f"Delta.{s}" for s in net.inputs]
    given = set(names)
    return [name for name in order if name in given]


def compared(facts: Facts, handed: Handed, name: str, tolerated: float) -> Finding:
    """One quantity compared with the reference, where rounding may explain so large an error of an element."""
    mine = handed.arrays[name]
    expected = facts.right[name].reshape(shape_of(facts, name))
    remark = ""
    if name in handed.transposed:
        expected, remark = expected.T, f"its shape {mine.shape} is that of the transpose"
    broken = int(np.count_nonzero(~np.isfinite(mine)))
    if broken:
        remark = f"{broken} of its {mine.size} elements {'is' if broken == 1 else 'are'} NaN or infinite"
    size = float(np.max(np.abs(expected), initial=0, where=np.isfinite(expected)))
    # half precision rounds as much in one step as others in a whole pass
    strict = (64 if handed.epsilon < 1e-5 else 4) * max(handed.epsilon, 1e-13) * size
    allowed = max(strict, tolerated, handed.resolution * (1 + 1e-9))
    error = errors(mine, expected, handed.largest, tolerated)
    off = int(np.count_nonzero(error > allowed))
    worst = tuple(map(int, np.unravel_index(int(np.argmax(error)), error.shape)))
    transposed = name in handed.transposed
    status = "wrong" if off or transposed else "precision" if error.max() > strict else "right"
    relative = float(error[worst] / size) if size else float(np.inf if error[worst] else 0)
    off = mine.size if transposed else off
    return Finding(name, status, worst, float(mine[worst]), float(expected[worst]), relative, off, mine.size, remark)


def errors(mine: np.ndarray, expected: np.ndarray, largest: float, tolerated: float) -> np.ndarray:
    """The absolute error of each element; infinite for a NaN, and for infinity where the format could do better."""
    with np.errstate(all="ignore"):
        error = np.abs(mine - expected)
        same = (mine == expected) | (np.isnan(mine) & np.isnan(expected))
        overflow = np.isinf(mine) & (mine * expected > 0) & (8 * np.abs(expected) > largest)
        # 1 / (1 − o) where o is rounded to 1: no digit of it is known to the format
        saturated = np.isinf(mine) & (mine * expected > 0) & (np.abs(expected) <= tolerated)
    error = np.where(np.isfinite(error), error, np.inf)
    return np.where(same, 0, np.where(overflow | saturated, tolerated, error))


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
    if kind in ("a", "h"):
        return f"to {name} of the forward phase"
    readers = " and ".join(f"delta.{v}" for v in facts.readers[u])
    start = f"h.{u} and y" if u == facts.net.output else readers
    if kind == "Delta":
        return f"from {start} to {name}"
    if kind == "delta":
        return f"from {f'Delta.{u}' if f'Delta.{u}' in right else start} to {name}"
    known = f"delta.{u}" in right or any(other.startswith(f"grad.{u}.") for other in right)
    return f"from delta.{u} to {name}" if known else f"from {start} to delta.{u}"
