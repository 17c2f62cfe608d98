"""Whether an optimizer treats each element of some weights by itself, read off the program of its update.

Then the update of a layer alone is the layer of the update of all. Of every value in the program we note which weights
it is made of, where elements met on the way, and where something came in that differs from place to place.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# fmt: off
ELEMENTWISE = frozenset((
    "abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos",
    "cosh", "div", "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le",
    "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "optimization_barrier", "or", "pow", "real", "reduce_precision", "rem", "round", "rsqrt", "select_n",
    "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor",
))
# fmt: on
SAME_SHAPE = frozenset(("broadcast_in_dim", "reshape", "squeeze", "expand_dims"))


@dataclass(frozen=True)
class Made:
    """What a value in the program is made of.

    Attributes:
        of: The numbers of the weights; gradient, parameter and state of a weight have the same.
        met: Where its elements met with others, such as in a sum.
        own: Where something came in that differs from place to place, such as noise.
        form: The formula, without shapes, as a hash.
    """

    of: frozenset[int] = frozenset()
    met: str | None = None
    own: str | None = None
    form: int = 0


@dataclass(frozen=True)
class Tracer:
    """Follows what is made of what; the default name is for where no transformation's own is found."""

    name: str

    def through(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Made]) -> list[Made]:
        """What the results of a program are made of."""
        made: dict[Any, Made] = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            made[var] = _constant(const, self.name)

        def of(var: Any) -> Made:
            return _constant(var.val, self.name) if isinstance(var, Literal) else made[var]

        for eqn in jaxpr.eqns:
            made |= zip(eqn.outvars, self._by_equation(eqn, [of(var) for var in eqn.invars]), strict=True)
        return [of(var) for var in jaxpr.outvars]

    def _by_equation(self, eqn: Any, inputs: list[Made]) -> list[Made]:
        within, what = Tracer(_transformation(eqn) or self.name), eqn.primitive.name
        if what == "cond":
            which, *arguments = inputs
            branches = [within.through(branch.jaxpr, branch.consts, arguments) for branch in eqn.params["branches"]]
            return [_joined(what, [which, *ends]) for ends in zip(*branches, strict=True)]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if isinstance(inner, ClosedJaxpr) and len(inner.jaxpr.invars) == len(inputs) and what not in ("scan", "while"):
            return within.through(inner.jaxpr, inner.consts, inputs)
        where = f"{within.name} ({what})"
        return [self._one(what, where, eqn, inputs, i, var.aval.shape) for i, var in enumerate(eqn.outvars)]

    def _one(self, what: str, where: str, eqn: Any, inputs: list[Made], i: int, shape: tuple[int, ...]) -> Made:
        made = _joined((what, i), inputs)
        keeps = what in SAME_SHAPE and eqn.invars[0].aval.shape in ((), shape)
        if what in ELEMENTWISE or keeps:
            return made
        if made.of:
            return Made(made.of, made.met or where, made.own, made.form)
        return Made(made.of, None, (made.own or where) if shape else None, made.form)


def _joined(what: Any, inputs: Iterable[Made]) -> Made:
    inputs = list(inputs)
    return Made(
        frozenset().union(*(made.of for made in inputs)),
        next((made.met for made in inputs if made.met), None),
        next((made.own for made in inputs if made.own), None),
        hash((what, *(made.form for made in inputs))),
    )


def _constant(value: Any, name: str) -> Made:
    shape = np.shape(value)
    return Made(own=f"{name} (a constant of shape {shape})") if shape else Made(form=hash(str(value)))


def _transformation(eqn: Any) -> str | None:
    """The name of the transformation that an equation comes from: the function that made the innermost `update`."""
    traceback = eqn.source_info.traceback
    names = [] if traceback is None else [frame.function_name for frame in traceback.frames]
    found = (re.search(r"(\w+)\.<locals>\.update\w*$", name) for name in names)
    return next((match[1] for match in found if match and match[1] not in ("chain", "named_chain")), None)


def refuse_joint(
    optimizer: optax.GradientTransformation,
    params: Any,
    opt_state: Any,
    weights: Sequence[int | None],
    depths: Sequence[int | None],
    clips: str,
) -> None:
    """Refuse an optimizer whose update of one layer is not what it makes of that layer among all.

    Args:
        optimizer: The optimizer.
        params: The parameters, or their shapes.
        opt_state: Its state, or its shapes.
        weights: For each leaf of the state the number of the weight that it has an element for each of; or None.
        depths: For each weight the number of layers, where it is updated layer by layer; else None.
        clips: What to do instead of clipping by the norm of all.
    """
    name = getattr(optimizer.update, "__qualname__", "the optimizer").split(".<locals>")[0]
    numbers = [*range(len(depths)), *weights]
    layered = {i for i, depth in enumerate(depths) if depth is not None}
    among_all = _made(name, optimizer, params, opt_state, numbers, frozenset())
    for number, value in zip(numbers, among_all, strict=True):
        _check(number, value, layered, name, clips)
    for depth in {depths[i] for i in layered}:
        cut = frozenset(i for i in layered if depths[i] == depth)
        try:
            alone = _made(name, optimizer, params, opt_state, numbers, cut)
        except Exception as error:
            raise ValueError(f"{name} cannot update one layer alone, {OTHERWISE}: {error}") from error
        for number, one, all_ in zip(numbers, alone, among_all, strict=True):
            if number in cut and one.form != all_.form:
                raise ValueError(
                    f"{name} makes something else of the weights of one layer than of those of all in one array: their "
                    f"shape matters to it, {OTHERWISE}"
                )


def _made(
    name: str,
    optimizer: optax.GradientTransformation,
    params: Any,
    opt_state: Any,
    numbers: list[int | None],
    cut: frozenset[int],
) -> list[Made]:
    """What an update and the state after it are made of, where there is one layer only of some weights."""

    def of(tree: Any, numbers: Sequence[int | None]) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        shapes = (
            jax.ShapeDtypeStruct((1, *leaf.shape[1:]) if number in cut else leaf.shape, leaf.dtype)
            for leaf, number in zip(leaves, numbers, strict=True)
        )
        return structure.unflatten(shapes)

    own = numbers[: len(jax.tree.leaves(params))]
    W, state = of(params, own), of(opt_state, numbers[len(own) :])
    program = jax.make_jaxpr(optimizer.update)(W, state, W)
    inputs = [
        Made(frozenset(() if number is None else (number,)), form=hash(("input", i)))
        for i, number in enumerate([*numbers, *own])
    ]
    return Tracer(name).through(program.jaxpr, program.consts, inputs)


OTHERWISE = "so its updates cannot be fused; use gradient=jaxbp.value_and_grad(net, loss)"


def _check(number: int | None, value: Made, layered: set[int], name: str, clips: str) -> None:
    # what is not updated layer by layer is updated together, at the end
    if value.of - {number} if number in layered else value.of & layered:
        clipping = f"; {clips}" if (value.met or "").startswith("clip_by_global_norm") else ""
        raise ValueError(
            f"fused updates have the gradient of one layer at a time, but {value.met or name} needs those of several "
            f"weights together, {OTHERWISE}{clipping}"
        )
    if number in layered and value.met:
        raise ValueError(
            f"fused updates have the gradient of one layer at a time, but {value.met} takes the elements of a weight "
            f"together, and those of all layers are in one array, {OTHERWISE}"
        )
    if number in layered and value.own:
        raise ValueError(
            f"{value.own} brings in values of its own for each place in an array with all layers, such as noise or a "
            f"mask, {OTHERWISE}"
        )
