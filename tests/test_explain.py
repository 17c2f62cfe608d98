"""Explanations: every formula gives the number beside it, and that number is the engine's; how they are printed."""

import html
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, QUARTIC, SINE, Case, case_named, swept

import jaxbp
from jaxbp._explain import _attention_forms, _digits, _equations, _formulas, _norms, _numbers, _products, _terms, _work
from jaxbp._explain._expressions import Number, evaluate
from jaxbp._explain._html import fragment
from jaxbp._explain._matrices import matrices
from jaxbp._explain._titles import TITLES, Title
from jaxbp._names import Name
from jaxbp._names import named as by_name
from jaxbp._unrolled import Unrolled

TOLERANCE = 1e-12
CANCELLED = 1e-3  # below this an error is measured against it: sums of terms near 1 leave no more digits
RATE = 0.1


# What a user makes.


def _summing(a):
    return np.triu(np.ones((a.shape[-1], a.shape[-1]), a.dtype))


# h_i = a_1 + … + a_i: the Jacobian of softmax is symmetric, so it would hide a missing transpose
RUNNING_SUM = jaxbp.vector_activation(
    lambda a: a @ _summing(a), lambda a, h, Delta: Delta @ _summing(a).T, name="running_sum"
)


@dataclass(frozen=True)
class Made(jaxbp.connections.Connection):
    """A connection of a user's, whose pull-backs are those of autodiff."""

    name: str
    shape: tuple[int, ...] | None
    applied: Callable

    def __repr__(self):
        return f"{self.name}()"

    def weight_shape(self, source, unit):
        return self.shape

    def apply(self, W, h):
        return self.applied(W, h)

    def pull_back(self, W, h, delta):
        return jax.vjp(lambda h: self.applied(W, h), h)[1](delta)[0]

    def contract(self, W, h, delta):
        return jax.vjp(lambda W: self.applied(W, h), W)[1](delta)[0]


MASKED = Made("Masked", (3, 3), lambda W, h: h @ jnp.triu(W))
SHARED = Made("Shared", (), lambda W, h: W * h)  # one weight, without an axis, for all elements
FAINT = Made("Faint", None, lambda W, h: 0.1 * h[..., ::-1])  # no weight, and a factor that float32 has not
NO_SUMS = [
    (Made("Squared", (), lambda W, h: W**2 * h), "its weight and in its source"),
    (Made("Constant", (), lambda W, h: W * jnp.ones_like(h)), "its weight and in its source"),
    (Made("Absolute", None, lambda W, h: jnp.abs(h)), "its source"),
]


def reading(connection) -> jaxbp.Network:
    """Two units, of which the second reads the first and the input by this connection too."""
    return jaxbp.Network(
        {"x": 3},
        {
            "h1": jaxbp.Unit(3, jaxbp.tanh, {"x": connection}),
            "o": jaxbp.Unit(3, jaxbp.linear, {"h1": jaxbp.Dense(), "x": connection}),
        },
    )


def _halved_error(a, y):
    return jnp.sum((a - y) ** 2, axis=-1) / 2


SIMPLIFIED = replace(
    jaxbp.squared_error,
    name="simplified",
    simplifications=(jaxbp.losses.Simplification(jaxbp.linear, _halved_error, lambda a, o, y: a - y),),
)
TWICE_THE_SLOPE = replace(jaxbp.squared_error, name="twice", gradient=lambda o, y: 2 * (o - y))


TIED = jaxbp.Network(  # a square matrix, there and back
    {"x": 3},
    {
        "code": jaxbp.Unit(3, jaxbp.tanh, {"x": jaxbp.Dense(share="W")}),
        "o": jaxbp.Unit(3, jaxbp.linear, {"code": jaxbp.Transposed(jaxbp.Dense(share="W"))}),
    },
)
TWICE = jaxbp.Network(  # one unit that reads two others by one matrix
    {"left": 3, "right": 3},
    {
        "both": jaxbp.Unit(2, jaxbp.tanh, {s: jaxbp.Dense(share="W") for s in ("left", "right")}, bias=False),
        "o": jaxbp.Unit(2, jaxbp.linear, {"both": jaxbp.Dense()}),
    },
)


def gate(value, switch):
    return value * switch**2


def gate_pullback(inputs, a, delta):
    value, switch = inputs
    return delta * switch**2, 2 * delta * value * switch


def gated(pullback=None) -> jaxbp.Network:
    return jaxbp.Network(
        {"x": 3, "z": 2},
        {
            "value": jaxbp.Unit(2, jaxbp.tanh, {"x": jaxbp.Dense()}),
            "both": jaxbp.function_unit(gate, ("value", "z"), 2, pullback=pullback, activation=jaxbp.tanh),
            "o": jaxbp.Unit(2, jaxbp.linear, {"both": jaxbp.Dense(), "value": jaxbp.Identity()}),
        },
    )


ROWS = (2, 2)
ATTENTION = jaxbp.Network(
    {"x": ROWS},
    {
        **{name: jaxbp.Unit(ROWS, jaxbp.linear, {"x": jaxbp.Dense()}, bias=False) for name in ("q", "k", "v")},
        "mix": jaxbp.attention("q", "k", "v", ROWS),
        "o": jaxbp.Unit(ROWS, jaxbp.linear, {"mix": jaxbp.Dense(), "x": jaxbp.Identity()}),
    },
)
HEADS = jaxbp.Network(  # with all that attention has: two heads for one of keys, a mask, turned by positions
    {"x": (3, 4), "m": (3, 3)},
    {
        "q": jaxbp.Unit((3, 4), jaxbp.linear, {"x": jaxbp.Dense()}, bias=False),
        **{name: jaxbp.Unit((3, 2), jaxbp.linear, {"x": jaxbp.Dense()}, bias=False) for name in ("k", "v")},
        "mix": jaxbp.attention("q", "k", "v", (3, 4), heads=2, key_heads=1, causal=True, mask="m", rotary=10.0),
        "o": jaxbp.Unit((3, 4), jaxbp.linear, {"mix": jaxbp.Identity()}, bias=False),
    },
)


NORMS = jaxbp.Network(  # of rows, one behind the other
    {"x": (2, 3)},
    {
        name: jaxbp.Unit((2, 3), norm, {source: jaxbp.Dense()})
        for name, norm, source in (
            ("layer", jaxbp.layer_norm, "x"),
            ("rms", jaxbp.rms_norm, "layer"),
            ("wide", jaxbp.activations.with_epsilon(jaxbp.layer_norm, 0.5), "rms"),
            ("o", jaxbp.activations.with_epsilon(jaxbp.rms_norm, 0.0), "wide"),
        )
    },
)
NORMED_STACK = jaxbp.Network(
    {"x": 3},
    {
        "blocks": jaxbp.stack(
            jaxbp.Network(
                {"x": 3},
                {
                    "layer": jaxbp.Unit(3, jaxbp.layer_norm, {"x": jaxbp.Identity()}, bias=False),
                    "rms": jaxbp.Unit(3, jaxbp.rms_norm, {"layer": jaxbp.Dense()}),
                    "sum": jaxbp.product("rms", "x", width=3),
                },
            ),
            *(3, "x"),
        ),
        "o": jaxbp.Unit(2, jaxbp.linear, {"blocks": jaxbp.Dense()}),
    },
)


BLOCK = jaxbp.Network(
    {"x": 3},
    {
        "up": jaxbp.Unit(3, jaxbp.tanh, {"x": jaxbp.Dense()}),
        "sum": jaxbp.Unit(3, jaxbp.linear, {"up": jaxbp.Dense(), "x": jaxbp.Identity()}, bias=False),
    },
)
STACKS = jaxbp.Network(  # of three layers, and of one
    {"x": 3},
    {
        "blocks": jaxbp.stack(BLOCK, 3, "x"),
        "last": jaxbp.stack(BLOCK, 1, "blocks"),
        "o": jaxbp.Unit(3, jaxbp.linear, {"last": jaxbp.Dense(), "blocks": jaxbp.Identity()}, bias=False),
    },
)
OUTER = jaxbp.Network(  # a stack in a block, and a weight that the block shares with itself
    {"x": 3, "z": 3, "w": 3},
    {
        "inner": jaxbp.stack(BLOCK, 3, "x"),
        "end": jaxbp.Unit(3, jaxbp.tanh, {s: jaxbp.Dense(share="W") for s in ("inner", "z", "w")}, bias=False),
    },
)
NESTED = jaxbp.Network(  # of an input each layer reads its slice, another one all layers
    {"x": 3, "z": (2, 3)},
    {"outer": jaxbp.stack(OUTER, 2, {"x": "x", "z": "z", "w": "x"}, shared=True, slices={"z": 0}, every_layer=True)},
)
TABLE = jaxbp.Network(
    {"t": jaxbp.ids(3, 30)},
    {
        "e": jaxbp.Unit((3, 2), jaxbp.linear, {"t": jaxbp.Embedding(30)}, bias=False),
        "o": jaxbp.Unit((3, 2), jaxbp.linear, {"e": jaxbp.Dense()}),
    },
)

WORDS = jaxbp.Network(  # of the ids each layer reads its own
    {"x": 3, "words": jaxbp.ids((3,), 2)},
    {
        "o": jaxbp.stack(
            jaxbp.Network(
                {"x": 3, "word": jaxbp.ids((), 2)},
                {"next": jaxbp.Unit(3, jaxbp.tanh, {"x": jaxbp.Dense(), "word": jaxbp.Embedding(2)}, bias=False)},
            ),
            *(3, {"x": "x", "word": "words"}),
            shared=True,
            slices={"word": 0},
        )
    },
)
TIED_TABLE = jaxbp.Network(  # of three ids two are equal at least
    {"t": jaxbp.ids(3, 2)},
    {
        "e": jaxbp.Unit((3, 2), jaxbp.tanh, {"t": jaxbp.Embedding(2, share="E")}),
        "o": jaxbp.Unit((3, 2), jaxbp.linear, {"e": jaxbp.Transposed(jaxbp.Dense(share="E"))}, bias=False),
    },
)


def of(hidden, output=jaxbp.linear, loss=jaxbp.squared_error, targets="normal", batch=(5,), widths=(3, 4, 4, 2)):
    name = f"{widths} {hidden} {output} {loss} {targets} {batch}"
    return Case(name, jaxbp.layered(widths, hidden=hidden, output=output), loss, batch, targets)


# Explaining runs eagerly, and eager JAX compiles each operation once for each shape. So the cases share a few.
FROM_THE_TABLE = [case_named(name) for name in ("late input", "fan out", "out of order", "sequence", "shared weights")]
SIGMOID = of(jaxbp.sigmoid)
ELIDED = of((), widths=(12, 4), batch=())
POSITIONS = jaxbp.Network(
    {"x": (2, 2)},
    {"o": jaxbp.Unit((2, 2), jaxbp.linear, {"x": jaxbp.Dense()}, bias=jaxbp.connections.Bias(whole=True))},
)
TIED_CASE = Case("tied", TIED, jaxbp.squared_error, (2,))
ATTENTION_CASE = Case("attention", ATTENTION, jaxbp.squared_error, (1,))
HEADS_CASE = Case("heads", HEADS, jaxbp.squared_error, (2,))
NORMS_CASE = Case("norms", NORMS, jaxbp.squared_error, (2,))
GATED_CASE = Case("gated", gated(gate_pullback), jaxbp.squared_error, (2,))
OF_OTHERS = [
    of([jaxbp.relu, jaxbp.leaky_relu], jaxbp.softmax, jaxbp.cross_entropy, "soft"),
    of([jaxbp.gelu, jaxbp.silu], jaxbp.softmax, jaxbp.cross_entropy, "unnormalised"),
    of(jaxbp.softmax, jaxbp.softmax, jaxbp.unfused(jaxbp.cross_entropy), "ids"),
    of(jaxbp.softplus, jaxbp.sigmoid, jaxbp.binary_cross_entropy, "bits"),
    of(jaxbp.sigmoid, jaxbp.sigmoid, jaxbp.unfused(jaxbp.binary_cross_entropy), "probabilities"),
    of(jaxbp.hard_tanh, jaxbp.tanh, jaxbp.perceptron, "signs"),
    of([SINE, RUNNING_SUM]),
    of(jaxbp.tanh, RUNNING_SUM),
    of(jaxbp.tanh, loss=QUARTIC),
    of(jaxbp.tanh, loss=SIMPLIFIED),
    of(jaxbp.tanh, loss=TWICE_THE_SLOPE),
    Case("masked", reading(MASKED), jaxbp.squared_error, (2,)),
    Case("shared", reading(SHARED), jaxbp.squared_error, (2,)),
    Case("faint", reading(FAINT), jaxbp.squared_error, (2,)),
    TIED_CASE,
    Case("positions", POSITIONS, jaxbp.squared_error, (2,)),
    Case("twice", TWICE, jaxbp.squared_error, (2,)),
    GATED_CASE,
    ATTENTION_CASE,
    HEADS_CASE,
    NORMS_CASE,
    ELIDED,
]
TABLE_CASE = Case("table", TABLE, jaxbp.squared_error, (2,))
STACKS_CASE = Case("stacks", STACKS, jaxbp.squared_error, (2,))
NESTED_CASE = Case("nested stacks", NESTED, jaxbp.squared_error, ())
TIED_TABLE_CASE = Case("tied table", TIED_TABLE, jaxbp.squared_error, (2,))
IN_PRINT = [TABLE_CASE, replace(STACKS_CASE, batch=())]
NORMED_STACK_CASE = Case("normed stack", NORMED_STACK, jaxbp.squared_error, (2,))
IN_LAYERS = [STACKS_CASE, NESTED_CASE, Case("words", WORDS, jaxbp.squared_error, (2,)), NORMED_STACK_CASE]
WITH_IDS = [TABLE_CASE, TIED_TABLE_CASE]
CASES = [*FROM_THE_TABLE, *OF_OTHERS]


def explain(case: Case, learning_rate: float | None = RATE, **options) -> jaxbp.Explanation:
    return jaxbp.explain(case.net, case.loss, *case.arguments(jnp.float64)[:3], learning_rate, **options)


explained = cache(explain)


def worst_error(work: jaxbp.Explanation) -> float:
    """The comparison most tests here make: each form of each equation, evaluated, against the number beside it."""
    errors = [0.0]
    for equation in equations(work):
        numbers = equation.typesetting.equations.numbers
        for form in equation.forms:
            error = abs(evaluate(form, numbers) - equation.value) / max(abs(equation.value), CANCELLED)
            errors.append(error)
    return float(np.max(errors))  # NaN is an error too


def equations(work: jaxbp.Explanation) -> list:
    return [equation for step in work.steps for equation in step.equations if equation is not None]


def quantities(case: Case) -> dict[str, np.ndarray]:
    """What the engine says about a case, by the names that steps have."""
    params, x, y, _ = case.arguments(jnp.float64)
    back = jax.device_put(swept(case.net, case.loss, params, x, y))
    known = {name: np.asarray(array) for name, array in back.quantities().items()}
    known["y"] = np.asarray(case.loss.targets(back.trace.h[case.net.output], y))
    known["learning_rate"] = np.asarray(RATE)
    for name, W in by_name(params, "W").items():
        known[str(name)] = np.asarray(W)
        known[str(Name("updated", name.path))] = W - RATE * known[str(Name("grad", name.path))]
    if np.prod(case.batch) > 1:
        rows = case.loss.value(back.trace.h[case.net.output], jax.device_put(known["y"]))
        known["losses"] = np.asarray(rows).reshape(*case.batch, -1).sum(axis=-1)
    known |= within_norms(case.net, known)
    if "mix" in case.net.units:
        with jax.numpy_rank_promotion("allow"):
            found = jax.jit(within_attention, static_argnums=0)(case.net.units["mix"].function, back)
        known |= {f"{kind}.mix": np.asarray(array) for kind, array in found.items()}
    return known


def activations_of(net: jaxbp.Network) -> dict[str, str]:
    """The name of the activation of every unit, of those in stacks too."""
    names = {u: unit.activation.name for u, unit in net.units.items() if not hasattr(unit, "block")}
    for u, unit in net.units.items():
        if hasattr(unit, "block"):
            names |= {f"{u}.{inner}": name for inner, name in activations_of(unit.block).items()}
    return names


def within_norms(net: jaxbp.Network, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What there is in norms, by their definitions, and their means on the way back."""
    found = {}
    for u, activation in activations_of(net).items():
        if not (norm := re.fullmatch(r"(layer|rms)_norm(?:\((.*)\))?", activation)):
            continue
        a, h, Delta = (known[f"{kind}.{u}"] for kind in ("a", "h", "Delta"))
        epsilon, n = float(norm[2] or 1e-5), a.shape[-1]
        if norm[1] == "layer":
            found |= {f"mean.{u}": a.sum(-1) / n, f"mean_Delta.{u}": Delta.sum(-1) / n}
            found[f"std.{u}"] = np.sqrt(((a - a.sum(-1, keepdims=True) / n) ** 2).sum(-1) / n + epsilon)
        else:
            found[f"rms.{u}"] = np.sqrt(np.einsum("...j,...j", a, a) / n + epsilon)
        found[f"mean_h_Delta.{u}"] = np.einsum("...j,...j", h, Delta) / n
    return found


def within_attention(unit, back: jaxbp.Backprop) -> dict[str, jax.Array]:
    """What there is in the unit `mix`, by its definition, and its signals by autodiff."""
    h = back.trace.h
    rows = h["q"].shape[-2]
    seen = jnp.tri(rows, dtype=bool) if unit.causal else jnp.ones((rows, rows), bool)
    seen = seen & (h["m"] != 0) if "m" in h else jnp.broadcast_to(seen, (len(h["q"]), rows, rows))
    seen = jnp.repeat(seen[:, None], unit.heads, axis=1)

    def in_heads(h, heads):
        return jnp.moveaxis(jnp.reshape(h, (*h.shape[:2], heads, -1)), 2, 1)

    def turned(h, heads):  # a pair is a complex number
        x, y = jnp.split(in_heads(h, heads), 2, axis=-1)
        rates = unit.rotary ** -jnp.linspace(0, 1, x.shape[-1], endpoint=False)
        z = (x + 1j * y) * jnp.exp(1j * jnp.arange(rows)[:, None] * rates)
        return jnp.reshape(jnp.moveaxis(jnp.concatenate([z.real, z.imag], axis=-1), 1, 2), h.shape)

    def scores(q, k):
        k = jnp.repeat(in_heads(k, unit.key_heads), unit.heads // unit.key_heads, axis=1)
        q = in_heads(q, unit.heads)
        return jnp.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5

    def mixed(P):
        V = jnp.repeat(in_heads(h["v"], unit.key_heads), unit.heads // unit.key_heads, axis=1)
        return jnp.reshape(jnp.moveaxis(P @ V, 1, 2), back.delta["mix"].shape)

    q, k = h["q"], h["k"]
    found = {}
    if unit.rotary is not None:
        q, k = found["turned_query"], found["turned_key"] = turned(q, unit.heads), turned(k, unit.key_heads)
    S, to_queries_and_keys = jax.vjp(scores, q, k)
    P, to_scores = jax.vjp(lambda S: jnp.nan_to_num(jax.nn.softmax(jnp.where(seen, S, -jnp.inf))), S)
    (Delta_P,) = jax.vjp(mixed, P)[1](back.delta["mix"])
    (Delta_S,) = to_scores(Delta_P)
    by_head = {"scores": S, "weights": P, "Delta_weights": Delta_P, "Delta_scores": Delta_S}
    if unit.causal or "m" in h:
        by_head["mask"] = seen
    if unit.rotary is not None:
        found |= dict(zip(("Delta_turned_query", "Delta_turned_key"), to_queries_and_keys(Delta_S), strict=True))
    return found | {kind: array[:, 0] if unit.heads == 1 else array for kind, array in by_head.items()}


def weights(net: jaxbp.Network) -> list[tuple[str, str]]:
    groups = (*net.order, *(["shared"] if "shared" in net.weight_shapes else []))
    return [(group, name) for group in groups for name in net.weight_shapes[group]]


def last_in_the_sweep(net: jaxbp.Network, group: str, name: str) -> int:
    """Where the gradient of a weight is complete, as a place in the order of the units."""
    shares = {u: {c.share for c in unit.reads.values() if c} for u, unit in net.units.items()}
    users = [u for u in net.order if name in shares[u]]
    return net.order.index(users[0] if group == "shared" else group)


def before_the_mix(net: jaxbp.Network, u: str) -> list[str]:
    """The kinds that a unit of attention has on the way there."""
    if u != "mix":
        return []
    turned = [] if net.units[u].function.rotary is None else ["turned_query", "turned_key"]
    return [*turned, "scores", *["mask"] * net.units[u].function.causal, "weights"]


def after_the_mix(net: jaxbp.Network, u: str) -> list[str]:
    """And on the way back."""
    there = before_the_mix(net, u)
    kinds = [kind for kind in ("weights", "scores", "turned_query", "turned_key") if kind in there]
    return [f"Delta_{kind}" for kind in kinds]


def before_the_norm(net: jaxbp.Network, u: str) -> list[str]:
    """The kinds that a norm has on the way there."""
    activation = net.units[u].activation.name
    return {"layer_norm": ["mean", "std"], "rms_norm": ["rms"]}.get(activation.partition("(")[0], [])


def after_the_norm(net: jaxbp.Network, u: str) -> list[str]:
    """And on the way back."""
    there = before_the_norm(net, u)
    return [*["mean_Delta"] * ("mean" in there), *["mean_h_Delta"] * bool(there)]


def forward_kinds(net: jaxbp.Network, u: str) -> list[str]:
    return [*before_the_mix(net, u), "a", *before_the_norm(net, u), "h"]


def backward_kinds(net: jaxbp.Network, u: str) -> list[str]:
    return ["Delta", *after_the_norm(net, u), "delta", *after_the_mix(net, u)]


def expected_steps(case: Case) -> list[tuple[str, str]]:
    """Section and name of every step."""
    net, several = case.net, np.prod(case.batch) > 1
    steps = [("Given", f"h.{name}") for name in net.inputs] + [("Given", "y")]
    steps += [("Given", f"W.{u}.{s}") for u, s in weights(net)] + [("Given", "learning_rate")]
    edges = [range(n) if n <= 4 else (0, 1, n - 2, n - 1) for n in case.batch]
    for example in product(*edges):
        section = f"Example {', '.join(map(str, example))}" if several else "One example"
        names = [f"{kind}.{u}" for u in net.order for kind in forward_kinds(net, u)]
        names.append("losses" if several else "loss")
        names += [f"{kind}.{u}" for u in reversed(net.order) for kind in backward_kinds(net, u)]
        steps += [(section, f"{name}[{', '.join(map(str, example))}]" if several else name) for name in names]
    section = f"Mean over all {np.prod(case.batch)} examples" if several else "One example"
    if several:
        steps.append((section, "loss"))
    backwards = sorted(weights(net), key=lambda weight: -last_in_the_sweep(net, *weight))
    steps += [(section, f"grad.{u}.{s}") for u, s in backwards]
    return steps + [(section, f"updated.{u}.{s}") for u, s in weights(net)]


def test_the_cases_cover_every_kind():
    units = [unit for case in CASES for unit in case.net.units.values()]
    activations = {value for value in vars(jaxbp).values() if isinstance(value, jaxbp.activations.Activation)}
    losses = {value for value in vars(jaxbp).values() if isinstance(value, jaxbp.Loss)}
    by_row = {jaxbp.softmax, jaxbp.layer_norm, jaxbp.rms_norm}
    assert {a.phi for a in activations} == set(_formulas._VALUES) | {a.phi for a in by_row}
    assert {unit.activation for unit in units} >= activations
    assert {case.loss for case in CASES} >= losses
    assert {type(c) for unit in units for c in unit.reads.values()} >= {jaxbp.Dense, jaxbp.Identity}
    assert {len(case.batch) for case in CASES} == {0, 1, 2}
    assert {case.targets for case in CASES} >= {case.targets for case in ALL} - {"one_hot", "masked"}


@pytest.mark.parametrize("case", [*CASES, *WITH_IDS, *IN_LAYERS], ids=repr)
def test_every_formula_gives_the_number_beside_it(case):
    assert worst_error(explained(case)) <= TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_step_is_there_in_order_with_a_formula_for_every_number(case):
    work = explained(case)
    assert [(step.section, step.name) for step in work.steps] == expected_steps(case)
    for step in work.steps:
        assert all(equation.forms or not step.rule for equation in step.equations if equation is not None)
        assert bool(step.rule) == (step.section != "Given")
        shown = sum(equation is not None for equation in step.equations)
        assert shown == step.value.size or (step.value.size > 24 and None in step.equations)


def words_in(title: Title) -> set[str]:
    """The English words of a title and of its parts."""
    return {title.english}.union(*(words_in(part) for part in title.parts if isinstance(part, Title)))


@pytest.mark.parametrize("case", [*CASES, *WITH_IDS, *IN_LAYERS], ids=repr)
def test_every_title_has_german_words(case):
    names = {"linear", case.loss.name, *activations_of(case.net).values()} - set(TITLES["de"])
    for step in explained(case).steps:
        assert words_in(step.words) - names <= TITLES["de"].keys()
        assert step.titled("de") != step.titled("en") == step.title


@pytest.mark.parametrize("case", [*CASES, *WITH_IDS, *IN_LAYERS], ids=repr)
def test_every_number_is_the_engines(case):
    known = quantities(case)
    for step in explained(case).steps:
        for equation in filter(None, step.equations):
            engines = known[str(equation.quantity.whole)][equation.quantity.index]
            np.testing.assert_allclose(equation.value, engines, rtol=TOLERANCE, err_msg=equation.name)
        shown = [equation.value for equation in step.equations if equation is not None]
        assert None in step.equations or shown == step.value.ravel().tolist()


# What a reader with a calculator finds: the equation is read again as it is printed, with nothing but its characters.

CALCULATOR = {
    "exp": math.exp, "ln": math.log, "sqrt": math.sqrt, "abs": abs, "max": max, "min": min, "tanh": math.tanh,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)), "inf": math.inf,
}  # fmt: skip


def calculated(printed: str) -> float | None:
    """What a calculator makes of a formula in numbers; None where it has symbols, or a function of a user's."""
    keys = {"·": "*", "−": "-", "²": "**2", "^": "**", "≤": "<=", "≥": ">=", "≠": "!="}
    typed = "".join(keys.get(c, c) for c in re.sub(r"\(… = ([^)]*)\)", r"(\1)", printed))
    if not set(re.findall(r"[^\W\d]\w*", re.sub(r"\de-?\d", "", typed))) <= set(CALCULATOR) or "…" in typed:
        return None
    typed = re.sub(r"\[([^]]*)\]", r"float(\1)", typed)  # Iverson's
    return eval(typed, {"__builtins__": {}, "float": float}, CALCULATOR)


def half_a_unit(printed: str) -> float:
    """Of the last digit that is shown."""
    return 0.5 * 10.0 ** Decimal(printed.replace("−", "-")).as_tuple().exponent


def contradictions(work: jaxbp.Explanation) -> tuple[list[str], int]:
    """The equations whose numbers give another result than the one beside them, and how many there are with numbers."""
    wrong, judged = [], 0
    for equation in equations(work):
        *_, formula, result = [piece.partition(" ")[2] for piece in ("", *equation.text)]
        found = calculated(formula) if len(equation.text) > 2 else None
        if found is None or not np.isfinite(equation.value):
            continue
        judged += 1
        if not abs(found - calculated(result)) <= half_a_unit(result) * (1 + 1e-6):
            wrong.append(" ".join(equation.text))
    return wrong, judged


@pytest.mark.parametrize("case", [*CASES, *WITH_IDS, *IN_LAYERS], ids=repr)
def test_the_numbers_of_an_equation_give_the_result_beside_them(case):
    wrong, judged = contradictions(explained(case))
    assert wrong == []
    assert judged >= 10


def test_operands_of_as_many_digits_as_their_result_contradict_it(monkeypatch):
    work = explained(SIGMOID)
    monkeypatch.setattr(
        _work.Equation, "operands", property(lambda self: _digits.Shown(4, True) if self.forms else None)
    )
    assert len(contradictions(work)[0]) > 10


@pytest.mark.parametrize("digits", [1, 2, 6, 10])
def test_results_have_as_many_digits_as_are_asked_for(digits):
    work = named(None, digits=digits)
    assert contradictions(work)[0] == []
    assert line_of(work, "h.h1[0]")[0].endswith(f"≈ {math.tanh(0.75):.{digits}g}")
    assert line_of(work, "W.h1.x[0, 0]") == ("W.h1.x[0, 0] = 0.5", r"W^{x \to \mathrm{h1}}_{0,0} = 0.5")


def test_kind_numbers_stay_short():
    net = jaxbp.layered([2, 1], output=jaxbp.linear, bias=False)
    params = {"o": {"x": np.array([[0.25], [123456.0]])}}
    work = jaxbp.explain(net, jaxbp.squared_error, params, np.array([1.5, 2.0]), np.array([246912.375]), 0.5)
    assert line_of(work, "a.o[0]")[0].endswith("= 0.25·1.5 + 123456·2 ≈ 2.469e+05")
    assert line_of(work, "updated.o.x[0, 0]")[0].endswith("= 0.25 − 0.5·0 = 0.25")


def test_a_claim_and_what_it_is_are_told_apart():
    work = named(None, claims={"a.h1[0]": ["0.75002", "0.75 + 0.00001"]})
    assert [mark for mark in str(work).splitlines() if "✗" in mark] == [
        "      ✗ 0.75002 (it is 0.75)", "      ✗ 0.75 + 1e−05 = 0.75001 (it is 0.75)"
    ]  # fmt: skip


# Each planted bug makes one formula wrong in one place. The comparison above must catch every one.


SOFT = of(jaxbp.tanh, jaxbp.softmax, jaxbp.cross_entropy, "soft")


def _first_layer(right):
    def original(self, name):
        found = right(self, name)
        return found.at((0, *found.index[1:])) if name.kind == "W" and found.path[0] == "blocks" else found

    return original


def _with_epsilon(forms, epsilon):
    return replace(forms, steps=replace(forms.steps, epsilon=epsilon))


BUGS = {  # in which case, where, and what becomes of what is right
    "forget phi prime": (SIGMOID, _formulas._DERIVATIVES, jaxbp.sigmoid.phi, lambda right: lambda a, h: h),
    "take another value": (
        *(SIGMOID, _formulas._VALUES, jaxbp.sigmoid.phi),
        lambda right: lambda a: _formulas.call("tanh", a),
    ),
    "forget the mean": (SIGMOID, _equations.Equations, "_of_the_mean", lambda right: lambda self, e: e),
    "forget an input": (SIGMOID, _terms._DenseTerms, "into", lambda right: lambda *of: right(*of)[1:]),
    "forget a reader": (SIGMOID, _terms._DenseTerms, "out_of", lambda right: lambda *of: right(*of)[1:]),
    "forget the rest": (ELIDED, _formulas, "Rest", lambda right: lambda terms: Number(0)),
    "forget a use": (TIED_CASE, _equations.Equations, "_uses", lambda right: lambda *of: right(*of)[1:]),
    "forget to transpose": (TIED_CASE, _terms, "_swapped", lambda right: lambda term: term),
    "take another jacobian": (
        *(GATED_CASE, _numbers.Numbers, "_column"),
        lambda right: lambda *of: np.roll(right(*of), 1),
    ),
    "take the wrong simplification": (
        *(SOFT, _equations, "simplified"),
        lambda right: lambda loss, activation, a, o, y, j, value_of: o[j],
    ),
    "look up another row": (
        *(TABLE_CASE, _terms._LookedUpTerms, "into"),
        lambda right: lambda self, unit: [t._replace(weight=(0, t.weight[1])) for t in right(self, unit)],
    ),
    "forget that an id repeats": (
        TIED_TABLE_CASE,
        _terms._LookedUpTerms,
        "of",
        lambda right: lambda *of: right(*of)[:1],
    ),
    "take the weights of another layer": (STACKS_CASE, Unrolled, "original", _first_layer),
    "take another slice": (
        *(NESTED_CASE, _terms._SliceTerms, "into"),
        lambda right: lambda self, unit: right(replace(self, layer=0), unit),
    ),
    **{
        f"{what} of attention": (HEADS_CASE, _attention_forms.AttentionForms, name, wrong)
        for what, name, wrong in (
            ("forget √d", "_root", lambda right: Number(1)),
            ("see every key", "_sees", lambda right: lambda *of: [0, 1, 2]),
            (
                "take the keys of another head",
                "_key",
                lambda right: lambda self, *of: right(self, *of[:-1], 1 - of[-1]),
            ),
            ("forget a reader", "_readers", lambda right: lambda *of: [*right(*of)][1:]),
            (
                "turn back the wrong way",
                "_rotation",
                lambda right: lambda self, kind, sign, *of: right(self, kind, 1, *of),
            ),
        )
    },
    "forget 1/n": (NORMS_CASE, _norms, "_mean", lambda right: _formulas.summed),
    **{
        f"{what} of a norm": (NORMS_CASE, _norms.NormForms, name, wrong)
        for what, name, wrong in (
            ("forget ε", "_over_squares", lambda right: lambda self, of: right(_with_epsilon(self, 0.0), of)),
            ("take the root of another row", "_root", lambda right: lambda self, b, row: right(self, b, (1 - row[0],))),
            ("pull nothing back", "back", lambda right: lambda self, u, *at: [self.steps.called("Delta", *at)]),
        )
    },
    "forget a factor": (
        *(NORMED_STACK_CASE, _products.ProductForms, "back"),
        lambda right: lambda self, s, *at: [self.steps.called("delta", *at)],
    ),
    "transpose the jacobian": (
        *(of([SINE, RUNNING_SUM]), _formulas, "derivative"),
        lambda right: lambda activation, a, h, i, j: right(activation, a, h, j, i),
    ),
}


@pytest.mark.parametrize(("case", "place", "name", "wrong"), BUGS.values(), ids=BUGS)
def test_a_wrong_formula_is_caught(case, place, name, wrong, monkeypatch):
    assert worst_error(explain(case)) <= TOLERANCE
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, wrong(place[name]))
    else:
        monkeypatch.setattr(place, name, wrong(getattr(place, name)))
    assert not worst_error(explain(case)) <= 1e6 * TOLERANCE


@pytest.mark.parametrize(("connection", "of"), NO_SUMS, ids=repr)
def test_a_connection_that_is_no_sum_is_refused(connection, of):
    message = rf"{connection.name}\(\) is not linear in {of}, so its work cannot be shown as a sum"
    with pytest.raises(ValueError, match=message):
        explain(Case("", reading(connection), jaxbp.squared_error, (2,)))


def test_a_connection_of_too_many_terms_is_refused(monkeypatch):
    monkeypatch.setattr(_terms, "_LARGEST_TABLE", 3**4 - 1)
    with pytest.raises(ValueError, match=r"Masked\(\) from shape \(3,\) to \(3,\) is too large .* 81 combinations"):
        explain(Case("", reading(MASKED), jaxbp.squared_error, (2,)))


@pytest.mark.parametrize("u", ["layer", "rms"])
def test_the_derivatives_within_a_row_of_a_norm_have_a_formula(u):
    places = [*product(range(2), range(2), range(3))]  # examples, rows, elements of a row
    by = {f"d(h.{u}{list(i)})/d(a.{u}{list(j)})": (i, j) for i in places[:5] for j in places}
    work = explain(NORMS_CASE, claims=dict.fromkeys(by, "0"))
    assert worst_error(work) <= TOLERANCE
    found = {e.name: e for e in equations(work) if e.name in by}
    assert found.keys() == by.keys()
    for name, (i, j) in by.items():
        assert len(found[name].forms) == 1
        assert (found[name].value == 0) == (i[:2] != j[:2])


def test_a_norm_is_shown_in_its_steps():
    net = jaxbp.Network(
        {"x": 3},
        {
            "n": jaxbp.Unit(3, jaxbp.layer_norm, {"x": jaxbp.Identity()}, bias=False),
            "o": jaxbp.Unit(
                3, jaxbp.activations.with_epsilon(jaxbp.rms_norm, 0.0), {"n": jaxbp.Identity()}, bias=False
            ),
        },
    )
    x, y = np.array([0.2, 0.3, -0.5]), np.zeros(3)
    claims = {"mean.n": "0", "std.n": "sqrt((a.n[0]^2 + a.n[1]^2 + a.n[2]^2)/3 + 0.00001)", "rms.o": "1.1"}
    params = jaxbp.init_params(jax.random.key(0), net)
    work = jaxbp.explain(net, jaxbp.squared_error, params, x, y, claims=claims)
    assert [(claim.holds, claim.general) for claim in work.claims] == [(True, None), (True, False), (False, None)]
    # what cancels is 0 in print
    assert line_of(work, "mean.n")[0] == "μ.n = (a.n[0] + a.n[1] + a.n[2])/3 = (0.2 + 0.3 − 0.5)/3 = 0"
    text, latex = line_of(work, "h.n[2]")
    assert text == "h.n[2] = (a.n[2] − μ.n)/σ.n = (−0.5 − 0)/0.3559 ≈ −1.405"
    assert latex.startswith(r"h^{n}_{2} = \frac{a^{n}_{2} - \mu^{n}}{\sigma^{n}} = ")
    assert line_of(work, "rms.o")[0].startswith("r.o = sqrt((a.o[0]² + a.o[1]² + a.o[2]²)/3) = ")
    assert line_of(work, "delta.n[0]")[1].startswith(
        r"\delta^{n}_{0} = \frac{\Delta^{n}_{0} - \overline{\Delta}^{n} - h^{n}_{0} \, \overline{h\Delta}^{n}}"
        r"{\sigma^{n}}"
    )
    assert '<mrow class="bar"><mrow><mi>h</mi><mi>Δ</mi></mrow></mrow>' in work.html()
    assert [step.rule for step in work.steps if step.name == "delta.o"] == [
        r"\delta_u = \frac{\partial L}{\partial a_u} = \frac{\Delta_u - h_u \, \overline{h \Delta}}{r}"
    ]


def test_titles_say_the_same_in_every_language():
    for english, german in TITLES["de"].items():
        assert english.count("{}") == german.count("{}"), english
    title = Title("Scores of {}", (Title("{} in layer {}", ("Target {}", "2")),))  # a unit's name is no word
    assert title.said("de") == "Scores von Target {} in Schicht 2"
    with pytest.raises(ValueError, match="language must be 'en' or 'de', got 'fr'"):
        explained(TIED_CASE).steps[0].titled("fr")


def test_shared_weights_are_told_by_all_that_use_them():
    title = next(step for step in explained(TIED_CASE).steps if step.name == "grad.shared.W")
    assert title.title == "Gradient of the shared weights W, x to code and code to o"
    assert title.titled("de") == "Gradient der gemeinsamen Gewichte W, x nach code und code nach o"


def test_a_function_unit_is_shown_by_its_name():
    work = explain(Case("gate", gated(), jaxbp.squared_error, ()))
    text, latex = line_of(work, "a.both[0]")
    value, z = (f"({', '.join(map(work.typesetting.text.number, row))})" for row in _rows(work, "h.value", "h.z"))
    assert text.startswith(f"a.both[0] = gate(h.value, z)[0] = gate({value}, {z})[0] ≈ ")
    assert latex.startswith(r"a^{\mathrm{both}}_{0} = \mathrm{gate}(h^{\mathrm{value}}, z)_{0} = \mathrm{gate}((")
    assert line_of(work, "Delta.value[1]")[0].startswith("Δ.value[1] = ∂a.both[1]/∂h.value[1]·δ.both[1] + δ.o[1] = ")


def _rows(work: jaxbp.Explanation, *names: str) -> list[list[float]]:
    return [next(step.value for step in work.steps if step.name == name).tolist() for name in names]


def test_a_wrong_pull_back_by_hand_explains_nothing():
    """The work is that of the function, whatever its unit says of it."""
    wrong = gated(lambda inputs, a, delta: gate_pullback(inputs, a, -delta))
    right, shown = (Case("gate", net, jaxbp.squared_error, ()) for net in (gated(), wrong))
    assert str(explain(shown)) == str(explain(right))


def test_dropout_is_left_out():
    quiet, noisy = (
        Case("dropout", jaxbp.Network({"x": 2}, {
            "h1": jaxbp.Unit(2, jaxbp.tanh, {"x": jaxbp.Dense()}, dropout=dropout),
            "o": jaxbp.Unit(2, jaxbp.linear, {"h1": jaxbp.Dense()}),
        }), jaxbp.squared_error, ())
        for dropout in (0.0, 0.5)
    )  # fmt: skip
    assert str(explain(noisy)) == str(explain(quiet))


def test_an_explanation_is_the_same_in_float32_mode():
    case = Case("faint", reading(FAINT), jaxbp.squared_error, (2,))
    params, x, y, _ = case.arguments(jnp.float32)

    def work():
        return jaxbp.explain(case.net, case.loss, params, x, y, RATE)

    with jax.enable_x64(False):
        narrow = work()
        assert worst_error(narrow) <= TOLERANCE
    assert str(narrow) == str(work())


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"net": jaxbp.squared_error}, TypeError, "net must be a jaxbp.Network, such as .*, got Loss squared_error"),
        ({"net": None}, TypeError, "net must be a jaxbp.Network, .*, got None"),
        ({"loss": "squared_error"}, TypeError, "loss must be a jaxbp.Loss, .*, got 'squared_error'"),
        ({"loss": jaxbp.squared_error.value}, TypeError, "loss must be a jaxbp.Loss, .*, got the function"),
        ({"params": None}, TypeError, "params is .*None.*, expected a dict by unit"),
        ({"x": [1.0, 0.5]}, TypeError, "x is of type list; pass an array"),
        ({"x": np.zeros((0, 2))}, ValueError, "x has shape .0, 2.: an empty batch has no mean loss"),
        ({"x": {"z": np.ones(2)}}, ValueError, "'z'"),
        ({"y": np.zeros((0, 1))}, ValueError, "y has shape .0, 1., but the output has shape .1,."),
        ({"params": {"o": {}}}, ValueError, "params holds the units 'o', but the network has 'h1', 'o'"),
        ({"y": np.ones(2)}, ValueError, r"y has shape \(2,\), but the output has shape \(1,\)"),
        ({"y": [1.0]}, TypeError, "y is of type list"),
        ({"y": np.asarray(2)}, ValueError, "y: class id 2 at example 0 is outside 0…1"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate must be a number, got '0.1'"),
        ({"learning_rate": True}, TypeError, "learning_rate must be a number, got True"),
        ({"learning_rate": [0.1]}, TypeError, r"learning_rate must be a number, got \[0.1\]"),
        ({"learning_rate": np.array([0.1])}, TypeError, "learning_rate must be a number, got an array of shape .1,. "),
        ({"learning_rate": 1j}, TypeError, "learning_rate must be a number, got 1j"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be at least 0 and finite, got nan"),
        ({"learning_rate": np.float32(-0.1)}, ValueError, "learning_rate must be at least 0 and finite, got -0.1"),
        ({"learning_rate": 10**400}, ValueError, "learning_rate must be at least 0 and finite, got 10000"),
        ({"digits": 4.0}, TypeError, "digits must be an integer, got 4.0"),
        ({"digits": 0}, ValueError, "digits must be at least 1, got 0"),
        ({"digits": 11}, ValueError, "digits must be from 1 to 10, as float64 has no more for their operands, got 11"),
        ({"all_layers": 1}, TypeError, "all_layers must be True or False, got 1"),
        ({"claims": 0}, TypeError, "claims must be a dict such as {'a.o.0.': '0.5'}, got 0"),
        ({"claims": "a.o[0]"}, TypeError, "claims must be a dict .*, got 'a.o.0.'"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_arguments_that_do_not_fit_are_refused(changed, error, message):
    given = {"net": TWO_TWO_ONE, "loss": jaxbp.binary_cross_entropy, "params": PARAMS, "x": X, "y": Y} | changed
    with pytest.raises(error, match=message):
        jaxbp.explain(**given)


@pytest.mark.parametrize("learning_rate", [0, 1, np.float32(0.5), np.int64(1), jnp.asarray(0.5)])
def test_a_learning_rate_is_any_number(learning_rate):
    work = jaxbp.explain(TWO_TWO_ONE, jaxbp.binary_cross_entropy, PARAMS, X, Y, learning_rate)
    assert line_of(work, "learning_rate")[0] == f"η = {float(learning_rate):g}"


def test_there_is_nothing_to_show_under_jit():
    with pytest.raises(TypeError, match="under jit, grad or vmap there are none yet: call it outside"):
        jax.jit(lambda x: jaxbp.explain(TWO_TWO_ONE, jaxbp.binary_cross_entropy, PARAMS, x, Y) and x)(X)


def test_the_title_of_a_page_is_text():
    with pytest.raises(TypeError, match="title must be text, got 3"):
        worked().html(3)


# Batches, and what is left out.

SMALL = of((), loss=jaxbp.squared_error, widths=(2, 2), batch=())
PAIR = replace(SMALL, batch=(2,))
MANY = replace(SMALL, batch=(7,))


def sections(work: jaxbp.Explanation) -> list[str]:
    return list(dict.fromkeys(step.section for step in work.steps))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (SMALL, ["Given", "One example"]),
        (replace(SMALL, batch=(1,)), ["Given", "One example"]),
        (PAIR, ["Given", "Example 0", "Example 1", "Mean over all 2 examples"]),
        (MANY, ["Given", *(f"Example {i}" for i in (0, 1, 5, 6)), "Mean over all 7 examples"]),
        (replace(SMALL, batch=(1, 2)), ["Given", "Example 0, 0", "Example 0, 1", "Mean over all 2 examples"]),
    ],
    ids=repr,
)
def test_examples_have_their_sections(case, expected):
    assert sections(explained(case)) == expected
    assert worst_error(explained(case)) <= TOLERANCE


@pytest.mark.parametrize("name", ["a.o[3, 1]", "delta.o[3, 0]", "losses[3]", "d(a.o[3, 0])/d(h.x[3, 1])"])
def test_an_example_of_which_something_is_claimed_is_shown(name):
    work = explain(MANY, claims={name: "0"})
    assert "Example 3" in sections(work)
    assert [claim.name for equation in equations(work) for claim in equation.claims] == [name]


def test_a_batch_of_one_has_one_loss():
    with pytest.raises(ValueError, match="there is no quantity 'losses'; did you mean 'loss'"):
        explain(replace(SMALL, batch=(1,)), claims={"losses[0]": "9"})


def test_without_a_learning_rate_nothing_is_updated():
    work = explain(SMALL, learning_rate=None)
    assert not [step for step in work.steps if "updat" in step.name or "learning" in step.name]
    assert len(work.steps) == len(explained(SMALL).steps) - 3


DIGITS = of(jaxbp.relu, jaxbp.softmax, jaxbp.cross_entropy, "ids", (32,), (784, 128, 10))
HIDDEN_AWAY = {"W.h1.x[300, 60]": "0", "grad.h1.x[300, 60]": "0"}


def test_large_networks_are_elided_but_for_what_is_claimed():
    work = explain(DIGITS, claims=HIDDEN_AWAY)
    lines = str(work).splitlines()
    assert len(lines) <= 500
    assert max(map(len, lines)) <= 350
    assert sum("…" in line or "⋮" in line for line in lines) > 100
    assert sorted(claim.name for equation in equations(work) for claim in equation.claims) == sorted(HIDDEN_AWAY)
    assert worst_error(work) <= TOLERANCE
    weights = next(step for step in work.steps if step.name == "W.h1.x")
    shown = [equation and equation.quantity.index for equation in weights.equations]
    at = shown.index((300, 60))
    assert shown[at - 2 : at + 3] == [(1, 127), None, (300, 60), None, (782, 0)]


# Layers of stacks, and rows of tables.


@pytest.mark.parametrize("case", IN_LAYERS, ids=repr)
def test_all_layers_are_shown_if_asked_for(case):
    work, known = explain(case, all_layers=True), quantities(case)
    assert worst_error(work) <= TOLERANCE
    shown = {equation.name for equation in equations(work)}
    absent = [f"Delta.{name}" for name in case.net.inputs] + ["h.o.word"]
    assert shown == {
        f"{name}{list(index)}" if index else name
        for name, array in known.items()
        if name not in absent
        for index in np.ndindex(array.shape)
    }
    assert "/" not in "".join(f"{step.name}{step.title}" for step in work.steps)


def test_layers_between_the_first_and_the_last_are_left_out():
    work, whole = explained(STACKS_CASE), explain(STACKS_CASE, all_layers=True)
    left_out = [step for step in work.steps if step.name == "blocks[1]"]
    assert {step.title for step in left_out} == {"Layer 1 of blocks, left out"}
    assert {step.equations for step in left_out} == {(None,)}
    assert [step.section for step in left_out] == [
        "Given", *["Example 0"] * 2, *["Example 1"] * 2, *["Mean over all 2 examples"] * 2
    ]  # fmt: skip

    def within(step):
        name = Name.parse(step.name)
        return name.path[:1] == ("blocks",) and len(name.path) > 1 and name.index[0] == 1

    assert [s.name for s in work.steps if s.name != "blocks[1]"] == [s.name for s in whole.steps if not within(s)]
    assert line_of(work, "h.blocks.x[2, 0, 1]")[0].startswith("h.blocks.x[2, 0, 1] = h.blocks.sum[1, 0, 1] ")
    in_both = [step.name for step in explained(NESTED_CASE).steps if step.equations == (None,)]
    assert in_both == ["outer.inner[1]", *(f"outer.inner[{i}, 1]" for i in (0, 1, 1, 0)), *["outer.inner[1]"] * 2]


def test_a_layer_of_which_something_is_claimed_is_shown():
    phi = "(1 - h.blocks.up[1]**2) * Delta.blocks.up[1]"
    claims = {
        "delta.blocks.up[1]": phi,  # of all that the layer has
        "grad.blocks.up.bias[1, 0]": "delta.blocks.up[1, 0, 0] + delta.blocks.up[0, 1, 0]",  # one of another layer
        "d(a.blocks.up[1, 0, 0])/d(h.blocks.x[1, 0, 2])": "W.blocks.up.x[1, 2, 0]",
        "d(a.blocks.up[2, 0, 0])/d(a.blocks.up[1, 0, 0])": "0",
    }
    work = explain(STACKS_CASE, claims=claims)
    assert [(claim.holds, claim.general) for claim in work.claims] == [(True, True)] * 6 + [
        (False, None), (True, True), (False, None)
    ]  # fmt: skip
    assert [claim.name for claim in work.claims[5:7]] == ["delta.blocks.up[1, 1, 2]", "grad.blocks.up.bias[1, 0]"]
    assert not [step for step in work.steps if None in step.equations]
    assert worst_error(work) <= TOLERANCE
    shown = [claim for equation in equations(work) for claim in equation.claims]
    assert sorted(shown, key=repr) == sorted(work.claims, key=repr)
    with pytest.raises(ValueError, match=r"delta\.blocks\.up\[3, 0, 0\] does not exist: .* has shape \(3, 2, 3\)"):
        explain(STACKS_CASE, claims={"delta.blocks.up[3, 0, 0]": "0"})


def test_symbols_are_of_a_stack_of_its_arrays_or_of_a_layer():
    names = {"blocks.up": "u", "W.blocks.up.x[0]": "V", "W.blocks.sum.up": "S", "a.last.up[0, 1]": "z"}
    work = explain(STACKS_CASE, names=names)
    for name, text in {
        "a.blocks.up[0, 0, 1]": "a^u_(0,0,1) = V_(0,1)·h.blocks.x[0, 0, 0] + ",
        "a.blocks.up[2, 0, 1]": "a^u_(2,0,1) = W^(blocks.x → u)_(2,0,1)·h.blocks.x[2, 0, 0] + ",
        "a.blocks.sum[0, 0, 0]": "a.blocks.sum[0, 0, 0] = S_(0,0,0)·h^u_(0,0,0) + ",
        "grad.blocks.up.x[0, 1, 2]": "∂L/∂V_(1,2) = ",
        "h.last.up[0, 1, 1]": "h.last.up[0, 1, 1] = tanh(z[1]) = ",
    }.items():
        assert line_of(work, name)[0].startswith(text)


def test_only_rows_that_ids_say_are_shown():
    params, _, y, _ = TABLE_CASE.arguments(jnp.float64)
    x, x[1] = np.full((2, 3), 4), (1, 29, 4)
    claims = {"grad.e.t[7, 0]": "0", "a.e[1, 1, 0]": "W.e.t[29, 0]", "d(a.e[0, 0, 1])/d(W.e.t[4, 1])": "1"}
    work = jaxbp.explain(TABLE, jaxbp.squared_error, params, x, y, RATE, claims)
    assert [(claim.holds, claim.general) for claim in work.claims] == [(True, None), (True, True), (True, None)]
    assert worst_error(work) <= TOLERANCE
    assert line_of(work, "a.e[1, 1, 0]")[0].startswith("a.e[1, 1, 0] = W.e.t[29, 0] ")
    at_four = " + ".join(f"δ.e[{p}, 0]" for p in ("0, 0", "0, 1", "0, 2", "1, 2"))
    assert line_of(work, "grad.e.t[4, 0]")[0].startswith(f"∂L/∂W.e.t[4, 0] = {at_four} = ")
    steps = {step.name: step for step in work.steps}
    rows = [e and e.quantity.index[0] for e in steps["grad.e.t"].equations]
    assert rows == [None, 1, 1, None, 4, 4, None, 7, None, 29, 29]
    assert [e and e.quantity.index[0] for e in steps["W.e.t"].equations] == [None, 1, 1, None, 4, 4, None, 29, 29]
    assert steps["grad.e.t"].title == "Gradient of the weights from t to e; it is 0 in the rows that are not looked up"
    np.testing.assert_array_equal(np.flatnonzero(np.any(steps["grad.e.t"].value, axis=1)), [1, 4, 29])
    with pytest.raises(ValueError, match=r"h\.t holds ids, by which nothing is differentiated"):
        jaxbp.explain(TABLE, jaxbp.squared_error, params, x, y, claims={"d(loss)/d(h.t[0, 0])": "0"})


# Symbols.

TWO_TWO_ONE = jaxbp.layered([2, 2, 1], hidden=jaxbp.tanh, output=jaxbp.sigmoid)
PARAMS = {
    "h1": {"x": np.array([[0.5, -0.4], [0.3, 0.2]]), "bias": np.array([0.1, -0.1])},
    "o": {"h1": np.array([[0.7], [-0.6]]), "bias": np.array([0.2])},
}
X, Y = np.array([1.0, 0.5]), np.array([1.0])
BOOK = {
    "x": "x",
    "h1": "(1)",
    "o": "(2)",
    "a.h1": "z^{(1)}",
    "a.o[0]": "z_o",
    "h.o[0]": r"\hat{y}_1",
    "W.h1.x[1, 0]": "w_{10}",
    "W.o.h1": "w^{(2)}",
    "learning_rate": r"\alpha",
}


def named(names, **options) -> jaxbp.Explanation:
    return jaxbp.explain(TWO_TWO_ONE, jaxbp.binary_cross_entropy, PARAMS, X, Y, RATE, names=names, **options)


def line_of(work: jaxbp.Explanation, name: str) -> tuple[str, str]:
    """The equation of a quantity, in plain text and in LaTeX."""
    equation = next(equation for equation in equations(work) if equation.name == name)
    return " ".join(equation.text), " ".join(equation.latex)


@pytest.mark.parametrize(
    ("name", "text", "latex"),
    [
        ("W.h1.x[1, 0]", "w₁₀ = 0.3", "w_{10} = 0.3"),
        ("h.x[0]", "x₀ = 1", "x_{0} = 1"),
        ("a.h1[0]", "z⁽¹⁾₀ = ", "z^{(1)}_{0} = "),
        ("a.o[0]", "z_o = w⁽²⁾_(0,0)·h⁽¹⁾₀ + ", r"z_o = w^{(2)}_{0,0} \, h^{(1)}_{0} + "),
        ("h.o[0]", "ŷ₁ = 1/(1 + exp(−z_o))", r"\hat{y}_1 = \frac{1}{1 + e^{-z_o}}"),
        ("delta.h1[0]", "∂L/∂z⁽¹⁾₀ = (1 − h⁽¹⁾₀²)·Δ⁽¹⁾₀", r"\frac{\partial L}{\partial z^{(1)}_{0}} = "),
        ("Delta.o[0]", "∂L/∂ŷ₁ = ", r"\frac{\partial L}{\partial \hat{y}_1} = "),
        ("grad.h1.x[1, 0]", "∂L/∂w₁₀ = x₁·∂L/∂z⁽¹⁾₀", r"\frac{\partial L}{\partial w_{10}} = x_{1} \, "),
        ("updated.h1.x[1, 0]", "w₁₀ ← w₁₀ − α·∂L/∂w₁₀", r"w_{10} \leftarrow w_{10} - \alpha \, \frac"),
        ("grad.h1.bias[0]", "∂L/∂b⁽¹⁾₀ = ", r"\frac{\partial L}{\partial b^{(1)}_{0}} = "),
    ],
)
def test_symbols_are_the_books_in_text_and_in_latex(name, text, latex):
    in_text, in_latex = line_of(named(BOOK), name)
    assert in_text.startswith(text)
    assert in_latex.startswith(latex)


def test_symbols_without_names_are_the_librarys():
    text, latex = line_of(named(None), "delta.h1[0]")
    assert text.startswith("δ.h1[0] = (1 − h.h1[0]²)·Δ.h1[0] = ")
    assert latex.startswith(r"\delta^{\mathrm{h1}}_{0} = (1 - {h^{\mathrm{h1}}_{0}}^{2}) \, \Delta^{\mathrm{h1}}_{0}")


def test_the_symbol_of_an_element_stands_for_it_in_each_example():
    work = explain(PAIR, names={"a.o[0]": "z_1", "h.o": "o"})
    assert line_of(work, "a.o[1, 0]")[0].startswith("z₁[1] = ")
    assert line_of(work, "a.o[1, 0]")[1].startswith("{z_1}_{[1]} = ")
    assert line_of(work, "h.o[1, 0]")[1].startswith("o_{1,0} = {z_1}_{[1]}")


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({"a.h2[0]": "z"}, ValueError, r"names holds 'a.h2\[0\]', but there is no quantity 'a.h2'; .*'a.h1'"),
        ({"a.h1[2]": "z"}, ValueError, r"names holds 'a.h1\[2\]', but a.h1\[2\] does not exist: a.h1 has shape \(2,\)"),
        ({"h2": "z"}, ValueError, "units and inputs are 'x', 'h1', 'o' .did you mean 'h1'"),
        ({"a.h1[0] + 1": "z"}, ValueError, "'a.h1.0. . 1' names no quantity"),
        ({"d(h.o[0])/d(a.o[0])": "z"}, ValueError, "the symbol of a derivative is made of those of its two quantities"),
        ({"h1": "a^b^c"}, ValueError, r"names\['h1'\] is 'a\^b\^c', which is no symbol: two things stand above"),
        ({"h1": 1}, TypeError, r"names\['h1'\] must be LaTeX notation, such as 'w_1', got 1"),
        ({"h1": None}, TypeError, r"names\['h1'\] must be LaTeX notation, such as 'w_1', got None"),
        ({1: "z"}, TypeError, "a key of names must be the name of a unit or of a quantity, such as 'W.o.h1', got 1"),
        ([("h1", "z")], TypeError, r"names must be a dict such as {'W.o.h1': 'w'}, got \[\('h1', 'z'\)\]"),
        ("h1", TypeError, "names must be a dict .*, got 'h1'"),
    ],
)
def test_names_of_nothing_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        named(names)


@pytest.mark.parametrize(
    ("names", "name", "text"),
    [
        ({"W.h1.x[1,0]": "w"}, "W.h1.x[1, 0]", "w = 0.3"),
        ({"grad.o.bias[0]": "g"}, "grad.o.bias[0]", "g = "),
        ({"updated.o.bias": "b^*"}, "updated.o.bias[0]", "b^*₀ ← W.o.bias[0] − "),
        ({"d(loss)/d(a.o[0])": "e_o"}, "delta.o[0]", "e_o = "),
        ({"a.o[0]": "-z"}, "h.o[0]", "h.o[0] = 1/(1 + exp(−-z)) = "),
    ],
)
def test_every_quantity_that_may_be_named_has_that_name(names, name, text):
    assert line_of(named(names), name)[0].startswith(text)


def test_a_number_that_float32_has_not_is_shown_and_claimed_as_it_was_written():
    net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
    work = jaxbp.explain(
        net,
        jaxbp.squared_error,
        {"o": {"x": np.float32([[0.2]])}},
        np.float32([1.1]),
        np.float32([0.7]),
        np.float32(0.1),
        claims={
            "W.o.x[0, 0]": "0.2 * 1",
            "a.o[0]": "0.2 * 1.1",
            "y[0]": "0.7 * 1",
            "learning_rate": "0.1 * 1",
            "updated.o.x[0, 0]": "0.2 + 0.1 * 0.48 * 1.1",
        },
    )
    assert [claim.name for claim in work.claims if not claim.holds] == []
    assert line_of(work, "W.o.x[0, 0]")[0] == "W.o.x[0, 0] = 0.2"
    assert line_of(work, "a.o[0]")[0].endswith("= 0.2·1.1 = 0.22")


# Renderers.

CLAIMS = {"h.h1[0]": {"slide 1": "0.64"}, "delta.o[0]": {"slide 2": ["h.o[0] - y[0]", "y[0] - h.o[0]"]}}
GOLDEN = Path(__file__).parent / "golden" / "explanation.md"
RENDERERS = {
    "text": str,
    "markdown": jaxbp.Explanation.markdown,
    "latex": jaxbp.Explanation.latex,
    "html": jaxbp.Explanation.html,
    "fragment": fragment,
}


@cache
def worked() -> jaxbp.Explanation:
    return named(None, claims=CLAIMS)


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_every_step_and_every_claim_is_on_the_page(render):
    page = render(worked()).replace(r"\_", "_")
    at = [page.index(step.title) for step in worked().steps]
    assert at == sorted(at)
    for case in IN_PRINT:
        page, end = render(explained(case)).replace(r"\_", "_"), 0
        for step in explained(case).steps:
            end = page.index(step.title, end) + 1
    page = render(worked())
    assert "3 claims: 2 right, 1 wrong" in page
    for place in ("slide 1", "slide 2"):
        assert place in page


def test_markdown_is_as_committed():
    markdown = named(None, claims={"a.o[0]": "0.60", "delta.o[0]": {"slide 2": "h.o[0] - y[0]"}}).markdown()
    assert markdown == GOLDEN.read_text(encoding="utf-8"), (
        f"the page has changed; if it is better so, write explanation.markdown() to {GOLDEN} and read the difference"
    )


@pytest.mark.parametrize("render", ["markdown", "latex"])
def test_maths_is_balanced(render):
    for work in (named(BOOK, claims=CLAIMS), *map(explained, IN_PRINT)):
        page = RENDERERS[render](work)
        for opening, closing in (("{", "}"), (r"\left(", r"\right)"), (r"\[", r"\]"), (r"\begin{", r"\end{")):
            assert page.count(opening) == page.count(closing)
        assert all(line.count("$") % 2 == 0 and line.count("$$") in (0, 2) for line in page.splitlines())


def test_powers_of_fractions_are_in_parentheses():
    squares = {"a.o[0]": ["(h.o[0]/2)**2", "(h.o[0]**2)**3", "d(h.o[0])/d(a.o[0])**2", "2**(h.o[0]**2)"]}
    work = named(None, claims=squares)
    printers = work.typesetting
    shown = [(printers.text(claim.formula), printers.latex(claim.formula)) for claim in work.claims]
    o, o_a = r"h^{o}_{0}", r"\frac{\partial h^{o}_{0}}{\partial a^{o}_{0}}"
    assert shown == [
        ("(h.o[0]/2)²", rf"{{\left(\frac{{{o}}}{{2}}\right)}}^{{2}}"),
        ("(h.o[0]²)^3", rf"{{({{{o}}}^{{2}})}}^{{3}}"),
        ("(∂h.o[0]/∂a.o[0])²", rf"{{\left({o_a}\right)}}^{{2}}"),
        ("2^h.o[0]²", rf"{{2}}^{{{{{o}}}^{{2}}}}"),
    ]


def test_an_explanation_in_a_message_is_short():
    assert repr(worked()) == f"Explanation({len(worked().steps)} steps; 3 claims: 2 right, 1 wrong)"


def test_a_page_needs_nothing_else():
    page = worked().html("R&D <1>")
    assert page.startswith("<!doctype html>")
    assert "<title>R&amp;D &lt;1&gt;</title>" in page
    for outside in ("http", "url(", "@import", "src=", "<script", "<iframe"):
        assert outside not in page
    assert re.findall('href="([^#"]*)', page) == ["data:,"] + [""] * page.count('href="#')


@pytest.mark.parametrize(
    ("work", "in_the_table"),  # the claim that is wrong, and what is right
    [(lambda: named(BOOK, claims=CLAIMS), 2), *((partial(explained, case), 0) for case in IN_PRINT)],
    ids=["book", *map(repr, IN_PRINT)],
)
def test_every_formula_of_a_page_is_typeset(work, in_the_table):
    work = work()
    formulas = [latex for step in work.steps for equation in step.worked if equation for latex in equation.latex]
    page = work.html()
    others = sum(bool(step.rule) + sum(map(bool, matrices(step, work.typesetting.latex))) for step in work.steps)
    shown = re.findall(r"<span(?: class=\"scroll\" [^>]*)?>(?:<math>.*?</math> ?)+</span>", page)
    assert len(shown) == len(formulas) + others + len(work.claims)
    assert page.count("<math>") == page.count("</math>") >= len(shown) + in_the_table
    outside_of_maths = re.sub("<style>.*?</style>|<math>.*?</math>|<[^>]*>", "", page, flags=re.DOTALL)
    assert not re.search(r"[\\$^{}]", outside_of_maths)
    assert "\\" not in page


def test_every_link_of_a_page_leads_somewhere():
    page = explain(
        MANY, claims={"a.o[3, 1]": "9", "d(a.o[3, 0])/d(h.x[3, 1])": "9", "loss": "9", "losses[2]": "9"}
    ).html()
    ids = re.findall('id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    contents = page.count('href="#part-')
    assert len(re.findall('href="#([^"]*)"', page)) == 4 + contents
    assert contents == page.count("<h3 ")
    assert set(re.findall('href="#([^"]*)"', page)) <= set(ids)


def test_only_html_needs_latex2mathml(monkeypatch):
    loaded = [name for name in sys.modules if name.partition(".")[0] == "latex2mathml"]
    for module in {*loaded, "latex2mathml", "latex2mathml.converter"}:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="latex2mathml"):
        worked().html()
    assert worked()._repr_html_() is None  # a notebook falls back to plain text
    assert all(RENDERERS[render](worked()) for render in ("text", "markdown", "latex"))


def test_importing_jaxbp_does_not_import_latex2mathml():
    script = "import sys, jaxbp; print([name for name in sys.modules if 'latex2mathml' in name])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


# In a browser.

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,800", "--enable-logging=stderr", "--v=0"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-quic",
]
PROBE = """<script>
const box = e => e.getBoundingClientRect(), maths = [...document.querySelectorAll("math")];
const wrong = document.querySelector("div.claim.wrong");
const inside = r => r.height > 0 && r.width > 0 && r.left >= 0 && r.right <= innerWidth;
document.body.dataset.found = JSON.stringify({
  formulas: maths.length,
  drawn: maths.filter(e => box(e).height > 0 && box(e).width > 0).length,
  native: maths.filter(e => e instanceof MathMLElement).length,
  errors: document.querySelectorAll("merror").length,
  resources: performance.getEntriesByType("resource").length,
  overflow: Math.max(0, document.documentElement.scrollWidth - innerWidth),
  wrong: wrong.offsetParent !== null && inside(box(wrong)),
  mark: wrong.querySelector(".mark").textContent,
  colour: getComputedStyle(wrong.querySelector(".mark")).color,
  title: document.title,
  scripts: document.scripts.length,
});
</script>"""


def in_browser(page: str, folder: Path) -> tuple[dict, str]:
    """What a script at the end of a copy of the page finds, and what the browser has logged."""
    (folder / "page.html").write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    return found_in_browser(folder)


def found_in_browser(folder: Path, *options: str) -> tuple[dict, str]:
    """What a script in the page of a folder has found, and what the browser has logged."""
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [BROWSER, *OPTIONS, *options, profile, "--dump-dom", (folder / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(html.unescape(re.search('data-found="([^"]*)"', done.stdout)[1])), done.stderr


PHONE = """<script>
const root = document.documentElement, page = document.querySelector(".jaxbp-work");
const all = selector => [...page.querySelectorAll(selector)], seen = e => e.getClientRects().length;
document.querySelectorAll("details").forEach(e => e.open = true);
const box = e => e.getBoundingClientRect(), scrolls = all(".scroll").filter(seen);
const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const paper = e => { const c = getComputedStyle(e).backgroundColor;
  return /, 0\\)$/.test(c) && e.parentElement ? paper(e.parentElement) : c; };
const contrast = e => { const [x, y] = [light(getComputedStyle(e).color), light(paper(e))].sort((a, b) => b - a);
  return (x + .05) / (y + .05); };
const texts = all("h1, h2, h3, code, summary, a, mn, mi, mo, .mark, .rule, .claim").filter(seen);
document.body.dataset.found = JSON.stringify({
  width: innerWidth,
  overflow: Math.max(0, root.scrollWidth - innerWidth),
  clipped: all("mn").filter(e => seen(e) && !e.closest(".scroll") && box(e).right > innerWidth).length,
  squeezed: all("mtd").filter(e => [...e.children].some(c => box(c).right > box(e).right + 1)).length,
  unreachable: all("*").filter(e => getComputedStyle(e).overflowX == "auto" && e.tabIndex != 0).length,
  unnamed: scrolls.filter(e => e.getAttribute("role") != "region" || !e.getAttribute("aria-label")).length,
  scrolled: scrolls.some(e => e.scrollWidth > e.clientWidth + 1),
  dark: light(paper(page)) < .1,
  landmark: document.querySelectorAll("main").length,
  faint: texts.filter(e => contrast(e) < 4.5).length,
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_can_be_read_on_a_phone_and_in_the_dark(dark, tmp_path):
    work = explain(HEADS_CASE, claims={"scores.mix[0, 0, 0, 0]": "9", "loss": ["1", "losses[0]"]})
    # a window is 500 px wide at least, a frame is not
    (tmp_path / "inner.html").write_text(work.html().replace("</body>", PHONE + "</body>"), encoding="utf-8")
    frame = '<iframe src="inner.html" width="390" height="800" style="border: 0; color-scheme: %s"></iframe>'
    copy = "<script>onload = () => document.body.dataset.found = frames[0].document.body.dataset.found</script>"
    outer = f'<meta name="color-scheme" content="light dark"><body>{frame % ("dark" if dark else "light")}{copy}</body>'
    (tmp_path / "page.html").write_text(outer, encoding="utf-8")
    found = found_in_browser(
        tmp_path, "--allow-file-access-from-files", *["--blink-settings=preferredColorScheme=0"] * dark
    )[0]
    assert found == {
        "width": 390, "overflow": 0, "clipped": 0, "squeezed": 0, "unreachable": 0, "unnamed": 0, "scrolled": True,
        "dark": dark, "landmark": 1, "faint": 0,
    }  # fmt: skip


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the path")
def test_a_page_is_typeset_by_a_browser_without_any_network(tmp_path):
    # an activation with a fraction, and sums that are wider than the window
    case = of(jaxbp.sigmoid, jaxbp.softmax, jaxbp.cross_entropy, "soft", (), (12, 4, 2))
    hostile = "<script>document.title = 1</script><img src=x onerror='document.title = 2'>"
    names = {"x": rf"\text{{{hostile}}}"}
    page = explain(case, claims={"a.h1[0]": {hostile: "9"}, "delta.o[0]": "y[0] - h.o[0]"}, names=names).html(hostile)
    found, log = in_browser(page, tmp_path)
    formulas = page.count("<math>")
    assert found == {
        "formulas": formulas,
        "drawn": formulas,
        "native": formulas,
        "errors": 0,
        "resources": 0,
        "overflow": 0,
        "wrong": True,
        "mark": "✗",
        "colour": "rgb(207, 34, 46)",
        "title": hostile,
        "scripts": 1,  # the one that looks at the page
    }
    assert "CONSOLE" not in log
