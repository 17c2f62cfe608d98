"""Convolutions written out as dense matrices, in which each entry is an element of the kernel or 0."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxbp


def dense_form_errors(kernels: dict[str, np.ndarray], images: np.ndarray, seed: int) -> dict[str, float]:
    """How far δ, Δ and gradients of masked dense layers are from those of the convolutions they write out.

    The kernels are read with a stride of 2 in place of the pools, so that the signals of the second layer, too, come
    back through the first one's dense form.

    Args:
        kernels: Of the two convolutions, `c1` and `c2`: `(height, width, channels, channels)`.
        images: Inputs, `(N, side, side, 1)`.
        seed: Fixes the other weights and the targets.

    Returns:
        The largest |a − b| / max |b| of each quantity, by its name in the convolutional network.
    """
    shared, maps = _strided(images.shape[1:], kernels)
    params = jaxbp.init_params(jax.random.key(seed), shared, jnp.float64)
    rng = np.random.default_rng(seed)
    biases = {u: jnp.asarray(rng.normal(size=kernel.shape[-1]) / 10) for u, kernel in kernels.items()}
    for (u, kernel), s in zip(kernels.items(), ("x", "c1"), strict=True):
        params[u] = {s: jnp.asarray(kernel), "bias": biases[u]}
    dense, written, tables = written_out(shared, params, maps)
    y = jnp.asarray(rng.normal(size=(len(images), shared.shapes["o"][0])))

    def backprop(net: jaxbp.Network, params: jaxbp.Params, x: np.ndarray) -> jaxbp.Backprop:
        return jax.jit(lambda *arguments: jaxbp.backprop(net, jaxbp.squared_error, *arguments))(
            params, jnp.asarray(x), y
        )

    ours = backprop(shared, params, images)
    theirs = backprop(dense, written, images.reshape(len(images), -1))
    pairs = {
        f"{symbol}.{u}": (getattr(ours, symbol)[u], getattr(theirs, symbol)[u])
        for symbol in ("delta", "Delta")
        for u in ("c2", "c1")
    }
    pairs["Delta.x"] = (ours.Delta["x"], theirs.Delta["x"])
    for u, s in (("c2", "c1"), ("c1", "x")):
        summed = np.zeros(kernels[u].size)
        there = tables[u] >= 0
        np.add.at(summed, tables[u][there], np.asarray(theirs.grads[u][s])[there])
        pairs[f"grad.{u}.{s}"] = (ours.grads[u][s], summed)
        windows = np.reshape(theirs.grads[u]["bias"], (-1, kernels[u].shape[-1]))
        pairs[f"grad.{u}.bias"] = (ours.grads[u]["bias"], windows.sum(axis=0))
    return {name: _relative_error(a, b) for name, (a, b) in pairs.items()}


def _strided(image: tuple[int, ...], kernels: dict[str, np.ndarray]) -> tuple[jaxbp.Network, dict[str, jaxbp.Conv]]:
    maps = {u: jaxbp.Conv(kernel.shape[:2], stride=2) for u, kernel in kernels.items()}
    first = maps["c1"].output_shape(image, kernels["c1"].shape[-1])
    second = maps["c2"].output_shape(first, kernels["c2"].shape[-1])
    units = {
        "c1": jaxbp.Unit(first, jaxbp.tanh, {"x": maps["c1"]}),
        "c2": jaxbp.Unit(second, jaxbp.tanh, {"c1": maps["c2"]}),
        "flat": jaxbp.Unit(math.prod(second), jaxbp.linear, {"c2": jaxbp.Flatten()}, bias=False),
        "o": jaxbp.Unit(10, jaxbp.linear, {"flat": jaxbp.Dense()}),
    }
    return jaxbp.Network(inputs={"x": image}, units=units), maps


def written_out(
    shared: jaxbp.Network, params: jaxbp.Params, maps: dict[str, jaxbp.Conv]
) -> tuple[jaxbp.Network, jaxbp.Params, dict[str, np.ndarray]]:
    """The same network with a masked matrix in place of each convolution, all elements of a unit in a row.

    Args:
        shared: The convolutional network.
        params: Its parameters.
        maps: Its convolutions, by unit.

    Returns:
        The network, its parameters, and for each convolution which element of the kernel each entry of its matrix is:
        −1 where there is none and the entry is 0.
    """
    tables: dict[str, np.ndarray] = {}
    units: dict[str, jaxbp.Unit] = {}
    weights: jaxbp.Params = {}
    for u, map_ in maps.items():
        [s] = shared.units[u].connections
        tables[u] = table = elements(map_, shared.shapes[s], shared.shapes[u])
        kernel, windows = np.ravel(params[u][s]), math.prod(shared.shapes[u][:-1])
        units[u] = jaxbp.Unit(table.shape[1], shared.units[u].activation, {s: jaxbp.Masked(jaxbp.Dense(), table >= 0)})
        weights[u] = {
            s: jnp.asarray(np.where(table >= 0, kernel[table], 0)),
            "bias": jnp.tile(params[u]["bias"], windows),
        }
    units["o"] = jaxbp.Unit(shared.shapes["o"][0], shared.units["o"].activation, {"c2": jaxbp.Dense()})
    weights["o"] = {"c2": params["o"]["flat"], "bias": params["o"]["bias"]}
    return jaxbp.Network(inputs={"x": math.prod(shared.shapes["x"])}, units=units), weights, tables


def elements(convolution: jaxbp.Conv, source: tuple[int, ...], unit: tuple[int, ...]) -> np.ndarray:
    """Which element of the kernel joins each element of the source to each of the unit, by its place in a row.

    By counting alone, in plain numpy: nothing here convolves.

    Args:
        convolution: A convolution over two axes, with one stride for both and "SAME" padding.
        source: `(height, width, channels)`.
        unit: `(rows, columns, channels)`.

    Returns:
        `(elements of the source, elements of the unit)` integers, −1 where there is no connection.
    """
    stride = convolution.stride
    assert isinstance(stride, int)
    numbers = np.arange(math.prod(convolution.kernel) * source[-1] * unit[-1])
    numbers = numbers.reshape(*convolution.kernel, source[-1], unit[-1])
    table = np.full((*source, *unit), -1)
    before = [
        max((p - 1) * stride + k - n, 0) // 2 for n, p, k in zip(source[:2], unit[:2], convolution.kernel, strict=True)
    ]
    for p, q, i, j in np.ndindex(*unit[:2], *convolution.kernel):
        row, column = p * stride + i - before[0], q * stride + j - before[1]
        if 0 <= row < source[0] and 0 <= column < source[1]:
            table[row, column, :, p, q, :] = numbers[i, j]
    return table.reshape(math.prod(source), math.prod(unit))


def _relative_error(ours: Any, theirs: Array | np.ndarray) -> float:
    a, b = np.ravel(ours), np.ravel(theirs)
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
