"""Checks of arguments, and the words in which a function refuses them: what came, and what was expected.

A check looks at kinds, names, shapes and dtypes, and at values only where they are known: under `jit` they are not.
"""

import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Arrays.


def check_array(value: Any, place: str) -> None:
    """Refuse what is no array: a list would be converted in ways nobody sees."""
    dtype = None if isinstance(value, type) else getattr(value, "dtype", None)
    if not hasattr(value, "shape") or not (isinstance(dtype, np.dtype) or isinstance(value, jax.Array)):
        raise TypeError(f"{place} is {_of_kind(value)}; pass an array, e.g. jnp.asarray({place})")


def check_floating(value: Any, place: str) -> None:
    """Refuse what is no array of floats: integers wrap around where floats do not."""
    check_array(value, place)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"{place} has dtype {value.dtype}, expected a floating one; convert it first, "
            f"e.g. {place}.astype(jnp.float32)"
        )


def check_shaped(value: Any, place: str, shape: tuple[int, ...], doubt: str = "") -> None:
    """Refuse what is no array of floats of this shape."""
    check_floating(value, place)
    if value.shape != shape:
        raise ValueError(f"{place} has shape {value.shape}, expected {shape}{doubt}")


def check_alike(arrays: Mapping[str, Any]) -> None:
    """Refuse arrays of floats whose shapes are not that of the first: they would broadcast."""
    first, *others = arrays
    for name, array in arrays.items():
        check_floating(array, name)
    for name in others:
        if arrays[name].shape != arrays[first].shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, expected that of {first}, {arrays[first].shape}")


def check_real(value: Any, place: str) -> None:
    """Refuse what is no array of real numbers: complex ones would lose a half."""
    check_array(value, place)
    if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{place} has dtype {value.dtype}, expected real numbers or integers")


def floating_dtype(dtype: Any) -> Any:
    """The floating dtype that JAX makes of this one in the present precision."""
    try:
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(f"dtype must be a floating dtype such as jnp.float32, got {described(dtype)}") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"parameters must have a floating dtype, got {dtype}")
    return dtype


def check_random_key(key: Any, place: str = "key") -> None:
    """Refuse what is not one key for JAX's random numbers: a typed one, or the words of one from `PRNGKey`."""
    if isinstance(key, jax.Array | np.ndarray):
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        axes = key.ndim if is_typed else key.ndim - 1 if key.dtype == np.uint32 else -1
        if axes == 0:
            return
        if axes > 0:
            raise ValueError(f"{place} must be one key, got {described(key)}; take one of them, e.g. {place}[0]")
    raise TypeError(f"{place} must be a key such as jax.random.key(0), got {described(key)}")


# Plain values.


def check_integer(value: Any, place: str, least: int) -> None:
    """Refuse what is no integer, or one that is too small."""
    if not is_integer(value):
        raise TypeError(f"{place} must be an integer, got {described(value)}")
    if value < least:
        raise ValueError(f"{place} must be at least {least}, got {value}")


def check_number(
    value: Any,
    place: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    finite: bool = False,
) -> None:
    """Refuse what is no real number, or is outside of a range, as NaN is; a traced one has no value yet."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        real = value.shape == () and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))
    else:
        real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real:
        raise TypeError(f"{place} must be a number, got {described(value)}")
    if not is_known(value):
        return
    try:
        number = float(np.asarray(value))
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    inside = above < number if above > -math.inf else least <= number
    if not inside or not (number < below or below == math.inf) or (finite and math.isinf(number)):
        bounds = ["positive" if above == 0 else f"above {above}"] * (above > -math.inf)
        bounds += [f"at least {least}"] * (least > -math.inf) + [f"below {below}"] * (below < math.inf)
        bounds += ["finite"] * finite
        raise ValueError(f"{place} must be {' and '.join(bounds) or 'no NaN'}, got {value}")


def check_flag(value: Any, place: str) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{place} must be True or False, got {described(value)}")


def check_text(value: Any, place: str) -> None:
    """Refuse what is no text, or an empty one."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"{place} must be a non-empty string, got {described(value)}")


def check_choice(value: Any, place: str, choices: Sequence[str]) -> None:
    """Refuse what is none of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{place} must be {' or '.join(map(repr, choices))}, got {described(value)}")


def check_batch_size(batch_size: Any) -> None:
    """Refuse a batch of no examples."""
    check_integer(batch_size, "batch_size", 1)


def is_known(value: Any) -> bool:
    """Whether a value can be looked at: one that `jit` and its like trace cannot."""
    return not isinstance(value, Tracer)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer of Python or NumPy; True is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


# Containers.


def check_mapping(value: Any, place: str, example: str) -> None:
    """Refuse what is no dict."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{place} must be a dict such as {example}, got {described(value)}")


def check_sequence(value: Any, place: str, example: str) -> None:
    """Refuse what is no list or tuple; a text is neither."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{place} must be a list such as {example}, got {described(value)}")


def check_keys(got: Mapping[str, Any], expected: Iterable[str], holds: str, has: str) -> None:
    """Refuse a mapping whose keys are not the expected ones."""
    expected = list(expected)
    if set(got) != set(expected):
        extra = [name for name in got if name not in expected]
        hint = suggestion(extra[0], expected) if extra else ""
        raise ValueError(f"{holds} {quoted(got)}, but {has} {quoted(expected)}{hint}")


def check_made(made: Any, like: Any, of: str) -> None:
    """Refuse what a rule of the user's made where it is not of floats, or of another shape, which would broadcast."""
    check_floating(made, of)
    if made.shape != like.shape:
        raise ValueError(f"{of} has shape {made.shape}, expected {like.shape}")


def check_tree(tree: Any, place: str, names: str = "unit as init_params gives it") -> None:
    """Refuse what is no tree of floating arrays by unit and source, whatever the network."""
    check_by(tree, place, names)
    for name, inner in tree.items():
        if names != "source" or isinstance(inner, Mapping):
            check_tree(inner, f"{place}[{name!r}]", "source")
        else:
            check_floating(inner, f"{place}[{name!r}]")


def check_by(value: Any, place: str, names: str) -> None:
    """Refuse what is no dict by some kind of names."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{place} is {_of_kind(value)}, expected a dict by {names}")


# Functions, and our own kinds.


def check_callable(value: Any, place: str, example: str) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{place} must be a function such as {example}, got {described(value)}")


def check_takes(function: Any, place: str, arguments: tuple[str, ...], example: str, *, hashable: bool = True) -> None:
    """Refuse what is no function of these arguments, or cannot be hashed, as the parts of a specification must be."""
    check_callable(function, place, example)
    if hashable:
        try:
            hash(function)
        except TypeError:
            raise TypeError(
                f"{place} is {_of_kind(function)}, which cannot be hashed; make its class a frozen dataclass"
            ) from None
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{place} {name_of(function)!r} takes {signature}, but is called as "
            f"{place}({', '.join(arguments)}); write it as {example!r}"
        ) from None


def takes(function: Callable[..., Any], argument: str) -> bool:
    """Whether a function has an argument of this name."""
    signature = _signature(function)
    parameters = signature.parameters.values() if signature else ()
    return any(p.name == argument or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:  # a built-in that has none to look at
        return None


def check_kind(value: Any, kind: type, place: str, expected: str, known: Mapping[str, Any] | None = None) -> None:
    """Refuse what is not one of our own kinds; the known names of that kind may have been meant."""
    if isinstance(value, kind):
        return
    hint = ""
    if isinstance(value, type):
        hint = f"; call it: {value.__name__}(…)" if issubclass(value, kind) else ""
    elif known is not None and (name := value if isinstance(value, str) else getattr(value, "__name__", None)):
        names = [name for name, thing in known.items() if isinstance(thing, kind)]
        near = _nearest(name, names)
        hint = f"; did you mean jaxbp.{near}?" if near else f"; there are {', '.join(names)}"
    raise TypeError(f"{place} must be {expected}, got {described(value)}{hint}")


# Words.


def described(value: Any) -> str:
    """A value in a few words, without the numbers of an array or the layers of a module."""
    if value is None or isinstance(value, str | bool | int | float | complex | np.generic):
        return reprlib.repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if callable(value) and isinstance(name := getattr(value, "__name__", None), str):
        return f"the function {name}"
    if _is_plain(value):
        return reprlib.repr(value)
    if type(value).__module__.startswith("jaxbp.") and len(text := repr(value)) < 80:
        return text if text.startswith(type(value).__name__) else f"{type(value).__name__} {text}"
    return f"a value of type {type(value).__name__}"


def _is_plain(value: Any) -> bool:
    """Whether a value is made of words and numbers alone, and so prints in a few words."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return not value
    return isinstance(value, str | bool | int | float)


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, or of the class of what can be called."""
    return getattr(function, "__name__", type(function).__name__)


def suggestion(name: object, known: Iterable[str]) -> str:
    """A half-sentence that proposes the nearest known name, or nothing."""
    near = _nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""


def quoted(names: Iterable[str]) -> str:
    """Names as a message lists them."""
    return ", ".join(repr(name) for name in names) or "none"


def _nearest(name: object, known: Iterable[str]) -> str | None:
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)  # as low as 'h2' for 'h1'
    return near[0] if near else None


def _of_kind(value: Any) -> str:
    if value is None or isinstance(value, jax.Array):
        return "None" if value is None else "an array"
    return f"of type {type(value).__name__}"
