"""What training asks of its arguments, beside what the network and the loss ask."""

from collections.abc import Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbp._checks import check_array, check_kind, check_real, check_takes, described, is_known
from jaxbp._forward import batch_of, check_inputs
from jaxbp._network import Network
from jaxbp._objective import check_objective, check_weights_fit
from jaxbp.losses import Loss
from jaxbp.losses._class_ids import complaint_about_ids


def check_optimizer(optimizer: Any) -> None:
    """Refuse anything but an optimizer of optax, such as a name, a learning rate, or a function that makes one."""
    check_kind(optimizer, optax.GradientTransformation, "optimizer", "an optax optimizer such as optax.sgd(0.1)")


def check_functions(gradient: Any, observe: Any = None) -> None:
    """Refuse a gradient, or an observer, that is not a function of `(params, x, y)`."""
    check_takes(gradient, "gradient", ("params", "x", "y"), "jaxbp.value_and_grad(net, loss)")
    if observe is not None:
        check_takes(observe, "observe", ("params", "x", "y"), "lambda params, x, y: …")


def check_arrays(x: Any, y: Any, weights: Any = None) -> dict[str, Any]:
    """The arrays by name; anything else, such as a list or a generator of batches, is refused."""
    named = {f"x[{name!r}]": values for name, values in x.items()} if isinstance(x, Mapping) else {"x": x}
    named |= {"y": y} | ({} if weights is None else {"weights": weights})
    for place, values in named.items():
        check_real(values, place)
    return named


def check_examples(x: Any, y: Any, weights: Any = None) -> None:
    """Refuse arrays that do not all have the same number of examples on the first axis, at least one."""
    named = check_arrays(x, y, weights)
    counts = {place: values.shape[0] if values.shape else 0 for place, values in named.items()}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        raise ValueError(f"the numbers of examples are {counts}; expected as many, at least one, on each first axis")


def check_precision(net: Network, params: Any, x: Any) -> None:
    """Refuse inputs that are wider than all parameters: everything would be computed in their precision, unasked."""
    dtypes = [jnp.asarray(W).dtype for W in jax.tree.leaves(params)]
    for name, value in check_inputs(net, x).items():
        if name in net.ids:
            continue
        wide = jnp.result_type(*dtypes, jax.dtypes.canonicalize_dtype(value.dtype)) if dtypes else None
        of_params = jnp.result_type(*dtypes) if dtypes else None
        if wide != of_params:
            raise TypeError(
                f"input {name!r} has dtype {value.dtype}, but the parameters have {of_params}: everything would be "
                f"computed in {wide}; pass {name}.astype({of_params}), or wider parameters"
            )


def check_weights(weights: Any) -> None:
    """Look at the weights on the host, and refuse them if one is not finite or all are 0, so that there is no mean."""
    values = np.asarray(weights)
    if not np.all(np.isfinite(values)) or not np.any(values):
        total = np.sum(values)
        raise ValueError(f"weights sum to {total}, so no batch has a mean; expected finite ones that are not all 0")


def check_one_device(**trees: Any) -> None:
    """Refuse trees that are spread over several devices, because each of these would compute the whole batch."""
    for place, tree in trees.items():
        for leaf in jax.tree.leaves(tree):
            spread = isinstance(leaf, jax.Array) and (
                len(leaf.sharding.device_set) > 1
                if is_known(leaf)
                else any(axis is not None for axis in jax.typeof(leaf).sharding.spec)
            )
            if spread:
                raise ValueError(
                    f"{place} lies on several devices, and each would compute the whole batch: pass mesh=, along which "
                    "training divides it, or put it on one device with jax.device_put"
                )


def check_validation(validation: Any) -> None:
    """Refuse anything but inputs and targets, and perhaps weights."""
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        raise TypeError(f"validation must be a pair (x, y), or (x, y, weights), got {described(validation)}")
    check_arrays(*validation)


def check_start(params: Any) -> None:
    """Refuse a tree to start from that holds anything but arrays."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        check_array(leaf, f"params{jax.tree_util.keystr(path)}")


def check_output(net: Network, loss: Loss) -> None:
    """Refuse an output outside of [0, 1] where the loss takes its logarithm."""
    if not loss.takes_probabilities:
        return
    activation, shape = net.units[net.output].activation, net.shapes[net.output]
    # rows of both signs, so that an activation with vector arguments shows its range, too
    row = jnp.linspace(-3, 3, prod(shape)).reshape(shape) if prod(shape) > 1 else jnp.full(shape, 3.0)
    values = np.asarray(activation.value(jnp.stack([row, -row])))
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ValueError(
            f"{loss.name} takes probabilities, but the activation {activation.name} of the output {net.output!r} gives "
            f"values such as {outside[0]:.3g}; use output=jaxbp.{loss.simplifications[0].activation.name}"
            if loss.simplifications
            else f"{loss.name} takes probabilities, but {activation.name} gives values such as {outside[0]:.3g}"
        )


def check_data(net: Network, loss: Loss, x: Any, y: Any, weights: Any = None) -> None:
    """Look at the values of all data on the host, for what no shape can tell; `run` and `fit` do.

    Raises:
        ValueError: A value of x is not finite, a class id is out of range, or the loss cannot take a target; where its
            weight is 0 a target may be anything.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([2, 3], hidden=(), output=jaxbp.softmax)
        >>> jaxbp.train.check_data(net, jaxbp.cross_entropy, jnp.ones((2, 2)), jnp.array([1, 3]))
        Traceback (most recent call last):
            ...
        ValueError: class id 3 at example 1 is outside 0…2; 1 of 2 are
    """
    check_objective(net, loss)
    check_real(y, "y")
    check_targets(net, loss, x, y, weights)
    for name, values in check_inputs(net, x).items():
        if complaint := complaint_about_ids(np.asarray(values), net.ids[name], "id") if name in net.ids else None:
            raise ValueError(f"{name}: {complaint}")
        finite = np.isfinite(np.asarray(values))
        if not finite.all():
            first = ", ".join(map(str, np.argwhere(~finite)[0]))
            raise ValueError(
                f"{name}[{first}] is not finite; {np.count_nonzero(~finite)} of {finite.size} values are not"
            )


def check_targets(net: Network, loss: Loss, x: Any, y: Any, weights: Any = None) -> None:
    """Refuse targets that do not fit the inputs, or whose values the loss cannot take, where these are known."""
    inputs = check_inputs(net, x)
    batch, shape = batch_of(net, inputs), net.shapes[net.output]
    dtype = next((value.dtype for name, value in inputs.items() if name not in net.ids), float)
    o = jax.ShapeDtypeStruct((*batch, *shape), jax.dtypes.canonicalize_dtype(dtype))
    jax.eval_shape(loss.targets, o, y)
    if weights is not None:
        check_weights_fit(weights, batch, shape[:-1])
    if is_known(y) and is_known(weights) and (complaint := loss.complaint_about(y, shape, weights)):
        raise ValueError(complaint)
