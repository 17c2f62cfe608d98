"""The chapter's own recursions and path sums, written out literally, for layered networks x ⇒ h1 ⇒ … ⇒ hk ⇒ o.

They are for a reader with the chapter in hand; `jaxbp.backprop` is the engine, which takes any graph.

Five functions are forms of one calculation: `path_sums`, `post_activation_recursion`, `pre_activation_recursion`,
`instantiated_recursion` and `decoupled`. All take `(net, loss, params, x, y)` as `jaxbp.backprop` does, with any number
of batch axes, and refuse a network that is not layered. They start from `loss.gradient` and use no known simplification
but the one that the chapter prints. What they return is of the mean loss over the batch:

    Delta   Δ(h_r, o) = ∂L/∂h_r of each unit and the input, `(*batch, width)`
    delta   δ(h_r, o) = ∂L/∂a_{h_r} of each unit, `(*batch, width)`
    grads   ∂L/∂W, a tree like the parameters

`_layers.py` has what the chapter takes for granted, and turns a form for one example into one for a batch. `_paths.py`
sums over paths and counts them. `_recursions.py` has the dynamic programming, and `_instantiations.py` the updates of δ
that are printed for each activation.
"""

from jaxbp.textbook._instantiations import UPDATES, Update, instantiated_recursion, softmax_cross_entropy_delta, update
from jaxbp.textbook._paths import (
    PathSums,
    Work,
    accumulate_by_nodes,
    accumulate_by_paths,
    count_work,
    local_derivatives,
    path_sums,
)
from jaxbp.textbook._recursions import (
    Decoupled,
    PostActivation,
    PreActivation,
    activation_step,
    decoupled,
    linear_step,
    post_activation_recursion,
    pre_activation_recursion,
)

__all__ = [
    "UPDATES",
    "Decoupled",
    "PathSums",
    "PostActivation",
    "PreActivation",
    "Update",
    "Work",
    "accumulate_by_nodes",
    "accumulate_by_paths",
    "activation_step",
    "count_work",
    "decoupled",
    "instantiated_recursion",
    "linear_step",
    "local_derivatives",
    "path_sums",
    "post_activation_recursion",
    "pre_activation_recursion",
    "softmax_cross_entropy_delta",
    "update",
]
