"""Check a hand gradient of any scalar JAX function: the numbers tell where, and of some mistakes which.

Without a graph there is no order of computation: leaves are compared one by one, in the order in which JAX flattens
the tree, and only mistakes that can be made after the fact are known: in signs, constants, shapes and places.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import lgamma, log, log10, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params

from jaxbp._check._findings import errors
from jaxbp._check._report import Finding, Mistake, Report
from jaxbp._checks import check_floating, quoted, suggestion

_VALUE = "f(params)"  # no path has this name: a key that is no identifier stands in brackets
_SAMPLES, _SAFETY = 4, 1.5  # right programs in bfloat16 stay below 0.4 of the worst sample
_MOST_ON_CORNERS, _CHUNK = 256, 8
_MOST_ROWS = 1024
_CHANCE = 3.0  # a mistake is claimed where numbers at random would show it once in 10³ times
_MOST_MISTAKES = 2


def check_function(f: Callable[[Any], Any], params: Any, mine: Any) -> Report:
    """Compare a hand gradient of any scalar JAX function with `jax.grad`, and say where it goes wrong and why.

    The reference is `jax.grad` of f in float64, whatever the dtypes; where that and what was handed in differ, central
    differences are asked too. Then the mistakes that can be told without a graph (signs, constants, transposes,
    places, sums over a broadcast axis, blocks of zeros) are evaluated, up to two of them together.

    Args:
        f: A pure JAX function of one tree of floating arrays that returns a scalar; it is differentiated as it is, so
            hand in `jax.jit(f)` where that is slow.
        params: The tree.
        mine: The gradient as a tree like `params`, of arrays or nested lists; or a function `params -> gradients` or
            `params -> (value, gradients)`.

    Returns:
        `Report(verdict, first_wrong, explanations, …)`, which prints as a few lines. Each leaf is named by its path,
        such as `h1.W`, `layers[0].b` or `['no identifier']`; an array that is the whole tree is `params`, and the
        value is `f(params)`.

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
    at = _At(f, _Tree.of(params), wide=True)
    at.check()
    handed = _handed_in(at.tree, params, mine)
    at, compared = _compared(at, handed)
    notes = [] if at.wide else [_ANOTHER]
    findings = tuple(leaf.finding for leaf in compared)
    wrong = [leaf for leaf in compared if leaf.wrong]
    if not wrong:
        rounded = any(finding.status == "precision" for finding in findings)
        return Report("precision" if rounded else "right", findings, notes=tuple(notes))
    on_corners = _on_corners(at, wrong) if at.wide else {}
    if on_corners is not None and all(leaf.name in on_corners for leaf in wrong):
        notes += [
            f"{count} of {at.tree[name].size} elements of {name} sit on a corner of f, where every slope between those "
            "on its two sides is valid"
            for name, count in on_corners.items()
        ]
        return Report("kink", findings, notes=tuple(notes))
    finite = all(np.all(np.isfinite(leaf.mine)) and np.all(np.isfinite(leaf.right)) for leaf in compared)
    grads = [leaf for leaf in compared if leaf.name != _VALUE]
    # whole numbers need not be rounded ones: first they are taken at their word
    found = (
        (_explanations(grads) or _explanations([leaf.rounded(handed.resolution) for leaf in grads])) if finite else []
    )
    notes += _second_opinion(at, wrong) if at.wide else []
    return Report("wrong", findings, wrong[0].name, _where(compared), tuple(found), tuple(notes))


_ANOTHER = (
    "f has another value in float64, as where it draws random numbers: the reference is jax.grad of f as it is; draw "
    "random numbers outside of f for a stricter check"
)


# Trees: paths as names, and what was handed in.


@dataclass(frozen=True, eq=False)
class _Tree:
    """A tree of floating arrays by path."""

    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    treedef: Any

    @classmethod
    def of(cls, params: Any) -> "_Tree":
        with_paths, treedef = jax.tree_util.tree_flatten_with_path(params)
        if not with_paths:
            raise ValueError("params holds no arrays, expected a tree of at least one")
        names = tuple(_name(path) for path, _ in with_paths)
        for name, (_, leaf) in zip(names, with_paths, strict=True):
            check_floating(leaf, name)
        return cls(names, tuple(leaf for _, leaf in with_paths), treedef)

    def __getitem__(self, name: str) -> Any:
        return self.leaves[self.names.index(name)]


def _name(path: Sequence[Any]) -> str:
    """A key path as one would write it: `h1.W`, `layers[0].b`; `params` for the whole."""
    name = "".join(_key(key) for key in path)
    return name.removeprefix(".") or "params"


def _key(key: Any) -> str:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return f".{key.name}"
    inner = getattr(key, "key", getattr(key, "idx", key))
    return f".{inner}" if isinstance(inner, str) and inner.isidentifier() else f"[{inner!r}]"


@dataclass(frozen=True, eq=False)
class _Handed:
    """Gradients by path and perhaps the value, in float64 and in the shape in which they came."""

    arrays: dict[str, np.ndarray]
    epsilon: float
    largest: float
    resolution: float


def _handed_in(tree: _Tree, params: Any, mine: Any) -> _Handed:
    read = _read_result(tree, params, mine(params)) if callable(mine) else _read(tree, params, mine)
    # jax computes in no more than this, also where numpy's float64 came in
    dtypes = [jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in tree.leaves]
    dtypes += [array.dtype for array in read.values() if jnp.issubdtype(array.dtype, jnp.floating)]
    formats = [jnp.finfo(dtype) for dtype in dtypes]
    arrays = {name: array.astype(np.float64) for name, array in read.items()}
    epsilon, largest = max(float(f.eps) for f in formats), min(float(f.max) for f in formats)
    return _Handed(arrays, epsilon, largest, _resolution(list(arrays.values())))


def _as_numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        what = f"an array of {array.dtype}" if array.dtype != object else f"{value!r:.80}"
        raise TypeError(f"{name} is {what}, expected an array of real numbers, all rows of one length")
    return array


def _resolution(arrays: Sequence[np.ndarray]) -> float:
    """Half a unit of the last decimal where all numbers are rounded decimals, which are right as far as these go."""
    numbers = np.concatenate([array.ravel() for array in arrays])
    numbers = numbers[np.isfinite(numbers) & (numbers != 0)]
    for decimals in range(1, 11):
        if numbers.size and np.all(np.abs(np.round(numbers, decimals) - numbers) <= 1e-15 * np.abs(numbers)):
            return 0.5 * 10.0**-decimals
    return 0.0


def _read_result(tree: _Tree, params: Any, result: Any) -> dict[str, np.ndarray]:
    """The gradients, or (value, gradients), that a function returned; the former where both can be meant."""
    if type(result) is not tuple:
        return _read(tree, params, result)
    if isinstance(params, tuple):
        try:
            return _read(tree, params, result)
        except (TypeError, ValueError):
            if len(result) != 2 or (len(params) == 2 and np.ndim(result[0]) != 0):
                raise
    elif len(result) != 2:
        raise ValueError(f"the function returned {len(result)} results; return the gradients, or (value, gradients)")
    value = _as_numbers(_VALUE, result[0])
    if value.shape != ():
        raise ValueError(f"{_VALUE} has shape {value.shape}, expected a scalar; return (value, gradients)")
    return {_VALUE: value, **_read(tree, params, result[1])}


def _read(tree: _Tree, params: Any, mine: Any) -> dict[str, np.ndarray]:
    read = dict(_walk((), params, mine))
    for name, leaf in zip(tree.names, tree.leaves, strict=True):
        if not _shape_fits(read[name].shape, leaf.shape):
            raise ValueError(f"{name} has shape {read[name].shape}, expected {leaf.shape}")
    return {name: read[name] for name in tree.names}


def _walk(path: tuple[Any, ...], params: Any, mine: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays by name, found by going down both trees together."""
    expected = _children(params)
    if expected is None:
        if isinstance(mine, Mapping):
            raise TypeError(f"{_name(path)} is a dict, expected an array of shape {params.shape} as in params")
        yield _name(path), _as_numbers(_name(path), mine)
        return
    holder = f"{'what was handed in' if not path else _name(path)}"
    got = _children(mine)
    like = f"{type(params).__name__} of {quoted(_label(key) for key in expected)} as in params"
    if got is None or isinstance(params, Mapping) != isinstance(mine, Mapping):
        what = "an array" if hasattr(mine, "dtype") else f"of type {type(mine).__name__}"
        raise TypeError(f"{holder} is {what}, expected a {like}")
    for key in got:
        if key not in expected:
            near = suggestion(_label(key), [_label(other) for other in expected])
            raise ValueError(f"{holder} holds {_label(key)!r}, expected a {like}{near}")
    for key, child in expected.items():
        if key not in got:
            raise ValueError(f"{holder} holds no {_label(key)!r}, expected a {like}")
        yield from _walk((*path, key), child, got[key])


def _label(key: Any) -> str:
    return _key(key).removeprefix(".")


def _children(node: Any) -> dict[Any, Any] | None:
    """What is directly below a node of a tree, by key; None for a leaf."""
    if isinstance(node, Mapping) and type(node) is not dict:
        node = dict(node)
    below, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda other: other is not node)
    if len(below) == 1 and below[0][0] == ():
        return None
    return {path[0]: child for path, child in below}


def _shape_fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a shape is the expected one, or one that a known mistake gives."""
    return shape in (expected, expected[::-1]) or bool(_extra_axes(shape, expected))


def _extra_axes(shape: tuple[int, ...], expected: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which an array of the expected shape is broadcast to a shape; none where it is not."""
    leading = len(shape) - len(expected)
    if leading < 0:
        return ()
    axes = list(range(leading))
    for axis, (got, length) in enumerate(zip(shape[leading:], expected, strict=True), leading):
        if length == 1 and got != 1:
            axes.append(axis)
        elif got != length:
            return ()
    return tuple(axes)


# The reference, and what rounding explains.


@dataclass(frozen=True, eq=False)
class _At:
    """A function at its parameters: in float64, or in the dtypes as they came."""

    f: Callable[[Any], Any]
    tree: _Tree
    wide: bool

    def precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if self.wide else nullcontext()

    @cached_property
    def params(self) -> Any:
        leaves = self.tree.leaves
        with self.precision():
            return self.tree.treedef.unflatten([jnp.asarray(leaf, float) for leaf in leaves] if self.wide else leaves)

    def check(self) -> None:
        """Refuse what is no scalar function."""
        if not callable(self.f):
            raise TypeError(f"f is of type {type(self.f).__name__}, expected a function of params")
        with self.precision():
            value = jax.eval_shape(self.f, self.params)
        if not hasattr(value, "shape") or value.shape != ():
            shapes = jax.tree.map(lambda a: a.shape, value)
            raise ValueError(f"f returns an array of shape {shapes}, expected a scalar; sum or average it")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"f returns {value.dtype}, expected a floating scalar")

    def named(self, value: Any, grads: Any) -> dict[str, np.ndarray]:
        leaves = self.tree.treedef.flatten_up_to(grads)
        arrays = {_VALUE: value, **dict(zip(self.tree.names, leaves, strict=True))}
        return {name: np.asarray(array).astype(np.float64) for name, array in arrays.items()}

    @cached_property
    def right(self) -> dict[str, np.ndarray]:
        with self.precision():
            return self.named(*jax.value_and_grad(self.f)(self.params))

    @cached_property
    def own(self) -> dict[str, np.ndarray]:
        """What jax.grad has in the dtypes as they came."""
        return self.right if not self.wide else _At(self.f, self.tree, wide=False).right

    @cached_property
    def own_is_another_function(self) -> bool:
        """Whether float64 changes more than roundings: random numbers are others under it."""
        if not self.wide or jax.config.read("jax_enable_x64"):
            return False
        with jax.enable_x64(True):
            narrow = self.tree.treedef.unflatten(
                [jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in self.own_leaves]
            )
            value = float(self.f(narrow))
        epsilon = max(float(jnp.finfo(leaf.dtype).eps) for leaf in self.own_leaves)
        ours = float(self.own[_VALUE])
        return abs(value - ours) > 64 * epsilon * abs(ours) + self.rounding(epsilon)[_VALUE]

    @cached_property
    def own_leaves(self) -> list[Any]:
        return [np.asarray(leaf).astype(jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in self.tree.leaves]

    @cached_property
    def program(self) -> ClosedJaxpr:
        with self.precision():
            return jax.make_jaxpr(jax.value_and_grad(self.f))(self.params)

    @cached_property
    def epsilon_inside(self) -> float:
        """The rounding of the coarsest format that f itself computes in."""
        return max((float(jnp.finfo(dtype).eps) for dtype in _dtypes(self.program.jaxpr)), default=0.0)

    def rounding(self, epsilon: float) -> dict[str, float]:
        """The largest error of any element of each quantity that rounding every number of jax.grad explains."""
        leaves = jax.tree.leaves(self.params)
        worst = dict.fromkeys(self.right, 0.0)
        for seed in range(_SAMPLES):
            with self.precision():
                # some programs round more often than once for each quantity
                noise = _Noise(3 * epsilon, np.random.default_rng(seed))
                value, *grads = noise.run(self.program.jaxpr, self.program.consts, leaves)
                noisy = self.named(value, self.tree.treedef.unflatten(grads))
            worst = {name: max(worst[name], _largest(array - self.right[name])) for name, array in noisy.items()}
        return {name: _SAFETY * error for name, error in worst.items()}

    def rounding_as_it_is(self) -> dict[str, float]:
        """The error of jax.grad itself in the dtypes as they came."""
        return {name: 2 * _largest(array - self.right[name]) for name, array in self.own.items()}


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array), initial=0, where=np.isfinite(array)))


def _dtypes(jaxpr: Jaxpr) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        for inner in jaxprs_in_params(eqn.params):
            yield from _dtypes(inner)
        for variable in eqn.outvars:
            dtype = getattr(variable.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
                yield dtype


_CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "custom_jvp_call", "custom_vjp_call"}
# what others round is nothing: they copy, choose and compare, and equal numbers have to stay equal for them
_SUMS = {"cumsum", "dot_general", "reduce_sum"}
_ROUNDING = {
    "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cholesky", "cond",
    "conv_general_dilated", "cos", "cosh", "cumlogsumexp", "cumprod",
    "custom_linear_solve", "digamma", "div", "eigh", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
    "fft", "integer_pow", "lgamma", "log", "log1p", "logistic", "lu", "mul", "pow", "qr", "ragged_dot",
    "reduce_prod", "reduce_window_sum", "rsqrt", "scan", "scatter-add", "scatter_add", "sin", "sinh",
    "sqrt", "square", "sub", "svd", "tan", "tanh", "triangular_solve", "while",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Noise:
    """Runs a program with what each of its steps rounds, and every number that goes in, changed by up to epsilon."""

    epsilon: float
    rng: np.random.Generator

    def rounded(self, value: Any, by: Any = None) -> Any:
        dtype = getattr(value, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return value
        value, by = np.asarray(value), np.asarray(value if by is None else by)
        return (value + self.epsilon * self.rng.uniform(-1, 1, value.shape) * by).astype(dtype)

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any], inner: bool = False) -> list[Any]:
        values: dict[Any, Any] = {}
        given = [*consts, *inputs]
        values.update(zip([*jaxpr.constvars, *jaxpr.invars], given if inner else map(self.rounded, given), strict=True))
        for eqn in jaxpr.eqns:
            operands = [v.val if isinstance(v, Literal) else values[v] for v in eqn.invars]
            if eqn.primitive.name in _CALLS:
                called = eqn.params["call_jaxpr" if "call_jaxpr" in eqn.params else "jaxpr"]
                body, its_consts = (called.jaxpr, called.consts) if isinstance(called, ClosedJaxpr) else (called, ())
                results = self.run(body, its_consts, operands, inner=True)
            else:
                result = eqn.primitive.bind(*operands, **eqn.params)
                results = result if eqn.primitive.multiple_results else [result]
                if eqn.primitive.name in _SUMS:
                    # every partial sum is rounded, and may be larger than the sum
                    largest = eqn.primitive.bind(*map(np.abs, operands), **eqn.params)
                    results = [self.rounded(result, by=largest)]
                elif eqn.primitive.name in _ROUNDING:
                    results = [self.rounded(result) for result in results]
            values.update(zip(eqn.outvars, results, strict=True))
        return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


# The comparison.


@dataclass(frozen=True, eq=False)
class _Leaf:
    """One array that was handed in beside the right one.

    Attributes:
        name: Its path.
        mine: What was handed in.
        right: What it is, in the shape of the parameter.
        off: Which elements are off.
        error: The error up to which a right program may go.
        epsilon: The relative size of one rounding.
        finding: The comparison in words.
    """

    name: str
    mine: np.ndarray
    right: np.ndarray
    off: np.ndarray
    error: float
    epsilon: float
    finding: Finding

    @property
    def relative(self) -> float:
        """The error of a prediction, relative to its largest element, that the format allows at least."""
        return min(max(1e-8, 100 * self.epsilon), 0.03)

    @property
    def wrong(self) -> bool:
        return self.finding.status == "wrong"

    @property
    def size(self) -> float:
        return _largest(self.right)

    def rounded(self, resolution: float) -> "_Leaf":
        """The leaf, printed with a few decimals."""
        return replace(self, error=self.error + resolution)

    def allowed(self, predicted: np.ndarray) -> float:
        # rounding grows with what is rounded: a mistake may make a gradient larger than it should be
        size = max(_largest(self.mine), _largest(predicted))
        return self.relative * size + self.error * max(1, size / self.size if self.size else 1)

    def is_(self, predicted: np.ndarray) -> bool:
        """Whether a prediction gives what was handed in."""
        if predicted.shape != self.mine.shape:
            return False
        return bool(np.all(np.abs(self.mine - predicted) <= self.allowed(predicted)))

    def digits(self, predicted: np.ndarray) -> float:
        """How improbable it is, as a power of ten, that one number agrees so well with a prediction by chance."""
        size = max(_largest(self.mine), _largest(predicted))
        return -log10(max(_largest(self.mine - predicted) / size, self.epsilon / 2, 1e-12)) if size else 0.0


def _compared(at: _At, handed: _Handed) -> tuple[_At, list[_Leaf]]:
    """Every array beside the right one; what rounding explains is estimated only where it matters."""
    compared = _with_tolerance(at, handed, handed.epsilon, dict.fromkeys(at.right, 0.0))
    if not any(leaf.wrong for leaf in compared):
        return at, compared
    epsilon = max(handed.epsilon, at.epsilon_inside)
    tolerated = at.rounding(epsilon)
    compared = _with_tolerance(at, handed, epsilon, tolerated)
    if not any(leaf.wrong for leaf in compared):
        return at, compared
    if at.own_is_another_function:
        return _compared(_At(at.f, at.tree, wide=False), handed)
    as_it_is = at.rounding_as_it_is()
    tolerated = {name: max(tolerated[name], as_it_is[name]) for name in tolerated}
    return at, _with_tolerance(at, handed, epsilon, tolerated)


def _with_tolerance(at: _At, handed: _Handed, epsilon: float, tolerated: Mapping[str, float]) -> list[_Leaf]:
    return [_leaf(name, mine, at.right[name], epsilon, handed, tolerated[name]) for name, mine in handed.arrays.items()]


def _leaf(name: str, mine: np.ndarray, right: np.ndarray, epsilon: float, handed: _Handed, tolerated: float) -> _Leaf:
    expected, remark = _in_shape_of(mine, right)
    broken = int(np.count_nonzero(~np.isfinite(mine)))
    if broken:
        remark = f"{broken} of its {mine.size} elements {'is' if broken == 1 else 'are'} NaN or infinite"
    size = _largest(expected)
    # half precision rounds as much in one step as others in a whole pass
    strict = (64 if epsilon < 1e-5 else 4) * max(epsilon, 1e-13) * size
    allowed = max(strict, tolerated, handed.resolution * (1 + 1e-9))
    error = errors(mine, expected, handed.largest, tolerated)
    misshapen = mine.shape != right.shape
    off = np.full(mine.shape, fill_value=True) if misshapen else error > allowed
    count = int(np.count_nonzero(off))
    largest = float(np.max(error, initial=0))
    worst = tuple(map(int, np.unravel_index(int(np.argmax(error)), error.shape))) if error.size else ()
    status = "wrong" if count or misshapen else "precision" if largest > strict else "right"
    relative = largest / size if size else float(np.inf if largest else 0)
    at_worst = (float(mine[worst]), float(expected[worst])) if error.size else (0.0, 0.0)
    finding = Finding(name, status, worst, *at_worst, relative, count, max(1, mine.size), remark)
    return _Leaf(name, mine, right, off, tolerated, epsilon, finding)


def _in_shape_of(mine: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, str]:
    """The right array in the shape of what was handed in, and what is the matter with that."""
    if mine.shape == right.shape:
        return right, ""
    if axes := _extra_axes(mine.shape, right.shape):
        words = f"its shape {mine.shape}, not {right.shape}, is not yet summed over {_axes(axes)}"
        return np.broadcast_to(right, mine.shape), words
    return right.T, f"its shape {mine.shape} is that of the transpose"


def _axes(axes: Sequence[int]) -> str:
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


def _where(compared: Sequence[_Leaf]) -> str:
    wrong = [leaf for leaf in compared if leaf.wrong]
    text = f"{len(wrong)} of {len(compared)} leaves {'is' if len(wrong) == 1 else 'are'} wrong: "
    return text + ", ".join(leaf.name + _place(_box(leaf.off), leaf.mine.shape) for leaf in wrong)


# Second opinions.


def _values(at: _At, name: str, moves: np.ndarray) -> np.ndarray:
    """The values of f where one leaf is moved by each of some arrays."""
    i, leaves = at.tree.names.index(name), jax.tree.leaves(at.params)

    def value(move: jax.Array) -> Any:
        return at.f(at.tree.treedef.unflatten([*leaves[:i], leaves[i] + move, *leaves[i + 1 :]]))

    with at.precision():
        return np.asarray(jax.vmap(value)(jnp.asarray(moves)))


def _second_opinion(at: _At, wrong: Iterable[_Leaf]) -> list[str]:
    """What central differences say where jax.grad and the hand gradient differ."""
    notes: list[str] = []
    for leaf in wrong:
        if leaf.name == _VALUE or not leaf.right.size:
            continue
        direction = np.random.default_rng(0).normal(size=leaf.right.shape)
        direction /= np.linalg.norm(direction)
        step = 1e-5 * (_largest(np.asarray(at.tree[leaf.name], np.float64)) or 1)
        above, below = _values(at, leaf.name, step * np.stack([direction, -direction]))
        theirs, ours = float(above - below) / (2 * step), float(np.vdot(leaf.right, direction))
        if not abs(theirs - ours) <= 1e-5 * max(np.linalg.norm(leaf.right), abs(at.right[_VALUE])):
            notes.append(
                f"the two references disagree at {leaf.name}: along a random direction jax.grad has {ours:.6g}, "
                f"central differences {theirs:.6g}; f has a corner here, or a derivative rule of its own is wrong"
            )
    return notes


def _on_corners(at: _At, wrong: Sequence[_Leaf]) -> dict[str, int] | None:
    """How many elements of each leaf sit on a corner; None where what was handed in is no slope beside one."""
    leaves = [leaf for leaf in wrong if leaf.mine.shape == leaf.right.shape and leaf.name != _VALUE]
    if len(leaves) < len(wrong) or sum(leaf.finding.off for leaf in wrong) > _MOST_ON_CORNERS:
        return None
    for leaf in leaves:
        places = np.flatnonzero(leaf.off)
        for start in range(0, places.size, _CHUNK):
            some = places[start : start + _CHUNK]
            if not np.all(_between_slopes(at, leaf, some)):
                return None
    return {leaf.name: leaf.finding.off for leaf in leaves}


def _between_slopes(at: _At, leaf: _Leaf, places: np.ndarray) -> np.ndarray:
    """Whether each of some elements, as handed in, lies between two different one-sided derivatives."""
    scale = _largest(np.asarray(at.tree[leaf.name], np.float64)) or 1.0
    step = 1e-5 * scale
    multiples = np.array([-2, -1, 1, 2])
    moves = np.zeros((_CHUNK, 4, leaf.right.size))  # as many for every leaf: one compilation does for all
    moves[np.arange(places.size)[:, None], np.arange(4), places[:, None]] = step * multiples
    values = _values(at, leaf.name, moves.reshape(_CHUNK * 4, *leaf.right.shape)).reshape(_CHUNK, 4)[: places.size]
    here = float(at.right[_VALUE])
    left = (3 * here - 4 * values[:, 1] + values[:, 0]) / (2 * step)
    right = (4 * values[:, 2] - 3 * here - values[:, 3]) / (2 * step)
    mine = leaf.mine.ravel()[places]
    size = np.maximum(np.abs(left), np.abs(right))
    corner = np.abs(left - right) > 1e-3 * size + 1e-9 * abs(here) / scale
    slack = leaf.error + leaf.relative * size + 1e-6 * np.abs(right - left)
    return corner & (np.minimum(left, right) - slack <= mine) & (mine <= np.maximum(left, right) + slack)


# Mistakes.


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A mistake that gives what was handed in for some of the wrong leaves.

    Attributes:
        slug: Its name.
        leaves: The leaves that it explains.
        text: What it is, of leaves in words.
        divisible: Whether it can have been made in some of these leaves only.
    """

    slug: str
    leaves: tuple[str, ...]
    text: Callable[[str], str]
    divisible: bool = True

    def mistake(self, names: Sequence[str], everything: Sequence[str]) -> Mistake:
        whole = len(everything) > 1 and set(names) == set(everything)
        subject = "the whole gradient" if whole else f"the gradient of {_listed(names)}"
        return Mistake(self.slug, names[0] if len(names) == 1 else None, self.text(subject))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _explanations(compared: Sequence[_Leaf]) -> list[tuple[Mistake, ...]]:
    """The smallest sets of mistakes that give everything that was handed in; none if no known ones do."""
    wrong = [leaf for leaf in compared if leaf.wrong]
    if not wrong:
        return []
    candidates = [
        *_scaled(wrong), *_transposed(wrong), *_zeroed(wrong), *_swapped(wrong), *_reordered(wrong), *_unsummed(wrong)
    ]  # fmt: skip
    names = tuple(leaf.name for leaf in wrong)
    # what is zero anyway is negated too
    everything = [leaf.name for leaf in compared if leaf.wrong or leaf.size]
    found: list[tuple[Mistake, ...]] = []
    for many in range(1, _MOST_MISTAKES + 1):
        for together in combinations(candidates, many):
            parts = _parts(together, names)
            if parts is not None:
                made = [c.mistake(part, everything) for c, part in zip(together, parts, strict=True)]
                found.append(tuple(made))
        if found:
            break
    return list(dict.fromkeys(found))


def _parts(together: Sequence[_Candidate], names: Sequence[str]) -> list[tuple[str, ...]] | None:
    """Which leaves each of some mistakes explains, so that each leaf is explained once; None if they cannot."""
    left = list(names)
    parts: list[tuple[str, ...]] = []
    for candidate in sorted(together, key=lambda c: c.divisible):
        part = tuple(name for name in candidate.leaves if name in left)
        if not part or (len(part) < len(candidate.leaves) and not candidate.divisible):
            return None
        parts.append(part)
        left = [name for name in left if name not in part]
    in_order = dict(zip(map(id, sorted(together, key=lambda c: c.divisible)), parts, strict=True))
    return None if left else [in_order[id(candidate)] for candidate in together]


def _scaled(wrong: Sequence[_Leaf]) -> Iterator[_Candidate]:
    """Signs and constant factors; leaves with the same factor share it."""
    factors = [-1.0]
    for leaf in wrong:
        if leaf.mine.shape == leaf.right.shape and leaf.size:
            c = float(np.vdot(leaf.right, leaf.mine) / np.vdot(leaf.right, leaf.right))
            simple = _simple(c)
            factors += [simple] if _fit(simple, leaf) else [c]
    factors = [c for c in factors if c]
    explained: list[tuple[str, ...]] = []
    for c in dict.fromkeys(factors):
        fitting = [leaf for leaf in wrong if _fit(c, leaf)]
        evidence = sum(leaf.finding.off * leaf.digits(c * leaf.right) for leaf in fitting)
        digits = max((leaf.digits(c * leaf.right) for leaf in fitting), default=0.0)
        free = log10(2 * max(abs(c), 1 / abs(c))) if c == _simple(c) else digits  # what it costs to choose c
        names = tuple(leaf.name for leaf in fitting)
        if fitting and evidence - free >= _CHANCE and names not in explained:
            explained.append(names)
            slug, words = ("sign", "is negated") if c == -1 else ("scale", f"is {_times(c)}")
            yield _Candidate(slug, names, lambda subject, words=words: f"{subject} {words}")


def _fit(c: float, leaf: _Leaf) -> bool:
    return c != 0 and leaf.is_(c * leaf.right)


def _simple(c: float) -> float:
    """The nearest whole number or one divided by one."""
    if c == 0 or not np.isfinite(c):
        return 0.0
    return float(round(c)) if abs(c) >= 1 else 1 / round(1 / c)


def _times(c: float) -> str:
    if c != _simple(c):
        return f"{c:.6g} times the right one, in every element"
    if c == 2:
        return "2 times the right one, as when the ½ of a square is forgotten or a term is counted twice"
    if c == 0.5:
        return "1/2 of the right one, as when a square is differentiated without its 2"
    if abs(c) >= 1:
        return f"{c:.0f} times the right one, as when a sum over {abs(c):.0f} examples is meant to be a mean"
    return f"{'−' if c < 0 else ''}1/{abs(1 / c):.0f} of the right one, as when a mean is meant to be a sum"


def _transposed(wrong: Sequence[_Leaf]) -> Iterator[_Candidate]:
    names = tuple(
        leaf.name
        for leaf in wrong
        if leaf.right.ndim == 2 and leaf.is_(leaf.right.T) and leaf.finding.off * leaf.digits(leaf.right.T) >= _CHANCE
    )
    if names:
        yield _Candidate("transpose", names, lambda subject: f"{subject} is the transpose of the right one")


def _zeroed(wrong: Sequence[_Leaf]) -> Iterator[_Candidate]:
    """Leaves, and blocks of leaves, that are zero while everything else is right."""
    whole = tuple(leaf.name for leaf in wrong if leaf.mine.shape == leaf.right.shape and not leaf.mine.any())
    if whole:
        yield _Candidate("zeroed-block", whole, lambda subject: f"{subject} is zero throughout")
    for leaf in wrong:
        if leaf.name in whole or leaf.mine.shape != leaf.right.shape:
            continue
        box = _box(leaf.off)
        if not leaf.mine[box].any():
            place = leaf.name + _place(box, leaf.mine.shape)
            text = f"the gradient of {place} is zero, while everything else of {leaf.name} is right"
            yield _Candidate("zeroed-block", (leaf.name,), lambda _, text=text: text)


def _box(off: np.ndarray) -> tuple[slice, ...]:
    """The smallest block that holds all elements that are off."""
    return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.argwhere(off).T)


def _place(box: Sequence[slice], shape: Sequence[int]) -> str:
    """A block as an index; nothing where it is the whole."""
    if all(part.stop - part.start == length for part, length in zip(box, shape, strict=True)):
        return ""
    parts = [
        ":" if part.stop - part.start == length
        else str(part.start) if part.stop - part.start == 1
        else f"{part.start}:{part.stop}"
        for part, length in zip(box, shape, strict=True)
    ]  # fmt: skip
    return f"[{', '.join(parts)}]"


def _swapped(wrong: Sequence[_Leaf]) -> Iterator[_Candidate]:
    """Leaves of equal shape that hold each other's gradients."""
    for one, other in combinations(wrong, 2):
        if one.right.shape != other.right.shape or not (one.is_(other.right) and other.is_(one.right)):
            continue
        evidence = sum(a.finding.off * a.digits(b.right) for a, b in ((one, other), (other, one)))
        if evidence >= _CHANCE:
            text = f"the gradients of {one.name} and {other.name} are swapped"
            yield _Candidate("permuted-leaves", (one.name, other.name), lambda _, text=text: text, divisible=False)


def _reordered(wrong: Sequence[_Leaf]) -> Iterator[_Candidate]:
    """Leaves whose rows, columns or slices along another axis stand in another order."""
    for leaf in wrong:
        if leaf.mine.shape != leaf.right.shape:
            continue
        for axis in range(leaf.right.ndim):
            order = _order(leaf, axis)
            if order is None:
                continue
            what = "elements" if leaf.right.ndim == 1 else ("rows", "columns")[axis] if axis < 2 else "slices"
            along = f" along axis {axis}" if leaf.right.ndim > 2 else ""
            text = f"the {what} of the gradient of {leaf.name}{along} are {_in_words(order)}"
            yield _Candidate("permuted-rows", (leaf.name,), lambda _, text=text: text)


def _order(leaf: _Leaf, axis: int) -> list[int] | None:
    """Which right row stands in the place of each; None where they do not fit one to one, or chance would do it."""
    n = leaf.right.shape[axis]
    if not 2 <= n <= _MOST_ROWS:
        return None
    mine, right = (np.moveaxis(array, axis, 0).reshape(n, -1) for array in (leaf.mine, leaf.right))
    distances = np.array([np.max(np.abs(right - row), axis=1) for row in mine])
    order = np.argmin(distances, axis=1)
    nearest, second = np.partition(distances, 1, axis=1)[:, :2].T
    if len(set(order)) < n or np.any(second <= 3 * nearest + leaf.relative * leaf.size):
        return None
    predicted = np.take(leaf.right, order, axis)
    evidence = leaf.finding.off * leaf.digits(predicted) - lgamma(n + 1) / log(10)
    return order.tolist() if leaf.is_(predicted) and evidence >= _CHANCE else None


def _in_words(order: Sequence[int]) -> str:
    n = len(order)
    moved = [i for i, j in enumerate(order) if i != j]
    if len(moved) == 2:
        return f"in another order: {moved[0]} and {moved[1]} are swapped"
    if list(order) == list(range(n))[::-1]:
        return "reversed"
    if all(j == (i + order[0]) % n for i, j in enumerate(order)):
        shift = -order[0] % n
        return f"rolled by {shift if shift <= n // 2 else shift - n}".replace("-", "−")
    shown = ", ".join(map(str, order[:8])) + (", …" if n > 8 else "")
    return f"in another order: they are the right ones' {shown}"


def _unsummed(wrong: Sequence[_Leaf]) -> Iterator[_Candidate]:
    """Leaves that still have the axes along which their parameter is broadcast."""
    for leaf in wrong:
        axes = _extra_axes(leaf.mine.shape, leaf.right.shape)
        if not axes:
            continue
        summed = leaf.mine.sum(axes).reshape(leaf.right.shape)
        examples = prod(leaf.mine.shape[axis] for axis in axes)
        for words, candidate in (("sum", summed), ("mean", summed / examples)):
            allowed = leaf.relative * _largest(leaf.mine) * examples + leaf.error
            if leaf.size <= allowed or np.any(np.abs(candidate - leaf.right) > allowed):
                continue
            if leaf.right.size * log10(leaf.size / allowed) >= _CHANCE:
                text = (
                    f"{leaf.name} is broadcast, so its gradient is the {words} over {_axes(axes)} of what was handed "
                    f"in, of shape {leaf.right.shape}, not {leaf.mine.shape}"
                )
                yield _Candidate("missing-broadcast-sum", (leaf.name,), lambda _, text=text: text)
