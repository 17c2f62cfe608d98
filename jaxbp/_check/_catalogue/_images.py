"""Mistakes on the way back through windows: convolutions and pools."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from jaxbp._check._entry import Case, Entry
from jaxbp._check._gradient import Gradient
from jaxbp._check._pass import Pass
from jaxbp._check._steps import pulled_through
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp.connections import AvgPool, Conv, MaxPool
from jaxbp.connections._windows import Windows


@dataclass(frozen=True, eq=False)
class _Windows:
    """The windows of one connection, and how a signal at each of their elements is spread over the source."""

    windows: Windows
    shape: tuple[int, ...]  # of the source with its batch: (N, *spatial, channels)

    @property
    def elements(self) -> list[tuple[int, ...]]:
        """The places in a window."""
        return list(product(*map(range, self.windows.size)))

    def seen(self, h: np.ndarray, fill: float, *, stride: bool = True, padding: bool = True) -> list[np.ndarray]:
        """What all windows see at each element; side by side without stride, from the first on without padding."""
        pad = [p if padding else (0, sum(p)) for p in self.windows.padding]
        padded = np.pad(h, [(0, 0), *pad, (0, 0)], constant_values=fill)
        return [padded[self._at(k, self.counts, stride)] for k in self.elements]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many windows there are along each axis."""
        return self.windows.counts(self.shape[1:-1])

    def _at(self, element: tuple[int, ...], counts: tuple[int, ...], stride: bool = True) -> tuple[slice, ...]:
        steps = self.windows.stride if stride else (1,) * len(element)
        starts = [k * d for k, d in zip(element, self.windows.dilation, strict=True)]
        along = [slice(s, s + (n - 1) * step + 1, step) for s, n, step in zip(starts, counts, steps, strict=True)]
        return (slice(None), *along, slice(None))

    def spread(
        self, signals: list[np.ndarray], *, stride: bool = True, padding: bool = True, adding: bool = True
    ) -> np.ndarray:
        """Each element's signal back to where it was seen: by strides, less the padding, and added up, or not."""
        N, *spatial, c = self.shape
        total = np.zeros((N, *self.windows.padded(tuple(spatial)), c))
        for element, signal in zip(self.elements, signals, strict=True):
            where = self._at(element, signal.shape[1:-1], stride)
            if adding:
                total[where] += signal
            else:
                total[where] = signal
        low = [p[0] if padding else 0 for p in self.windows.padding]
        inside = [slice(start, start + n) for start, n in zip(low, spatial, strict=True)]
        return total[(slice(None), *inside)]

    @property
    def are_apart(self) -> bool:
        """Whether no element is in two windows."""
        rows = zip(self.windows.reach, self.windows.stride, strict=True)
        return all(reach <= step for reach, step in rows)


def _kind(state: Pass, s: str, v: str) -> tuple[Any, _Windows] | None:
    """The convolution or pool by which v reads s, with its windows."""
    facts = state.facts
    if isinstance(facts.net.units[v], FunctionUnit):
        return None
    connection = facts.edge(v, s).connection
    if isinstance(connection, Conv) and connection.groups == 1:
        return connection, _Windows(connection.windows.over(facts.net.shapes[s][:-1]), facts.h[s].shape)
    if isinstance(connection, MaxPool | AvgPool):
        return connection, _Windows(connection.windows.over(facts.net.shapes[s][:-1]), facts.h[s].shape)
    return None


def _signals(state: Pass, s: str, v: str) -> list[np.ndarray]:
    """The right signal at each element of a window."""
    connection, windows = _kind(state, s, v) or (None, None)
    assert windows is not None
    delta = state.delta[v]
    if isinstance(connection, Conv):
        W = state.facts.weight(v, s)
        return [delta @ W[k].T for k in windows.elements]
    if isinstance(connection, AvgPool):
        return [delta / len(windows.elements)] * len(windows.elements)
    seen = np.stack(windows.seen(state.facts.h[s], -np.inf))
    largest = np.argmax(seen, axis=0)
    return [np.where(largest == k, delta, 0.0) for k in range(len(seen))]


def _spread(s: str, v: str, signals: Callable[[Pass, str, str], list[np.ndarray]] = _signals, **how: bool):
    def apply(state: Pass) -> np.ndarray:
        known = _kind(state, s, v)
        assert known is not None
        return known[1].spread(signals(state, s, v), **how)

    return apply


def _not_rotated(state: Pass, s: str, v: str) -> Iterator[Case]:
    known = _kind(state, s, v)
    if known and isinstance(known[0], Conv) and prod(known[0].kernel) > 1:
        axes = tuple(range(len(known[0].kernel)))
        text = f"the kernel of {v} is not rotated by 180° on the way back: Delta.{s} takes delta.{v} convolved with it"
        yield Case(
            text,
            lambda state: pulled_through(
                state.facts, v, s, state.delta[v], np.flip(state.facts.weight(v, s), axes)
            ),
            unit=v,
        )  # fmt: skip


def _no_stride(state: Pass, s: str, v: str) -> Iterator[Case]:
    known = _kind(state, s, v)
    if known and any(step > 1 for step in known[1].windows.stride):
        text = f"the stride {known[1].windows.stride} from {s} to {v} is forgotten on the way back"
        yield Case(f"{text}: windows are so far apart there too", _spread(s, v, stride=False), unit=v)


def _no_padding(state: Pass, s: str, v: str) -> Iterator[Case]:
    known = _kind(state, s, v)
    if known and any(low for low, _ in known[1].windows.padding):
        text = f"the padding from {s} to {v} is not cut off on the way back: Delta.{s} begins after it"
        yield Case(text, _spread(s, v, padding=False), unit=v)


def _overwritten(state: Pass, s: str, v: str) -> Iterator[Case]:
    known = _kind(state, s, v)
    if known and not known[1].are_apart:
        text = f"windows of {v} overlap in {s}, and what they send back is overwritten where it should add up"
        yield Case(text, _spread(s, v, adding=False), "elements", v)
        yield Case(text, lambda state: _window_by_window(state, s, v), "windows", v)
        if isinstance(known[0], MaxPool):
            yield Case(text, lambda state: _window_by_window(state, s, v, only_largest=True), "largest", v)


def _window_by_window(state: Pass, s: str, v: str, only_largest: bool = False) -> np.ndarray:
    """Each window's block of signals in the place of what was there, whole or of what was the largest alone."""
    known = _kind(state, s, v)
    assert known is not None
    windows, signals = known[1], _signals(state, s, v)
    N, *spatial, c = windows.shape
    total = np.zeros((N, *windows.windows.padded(tuple(spatial)), c))
    for place in product(*map(range, windows.counts)):
        for element, signal in zip(windows.elements, signals, strict=True):
            at = [
                p * step + k * d
                for p, step, k, d in zip(place, windows.windows.stride, element, windows.windows.dilation, strict=True)
            ]
            there, sent = (slice(None), *at), signal[(slice(None), *place)]
            total[there] = np.where(sent == 0, total[there], sent) if only_largest else sent
    inside = [slice(p[0], p[0] + n) for p, n in zip(windows.windows.padding, spatial, strict=True)]
    return total[(slice(None), *inside)]


def _whole_window(state: Pass, s: str, v: str) -> Iterator[Case]:
    yield from _of_maximum(state, s, v, "goes to the whole window", lambda state, s, v, n: [state.delta[v]] * n)


def _averaged(state: Pass, s: str, v: str) -> Iterator[Case]:
    yield from _of_maximum(
        state, s, v, "is shared by the whole window, as of a mean", lambda state, s, v, n: [state.delta[v] / n] * n
    )


def _tie(state: Pass, s: str, v: str) -> Iterator[Case]:
    for words, share in (
        ("goes to the last of equals", _last_of),
        ("goes to all of equals", lambda equal: equal.astype(float)),
        ("is shared by all of equals", lambda equal: equal / equal.sum(axis=0)),
    ):

        def signals(state: Pass, s: str, v: str, n: int, share: Callable[[np.ndarray], np.ndarray] = share):
            known = _kind(state, s, v)
            assert known is not None
            seen = np.stack(known[1].seen(state.facts.h[s], -np.inf))
            return list(share(seen == seen.max(axis=0)) * state.delta[v])

        yield from _of_maximum(state, s, v, words, signals)


def _last_of(equal: np.ndarray) -> np.ndarray:
    last = len(equal) - 1 - np.argmax(equal[::-1], axis=0)
    return np.stack([(last == k).astype(float) for k in range(len(equal))])


def _of_maximum(
    state: Pass, s: str, v: str, words: str, signals: Callable[[Pass, str, str, int], list[np.ndarray]]
) -> Iterator[Case]:
    known = _kind(state, s, v)
    if known and isinstance(known[0], MaxPool):
        n = len(known[1].elements)
        text = f"the signal of the maximum in {v} {words}: delta.{v} belongs to the first that was the largest"
        yield Case(text, _spread(s, v, lambda state, s, v: signals(state, s, v, n)), words, v)


def _no_divisor(state: Pass, s: str, v: str) -> Iterator[Case]:
    known = _kind(state, s, v)
    if known and isinstance(known[0], AvgPool) and len(known[1].elements) > 1:
        n = len(known[1].elements)
        text = f"the mean of {v} is pulled back without its 1/{n}: Delta.{s} takes delta.{v} / {n} in each place"
        yield Case(
            text, lambda state: n * pulled_through(state.facts, v, s, state.delta[v]), unit=v
        )  # fmt: skip


def _kernel(gradient: Gradient) -> tuple[str, str, _Windows] | None:
    """The unit, the source and the windows of the convolution whose kernel a gradient is of."""
    if gradient.facts is None or gradient.edge is None:
        return None
    u, s = gradient.edge
    connection = None if s == ONE else gradient.facts.edge(u, s).connection
    if not isinstance(connection, Conv) or connection.groups != 1:
        return None
    return u, s, _Windows(connection.windows.over(gradient.facts.net.shapes[s][:-1]), gradient.facts.h[s].shape)


def _correlated(
    gradient: Gradient, where: Callable[[np.ndarray], np.ndarray] = lambda delta: delta, **how: bool
) -> np.ndarray:
    """∂L/∂W[k] = Σ_p h[x(p, k)]ᵀ δ[p], with windows that look elsewhere, or with another δ."""
    known = _kernel(gradient)
    assert known is not None
    u, s, windows = known
    delta = where(gradient.delta(u))
    grad = np.zeros_like(gradient.W)
    for k, seen in zip(windows.elements, windows.seen(gradient.h(s), 0.0, **how), strict=True):
        grad[k] = seen.reshape(-1, seen.shape[-1]).T @ delta.reshape(-1, delta.shape[-1])
    return grad


def _no_stride_in_kernel(gradient: Gradient) -> Iterator[Case]:
    known = _kernel(gradient)
    if known and any(step > 1 for step in known[2].windows.stride):
        text = (
            f"the stride from {known[1]} to {known[0]} is forgotten in {{}}: h[p + k] stands where h[p · stride + k] is"
        )
        yield Case(text, lambda gradient: _correlated(gradient, stride=False), unit=known[0])


def _no_padding_in_kernel(gradient: Gradient) -> Iterator[Case]:
    known = _kernel(gradient)
    if known and any(low for low, _ in known[2].windows.padding):
        text = (
            f"the padding from {known[1]} to {known[0]} is forgotten in {{}}: the first window begins before the image"
        )
        yield Case(text, lambda gradient: _correlated(gradient, padding=False), unit=known[0])


def _last_window(gradient: Gradient) -> Iterator[Case]:
    known = _kernel(gradient)
    if known and prod(known[2].counts) > 1:

        def last(delta: np.ndarray) -> np.ndarray:
            kept, at = np.zeros_like(delta), (slice(None), *(-1,) * len(known[2].counts))
            kept[at] = delta[at]
            return kept

        text = "{} is overwritten by each window where all of them add up: only the last one is in it"
        yield Case(text, lambda gradient: _correlated(gradient, last), unit=known[0])


def _reversed(gradient: Gradient) -> Iterator[Case]:
    if gradient.facts is None or gradient.edge is None:
        return
    u, s = gradient.edge
    connection = None if s == ONE else gradient.facts.edge(u, s).connection
    if isinstance(connection, Conv) and prod(connection.kernel) > 1:
        axes = tuple(range(len(connection.kernel)))
        text = "{} is rotated by 180°: it is the correlation of the input with delta, and no convolution"
        yield Case(text, lambda gradient: np.flip(gradient.right, axes), "", u)


def _channels(state: Pass, s: str, v: str) -> Iterator[Case]:
    known = _kind(state, s, v)
    W = state.facts.weight(v, s) if known and isinstance(known[0], Conv) else None
    if W is not None and W.shape[-1] == W.shape[-2]:
        text = f"the channels of the kernel of {v} are not exchanged on the way back: Delta.{s} takes delta.{v} W[k]ᵀ"
        yield Case(
            text,
            lambda state: pulled_through(
                state.facts, v, s, state.delta[v], np.swapaxes(state.facts.weight(v, s), -1, -2)
            ),
            unit=v,
        )  # fmt: skip


IMAGES = (
    Entry("kernel-not-rotated", "term", "δ correlated with W stands where δ convolved with W belongs", _not_rotated),
    Entry("not-transposed", "term", "δ[p] W[k] stands where δ[p] W[k]ᵀ belongs", _channels),
    Entry("stride-forgotten", "gradient", "h[p + k] stands where h[p · stride + k] belongs", _no_stride_in_kernel),
    Entry("padding-forgotten", "gradient", "h[p + k] stands where h[p + k − padding] belongs", _no_padding_in_kernel),
    Entry("overwritten-windows", "gradient", "the last window's part stands where the sum belongs", _last_window),
    Entry("stride-forgotten", "term", "δ[p] goes to p where it belongs to p · stride", _no_stride),
    Entry("padding-forgotten", "term", "Δ begins with the padding, which belongs to nothing", _no_padding),
    Entry("overwritten-windows", "term", "Δ[p] = δ stands where Δ[p] += δ belongs", _overwritten),
    Entry("maximum-to-whole-window", "term", "δ for every element where it belongs to the largest", _whole_window),
    Entry("maximum-averaged", "term", "δ / K for every element where δ belongs to the largest", _averaged),
    Entry("maximum-at-tie", "term", "δ for other equals than the first", _tie),
    Entry("divisor-forgotten", "term", "δ for every element where δ / K belongs", _no_divisor),
    Entry("correlation-reversed", "gradient", "∂L/∂W[−k] stands where ∂L/∂W[k] belongs", _reversed),
)
