"""Which mistake explains a wrong derivative of one argument: the judge's search, over the arguments as leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxbp._check._compare import Tolerance, magnitude
from jaxbp._check._explained import explain
from jaxbp._check._gradient import Called
from jaxbp._check._paths import Paths
from jaxbp._check._walk import Observed
from jaxbp._check._walks import Leaves
from jaxbp._rules._applied import Applied, Rule


@dataclass(frozen=True, eq=False)
class At:
    """A wrong derivative of one argument, beside all else that the rule gave there."""

    rule: Rule
    applied: Applied
    i: int
    off: np.ndarray
    names: Sequence[str]

    @property
    def mine(self) -> np.ndarray:
        """What the rule gives."""
        return self.applied.mine[0][self.i]

    @property
    def expected(self) -> np.ndarray:
        """What autodiff gives."""
        assert self.applied.expected is not None
        return self.applied.expected[0][self.i]

    @property
    def start(self) -> Leaves:
        """The arguments as the leaves of a tree, with their right derivatives."""
        at, names = self.applied, self.names
        assert at.expected is not None
        operands = {names[i]: np.asarray(at.operands[i], np.float64) for i in at.expected[0]}
        called = Called(operands, list(at.cotangents[0].values()), list(at.outputs.values()))
        return Leaves(operands, {names[i]: array for i, array in at.expected[0].items()}, called)

    @property
    def paths(self) -> Paths | None:
        """⟨ȳ, g(x)⟩ of the function that the rule stands for; None where it is complex, or on several devices."""
        at, results = self.applied, self.rule.results
        arrays = [*at.operands, *self.rule.drawn_cotangents()[0]]
        if self.rule.use.over is not None or any(array.dtype.kind == "c" for array in arrays):
            return None

        def of_arguments(*arguments: Any) -> Any:
            operands = list(at.operands)
            for i, x in zip(self.rule.differentiated, arguments, strict=True):
                operands[i] = x
            outputs = jaxpr_as_fun(self.rule.primal)(*operands)
            return sum(jnp.vdot(at.cotangents[0][k], outputs[k]) for k in results)

        inputs = {self.names[i]: at.operands[i] for i in self.rule.differentiated}
        with jax.enable_x64(True):
            return Paths(jax.make_jaxpr(of_arguments)(*inputs.values()), inputs, self.start.right)


def mistakes(at: At) -> str:
    """The mistake that gives these numbers, or what can be said of them without a name."""
    if at.off.any() and all(np.all(np.isfinite(array)) for array in (at.mine, at.expected)):
        name, start = at.names[at.i], at.start
        tolerance = Tolerance(at.rule.epsilon, 0.0, magnitude(at.expected))
        observed = Observed({name: at.mine}, {name: tolerance})
        explained = explain(start, observed, start.right)
        if not explained.alternatives:
            explained = explain(replace(start, paths=at.paths), observed, start.right)
        for together in explained.alternatives:
            return " and ".join(f"{mistake.slug}: {mistake.text}" for mistake in together)
    return "; ".join(_said_of_numbers(at))


def _said_of_numbers(at: At) -> Iterator[str]:
    mine, expected = at.applied.mine, at.applied.expected
    assert expected is not None
    if np.array_equal(mine[0][at.i], mine[1][at.i]):
        yield "it does not depend on the cotangent"
    elif not at.off.any():
        yield "it is not linear in the cotangent: right for small ones, and not for large ones"
    x = np.asarray(at.applied.operands[at.i])
    if x.shape == at.off.shape and x.dtype.kind == "f" and at.off.any() and not at.off.all():
        for words, where in (("negative", x < 0), ("positive", x > 0), ("0", x == 0)):
            if np.all(where[at.off]):
                yield f"all that is off has an argument that is {words}"
    if at.off.any() and not at.off.all() and np.all(at.expected[at.off] == 0):
        yield "it is off only where autodiff gives 0"
