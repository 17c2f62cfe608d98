"""The training loop, with any optax optimizer.

For those who do not want to write the loop there is `fit`; for those who do, `run`, `epoch` and `step`.
"""

from jaxbp.train._divergence import DivergedError as DivergedError
from jaxbp.train._evaluation import check_data as check_data
from jaxbp.train._evaluation import evaluate as evaluate
from jaxbp.train._kolen_pollack import kolen_pollack as kolen_pollack
from jaxbp.train._loop import Epoch as Epoch
from jaxbp.train._loop import Fit as Fit
from jaxbp.train._loop import Gradient as Gradient
from jaxbp.train._loop import Steps as Steps
from jaxbp.train._loop import TrainState as TrainState
from jaxbp.train._loop import epoch as epoch
from jaxbp.train._loop import fit as fit
from jaxbp.train._loop import init_state as init_state
from jaxbp.train._loop import run as run
from jaxbp.train._loop import step as step
from jaxbp.train._masking import keep_masked as keep_masked
