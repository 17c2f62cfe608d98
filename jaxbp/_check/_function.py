"""Check a hand gradient of any scalar JAX function: the numbers tell where, and of some mistakes which.

Without a graph there is no order of computation: leaves are compared one by one, in the order in which JAX flattens
the tree, and only mistakes that can be made after the fact are known, in signs, constants, shapes and places. One more
needs no graph of ours: that sums which f itself makes were taken for constants.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxbp._check._compare import Handed, disagreement
from jaxbp._check._explained import explain
from jaxbp._check._leaves import Leaf
from jaxbp._check._reference import Reference
from jaxbp._check._remarks import remarks
from jaxbp._check._report import Report, nothing_wrong, on_corner
from jaxbp._check._session import Session
from jaxbp._check._trees import VALUE, Tree, handed_in
from jaxbp._check._walk import Observed
from jaxbp._check._walks import Leaves
from jaxbp._checks import check_callable

_MOST_ON_CORNERS = 256
_DRAWN = (
    "f draws random numbers, which are others in float64: the reference is jax.grad of f as it is; draw them outside "
    "of f for a stricter check"
)


def check_function(f: Callable[[Any], Any], params: Any, mine: Any) -> Report:
    """Compare a hand gradient of any scalar JAX function with `jax.grad`, and say where it goes wrong and why.

    The reference is `jax.grad` of f in float64, whatever the dtypes; where that and what was handed in differ, central
    differences are asked too. Then the mistakes that can be told without a graph (signs, constants, transposes,
    places, sums over a broadcast axis, blocks of zeros) are evaluated, up to two of them together; where none gives
    these numbers, also that a sum in f, such as a mean, a variance or a norm, was taken for a constant.

    f takes one tree of floating arrays, and is differentiated as it is: hand in `jax.jit(f)` where that is slow. `mine`
    is a tree like `params`, of arrays or nested lists; or a function `params -> gradients` or `params -> (value,
    gradients)`. Of a tensor that requires a gradient, such as a parameter of torch's, `.grad` is read. The report names
    each leaf by its path, such as `h1.W`, `layers[0].b` or `['no identifier']`; an array that is the whole tree is
    `params`, and the value is `f(params)`.

    Raises:
        TypeError, ValueError: f is not scalar, or what was handed in has a key, a shape or a type that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> A = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> f = lambda params: params["w"] @ A @ params["w"]
        >>> report = jaxbp.check_function(f, params, lambda params: {"w": (A + A.T) @ params["w"] / 2})
        >>> report.verdict, report.where
        ('wrong', '1 of 1 leaves is wrong: w')
        >>> print(report.findings[0])
        w[1] is 6.5, expected 13 (relative error 5.0e-01; 2 of 2 elements are off)
        >>> print(report.explanations[0].text)
        the gradient of w is 1/2 of the right one, as when a square is differentiated without its 2
    """
    check_callable(f, "f", "lambda params: jnp.sum(params['w'] ** 2)")
    tree = Tree.of(params)
    as_it_is = Reference(f, tree)
    as_it_is.check()
    handed = handed_in(tree, mine)
    if as_it_is.draws_others:
        report = _judged(as_it_is, handed)
        return replace(report, notes=(_DRAWN, *report.notes))
    as_they_came = as_it_is.in_its_dtypes
    del as_it_is  # with its program, as that in float64 is gone before the session goes on
    with Session(Reference(f, tree).traced).undisturbed():
        return _judged(Reference(f, tree, True, as_they_came), handed)


@np.errstate(all="ignore")  # numbers at the end of the format are compared too: what overflows in that is no match
def _judged(at: Reference, handed: Handed[str]) -> Report:
    compared = _compared(at, handed)
    findings = tuple(leaf.finding for leaf in compared)
    wrong = [leaf for leaf in compared if leaf.wrong]
    if not wrong:
        return nothing_wrong(findings)
    if _on_corners(at, wrong):
        return Report(
            "kink",
            findings,
            notes=tuple(on_corner(leaf.finding.off, leaf.right.size, leaf.name, "f") for leaf in wrong),
        )
    grads = [leaf for leaf in compared if leaf.name != VALUE]
    places = ", ".join(leaf.place for leaf in wrong)
    where = f"{len(wrong)} of {len(compared)} leaves {'is' if len(wrong) == 1 else 'are'} wrong: {places}"
    report = Report("wrong", findings, wrong[0].name, where)
    notes = tuple(_second_opinion(at, wrong))
    if not all(np.all(np.isfinite(leaf.mine)) and np.all(np.isfinite(leaf.right)) for leaf in compared):
        return replace(report, notes=notes)
    params = {name: np.asarray(leaf, np.float64) for name, leaf in at.tree.leaves.items()}
    right = {leaf.name: leaf.right for leaf in grads}
    observed = Observed({leaf.name: leaf.mine for leaf in grads}, {leaf.name: leaf.tolerance for leaf in grads})
    explained = explain(Leaves(params, right), observed, right)
    if not explained.alternatives:  # only then, for to know the sums takes a program of their own
        explained = explain(Leaves(params, right, paths=at.paths), observed, right)
    said = () if explained.alternatives else remarks(wrong)
    return replace(
        report,
        alternatives=explained.alternatives,
        same_as=explained.same_as,
        notes=(*said, *explained.notes, *notes),
    )


def _compared(at: Reference, handed: Handed[str]) -> list[Leaf]:
    """Every array beside the right one; what rounding explains is estimated only where it matters."""
    compared = [Leaf.of(name, at.right[name], handed, 0.0) for name in handed.arrays]
    if not any(leaf.wrong for leaf in compared):
        return compared
    handed = replace(handed, epsilon=max(handed.epsilon, at.epsilon))
    errors = at.rounding_errors(handed.epsilon)
    return [Leaf.of(name, at.right[name], handed, errors[name]) for name in handed.arrays]


def _on_corners(at: Reference, wrong: Sequence[Leaf]) -> bool:
    """Whether all that is off sits on a corner of f, and lies between the slopes of its two sides."""
    if sum(leaf.finding.off for leaf in wrong) > _MOST_ON_CORNERS or not at.wide:
        return False
    return all(
        leaf.name != VALUE and leaf.has_its_shape and _between_slopes(at, leaf, index)
        for leaf in wrong
        for index in map(tuple, np.argwhere(leaf.off))
    )


def _between_slopes(at: Reference, leaf: Leaf, index: tuple[int, ...]) -> bool:
    direction = np.zeros_like(leaf.right)
    direction[index] = 1
    left, right = at.slopes(leaf.name, direction)
    size, distance = max(abs(left), abs(right)), abs(left - right)
    corner = distance > 1e-3 * size + 1e-9 * abs(at.right[VALUE]) / at.scale(leaf.name)
    slack = leaf.tolerance.allowed(np.asarray(size), np.asarray(size)) + 1e-6 * distance
    return bool(corner and min(left, right) - slack <= leaf.mine[index] <= max(left, right) + slack)


def _second_opinion(at: Reference, wrong: Iterable[Leaf]) -> Iterator[str]:
    """What central differences say where jax.grad and the hand gradient differ."""
    for leaf in wrong:
        if leaf.name != VALUE and leaf.right.size and at.wide:
            yield from disagreement(
                leaf.name, leaf.right, at.right[VALUE], lambda d, name=leaf.name: sum(at.slopes(name, d)) / 2,
                "f has a corner here, or a derivative rule of its own is wrong",
            )  # fmt: skip
