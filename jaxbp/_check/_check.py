"""Check the hand gradient of a network: whether it is right, where it goes wrong, and which mistake explains it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
from jaxtyping import Array

from jaxbp._check._compare import Handed, disagreement
from jaxbp._check._explained import explain
from jaxbp._check._facts import Corner, Facts, central_difference, corners
from jaxbp._check._forms import quantities
from jaxbp._check._handed import handed_in, shape_of
from jaxbp._check._layouts import LAYOUTS, LayoutName, about_layout, about_transposed, explained_data, layout_of
from jaxbp._check._leaves import Leaf
from jaxbp._check._noise_of_key import with_noise_of
from jaxbp._check._order import in_order, where
from jaxbp._check._remarks import remarks
from jaxbp._check._report import Report, nothing_wrong, on_corner
from jaxbp._check._rounding import errors_by_hand, rounding_errors
from jaxbp._check._rules import wrong_rules
from jaxbp._check._session import Session
from jaxbp._check._stacks import Layers
from jaxbp._check._walk import Observed
from jaxbp._check._walks import Backward, run
from jaxbp._checks import check_choice, check_random_key, quoted
from jaxbp._dropout import noisy_units, without_dropout
from jaxbp._names import Name
from jaxbp._network import Network
from jaxbp._objective import check_objective
from jaxbp._parameters import check_params
from jaxbp._unrolled import unrolled
from jaxbp.losses import Loss

_MOST_SUBGRADIENTS = 256
BY_HAND = range(2, 7)  # more significant digits are as good as what a format rounds


def check(
    net: Network,
    loss: Loss,
    params: Any,
    x: Any,
    y: Any,
    mine: Any,
    *,
    layout: LayoutName = "rows",
    key: Array | None = None,
    digits: int = 0,
) -> Report:
    """Compare a hand gradient with `jax.grad`, and say where it goes wrong and why.

    The reference is `jax.grad` of the mean loss over the batch, in float64; where that and what was handed in
    differ, central differences are asked too. Then known mistakes (a missing Φ', a missing transpose, a
    dropped branch, a lost 1/N, …, up to three of them together) are evaluated until some give the same numbers. One is
    claimed only where the numbers could have contradicted it; where none is, the report says what the numbers say.

    `mine` is a tree like `params`, of arrays or nested lists; or some quantities by name, such as `{"delta.o": …,
    "Delta.h2": …, "grad.h2.h1": …, "grad.shared.W": …, "loss": …}`; or a function `(params, x, y)` that returns the
    gradients, or `(value, gradients)`. The more is handed in, the closer a mistake can be located. Of a stack the
    report names the layer: `delta.blocks.up[3]`, which can also be handed in alone.

    Gradients may also come as a list or tuple, or by other keys, such as `{"W1": …, "b1": …}` or `fc1.weight`: they are
    taken for those of the weights whose shapes they have, in the order of the units, and the report says which for
    which; where that is not clear they are refused. Of a module, and of a tensor that requires a gradient, such as
    torch has, `.grad` is read.

    Args:
        net: The network.
        loss: The loss of one example.
        params: Its parameters, in rows as `x` and `y`, whatever the layout.
        x: The inputs.
        y: The targets.
        mine: The hand gradient, as above.
        layout: How the arrays of `mine` lie, and those that a function `mine` is called with. In `"rows"` they are like
            `params`, with weights `(in, out)` and the batch first. In `"torch"` weights are `(out, in)`, convolutions
            `(out, in, *kernel)`, and images (what windows slide over, or make) have the channels first, `(*batch,
            channels, *spatial)`; what flattens an image has the elements in the order that follows, and so has what
            reads it. In `"columns"` weights are `(out, in)`, biases `(out, 1)` or `(out,)`, and the batch is last: h is
            `(width, batch)`. Embeddings, and the weights of other connections, are as they are in rows.
        key: That of `backprop`: h = ξ ⊙ Φ(a) in units with dropout, with the noise ξ that `forward` has of it. Without
            a key dropout is left out, as in `apply`.
        digits: To how many significant digits somebody with a calculator rounded each number, one after the other, from
            2 to 6; 0 where a number format rounds. A number may then be off by half a unit of its last digit, beside
            what the rounding of those before it makes of that: with 4 digits three parts in a thousand in the median.

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
    """
    check_objective(net, loss)
    check_params(net, params)
    check_choice(layout, "layout", LAYOUTS)
    check_digits(digits)
    evaluated = without_dropout(net)
    written_out = unrolled(evaluated)
    if key is not None:
        check_random_key(key)
        with explained_data(net, x, y):
            written_out = with_noise_of(key, net, params, x, written_out)
    layers = Layers(evaluated, written_out)
    flat, theirs = layers.flat.net, layers.flat.params(params)
    session = Session.of(flat, loss, theirs, x, y)
    with explained_data(net, x, y), session.undisturbed():
        facts = Facts.of(flat, loss, theirs, x, y)
    at = layout_of(layout, layers.flat, x)
    read, taken = quantities(at, params, x, y, mine)
    handed = handed_in(facts, params, x, layers.written_out(read), digits)
    with session.undisturbed():
        report = layers.reported(_judged(facts, handed))
    read_as = "; ".join((*about_layout(at), *taken))
    notes = [*([read_as] if read_as else []), *report.notes, *about_transposed(at, report)]
    if report.verdict == "wrong" and key is None:
        notes += _about_dropout(net)
    return replace(report, notes=tuple(notes))


def check_digits(digits: int) -> None:
    """Refuse what is no number of significant digits that somebody writes."""
    if isinstance(digits, bool) or not isinstance(digits, int) or digits not in (0, *BY_HAND):
        raise ValueError(
            f"digits is {digits!r}, expected {BY_HAND[0]} to {BY_HAND[-1]}, to how many significant digits each number "
            "was rounded by hand, or 0 where none was"
        )


@np.errstate(all="ignore")  # numbers at the end of the format are compared too: what overflows in that is no match
def _judged(facts: Facts, handed: Handed[Name]) -> Report:
    tolerated: Mapping[Name, float | np.ndarray] = dict.fromkeys(facts.right, 0.0)
    order = in_order(facts, handed.arrays)

    def compared() -> dict[Name, Leaf]:
        at = {n: shape_of(facts, n) for n in order}
        errors = {n: e.reshape(at[n]) if isinstance(e := tolerated[n], np.ndarray) else e for n in order}
        return {n: Leaf.of(n, facts.right[n].reshape(at[n]), handed, errors[n]) for n in order}

    leaves, on_corners = compared(), corners(facts, handed.epsilon)
    about_corners = tuple(
        on_corner(int(np.sum(corner.mask)), corner.mask.size, f"a.{u}", "the activation")
        for u, corner in on_corners.items()
    )
    if any(leaf.finding.status != "right" for leaf in leaves.values()):
        if handed.digits:
            tolerated = errors_by_hand(facts, handed.digits, on_corners)
        else:
            tolerated = rounding_errors(facts, handed.epsilon, on_corners)
        leaves = compared()
    findings, wrong = tuple(leaf.finding for leaf in leaves.values()), [name for name in order if leaves[name].wrong]
    if not wrong:
        return nothing_wrong(findings, about_corners)
    observed = _observed(facts, handed, leaves)
    if on_corners and _is_subgradient(facts, observed, wrong, on_corners):
        return Report("kink", findings, notes=about_corners)
    right = [name for name in order if name not in wrong]
    report = Report("wrong", findings, str(wrong[0]), where(facts, right, wrong[0]))
    notes = [*about_corners, *_second_opinion(facts, wrong)]
    forward_is_right = not any(name.kind in ("a", "h") for name in wrong)
    finite = all(np.all(np.isfinite(array)) for array in observed.arrays.values())
    if not (observed.arrays and forward_is_right and finite):
        return replace(report, notes=tuple(notes))
    explained = explain(
        Backward(replace(facts, handed=observed.arrays)),
        observed,
        facts.right,
        lambda: Backward(_elsewhere(facts)),
    )
    own = wrong_rules(facts) if explained.gives_right else ()
    if own:
        return replace(report, alternatives=(own,), notes=tuple(notes))
    said = () if explained.alternatives else remarks([leaves[name] for name in wrong], facts)
    return replace(
        report,
        alternatives=explained.alternatives,
        same_as=explained.same_as,
        notes=(*said, *explained.notes, *notes),
    )


def _observed(facts: Facts, handed: Handed[Name], leaves: Mapping[Name, Leaf]) -> Observed:
    """The quantities from the loss on that were handed in, with the batch as one axis."""
    backward = [name for name in handed.arrays if name.kind in ("loss", "Delta", "delta", "grad")]
    arrays = {
        name: handed.arrays[name].reshape(facts.right[name].shape) if name.is_of_unit else handed.arrays[name]
        for name in backward
    }
    return Observed(arrays, {name: leaves[name].tolerance for name in backward})


def _elsewhere(facts: Facts) -> Facts:
    """The same network on other inputs and targets: at least four examples, for one may not tell mistakes apart."""
    examples = facts.examples if facts.examples > 1 else 4
    rows = np.resize(facts.y, (examples, *facts.y.shape[1:]))
    if facts.loss.encode is None:
        # real numbers, on both sides of what the network gives
        size = 1 + np.max(np.abs(facts.y)) + np.max(np.abs(facts.h[facts.net.output]))
        return facts.elsewhere(0, size * np.random.default_rng(0).normal(size=rows.shape), examples)
    # classes or signs: those of other outputs, in every second example
    other = (np.arange(examples) % 2 == 0).reshape(-1, *[1] * (rows.ndim - 1))
    return facts.elsewhere(0, np.where(other, rows, np.roll(rows, 1, axis=-1)), examples)


def _is_subgradient(facts: Facts, observed: Observed, wrong: Iterable[Name], on_corners: Mapping[str, Corner]) -> bool:
    """Whether another slope between the two sides of each corner gives what was handed in."""
    if any(name not in observed.arrays for name in wrong):
        return False
    choices = [
        [np.where(c.mask, (1 - t) * c.left + t * c.right, facts.slopes[u]) for t in (0, 0.5, 1)] + [facts.slopes[u]]
        for u, c in on_corners.items()
    ]
    for slopes in islice(product(*choices), _MOST_SUBGRADIENTS):
        right = dict(facts.right)
        at = replace(facts, right=right)
        at.slopes.update(dict(zip(on_corners, slopes, strict=True)))
        o = facts.net.output
        if o in on_corners:
            right[Name("delta", (o,))] = at.slopes[o] * right[Name("Delta", (o,))]
        quantities = run(Backward(at), ())
        if all(observed.close(name, quantities[name]) for name in observed.arrays):
            return True
    return False


def _about_dropout(net: Network) -> list[str]:
    noisy = noisy_units(net)
    if not noisy:
        return []
    return [f"the dropout of {quoted(noisy)} is left out here: for a gradient with noise in it hand in its key too"]


def _second_opinion(facts: Facts, wrong: Iterable[Name]) -> Iterator[str]:
    """What central differences say where jax.grad and the hand gradient differ."""
    for name in wrong:
        if name.kind == "grad":
            yield from disagreement(
                str(name), facts.right[name], facts.right[Name("loss")], partial(central_difference, facts, name),
                "the loss has a corner here, or a custom derivative rule is wrong",
            )  # fmt: skip
