"""The linear maps between units: apply them, pull the signal back through them, contract it into a gradient.

A connection holds no weights; W comes in as an argument, which is None where the connection has none. Every
rule broadcasts over leading batch axes.

`_connection.py` says what a connection is and what its default answers to collectors are, and each kind has a file.
`Masked`, `Transposed` and `ConvTransposed` wrap another connection; `_windows.py` is what convolutions and pools share.
"""

from jaxbp.connections._bias import Bias
from jaxbp.connections._connection import Connection, Shape
from jaxbp.connections._conv import Conv
from jaxbp.connections._conv_transposed import ConvTransposed
from jaxbp.connections._dense import Dense
from jaxbp.connections._embedding import Embedding
from jaxbp.connections._identity import Flatten, Identity
from jaxbp.connections._masked import Masked
from jaxbp.connections._pool import AvgPool, MaxPool
from jaxbp.connections._scale import Scale
from jaxbp.connections._transposed import Transposed

__all__ = [
    "AvgPool",
    "Bias",
    "Connection",
    "Conv",
    "ConvTransposed",
    "Dense",
    "Embedding",
    "Flatten",
    "Identity",
    "Masked",
    "MaxPool",
    "Scale",
    "Shape",
    "Transposed",
]
