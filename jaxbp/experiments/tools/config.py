"""The configuration of a training run, typed: what can be chosen, and the specifications that the choices name."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import optax

import jaxbp
from jaxbp.experiments.common.messages import suggestion
from jaxbp.experiments.common.networks import ActivationName, affordable
from jaxbp.experiments.common.options import check_options, whole

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
    resume: Path | None = None
    """The folder of a run that was ended, runs/NAME, to go on with; all other options are those that it had."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; one each minute when not given."""
    processes: int = 1
    """How many train together on this machine; each batch is divided among them."""
    drop_last: bool = False
    """Leave the last, smaller batch of each epoch out."""

    def __post_init__(self):
        check_options(self, checkpoint_every=whole(1), processes=whole(1, 64))

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


def resumed(given: Config) -> Config:
    """The options of the run that is to go on, from its folder.

    Raises:
        ValueError: There is no run in it, or other options are given too.
    """
    folder = given.resume
    assert folder is not None
    for field in dataclasses.fields(Config):
        if field.name not in ("resume", "processes") and getattr(given, field.name) != field.default:
            raise ValueError(f"a run that is resumed has its own {field.name}; leave --{field.name} out")
    return replace(of_run(folder), processes=given.processes)


def of_run(folder: Path) -> Config:
    """The options of a run, from its folder.

    Raises:
        ValueError: There is no run in it.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no run: there is no config.json in it; expected such as runs/NAME")
    try:
        settings = json.loads(path.read_text())
        known = {field.name for field in dataclasses.fields(Config)}
        options = {name: value for name, value in settings.items() if name in known}
        options |= {"hidden": tuple(options["hidden"]), "data_dir": options["data_dir"] and Path(options["data_dir"])}
        return Config(**options | {"resume": None})
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not that of a training run: {type(error).__name__}: {error}") from None


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """What optax offers that takes a learning rate first: its optimizers, under their own names."""
    names = "adabelief adadelta adagrad adam adamax adamw adan amsgrad fromage lamb lars lion nadam noisy_sgd novograd"
    names += " radam rmsprop rprop sgd sign_sgd sm3 yogi"
    return {name: getattr(optax, name) for name in names.split() if hasattr(optax, name)}
