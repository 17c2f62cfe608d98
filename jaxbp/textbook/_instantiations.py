"""The recursion for δ as the chapter prints it for each activation, and for softmax with cross-entropy."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_alike, quoted
from jaxbp._mapping import FrozenMapping
from jaxbp._network import Network
from jaxbp._parameters import Params
from jaxbp.activations import Activation, check_activation, hard_tanh, linear, relu, sigmoid, softmax, tanh
from jaxbp.losses import Loss, cross_entropy, unfused
from jaxbp.losses._named import check_loss
from jaxbp.textbook._layers import layers
from jaxbp.textbook._recursions import PreActivation, recursion_for_delta

Update = Callable[[Array, Array, Array], Array]
"""`(a, h, total) -> δ(h_r, o)` with `total = Σ_h w(h_r, h) δ(h, o)`, all of one shape."""


def _linear(a: Array, h: Array, total: Array) -> Array:
    return total


def _sigmoid(a: Array, h: Array, total: Array) -> Array:
    return h * (1 - h) * total


def _tanh(a: Array, h: Array, total: Array) -> Array:
    return (1 - h**2) * total


def _relu(a: Array, h: Array, total: Array) -> Array:
    return jnp.where(a > 0, total, 0)


def _hard_tanh(a: Array, h: Array, total: Array) -> Array:
    # strict, as printed; jax.nn.hard_tanh, and so jaxbp.hard_tanh, has the derivative 1 at −1 and 1 as well
    return jnp.where((a > -1) & (a < 1), total, 0)


UPDATES: Mapping[Activation, Update] = FrozenMapping(
    {linear: _linear, sigmoid: _sigmoid, tanh: _tanh, relu: _relu, hard_tanh: _hard_tanh}
)
"""The chapter's five instantiations, in its order."""


def update(activation: Activation, a: Array, h: Array, total: Array) -> Array:
    """One update of δ as the chapter prints it for an activation.

    δ(h_r, o) =  Σ w δ                                   linear
                 h_r (1 − h_r) Σ w δ                     sigmoid
                 (1 − h_r²) Σ w δ                        tanh
                 Σ w δ  if a_{h_r} > 0, else 0           ReLU
                 Σ w δ  if −1 < a_{h_r} < 1, else 0      hard tanh

    with `total` for Σ w δ = Σ_{h: h_r ⇒ h} w(h_r, h) δ(h, o). All three arrays have one shape, `(*batch, width)`. The
    condition of hard tanh is strict, as printed: at a = ±1 this gives 0, where `jaxbp.hard_tanh` lets the signal
    through, because `jax.nn.hard_tanh` does. Another activation is refused.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> h = jnp.array([0.5, 1.0])
        >>> textbook.update(jaxbp.sigmoid, jnp.array([0.0, 100.0]), h, jnp.array([8.0, 8.0])).tolist()
        [2.0, 0.0]

    Source: the chapter, "Updates for Various Activations".
    """
    check_activation(activation, "activation")
    _check_printed(activation)
    check_alike({"a": a, "h": h, "total": total})
    return next(rule for known, rule in UPDATES.items() if known.phi == activation.phi)(a, h, total)


def softmax_cross_entropy_delta(o: Array, y: Array) -> Array:
    """The start of the recursion for softmax with cross-entropy.

    ∂L/∂v_i = Σ_j ∂L/∂o_j · ∂o_j/∂v_i = o_i − y_i

    This holds for targets that sum to 1, as the chapter's one-hot ones do; otherwise the derivative is
    o_i Σ_j y_j − y_i, as the engine has it. Both arrays have one shape, `(*batch, width)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxbp import textbook
        >>> textbook.softmax_cross_entropy_delta(jnp.array([0.25, 0.75]), jnp.array([0.0, 1.0])).tolist()
        [0.25, -0.25]

    Source: the chapter, "The Special Case of Softmax".
    """
    check_alike({"o": o, "y": y})
    return o - y


def instantiated_recursion(net: Network, loss: Loss, params: Params, x: Any, y: Any) -> PreActivation:
    """The pre-activation recursion with the printed update of each activation for Φ'(a) Σ w δ.

    δ(h_r, o) = h_r (1 − h_r) Σ_{h: h_r ⇒ h} w(h_r, h) δ(h, o) for a sigmoid, and so on (see `update`)
    δ(o, o) = o − y for softmax with cross-entropy, else the update of the output's activation at ∂L/∂o
    ∂L/∂w(h_{r−1}, h_r) = δ(h_r, o) · h_{r−1},  with h_{r−1} = 1 for a bias

    Targets of a softmax are class ids, or rows that sum to 1.

    Raises:
        ValueError: The chapter prints no update for an activation: it has softmax only at the output, and only with
            `cross_entropy`, fused or not.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> from jaxbp import textbook
        >>> net = jaxbp.layered([3, 2, 2], hidden=jaxbp.sigmoid, output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.ones(3), jnp.array([0.0, 1.0])
        >>> form = textbook.instantiated_recursion(net, jaxbp.cross_entropy, params, x, y)
        >>> bool(jnp.array_equal(form.delta["o"], jaxbp.apply(net, params, x) - y))
        True

    Source: the chapter, "Updates for Various Activations" and "The Special Case of Softmax".
    """
    layers(net)  # refuses any other graph
    check_loss(loss)
    printed_softmax = net.units[net.output].activation.phi == softmax.phi
    if printed_softmax and unfused(loss) != unfused(cross_entropy):
        raise ValueError(
            f"the chapter prints δ(o, o) of a softmax for cross_entropy only, but the loss is {loss}; "
            "use textbook.pre_activation_recursion"
        )
    for u in net.order:
        if not (printed_softmax and u == net.output):
            _check_printed(net.units[u].activation, f"of unit {u!r}")

    def start(a: Array, o: Array, y: Array) -> Array:
        if printed_softmax:
            return softmax_cross_entropy_delta(o, y)
        return update(net.units[net.output].activation, a, o, loss.gradient(o, y))

    return recursion_for_delta(net, loss, params, x, y, start, update)


def _check_printed(activation: Activation, where: str = "given") -> None:
    if all(known.phi != activation.phi for known in UPDATES):
        raise ValueError(
            f"the chapter prints updates for {quoted(map(str, UPDATES))}, but the activation {where} is {activation}; "
            "use textbook.pre_activation_recursion, or textbook.decoupled for a vector activation"
        )
