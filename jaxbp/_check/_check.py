"""Check a hand gradient: whether it is right, where it goes wrong, and which mistake explains it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np

from jaxbp._check._compare import is_close
from jaxbp._check._facts import Corner, Facts, central_difference, corners
from jaxbp._check._findings import compared, in_order, where
from jaxbp._check._handed import Handed, handed_in
from jaxbp._check._pass import run
from jaxbp._check._ranking import ranked, telling_apart
from jaxbp._check._report import Report
from jaxbp._check._rounding import rounding_errors
from jaxbp._check._rules import wrong_rules
from jaxbp._check._search import MOST_TRIALS, Close, Observed, explanations, mistakes_of
from jaxbp._check._session import Session
from jaxbp._checks import quoted
from jaxbp._dropout import without_dropout
from jaxbp._names import Name
from jaxbp._network import Network
from jaxbp._objective import check_objective
from jaxbp.losses import Loss

_MOST_SUBGRADIENTS = 256
_TOO_CLOSE = "this is so close to the gradient that no mistake can be told from the numbers; a constant may be rounded"


def check(net: Network, loss: Loss, params: Any, x: Any, y: Any, mine: Any) -> Report:
    """Compare a hand gradient with `jax.grad`, and say where it goes wrong and why.

    The reference is `jax.grad` of `objective` in float64, whatever the dtypes; where that and what was handed in
    differ, central differences are asked too. Then known mistakes (a missing Φ', a missing transpose, a dropped
    branch, a lost 1/N, …, up to three of them together) are evaluated until one gives the same numbers.

    Args:
        net: The network. Units with dropout are taken without noise, as when evaluating.
        loss: The loss of one example; the gradient is that of the mean over the batch.
        params: The parameters, as from `init_params`.
        x: The input, `(*batch, width)`, or a dict of inputs by name.
        y: What the loss takes: an array like the output, or class ids.
        mine: The gradient as a tree like `params`, of arrays or nested lists; or some quantities by name, such as
            `{"delta.o": …, "Delta.h2": …, "grad.h2.h1": …, "grad.shared.W": …, "loss": …}`; or a function
            `(params, x, y)` that returns the gradients, or `(value, gradients)`. The more is handed in, the closer a
            mistake can be located.

    Returns:
        `Report(verdict, first_wrong, explanations, …)`, which prints as a few lines.

    Raises:
        TypeError, ValueError: What was handed in has a name, a shape or a type that does not fit, or the other
            arguments do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jax.random.normal(jax.random.key(1), (5, 3)), jnp.array([0, 1, 1, 0, 1])
        >>> def mine(params, x, y):
        ...     h = jnp.tanh(x @ params["h1"]["x"] + params["h1"]["bias"][None])
        ...     o = jax.nn.softmax(h @ params["o"]["h1"] + params["o"]["bias"][None])
        ...     delta_o = (o - jax.nn.one_hot(y, 2)) / 5
        ...     delta_h1 = delta_o @ params["o"]["h1"].T  # and what of tanh'?
        ...     return {
        ...         "h1": {"x": x.T @ delta_h1, "bias": delta_h1.sum(0)},
        ...         "o": {"h1": h.T @ delta_o, "bias": delta_o.sum(0)},
        ...     }
        >>> report = jaxbp.check(net, jaxbp.cross_entropy, params, x, y, mine)
        >>> report.verdict, report.first_wrong
        ('wrong', 'grad.h1.x')
        >>> print(report.explanations[0].text)
        Φ' is left out: delta.h1 = (1 − h.h1²) ⊙ Delta.h1, not Delta.h1

    Source: the chapter, whose recursions the mistakes are mistakes in.
    """
    check_objective(net, loss)
    evaluated = without_dropout(net)
    session = Session.of(evaluated, loss, params, x, y)
    with session.undisturbed():
        facts = Facts.of(evaluated, loss, params, x, y)
    handed = handed_in(facts, params, x, y, mine)
    with session.undisturbed():
        report = _judged(facts, handed)
    return replace(report, notes=(*report.notes, *_about_dropout(net))) if report.verdict == "wrong" else report


@np.errstate(all="ignore")  # numbers at the end of the format are compared too: what overflows in that is no match
def _judged(facts: Facts, handed: Handed[Name]) -> Report:
    order = in_order(facts, handed.arrays)
    tolerated = dict.fromkeys(facts.right, 0.0)
    findings = {name: compared(facts, handed, name, 0.0) for name in order}
    on_corners = corners(facts, handed.epsilon)
    if any(finding.status != "right" for finding in findings.values()):
        tolerated = rounding_errors(facts, handed.epsilon, on_corners)
        findings = {name: compared(facts, handed, name, tolerated[name]) for name in order}
    listed, wrong = tuple(findings.values()), [name for name in order if findings[name].status == "wrong"]
    if not wrong:
        rounded = any(finding.status == "precision" for finding in listed)
        return Report("precision" if rounded else "right", listed, notes=tuple(_about_corners(on_corners)))
    if on_corners and _is_subgradient(facts, handed, tolerated, on_corners):
        return Report("kink", listed, notes=tuple(_about_corners(on_corners)))
    observed = Observed(_batched(facts, handed), _closeness(facts, handed, tolerated))
    forward_is_right = not any(name.kind in ("a", "h") for name in wrong)
    finite = all(np.all(np.isfinite(array)) for array in observed.arrays.values())
    explicable = observed.arrays and forward_is_right and finite
    found, complete = explanations(facts, observed) if explicable else ([], True)
    best_first = ranked(facts, observed, [changes for changes in found if changes])
    alternatives = tuple(dict.fromkeys(mistakes_of(changes) for changes in best_first))
    faithful = () in found  # every step as it should be gives what was handed in
    own = wrong_rules(facts) if faithful else ()
    gave_up = (
        [] if complete else [f"{MOST_TRIALS} combinations were tried; hand in more quantities to narrow them down"]
    )
    notes = [
        *gave_up,
        *([_TOO_CLOSE] if faithful and not own else []),
        *_second_opinion(facts, wrong),
        *_about_corners(on_corners),
        *telling_apart(facts, observed, best_first),
    ]
    return Report(
        "wrong",
        listed,
        str(wrong[0]),
        where(facts, [name for name in order if name not in wrong], wrong[0]),
        (own,) if own else alternatives,
        tuple(notes),
    )


def _batched(facts: Facts, handed: Handed[Name]) -> dict[Name, np.ndarray]:
    """What was handed in of the backward phase, with the batch as one axis."""
    return {
        name: array.reshape(facts.right[name].shape) if name.is_of_unit else array
        for name, array in handed.arrays.items()
        if name.kind in ("Delta", "delta", "grad")
    }


def _closeness(facts: Facts, handed: Handed[Name], tolerated: Mapping[Name, float]) -> Close:
    relative = min(max(1e-8, 100 * handed.epsilon), 0.03)

    def close(name: Name, mine: np.ndarray, predicted: np.ndarray) -> bool:
        return is_close(mine, predicted, facts.right[name], relative, tolerated[name], handed.resolution)

    return close


def _is_subgradient(
    facts: Facts, handed: Handed[Name], tolerated: Mapping[Name, float], on_corners: Mapping[str, Corner]
) -> bool:
    """Whether another slope between the two sides of each corner gives what was handed in."""
    choices = [
        [np.where(c.mask, (1 - t) * c.left + t * c.right, facts.slopes[u]) for t in (0, 0.5, 1)] + [facts.slopes[u]]
        for u, c in on_corners.items()
    ]
    backward = _batched(facts, handed)
    if any(
        compared(facts, handed, name, tolerated[name]).status == "wrong"
        for name in handed.arrays
        if name not in backward
    ):
        return False
    for slopes in islice(product(*choices), _MOST_SUBGRADIENTS):
        right = dict(facts.right)
        at = replace(facts, right=right)
        at.slopes.update(dict(zip(on_corners, slopes, strict=True)))
        o = facts.net.output
        if o in on_corners:
            right[Name("delta", (o,))] = at.slopes[o] * right[Name("Delta", (o,))]
        quantities = run(at, ()).quantities()
        close = _closeness(replace(facts, right={**right, **quantities}), handed, tolerated)
        if all(close(name, backward[name], quantities[name]) for name in backward):
            return True
    return False


def _about_corners(on_corners: Mapping[str, Corner]) -> list[str]:
    return [
        f"{np.count_nonzero(corner.mask)} of {corner.mask.size} elements of a.{u} sit on a corner of the activation, "
        "where every slope between those on its two sides is valid"
        for u, corner in on_corners.items()
    ]


def _about_dropout(net: Network) -> list[str]:
    noisy = [u for u in net.order if net.units[u].dropout]
    if not noisy:
        return []
    return [f"the dropout of {quoted(noisy)} is left out here: a gradient with noise in it is called wrong"]


def _second_opinion(facts: Facts, wrong: Iterable[Name]) -> list[str]:
    """What central differences say where jax.grad and the hand gradient differ."""
    notes: list[str] = []
    for name in wrong:
        if name.kind != "grad":
            continue
        right = facts.right[name]
        direction = np.random.default_rng(0).normal(size=right.shape)
        direction /= np.linalg.norm(direction)
        theirs = central_difference(facts, name, direction)
        ours = float(np.vdot(right, direction))
        if abs(theirs - ours) > 1e-5 * max(np.linalg.norm(right), abs(facts.right[Name("loss")])):
            notes.append(
                f"the two references disagree at {name}: along a random direction jax.grad has {ours:.6g}, "
                f"central differences {theirs:.6g}; the loss has a corner here, or a custom derivative rule is wrong"
            )
    return notes
