"""A run in a process of its own, which tests start, kill and start again.

    python trained_in_a_process.py FOLDER RESULT [COORDINATOR PROCESSES INDEX]

It says "step N" at each look, and writes the digest of the final state to RESULT.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import optax

import jaxbp
from jaxbp import train
from jaxbp.train._checkpoints import digest

UNITS = {
    "h": jaxbp.Unit(16, jaxbp.relu, {"x": jaxbp.Dense()}, dropout=0.25),
    "o": jaxbp.Unit(3, jaxbp.softmax, {"h": jaxbp.Dense()}),
}
NET = jaxbp.Network(inputs={"x": 8}, units=UNITS)
EPOCHS, EVERY, LOOK = 10, 12, 5


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 8))
    return x, np.argmax(x[:, :3], axis=1)


def main(folder, result, coordinator=None, processes="1", index="0"):
    jax.config.update("jax_enable_x64", True)
    if coordinator is None:
        train_until_done(folder, result, None)
        return
    with train.initialize(coordinator, int(processes), int(index)):
        mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        train_until_done(folder, result, mesh)


def train_until_done(folder, result, mesh):
    """Go on from the folder's checkpoints to the end, or until SIGTERM."""
    x, y = data()
    checkpoints = train.Checkpoints(folder, every=EVERY)
    with train.until_terminated() as stop:
        running = train.run(
            NET, jaxbp.cross_entropy, x, y, optimizer=optax.adam(1e-2), batch_size=8, key=jax.random.key(3),
            epochs=EPOCHS, every=LOOK, chunk=8, mesh=mesh, checkpoints=checkpoints, resume=True, stop=stop,
        )  # fmt: skip
        last = None
        for last in running:
            print("step", int(last.state.step), flush=True)
    if last is not None and last.state.step == EPOCHS * 20 and jax.process_index() == 0:
        losses = [row["loss"] for row in last.history]
        params = jax.tree.map(lambda W: np.asarray(W).tolist(), last.state.params)
        Path(result).write_text(json.dumps({"digest": digest(last.state), "losses": losses, "params": params}))


if __name__ == "__main__":
    main(*sys.argv[1:])
