"""A network's own worked example, with its numbers, and the verdict on what others say about it."""

from jaxbp._explain._claims import Claim as Claim
from jaxbp._explain._explanation import Explanation as Explanation
from jaxbp._explain._explanation import explain as explain
from jaxbp._explain._steps import Equation as Equation
from jaxbp._explain._steps import Step as Step
