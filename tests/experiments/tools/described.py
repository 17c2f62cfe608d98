"""What the tests of `check` and its parts share: networks and a program to check, and how they are checked."""

import io
import re
import textwrap

import pytest
from rich.console import Console

from jaxbp.experiments.tools import check
from jaxbp.experiments.tools.check import Check

LAYERS, GRAPH = (
    textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    [^\n]))+", check.__doc__, re.MULTILINE)[1:]
)
"""The two examples of the module's own documentation; the graph has no parameters and no data."""
NETWORK = LAYERS[LAYERS.index("[network]") : LAYERS.index("[params.h1]")]
PARAMS = LAYERS[LAYERS.index("[params.h1]") : LAYERS.index("[data]")]
DATA = LAYERS[LAYERS.index("[data]") :]

PROGRAM = """
import numpy as np

def gradients(params, x, y, slope=lambda h: h * (1 - h)):
    h = 1 / (1 + np.exp(-(x @ params["h1"]["x"] + params["h1"]["bias"])))
    e = np.exp(h @ params["o"]["h1"] + params["o"]["bias"])
    o = e / e.sum(1, keepdims=True)
    delta_o = (o - np.eye(2)[y]) / len(y)
    delta_h1 = delta_o @ params["o"]["h1"].T * slope(h)
    return {
        "h1": {"x": x.T @ delta_h1, "bias": delta_h1.sum(0)},
        "o": {"h1": h.T @ delta_o, "bias": delta_o.sum(0)},
    }

def forgetful(params, x, y):
    return gradients(params, x, y, lambda h: 1)
"""


def run(folder, mine, network="net.toml", **options):
    console = Console(file=io.StringIO(), width=40, color_system="standard", force_terminal=True)
    report = check.main(Check(mine=f"{folder / mine}", network=folder / network, **options), console)
    return report, console.file.getvalue()


def complaint(folder, mine, **options):
    with pytest.raises((TypeError, ValueError)) as caught:
        run(folder, mine, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
