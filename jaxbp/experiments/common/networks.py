"""Networks that options describe: which activations they may name, and how large they may be."""

from typing import Literal

import jaxbp

ActivationName = Literal["linear", "sigmoid", "tanh", "relu", "hard_tanh", "leaky_relu", "softplus", "gelu", "silu"]

MOST_PARAMETERS = 100_000_000  # of which training holds several copies: 2 GB in float32


def affordable(net: jaxbp.Network) -> jaxbp.Network:
    """The same network; a ValueError if its hidden layers make it larger than what is trained here."""
    if net.parameter_count > MOST_PARAMETERS:
        widths = " ⇒ ".join(str(width) for (width,) in net.shapes.values())
        raise ValueError(
            f"hidden must make a network of at most {MOST_PARAMETERS:,} parameters, got {net.parameter_count:,} with "
            f"{widths}"
        )
    return net
