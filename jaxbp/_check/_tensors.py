"""What other libraries' tensors hold, read by what they can do, so that none of these libraries need be there."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxbp._check._compare import as_numbers


def is_array(value: Any) -> bool:
    """Whether something is one array: NumPy's, JAX's, or a tensor."""
    return hasattr(value, "shape") or hasattr(value, "detach")


def parameters_of(module: Any) -> Mapping[str, Any] | None:
    """The parameters of a module by name, None where something is no module."""
    named: Any = getattr(module, "named_parameters", None)
    found: Any = named() if callable(named) else None
    return None if found is None else dict(found)


def numbers_in(name: object, value: Any, of_gradient: bool) -> np.ndarray:
    """An array of real numbers: of a parameter its gradient, where a gradient is asked for; of a tensor its values."""
    if of_gradient and _is_parameter(value):
        if value.grad is None:
            raise ValueError(f"{name} is a tensor whose .grad is None; call loss.backward() first, or hand in numbers")
        value = value.grad
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu().numpy()
        except TypeError as error:
            raise TypeError(f"{name} cannot be read as an array: {error}; hand in its .float()") from None
    return as_numbers(name, value)


def _is_parameter(value: Any) -> bool:
    """Whether something is a tensor that collects a gradient, and not what was computed of such tensors."""
    is_tensor = hasattr(value, "grad") and hasattr(value, "detach")
    return is_tensor and bool(getattr(value, "requires_grad", True)) and bool(getattr(value, "is_leaf", True))
