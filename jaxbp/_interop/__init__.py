"""Multilayer perceptrons of other libraries: into a network and its parameters, and back."""

from jaxbp._interop._equinox import from_equinox as from_equinox
from jaxbp._interop._equinox import to_equinox as to_equinox
from jaxbp._interop._flax import from_flax as from_flax
from jaxbp._interop._flax import to_flax as to_flax
from jaxbp._interop._torch import from_torch as from_torch
from jaxbp._interop._torch import to_torch as to_torch
