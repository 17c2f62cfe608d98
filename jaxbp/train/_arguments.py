"""What training asks of its arguments, beside what the network and the loss do."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxbp._checks import check_array, check_kind, check_real, check_takes, described


def check_optimizer(optimizer: Any) -> None:
    """Refuse what is no optimizer of optax: a name, a learning rate, a function that makes one."""
    check_kind(optimizer, optax.GradientTransformation, "optimizer", "an optax optimizer such as optax.sgd(0.1)")


def check_functions(gradient: Any, observe: Any = None) -> None:
    """Refuse what is no gradient, or looks at no batch."""
    check_takes(gradient, "gradient", ("params", "x", "y"), "jaxbp.value_and_grad(net, loss)")
    if observe is not None:
        check_takes(observe, "observe", ("params", "x", "y"), "lambda params, x, y: …")


def check_examples(x: Any, y: Any) -> None:
    """Refuse inputs and targets that are no arrays, such as a list or a generator of batches."""
    for name, values in x.items() if isinstance(x, Mapping) else [("", x)]:
        check_real(values, f"x[{name!r}]" if name else "x")
    check_real(y, "y")


def check_validation(validation: Any) -> None:
    """Refuse what is no pair of inputs and targets."""
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise TypeError(f"validation must be a pair (x, y), got {described(validation)}")
    check_examples(*validation)


def check_start(params: Any) -> None:
    """Refuse a tree to start from that has something else than arrays in it."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        check_array(leaf, f"params{jax.tree_util.keystr(path)}")
