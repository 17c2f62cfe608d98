"""Differentially private SGD: who takes part in a step, the step, an epoch of them, and the ε that they cost.

g = (Σ_i min(1, C / ‖∇L_i‖) ∇L_i + σ C z) / (q N),  z standard normal, the sum over a fresh sample of the examples

Each example is in the sample with probability q, independently of the others, for that is what the theorem assumes
by which ε is counted: a shuffled epoch or batches of equal size would need another one. Nothing leaves a step but the
noised gradient: the loss of a batch, or how many took part, would have to be paid for too.

Source: Abadi et al., Deep learning with differential privacy, 2016; Koskela et al., Computing tight differential
privacy guarantees using FFT, 2020, and Doroshenko et al., Connect the dots, 2022, for the accounting.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from scipy.stats import binom

import jaxbp
from jaxbp.train import TrainState

LOSS = jaxbp.cross_entropy  # a row of targets that is all 0 has loss 0 and gradient 0: see `gathered`
INTERVAL = 1e-3
"""Privacy losses are rounded up to its multiples: 1e-4 would lower an ε of 3 by 0.001, at ten times the work."""
TOLERANCE = 1e-5  # of float32
PROVEN = 128  # examples whose own gradients are formed for the proof, each as large as the parameters


@dataclass(frozen=True)
class Mechanism:
    """What is done to the examples in a step.

    Attributes:
        examples: N.
        batch_size: q N, the expected number of examples in a step.
        max_norm: C, the most that one example adds to the sum, as a norm over all weights.
        noise_multiplier: σ; the noise has the standard deviation σ C.
        capacity: The number of rows that a step computes with, whoever takes part: shapes are fixed under jit.
    """

    examples: int
    batch_size: int
    max_norm: float
    noise_multiplier: float
    capacity: int

    @property
    def rate(self) -> float:
        """q, the probability that an example takes part in a step."""
        return self.batch_size / self.examples

    @property
    def steps(self) -> int:
        """The steps of an epoch: 1/q, rounded up."""
        return math.ceil(self.examples / self.batch_size)

    def chance_of_overflow(self, steps: int) -> float:
        """A bound on the probability that more than `capacity` examples are drawn in any of so many steps."""
        return float(steps * binom.sf(self.capacity, self.examples, self.rate))


@dataclass(frozen=True)
class Proof:
    """What a first batch says about the private gradient, noise left out.

    Attributes:
        plain_error: Of it with C infinite, relative to jax.grad's.
        clipped_error: Of it, relative to the gradients of single examples by vmap(jax.grad), clipped and added up.
        largest_norm: Of what one example adds to the sum, in units of C.
        share_clipped: Of the examples, whose own gradient is longer than C.
    """

    plain_error: float
    clipped_error: float
    largest_norm: float
    share_clipped: float

    @property
    def holds(self) -> bool:
        """Whether both gradients are right, and nobody adds more than C."""
        errors = (self.plain_error, self.clipped_error, self.largest_norm - 1)
        return all(error <= TOLERANCE for error in errors)


def capacity_for(examples: int, batch_size: int, steps: int, chance: float) -> int:
    """The fewest rows that hold the sample of every step, but for less than a given chance.

    Should a sample be larger, the examples beyond are left out; a chance p of that adds at most (1 + e^ε) p to δ.

    Args:
        examples: N.
        batch_size: q N.
        steps: Of the whole training.
        chance: Above 0, for the whole training.

    Returns:
        A number of rows, at most N.

    Example:
        >>> capacity_for(60_000, 1024, steps=1180, chance=1e-11)
        1277

    Source: Chua et al., Scalable DP-SGD: shuffling vs. Poisson subsampling, 2024, for (1 + e^ε) p.
    """
    counts = np.arange(batch_size, examples + 1)
    # the last count is N, beyond which nobody is
    enough = steps * binom.sf(counts, examples, batch_size / examples) < chance
    return int(counts[np.argmax(enough)])


def sample(key: Array, mechanism: Mechanism) -> Array:
    """Draw who takes part in a step: Poisson sampling.

    Args:
        key: A fresh key for every step.
        mechanism: Who is there, and how many are expected.

    Returns:
        The rows of those who do, int32 `(capacity,)`, ascending, and after them N where nobody is.
    """
    # The threshold is rounded down: the probability is a multiple of 2⁻³², never above the q that is accounted for.
    # A Bernoulli draw by a float32 would miss it by up to 2⁻²³, and so would gaps between rows, drawn as geometric.
    largest = np.uint32(math.floor(mechanism.rate * 2**32) - 1)
    takes_part = jax.random.bits(key, (mechanism.examples,), jnp.uint32) <= largest
    rows = jnp.nonzero(takes_part, size=mechanism.capacity, fill_value=mechanism.examples)[0]
    return rows.astype(jnp.int32)


def gathered(x: Array, y: Array, rows: Array, classes: int) -> tuple[Array, Array]:
    """The examples in these rows, and rows of zeros where nobody is.

    Zero targets make an empty place's loss and gradient 0 while its weight stays 1. Weights of 0 would serve for
    the sum, but the noise of `jaxbp.collect.clipped` is scaled by the largest weight: a step in which nobody takes
    part would have none, and that tells.

    Args:
        x: All inputs, `(N, features)`.
        y: All class ids, `(N,)`.
        rows: int32 `(capacity,)`, from 0 to N.
        classes: Their number.

    Returns:
        Inputs `(capacity, features)` and targets `(capacity, classes)`.
    """
    ids = y.at[rows].get(mode="fill", fill_value=-1)
    return x.at[rows].get(mode="fill", fill_value=0), jax.nn.one_hot(ids, classes, dtype=x.dtype)


def gradient(
    net: jaxbp.Network, params: jaxbp.Params, x: Array, targets: Array, mechanism: Mechanism, key: Array | None = None
) -> jaxbp.Params:
    """The private gradient: the sum of clipped gradients with noise, over the expected number of examples.

    Never over the number of those who did take part, which is private itself.

    Args:
        net: A network with a softmax output.
        params: Its parameters.
        x: Inputs, `(rows, features)`.
        targets: One row for each, `(rows, classes)`; zeros where nobody is.
        mechanism: C, σ and the expected number.
        key: For the noise, a fresh one for every step; not needed where σ = 0.

    Returns:
        A tree like the parameters.
    """
    clipped = jaxbp.collect.clipped(mechanism.max_norm, noise_multiplier=mechanism.noise_multiplier, key=key)
    back = jaxbp.backprop(net, LOSS, params, x, targets, reduction="sum", collect={"clipped": clipped})
    return jax.tree.map(lambda G: G / mechanism.batch_size, back.collected["clipped"])


def step(
    state: TrainState,
    x: Array,
    y: Array,
    *,
    net: jaxbp.Network,
    optimizer: optax.GradientTransformation,
    mechanism: Mechanism,
) -> TrainState:
    """One private update: draw a sample, take its private gradient, and hand that to the optimizer.

    Args:
        state: Where training stands; its key is the source of samples and noise.
        x: All inputs, `(N, features)`.
        y: All class ids, `(N,)`.
        net: A network with a softmax output.
        optimizer: Any optax optimizer; what is computed from a private gradient costs nothing more.
        mechanism: How private it is.

    Returns:
        The next state.
    """
    key, sample_key, noise_key = jax.random.split(state.key, 3)
    (classes,) = net.shapes[net.output]
    xb, targets = gathered(x, y, sample(sample_key, mechanism), classes)
    grads = gradient(net, state.params, xb, targets, mechanism, noise_key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, key, state.step + 1)


@partial(jax.jit, static_argnames=("net", "optimizer", "mechanism"), donate_argnames="state")
def epoch(
    state: TrainState,
    x: Array,
    y: Array,
    *,
    net: jaxbp.Network,
    optimizer: optax.GradientTransformation,
    mechanism: Mechanism,
) -> TrainState:
    """As many private steps as 1/q, as one compiled scan whose state is donated; the arguments are those of `step`."""

    def body(state: TrainState, _: None) -> tuple[TrainState, None]:
        return step(state, x, y, net=net, optimizer=optimizer, mechanism=mechanism), None

    return jax.lax.scan(body, state, length=mechanism.steps)[0]


def epsilon(mechanism: Mechanism, steps: int, delta: float) -> float | None:
    """The ε that so many steps cost, by dp-accounting's privacy loss distributions.

    They are an upper bound and nearly tight; Rényi accounting gives an ε that is about a tenth higher. Two data sets
    are neighbours if one has an example more.

    Args:
        mechanism: q and σ.
        steps: How many.
        delta: δ.

    Returns:
        ε, infinite without noise; None if dp-accounting is not installed.

    Source: Google's dp-accounting, https://github.com/google/differential-privacy.
    """
    if mechanism.noise_multiplier == 0:
        return math.inf
    try:
        import dp_accounting
        from dp_accounting import pld
    except ModuleNotFoundError:
        return None
    event = dp_accounting.PoissonSampledDpEvent(
        mechanism.rate, dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    )
    # with little noise losses are large, in proportion to 1/σ²: equal steps would take minutes and be no use
    interval = INTERVAL / min(1, mechanism.noise_multiplier) ** 2
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=interval
    )
    return float(accountant.compose(event, steps).get_epsilon(delta))


def prove(net: jaxbp.Network, params: jaxbp.Params, x: Array, y: Array, mechanism: Mechanism) -> Proof:
    """Compare the private gradient, noise left out, with autodiff's on the first examples.

    Args:
        net: The network.
        params: Its parameters.
        x: All inputs.
        y: All class ids.
        mechanism: What is done in a step.
    """
    (classes,) = net.shapes[net.output]
    silent = replace(mechanism, noise_multiplier=0.0)
    objective = jaxbp.objective(net, LOSS)

    # as in a step, with places where nobody is
    places = jnp.arange(mechanism.capacity)
    rows = jnp.where(places < mechanism.batch_size, places, mechanism.examples)
    batch = gathered(x, y, rows, classes)
    unclipped = replace(silent, max_norm=math.inf)
    # everything is an argument: XLA would fold constants for half a minute
    whole = jax.jit(lambda params, batch: gradient(net, params, *batch, unclipped))(params, batch)
    first = slice(0, mechanism.batch_size)
    expected = jax.jit(jax.grad(objective))(params, x[first], y[first])

    few = slice(0, min(PROVEN, mechanism.batch_size))
    own = jax.jit(jax.vmap(jax.grad(objective), in_axes=(None, 0, 0)))(params, x[few], y[few])
    own = _flat(own, axes=1)
    norms = np.linalg.norm(own, axis=1, keepdims=True)
    by_definition = np.sum(own / np.maximum(1, norms / mechanism.max_norm), axis=0)

    @jax.jit
    def clipped(params: jaxbp.Params, x: Array, targets: Array) -> tuple[jaxbp.Params, jaxbp.Params]:
        """The sum over all of them, and over each alone."""
        each = jax.vmap(lambda x, targets: gradient(net, params, x[None], targets[None], silent))(x, targets)
        sums = (gradient(net, params, x, targets, silent), each)
        return jax.tree.map(lambda G: G * mechanism.batch_size, sums)

    together, each = clipped(params, x[few], jax.nn.one_hot(y[few], classes, dtype=x.dtype))
    return Proof(
        plain_error=_relative_error(_flat(whole), _flat(expected)),
        clipped_error=_relative_error(_flat(together), by_definition),
        largest_norm=float(np.max(np.linalg.norm(_flat(each, axes=1), axis=1))) / mechanism.max_norm,
        share_clipped=float(np.mean(norms > mechanism.max_norm)),
    )


def _flat(tree: Any, axes: int = 0) -> np.ndarray:
    """All weights in one row, in float64, after so many leading axes."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(*leaf.shape[:axes], -1) for leaf in leaves], axis=axes)


def _relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
