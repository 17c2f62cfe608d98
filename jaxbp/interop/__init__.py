"""Multilayer perceptrons of other libraries: into a network and its parameters, and back."""

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
