"""Mistakes that people made in the gradient of a function: losses, penalties, and single operations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from real_mistakes import named, sigmoid, softmax

N = 6
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N, 4))
SIGNS = np.where(_rng.uniform(size=N) < 0.5, -1.0, 1.0)
BITS = (SIGNS + 1) / 2
Y = _rng.normal(size=(N, 3))
ONE_HOT = np.eye(3)[[0, 2, 1, 1, 0, 2]]


@dataclass(frozen=True, eq=False)
class RealMistakeInFunction:
    """A gradient with a mistake, of a function of a tree of arrays with these shapes.

    The other attributes are those of `RealMistake`; `gradient` takes the parameters, and whether it is repaired.
    """

    name: str
    source: str
    f: Callable[[Any], Any]
    shapes: dict[str, tuple[int, ...]]
    gradient: Callable[[Any, bool], Any]
    named: tuple[frozenset[str], ...]

    def params(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(crc32(self.name.encode()))
        return {name: rng.normal(size=shape) for name, shape in self.shapes.items()}

    def mine(self, repaired: bool = False) -> Any:
        return self.gradient(self.params(), repaired)

    def __repr__(self) -> str:
        return self.name


def case(name: str, source: str, f: Any, shapes: Any, gradient: Any, slugs: str) -> RealMistakeInFunction:
    return RealMistakeInFunction(name, source, f, shapes, gradient, named(slugs))


def logistic(p: Any) -> Any:
    a = X @ p["w"]
    return jnp.mean(jax.nn.softplus(a) - BITS * a)


def logistic_without_mean(p: Any, repaired: bool) -> Any:
    gradient = X.T @ (sigmoid(X @ p["w"]) - BITS)
    return {"w": gradient / N if repaired else gradient}


def penalised_logistic(p: Any) -> Any:
    return logistic(p) + 0.3 / (2 * N) * jnp.sum(p["w"] ** 2)


def penalised_logistic_without_inputs(p: Any, repaired: bool) -> Any:
    error = sigmoid(X @ p["w"]) - BITS
    return {"w": (X.T @ error if repaired else np.full(4, error.sum())) / N + 0.3 / N * p["w"]}


def many_class_hinge(p: Any) -> Any:
    scores = X @ p["W"]
    margins = jnp.maximum(scores - jnp.sum(scores * ONE_HOT, axis=1, keepdims=True) + 1, 0) * (1 - ONE_HOT)
    return jnp.sum(margins) / N + 0.1 * jnp.sum(p["W"] ** 2)


def many_class_hinge_with_half_the_penalty(p: Any, repaired: bool) -> Any:
    scores = X @ p["W"]
    violated = ((scores - (scores * ONE_HOT).sum(axis=1, keepdims=True) + 1 > 0) * (1 - ONE_HOT)).astype(float)
    delta = violated - ONE_HOT * violated.sum(axis=1, keepdims=True)
    return {"W": X.T @ delta / N + (2 if repaired else 1) * 0.1 * p["W"]}


TWO_LAYERS = {"W1": (4, 5), "b1": (5,), "W2": (5, 3), "b2": (3,)}


def two_layers(p: Any) -> Any:
    h = jnp.tanh(X @ p["W1"] + p["b1"][None])
    return -jnp.mean(jnp.sum(ONE_HOT * jax.nn.log_softmax(h @ p["W2"] + p["b2"][None]), axis=1))


def two_layers_gradient(p: Any) -> dict[str, np.ndarray]:
    h = np.tanh(X @ p["W1"] + p["b1"])
    delta_2 = (softmax(h @ p["W2"] + p["b2"]) - ONE_HOT) / N
    delta_1 = delta_2 @ p["W2"].T * (1 - h**2)
    return {"W1": X.T @ delta_1, "b1": delta_1.sum(axis=0), "W2": h.T @ delta_2, "b2": delta_2.sum(axis=0)}


def all_penalised(p: Any) -> Any:
    return two_layers(p) + 0.1 * sum(jnp.sum(array**2) for array in p.values())


def biases_not_penalised_on_the_way_back(p: Any, repaired: bool) -> Any:
    return {
        name: gradient + 0.2 * p[name] * (repaired or name.startswith("W"))
        for name, gradient in two_layers_gradient(p).items()
    }


def weights_penalised(p: Any) -> Any:
    return two_layers(p) + 0.1 * sum(jnp.sum(p[name] ** 2) for name in ("W1", "W2"))


def biases_penalised_on_the_way_back(p: Any, repaired: bool) -> Any:
    return {
        name: gradient + 0.2 * p[name] * (not repaired or name.startswith("W"))
        for name, gradient in two_layers_gradient(p).items()
    }


def ones_penalised_on_the_way_back(p: Any, repaired: bool) -> Any:
    """The column of biases was replaced by ones where it should have been zeros."""
    return {
        name: gradient + 0.2 * (p[name] if name.startswith("W") else 0 if repaired else np.ones_like(p[name]))
        for name, gradient in two_layers_gradient(p).items()
    }


def hinge(p: Any) -> Any:
    return jnp.sum(p["w"] ** 2) / 2 + 2 * jnp.sum(jnp.maximum(1 - SIGNS * (X @ p["w"] + p["b"]), 0))


def hinge_with_bias_of_one(p: Any, repaired: bool) -> Any:
    """Σ over examples was n times the mean, and the n is lost in one of the two gradients."""
    g = np.where(1 - SIGNS * (X @ p["w"] + p["b"]) > 0, -SIGNS, 0.0)
    return {"w": p["w"] + 2 * X.T @ g, "b": np.array([2 * g.mean() * (N if repaired else 1)])}


def product_of_sine(p: Any) -> Any:
    return jnp.sum(jnp.sin(p["x"]) * p["y"])


def product_of_sine_gradient(p: Any, repaired: bool) -> Any:
    return {"x": np.cos(p["x"]) * p["y"], "y": np.sin(p["x"]) * (1 if repaired else -1)}


ALPHA = 0.9


def pseudo_huber(p: Any) -> Any:
    return jnp.sum(ALPHA**2 * (jnp.sqrt(1 + ((p["o"] - Y) / ALPHA) ** 2) - 1))


def pseudo_huber_gradient(p: Any, repaired: bool) -> Any:
    e = p["o"] - Y
    return {"o": (ALPHA if repaired else 1) * e / np.sqrt(e**2 + ALPHA**2)}


def mean_square(p: Any) -> Any:
    return jnp.sum((p["o"] - Y) ** 2) / N


def mean_square_gradient(p: Any, repaired: bool) -> Any:
    return {"o": (2 if repaired else 1) * (p["o"] - Y) / N}


def modified_huber(p: Any) -> Any:
    d = SIGNS * (X @ p["w"])
    return jnp.sum(jnp.where(d < -1, -4 * d, jnp.maximum(1 - d, 0) ** 2))


def modified_huber_gradient(p: Any, repaired: bool) -> Any:
    """The factor 2 is missing in one of three regions, and the region where nothing is to be done is forgotten."""
    d = SIGNS * (X @ p["w"])
    middle = 2 * np.maximum(1 - d, 0) if repaired else 1 - d
    return {"w": -X.T @ (SIGNS * np.where(d < -1, 4, middle))}


WEIGHTS = np.array([0.5, -1.0, 2.0])


def weighted_log_softmax(p: Any) -> Any:
    return jnp.sum(WEIGHTS[None] * jax.nn.log_softmax(p["a"]))


def weighted_log_softmax_gradient(p: Any, repaired: bool) -> Any:
    P = softmax(p["a"])
    return {"a": WEIGHTS - P * WEIGHTS.sum() if repaired else WEIGHTS + P}


def squares_of_means(p: Any) -> Any:
    return jnp.sum(jnp.mean(p["t"], axis=1) ** 2)


def squares_of_means_gradient(p: Any, repaired: bool) -> Any:
    outputs, inputs = p["t"].shape
    return {"t": np.repeat(2 * p["t"].mean(axis=1, keepdims=True) / (inputs if repaired else outputs), inputs, axis=1)}


def negative_product(p: Any) -> Any:
    return -jnp.prod(p["s"])


def negative_product_gradient(p: Any, repaired: bool) -> Any:
    """What came from above, −1, is not multiplied with."""
    return {"s": np.prod(p["s"]) / p["s"] * (-1 if repaired else 1)}


def broadcast_sum_of_squares(p: Any) -> Any:
    return jnp.sum((X[:, :3] + jnp.broadcast_to(p["b"], (N, 3)) - Y) ** 2)


def broadcast_gradient(p: Any, repaired: bool) -> Any:
    each = 2 * (X[:, :3] + p["b"] - Y)
    return {"b": each.sum(axis=0, keepdims=True) if repaired else each}


IN_FUNCTIONS = [
    case(
        "a sum where the loss is a mean",
        "eriklindernoren/ML-From-Scratch, issue 124, logistic_regression.py",
        logistic, {"w": (4,)}, logistic_without_mean,
        "scale",
    ),
    case(
        "the input left out beside a penalty",
        "fengdu78/Coursera-ML-AndrewNg-Notes, issue 82",
        penalised_logistic, {"w": (4,)}, penalised_logistic_without_inputs,
        "",
    ),
    case(
        "a penalty differentiated without its 2",
        "jingtinghuang/CS231n-Spring-2017, issue 3, linear_svm.py",
        many_class_hinge, {"W": (4, 3)}, many_class_hinge_with_half_the_penalty,
        "weight-decay",
    ),
    case(
        "biases in the penalty, not in its gradient",
        "Burton2000/CS231n-2017, issue 9, neural_net.py",
        all_penalised, TWO_LAYERS, biases_not_penalised_on_the_way_back,
        "weight-decay",
    ),
    case(
        "biases in the gradient of the penalty, not in it",
        "rasmusbergpalm/DeepLearnToolbox, issue 32, nnapplygrads.m",
        weights_penalised, TWO_LAYERS, biases_penalised_on_the_way_back,
        "weight-decay",
    ),
    case(
        "a penalty of ones in place of zeros",
        "JWarmenhoven/Coursera-Machine-Learning, issue 3",
        weights_penalised, TWO_LAYERS, ones_penalised_on_the_way_back,
        "",
    ),
    case(
        "the number of examples missing in the bias alone",
        "purushottamkar/ml19-20a, issue 5, getCSVMSGrad",
        hinge, {"w": (4,), "b": (1,)}, hinge_with_bias_of_one,
        "scale",
    ),
    case(
        "a sign in the documentation",
        "jax-ml/jax, issue 3213, the example of custom_vjp",
        product_of_sine, {"x": (3,), "y": (3,)}, product_of_sine_gradient,
        "sign",
    ),
    case(
        "a loss's constant that the test had set to 1",
        "RubixML/ML, pull request 446, HuberLoss",
        pseudo_huber, {"o": (N, 3)}, pseudo_huber_gradient,
        "scale",
    ),
    case(
        "a square differentiated without its 2",
        "davisking/dlib, issue 1169",
        mean_square, {"o": (N, 3)}, mean_square_gradient,
        "scale",
    ),
    case(
        "one region of a loss without its 2",
        "stdlib-js/stdlib, issue 13111 and pull request 15317",
        modified_huber, {"w": (4,)}, modified_huber_gradient,
        "",
    ),
    case(
        "the softmax added to what comes from above",
        "mlpack/mlpack, issue 2360, log_softmax_impl.hpp",
        weighted_log_softmax, {"a": (2, 3)}, weighted_log_softmax_gradient,
        "",
    ),
    case(
        "a mean divided by the size of its output",
        "pocketpy/cTensor, pull request 24",
        squares_of_means, {"t": (2, 3)}, squares_of_means_gradient,
        "scale",
    ),
    case(
        "a product that ignores what comes from above",
        "pytorch/pytorch, issue 995",
        negative_product, {"s": (3,)}, negative_product_gradient,
        "sign",
    ),
    case(
        "a gradient as large as what was broadcast",
        "deeplearning4j/nd4j, issue 2424",
        broadcast_sum_of_squares, {"b": (1, 3)}, broadcast_gradient,
        "missing-broadcast-sum",
    ),
]  # fmt: skip
