"""Hand gradients: whether they are right, where they go wrong, and which mistake explains it."""

from jaxbp._check._check import check as check
from jaxbp._check._function import check_function as check_function
from jaxbp._check._report import Finding as Finding
from jaxbp._check._report import Mistake as Mistake
from jaxbp._check._report import Report as Report
