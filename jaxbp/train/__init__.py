"""The training loop, with any optax optimizer: `fit` is the whole of it, and `run`, `epoch` and `step` are its parts.

`fit` goes through `run` for some epochs, `run` repeats many steps in one compiled loop, `epoch` is such a loop over all
data, and `step` is one update. An argument means the same in all of them:

    x, y        the inputs, an array or a dict of them by name, and the targets; the examples are on the first axis.
                `run` and `fit` also take what yields batches, `(x, y)` or `(x, y, weights)`, as x alone
    batch_size  the number of examples in a step; the last step of an epoch may have fewer
    drop_last   whether that last, smaller batch is left out
    weights     one weight for each example, or for each row of its output, for a gradient that takes `weights=`
    optimizer   any optax optimizer; one that takes more than gradients gets the batch too, as `x`, `y`, `value` and,
                where there are such, `weights` and `key`: `kfac(net, loss)`
    gradient    `(params, x, y) -> (value, grads)`, such as `jaxbp.value_and_grad(net, loss)`; or `fused(net, loss)`,
                which has each layer of a stack updated where its gradient is
    keyed       whether the gradient also gets a fresh `key=` in each step, as that of a network with dropout wants
    observe     `(params, x, y) -> pytree`, called before each update and stacked over the steps;
                where there are weights it also gets them as `weights=`, if it takes these
    chunk       how many batches go to the device together, where not all data lies there. None for data on the device;
                a file that is mapped into memory, and what yields batches, goes 50 batches at a time
    mesh        devices that share the work: the batch is divided along the axis "data", or the only one
    layout      how parameters, and what the optimizer keeps of each, lie on the mesh: "replicated"; "sharded" for
                memory, whole again for each step; or a function of a parameter's name, as "o.h1", and its shape that
                gives a `jax.sharding.PartitionSpec`, or None, for splits of one's own

The order of an epoch follows from the state's key and the number of the epoch, and what a step draws from the key and
the number of the step. So neither the size of chunks, nor a restart, nor the number of processes changes anything; the
devices of a mesh change the order of sums.

A step and an epoch are compiled once for a gradient and an optimizer, so make both before the loop.

What every loop has is optax's, or a line:

    >>> import jax, jax.numpy as jnp, jaxbp, optax
    >>> net = jaxbp.layered([3, 8, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> y = (x[:, 0] > 0).astype(int)
    >>> def matrices(params):  # weight decay of matrices alone
    ...     return jax.tree.map(lambda W: W.ndim > 1, params)
    >>> optimizer = optax.chain(
    ...     optax.clip_by_global_norm(1.0),
    ...     optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 10, 160), weight_decay=0.1, mask=matrices),
    ...     jaxbp.train.averaged(0.9),  # an average of the parameters
    ... )
    >>> gradient = jaxbp.value_and_grad(net, jaxbp.cross_entropy)
    >>> gradient = jaxbp.train.computed_in(gradient, jnp.bfloat16)  # parameters stay in float32
    >>> gradient = jaxbp.train.accumulated(gradient, 4)  # each batch in four parts
    >>> running = jaxbp.train.run(
    ...     net, jaxbp.cross_entropy, x, y, optimizer=optimizer, gradient=gradient, batch_size=16,
    ...     every=10,  # look after ten steps each, and evaluate
    ...     epochs=40,
    ...     score=lambda params: jaxbp.train.evaluate(net, jaxbp.cross_entropy, params, x, y),
    ... )
    >>> for done in running:
    ...     if done.scores["accuracy"] > 0.9:  # stop early
    ...         break
    >>> jaxbp.train.average_of(done.state.opt_state)["h1"]["x"].shape
    (3, 8)

`fit` stops early with `patience=`, and calls a `callback=` with each `Epoch`.

`_state.py` has what a step changes, `_steps.py` a step and many of them, `_running.py` the loop around these, and
`_loop.py` what users call. `_data.py` has where batches come from, `_placement.py` where everything lies,
`_checkpoints.py` what is kept on a disk, and `_processes.py` what several processes need. `_arguments.py` looks at the
arguments before anything is compiled, `_evaluation.py` at the network on other data, and `_divergence.py` finds what
was not finite. `_fused.py` updates layers on the way back, and `_elementwise.py` says for which optimizers. `_kfac.py`
is an optimizer of the second order, `_kfac_blocks.py` which weights it takes together, `_kfac_factors.py` what it makes
of a sweep, and `_kfac_model.py` how far it goes; `_laplace.py` says with the same factors how sure a network is.
`_gradients.py` and `_averaging.py` make gradients and optimizers of others, `_masking.py` and `_kolen_pollack.py` are
for those of their own kind.
"""

from jaxbp.train._arguments import check_data
from jaxbp.train._averaging import average_of, averaged
from jaxbp.train._checkpoints import Checkpoints, restore
from jaxbp.train._divergence import DivergedError
from jaxbp.train._epoch import Epoch, Fit
from jaxbp.train._evaluation import evaluate
from jaxbp.train._fused import fused
from jaxbp.train._gradients import accumulated, computed_in
from jaxbp.train._kfac import kfac
from jaxbp.train._kolen_pollack import kolen_pollack
from jaxbp.train._laplace import laplace
from jaxbp.train._loop import fit, run
from jaxbp.train._masking import keep_masked
from jaxbp.train._processes import initialize, until_terminated
from jaxbp.train._state import TrainState, init_state
from jaxbp.train._steps import Gradient, Steps, epoch, step

__all__ = [
    "Checkpoints",
    "DivergedError",
    "Epoch",
    "Fit",
    "Gradient",
    "Steps",
    "TrainState",
    "accumulated",
    "average_of",
    "averaged",
    "check_data",
    "computed_in",
    "epoch",
    "evaluate",
    "fit",
    "fused",
    "init_state",
    "initialize",
    "keep_masked",
    "kfac",
    "kolen_pollack",
    "laplace",
    "restore",
    "run",
    "step",
    "until_terminated",
]
