"""Multilayer perceptrons of other libraries: into a network and its parameters, and back, with the same outputs.

`from_equinox`, `from_flax` and `from_torch` make the network x ⇒ h1 ⇒ … ⇒ o and a copy of the weights in their own
dtype; `to_equinox`, `to_flax` and `to_torch` make a module of such a network, with a copy of its weights. Both ways
take `activations={theirs: ours}`, which says what a function, or a module by its class, stands for if jaxbp does not
know it.

A layer or an activation without a counterpart, and a network that is not layered, is refused with a ValueError that
names it; weights in float64 are refused with a TypeError while `jax_enable_x64` is off. A library that is missing is an
ImportError: all of them come with `pip install 'jaxbp[interop]'`.

`_layers.py` has the list of layers that all conversions go through, and `_activations.py` which function or module is
which activation; each library has a file of its own.
"""

from jaxbp.interop._equinox import from_equinox, to_equinox
from jaxbp.interop._flax import from_flax, to_flax
from jaxbp.interop._torch import from_torch, to_torch

__all__ = [
    "from_equinox",
    "from_flax",
    "from_torch",
    "to_equinox",
    "to_flax",
    "to_torch",
]
