"""Assertions for test suites: a hand gradient or a custom rule is right, or the test fails with the report on it."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from jaxbp._check import LayoutName, Report, check, check_function
from jaxbp._network import Network
from jaxbp._rules import Rule, RulesReport, check_rules
from jaxbp.losses import Loss

__all__ = ["Rule", "RulesReport", "assert_function_gradients_match", "assert_gradients_match", "assert_rules_right"]


def assert_gradients_match(
    net: Network,
    loss: Loss,
    params: Any,
    x: Any,
    y: Any,
    mine: Any,
    *,
    layout: LayoutName = "rows",
    key: Array | None = None,
) -> Report:
    """Fail if a hand gradient of a network is wrong, as `check` judges: what only rounds otherwise passes.

    The gradient is that of the mean loss over the batch, in any form and layout that `check` takes, such as your own
    backward pass `(params, x, y) -> gradients`; with dropout hand in the key of its noise. The report is returned for
    what more a test may ask of it, such as that the verdict is `"right"`.

    Raises:
        AssertionError: Something is wrong; the message is the report.
        TypeError, ValueError: What was handed in does not fit, as of `check`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([3, 2], output=jaxbp.softmax)
        >>> params = jaxbp.init_params(jax.random.key(0), net)
        >>> x, y = jnp.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]), jnp.array([0, 1])
        >>> def backward(params, x, y):
        ...     o = jax.nn.softmax(x @ params["o"]["x"] + params["o"]["bias"][None])
        ...     delta = (o - jax.nn.one_hot(y, 2)) / len(x)
        ...     return {"o": {"x": x.T @ delta, "bias": delta.sum(0)}}
        >>> jaxbp.testing.assert_gradients_match(net, jaxbp.cross_entropy, params, x, y, backward).verdict
        'right'
    """
    report = check(net, loss, params, x, y, mine, layout=layout, key=key)
    report.raise_if_wrong()
    return report


def assert_function_gradients_match(f: Callable[[Any], Any], params: Any, mine: Any) -> Report:
    """Fail if a hand gradient of a scalar JAX function is wrong, as `check_function` judges.

    The gradient has any form that `check_function` takes, such as your own function `params -> gradients`. The report
    is returned for what more a test may ask of it.

    Raises:
        AssertionError: Something is wrong; the message is the report.
        TypeError, ValueError: What was handed in does not fit, as of `check_function`.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> params = {"w": jnp.array([1.0, -2.0])}
        >>> half_square = lambda p: jnp.sum(p["w"] ** 2) / 2
        >>> jaxbp.testing.assert_function_gradients_match(half_square, params, lambda p: p).verdict
        'right'
        >>> jaxbp.testing.assert_function_gradients_match(half_square, params, lambda p: {"w": 2 * p["w"]}
        ... )  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        AssertionError: wrong: ...
    """
    report = check_function(f, params, mine)
    report.raise_if_wrong()
    return report


def assert_rules_right(f: Callable[..., Any], *args: Any, device: Any = None) -> RulesReport:
    """Fail if a custom derivative rule that f(*args) reaches is wrong, as `check_rules` judges, there with a device.

    The report is returned for what more a test may ask of it, such as that a rule is among those it names.

    Raises:
        AssertionError: A rule is wrong; the message is the report.
        TypeError: f is no function of these arguments, or the device is none.

    Example:
        >>> import jax, jax.numpy as jnp, jaxbp
        >>> [rule.name for rule in jaxbp.testing.assert_rules_right(jax.nn.relu, jnp.array([-1.0, 2.0])).rules]
        ['relu']
    """
    report = check_rules(f, *args, device=device)
    report.raise_if_wrong()
    return report
