"""The configuration of a training run, typed: what can be chosen, and the specifications that the choices name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import optax

import jaxbp
from experiments.common.messages import suggestion
from experiments.common.networks import ActivationName, affordable
from experiments.common.options import check_options

OutputName = Literal["softmax", "sigmoid", "linear"]
LossName = Literal["cross_entropy", "binary_cross_entropy", "squared_error", "perceptron"]
DtypeName = Literal["float32", "float64", "bfloat16", "float16"]


@dataclass(frozen=True)
class Config:
    """Train a layered network by explicit backpropagation on real data."""

    data: str = "digits"
    """digits, iris, wine, breast_cancer, diabetes, linnerud, or mnist with --data-dir."""
    data_dir: Path | None = None
    """A folder of IDX files under their usual names, plain or gzipped."""
    hidden: tuple[int, ...] = (128,)
    """The widths of the hidden layers, first to last."""
    activation: ActivationName = "relu"
    """Of the hidden layers."""
    output: OutputName | None = None
    """The output activation; softmax for classes and linear for a regression when not given."""
    loss: LossName | None = None
    """cross_entropy for classes and squared_error for a regression when not given."""
    optimizer: str = "sgd"
    """By its name in optax."""
    learning_rate: float = 0.05
    momentum: float | None = None
    """For the optimizers that take one; 0.9 for sgd when not given."""
    batch_size: int = 32
    epochs: int = 30
    seed: int = 0
    """Fixes the split, the parameters and the order of the examples."""
    dtype: DtypeName = "float32"
    """Of parameters and data."""
    gradient: Literal["explicit", "auto"] = "explicit"
    """Explicit backpropagation, or jax.grad of the same objective to compare with."""
    name: str | None = None
    """The folder under runs/, in plain characters; made of the data set and the time when not given."""

    def __post_init__(self):
        check_options(self)

    def network(self, features: int, outputs: int, classification: bool) -> jaxbp.Network:
        """The layered network for data of this shape, if it is `affordable`."""
        output = self.output or ("softmax" if classification else "linear")
        widths = [features, *self.hidden, outputs]
        net = jaxbp.layered(widths, hidden=getattr(jaxbp, self.activation), output=getattr(jaxbp, output))
        return affordable(net)

    def loss_for(self, classification: bool) -> jaxbp.Loss:
        """The loss for this kind of data."""
        return getattr(jaxbp, self.loss or ("cross_entropy" if classification else "squared_error"))

    def transformation(self) -> optax.GradientTransformation:
        """The optimizer by its optax name.

        Raises:
            ValueError: optax has no such optimizer, or it takes no momentum.
        """
        make = _optimizers().get(self.optimizer)
        if make is None:
            near = suggestion(self.optimizer, _optimizers())
            raise ValueError(f"optax has no optimizer {self.optimizer!r}{near}; known: {', '.join(_optimizers())}")
        momentum = 0.9 if self.momentum is None and self.optimizer == "sgd" else self.momentum
        if momentum is None:
            return make(self.learning_rate)
        try:
            return make(self.learning_rate, momentum=momentum)
        except TypeError:
            raise ValueError(f"optax.{self.optimizer} takes no momentum; leave --momentum out") from None

    @property
    def jax_dtype(self) -> Any:
        """The dtype itself."""
        return jnp.dtype(self.dtype)


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """What optax offers that takes a learning rate first: its optimizers, under their own names."""
    names = "adabelief adadelta adagrad adam adamax adamw adan amsgrad fromage lamb lars lion nadam noisy_sgd novograd"
    names += " radam rmsprop rprop sgd sign_sgd sm3 yogi"
    return {name: getattr(optax, name) for name in names.split() if hasattr(optax, name)}
