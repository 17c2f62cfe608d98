"""The chapter's own recursions and path sums, written out literally, for layered networks x ⇒ h1 ⇒ … ⇒ hk ⇒ o.

For a reader with the chapter in hand. `jaxbp.backprop` is the engine: one matrix product for a whole batch, any graph.
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
