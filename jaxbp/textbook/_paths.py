"""Path sums: the products of local derivatives over every path of scalar neurons, and what they cost."""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxbp._checks import check_integer, check_kind, check_sequence
from jaxbp._forward import Trace, batch_shape, forward
from jaxbp._graph import ONE
from jaxbp._names import Name
from jaxbp._network import Network
from jaxbp._parameters import Params, check_params
from jaxbp.activations import Elementwise
from jaxbp.losses import Loss
from jaxbp.losses._named import check_loss
from jaxbp.textbook._layers import derivative, layers

Floats = npt.NDArray[np.float64]
Matrix = Sequence[Sequence[float]]


class PathSums(NamedTuple):
    """What the sums over paths give, in float64 whatever the network has; `jaxbp.textbook` says what the fields are."""

    Delta: dict[str, Floats]
    delta: dict[str, Floats]
    grads: dict[str, dict[str, Floats]]


class Work(NamedTuple):
    """What Δ of the input and of every unit costs for one example, once ∂L/∂o and the local derivatives are known.

    Attributes:
        paths: The number of paths from a scalar neuron, in any layer before the output, to a scalar output.
        multiplications_by_paths: How often enumeration multiplies by a local derivative: once for each edge of a path.
        multiplications_by_nodes: How often dynamic programming does: once for each edge of the network.
    """

    paths: int
    multiplications_by_paths: int
    multiplications_by_nodes: int


def accumulate_by_paths(edges: Sequence[Matrix], dL_do: Sequence[float]) -> list[list[float]]:
    """Sum the products of local derivatives over every path, one path after the other.

    Δ(h_r, o) = Σ_{[h_r, h_{r+1}, …, h_k, o] ∈ P} ∂L/∂o · ∂o/∂h_k · Π_{i=r}^{k−1} ∂h_{i+1}/∂h_i

    Args:
        edges: `edges[r][i][j]` is the derivative of scalar neuron j of layer r + 1 with respect to neuron i of
            layer r; anything that can be added and multiplied.
        dL_do: ∂L/∂o of each scalar output.

    Returns:
        `Delta[r][i]` of every neuron; the last layer's is `dL_do`.

    Example:
        The figure of the chapter is o = K(p, q) with p = g(y), q = h(z), y = z = f(w). Here f' = 2, g' = 3, h' = 5,
        ∂K/∂p = 7 and ∂K/∂q = 11, and neurons that do not depend on each other have the derivative 0.

        >>> from jaxbp import textbook
        >>> f, g_and_h, K = [[2, 2]], [[3, 0], [0, 5]], [[7], [11]]
        >>> textbook.accumulate_by_paths([f, g_and_h, K], [1])[0] == [7 * 3 * 2 + 11 * 5 * 2]
        True

    Source: the chapter, the generalized expression "where a set P of paths exist from h_r to o".
    """
    widths = _checked_widths(edges, dL_do)
    Delta: list[list[float]] = [[0.0] * width for width in widths[:-1]] + [list(dL_do)]
    for r in range(len(edges)):
        for path in product(*map(range, widths[r:])):
            term = dL_do[path[-1]]
            for edge, (i, j) in zip(edges[r:], pairwise(path), strict=True):
                term = term * edge[i][j]
            Delta[r][path[0]] += term
    return Delta


def accumulate_by_nodes(edges: Sequence[Matrix], dL_do: Sequence[float]) -> list[list[float]]:
    """The same sums by dynamic programming: "each node is processed exactly once in a backwards pass".

    Δ(h_r, o) = Σ_{h: h_r ⇒ h} ∂h/∂h_r · Δ(h, o), from the arguments of `accumulate_by_paths`

    Example:
        >>> from jaxbp import textbook
        >>> textbook.accumulate_by_nodes([[[2, 2]], [[3, 0], [0, 5]], [[7], [11]]], [1])
        [[152], [21, 55], [7, 11], [1]]

    Source: the chapter, the recursion for Δ(h_r, o) by the multivariable chain rule.
    """
    _checked_widths(edges, dL_do)
    Delta = [list(dL_do)]
    for edge in reversed(edges):
        later = Delta[0]
        Delta.insert(0, [sum(dh_dh_r * D for dh_dh_r, D in zip(row, later, strict=True)) for row in edge])
    return Delta


def count_work(net: Network) -> Work:
    """Count, in closed form, the paths of a network and the multiplications of both ways to sum over them.

    With n_0, …, n_m scalar neurons in the layers x, h1, …, hk, o there are Σ_{r<m} n_r n_{r+1} ⋯ n_m paths, and
    Σ_{r<m} (m − r) n_r n_{r+1} ⋯ n_m multiplications by enumeration, Σ_{r<m} n_r n_{r+1} by dynamic programming.

    A vector activation joins every pre-activation of its unit to every post-activation: it counts as two layers.
    The counts are exact Python integers.

    Example:
        >>> import jaxbp
        >>> from jaxbp import textbook
        >>> textbook.count_work(jaxbp.layered([10] * 11, hidden=jaxbp.relu, output=jaxbp.linear))
        Work(paths=111111111100, multiplications_by_paths=1098765432100, multiplications_by_nodes=1000)

    Source: the chapter, "this summation has an exponential number of components (paths)".
    """
    connections = layers(net)
    widths = [*net.shapes[connections[0][0]]]
    for _, u in connections:
        widths += net.shapes[u] * (1 if isinstance(net.units[u].activation, Elementwise) else 2)
    paths = {r: math.prod(widths[r:]) for r in range(len(widths) - 1)}
    return Work(
        paths=sum(paths.values()),
        multiplications_by_paths=sum((len(widths) - 1 - r) * count for r, count in paths.items()),
        multiplications_by_nodes=sum(n * m for n, m in pairwise(widths)),
    )


def local_derivatives(net: Network, params: Params, trace: Trace) -> dict[tuple[str, str], Floats]:
    """The derivative of every scalar neuron with respect to every one before it.

    ∂h/∂h_r = Φ'(a_h) · w(h_r, h);  for a vector activation ∂a_j/∂h_r = w(h_r, j) and then ∂h_i/∂a_j

    They come from the input to the output, by the names of the two layers, as float64 arrays
    `(*batch, earlier, later)`; `trace` is `jaxbp.forward(net, params, x)`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> local = textbook.local_derivatives(net, params, jaxbp.forward(net, params, jnp.ones(3)))
        >>> {names: edge.shape for names, edge in local.items()}
        {('h.x', 'h.h1'): (3, 2), ('h.h1', 'a.o'): (2, 2), ('a.o', 'h.o'): (2, 2)}

    Source: the chapter, forward phase, "the local derivatives at various nodes", and ∂h/∂h_r = Φ'(a_h) · w(h_r, h).
    """
    connections = layers(net)
    check_params(net, params)
    check_kind(trace, Trace, "trace", "a jaxbp.Trace, such as jaxbp.forward gives")
    batch = batch_shape(net, trace)
    local: dict[tuple[str, str], Floats] = {}
    for s, u in connections:
        activation, a, h = net.units[u].activation, trace.a[u], trace.h[u]
        W = np.asarray(params[u][s], np.float64)
        h_s, a_u, h_u = (str(Name(kind, (unit,))) for kind, unit in (("h", s), ("a", u), ("h", u)))
        if isinstance(activation, Elementwise):
            Phi_prime = np.asarray(derivative(activation, a, h), np.float64)
            local[h_s, h_u] = Phi_prime[..., None, :] * W
            continue
        local[h_s, a_u] = np.broadcast_to(W, (*batch, *W.shape))
        # (∂h/∂a)ᵀ e_i is row i of the Jacobian: every output i at once along one more axis
        every_output = (*batch, a.shape[-1], a.shape[-1])
        a, h = (jnp.broadcast_to(value[..., None, :], every_output) for value in (a, h))
        unit_vectors = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), every_output)
        jacobian = np.asarray(activation.pullback(a, h, unit_vectors), np.float64)
        local[a_u, h_u] = np.swapaxes(jacobian, -1, -2)
    return local


def path_sums(net: Network, loss: Loss, params: Params, x: Any, y: Any, *, max_paths: int = 1_000_000) -> PathSums:
    """The gradients without dynamic programming, by enumerating every path of scalar neurons to the outputs.

    ∂L/∂w(h_{r−1}, h_r) = [Σ_{[h_r, …, h_k, o] ∈ P} ∂L/∂o · ∂o/∂h_k · Π_{i=r}^{k−1} ∂h_{i+1}/∂h_i] · ∂h_r/∂w

    The chapter has ∂L/∂o before the bracket, for one output; with several, each path has that of the output where it
    ends. A vector activation adds the edges of its Jacobian to the paths. This is plain Python on the host, one example
    after the other, so it cannot be jitted; a million paths take a second or two.

    Raises:
        ValueError: There are more than `max_paths` paths over all examples.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> arguments = net, jaxbp.cross_entropy, params, jnp.ones(3), jnp.array(1)
        >>> sums, back = textbook.path_sums(*arguments), jax.jit(jaxbp.backprop, static_argnums=(0, 1))(*arguments)
        >>> bool(jnp.allclose(sums.grads["h1"]["x"], back.grads["h1"]["x"], atol=1e-6))
        True

    Source: the chapter, the generalized expression "where a set P of paths exist from h_r to o".
    """
    connections = layers(net)
    check_loss(loss)
    check_integer(max_paths, "max_paths", 0)
    trace = forward(net, params, x)
    batch, o = batch_shape(net, trace), net.output
    examples = math.prod(batch)
    _check_paths(count_work(net), examples, max_paths)
    local = local_derivatives(net, params, trace)
    dL_do = np.asarray(loss.gradient(trace.h[o], loss.targets(trace.h[o], y)), np.float64)

    names = [*(Name.parse(earlier) for earlier, _ in local), Name("h", (o,))]
    signals = {name: np.zeros((*batch, *net.shapes[name.unit])) for name in names}
    for example in np.ndindex(batch):
        edges = [edge[example].tolist() for edge in local.values()]
        for name, of_layer in zip(names, accumulate_by_paths(edges, dL_do[example].tolist()), strict=True):
            signals[name][example] = np.divide(of_layer, examples)

    Delta = {name.unit: signal for name, signal in signals.items() if name.kind == "h"}
    delta: dict[str, Floats] = {}
    grads: dict[str, dict[str, Floats]] = {}
    for s, u in connections:
        activation = net.units[u].activation
        if isinstance(activation, Elementwise):
            Phi_prime = np.asarray(derivative(activation, trace.a[u], trace.h[u]), np.float64)
            delta[u] = Phi_prime * Delta[u]
        else:
            delta[u] = signals[Name("a", (u,))]
        h_before, delta_rows = np.asarray(trace.h[s], np.float64), delta[u].reshape(examples, -1)
        grads[u] = {s: h_before.reshape(examples, -1).T @ delta_rows}
        if ONE in net.plan.edges[u]:
            grads[u][ONE] = np.ones(examples) @ delta_rows
    return PathSums(Delta, delta, grads)


def _checked_widths(edges: Sequence[Matrix], dL_do: Sequence[float]) -> list[int]:
    check_sequence(edges, "edges", "[[[2, 2]], [[7], [11]]]")
    check_sequence(dL_do, "dL_do", "[1]")
    for r, edge in enumerate(edges):
        check_sequence(edge, f"edges[{r}]", "[[2, 2]]")
        for i, row in enumerate(edge):
            check_sequence(row, f"edges[{r}][{i}]", "[2, 2]")
    widths = [*map(len, edges), len(dL_do)]
    for r, edge in enumerate(edges):
        if any(len(row) != widths[r + 1] for row in edge):
            raise ValueError(
                f"the rows of edges[{r}] have the lengths {[*map(len, edge)]}, but layer {r + 1} has {widths[r + 1]} "
                "neurons: each row holds one derivative for each of them"
            )
    return widths


def _check_paths(work: Work, examples: int, max_paths: int) -> None:
    paths = examples * work.paths
    if paths > max_paths:
        raise ValueError(
            f"there are {paths:,} paths, {work.paths:,} for each of {examples:,} examples, which is more than "
            f"max_paths={max_paths:,}; to enumerate them all the same, pass max_paths={paths}; dynamic programming, "
            f"as in textbook.pre_activation_recursion, takes {work.multiplications_by_nodes:,} multiplications "
            f"for an example, not {work.multiplications_by_paths:,}"
        )
