"""Losses L(o, y), each with its gradient ∂L/∂o with respect to the output of the network.

δ_o = (∂o/∂a)ᵀ ∂L/∂o holds for any activation of the output; where the two together have a closed form, which is simpler
and numerically safer, the loss lists it as a `Simplification`. `_loss.py` says what a loss is and what it becomes at
the output of a network, `_named.py` has the ones that come with jaxbp, and `_class_ids.py` reads integer targets.
"""

from jaxbp.losses._loss import Head, Loss, Simplification
from jaxbp.losses._named import binary_cross_entropy, cross_entropy, perceptron, squared_error, unfused

__all__ = [
    "Head",
    "Loss",
    "Simplification",
    "binary_cross_entropy",
    "cross_entropy",
    "perceptron",
    "squared_error",
    "unfused",
]
