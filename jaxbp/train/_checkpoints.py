"""Checkpoints: a state and where it stands, written by orbax, and taken up again only when every bit is as it was."""

import hashlib
import json
import logging
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxbp._checks import check_flag, check_integer, check_kind, check_number, check_text, described
from jaxbp.train._processes import agreed
from jaxbp.train._state import TrainState, check_state


@dataclass(frozen=True)
class Checkpoints:
    """Where and when a run writes what it would need to go on.

    They are written by orbax while training goes on, each whole or not at all. What is read back must have the digest
    that it was written with; if it has not, that is logged and the checkpoint before it is taken.

    Attributes:
        folder: The folder, for one run alone.
        every: After how many steps, or None.
        seconds: After how many seconds, at the next chunk of steps, or None.
        keep: How many are kept, the last ones.
        best: The name of a score, such as `"validation_loss"`, whose best checkpoint is kept beside the last ones; it
            is written where the score is taken. None for none.
        mode: Whether the best score is the least or the greatest.

    Example:
        >>> import jax.numpy as jnp, jaxbp, tempfile
        >>> net = jaxbp.layered([3, 2, 1], output=jaxbp.linear)
        >>> x, y = jnp.ones((6, 3)), jnp.ones((6, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = jaxbp.train.Checkpoints(folder, every=2)
        ...     first = jaxbp.train.fit(net, jaxbp.squared_error, x, y, epochs=2, batch_size=2, checkpoints=kept)
        ...     gone_on = jaxbp.train.fit(
        ...         net, jaxbp.squared_error, x, y, epochs=4, batch_size=2, checkpoints=kept, resume=True
        ...     )
        >>> [row["epoch"] for row in gone_on.history], int(gone_on.state.step)
        ([1, 2, 3, 4], 12)
    """

    folder: str | Path
    every: int | None = None
    seconds: float | None = None
    keep: int = 3
    best: str | None = None
    mode: Literal["least", "greatest"] = "least"

    def __post_init__(self):
        if not isinstance(self.folder, str | Path):
            raise TypeError(f"folder must be a path, got {described(self.folder)}")
        if self.every is not None:
            check_integer(self.every, "every", 1)
        if self.seconds is not None:
            check_number(self.seconds, "seconds", above=0)
        check_integer(self.keep, "keep", 1)
        if self.best is not None:
            check_text(self.best, "best")
        if self.mode not in ("least", "greatest"):
            raise ValueError(f"mode must be 'least' or 'greatest', got {self.mode!r}")
        if self.every is None and self.seconds is None and self.best is None:
            raise ValueError("nothing says when to write a checkpoint; pass every=, seconds= or best=")


NOTHING = (0.0, 0.0, 0.0)


class Position(NamedTuple):
    """Where a run stands.

    Attributes:
        epoch: The epoch, from 0.
        within: The steps that were done in it.
        history: All rows of its history.
        since: What was done since the last of these: the sums of the weighted losses and of the weights, and seconds.
    """

    epoch: int
    within: int
    history: list[dict[str, Any]]
    since: tuple[float, float, float] = NOTHING


class Writer:
    """The checkpoints of a run that is going on."""

    def __init__(self, of: Checkpoints, manager: Any, scores: dict[int, float], identity: dict[str, Any]):
        self.of, self.manager, self.scores, self.identity = of, manager, scores, identity
        self.written = time.monotonic()

    def due(self, step: int, row: dict[str, Any] | None) -> bool:
        """Whether one is to be written now, which all processes say alike.

        Args:
            step: The number of steps made.
            row: What the history says of this very step, or None.
        """
        if row is not None and self.of.best is not None:
            if self.of.best not in row:
                raise ValueError(f"checkpoints are to keep the best {self.of.best!r}, but the scores are {sorted(row)}")
            return True
        if self.of.every is not None and step % self.of.every == 0:
            return True
        return self.of.seconds is not None and agreed(time.monotonic() - self.written > self.of.seconds)

    def save(self, state: TrainState, position: Position) -> None:
        """Begin to write one, if there is none of this step."""
        ocp, step = _orbax(), int(state.step)
        if step in self.manager.all_steps():
            return
        about = {**self.identity, **position._asdict(), "step": step, "digest": digest(state)}
        self.scores |= _score(self.of, about)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(_sealed(about)))
        self.manager.save(step, args=args, force=True)
        self.written = time.monotonic()


@contextmanager
def opened(of: Checkpoints, identity: dict[str, Any]) -> Generator[Writer]:
    """A writer of checkpoints; at the end all of them are on the disk, or an error says why not."""
    scores: dict[int, float] = {}
    with _manager(of, scores) as manager:
        scores |= _scores(of, manager)
        yield Writer(of, manager, scores, identity)
        manager.wait_until_finished()
        manager.check_for_errors()


def identity_of(state: TrainState, **about: Any) -> dict[str, Any]:
    """What must be alike for a run to go on: shapes and dtypes by name, and what else is said of it."""
    leaves = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in _named(state)}
    return {"leaves": leaves, **{name: str(value) for name, value in about.items()}}


def latest(
    of: Checkpoints, like: TrainState, shardings: Any, identity: dict[str, Any], *, best: bool = False
) -> tuple[TrainState, Position]:
    """The last checkpoint that is as it was written, or the best one that is, and where the run stood.

    Raises:
        FileNotFoundError: There is none.
        ValueError: They are another run's, or none of them is as it was written.
    """
    with _manager(of) as manager:
        steps = _best_first(of, _scores(of, manager)) if best else sorted(manager.all_steps(), reverse=True)
        if not steps:
            raise FileNotFoundError(f"{of.folder} has no checkpoint")
        for step in steps:
            try:
                about = _unsealed(_restored_json(manager, step))
            except Exception as error:
                _warn(of, step, error)
                continue
            _check_same(of, about, identity)
            try:
                state = _restored(manager, step, like, shardings)
                if (found := digest(state)) != about["digest"]:
                    wrong = [name for name in found if found[name] != about["digest"].get(name)]
                    raise ValueError(f"{', '.join(wrong)} differs from what was written")
            except Exception as error:
                _warn(of, step, error)
                continue
            total, weight, seconds = about["since"]
            return state, Position(about["epoch"], about["within"], about["history"], (total, weight, seconds))
    raise ValueError(f"none of the {len(steps)} checkpoints in {of.folder} is as it was written; the log says why")


def restore(checkpoints: Checkpoints, state: TrainState, *, best: bool = False) -> TrainState:
    """The state of the last of some checkpoints, or of the best, for more than to go on with the run.

    Args:
        checkpoints: Where they are; for the best, with its `best` and `mode`.
        state: A state of the same shapes and dtypes, as `init_state` makes it.
        best: Whether the best is wanted.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It has other shapes or dtypes, or none is as it was written.
    """
    check_kind(checkpoints, Checkpoints, "checkpoints", "jaxbp.train.Checkpoints(folder, every=…)")
    check_state(state)
    check_flag(best, "best")
    if best and checkpoints.best is None:
        raise ValueError("checkpoints.best names no score, so none of them is the best; expected such as 'loss'")
    return latest(checkpoints, state, None, identity_of(state), best=best)[0]


def has_any(of: Checkpoints) -> bool:
    """Whether there is a checkpoint in the folder."""
    folder = Path(of.folder)
    return folder.exists() and any(part.name.isdecimal() for part in folder.iterdir())


def check_empty(of: Checkpoints) -> None:
    """Refuse a folder that has checkpoints: a fresh run would mix its own with them."""
    if has_any(of):
        raise FileExistsError(f"{of.folder} has checkpoints already; go on with resume=True, or choose another folder")


def digest(tree: Any) -> dict[str, int]:
    """A number for each leaf that any changed bit changes, Σ_i bits_i (2i + 1) mod 2³², whatever its sharding."""
    return {name: int(value) for name, value in zip([n for n, _ in _named(tree)], _sums(tree), strict=True)}


@jax.jit
def _sums(tree: Any) -> list[Array]:
    return [_sum(leaf) for leaf in jax.tree.leaves(tree)]


def _sum(leaf: Array) -> Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    word = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)  # eight bytes are two words on an axis of theirs
    place, stride = jnp.zeros(bits.shape, jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):  # the place of an element, without a reshape, which would gather shards
        place = place + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]


def _name(path: Any) -> str:
    parts = (str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)
    return ".".join(parts)


def _check_same(of: Checkpoints, about: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuse the checkpoints of another network, loss, optimizer, dtype or data, and say what differs."""
    for what, mine in identity.items():
        theirs = about.get(what)
        if what == "leaves":
            assert isinstance(theirs, dict)
            for name in {**mine, **theirs}:
                if theirs.get(name) != mine.get(name):
                    raise ValueError(
                        f"the checkpoints in {of.folder} are another run's: {name} is {theirs.get(name, 'not there')} "
                        f"in them and {mine.get(name, 'not there')} in this run"
                    )
        elif theirs != mine:
            raise ValueError(
                f"the checkpoints in {of.folder} are another run's: {what} is\n  {theirs}\nin them and\n  {mine}\nhere"
            )


def _best_first(of: Checkpoints, scores: dict[int, float]) -> list[int]:
    return sorted(scores, key=scores.__getitem__, reverse=of.mode == "greatest")


def _scores(of: Checkpoints, manager: Any) -> dict[int, float]:
    """The score of each checkpoint that was written where the score was taken."""
    scores: dict[int, float] = {}
    for step in manager.all_steps() if of.best is not None else ():
        with suppress(Exception):  # what is damaged is said where it is read
            scores |= _score(of, _unsealed(_restored_json(manager, step)))
    return scores


def _score(of: Checkpoints, about: dict[str, Any]) -> dict[int, float]:
    row = about["history"][-1] if about["history"] else {}
    return {about["step"]: row[of.best]} if row.get("step") == about["step"] and of.best in row else {}


def _restored(manager: Any, step: int, like: TrainState, shardings: Any) -> TrainState:
    ocp = _orbax()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, like) if shardings is None else shardings
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like, shardings
    )
    return manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))["state"]


def _restored_json(manager: Any, step: int) -> Any:
    ocp = _orbax()
    return manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]


def _sealed(about: dict[str, Any]) -> dict[str, str]:
    text = json.dumps(about, sort_keys=True)
    return {"about": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _unsealed(sealed: dict[str, str]) -> dict[str, Any]:
    if hashlib.sha256(sealed["about"].encode()).hexdigest() != sealed["sha256"]:
        raise ValueError("what it says of itself differs from what was written")
    return json.loads(sealed["about"])


def _warn(of: Checkpoints, step: int, error: Exception) -> None:
    logging.getLogger("jaxbp").error(
        "the checkpoint of step %d in %s is damaged and is left out, the one before it is tried: %s: %s",
        step, of.folder, type(error).__name__, str(error).splitlines()[0] if str(error) else "",
    )  # fmt: skip


class Kept:
    """Which checkpoints orbax keeps: the last ones, and the one with the best score."""

    def __init__(self, of: Checkpoints, scores: dict[int, float]):
        self.of, self.scores = of, scores

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each is kept, the first written first."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = _best_first(self.of, {step: self.scores[step] for step in steps if step in self.scores})[:1]
        return [step in (*steps[-self.of.keep :], *best) for step in steps]


def _manager(of: Checkpoints, scores: dict[int, float] | None = None) -> Any:
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(preservation_policy=Kept(of, {} if scores is None else scores))
    return ocp.CheckpointManager(Path(of.folder).resolve(), options=options)


def _orbax() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            "checkpoints are written by orbax, which is not installed: pip install 'jaxbp[train]'"
        ) from error
    return ocp
