"""The reference: a scalar function at its parameters, its gradient, what rounding does to that, and its slopes."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxbp._check._compare import magnitude
from jaxbp._check._noise import Noise, steps
from jaxbp._check._paths import Paths
from jaxbp._check._trees import VALUE, Tree

_SAMPLES, _SAFETY = 4, 1.5  # right programs in bfloat16 stay below 0.4 of the worst sample


@dataclass(frozen=True, eq=False)
class Reference:
    """A function at its parameters, in float64 where it is wide, else in the dtypes in which they came."""

    f: Callable[[Any], Any]
    tree: Tree
    wide: bool = False
    as_they_came: dict[str, np.ndarray] | None = None  # value and gradients in those dtypes, where they are not wide

    def check(self) -> None:
        """Refuse what is no scalar function."""
        with self.precision():
            value = jax.eval_shape(lambda params: self.f(params), self.params)
        if not hasattr(value, "shape") or value.shape != ():
            shapes = jax.tree.map(lambda a: a.shape, value)
            raise ValueError(f"f returns an array of shape {shapes}, expected a scalar; sum or average it")
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"f returns {value.dtype}, expected a floating scalar")

    def precision(self) -> AbstractContextManager[Any]:
        """A context in which JAX has the precision of the function."""
        return jax.enable_x64(True) if self.wide else nullcontext()

    @cached_property
    def _leaves(self) -> dict[str, Any]:
        with self.precision():
            return {n: jnp.asarray(leaf, float) if self.wide else leaf for n, leaf in self.tree.leaves.items()}

    @property
    def params(self) -> Any:
        """The parameters."""
        return self.tree.of_leaves(list(self._leaves.values()))

    def _named(self, results: Iterable[Any]) -> dict[str, np.ndarray]:
        arrays = zip([VALUE, *self.tree.leaves], results, strict=True)
        return {name: np.asarray(array).astype(np.float64) for name, array in arrays}

    @cached_property
    def right(self) -> dict[str, np.ndarray]:
        """The value and the gradients by path."""
        with self.precision():
            return self._named(jaxpr_as_fun(self._program)(*self._leaves.values()))

    @cached_property
    def _program(self) -> ClosedJaxpr:
        return self.traced()

    def traced(self) -> ClosedJaxpr:
        """The program of the value and the gradients, traced anew."""
        # of a new function: what JAX keeps for the caller's own would outlive this
        with self.precision():
            return jax.make_jaxpr(jax.value_and_grad(lambda params: self.f(params)))(self.params)

    @property
    def _is_float64(self) -> bool:
        dtypes = {jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in self.tree.leaves.values()}
        return dtypes == {np.dtype(np.float64)}

    @property
    def in_its_dtypes(self) -> dict[str, np.ndarray] | None:
        """The value and the gradients, where they are in other dtypes than float64."""
        return None if self._is_float64 else self.right

    @property
    def draws_others(self) -> bool:
        """Whether f draws random numbers, which may be others in float64 than as it is."""
        drawn = (step.primitive.name == "random_bits" for step in steps(self._program.jaxpr))
        return not self._is_float64 and any(drawn)

    @property
    def epsilon(self) -> float:
        """The rounding of the coarsest format that f itself computes in."""
        results = [variable.aval for step in steps(self._program.jaxpr) for variable in step.outvars]
        dtypes = [aval.dtype for aval in results if isinstance(aval, ShapedArray)]
        return max((float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating)), default=0.0)

    def rounding_errors(self, epsilon: float) -> dict[str, float]:
        """The largest error of any element of each quantity that rounding can explain.

        The program of jax.grad runs a few times with every number changed at random by up to three units of its last
        digit, since some programs round more than once for each quantity. And jax.grad itself is not wrong in the
        dtypes in which the parameters came.
        """
        came = self.as_they_came or self.right
        errors = {name: 2 * magnitude(array - self.right[name]) for name, array in came.items()}
        for seed in range(_SAMPLES):
            with self.precision():
                noise = Noise(3 * epsilon, np.random.default_rng(seed))
                noisy = self._named(noise.run(self._program, list(self._leaves.values())))
            errors = {
                name: max(error, _SAFETY * magnitude(noisy[name] - self.right[name])) for name, error in errors.items()
            }
        return errors

    @property
    def paths(self) -> Paths | None:
        """The function with its sums; None where it is not in float64."""
        if not self.wide:
            return None
        with self.precision():
            program = jax.make_jaxpr(lambda *leaves: self.f(self.tree.of_leaves(leaves)))(*self._leaves.values())
        return Paths(program, self._leaves, self.right)

    def slopes(self, name: str, direction: np.ndarray) -> tuple[float, float]:
        """The one-sided derivatives along a direction of one leaf, by differences of the second order."""
        step = 1e-5 * self.scale(name)

        def value(steps: int) -> float:
            with self.precision():
                moved = {**self._leaves, name: self._leaves[name] + steps * step * direction}
                return float(self.f(self.tree.of_leaves(list(moved.values()))))

        here = float(self.right[VALUE])
        left = (3 * here - 4 * value(-1) + value(-2)) / (2 * step)
        return left, (4 * value(1) - 3 * here - value(2)) / (2 * step)

    def scale(self, name: str) -> float:
        """The largest element of one leaf, or 1."""
        return magnitude(np.asarray(self.tree.leaves[name], np.float64)) or 1.0
