"""Losses L(o, y), each with its gradient ∂L/∂o with respect to the output of the network.

δ_o = (∂o/∂a)ᵀ ∂L/∂o holds for any activation of the output; where the two together have a closed form, which is simpler
and numerically safer, the loss lists it as a `Simplification`.

A loss is of one row of outputs, over the last axis. How a batch of examples i, whose output may have rows p (the
positions of a sequence), becomes the one value is said by `reduction` and `weights`, and is the same for every loss:

    weights             reduction="mean"                    reduction="sum"
    None                Σ_i L_i / N,  L_i = Σ_p L_ip        Σ_i L_i
    (*batch,)           Σ_i w_i L_i / Σ_i w_i               Σ_i w_i L_i
    (*batch, *rows)     Σ_ip w_ip L_ip / Σ_ip w_ip          Σ_ip w_ip L_ip

So without weights, and with weights of the batch shape, the rows of an example add up, and "mean" is the mean over
examples. With weights by position it is the mean over positions: over tokens, where padding has the weight 0 and all
else 1; ones in all places divide by the number of rows, too. A target whose weight is 0 may be anything, such as the
class id −100 or NaN: it counts nothing in the value and in any gradient.

A gradient over more than 2,048 classes looks at so many of them together and never has all logits at once; `in_blocks`
says when, and chooses another number.

`_loss.py` says what a loss is and what it becomes at the output of a network, `_named.py` has the ones that come with
jaxbp, `_class_ids.py` reads integer targets, and `_blocked.py` has softmax and cross-entropy over a large vocabulary
without all of its logits.
"""

from jaxbp.losses._loss import Head, Loss, Simplification
from jaxbp.losses._named import binary_cross_entropy, cross_entropy, in_blocks, perceptron, squared_error, unfused

__all__ = [
    "Head",
    "Loss",
    "Simplification",
    "binary_cross_entropy",
    "cross_entropy",
    "in_blocks",
    "perceptron",
    "squared_error",
    "unfused",
]
