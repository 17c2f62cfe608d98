"""Where batches come from: arrays on the device, arrays on the host or on a disk, or anything that yields batches.

Each of them gives chunks: the batches of some steps that go to the device together. Of arrays that are on the device a
chunk has only the numbers of the rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, count, islice
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxbp._checks import described
from jaxbp.train._arguments import check_arrays, check_examples
from jaxbp.train._order import order_of_epoch
from jaxbp.train._placement import Placement

CHUNK = 50
"""How many steps' batches go to the device together, where all data does not lie there."""
AHEAD = 2
"""How many chunks are read ahead."""


class Batch(NamedTuple):
    """What a step learns from; weights are None where there are none."""

    x: Any
    y: Any
    weights: Any = None


class Chunk(NamedTuple):
    """The batches of some steps.

    Attributes:
        epoch: The epoch, counted from 0.
        start: The number of the first step within the epoch, from 0.
        steps: How many steps there are; the arrays may have more rows, which are not used.
        data: What the batches are rows of; None where they hold the values themselves.
        batches: Numbers of rows of the data, `(steps, batch)`, or a `Batch` with the steps as the first axis.
        ends: Whether the epoch ends with it.
    """

    epoch: int
    start: int
    steps: int
    data: Batch | None
    batches: Any
    ends: bool


class Source(Protocol):
    """Where batches come from.

    Attributes:
        steps: The number of steps in an epoch; None where only its end will tell.
        repeats: Whether the same step gives the same batch when it is asked for again.
    """

    @property
    def steps(self) -> int | None: ...

    @property
    def repeats(self) -> bool: ...

    def chunks(self, key: Array, epoch: int, start: int) -> Iterator[Chunk]:
        """The chunks from a step of an epoch on, for ever; the first may begin before that step."""
        ...

    def first(self) -> Batch:
        """A batch to look at."""
        ...

    def known(self) -> Batch:
        """All examples where they are at hand, to look at their values; else the first."""
        ...


class Arrays:
    """Arrays that hold all examples: on the device, or on the host with some batches at a time on the device."""

    repeats = True

    def __init__(
        self, batch: Batch, batch_size: int, *, drop_last: bool, chunk: int | None, placement: Placement | None
    ):
        check_examples(*batch)
        # on the host, and of a file that is mapped into memory nothing is read before it is asked for
        self.batch = batch if chunk is None else jax.tree.map(np.asarray, batch)
        self.batch_size, self.placement, self.chunk = batch_size, placement, chunk
        self.examples = batch.y.shape[0]
        rest = 0 if drop_last else self.examples % batch_size
        self.whole, self.rest = self.examples // batch_size, rest
        if not self.steps:
            raise ValueError(f"drop_last leaves no batch of {batch_size} among {self.examples} examples")
        if placement is not None:
            placement.check_batch(batch_size, "a batch")
            placement.check_batch(rest, "the last batch of an epoch")

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return self.whole + bool(self.rest)

    def first(self) -> Batch:
        """The first examples."""
        return jax.tree.map(lambda v: v[: self.batch_size], self.batch)

    def known(self) -> Batch:
        """All of them where they are on the device."""
        return self.batch if self.chunk is None else self.first()

    def chunks(self, key: Array, epoch: int, start: int) -> Iterator[Chunk]:
        """Row numbers of the data on the device, or chunks of batches of what is on the host."""
        return self._on_device(key, epoch, start) if self.chunk is None else self._from_host(key, epoch, start)

    def _on_device(self, key: Array, epoch: int, start: int) -> Iterator[Chunk]:
        def place(tree: Any) -> Any:
            to = self.placement
            return jax.device_put(tree) if to is None else to.put(tree, to.all(tree))

        data = place(self.batch)
        cut = self.whole * self.batch_size
        for number in count(epoch):
            order = place(order_of_epoch(key, number, self.examples))
            if start < self.whole:
                rows = order[:cut].reshape(self.whole, self.batch_size)
                yield Chunk(number, 0, self.whole, data, rows, not self.rest)
            if self.rest:
                yield Chunk(number, self.whole, 1, data, order[cut : cut + self.rest][None], True)
            start = 0

    def _from_host(self, key: Array, epoch: int, start: int) -> Iterator[Chunk]:
        assert self.chunk is not None
        in_epoch = -(-self.whole // self.chunk) + bool(self.rest)
        orders: dict[int, np.ndarray] = {}

        def order(number: int) -> np.ndarray:
            if number not in orders:
                orders.clear()
                orders[number] = np.asarray(order_of_epoch(key, number, self.examples))
            return orders[number]

        def chunk_at(i: int) -> Chunk:
            assert self.chunk is not None
            number, of = divmod(i, in_epoch)
            first = min(of * self.chunk, self.whole)
            if first < self.whole:
                steps, size = min(self.chunk, self.whole - first), self.batch_size
            else:
                steps, size = 1, self.rest
            rows = order(number)[first * self.batch_size :][: steps * size].reshape(steps, size)
            if steps < self.chunk and size == self.batch_size:
                # as many rows as in every chunk, so that all are served by one program
                rows = np.concatenate([rows, np.repeat(rows[:1], self.chunk - steps, axis=0)])
            batches = jax.tree.map(partial(_rows_of, rows=rows, placement=self.placement), self.batch)
            return Chunk(number, first, steps, None, batches, of == in_epoch - 1)

        begin = epoch * in_epoch + (min(start // self.chunk, in_epoch - 1) if start < self.whole else in_epoch - 1)
        return _read_ahead(chunk_at, begin)


def _rows_of(values: Any, *, rows: np.ndarray, placement: Placement | None) -> Any:
    """Rows of an array on the host, of which a process reads only those that its own devices take."""
    if placement is None:
        return jax.device_put(np.take(values, rows, axis=0))
    shape, sharding = (*rows.shape, *values.shape[1:]), placement.rows(axes_before=1)

    def read(at: Any) -> np.ndarray:
        return np.take(values, rows[at[:2]], axis=0)

    return jax.make_array_from_callback(shape, sharding, read)


def _read_ahead(chunk_at: Callable[[int], Chunk], begin: int) -> Iterator[Chunk]:
    """The chunks from one on, read by another thread while the device computes."""
    grain = _grain()
    wide = jax.config.read("jax_enable_x64")  # a caller's context is not that of another thread

    def read(i: int) -> Chunk:
        with jax.enable_x64(wide):
            return chunk_at(int(i))

    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    return iter(grain.MapDataset.range(begin, 2**62).map(read).to_iter_dataset(ahead))


class Batches:
    """Anything that yields batches, `(x, y)` or `(x, y, weights)`, each time that it is gone through: an epoch.

    What can be gone through only once, such as a generator, is one epoch.
    """

    steps = None
    repeats = False

    def __init__(self, batches: Iterable[Any], chunk: int, placement: Placement | None):
        once = isinstance(batches, Iterator)
        head = next(iter(batches), None)
        if head is None:
            raise ValueError("x yields no batch; expected batches (x, y), or (x, y, weights)")
        self.batches = chain([head], batches) if once else batches
        self.head, self.chunk, self.placement = _batch(head, 1), chunk, placement

    def first(self) -> Batch:
        """The first batch."""
        return self.head

    known = first

    def _batches(self) -> Iterator[Batch]:
        return (_batch(batch, i) for i, batch in enumerate(self.batches, 1))

    def chunks(self, key: Array, epoch: int, start: int) -> Iterator[Chunk]:
        """As many batches together as are alike; what was seen before a restart is read over."""
        del key
        for number in count(epoch):
            batches = self._batches()
            seen = sum(1 for _ in islice(batches, start))
            held = next(batches, None)
            if seen < start or (held is None and not start):
                raise ValueError(
                    f"the batches of epoch {number + 1} ended after {seen}, where more were expected; pass something "
                    "that can be gone through once for each epoch, such as a list, a grain dataset or an object whose "
                    "__iter__ starts anew, and no generator"
                )
            while held is not None:
                same, shapes = [held], _shapes(held)
                held = next(batches, None)
                while held is not None and len(same) < self.chunk and _shapes(held) == shapes:
                    same.append(held)
                    held = next(batches, None)
                yield Chunk(number, start, len(same), None, self._together(same), held is None)
                start += len(same)
            start = 0

    def _together(self, batches: list[Batch]) -> Any:
        examples = batches[0].y.shape[0] if batches[0].y.shape else 1
        if self.placement is not None:
            self.placement.check_batch(examples)
        alike = batches + batches[:1] * (self.chunk - len(batches))
        stacked = jax.tree.map(lambda *parts: np.stack([np.asarray(part) for part in parts]), *alike)
        if self.placement is None:
            return jax.tree.map(jnp.asarray, stacked)
        rows = self.placement.rows(axes_before=1)
        return jax.tree.map(lambda v: jax.make_array_from_callback(v.shape, rows, lambda at: v[at]), stacked)


def _batch(given: Any, number: int) -> Batch:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise TypeError(f"batch {number} is {described(given)}, expected (x, y), or (x, y, weights), of arrays")
    batch = Batch(*given)
    check_arrays(*batch)
    return batch


def _shapes(batch: Batch) -> Any:
    return jax.tree.map(lambda v: (v.shape, v.dtype), batch)


def divided(batch: Batch, placement: Placement) -> Batch:
    """Examples of any number, divided among devices: some that weigh nothing fill the last part up."""
    examples = batch.y.shape[0]
    missing = -examples % placement.parts
    if missing:
        ones = np.ones(examples, jax.dtypes.canonicalize_dtype(float))
        weights = ones if batch.weights is None else np.asarray(batch.weights)
        rows = np.arange(examples + missing) % examples
        batch = jax.tree.map(lambda v: np.asarray(v)[rows], Batch(batch.x, batch.y, weights))
        batch.weights[examples:] = 0
    return placement.put(batch, jax.tree.map(lambda _: placement.rows(), batch))


def source_of(
    x: Any,
    y: Any,
    weights: Any,
    *,
    batch_size: int,
    drop_last: bool,
    chunk: int | None,
    placement: Placement | None,
) -> Source:
    """Where the batches come from, by what was given."""
    if y is None:
        if isinstance(x, Mapping) or hasattr(x, "shape") or not isinstance(x, Iterable):
            raise TypeError(
                "y is None, and x is nothing that yields batches (x, y); pass the targets, or an iterable of batches"
            )
        if weights is not None:
            raise ValueError("a batch has its weights with it; yield (x, y, weights) in place of weights=")
        return Batches(x, chunk or CHUNK, placement)
    on_disk = any(isinstance(leaf, np.memmap) for leaf in jax.tree.leaves((x, y, weights)))
    chunk = CHUNK if on_disk and chunk is None else chunk
    batch = Batch(x, y, weights)
    return Arrays(batch, batch_size, drop_last=drop_last, chunk=chunk, placement=placement)


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise ImportError(
            "data that is read chunk by chunk is read ahead by grain, which is not installed: pip install "
            "'jaxbp[train]', or leave chunk= out where all data fits the device"
        ) from error
    return grain
