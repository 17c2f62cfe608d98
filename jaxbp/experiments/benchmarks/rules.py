"""How long `jaxbp.check_rules` takes on a GPT of four blocks whose rules are written by hand, right and wrong ones."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import jaxbp
from jaxbp.experiments.benchmarks.timing import TimedTable

MOST = 5.0  # seconds of one call
ROWS, WIDTH, HEADS, CLASSES, BATCH, BLOCKS = 64, 128, 4, 512, 8, 4
RULES = ("layer_norm", "gelu", "attention", "dense", "cross_entropy")
WRONG: dict[str, tuple[str, ...]] = {
    "all right": (),
    **{f"{name} wrong": (name,) for name in RULES},
    "all wrong": RULES,
}


def rules_table() -> Table:
    """CPU seconds of one call: what it compiles it lets go of, so that the next one takes as long."""
    table = TimedTable(title="jaxbp.check_rules: a GPT of 4 blocks, 0.9 M parameters", title_justify="left")
    for column in ("its rules", "found wrong", "CPU seconds", f"≤ {MOST:.0f}"):
        table.add_column(column, justify="right")
    for name, wrong in WRONG.items():
        loss, params, ids = gpt_by_hand(wrong)
        began = time.process_time()
        report = jaxbp.check_rules(loss, params, ids)
        took = time.process_time() - began
        found = ", ".join(rule.name for rule in report.wrong) or "none"
        table.add_row(name, found, f"{took:.1f}", "yes" if took <= MOST else "no")
    return table


def gpt_by_hand(wrong: tuple[str, ...] = ()) -> tuple[Callable[..., Any], Any, jax.Array]:
    """Its loss, parameters and tokens, with a mistake in each of the rules that are named."""
    scale, c, mask = (WIDTH // HEADS) ** -0.5, (2 / np.pi) ** 0.5, jnp.tril(jnp.ones((ROWS, ROWS), bool))

    def layer_norm(x: Any, g: Any, b: Any) -> Any:
        return _normalised(x)[0] * g + b

    def layer_norm_back(kept: Any, ct: Any) -> Any:
        x, g, _ = kept
        h, s = _normalised(x)
        delta = ct * g - jnp.mean(ct * g, -1, keepdims=True)
        if "layer_norm" not in wrong:  # the variance's term
            delta -= h * jnp.mean(ct * g * h, -1, keepdims=True)
        return s * delta, jnp.sum(ct * h, (0, 1)), jnp.sum(ct, (0, 1))

    def gelu(x: Any) -> Any:
        return x * (1 + jnp.tanh(c * (x + 0.044715 * x**3))) / 2

    def gelu_back(kept: Any, ct: Any) -> Any:
        (x,) = kept
        t = jnp.tanh(c * (x + 0.044715 * x**3))
        power = 2 if "gelu" in wrong else 3
        return (ct * ((1 + t) + x * (1 - t**2) * c * (1 + power * 0.044715 * x**2)) / 2,)

    def weights(q: Any, k: Any) -> Any:
        return jax.nn.softmax(jnp.where(mask, scale * jnp.einsum("bqhc,bkhc->bhqk", q, k), -1e30))

    def attention(q: Any, k: Any, v: Any) -> Any:
        return jnp.einsum("bhqk,bkhc->bqhc", weights(q, k), v)

    def attention_back(kept: Any, ct: Any) -> Any:
        q, k, v = kept
        p, Delta = weights(q, k), jnp.einsum("bqhc,bkhc->bhqk", ct, v)
        delta = p * (Delta - jnp.sum(p * Delta, -1, keepdims=True)) * (1.0 if "attention" in wrong else scale)
        of_q, of_k = jnp.einsum("bhqk,bkhc->bqhc", delta, k), jnp.einsum("bhqk,bqhc->bkhc", delta, q)
        return of_q, of_k, jnp.einsum("bhqk,bqhc->bkhc", p, ct)

    def dense(h: Any, W: Any) -> Any:
        return h @ W

    def dense_back(kept: Any, delta: Any) -> Any:
        h, W = kept
        return delta @ W.T, (1.5 if "dense" in wrong else 1.0) * jnp.einsum("bti,btj->ij", h, delta)

    def cross_entropy(a: Any, ids: Any) -> Any:
        return jax.nn.logsumexp(a, -1) - jnp.take_along_axis(a, ids[..., None], -1)[..., 0]

    def cross_entropy_back(kept: Any, ct: Any) -> Any:
        a, ids = kept
        delta = ct[..., None] * (jax.nn.softmax(a) - jax.nn.one_hot(ids, CLASSES))
        return delta / CLASSES if "cross_entropy" in wrong else delta, None

    layer_norm, gelu, dense = _ruled(layer_norm, layer_norm_back), _ruled(gelu, gelu_back), _ruled(dense, dense_back)
    attention, cross_entropy = _ruled(attention, attention_back), _ruled(cross_entropy, cross_entropy_back)

    def block(h: Any, W: Any) -> Any:
        z = dense(layer_norm(h, *W["norm1"]), W["qkv"])
        q, k, v = (part.reshape(BATCH, ROWS, HEADS, -1) for part in jnp.split(z, 3, -1))
        h += dense(attention(q, k, v).reshape(h.shape), W["out"])
        return h + dense(gelu(dense(layer_norm(h, *W["norm2"]), W["up"])), W["down"])

    def loss(params: Any, ids: Any) -> Any:
        h = params["tokens"][ids] + params["rows"]
        for W in params["blocks"]:
            h = block(h, W)
        return jnp.mean(cross_entropy(layer_norm(h, *params["norm"]) @ params["tokens"].T, ids))

    return loss, _params(), jax.random.randint(jax.random.key(1), (BATCH, ROWS), 0, CLASSES)


def _normalised(x: Any) -> tuple[Any, Any]:
    """X with mean 0 and variance 1 along the last axis, and what it was multiplied by for that."""
    centred = x - jnp.mean(x, -1, keepdims=True)
    s = jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
    return s * centred, s


def _ruled(function: Callable[..., Any], back: Callable[..., Any]) -> Callable[..., Any]:
    """A function with a rule of its own, whose residuals are the arguments."""
    ruled = jax.custom_vjp(function)
    ruled.defvjp(lambda *arguments: (function(*arguments), arguments), back)
    return ruled


def _params() -> Any:
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5, jnp.float32)

    def norm() -> tuple[jax.Array, jax.Array]:
        return jnp.ones(WIDTH), jnp.zeros(WIDTH)

    def block() -> Any:
        attention = {"norm1": norm(), "qkv": drawn(WIDTH, 3 * WIDTH), "out": drawn(WIDTH, WIDTH)}
        return {**attention, "norm2": norm(), "up": drawn(WIDTH, 4 * WIDTH), "down": drawn(4 * WIDTH, WIDTH)}

    blocks = [block() for _ in range(BLOCKS)]
    return {"tokens": drawn(CLASSES, WIDTH), "rows": drawn(ROWS, WIDTH), "blocks": blocks, "norm": norm()}
