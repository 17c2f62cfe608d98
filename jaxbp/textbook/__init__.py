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

from jaxbp.textbook._instantiations import UPDATES as UPDATES
from jaxbp.textbook._instantiations import Update as Update
from jaxbp.textbook._instantiations import instantiated_recursion as instantiated_recursion
from jaxbp.textbook._instantiations import softmax_cross_entropy_delta as softmax_cross_entropy_delta
from jaxbp.textbook._instantiations import update as update
from jaxbp.textbook._paths import PathSums as PathSums
from jaxbp.textbook._paths import Work as Work
from jaxbp.textbook._paths import accumulate_by_nodes as accumulate_by_nodes
from jaxbp.textbook._paths import accumulate_by_paths as accumulate_by_paths
from jaxbp.textbook._paths import count_work as count_work
from jaxbp.textbook._paths import local_derivatives as local_derivatives
from jaxbp.textbook._paths import path_sums as path_sums
from jaxbp.textbook._recursions import Decoupled as Decoupled
from jaxbp.textbook._recursions import PostActivation as PostActivation
from jaxbp.textbook._recursions import PreActivation as PreActivation
from jaxbp.textbook._recursions import activation_step as activation_step
from jaxbp.textbook._recursions import decoupled as decoupled
from jaxbp.textbook._recursions import linear_step as linear_step
from jaxbp.textbook._recursions import post_activation_recursion as post_activation_recursion
from jaxbp.textbook._recursions import pre_activation_recursion as pre_activation_recursion
