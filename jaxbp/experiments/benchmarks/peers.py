"""The collectors' peers in torch, on a layered network with the same weights: BackPACK and Opacus.

Every maker here returns a function of no arguments that does one forward and backward phase and returns what it found,
by parameter in torch's order and layout; `in_tree` gives the order of jaxbp's parameters. All of this module
needs the extra `peers`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import backpack
import numpy as np
import torch
from backpack import extensions
from opacus import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

import jaxbp

Run = Callable[[], Any]


def sequential(
    net: jaxbp.Network, params: jaxbp.Params, activation: type[torch.nn.Module] = torch.nn.ReLU
) -> torch.nn.Sequential:
    """The layered network up to its output's pre-activation, which is what torch's losses take."""
    modules: list[torch.nn.Module] = []
    for unit in net.units:
        b, W = (torch.tensor(np.asarray(params[unit][s])) for s in ("bias", _source(net, unit)))
        layer = torch.nn.Linear(*W.shape, dtype=W.dtype)
        with torch.no_grad():
            layer.weight.copy_(W.T)  # torch has (units, sources)
            layer.bias.copy_(b)
        modules += [layer, activation()]
    return torch.nn.Sequential(*modules[:-1])


def in_tree(net: jaxbp.Network, of_parameters: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """What belongs to each parameter in torch's order, as a tree like jaxbp's parameters; W's axes stay torch's."""
    left = iter(of_parameters)
    # torch has the weight before its bias
    return {u: {s: next(left) for s in (_source(net, u), "bias")} for u in net.units}


def plain(model: torch.nn.Module, criterion: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Run:
    """The gradient by `loss.backward()`."""
    parameters = list(model.parameters())

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        criterion(model(x), y).backward()
        return [p.grad for p in parameters]

    return run


def by_backpack(
    extension: Any, model: torch.nn.Module, criterion: torch.nn.Module, x: torch.Tensor, y: torch.Tensor
) -> Run:
    """The gradient, and what an extension of BackPACK finds beside it."""
    model, criterion = backpack.extend(model), backpack.extend(criterion)
    parameters = list(model.parameters())

    def run() -> list[Any]:
        model.zero_grad()
        with backpack.backpack(extension):
            criterion(model(x), y).backward()
        return [getattr(p, extension.savefield) for p in parameters]

    return run


def gram_by_backpack(model: torch.nn.Module, criterion: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Run:
    """The Gram matrix by its definition from BatchGrad: BackPACK has no extension for it."""
    each = by_backpack(extensions.BatchGrad(), model, criterion, x, y)

    def run() -> torch.Tensor:
        flat = [gradients.flatten(start_dim=1) for gradients in each()]
        return sum(gradients @ gradients.T for gradients in flat)

    return run


def ghost_clipped(
    model: torch.nn.Module, criterion: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, max_norm: float
) -> Run:
    """The sum of clipped gradients by Opacus' ghost clipping: norms by a first backward phase, the sum by a second."""
    private = GradSampleModuleFastGradientClipping(model, max_grad_norm=max_norm, use_ghost_clipping=True)
    optimizer = DPOptimizerFastGradientClipping(**_without_noise(private, max_norm, len(y)))
    private_criterion = DPLossFastGradientClipping(private, optimizer, criterion)
    parameters = list(private.parameters())

    def run() -> list[torch.Tensor]:
        private_criterion(private(x), y).backward()  # which sets the gradients to zero between its phases
        return [p.grad for p in parameters]

    return run


def per_sample_clipped(
    model: torch.nn.Module, criterion: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, max_norm: float
) -> Run:
    """The sum of clipped gradients by Opacus' classic way: the gradient of each example, clipped and summed."""
    private = GradSampleModule(model)
    optimizer = DPOptimizer(**_without_noise(private, max_norm, len(y)))
    parameters = list(private.parameters())

    def run() -> list[torch.Tensor]:
        optimizer.zero_grad()
        criterion(private(x), y).backward()
        optimizer.clip_and_accumulate()
        return [p.summed_grad for p in parameters]

    return run


def of_collectors(
    net: jaxbp.Network, params: jaxbp.Params, x: Any, y: Any, max_norm: float
) -> tuple[Run, dict[str, dict[str, Run]]]:
    """The plain gradient, and by collector the peers that make the same of the same relu network and targets.

    Nothing is measured that a collector does not do, too: no noise, no step, no division by the batch size.
    """
    data = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(y), dtype=torch.int64)

    def made(make: Callable[..., Run], *before: Any, **options: Any) -> Run:
        # a model of its own for each: both libraries leave their hooks in it
        return make(*before, sequential(net, params), torch.nn.CrossEntropyLoss(), *data, **options)

    peers = {
        "norms": {"BatchL2Grad": made(by_backpack, extensions.BatchL2Grad())},
        "clipped": {
            "Opacus, ghost": made(ghost_clipped, max_norm=max_norm),
            "Opacus, classic": made(per_sample_clipped, max_norm=max_norm),
        },
        "second moment": {"SumGradSquared": made(by_backpack, extensions.SumGradSquared())},
        "variance": {"Variance": made(by_backpack, extensions.Variance())},
        "Kronecker": {"KFAC": made(by_backpack, extensions.KFAC(mc_samples=1))},
        "Gram": {"BatchGrad, matmul": made(gram_by_backpack)},
        "diagonal GGN": {"DiagGGNExact": made(by_backpack, extensions.DiagGGNExact())},
        "sampled diag.": {"DiagGGNMC": made(by_backpack, extensions.DiagGGNMC(mc_samples=1))},
        "Kronecker GGN": {"KFLR": made(by_backpack, extensions.KFLR())},
        "sampled Kron.": {"KFAC": made(by_backpack, extensions.KFAC(mc_samples=1))},
    }
    return made(plain), peers


def _source(net: jaxbp.Network, unit: str) -> str:
    (source,) = net.units[unit].connections
    return source


def _without_noise(private: torch.nn.Module, max_norm: float, examples: int) -> dict[str, Any]:
    optimizer = torch.optim.SGD(private.parameters(), lr=0.1)
    return {
        "optimizer": optimizer,
        "noise_multiplier": 0.0,
        "max_grad_norm": max_norm,
        "expected_batch_size": examples,
    }
