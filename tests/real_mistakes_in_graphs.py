"""Mistakes that people made in other networks than layers: branches, shared weights, gates, norms, attention, windows.

Each network has a backward pass of its own. A case replaces one or two of its steps by what was written.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from real_mistakes import CROSS, LINEAR, SIGMOID, SQUARED, TANH, Program, RealMistake, named, sigmoid, softmax

import jaxbp
from jaxbp import Dense, Embedding, Identity, Network, Scale, Transposed, Unit
from jaxbp.connections import AvgPool, Conv, Flatten, MaxPool

Step = Callable[..., Any]


def case(name: str, source: str, net: Network, program: Program, slugs: str, units: str = "", **options: Any):
    where = frozenset(units.split()) or None
    loss = options.pop("loss", SQUARED)
    return RealMistake(name, source, net, loss, program, named(slugs), where, **options)


def dense(h: Any, delta: Any) -> dict[str, np.ndarray]:
    """The gradients of a unit that reads one source, "h", through a matrix."""
    return {"h": h.T @ delta, "bias": delta.sum(axis=0)}


def of(source: str, gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {source: gradients["h"], "bias": gradients["bias"]}


def back_through_tanh(h: Any, Delta: Any) -> Any:
    return (1 - h**2) * Delta


def back_through_sigmoid(h: Any, Delta: Any) -> Any:
    return h * (1 - h) * Delta


# Branches

DIAMOND = Network(
    inputs={"x": 3},
    units={
        "h1": Unit(4, TANH, {"x": Dense()}),
        "left": Unit(3, SIGMOID, {"h1": Dense()}),
        "right": Unit(4, TANH, {"h1": Dense()}),
        "o": Unit(2, LINEAR, {"left": Dense(), "right": Dense()}),
    },
)


def diamond(join: Step) -> Program:
    """`join` makes Δ of the two signals that come back, the right branch's first."""

    def program(p: Any, x: Any, y: Any, repaired: bool) -> Any:
        h = np.tanh(x @ p["h1"]["x"] + p["h1"]["bias"])
        left = sigmoid(h @ p["left"]["h1"] + p["left"]["bias"])
        right = np.tanh(h @ p["right"]["h1"] + p["right"]["bias"])
        o = left @ p["o"]["left"] + right @ p["o"]["right"] + p["o"]["bias"]
        delta_o = (o - y) / len(y)
        delta_left = back_through_sigmoid(left, delta_o @ p["o"]["left"].T)
        delta_right = back_through_tanh(right, delta_o @ p["o"]["right"].T)
        first, second = delta_right @ p["right"]["h1"].T, delta_left @ p["left"]["h1"].T
        delta = back_through_tanh(h, first + second if repaired else join(first, second))
        return {
            "h1": of("x", dense(x, delta)),
            "left": of("h1", dense(h, delta_left)),
            "right": of("h1", dense(h, delta_right)),
            "o": {"left": left.T @ delta_o, "right": right.T @ delta_o, "bias": delta_o.sum(axis=0)},
        }

    return program


RESIDUAL = Network(
    inputs={"x": 3},
    units={
        "h1": Unit(4, TANH, {"x": Dense()}),
        "m1": Unit(4, TANH, {"h1": Dense()}),
        "r1": Unit(4, LINEAR, {"m1": Identity(), "h1": Identity()}, bias=False),
        "m2": Unit(4, TANH, {"r1": Dense()}),
        "r2": Unit(4, LINEAR, {"m2": Identity(), "r1": Identity()}, bias=False),
        "o": Unit(2, LINEAR, {"r2": Dense()}),
    },
)


def second_residual_forgotten(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    h = np.tanh(x @ p["h1"]["x"] + p["h1"]["bias"])
    m1 = np.tanh(h @ p["m1"]["h1"] + p["m1"]["bias"])
    r1 = h + m1
    m2 = np.tanh(r1 @ p["m2"]["r1"] + p["m2"]["bias"])
    r2 = r1 + m2
    delta_o = (r2 @ p["o"]["r2"] + p["o"]["bias"] - y) / len(y)
    delta_r2 = delta_o @ p["o"]["r2"].T
    delta_m2 = back_through_tanh(m2, delta_r2)
    delta_r1 = delta_m2 @ p["m2"]["r1"].T
    if repaired:
        delta_r1 = delta_r1 + delta_r2
    delta_m1 = back_through_tanh(m1, delta_r1)
    delta_h = back_through_tanh(h, delta_m1 @ p["m1"]["h1"].T + delta_r1)
    return {
        "h1": of("x", dense(x, delta_h)),
        "m1": of("h1", dense(h, delta_m1)),
        "r1": {},
        "m2": of("r1", dense(r1, delta_m2)),
        "r2": {},
        "o": of("r2", dense(r2, delta_o)),
    }


# Norms

NORM = Network(
    inputs={"x": 3},
    units={
        "n": Unit(5, jaxbp.layer_norm, {"x": Dense()}),
        "g": Unit(5, LINEAR, {"n": Scale()}),
        "o": Unit(2, LINEAR, {"g": Dense()}),
    },
)
ROOT = Network(
    inputs={"x": 3},
    units={
        "n": Unit(5, jaxbp.rms_norm, {"x": Dense()}),
        "g": Unit(5, LINEAR, {"n": Scale()}, bias=False),
        "o": Unit(2, LINEAR, {"g": Dense()}),
    },
)
NORMED_STREAM = Network(  # what is added up is normalised for one reader, and goes on as it is to another
    inputs={"x": 4},
    units={
        "h1": Unit(4, TANH, {"x": Dense()}),
        "sum": Unit(4, LINEAR, {"h1": Identity(), "x": Identity()}, bias=False),
        "n": Unit(4, jaxbp.rms_norm, {"sum": Identity()}, bias=False),
        "o": Unit(3, LINEAR, {"n": Dense(), "sum": Dense()}),
    },
)


def mean(a: Any) -> Any:
    return a.mean(axis=-1, keepdims=True)


def through_layer_norm(at: Any, Delta: Any) -> Any:
    h, deviation = at
    return (Delta - mean(Delta) - h * mean(h * Delta)) / deviation


def norm(gain: Step | None = None, pull_back: Step | None = None) -> Program:
    """`gain` makes Δ of the normalised of δ and the gain, `pull_back` the δ of that."""

    def program(p: Any, x: Any, y: Any, repaired: bool) -> Any:
        a = x @ p["n"]["x"] + p["n"]["bias"]
        deviation = np.sqrt(mean((a - mean(a)) ** 2) + 1e-5)
        n = (a - mean(a)) / deviation
        w = p["g"]["n"]
        g = n * w + p["g"]["bias"]
        delta_o = (g @ p["o"]["g"] + p["o"]["bias"] - y) / len(y)
        delta_g = delta_o @ p["o"]["g"].T
        Delta = delta_g * w if repaired or gain is None else gain(delta_g, w)
        delta = (through_layer_norm if repaired or pull_back is None else pull_back)((n, deviation), Delta)
        return {
            "n": of("x", dense(x, delta)),
            "g": {"n": (delta_g * n).sum(axis=0), "bias": delta_g.sum(axis=0)},
            "o": of("g", dense(g, delta_o)),
        }

    return program


def gain_twice_in_the_term_of_the_root(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    a = x @ p["n"]["x"] + p["n"]["bias"]
    r = 1 / np.sqrt(mean(a**2) + 1e-5)
    w = p["g"]["n"]
    g = a * r * w
    delta_o = (g @ p["o"]["g"] + p["o"]["bias"] - y) / len(y)
    delta_g = delta_o @ p["o"]["g"].T
    s = (delta_g * w * a).sum(axis=-1, keepdims=True)
    delta = delta_g * w * r - (1 if repaired else w) * r**3 * a * s / a.shape[-1]
    return {
        "n": of("x", dense(x, delta)),
        "g": {"n": (delta_g * a * r).sum(axis=0)},
        "o": of("g", dense(g, delta_o)),
    }


def added_before_the_norm(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    h = np.tanh(x @ p["h1"]["x"] + p["h1"]["bias"])
    total = h + x
    r = 1 / np.sqrt(mean(total**2) + 1e-5)
    n = total * r
    delta_o = (n @ p["o"]["n"] + total @ p["o"]["sum"] + p["o"]["bias"] - y) / len(y)
    of_norm, of_stream = delta_o @ p["o"]["n"].T, delta_o @ p["o"]["sum"].T

    def through_norm(Delta: Any) -> Any:
        return r * (Delta - n * mean(n * Delta))

    delta = through_norm(of_norm) + of_stream if repaired else through_norm(of_norm + of_stream)
    return {
        "h1": of("x", dense(x, back_through_tanh(h, delta))),
        "sum": {},
        "n": {},
        "o": {"n": n.T @ delta_o, "sum": total.T @ delta_o, "bias": delta_o.sum(axis=0)},
    }


# Attention

ATTENTION = Network(
    inputs={"x": (4, 3)},
    units={
        "q": Unit((4, 2), LINEAR, {"x": Dense()}),
        "k": Unit((4, 2), LINEAR, {"x": Dense()}, bias=False),
        "v": Unit((4, 2), LINEAR, {"x": Dense()}),
        "mix": jaxbp.attention("q", "k", "v", (4, 2), causal=True),
        "flat": Unit(8, LINEAR, {"mix": Flatten(axes=2)}, bias=False),
        "o": Unit(3, LINEAR, {"flat": Dense()}),
    },
)


def attended_without_mask(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    """The weights are computed again on the way back, from the sum that was kept, and without the mask."""
    q, v = (x @ p[u]["x"] + p[u]["bias"] for u in ("q", "v"))
    k = x @ p["k"]["x"]
    scores = np.einsum("nid,njd->nij", q, k) / np.sqrt(2)
    kept = np.where(np.tri(4) > 0, np.exp(scores), 0).sum(axis=-1, keepdims=True)
    masked = np.where(np.tri(4) > 0, np.exp(scores), 0) / kept
    flat = (masked @ v).reshape(len(y), -1)
    delta_o = (flat @ p["o"]["flat"] + p["o"]["bias"] - y) / len(y)
    delta = (delta_o @ p["o"]["flat"].T).reshape(v.shape)
    P = masked if repaired else np.exp(scores) / kept
    Delta_P = np.einsum("nid,njd->nij", delta, v)
    # Σ_j P Δ_P is the inner product of δ with what came out
    Delta_S = P * (Delta_P - (delta * flat.reshape(v.shape)).sum(axis=-1, keepdims=True)) / np.sqrt(2)
    signals = {"q": Delta_S @ k, "k": Delta_S.swapaxes(1, 2) @ q, "v": P.swapaxes(1, 2) @ delta}
    return {
        u: {"x": np.einsum("nid,nie->de", x, signals[u])} | ({} if u == "k" else {"bias": signals[u].sum(axis=(0, 1))})
        for u in signals
    } | {"mix": {}, "flat": {}, "o": of("flat", dense(flat, delta_o))}


# Shared weights

STEPS = Network(  # three steps of a recurrent network, all of which are read
    inputs={"x1": 2, "x2": 2, "x3": 2},
    units={
        "h1": Unit(3, TANH, {"x1": Dense(share="in")}, bias="b"),
        "h2": Unit(3, TANH, {"x2": Dense(share="in"), "h1": Dense(share="state")}, bias="b"),
        "h3": Unit(3, TANH, {"x3": Dense(share="in"), "h2": Dense(share="state")}, bias="b"),
        "o": Unit(2, LINEAR, {"h1": Dense(), "h2": Dense(), "h3": Dense()}),
    },
)
TWICE = Network(
    inputs={"x": 3},
    units={
        "h1": Unit(3, TANH, {"x": Dense(share="W")}),
        "h2": Unit(3, TANH, {"h1": Dense(share="W")}),
        "o": Unit(2, LINEAR, {"h2": Dense()}),
    },
)
AUTOENCODER = Network(
    inputs={"x": 3},
    units={
        "code": Unit(3, SIGMOID, {"x": Dense(share="W")}),
        "o": Unit(3, LINEAR, {"code": Transposed(Dense(share="W"))}),
    },
)


def nothing_from_the_next_step(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    xs, shared = [x["x1"], x["x2"], x["x3"]], p["shared"]
    h = [np.zeros((len(y), 3))]
    for x_t in xs:
        h.append(np.tanh(x_t @ shared["in"] + h[-1] @ shared["state"] + shared["b"]))
    W = [p["o"][f"h{t}"] for t in (1, 2, 3)]
    delta_o = (sum(h_t @ W_t for h_t, W_t in zip(h[1:], W, strict=True)) + p["o"]["bias"] - y) / len(y)
    grads = {name: np.zeros_like(array) for name, array in shared.items()}
    from_next = np.zeros((len(y), 3))
    for t in (3, 2, 1):
        delta = back_through_tanh(h[t], delta_o @ W[t - 1].T + from_next)
        grads["in"] += xs[t - 1].T @ delta
        grads["state"] += h[t - 1].T @ delta
        grads["b"] += delta.sum(axis=0)
        if repaired:
            from_next = delta @ shared["state"].T
    outputs = {f"h{t}": h[t].T @ delta_o for t in (1, 2, 3)}
    return {"h1": {}, "h2": {}, "h3": {}, "o": outputs | {"bias": delta_o.sum(axis=0)}, "shared": grads}


def later_use_replaces(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    W = p["shared"]["W"]
    h1 = np.tanh(x @ W + p["h1"]["bias"])
    h2 = np.tanh(h1 @ W + p["h2"]["bias"])
    delta_o = (h2 @ p["o"]["h2"] + p["o"]["bias"] - y) / len(y)
    delta_2 = back_through_tanh(h2, delta_o @ p["o"]["h2"].T)
    delta_1 = back_through_tanh(h1, delta_2 @ W.T)
    dW = h1.T @ delta_2
    if repaired:
        dW = x.T @ delta_1 + dW
    return {
        "h1": {"bias": delta_1.sum(axis=0)},
        "h2": {"bias": delta_2.sum(axis=0)},
        "o": of("h2", dense(h2, delta_o)),
        "shared": {"W": dW},
    }


def decoder_not_transposed(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    W = p["shared"]["W"]
    code = sigmoid(x @ W + p["code"]["bias"])
    delta_o = (code @ W.T + p["o"]["bias"] - y) / len(y)
    delta = back_through_sigmoid(code, delta_o @ W)
    decoder = delta_o.T @ code if repaired else code.T @ delta_o
    return {
        "code": {"bias": delta.sum(axis=0)},
        "o": {"bias": delta_o.sum(axis=0)},
        "shared": {"W": x.T @ delta + decoder},
    }


# Gates

CELL = Network(  # what is kept of the cell before, and what is added to it
    inputs={"x": 3, "before": 4},
    units={
        "f": Unit(4, SIGMOID, {"x": Dense()}),
        "i": Unit(4, SIGMOID, {"x": Dense()}),
        "g": Unit(4, TANH, {"x": Dense()}),
        "kept": jaxbp.product("f", "before", width=4),
        "added": jaxbp.product("i", "g", width=4),
        "c": Unit(4, TANH, {"kept": Identity(), "added": Identity()}, bias=False),
        "o": Unit(2, LINEAR, {"c": Dense()}),
    },
)
MASKED = Network(  # dropout, whose mask is given: 0, or 1 / (1 − p) = 2
    inputs={"x": 3, "mask": 6},
    units={
        "h1": Unit(6, TANH, {"x": Dense()}),
        "drop": jaxbp.product("h1", "mask", width=6),
        "o": Unit(2, LINEAR, {"drop": Dense()}),
    },
)


def cell(delta_f: Step | None = None, bias_i: Step | None = None) -> Program:
    """`delta_f` makes δ of the forget gate of h and Δ, `bias_i` the bias of the input gate of the gates' δ."""

    def program(p: Any, x: Any, y: Any, repaired: bool) -> Any:
        before, x = x["before"], x["x"]
        f, i, g = (Phi(x @ p[u]["x"] + p[u]["bias"]) for u, Phi in (("f", sigmoid), ("i", sigmoid), ("g", np.tanh)))
        c = np.tanh(f * before + i * g)
        delta_o = (c @ p["o"]["c"] + p["o"]["bias"] - y) / len(y)
        delta_c = back_through_tanh(c, delta_o @ p["o"]["c"].T)
        forget = back_through_sigmoid if repaired or delta_f is None else delta_f
        delta = {
            "f": forget(f, delta_c * before),
            "i": back_through_sigmoid(i, delta_c * g),
            "g": back_through_tanh(g, delta_c * i),
        }
        grads = {u: of("x", dense(x, delta[u])) for u in delta}
        if bias_i is not None and not repaired:
            grads["i"]["bias"] = bias_i(delta)
        return grads | {"kept": {}, "added": {}, "c": {}, "o": of("c", dense(c, delta_o))}

    return program


def dropout(back: Step) -> Program:
    """`back` makes Δ of δ and the mask."""

    def program(p: Any, x: Any, y: Any, repaired: bool) -> Any:
        mask, x = x["mask"], x["x"]
        h = np.tanh(x @ p["h1"]["x"] + p["h1"]["bias"])
        delta_o = ((h * mask) @ p["o"]["drop"] + p["o"]["bias"] - y) / len(y)
        delta_drop = delta_o @ p["o"]["drop"].T
        Delta = delta_drop * mask if repaired else back(delta_drop, mask)
        return {
            "h1": of("x", dense(x, back_through_tanh(h, Delta))),
            "drop": {},
            "o": of("drop", dense(h * mask, delta_o)),
        }

    return program


def with_mask(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": rng.normal(size=(6, 3)), "mask": 2.0 * rng.integers(0, 2, size=(6, 6))}


# Tables of words

WORDS = Network(
    inputs={"words": jaxbp.ids((4,), 3)},
    units={
        "e": Unit((4, 2), LINEAR, {"words": Embedding(3)}, bias=False),
        "flat": Unit(8, LINEAR, {"e": Flatten(axes=2)}, bias=False),
        "o": Unit(3, LINEAR, {"flat": Dense()}),
    },
)
CONTEXT = Network(  # the mean of the words around
    inputs={"words": jaxbp.ids((4,), 5)},
    units={
        "e": Unit((4, 3), LINEAR, {"words": Embedding(5)}, bias=False),
        "mean": Unit((1, 3), LINEAR, {"e": AvgPool((4,))}, bias=False),
        "flat": Unit(3, LINEAR, {"mean": Flatten(axes=2)}, bias=False),
        "o": Unit(5, jaxbp.softmax, {"flat": Dense()}, bias=False),
    },
)
LARGEST = Network(
    inputs={"words": jaxbp.ids((4,), 3)},
    units={
        "e": Unit((4, 3), LINEAR, {"words": Embedding(3)}, bias=False),
        "pool": Unit((2, 3), LINEAR, {"e": MaxPool((2,))}, bias=False),
        "flat": Unit(6, LINEAR, {"pool": Flatten(axes=2)}, bias=False),
        "o": Unit(2, LINEAR, {"flat": Dense()}),
    },
)


def added(words: Any, signal: Any, size: int) -> np.ndarray:
    table = np.zeros((size, signal.shape[-1]))
    np.add.at(table, words, signal)
    return table


def rows_assigned(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    flat = p["e"]["words"][x].reshape(len(y), -1)
    delta_o = (flat @ p["o"]["flat"] + p["o"]["bias"] - y) / len(y)
    signal = (delta_o @ p["o"]["flat"].T).reshape(*x.shape, 2)
    table = np.zeros((3, 2))
    table[x] += signal  # of a row that occurs again, the last
    return {
        "e": {"words": added(x, signal, 3) if repaired else table},
        "flat": {},
        "o": of("flat", dense(flat, delta_o)),
    }


def repeated_words_counted_once(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    flat = p["e"]["words"][x].mean(axis=1)
    delta_o = (softmax(flat @ p["o"]["flat"]) - y) / len(y)
    signal = np.repeat((delta_o @ p["o"]["flat"].T)[:, None] / 4, 4, axis=1)
    table = np.zeros((5, 3))
    table[x] += signal
    return {
        "e": {"words": added(x, signal, 5) if repaired else table},
        "mean": {},
        "flat": {},
        "o": {"flat": flat.T @ delta_o},
    }


def all_that_are_as_large(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    pairs = p["e"]["words"][x].reshape(len(y), 2, 2, 3)
    flat = pairs.max(axis=2).reshape(len(y), -1)
    delta_o = (flat @ p["o"]["flat"] + p["o"]["bias"] - y) / len(y)
    Delta = (delta_o @ p["o"]["flat"].T).reshape(len(y), 2, 1, 3)
    largest = pairs == pairs.max(axis=2, keepdims=True)
    if repaired:
        largest[:, :, 1] &= ~largest[:, :, 0]
    signal = (largest * Delta).reshape(*x.shape, 3)
    return {
        "e": {"words": added(x, signal, 3)},
        "pool": {},
        "flat": {},
        "o": of("flat", dense(flat, delta_o)),
    }


# Windows


def convolutions(stride: int) -> Network:
    windows = 2 if stride == 2 else 3
    return Network(
        inputs={"x": (7, 2)},
        units={
            "c1": Unit((5, 2), TANH, {"x": Conv((3,), padding="VALID")}),
            "c2": Unit((windows, 2), TANH, {"c1": Conv((3,), stride=stride, padding="VALID")}),
            "flat": Unit(2 * windows, LINEAR, {"c2": Flatten(axes=2)}, bias=False),
            "o": Unit(2, LINEAR, {"flat": Dense()}),
        },
    )


IMAGES = Network(  # as many rows of pixels as channels
    inputs={"x": (4, 3, 1)},
    units={
        "c1": Unit((3, 2, 3), TANH, {"x": Conv((2, 2), padding="VALID")}),
        "flat": Unit(18, LINEAR, {"c1": Flatten()}, bias=False),
        "o": Unit(2, LINEAR, {"flat": Dense()}),
    },
)


def pooled(pool: Any, windows: int) -> Network:
    return Network(
        inputs={"x": (7, 2)},
        units={
            "c1": Unit((6, 2), TANH, {"x": Conv((2,), padding="VALID")}),
            "pool": Unit((windows, 2), LINEAR, {"c1": pool}, bias=False),
            "flat": Unit(2 * windows, LINEAR, {"pool": Flatten(axes=2)}, bias=False),
            "o": Unit(2, LINEAR, {"flat": Dense()}),
        },
    )


def windows_of(shape: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> Iterator[tuple[Any, Any]]:
    """The index of each window, and what it sees."""
    for p in np.ndindex(*((n - k) // stride + 1 for n, k in zip(shape, kernel, strict=True))):
        yield p, tuple(slice(i * stride, i * stride + k) for i, k in zip(p, kernel, strict=True))


def convolved(h: Any, W: Any, stride: int = 1) -> np.ndarray:
    kernel, shape = W.shape[:-2], h.shape[1:-1]
    places = list(windows_of(shape, kernel, stride))
    a = np.zeros((len(h), *(n + 1 for n in places[-1][0]), W.shape[-1]))
    for p, seen in places:
        a[:, *p] = np.tensordot(h[:, *seen], W, axes=W.ndim - 1)
    return a


def kernel_gradient(h: Any, delta: Any, kernel: tuple[int, ...], stride: int = 1) -> Any:
    places = windows_of(h.shape[1:-1], kernel, stride)
    return sum(
        np.tensordot(h[:, *seen], delta[:, *p], axes=(0, 0))
        for p, seen in places
        if all(i < n for i, n in zip(p, delta.shape[1:], strict=False))
    )


def sent_to_windows(delta: Any, W: Any, shape: tuple[int, ...], stride: int = 1) -> Any:
    Delta = np.zeros((len(delta), *shape))
    for p, seen in windows_of(shape[:-1], W.shape[:-2], stride):
        if all(i < n for i, n in zip(p, delta.shape[1:], strict=False)):
            Delta[:, *seen] += np.tensordot(delta[:, *p], W, axes=(-1, -1))
    return Delta


def two_convolutions(stride: int = 1, stride_back: int | None = None, kernel: Step = lambda W: W, flip: bool = False):
    """`kernel` makes what the way back sees of W; with `flip` the gradients of kernels come out reversed."""

    def program(p: Any, x: Any, y: Any, repaired: bool) -> Any:
        back = stride if repaired or stride_back is None else stride_back
        order = -1 if flip and not repaired else 1
        c1 = np.tanh(convolved(x, p["c1"]["x"]) + p["c1"]["bias"])
        c2 = np.tanh(convolved(c1, p["c2"]["c1"], stride) + p["c2"]["bias"])
        flat = c2.reshape(len(y), -1)
        delta_o = (flat @ p["o"]["flat"] + p["o"]["bias"] - y) / len(y)
        delta_2 = back_through_tanh(c2, (delta_o @ p["o"]["flat"].T).reshape(c2.shape))
        W = p["c2"]["c1"] if repaired else kernel(p["c2"]["c1"])
        delta_1 = back_through_tanh(c1, sent_to_windows(delta_2, W, c1.shape[1:], back))
        return {
            "c1": {"x": kernel_gradient(x, delta_1, (3,))[::order], "bias": delta_1.sum(axis=(0, 1))},
            "c2": {"c1": kernel_gradient(c1, delta_2, (3,), back)[::order], "bias": delta_2.sum(axis=(0, 1))},
            "flat": {},
            "o": of("flat", dense(flat, delta_o)),
        }

    return program


def bias_of_other_layout(p: Any, x: Any, y: Any, repaired: bool) -> Any:
    c1 = np.tanh(convolved(x, p["c1"]["x"]) + p["c1"]["bias"])
    flat = c1.reshape(len(y), -1)
    delta_o = (flat @ p["o"]["flat"] + p["o"]["bias"] - y) / len(y)
    delta = back_through_tanh(c1, (delta_o @ p["o"]["flat"].T).reshape(c1.shape))
    return {
        "c1": {"x": kernel_gradient(x, delta, (2, 2)), "bias": delta.sum(axis=(0, 1, 2) if repaired else (0, 2, 3))},
        "flat": {},
        "o": of("flat", dense(flat, delta_o)),
    }


def pool_of(value: Step, size: int, stride: int, right: Step, wrong: Step) -> Program:
    """A pool of windows, and what sends δ back to them: of h and δ to Δ."""

    def program(p: Any, x: Any, y: Any, repaired: bool) -> Any:
        c1 = np.tanh(convolved(x, p["c1"]["x"]) + p["c1"]["bias"])
        pool = np.stack([value(c1[:, seen], axis=1) for _, (seen,) in windows_of((6,), (size,), stride)], axis=1)
        flat = pool.reshape(len(y), -1)
        delta_o = (flat @ p["o"]["flat"] + p["o"]["bias"] - y) / len(y)
        signal = (delta_o @ p["o"]["flat"].T).reshape(pool.shape)
        delta = back_through_tanh(c1, (right if repaired else wrong)(c1, signal, size, stride))
        return {
            "c1": {"x": kernel_gradient(x, delta, (2,)), "bias": delta.sum(axis=(0, 1))},
            "pool": {},
            "flat": {},
            "o": of("flat", dense(flat, delta_o)),
        }

    return program


def to_the_largest(h: Any, signal: Any, size: int, stride: int, only: int = 99, add: bool = True) -> Any:
    Delta = np.zeros_like(h)
    for (i,), (seen,) in list(windows_of((6,), (size,), stride))[:only]:
        at = h[:, seen].argmax(axis=1) + i * stride
        n, c = np.ogrid[: len(h), : h.shape[-1]]
        Delta[n, at, c] = signal[:, i] + (Delta[n, at, c] if add else 0)
    return Delta


def to_all(h: Any, signal: Any, size: int, stride: int, share: bool = True) -> Any:
    Delta = np.zeros_like(h)
    for (i,), (seen,) in windows_of((6,), (size,), stride):
        Delta[:, seen] += signal[:, i : i + 1] / (size if share else 1)
    return Delta


IN_GRAPHS = [
    case(
        "what is read twice sends its gradient on twice",
        "karpathy/micrograd, issue 2",
        DIAMOND, diamond(lambda first, second: 2 * first + second),
        "branch-twice", "h1",
    ),
    case(
        "only the first of two readers is heard",
        "TrenTorch/TrenTorch, pull request 182",
        DIAMOND, diamond(lambda first, second: first),
        "dropped-branch", "h1",
    ),
    case(
        "the gradient of the last reader overwrites",
        "NVIDIA/warp, issue 168, adjoint of matmul",
        DIAMOND, diamond(lambda first, second: second),
        "last-branch-wins | dropped-branch", "h1",
    ),
    case(
        "the second residual's skip left out",
        "paiml/entrenar, issue 313",
        RESIDUAL, second_residual_forgotten,
        "dropped-branch", "r1",
    ),
    case(
        "the gain left out of a normalised layer's signal",
        "denizyuret/Knet.jl, issue 288 (batch there, layer here); the same in a comment on pull request 763 of "
        "karpathy/llm.c",
        NORM, norm(gain=lambda delta, w: delta),
        "missing-gain", "g",
    ),
    case(
        "mean and variance taken for constants",
        "deeplearning4j/deeplearning4j, pull request 8379 (batch there, layer here)",
        NORM, norm(pull_back=lambda at, Delta: Delta / at[1]),
        "missing-variance-term", "n",
    ),
    case(
        "the gain twice in the term of the root",
        "NVIDIA/Megatron-LM, pull request 6859",
        ROOT, gain_twice_in_the_term_of_the_root,
        "",
    ),
    case(
        "added before the norm instead of after it",
        "Dao-AILab/quack, pull request 53",
        NORMED_STREAM, added_before_the_norm,
        "",
    ),
    case(
        "no causal mask on the way back",
        "triton-lang/triton, a comment on issue 7216, python/tutorials/06-fused-attention.py",
        ATTENTION, attended_without_mask,
        "missing-mask", "mix",
    ),
    case(
        "nothing handed on to the step before",
        "CaptainE/RNN-LSTM-in-numpy, issue 1, its second part",
        STEPS, nothing_from_the_next_step,
        "dropped-branch", "h1 h2",
    ),
    case(
        "of two layers with one weight the later replaces the other",
        "NVIDIA/TransformerEngine, issue 3437 and pull request 3552",
        TWICE, later_use_replaces,
        "use-left-out", "h1",
    ),
    case(
        "a tied decoder's gradient not transposed",
        "apache/singa, pull request 111",
        AUTOENCODER, decoder_not_transposed,
        "use-not-transposed", "o",
    ),
    case(
        "a sigmoid on top of the gate for its derivative",
        "CaptainE/RNN-LSTM-in-numpy, issue 1, its first part",
        CELL, cell(delta_f=lambda h, Delta: sigmoid(h) * Delta),
        "wrong-derivative", "f",
    ),
    case(
        "the forget gate's delta for another gate's bias",
        "hanbt/learn_dl, issue 53, lstm.py",
        CELL, cell(bias_i=lambda delta: delta["f"].sum(axis=0)),
        "wrong-signal", "i",
    ),
    case(
        "dropout goes back through all units, scaled",
        "ddbourgin/numpy-ml, issue 94",
        MASKED, dropout(lambda delta, mask: 2 * delta),
        "dropout-mask-forgotten | wrong-gate-factor | missing-derivative + scale", "drop", examples=with_mask,
    ),
    case(
        "dropout's p where 1 / (1 − p) belongs",
        "NVIDIA/apex, pull request 816",
        MASKED, dropout(lambda delta, mask: delta * mask * 0.25),
        "scale", examples=with_mask,
    ),
    case(
        "dropout ignored on the way back",
        "rohitg00/ai-engineering-from-scratch, pull request 17, 07-regularization/code/main.py",
        MASKED, dropout(lambda delta, mask: delta),
        "dropout-mask-forgotten + dropout-scale-forgotten | wrong-gate-factor | missing-derivative", "drop",
        examples=with_mask,
    ),
    case(
        "rows that repeat are assigned, not added",
        "HIPS/autograd, issue 39; the same in pymc-devs/pytensor, pull request 2242",
        WORDS, rows_assigned,
        "rows-overwritten", "e",
    ),
    case(
        "a word that is twice in the context counts once",
        "piskvorky/gensim, issue 242",
        CONTEXT, repeated_words_counted_once,
        "rows-overwritten", "e", loss=CROSS, size=1, examples=lambda rng: {"words": np.array([[3, 1, 3, 0]])},
    ),
    case(
        "each of equal largest elements takes all",
        "mni-ml/framework, pull request 22; BVLC/caffe, pull request 162",
        LARGEST, all_that_are_as_large,
        "maximum-at-tie", "pool",
    ),
    case(
        "the stride forgotten on the way back",
        "Kulbear/deep-learning-coursera, pull request 34",
        convolutions(2), two_convolutions(stride=2, stride_back=1),
        "stride-forgotten", "c2",
    ),
    case(
        "the kernel not rotated",
        "nntrainer/nntrainer, issue 705",
        convolutions(1), two_convolutions(kernel=lambda W: W[::-1]),
        "kernel-not-rotated", "c2",
    ),
    case(
        "the arguments of a correlation exchanged",
        "End-to-End Machine Learning, course 322, 2.5, convolution in two dimensions: backward pass",
        convolutions(1), two_convolutions(flip=True),
        "correlation-reversed", "c1 c2",
    ),
    case(
        "a bias summed as if channels came first",
        "deeplearning4j/deeplearning4j, issue 8280",
        IMAGES, bias_of_other_layout,
        "bias-over-wrong-axis", "c1",
    ),
    case(
        "windows that overlap overwrite each other",
        "hanbt/learn_dl, cnn.py; FluxML/Flux.jl, issue 1197",
        pooled(MaxPool((3,), stride=1), 4),
        pool_of(np.max, 3, 1, to_the_largest, lambda *at: to_the_largest(*at, add=False)),
        "overwritten-windows", "pool",
    ),
    case(
        "returned after the first window",
        "riccardoandreoni0/CNN-from-scratch, issue 1",
        pooled(MaxPool((2,)), 3),
        pool_of(np.max, 2, 2, to_the_largest, lambda *at: to_the_largest(*at, only=1)),
        "",
    ),
    case(
        "a mean that is not divided on the way back",
        "kakaobrain/trident, pull request 66",
        pooled(AvgPool((3,)), 2),
        pool_of(np.mean, 3, 3, to_all, lambda *at: to_all(*at, share=False)),
        "divisor-forgotten", "pool",
    ),
]  # fmt: skip
