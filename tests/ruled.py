"""Custom rules written by hand: right ones, every mistake planted, and what is done on purpose."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)
X, Y, Z = (jnp.asarray(RNG.normal(size=(4, 3))) for _ in range(3))
SQUARE, OTHER = (jnp.asarray(RNG.normal(size=(3, 3))) for _ in range(2))
B = jnp.asarray(RNG.normal(size=3))
CORNERS = X.at[0, 0].set(0.0).at[2, 1].set(0.0)
LARGE = 100 * X
HALVED = "scale: the gradient of x is 1/2 of the right one, as when a square is differentiated without its 2"
THE_VALUE = "value-for-derivative: the gradient of x is the cotangent times the function's value"


@dataclass(frozen=True)
class Ruled:
    """A function with a rule at its arguments, the verdict it deserves, and what is said of which argument."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    verdict: str
    argument: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        return self.function.__name__


RULED: list[Ruled] = []
PLACES: dict[str, int] = {}


def ruled(args, verdict="right", argument="", why="", *, bwd=None, fwd=None, jvp=None, nondiff=(), symbolic=False):
    """Give a function its rule; the residuals are the arguments where no forward rule is given."""

    def decorated(function):
        PLACES[function.__name__] = function.__code__.co_firstlineno
        if jvp:
            rule = jax.custom_jvp(function, nondiff_argnums=nondiff)
            rule.defjvp(jvp, symbolic_zeros=symbolic)
        else:
            rule = jax.custom_vjp(function, nondiff_argnums=nondiff)
            kept = fwd or (lambda *a: (function(*a), tuple(x for i, x in enumerate(a) if i not in nondiff)))
            kept.__signature__ = inspect.signature(function)  # JAX has the arguments' names from there
            rule.defvjp(kept, bwd, symbolic_zeros=symbolic)
        RULED.append(Ruled(rule, args, verdict, argument, why))
        return rule

    return decorated


# one argument


@ruled((X,), bwd=lambda r, g: (g * jnp.cos(r[0]),))
def sine(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "sign: ", bwd=lambda r, g: (-g * jnp.cos(r[0]),))
def sine_negated(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", HALVED, bwd=lambda r, g: (g * jnp.cos(r[0]) / 2,))
def sine_halved(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "scale: the gradient of x is 0.1234 times", bwd=lambda r, g: (0.1234 * g * jnp.cos(r[0]),))
def sine_scaled(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "cotangent-handed-on: ", bwd=lambda r, g: (g,))
def sine_handed_on(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", THE_VALUE, bwd=lambda r, g: (g * jnp.sin(r[0]),))
def sine_value(x):
    return jnp.sin(x)


@ruled(
    (X,),
    "wrong",
    "x",
    "value-for-derivative: the gradient of x is the cotangent times x itself",
    bwd=lambda r, g: (g * r[0],),
)
def squashed_by_the_argument(x):
    return jnp.tanh(x)


@ruled((X,), "wrong", "x", "it does not depend on the cotangent", bwd=lambda r, g: (jnp.cos(r[0]),))
def sine_without_cotangent(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "it is not linear", bwd=lambda r, g: (jnp.clip(g * jnp.cos(r[0]), -9, 9),))
def sine_clipped(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "", bwd=lambda r, g: (g * g * jnp.cos(r[0]),))
def sine_squared_cotangent(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "the value", "another value", fwd=lambda x: (jnp.cos(x), x), bwd=lambda x, g: (g * jnp.cos(x),))
def sine_of_another_value(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "", bwd=lambda r, g: (g * jnp.cos(r[0]) * jnp.ones((4, 1)).at[2].set(0),))
def sine_without_a_row(x):
    return jnp.sin(x)


@ruled((X,), "wrong", "x", "", bwd=lambda r, g: (g * jnp.cos(r[0]) / jnp.zeros(()),))
def sine_of_no_number(x):
    return jnp.sin(x)


@ruled((X,), bwd=lambda r, g: (jnp.cumsum(g[::-1], 0)[::-1],))
def running_sum(x):
    return jnp.cumsum(x, 0)


@ruled((X,), "wrong", "x", "", bwd=lambda r, g: (jnp.cumsum(g, 0),))
def running_sum_forwards(x):
    return jnp.cumsum(x, 0)


@ruled((X,), fwd=lambda x: (jnp.tanh(x), jnp.tanh(x)), bwd=lambda h, g: (g * (1 - h**2),))
def squashed(x):
    return jnp.tanh(x)


@ruled((X,), "wrong", "x", "", fwd=lambda x: (jnp.tanh(x), x), bwd=lambda x, g: (g * (1 - x**2),))
def squashed_at_the_input(x):
    return jnp.tanh(x)


# several arguments


@ruled((X, Y), bwd=lambda r, g: (g * r[1], g * r[0]))
def product(x, w):
    return x * w


@ruled((X, Y), "wrong", "x", "gradients-swapped: ", bwd=lambda r, g: (g * r[0], g * r[1]))
def product_swapped(x, w):
    return x * w


@ruled((X, Y), "wrong", "w", "missing-gradient: ", bwd=lambda r, g: (g * r[1], None))
def product_missing(x, w):
    return x * w


@ruled((X, Y), "wrong", "w", "missing-gradient: ", bwd=lambda r, g: (g * r[1], jnp.zeros_like(g)))
def product_zero(x, w):
    return x * w


@ruled((X, SQUARE), bwd=lambda r, g: (g @ r[1].T, r[0].T @ g))
def dense(x, W):
    return x @ W


@ruled((X, SQUARE), "wrong", "W", "transposed: ", bwd=lambda r, g: (g @ r[1].T, g.T @ r[0]))
def dense_transposed(x, W):
    return x @ W


@ruled((X, SQUARE), "wrong", "x", "", bwd=lambda r, g: (g @ r[1], r[0].T @ g))
def dense_by_rows(x, W):
    return x @ W


@ruled((X, B), bwd=lambda r, g: (g, g.sum(0)))
def shifted(x, b):
    return x + b[None]


@ruled((X, B), "wrong", "b", "missing-broadcast-sum: the gradient of b is the mean", bwd=lambda r, g: (g, g.mean(0)))
def shifted_mean(x, b):
    return x + b[None]


@ruled(
    (X, B),
    "wrong",
    "b",
    "missing-broadcast-sum: the gradient of b is the cotangent of the first row",
    bwd=lambda r, g: (g, g[0]),
)
def shifted_first(x, b):
    return x + b[None]


@ruled((X, B), "wrong", "", "the rule raises ValueError", bwd=lambda r, g: (g, g))
def shifted_unsummed(x, b):
    return x + b[None]


@ruled((X, B), "wrong", "", "the rule raises TypeError", bwd=lambda r, g: (g,))
def shifted_one_short(x, b):
    return x + b[None]


@ruled(({"a": X, "b": Y},), bwd=lambda r, g: ({"a": g * r[0]["b"], "b": g * r[0]["a"]},))
def of_a_tree(tree):
    return tree["a"] * tree["b"]


@ruled(
    ({"a": X, "b": Y},), "wrong", "tree['b']", "sign: ", bwd=lambda r, g: ({"a": g * r[0]["b"], "b": -g * r[0]["a"]},)
)
def of_a_tree_negated(tree):
    return tree["a"] * tree["b"]


# several outputs


@ruled((X,), bwd=lambda r, g: (g[0] * jnp.cos(r[0]) - g[1] * jnp.sin(r[0]),))
def both(x):
    return jnp.sin(x), jnp.cos(x)


@ruled((X,), "wrong", "x", "", bwd=lambda r, g: (g[0] * jnp.cos(r[0]),))
def both_but_one(x):
    return jnp.sin(x), jnp.cos(x)


@ruled((X,), "wrong", "x", "", bwd=lambda r, g: (g[1] * jnp.cos(r[0]) - g[0] * jnp.sin(r[0]),))
def both_exchanged(x):
    return jnp.sin(x), jnp.cos(x)


@ruled((X,), bwd=lambda r, g: (g[0] * jnp.cos(r[0]),))
def with_places(x):
    return jnp.sin(x), jnp.argmax(x, 1)


# integers and what has no derivative


@ruled((X, jnp.asarray(3)), bwd=lambda r, g: (g * r[1], None))
def times_integer(x, n):
    return x * n


@ruled((X, jnp.asarray(3)), "wrong", "x", "scale: the gradient of x is 1/3 ", bwd=lambda r, g: (g, None))
def times_integer_forgotten(x, n):
    return x * n


@ruled((X, jnp.array([0, 2, 2, 1, 2])), bwd=lambda r, g: (jnp.zeros_like(r[0]).at[r[1]].add(g), None))
def rows(table, ids):
    return table[ids]


@ruled(
    (X, jnp.array([0, 2, 2, 1, 2])), "wrong", "table", "", bwd=lambda r, g: (jnp.zeros_like(r[0]).at[r[1]].set(g), None)
)
def rows_overwritten(table, ids):
    return table[ids]


@ruled((3, X), nondiff=(0,), bwd=lambda n, r, g: (n * g * r[0] ** (n - 1),))
def power(n, x):
    return x**n


@ruled(
    (3, X), "wrong", "x", "scale: the gradient of x is 1/3 ", nondiff=(0,), bwd=lambda n, r, g: (g * r[0] ** (n - 1),)
)
def power_without_exponent(n, x):
    return x**n


@ruled((jnp.sin, X), nondiff=(0,), bwd=lambda f, r, g: (jax.vjp(f, 2 * r[0])[1](g)[0] * 2,))
def twice_inside(f, x):
    return f(2 * x)


@ruled((jnp.sin, X), "wrong", "x", HALVED, nondiff=(0,), bwd=lambda f, r, g: jax.vjp(f, 2 * r[0])[1](g))
def twice_inside_forgotten(f, x):
    return f(2 * x)


# symbolic zeros


def _product_by_need(x, w):
    return x.value * w.value, (x.value if w.perturbed else None, w.value if x.perturbed else None)


def _product_by_too_little(x, w):
    return x.value * w.value, (x.value if w.perturbed and x.perturbed else None, w.value if x.perturbed else None)


def _pulled_by_need(r, g):
    x, w = r
    return (None if w is None else g * w), (None if x is None else g * x)


@ruled((X, Y), fwd=_product_by_need, bwd=_pulled_by_need, symbolic=True)
def by_need(x, w):
    return x * w


@ruled((X, Y), "wrong", "w", "missing-gradient: ", fwd=_product_by_too_little, bwd=_pulled_by_need, symbolic=True)
def by_too_little(x, w):
    return x * w


def _tangent(zero_for, sign=1.0):
    def jvp(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        terms = [t * other for t, other in ((dx, w), (dw, sign * x)) if type(t) is not zero_for]
        return x * w, sum(terms, jnp.zeros_like(x))

    return jvp


@ruled((X, Y), jvp=_tangent(jax.custom_derivatives.SymbolicZero), symbolic=True)
def forward_by_need(x, w):
    return x * w


@ruled((X, Y), "wrong", "w", "sign: ", jvp=_tangent(jax.custom_derivatives.SymbolicZero, -1.0), symbolic=True)
def forward_by_need_negated(x, w):
    return x * w


# forward rules


@ruled((X,), jvp=lambda p, t: (jnp.sin(*p), jnp.cos(*p) * t[0]))
def forward_sine(x):
    return jnp.sin(x)


@ruled(
    (X,), "wrong", "x", "scale: the gradient of x is 2 times", jvp=lambda p, t: (jnp.sin(*p), 2 * jnp.cos(*p) * t[0])
)
def forward_sine_doubled(x):
    return jnp.sin(x)


def _softmax_jvp(whole):
    def jvp(p, t):
        s = jax.nn.softmax(*p)
        return s, s * (t[0] - whole * jnp.sum(s * t[0], -1, keepdims=True))

    return jvp


@ruled((X,), jvp=_softmax_jvp(1.0))
def normalised(x):
    return jax.nn.softmax(x)


def _layer_norm_bwd(of_mean, of_square):
    def bwd(kept, g):
        spread = jnp.std(kept[0], -1, keepdims=True)
        h = (kept[0] - jnp.mean(kept[0], -1, keepdims=True)) / spread
        back = of_mean * g.mean(-1, keepdims=True) + of_square * h * (h * g).mean(-1, keepdims=True)
        return ((g - back) / spread,)

    return bwd


def _layer_norm(x):
    mean = jnp.mean(x, -1, keepdims=True)
    return (x - mean) / jnp.std(x, -1, keepdims=True)


def _constant(name, line):
    line += _layer_norm.__code__.co_firstlineno
    return f"missing-path: the gradient of x takes {name} (line {line} of _layer_norm) to be constant"


@ruled((X,), bwd=_layer_norm_bwd(1, 1))
def layer_norm(x):
    return _layer_norm(x)


@ruled((X,), "wrong", "x", _constant("mean", 1), bwd=_layer_norm_bwd(0, 1))
def layer_norm_without_mean(x):
    return _layer_norm(x)


@ruled((X,), "wrong", "x", _constant("std", 2), bwd=_layer_norm_bwd(1, 0))
def layer_norm_without_spread(x):
    return _layer_norm(x)


@ruled((X,), "wrong", "x", THE_VALUE, jvp=_softmax_jvp(0.0))
def normalised_without_the_sum(x):
    return jax.nn.softmax(x)


# corners, and numbers that autodiff does not give


@ruled((CORNERS,), "kink", bwd=lambda r, g: (g * (r[0] >= 0),))
def rectified(x):
    return jnp.maximum(x, 0.0)


@ruled((CORNERS,), "wrong", "x", "cotangent-handed-on: ", bwd=lambda r, g: (g,))
def rectified_everywhere(x):
    return jnp.maximum(x, 0.0)


@ruled((CORNERS,), "wrong", "x", "", bwd=lambda r, g: (g * (r[0] < 0),))
def rectified_below(x):
    return jnp.maximum(x, 0.0)


@ruled(
    (CORNERS,),
    "wrong",
    "x",
    "all that is off has an argument that is negative",
    bwd=lambda r, g: (jnp.where(r[0] < 0, 0.1 * g, g),),
)
def rectified_leaking(x):
    return jnp.maximum(x, 0.0)


@ruled((-jnp.abs(X),), "wrong", "x", "", bwd=lambda r, g: (0.1 * g,))
def rectified_leaking_where_all_is_off(x):
    return jnp.maximum(x, 0.0)


@ruled(
    (jnp.abs(CORNERS),),
    "kink",
    bwd=lambda r, g: (jnp.where(r[0] > 0, g * jnp.log(jnp.where(r[0] > 0, r[0], 1)) + g, 0),),
)
def entropy(x):
    return jnp.where(x > 0, x * jnp.log(x), 0.0)


@ruled((CORNERS.at[0, 1].set(-jnp.inf),), bwd=lambda r, g: (g[:, None] * jax.nn.softmax(r[0]),))
def partition(x):
    return jax.nn.logsumexp(x, -1)


# on purpose


@ruled((LARGE,), "on purpose", "x", "flat", bwd=lambda r, g: (g,))
def rounded(x):
    return jnp.round(x)


@ruled((X,), "on purpose", "x", "flat", bwd=lambda r, g: (g * (jnp.abs(r[0]) < 1),))
def binary(x):
    return jnp.sign(x)


@ruled((X,), "on purpose", "x", "as it is", bwd=lambda r, g: (-0.5 * g,))
def reversed_gradient(x):
    return x


@ruled((X,), "on purpose", "x", "as it is", bwd=lambda r, g: (jnp.clip(g, -0.1, 0.1),))
def clipped_gradient(x):
    return jax.lax.optimization_barrier(x)


@ruled((X,), "on purpose", "x", "central differences say the same", bwd=lambda r, g: (g * jnp.cos(r[0]),))
def stopped(x):
    return jnp.sin(jax.lax.stop_gradient(x))


def _root(a):
    return jax.lax.while_loop(lambda s: s[1] < 30, lambda s: ((s[0] + a / s[0]) / 2, s[1] + 1), (a + 1, 0))[0]


@ruled(
    (jnp.abs(X) + 0.5,),
    "on purpose",
    "a",
    "say the same",
    fwd=lambda a: (_root(a), _root(a)),
    bwd=lambda h, g: (g / h / 2,),
)
def root(a):
    return _root(a)


@ruled(
    (jnp.abs(X) + 0.5,), "wrong", "a", "say otherwise", fwd=lambda a: (_root(a), _root(a)), bwd=lambda h, g: (g / h,)
)
def root_without_its_half(a):
    return _root(a)


@ruled((0.3 * X,), "on purpose", "a", "in loops", fwd=lambda a: (fixed_point.fun(a), fixed_point.fun(a)),
       bwd=lambda h, g: (g / (1 - 0.3 * (1 - (h - 0) ** 2 * 0) * 1),))  # fmt: skip
def fixed_point(a):
    return jax.lax.fori_loop(0, 6, lambda _, z: 0.3 * z + a, jnp.zeros_like(a))


def _outside(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


@ruled((X,), "on purpose", "x", "say the same", fwd=lambda x: (_outside(x), x), bwd=lambda x, g: (g * jnp.cos(x),))
def outside(x):
    return _outside(x)


# rules within rules, and what insists on its dtype


@ruled(
    (X,),
    "on purpose",
    "x",
    "central differences say the same",
    bwd=lambda r, g: (-g * jnp.sin(jnp.sin(r[0])) * jnp.cos(r[0]),),
)
def around_a_wrong_one(x):
    return jnp.cos(sine_negated(x))


@ruled((jnp.asarray(X, jnp.float32),), bwd=lambda r, g: (jnp.asarray(g * jnp.cos(r[0]), jnp.float32),))
def narrow(x):
    return jnp.sin(jnp.asarray(x, jnp.float32))


@ruled(
    (jnp.asarray(X, jnp.float32),),
    "wrong",
    "x",
    HALVED,
    bwd=lambda r, g: (jnp.asarray(g * jnp.cos(r[0]) / 2, jnp.float32),),
)
def narrow_halved(x):
    return jnp.sin(jnp.asarray(x, jnp.float32))


@ruled((X,), bwd=lambda r, g: (g * jnp.cos(r[0].astype(g.dtype)),))
def in_bfloat16(x):
    return jnp.sin(x.astype(jnp.bfloat16)).astype(float)
