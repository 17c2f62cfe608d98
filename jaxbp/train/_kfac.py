"""K-FAC: natural gradients by a Kronecker-factored approximation to the curvature, made of the sweep."""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxbp._backprop import backprop
from jaxbp._cache import bounded_cache
from jaxbp._checks import check_choice, check_integer, check_number
from jaxbp._network import Network
from jaxbp._objective import check_objective, head, objective
from jaxbp._parameters import Params, check_params
from jaxbp.collect._curvature import Columns
from jaxbp.losses import Loss
from jaxbp.train._kfac_blocks import Block, blocks_of
from jaxbp.train._kfac_factors import BlockFactors, Rows, inverses_of, moved, no_factors, preconditioned
from jaxbp.train._kfac_model import Model, dot, model_along

SHRINKS = 19 / 20  # what damping is multiplied by, for each step, where the model can be trusted
FIRST = 3  # steps that each have inverses of their own, for there are no averages yet


class KFACState(NamedTuple):
    """What K-FAC keeps between steps.

    Attributes:
        step: The number of updates made, an int32 scalar.
        damping: λ.
        factors: The moving averages A and G of each block, or its diagonal, by the name of the weight.
        inverses: Their damped inverses.
        velocity: The last update, a tree like the parameters.
        learning_rate: α of the last update.
        momentum: μ of the last update.
        ratio: ρ, what the loss fell by over what the model had said, as last measured; 1 before.
    """

    step: Array
    damping: Array
    factors: dict[str, Any]
    inverses: dict[str, Any]
    velocity: Params
    learning_rate: Array
    momentum: Array
    ratio: Array


@dataclass(frozen=True)
class KFAC:
    """The rule of `kfac`, which says what the attributes are."""

    net: Network
    loss: Loss
    learning_rate: float | None
    momentum: float | None
    damping: float
    weight_decay: float
    norm_bound: float | None
    average: float
    factors_every: int
    factors_of: int
    model_of: int
    inverses_every: int
    adapt_every: int | None
    least_damping: float
    samples: int | None
    rows: Rows
    seed: int

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the curvature."""
        return blocks_of(self.net)

    def init(self, params: Params) -> KFACState:
        """The state before the first step."""
        check_params(self.net, params)
        dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(params)), jnp.float32)
        zero = jnp.zeros((), dtype)
        return KFACState(
            jnp.zeros((), jnp.int32),
            jnp.asarray(self.damping, dtype) + zero,
            {block.name: no_factors(block, dtype) for block in self.blocks},
            {block.name: no_factors(block, dtype) for block in self.blocks},
            jax.tree.map(jnp.zeros_like, params),
            zero + 0,
            zero + 0,
            zero + 1,
        )

    def update(
        self,
        grads: Params,
        state: KFACState,
        params: Params | None = None,
        *,
        x: Any = None,
        y: Any = None,
        weights: Any = None,
        key: Array | None = None,
        value: Any = None,
        **others: Any,
    ) -> tuple[Params, KFACState]:
        """The update of one batch, and the state after it."""
        del others
        if params is None or x is None or y is None:
            raise ValueError(
                "kfac needs the parameters and the batch that the gradient is of: update(grads, state, params, x=x, "
                "y=y); jaxbp.train.step, epoch and run pass them, and jaxbp.train.fused does not"
            )
        check_params(self.net, params)
        batch = _Batch(params, x, y, weights, key)
        if self.weight_decay:
            grads = jax.tree.map(lambda g, W: g + jnp.asarray(self.weight_decay, g.dtype) * W, grads, params)
        factors = self._every(self.factors_every, state.step, lambda: self._factors(state, batch), state.factors)
        gamma = state.damping + self.weight_decay
        inverses = self._every(
            self.inverses_every, state.step, lambda: inverses_of(factors, gamma), state.inverses, FIRST
        )
        natural = preconditioned(self.blocks, inverses, grads)
        direction = self.net.plan.tree(lambda place: -natural[place])
        c, updates, model = self._step(grads, state, batch, direction, value)
        said = None if model is None else model.along(c)
        damping, ratio = self._adapted(grads, updates, state, batch, said, value)
        after = KFACState(state.step + 1, damping, factors, inverses, updates, c[0], c[1], ratio)
        return updates, after

    @staticmethod
    def _every(number: int, count: Array, make: Any, kept: Any, first: int = 0) -> Any:
        """What is made every so many steps, and in the first few."""
        if number == 1:
            return make()
        return jax.lax.cond((count % number == 0) | (count < first), make, lambda: kept)

    def _factors(self, state: KFACState, batch: "_Batch") -> dict[str, Any]:
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        columns = Columns() if self.samples is None else Columns(self.samples, key)
        collect = {"factors": BlockFactors(self.blocks, columns, self.rows)}
        some = batch.each(self.factors_of)
        back = backprop(
            self.net, self.loss, some.params, some.x, some.y, weights=some.weights, key=some.key, collect=collect
        )
        before = state.step // self.factors_every
        keeps = jnp.minimum(1 - 1 / (before + 1.0), self.average)
        return moved(state.factors, back.collected["factors"], keeps)

    def _step(
        self, grads: Params, state: KFACState, batch: "_Batch", direction: Params, value: Any
    ) -> tuple[Array, Params, Model | None]:
        """α and μ, α Δ + μ v, and the model along both, where there is one."""
        v, dtype, model = state.velocity, state.damping.dtype, None
        if self.learning_rate is not None and self.momentum is not None:
            c = jnp.asarray([self.learning_rate, self.momentum], dtype)
            if self.norm_bound is not None:  # −∇Lᵀ Δ is the curvature of Δ, as far as the factors say it
                bent = -dot(grads, direction) * self.learning_rate**2
                c = c * jnp.stack([self._within(bent), jnp.ones((), dtype)]).astype(dtype)
        else:
            model = self._model(grads, batch, [direction, v])
            c = model.least(state.damping, self.learning_rate, self.momentum).astype(dtype)
            if value is not None:
                decay = 0.5 * self.weight_decay * dot(batch.params, batch.params)
                c = c * model.within(c, state.damping, value + decay).astype(dtype)
            if self.norm_bound is not None:
                c = c * self._within(model.bent(c)).astype(dtype)
        updates = jax.tree.map(lambda d, w: c[0].astype(d.dtype) * d + c[1].astype(w.dtype) * w, direction, v)
        return c, updates, model

    def _within(self, bent: Array) -> Array:
        """What a step of this curvature is multiplied by, so that the bound holds."""
        assert self.norm_bound is not None
        return jnp.where(bent > self.norm_bound, jnp.sqrt(self.norm_bound / jnp.where(bent > 0, bent, 1)), 1)

    def _adapted(
        self, grads: Params, updates: Params, state: KFACState, batch: "_Batch", said: Array | None, before: Any
    ) -> tuple[Array, Array]:
        """λ and ρ after a step: less damping where the loss fell as the model said, more where it did not."""
        if self.adapt_every is None:
            return state.damping, state.ratio
        every, dtype = self.adapt_every, state.damping.dtype
        value = objective(self.net, self.loss)

        def adapted() -> tuple[Array, Array]:
            model = said if said is not None else self._model(grads, batch, [updates]).along(jnp.ones(1, dtype))
            after = optax.apply_updates(batch.params, updates)
            start = value(*batch[:4], key=batch.key) if before is None else before
            fell = value(after, *batch[1:4], key=batch.key) - start
            fell = fell + 0.5 * self.weight_decay * (dot(after, after) - dot(batch.params, batch.params))
            ratio = jnp.where(model < 0, fell / jnp.where(model < 0, model, -1), -1).astype(dtype)
            factor = SHRINKS**every
            # a ratio that is no number is none to be trusted
            change = jnp.where(ratio > 0.75, factor, jnp.where(ratio >= 0.25, 1, 1 / factor)).astype(dtype)
            return jnp.maximum(change * state.damping, jnp.asarray(self.least_damping, dtype)), ratio

        kept = state.damping, state.ratio
        return jax.lax.cond(state.step % every == every - 1, adapted, lambda: kept)

    def _model(self, grads: Params, batch: "_Batch", directions: list[Params]) -> Model:
        some = batch.each(self.model_of)
        return model_along(
            self.net, self.loss, some.params, grads, some.x, some.y, directions, some.weights, some.key,
            self.weight_decay,
        )  # fmt: skip


class _Batch(NamedTuple):
    """Where the step is made: the parameters, and the batch."""

    params: Params
    x: Any
    y: Any
    weights: Any
    key: Array | None

    def each(self, number: int) -> "_Batch":
        """Examples 0, number, 2 number, …, so that on a mesh each device keeps its own."""
        if number == 1:
            return self
        x, y, weights = jax.tree.map(lambda v: v[::number], (self.x, self.y, self.weights))
        return self._replace(x=x, y=y, weights=weights)


def kfac(
    net: Network,
    loss: Loss,
    *,
    learning_rate: float | None = None,
    momentum: float | None = None,
    damping: float = 1.0,
    weight_decay: float = 0.0,
    norm_bound: float | None = None,
    average: float = 0.95,
    factors_every: int = 1,
    factors_of: int = 1,
    model_of: int = 1,
    inverses_every: int = 20,
    adapt_every: int | None = 5,
    least_damping: float = 1e-8,
    samples: int | None = 1,
    rows: Rows = "expand",
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """K-FAC as an optax optimizer: the gradient times the inverse of a curvature made of h and δ of each unit.

    ΔW = α A⁻¹ (−∂L/∂W) G⁻¹ + μ ΔW of the step before,  A = E[h hᵀ] + π √γ 1,  G = E[δ δᵀ] + √γ / π 1

    The expectations are moving averages over the steps, of the batch's h (with a 1 for the bias) and of the δ of one
    more sweep, from random targets of the model's own, whatever the width of the output. γ = λ + η is the damping and
    the weight decay, π² = (tr A / dim A) / (tr G / dim G). α and μ are where the quadratic model of the loss is least,
    with the exact Gauss-Newton matrix C and γ: M = α ∇LᵀΔ + μ ∇Lᵀv + ½ (α Δ + μ v)ᵀ (C + γ 1) (α Δ + μ v). Every few
    steps λ becomes ω λ where the loss fell by more than ¾ of what M without λ said, and λ / ω where by less than ¼.

    `Dense` and `Conv` have factors, with the bias in the same block where the unit reads but one of them; of `Scale`,
    `Embedding` (also one that reads out, transposed) and a bias of all rows the diagonal of the Gauss-Newton matrix is
    taken. Uses of a shared weight are as rows of an example. The layers of a stack have factors each.

    Use it as any optimizer in `step`, `epoch`, `run` and `fit`, with a gradient of the mean. Outside of these pass what
    the gradient is of: `update(grads, state, params, x=x, y=y)`, and `weights` and `key` where the gradient had them;
    with `value`, the loss that came with it, damping is adapted without a forward phase for it, and a step of which
    the model says that more is gained than the loss, which cannot become negative, is made shorter until it says so no
    more. `step`, `epoch`, `run` and `fit` pass it.
    Equal arguments give the same functions. On a mesh parameters and factors are replicated. On CPUs set
    `OPENBLAS_NUM_THREADS=1`, for inverses call LAPACK, whose threads otherwise spin beside those of XLA.

    Args:
        net: The network.
        loss: The loss of one example; it has to state a root of its Hessian.
        learning_rate: α; that of the quadratic model when None.
        momentum: μ; that of the quadratic model when None. With both given no step but those of `adapt_every` has the
            model, which saves time.
        damping: λ at the start.
        weight_decay: η of ½ η ‖W‖², which is added to the loss.
        norm_bound: The most that the curvature ΔWᵀ C ΔW of a step may be, which is made shorter where it is more; where
            α and μ are given, that of α Δ by the factors. None for no bound.
        average: The share of the moving averages that is kept in a step, at most.
        factors_every: After how many steps the averages move.
        factors_of: Of which part of the batch they are made: every second example with 2, and so on.
        model_of: Of which part of the batch the Gauss-Newton matrix of the model is; its slope is that of all. Of too
            few examples the curvature is too small, and steps are too long.
        inverses_every: After how many steps the inverses are made again; the first 3 steps each have their own.
        adapt_every: After how many steps λ is adapted, by the loss at the new parameters; never when None.
        least_damping: The least that λ becomes.
        samples: How many random targets each example has; all columns of the curvature, one for each output, when None.
        rows: What becomes of the rows, or windows, of an example: `"expand"` for those with losses of their own,
            `"reduce"` for outputs that are sums over them.
        seed: For the random targets.

    Raises:
        TypeError, ValueError: The network has no weights, or a kind of connection, or a way to share a weight, that has
            no rule; the loss states no root of its Hessian.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
        >>> x = jax.random.normal(jax.random.key(1), (64, 3))
        >>> y = (x[:, 0] > 0).astype(int)
        >>> optimizer = jaxbp.train.kfac(net, jaxbp.cross_entropy, damping=0.1)
        >>> fitted = jaxbp.train.fit(net, jaxbp.cross_entropy, x, y, optimizer=optimizer, batch_size=64, epochs=15)
        >>> fitted.history[-1]["loss"] < 0.1
        True

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015.
    """
    check_objective(net, loss)
    for name, given in (("learning_rate", learning_rate), ("norm_bound", norm_bound)):
        if given is not None:
            check_number(given, name, above=0, finite=True)
    if momentum is not None:
        check_number(momentum, "momentum", least=0, below=1)
    check_number(damping, "damping", above=0, finite=True)
    check_number(weight_decay, "weight_decay", least=0, finite=True)
    check_number(average, "average", least=0, below=1)
    check_number(least_damping, "least_damping", above=0, finite=True)
    whole = {"factors_every": factors_every, "factors_of": factors_of, "model_of": model_of}
    for name, number in (whole | {"inverses_every": inverses_every}).items():
        check_integer(number, name, 1)
    for name, number in (("adapt_every", adapt_every), ("samples", samples)):
        if number is not None:
            check_integer(number, name, 1)
    check_choice(rows, "rows", ("expand", "reduce"))
    check_integer(seed, "seed", 0)
    head(net, loss).check_root()
    blocks_of(net)

    rule = KFAC(
        net, loss, _float(learning_rate), _float(momentum), float(damping), float(weight_decay), _float(norm_bound),
        float(average), int(factors_every), int(factors_of), int(model_of), int(inverses_every), adapt_every,
        float(least_damping), samples, rows, seed,
    )  # fmt: skip
    return _kfac(rule)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


@bounded_cache
def _kfac(rule: KFAC) -> optax.GradientTransformationExtraArgs:
    init, update = cast(Any, rule.init), cast(Any, rule.update)
    return optax.GradientTransformationExtraArgs(init, update)
