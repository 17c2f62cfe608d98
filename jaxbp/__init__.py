"""Backpropagation made explicit: the textbook's Δ/δ recursions in JAX, proven equal to `jax.grad`.

Here is what the README's first page needs; the rest is in namespaces: `collect` (what else a sweep can make),
`activations`, `connections`, `losses` (and how to make your own), `feedback`, `curvature`, `train`, `interop`,
`textbook`, `testing`.

The docstring of `backprop` says what `net`, `loss`, `params`, `x`, `y`, `weights`, `reduction`, `collect`, `feedback`
and `key` are; they are the same everywhere. An argument of the wrong kind raises a TypeError, and a value, name or
shape that does not fit raises a ValueError, before anything is computed.
"""

from jaxbp import (
    activations,
    collect,
    connections,
    curvature,
    feedback,
    interop,
    losses,
    testing,
    textbook,
    train,
)
from jaxbp._attention import attention
from jaxbp._backprop import Backprop, backprop, value_and_grad
from jaxbp._check import Finding, Mistake, Report, check, check_function
from jaxbp._explain import Claim, Explanation, explain
from jaxbp._forward import Trace, apply, forward
from jaxbp._function import as_function
from jaxbp._function_unit import FunctionUnit, function_unit
from jaxbp._ids import ids
from jaxbp._network import Network, layered
from jaxbp._objective import objective
from jaxbp._parameters import Params, constrain, init_params
from jaxbp._product import product
from jaxbp._rules import check_rules
from jaxbp._stack import stack
from jaxbp._unit import Unit
from jaxbp.activations import (
    elementwise,
    gelu,
    hard_tanh,
    layer_norm,
    leaky_relu,
    linear,
    relu,
    rms_norm,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
    vector_activation,
)
from jaxbp.connections import (
    AvgPool,
    Conv,
    ConvTransposed,
    Dense,
    Embedding,
    Flatten,
    Identity,
    Masked,
    MaxPool,
    Scale,
    Transposed,
)
from jaxbp.losses import Loss, binary_cross_entropy, cross_entropy, perceptron, squared_error, unfused

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 (by purpose)
    # namespaces
    "activations", "collect", "connections", "curvature", "feedback", "interop", "losses", "testing", "textbook",
    "train",
    # networks
    "FunctionUnit", "Network", "Params", "Unit", "attention", "constrain", "function_unit", "ids", "init_params",
    "layered", "product", "stack",
    # the two phases
    "Backprop", "Trace", "apply", "as_function", "backprop", "forward", "objective", "value_and_grad",
    # what a gradient is worth, and what a network does
    "Claim", "Explanation", "Finding", "Mistake", "Report", "check", "check_function", "check_rules",
    "explain",
    # activations
    "elementwise", "gelu", "hard_tanh", "layer_norm", "leaky_relu", "linear", "relu", "rms_norm", "sigmoid", "silu",
    "softmax", "softplus", "tanh", "vector_activation",
    # connections
    "AvgPool", "Conv", "ConvTransposed", "Dense", "Embedding", "Flatten", "Identity", "MaxPool", "Masked", "Scale",
    "Transposed",
    # losses
    "Loss", "binary_cross_entropy", "cross_entropy", "perceptron", "squared_error", "unfused",
]  # fmt: skip
