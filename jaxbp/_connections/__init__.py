"""The linear maps between units: apply them, pull the signal back through them, contract it into a gradient.

A connection holds no weights; W comes in as an argument, which is None where the connection has none. Every
rule broadcasts over leading batch axes.

`_connection.py` says what a connection is and what its default answers to collectors are, and each kind has a file.
`Masked`, `Transposed` and `ConvTransposed` wrap another connection; `_windows.py` is what convolutions and pools share.
"""

from jaxbp._connections._bias import Bias as Bias
from jaxbp._connections._connection import Connection as Connection
from jaxbp._connections._connection import Shape as Shape
from jaxbp._connections._conv import Conv as Conv
from jaxbp._connections._conv_transposed import ConvTransposed as ConvTransposed
from jaxbp._connections._dense import Dense as Dense
from jaxbp._connections._identity import Flatten as Flatten
from jaxbp._connections._identity import Identity as Identity
from jaxbp._connections._masked import Masked as Masked
from jaxbp._connections._pool import AvgPool as AvgPool
from jaxbp._connections._pool import MaxPool as MaxPool
from jaxbp._connections._scale import Scale as Scale
from jaxbp._connections._transposed import Transposed as Transposed
