"""The catalogue of mistakes that people make in gradients, the likeliest first: the order ranks explanations.

A mistake is one `Entry` (`jaxbp/_check/_entry.py`), in the file of its kind.
"""

from jaxbp._check._catalogue._attention import ATTENTION
from jaxbp._check._catalogue._biases import BIASES
from jaxbp._check._catalogue._derivatives import DERIVATIVES
from jaxbp._check._catalogue._dropout import DROPOUT
from jaxbp._check._catalogue._factors import FACTORS
from jaxbp._check._catalogue._functions import FUNCTIONS
from jaxbp._check._catalogue._images import IMAGES
from jaxbp._check._catalogue._normalisation import NORMALISATION
from jaxbp._check._catalogue._numbers import NUMBERS
from jaxbp._check._catalogue._output import OUTPUT
from jaxbp._check._catalogue._products import PRODUCTS
from jaxbp._check._catalogue._rules import RULES
from jaxbp._check._catalogue._shared import SHARED_WEIGHTS
from jaxbp._check._catalogue._signals import SIGNALS
from jaxbp._check._catalogue._sums import SUMS
from jaxbp._check._catalogue._tokens import TOKENS
from jaxbp._check._entry import Entry, Stage

_BY_KIND: tuple[Entry, ...] = (
    *FUNCTIONS, *ATTENTION, *IMAGES, *SHARED_WEIGHTS, *NORMALISATION, *DROPOUT, *DERIVATIVES, *SIGNALS, *NUMBERS,
    *FACTORS, *BIASES, *PRODUCTS, *TOKENS, *OUTPUT, *RULES, *SUMS,
)  # fmt: skip
CATALOGUE = tuple(sorted(_BY_KIND, key=lambda entry: entry.rank))


def entries(stage: Stage) -> list[Entry]:
    """The mistakes that can be made in a part of a step."""
    return [entry for entry in CATALOGUE if entry.stage == stage]
