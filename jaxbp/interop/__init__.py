"""Models of other libraries: into a network and its parameters, and back, with the same outputs and gradients.

`from_equinox`, `from_flax` and `from_torch` make the network x ⇒ h1 ⇒ … ⇒ o and a copy of the weights in their own
dtype; `to_equinox`, `to_flax` and `to_torch` make a module of such a network, with a copy of its weights. Layers with
weights, pools, norms, embeddings, attention and encoder layers are known, in sequences and in sums of such, which
residual blocks are.

* The network has channels last, whatever the library has: move the axes of x, not the weights.
* Both ways take `activations={theirs: ours}`, which says what a function, or a module by its class, stands for if
  jaxbp does not know it. What a hand-written module does cannot be looked up: say what it is made of by
  `layers={Block: lambda block: […]}`, a list of modules, functions, activations, pools and `Flatten` of ours, `Sum`,
  `Stack`, and `Causal`.
* A `jaxbp.stack` becomes layers in the library's own repeated form, and is read back as a stack: a scan over weights
  that have the layers as their first axis in equinox and flax, an `nn.ModuleList` in torch; the same layer again and
  again where they share their weights. What is recomputed on the way back is not told. Other lists of modules that
  happen to be alike are read as units one after the other, unless a `Stack` says otherwise.
* Dropout that is active becomes that of a unit; one that does nothing, in evaluation mode, is left out.

A layer or an activation without a counterpart, and a network that is neither layers that follow each other nor sums of
such, is refused with a ValueError that says where it is, such as `module.layers[3].conv` or `unit 'blocks.up'`; so is a
stack with more than one input, and one that gives the output of every layer. Weights in float64 are refused with a
TypeError while `jax_enable_x64` is off. A library that is missing is an ImportError: all of them come with `pip install
'jaxbp[interop]'`.

`_layers.py` has the description of a model that all conversions go through: `_reading.py` and each library's reader
make one, `_assembled.py` makes a network of it, and `_taken_apart.py` and each library's writer lead back. `_order.py`
knows what channels first mean, and `_activations.py` which function or module is which activation.
"""

from jaxbp.interop._equinox import from_equinox, to_equinox
from jaxbp.interop._flax import from_flax, to_flax
from jaxbp.interop._reading import Causal, Stack, Sum
from jaxbp.interop._torch import from_torch, to_torch

__all__ = [
    "Causal",
    "Stack",
    "Sum",
    "from_equinox",
    "from_flax",
    "from_torch",
    "to_equinox",
    "to_flax",
    "to_torch",
]
