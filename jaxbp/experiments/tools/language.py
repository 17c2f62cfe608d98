"""Train a GPT of characters on real text by explicit backpropagation, and look into it while it learns.

    python -m experiments.language
    python -m experiments.language --text PATH/TO/TEXT.txt.gz --steps 5000
    python -m experiments.language --layers 12 --width 256 --context 128 --remat
    python -m experiments.language --gradient auto

The text is a file, plain or gzipped, or a folder of them; the sources of Python's standard library when not given. As
it comes it has the size of nanoGPT's setting for CPUs: 4 blocks, 4 heads, width 128, 64 characters, 12 windows in a
batch, 2,000 steps. Its blocks are one stack, trained by AdamW with a warm-up and a cosine.

Shows the loss, the validation loss, the speed and what the network writes. Every so often one sweep over a few windows
gives the size of δ and the noise scale of each layer, and at the end the norms of the gradients of single windows say
which of them surprise the network most. Writes `runs/NAME/` with `config.json`, a JSON line of metrics for each look,
`curves.png`, `samples.txt`, `surprising.txt` and `params.npz`. Ctrl-C ends the run with what was done until then, and
exit code 130.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import jaxbp
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.gpt import gpt
from jaxbp.experiments.common.networks import MOST_PARAMETERS
from jaxbp.experiments.common.options import FRACTION, LARGEST, check_options, whole
from jaxbp.experiments.common.records import append_line, as_json
from jaxbp.experiments.common.runs import make_folder, save_params
from jaxbp.experiments.common.text import Text, load_text
from jaxbp.experiments.tools.language_plots import save_figure

LOSS = jaxbp.cross_entropy
LOOKED_AT = 20  # batches behind each validation loss
JUDGED = 256  # windows among which the most surprising ones are looked for
SURPRISING = 8
CLIPPED = 1.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Language:
    """Train a GPT of characters by explicit backpropagation on real text."""

    text: Path | None = None
    """A file, plain or gzipped, or a folder of files; Python's standard library when not given."""
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 64
    """Characters in a window."""
    batch_size: int = 12
    steps: int = 2000
    learning_rate: float = 1e-3
    """At its highest, after the warm-up; a tenth of it is left at the end."""
    warmup: int = 100
    weight_decay: float = 0.1
    """Of matrices and tables."""
    dropout: float = 0.0
    every: int = 250
    """Steps between two looks at the network."""
    sample: int = 160
    """Characters that it writes at each look."""
    remat: bool = False
    """Compute again on the way back what is in the blocks, for less memory."""
    seed: int = 0
    """Fixes the parameters, the windows and the noise."""
    gradient: Literal["explicit", "auto"] = "explicit"
    """Explicit backpropagation, or jax.grad of the same objective to compare with."""
    name: str | None = None
    """The folder under runs/, in plain characters; made of the text and the time when not given."""

    def __post_init__(self):
        check_options(
            self,
            layers=whole(1, 1000),
            heads=whole(1),
            context=whole(1, 2**16),
            warmup=whole(0),
            weight_decay=((lambda number: 0 <= number < float("inf"), "at least 0 and finite"),),
            dropout=FRACTION,
            every=whole(1),
            sample=whole(0, LARGEST),
        )
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width, got {self.heads} and {self.width}")

    def network(self, vocabulary: int) -> jaxbp.Network:
        """The network for so many characters."""
        net = gpt(
            vocabulary, self.context, layers=self.layers, heads=self.heads, width=self.width, dropout=self.dropout,
            remat=self.remat,
        )  # fmt: skip
        if net.parameter_count > MOST_PARAMETERS:
            raise ValueError(
                f"layers and width make a network of {net.parameter_count:,} parameters, more than the "
                f"{MOST_PARAMETERS:,} that are trained here"
            )
        return net

    def rate(self) -> optax.Schedule:
        """A warm-up and a cosine."""
        warmup = min(self.warmup, self.steps - 1)
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else self.learning_rate, self.learning_rate, warmup, self.steps, self.learning_rate / 10
        )

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with clipping."""
        adamw = optax.adamw(self.rate(), b2=0.99, weight_decay=self.weight_decay, mask=decayed)
        return optax.chain(optax.clip_by_global_norm(CLIPPED), adamw)


def decayed(params: Any) -> Any:
    """Which weights decay: matrices and tables, but no biases and no gains."""

    def decays(path: Any, _: Any) -> bool:
        return path[-1].key != "bias" and not path[-1].key.startswith("norm")

    return jax.tree.map_with_path(decays, params)


def windows(key: Any, tokens: Any, batch_size: int, context: int) -> tuple[Any, Any]:
    """Random windows of the text, and the characters that follow each of theirs."""
    starts = jax.random.randint(key, (batch_size,), 0, tokens.size - context)
    places = starts[:, None] + jnp.arange(context + 1)[None]
    rows = tokens[places]
    return rows[:, :-1], rows[:, 1:]


def each(y: Any) -> Any:
    """The weight of each character, so that a loss is the mean over all of them."""
    return jnp.ones(y.shape, jnp.float32)


class Run:
    """A network and what is made of it, compiled."""

    def __init__(self, config: Language, text: Text):
        self.config, self.text = config, text
        self.net = config.network(len(text.characters))
        self.optimizer = config.optimizer()
        self.explicit = jaxbp.value_and_grad(self.net, LOSS)
        self.auto = jax.value_and_grad(jaxbp.objective(self.net, LOSS))
        self.tokens, self.held_back = jnp.asarray(text.train), jnp.asarray(text.validation)
        self.state = jaxbp.train.init_state(jax.random.key(config.seed), self.net, self.optimizer, dtype=jnp.float32)
        self._train = jax.jit(self._steps, static_argnums=2, donate_argnums=0)
        self._evaluate = jax.jit(self._losses)
        self.look = jax.jit(self._look)
        self.norms = jax.jit(self._norms)
        self._write = jax.jit(self._characters, static_argnums=2)

    def train(self, first: int, steps: int) -> float:
        """Some steps in one scan; the mean of their losses."""
        self.state, losses = self._train(self.state, first, steps)
        return float(jnp.mean(losses))

    def _steps(self, state: jaxbp.train.TrainState, first: Any, steps: int) -> tuple[Any, Any]:
        config = self.config
        gradient = self.explicit if config.gradient == "explicit" else self.auto

        def body(state: Any, number: Any) -> tuple[Any, Any]:
            x, y = self.batch(number)
            return jaxbp.train.step(
                state, x, y, gradient=gradient, optimizer=self.optimizer, keyed=config.dropout > 0, weights=each(y)
            )

        return jax.lax.scan(body, state, first + jnp.arange(steps))

    def batch(self, number: Any) -> tuple[Any, Any]:
        """The batch of a step, which the seed and its number fix."""
        key = jax.random.fold_in(jax.random.key(self.config.seed + 1), number)
        return windows(key, self.tokens, self.config.batch_size, self.config.context)

    def validation_loss(self) -> float:
        """The mean over the same windows of the rest of the text each time."""
        return float(self._evaluate(self.state.params))

    def _losses(self, params: Any) -> Any:
        def one(_: Any, key: Any) -> tuple[Any, Any]:
            x, y = windows(key, self.held_back, self.config.batch_size, self.config.context)
            return None, jaxbp.train.evaluate(self.net, LOSS, params, x, y, weights=each(y))["loss"]

        keys = jax.random.split(jax.random.key(2), LOOKED_AT)
        return jnp.mean(jax.lax.scan(one, None, keys)[1])

    def _look(self, params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """‖Δ‖ of what enters each layer, and its noise scale: the batch size at which noise and signal are alike."""
        key = jax.random.key(0) if self.config.dropout else None
        collectors = {"noise": jaxbp.collect.gradient_noise_scale}
        back = jaxbp.backprop(self.net, LOSS, params, x, y, weights=each(y), collect=collectors, key=key)
        of_weights = jax.tree.leaves(
            back.collected["noise"].weights["blocks"], is_leaf=lambda of: isinstance(of, jaxbp.collect.NoiseScale)
        )
        spread, signal = (sum(getattr(of, part) for of in of_weights) for part in ("trace", "squared_norm"))
        noise = jnp.where(signal > 0, spread / signal, jnp.nan)
        return jnp.sqrt(jnp.sum(back.Delta["blocks.x"] ** 2, axis=(1, 2, 3))), noise

    def _norms(self, params: Any, x: Any, y: Any) -> Any:
        """The norm of the gradient of each window by itself."""
        key = jax.random.key(0) if self.config.dropout else None
        collectors = {"norms": jaxbp.collect.squared_norm}
        back = jaxbp.backprop(self.net, LOSS, params, x, y, weights=each(y), collect=collectors, key=key)
        return len(y) * jnp.sqrt(back.collected["norms"].total)  # what it adds to the mean is 1/N of its own

    def surprising(self) -> list[tuple[float, str]]:
        """The training windows with the largest gradients, the largest first."""
        found: list[tuple[float, str]] = []
        size = self.config.batch_size
        for number in range(-(-JUDGED // size)):
            x, y = windows(jax.random.fold_in(jax.random.key(3), number), self.tokens, size, self.config.context)
            norms = np.asarray(self.norms(self.state.params, x, y))
            found += [(float(n), self.text.decoded(np.asarray(ids))) for n, ids in zip(norms, x, strict=True)]
        return sorted(found, reverse=True)[:SURPRISING]

    def write(self, length: int, number: int) -> str:
        """What the network writes, character by character, after a line break."""
        key = jax.random.fold_in(jax.random.key(4), number)
        return self.text.decoded(np.asarray(self._write(self.state.params, key, length)))

    def _characters(self, params: Any, key: Any, length: int) -> Any:
        context, start = self.config.context, int(self.text.encoded("\n")[0])

        def one(carried: Any, key: Any) -> tuple[Any, Any]:
            window, place = carried
            # what stands behind the place is not seen: attention is causal
            o = jaxbp.apply(self.net, params, window)[place]
            drawn = jax.random.categorical(key, jnp.log(o)).astype(window.dtype)
            full = place == context - 1
            window = jnp.where(full, jnp.roll(window, -1), window)
            place = jnp.where(full, place, place + 1)
            return (window.at[place].set(drawn), place), drawn

        window = jnp.full(context, start, self.tokens.dtype)
        return jax.lax.scan(one, (window, 0), jax.random.split(key, length))[1]


def main(config: Language, console: Console | None = None) -> list[Row]:
    """Train as configured, show it, and write the run's files.

    Raises:
        ValueError: A choice that does not exist or does not fit the text, before anything is compiled.
        FileExistsError: A run of this name is there already.
        OSError: A file cannot be read or written; the error names it.
        jaxbp.train.DivergedError: The loss was not finite; what was done so far is written.
        KeyboardInterrupt: The same of Ctrl-C, and the message says how far it came.
    """
    console = console or terminal()
    text = load_text(config.text, config.context)
    run = Run(config, text)
    folder = make_folder(config, text.name)
    console.print(
        f"{text.name}: {len(text.train):,} characters to learn from and {len(text.validation):,} to validate, "
        f"{len(text.characters)} different ones"
    )
    console.print(str(run.net))
    console.print(_proof(run))
    rows: list[Row] = []
    samples: list[str] = []
    probe = run.batch(0)

    def record(step: int, loss: float | None, seconds: float, steps: int) -> None:
        sizes, noise = run.look(run.state.params, *probe)
        rate = steps * config.batch_size * config.context / seconds if seconds else None
        row = {
            "step": step,
            "loss": loss,
            "validation_loss": run.validation_loss(),
            "tokens_per_second": rate and round(rate),
            "Delta_norm": np.asarray(sizes, float).tolist(),
            "noise_scale": np.asarray(noise, float).tolist(),
        }
        rows.append(row)
        append_line(folder / "metrics.jsonl", as_json(row))
        words = run.write(config.sample, step) if config.sample else ""
        samples.append(f"--- after {step} steps\n{words}\n")
        console.print(_in_words(row), style="bold")
        if words:
            console.print(words)

    def finish() -> str:
        if not rows:
            return "config.json"
        surprising = run.surprising()
        lines = (f"gradient norm {norm:.3f}\n{window}\n" for norm, window in surprising)
        write_whole(folder / "surprising.txt", "\n".join(lines))
        write_whole(folder / "samples.txt", "\n".join(samples))
        save_figure(rows, surprising, f"{text.name}, {config.gradient} gradient", folder / "curves.png")
        save_params(run.state.params, folder / "params.npz")
        return "config.json, metrics.jsonl, curves.png, samples.txt, surprising.txt, params.npz"

    done, spent = 0, 0.0
    try:
        record(0, None, 0.0, 0)
        while done < config.steps:
            steps = min(config.every, config.steps - done)
            started = time.perf_counter()
            loss = run.train(done, steps)
            seconds = time.perf_counter() - started
            done, spent = done + steps, spent + seconds
            if not np.isfinite(loss):
                finish()
                raise jaxbp.train.DivergedError(1, done, "loss")
            record(done, loss, seconds, steps)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"by Ctrl-C after {done} of {config.steps} steps; wrote {folder}/: {finish()}"
        ) from None
    console.print(f"{done} steps took {spent:.1f} s; wrote {folder}/: {finish()}")
    return rows


def _proof(run: Run) -> str:
    """How far the explicit gradient is from that of jax.grad, on the first batch."""
    extra = {"key": jax.random.key(0)} if run.config.dropout else {}
    ours, theirs = (jax.jit(partial(f, **extra))(run.state.params, *run.batch(0))[1] for f in (run.explicit, run.auto))
    # of the whole: the biases of the keys have gradients of 0, and a quotient of roundings says nothing
    error = jax.jit(lambda ours, theirs: optax.tree.norm(optax.tree.sub(ours, theirs)) / optax.tree.norm(theirs))
    return f"explicit gradient against jax.grad, relative error: {float(error(ours, theirs)):.1e}"


def _in_words(row: Row) -> str:
    parts = [f"step {row['step']}"]
    parts += [f"loss {row['loss']:.4f}"] if row["loss"] is not None else []
    parts += [f"validation loss {row['validation_loss']:.4f}"]
    parts += [f"{row['tokens_per_second']:,} tokens/s"] if row["tokens_per_second"] else []
    return "  ".join(parts)


if __name__ == "__main__":
    command_line(main, Language, succeeded=lambda rows: True)
