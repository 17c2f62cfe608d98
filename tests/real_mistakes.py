"""Mistakes that people made: backward passes of public projects and of questions, each re-enacted in a small program.

The formula that was wrong stands here as it stood there, in our symbols; everything around it is our own. A program
does as it was found, or, `repaired`, as it should have been: then its gradient is that of `jax.grad`, so that it has
this one mistake and no other. It is numpy, and shares nothing with the library.

A case says which mistakes a report may name: each of `named` is a set of slugs, and none of them where there is no name
for what was done, so that nothing may be named. A mistake in what a unit sends back is made in the step of that unit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np

import jaxbp
from jaxbp import Network, layered

Program = Callable[[Any, Any, Any, bool], Any]
"""(params, x, y, repaired) to gradients."""


@dataclass(frozen=True, eq=False)
class RealMistake:
    """A program with a mistake for the gradient of a network.

    Attributes:
        name: What it is, in a few words.
        source: Where it was found: a repository on GitHub with an issue or a file, or a question.
        net: The network, as small as the mistake allows.
        loss: The loss of the source; its constant is ours.
        program: The backward pass.
        named: The sets of slugs, any of which says what is wrong; none if there is no name for it.
        units: Where it is made; None where that is everywhere, or nowhere in particular.
        size: How many examples there are.
        examples: What draws them where numbers of any kind would not do.
    """

    name: str
    source: str
    net: Network
    loss: jaxbp.Loss
    program: Program
    named: tuple[frozenset[str], ...]
    units: frozenset[str] | None = None
    size: int = 6
    examples: Callable[[np.random.Generator], Any] | None = None

    def problem(self) -> tuple[Any, Any, Any]:
        """Parameters, examples and targets, the same each time."""
        rng = np.random.default_rng(crc32(self.name.encode()))
        net, N = self.net, self.size
        params = {
            u: {s: _weights(rng, shape) for s, shape in shapes.items()} for u, shapes in net.weight_shapes.items()
        }
        x = {
            s: rng.integers(0, net.ids[s], (N, *net.shapes[s]))
            if s in net.ids
            else rng.normal(size=(N, *net.shapes[s]))
            for s in net.inputs
        }
        x = x if self.examples is None else self.examples(rng)
        return params, x, _targets(rng, self.loss, (N, *net.shapes[net.output]))

    def mine(self, repaired: bool = False) -> Any:
        """What the program computes."""
        params, x, y = self.problem()
        return self.program(params, x if len(x) > 1 else next(iter(x.values())), y, repaired)

    def __repr__(self) -> str:
        return self.name


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 1
    return rng.normal(size=shape) * (fan_in**-0.5 if len(shape) > 1 else 0.5)


def _targets(rng: np.random.Generator, loss: jaxbp.Loss, shape: tuple[int, ...]) -> np.ndarray:
    if loss is jaxbp.cross_entropy:
        return np.eye(shape[-1])[rng.integers(0, shape[-1], size=shape[:-1])]
    if loss is jaxbp.binary_cross_entropy:
        return rng.integers(0, 2, size=shape).astype(float)
    return rng.uniform(size=shape)


def named(text: str) -> tuple[frozenset[str], ...]:
    """The sets of slugs in "this + that | or this"."""
    return tuple(frozenset(slug.strip() for slug in one.split("+")) for one in text.split("|") if one.strip())


# Layers, one after the other. Each of a layer's steps is a line of its own, which a case replaces by what was written.


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _steep_leaky(a: Any) -> Any:
    return jaxbp.leaky_relu.value(a) * (a >= 0) + 0.2 * a * (a < 0)


STEEP = jaxbp.elementwise(_steep_leaky, lambda a, h: 0.2 + 0.8 * (a >= 0), name="steep_leaky_relu")

VALUE = {
    jaxbp.linear: lambda a: a,
    jaxbp.sigmoid: sigmoid,
    jaxbp.tanh: np.tanh,
    jaxbp.relu: lambda a: np.maximum(a, 0),
    STEEP: lambda a: np.where(a >= 0, a, 0.2 * a),
    jaxbp.silu: lambda a: a * sigmoid(a),
    jaxbp.softmax: softmax,
}
DERIVATIVE = {
    jaxbp.linear: np.ones_like,
    jaxbp.sigmoid: lambda a: sigmoid(a) * (1 - sigmoid(a)),
    jaxbp.tanh: lambda a: 1 - np.tanh(a) ** 2,
    jaxbp.relu: lambda a: (a > 0).astype(float),
    STEEP: lambda a: np.where(a >= 0, 1, 0.2),
    jaxbp.silu: lambda a: sigmoid(a) * (1 + a * (1 - sigmoid(a))),
}
LOSS_GRADIENT = {
    jaxbp.squared_error: lambda o, y: o - y,
    jaxbp.cross_entropy: lambda o, y: -y / o,
    jaxbp.binary_cross_entropy: lambda o, y: (o - y) / (o * (1 - o)),
}

Line = Callable[[Any], np.ndarray]


def _delta(at: Any) -> np.ndarray:
    if at.Phi is jaxbp.softmax:
        return at.h * (at.Delta - np.sum(at.h * at.Delta, axis=-1, keepdims=True))
    return DERIVATIVE[at.Phi](at.a) * at.Delta


LINES: dict[str, Line] = {
    "Delta": lambda at: at.reader.delta @ at.reader.W.T if at.reader else LOSS_GRADIENT[at.loss](at.h, at.y) / at.N,
    "delta": _delta,
    "W": lambda at: at.x.T @ at.delta,
    "b": lambda at: at.delta.sum(axis=0),
}


def layers(net: Network, loss: jaxbp.Loss, wrong: Mapping[str, Line]) -> Program:
    """The pass through layers. A wrong line is one of all layers, as "delta", or of one, as "delta.h1".

    A line computes with what is known at its layer: what it reads, x; W and b; a and h; Delta and delta as soon as they
    are there; its `reader`, which has the same, and its gradients dW and db; and y, N, the loss and Phi.
    """

    def program(params: Any, x: Any, y: Any, repaired: bool) -> Any:
        lines = dict(LINES) if repaired else {**LINES, **wrong}
        passed, h = [], x
        for u in net.order:
            unit = net.units[u]
            source = next(iter(unit.reads))
            W, b = params[u][source], params[u].get("bias", 0.0)
            at = SimpleNamespace(u=u, source=source, x=h, W=W, b=b, a=h @ W + b, Phi=unit.activation)
            at.h = h = VALUE[at.Phi](at.a)
            passed.append(at)
        grads: dict[str, dict[str, np.ndarray]] = {}
        reader = None
        for at in reversed(passed):
            at.y, at.N, at.loss, at.reader, at.below = y, len(y), loss, reader, passed[0]
            at.Delta = lines.get(f"Delta.{at.u}", lines["Delta"])(at)
            at.delta = lines.get(f"delta.{at.u}", lines["delta"])(at)
            at.dW = lines.get(f"W.{at.u}", lines["W"])(at)
            at.db = lines.get(f"b.{at.u}", lines["b"])(at)
            grads[at.u] = {at.source: at.dW} | ({"bias": at.db} if "bias" in params[at.u] else {})
            reader = at
        return grads

    return program


def in_layers(
    name: str,
    source: str,
    widths: list[int],
    hidden: Any,
    output: Any,
    loss: jaxbp.Loss,
    wrong: Mapping[str, Line],
    slugs: str,
    units: str | None = None,
    bias: bool = True,
    size: int = 6,
) -> RealMistake:
    net = layered(widths, hidden=hidden if len(widths) > 2 else (), output=output, bias=bias)
    where = None if units is None else frozenset(units.split())
    return RealMistake(name, source, net, loss, layers(net, loss, wrong), named(slugs), where, size)


def _raw_errors(at: Any) -> np.ndarray:
    """The error itself goes back, weight by weight, and Φ' only into the gradients."""
    return at.reader.Delta @ at.reader.W.T if at.reader else (at.h - at.y) / at.N


def _through_updated(eta: float) -> Line:
    return lambda at: at.reader.delta @ (at.reader.W - eta * at.reader.dW).T if at.reader else (at.h - at.y) / at.N


SQUARED, CROSS, BINARY = jaxbp.squared_error, jaxbp.cross_entropy, jaxbp.binary_cross_entropy
SIGMOID, TANH, RELU, LINEAR, SOFTMAX = jaxbp.sigmoid, jaxbp.tanh, jaxbp.relu, jaxbp.linear, jaxbp.softmax

IN_LAYERS = [
    in_layers(
        "output errors split by the weights",
        "makeyourownneuralnetwork/makeyourownneuralnetwork, issue 88 and neuralNetwork/neuralNetwork.py",
        [3, 4, 3], SIGMOID, SIGMOID, SQUARED,
        {"Delta": _raw_errors},
        "Delta-for-delta", "o", bias=False,
    ),
    in_layers(
        "errors go back without derivatives, through two hidden layers",
        "Stack Overflow 53287032, its line (2); the same in a widely read tutorial, according to pull request 16 of "
        "ujjwalkarn/Machine-Learning-Tutorials",
        [4, 5, 4, 3], SIGMOID, SIGMOID, SQUARED,
        {"Delta": _raw_errors},
        "Delta-for-delta", "o h2", bias=False,
    ),
    in_layers(
        "errors go back through weights that were just updated",
        "CodingTrain/Toy-Neural-Network-JS, issue 72 and lib/nn.js; also kim-marcel/basic_neural_network, issue 7",
        [2, 4, 3], SIGMOID, SIGMOID, SQUARED,
        {"Delta": lambda at: (
            at.reader.Delta @ (at.reader.W - 0.1 * at.reader.dW).T if at.reader else (at.h - at.y) / at.N
        )},
        "Delta-for-delta + updated-weights", "o",
    ),
    in_layers(
        "weights are updated before hidden deltas",
        "joelgrus/data-science-from-scratch, issue 31 and code-python3/neural_networks.py",
        [3, 5, 4], SIGMOID, SIGMOID, SQUARED,
        {"Delta": _through_updated(1.0)},
        "updated-weights", "o",
    ),
    in_layers(
        "no derivative at the output, and weights updated early",
        "Bot-Academy/NeuralNetworkFromScratch, pull request 3",
        [3, 4, 3], SIGMOID, SIGMOID, SQUARED,
        {"delta.o": lambda at: at.Delta, "Delta": _through_updated(0.01)},
        "missing-output-derivative + updated-weights", "o",
    ),
    in_layers(
        "no derivative at the output of three layers",
        "jiexunsee/Neural-Network-with-Python, issue 1",
        [3, 4, 4, 1], SIGMOID, SIGMOID, SQUARED,
        {"delta.o": lambda at: at.Delta},
        "missing-output-derivative", "o", bias=False,
    ),
    in_layers(
        "no derivative in the output's weights alone",
        "Stack Overflow 59399842, XOR gate with backpropagation",
        [2, 3, 2], SIGMOID, SIGMOID, SQUARED,
        {"W.o": lambda at: at.x.T @ at.Delta},
        "Delta-for-delta", "o", bias=False,
    ),
    in_layers(
        "a sigmoid's derivative from its input",
        "BoltzmannEntropy/interviews.ai, issue 15",
        [3, 4, 2], SIGMOID, LINEAR, SQUARED,
        {"delta.h1": lambda at: at.a * (1 - at.a) * at.Delta},
        "wrong-derivative", "h1",
    ),
    in_layers(
        "a sigmoid of the gradient",
        "yizt/numpy_neural_network, issue 3",
        [3, 4, 2], SIGMOID, LINEAR, SQUARED,
        {"delta.h1": lambda at: sigmoid(1 - sigmoid(at.Delta))},
        "",
    ),
    in_layers(
        "the derivative of tanh from its output",
        "davidrmiller/neural2d, issue 40",
        [3, 4, 4, 2], TANH, TANH, SQUARED,
        {"delta": lambda at: (1 - np.tanh(at.h) ** 2) * at.Delta},
        "derivative-at-output", "h1 h2 o",
    ),
    in_layers(
        "the derivative at the output layer's sums",
        "dennybritz/nn-from-scratch, pull request 3",
        [3, 3, 3], TANH, SOFTMAX, CROSS,
        {"delta.h1": lambda at: (1 - np.tanh(at.reader.a) ** 2) * at.Delta},
        "derivative-of-other-unit", "h1",
    ),
    in_layers(
        "tanh in place of its derivative",
        "andersbll/nnet, issue 4, helpers.py",
        [3, 4, 2], TANH, SOFTMAX, CROSS,
        {"delta.h1": lambda at: (np.exp(2 * at.a) - 1) / (np.exp(2 * at.a) + 1) * at.Delta},
        "activation-for-derivative", "h1",
    ),
    in_layers(
        "weight decay of the wrong sign",
        "andersbll/nnet, issue 4, layers.py",
        [3, 4, 2], TANH, SOFTMAX, CROSS,
        {"W": lambda at: at.x.T @ at.delta - 0.01 * at.W},
        "weight-decay",
    ),
    in_layers(
        "weight decay of the wrong sign, on biases too",
        "chainer/chainer, issue 261",
        [3, 4, 2], SIGMOID, LINEAR, SQUARED,
        {"W": lambda at: at.x.T @ at.delta - 0.1 * at.W, "b": lambda at: at.delta.sum(axis=0) - 0.1 * at.b},
        "weight-decay",
    ),
    in_layers(
        "a rectifier whose slope is 1 everywhere",
        "deeplearning4j/nd4j, issue 271; the same in chainer/chainer, pull request 5898",
        [3, 5, 4, 2], RELU, LINEAR, SQUARED,
        {"delta": lambda at: at.Delta},
        "missing-derivative", "h1 h2",
    ),
    in_layers(
        "negative gradients set to zero, not those of what was negative",
        "exacity/deeplearningbook-chinese, issue 127",
        [3, 5, 2], RELU, LINEAR, SQUARED,
        {"delta.h1": lambda at: np.maximum(at.Delta, 0)},
        "relu-mask", "h1",
    ),
    in_layers(
        "a rectifier that forgets what comes from above",
        "haifengl/smile, issue 528",
        [3, 5, 2], RELU, LINEAR, SQUARED,
        {"delta.h1": lambda at: np.where(at.h > 0, 1.0, 0.0)},
        "missing-signal", "h1",
    ),
    in_layers(
        "the slope of another leaky rectifier",
        "deeplearning4j/deeplearning4j, issue 8178",
        [3, 5, 2], STEEP, LINEAR, SQUARED,
        {"delta.h1": lambda at: np.where(at.a >= 0, 1, 0.01) * at.Delta},
        "wrong-derivative", "h1",
    ),
    in_layers(
        "the derivative of a sigmoid, of the error",
        "Data Science Stack Exchange 20139, gradients for bias terms in backpropagation",
        [3, 4, 2], SIGMOID, SIGMOID, SQUARED,
        {"delta.o": lambda at: (at.h - at.y) * (1 - (at.h - at.y)) / at.N},
        "wrong-derivative", "o",
    ),
    in_layers(
        "the mean of delta for a bias",
        "kvfrans/notes, issue 5; the same in deeplearning4j/deeplearning4j, pull request 366",
        [3, 4, 2], RELU, SOFTMAX, CROSS,
        {"b": lambda at: at.delta.mean(axis=0)},
        "bias-not-summed", "h1 o",
    ),
    in_layers(
        "a bias averaged over units, not examples",
        "deeplearning4j/deeplearning4j, pull request 364",
        [3, 5, 5], SIGMOID, SOFTMAX, CROSS,
        {"b": lambda at: at.delta.mean(axis=1)},
        "bias-over-wrong-axis | bias-over-wrong-axis + scale", "h1 o", size=5,
    ),
    in_layers(
        "one number for all biases",
        "rasbt/stat453-deep-learning-ss21, issue 5, softmax-regression_scratch.ipynb",
        [4, 3], (), SOFTMAX, CROSS,
        {"b": lambda at: np.full(at.b.shape, at.delta.sum())},
        "bias-summed-over-units | missing-gradient", "o",  # with softmax the number is 0
    ),
    in_layers(
        "a bias from the weights' gradient",
        "rust0258/Deeplearning.ai-Natural-Language-Processing-Specialization, issues 62 and 64",
        [4, 3, 4], RELU, SOFTMAX, CROSS,
        {"b": lambda at: (at.x.T @ at.delta).sum(axis=0)},
        "bias-of-weight-gradient", "h1 o",
    ),
    in_layers(
        "biases that never learn",
        "glouw/tinn, issue 30; the same in mattm/simple-neural-network, issue 5",
        [3, 4, 2], SIGMOID, SIGMOID, SQUARED,
        {"b": lambda at: np.zeros_like(at.b)},
        "missing-gradient", "h1 o",
    ),
    in_layers(
        "a factor 2 at one gradient and 4 at another",
        "bighuang624/Andrew-Ng-Deep-Learning-notes, issue 10: planted by the course, left in by the student",
        [4, 5, 3, 1], RELU, SIGMOID, BINARY,
        {"W.h2": lambda at: 2 * at.x.T @ at.delta, "b.h1": lambda at: 4 * at.delta.sum(axis=0)},
        "scale", "h1 h2",
    ),
    in_layers(
        "cross entropy averaged over outputs, its gradient not",
        "oysteijo/simd_neuralnet, issue 1",
        [3, 4, 3], TANH, SIGMOID, BINARY,
        {"delta.o": lambda at: 3 * (at.h - at.y) / at.N},
        "scale",
    ),
    in_layers(
        "target minus output",
        "haifengl/smile, pull request 151",
        [3, 4, 3], SIGMOID, SOFTMAX, CROSS,
        {"delta.o": lambda at: (at.y - at.h) / at.N},
        "sign",
    ),
    in_layers(
        "divided by the size of the batch twice",
        "d2l-ai/d2l-en, pull request 1000, linear regression from scratch",
        [3, 1], (), LINEAR, SQUARED,
        {"delta.o": lambda at: (at.h - at.y) / at.N**2},
        "scale",
    ),
    in_layers(
        "brackets missing in the derivative of silu",
        "chelsea0x3b/dfdx, pull request 915",
        [3, 4, 2], jaxbp.silu, LINEAR, SQUARED,
        {"delta.h1": lambda at: (
            1 + np.exp(-at.a) + at.a * np.exp(-at.a) / (1 + np.exp(-at.a)) ** 2
        ) * at.Delta},
        "",
    ),
    in_layers(
        "no gradient where the label is 0",
        "deeplearning4j/nd4j, issue 1328",
        [3, 4, 2], TANH, SIGMOID, BINARY,
        {"Delta.o": lambda at: -at.y / at.h / at.N},
        "",
    ),
    in_layers(
        "softmax as if each element were on its own",
        "deeplearning4j/libnd4j, issue 440; eriklindernoren/ML-From-Scratch, issue 71",
        [3, 4, 3], TANH, SOFTMAX, CROSS,
        {"delta.o": lambda at: at.h * (1 - at.h) * at.Delta},
        "softmax-diagonal", "o",
    ),
    in_layers(
        "a softmax that copies its gradient",
        "pjreddie/darknet, pull request 96, softmax_layer.c",
        [3, 4, 3], TANH, SOFTMAX, SQUARED,
        {"delta.o": lambda at: at.Delta},
        "missing-derivative | missing-output-derivative", "o",
    ),
    in_layers(
        "softmax's exponential for its derivative",
        "wkcn/mobula, issue 3, layers/Softmax.py",
        [3, 4, 3], TANH, SOFTMAX, SQUARED,
        {"delta.o": lambda at: np.exp(at.a) * at.Delta},
        "wrong-derivative", "o",
    ),
    in_layers(
        "a sigmoid's derivative on top of cross entropy",
        "mnielsen/neural-networks-and-deep-learning, pull request 77, not merged; and the question “Do we need to add "
        "the sigmoid derivative term in the final layer's error value?”",
        [3, 4, 3], SIGMOID, SIGMOID, BINARY,
        {"delta.o": lambda at: (at.h - at.y) / at.N * at.h * (1 - at.h)},
        "double-activation-derivative", "o",
    ),
    in_layers(
        "deltas for several inputs and outputs, transposed",
        "iamtrask/Grokking-Deep-Learning, issue 23",
        [3, 3], (), LINEAR, SQUARED,
        {"W": lambda at: at.delta.T @ at.x},
        "transposed", "o", bias=False,
    ),
    in_layers(
        "a matrix product sent back without the transpose",
        "tile-ai/TileOPs, pull request 54, top/functions/matmul.py",
        [3, 4, 4], TANH, LINEAR, SQUARED,
        {"Delta.h1": lambda at: at.reader.delta @ at.reader.W},
        "not-transposed", "o", bias=False,
    ),
    in_layers(
        "the product itself in place of its gradient",
        "Shubham-cyber-prog/100-Days-Of-Web-Development-ECWoC26, pull request 1378, terminal.js",
        [3, 4, 2], TANH, LINEAR, SQUARED,
        {"delta.o": lambda at: at.h},
        "wrong-signal", "o", bias=False,
    ),
    in_layers(
        "means of examples multiplied, not products averaged",
        "FesianXu/AI_Blog, issue 1, sigmoid_base_BP.py",
        [3, 3, 2, 1], SIGMOID, SIGMOID, SQUARED,
        {"W": lambda at: np.outer(at.x.mean(axis=0), at.delta.sum(axis=0))},
        "",
    ),
    in_layers(
        "the hidden layer's error without the weights",
        "the question “Backpropagation: Why doesn't error approach zero when it is multiplied by deriv of sigmoid?”",
        [2, 3, 1], SIGMOID, SIGMOID, SQUARED,
        {"Delta.h1": lambda at: np.repeat((at.reader.h - at.y) / at.N, 3, axis=1)},
        "", bias=False,
    ),
    in_layers(
        "weights where their inputs belong",
        "the question “Backpropagation demo gives always the same result after training”",
        [1, 1, 1], SIGMOID, SIGMOID, SQUARED,
        {"Delta.h1": lambda at: at.reader.Delta @ at.reader.W.T, "W": lambda at: at.delta.sum(axis=0) * at.W},
        "Delta-for-delta + wrong-input",
    ),
    in_layers(
        "each weight moves by delta, whatever its input",
        "Stack Overflow 12558517, questions about the backpropagation algorithm",
        [3, 4, 2], SIGMOID, SIGMOID, SQUARED,
        {"W": lambda at: np.tile(at.delta.sum(axis=0), (at.x.shape[1], 1))},
        "wrong-input", bias=False,
    ),
]  # fmt: skip
