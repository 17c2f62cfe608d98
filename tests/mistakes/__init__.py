"""The mistakes that can be made in a backward pass, each given as what it changes.

Of the functions here, those that take a unit give the changes in that unit's step, one for each variant of the mistake;
none, or empty ones, where there is nothing to go wrong.
"""

from mistakes._parts import Arrays, AtTheEnd, Changes
from mistakes.deltas import IN_DELTAS
from mistakes.everywhere import EVERYWHERE, between_units, everywhere
from mistakes.gradients import IN_GRADIENTS
from mistakes.images import IN_IMAGES
from mistakes.sequences import IN_SEQUENCES
from mistakes.signals import IN_SIGNALS
from mistakes.whole import IN_THE_WHOLE

__all__ = ["AT_A_UNIT", "EVERYWHERE", "IN_THE_WHOLE", "Arrays", "AtTheEnd", "Changes", "between_units", "everywhere"]

AT_A_UNIT = [
    (slug, variants)
    for table in (IN_SIGNALS, IN_DELTAS, IN_GRADIENTS, IN_IMAGES, IN_SEQUENCES)
    for slug, variants in table.items()
]
