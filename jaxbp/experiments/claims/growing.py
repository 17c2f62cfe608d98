"""Relu networks from one number to another: random weights, the training of many at once, and a new layer on top."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Array

import jaxbp
from jaxbp.experiments.claims.full_batch import descended

LOSS = jaxbp.squared_error

Weights = dict[str, dict[str, np.ndarray]]
"""Parameters in numpy's arrays: each small operation of jax's would be compiled for longer than it takes."""


def network(depth: int, width: int) -> jaxbp.Network:
    """Hidden layers of equal width from one number to another."""
    return jaxbp.layered([1, *[width] * depth, 1], hidden=jaxbp.relu, output=jaxbp.linear)


def first_weights(net: jaxbp.Network) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The one source of each unit of a layered network, and the shape of its weights."""
    return {u: next(iter(net.weight_shapes[u].items())) for u in net.order}


def start(rng: np.random.Generator, depth: int, width: int, largest: int, x: np.ndarray) -> Weights:
    """Weights by He to start from, in arrays of the largest width; zero beyond the network's own.

    A unit whose weights are all zero keeps them: h = relu(0) = 0 leaves the gradient of its outgoing weights zero, and
    these that of its incoming ones. So one program serves all widths of a depth.

    Args:
        rng: For weights and corners.
        depth: The number of hidden layers.
        width: The units that each of them has.
        largest: The units that the arrays hold.
        x: The examples; the corner a = 0 of each unit goes through one of them.

    Returns:
        The parameters.
    """
    params: Weights = {}
    h = x
    for u, (source, shape) in first_weights(network(depth, largest)).items():
        n_in, n_out = h.shape[1], 1 if u == "o" else width
        W = rng.normal(scale=math.sqrt((1 if u == "o" else 2) / n_in), size=(n_in, n_out))
        b = np.zeros(n_out)
        if u != "o":
            b = -np.sum(h[rng.integers(len(h), size=n_out)] * W.T, axis=1)
            h = np.maximum(h @ W + b[None, :], 0)
        padding = ((0, shape[0] - n_in), (0, shape[1] - n_out))
        params[u] = {source: np.pad(W, padding), "bias": np.pad(b, padding[1])}
    return params


def stacked(members: Sequence[Weights]) -> Weights:
    """All members along a first axis."""
    return jax.tree.map(lambda *arrays: np.stack(arrays).astype(np.float32), *members)


@partial(jax.jit, static_argnums=(0, 1))
def train(
    net: jaxbp.Network, steps: int, rate: float, starts: Weights, x: np.ndarray, y: np.ndarray
) -> tuple[jaxbp.Params, Array]:
    """Train networks of one depth at once, each with all examples in every step.

    Args:
        net: The network of the largest width; narrower ones are that one with zeros.
        steps: How many updates.
        rate: The learning rate of the first one; it falls to 0 like a cosine.
        starts: The parameters of all members, along a first axis.
        x: The examples of each member, `(members, examples, 1)`.
        y: The targets of all, `(examples, 1)`.

    Returns:
        The trained parameters, and the losses they end with, `(members,)`.
    """

    def one(params: jaxbp.Params, x: Array) -> tuple[jaxbp.Params, Array]:
        params = descended(net, LOSS, steps, rate, params, x, y)
        return params, jaxbp.objective(net, LOSS)(params, x, y)

    return jax.vmap(one)(starts, x)


def new_layers(
    rngs: Sequence[np.random.Generator], width: int, starts: int, steps: int, rate: float, z: np.ndarray, y: np.ndarray
) -> Weights:
    """A trained hidden layer and output upon z for each seed: of several starts, the one with the least loss.

    Args:
        rngs: One for each seed.
        width: The hidden units.
        starts: How many for each seed.
        steps: Of the training.
        rate: The learning rate of the first step.
        z: The inputs for each seed, `(seeds, examples, 1)`.
        y: The targets of all, `(examples, 1)`.

    Returns:
        The parameters of networks with one hidden layer, along a first axis.
    """
    members = [start(rng, 1, width, width, z[i]) for i, rng in enumerate(rngs) for _ in range(starts)]
    layers, losses = jax.device_get(
        train(network(1, width), steps, rate, stacked(members), np.repeat(z, starts, axis=0), y)
    )
    losses = np.nan_to_num(losses, nan=np.inf).reshape(len(rngs), starts)
    best = np.argmin(losses, axis=1) + starts * np.arange(len(rngs))
    return jax.tree.map(lambda array: array[best], layers)


def on_top(below: Weights, layer: Weights) -> Weights:
    """One layered network from two: the old output, which is linear, and the new weights that it meets are one matrix.

    Args:
        below: Of a network with some hidden layers; of several of them along a first axis, as in layer.
        layer: Of a network with one hidden layer, whose input is the other's output.

    Returns:
        The parameters of the network with one hidden layer more that computes the second of the first.
    """
    depth = len(below)  # the units below are the hidden ones and the output
    last, new = f"h{depth - 1}", f"h{depth}"
    W, b = layer["h1"]["x"], layer["h1"]["bias"]
    through = below["o"]["bias"][..., None, :] @ W
    merged = {last: below["o"][last] @ W, "bias": through[..., 0, :] + b}
    output = {new: layer["o"]["h1"], "bias": layer["o"]["bias"]}
    return {u: below[u] for u in below if u != "o"} | {new: merged, "o": output}


def outputs(net: jaxbp.Network, params: Weights, x: np.ndarray) -> np.ndarray:
    """Of one network, or of several along a first axis of the parameters, at the points."""
    return np.asarray(_outputs(net, params, x.astype(np.float32)), np.float64)


@partial(jax.jit, static_argnums=0)
def _outputs(net: jaxbp.Network, params: jaxbp.Params, x: Array) -> Array:
    apply = partial(jaxbp.apply, net, x=x)
    several = params["o"]["bias"].ndim == 2
    return jax.vmap(apply)(params) if several else apply(params)
