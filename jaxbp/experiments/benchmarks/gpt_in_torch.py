"""The GPT of `experiments.language` against the same in torch, eager: the same start, and the same batches."""

import importlib.util
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jaxbp.experiments.common.text import load_text
from jaxbp.experiments.tools.language import CLIPPED, LOOKED_AT, Language, Run, decayed, windows

INSTALLED = importlib.util.find_spec("torch") is not None


def language_table(text: Path | None, steps: int) -> Table:
    """Seconds to train, tokens a second and the validation loss at the end, of both."""
    config = Language(text=text, steps=steps)
    of_text = load_text(text, config.context)
    run = Run(config, of_text)
    start, state = jax.tree.map(np.array, run.state.params), jax.tree.map(jnp.array, run.state)
    run.train(0, min(config.every, steps))  # compiles
    run.state = state
    rows: list[tuple[str, float, float, float]] = []
    began, cpu = time.perf_counter(), time.process_time()
    for first in range(0, steps, config.every):
        run.train(first, min(config.every, steps - first))
    rows.append(("jaxbp", time.perf_counter() - began, time.process_time() - cpu, run.validation_loss()))
    if INSTALLED:
        rows.append(("torch, eager", *_torch(run, start, steps)))
    table = Table(title=f"a GPT on {of_text.name}, {steps} steps of {config.batch_size} × {config.context} characters")
    for column in ("", "seconds", "CPU seconds", "tokens / s", "validation loss", "time / torch's"):
        table.add_column(column, justify="right")
    tokens = steps * config.batch_size * config.context
    for name, seconds, cpu_seconds, loss in rows:
        ratio = f"{seconds / rows[-1][1]:.2f}" if INSTALLED else "not installed"
        table.add_row(name, f"{seconds:.1f}", f"{cpu_seconds:.1f}", f"{tokens / seconds:,.0f}", f"{loss:.4f}", ratio)
    return table


def _torch(run: Run, start: Any, steps: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds and the validation loss."""
    import torch
    import torch.nn.functional as F  # noqa: N812 (as everybody calls it)

    config = run.config
    W = {
        ".".join(key.key for key in path): torch.nn.Parameter(torch.tensor(leaf))
        for path, leaf in jax.tree.leaves_with_path(start)
    }
    decays = {".".join(key.key for key in path): decay for path, decay in jax.tree.leaves_with_path(decayed(start))}
    batches = jax.jit(jax.vmap(run.batch))(np.arange(steps))
    xs, ys = (torch.tensor(np.asarray(batch, np.int64)) for batch in batches)
    keys = jax.random.split(jax.random.key(2), LOOKED_AT)
    held_back = jax.vmap(lambda key: windows(key, run.held_back, config.batch_size, config.context))(keys)
    xs_held, ys_held = (torch.tensor(np.asarray(batch, np.int64)) for batch in held_back)
    width, heads = config.width, config.heads

    def norm(h: Any, gain: Any, bias: Any) -> Any:
        return F.layer_norm(h, (width,), gain, bias)

    def loss_of(x: Any, y: Any) -> Any:
        h = F.embedding(x, W["shared.embedding"]) + W["embedded.bias"]
        for layer in range(config.layers):

            def of(name: str, layer: int = layer) -> Any:
                return W[f"blocks.{name}"][layer]

            g = norm(h, of("gain1.norm1"), of("gain1.bias"))
            q, k, v = (
                (g @ of(f"{name}.gain1") + of(f"{name}.bias")).unflatten(-1, (heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            h = h + mixed @ of("attended.mixed") + of("attended.bias")
            g = norm(h, of("gain2.norm2"), of("gain2.bias"))
            up = F.gelu(g @ of("up.gain2") + of("up.bias"), approximate="tanh")
            h = h + up @ of("out.wide") + of("out.bias")
        logits = norm(h, W["gain.norm"], W["gain.bias"]) @ W["shared.embedding"].T
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    groups = [
        {"params": [W[name] for name in W if decays[name] == decay], "weight_decay": config.weight_decay * decay}
        for decay in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))
    rate = config.rate()
    rates = np.asarray(jax.vmap(rate)(np.arange(steps)))

    def train(n: int) -> None:
        for step in range(n):
            for group in optimizer.param_groups:
                group["lr"] = float(rates[step])
            optimizer.zero_grad()
            loss_of(xs[step], ys[step]).backward()
            torch.nn.utils.clip_grad_norm_(W.values(), CLIPPED)
            optimizer.step()

    began, cpu = time.perf_counter(), time.process_time()
    train(steps)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    with torch.no_grad():
        loss = np.mean([float(loss_of(x, y)) for x, y in zip(xs_held, ys_held, strict=True)])
    return seconds, cpu_seconds, float(loss)
