"""The chapter's own recursions and path sums, written out literally, for layered networks x ⇒ h1 ⇒ … ⇒ hk ⇒ o.

For a reader with the chapter in hand. `jaxbp.backprop` is the engine: one matrix product for a whole batch, any graph.
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
