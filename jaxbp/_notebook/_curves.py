"""Curves as SVG, in the colours of the text around them."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, isfinite, log10

from jaxbp._explain._escaping import in_html
from jaxbp._notebook._parts import number

Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]
"""Where on the picture a point is."""

_WIDTH, _HEIGHT = 380, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 366, 34, 188
_MOST_POINTS = 240
_MOST_TICKS = 5
_LONGEST = 40  # characters that fit under the axes
_WORTH_A_LOG = 30.0
_TINY, _HUGE = 1e-300, 1e300


def curves(series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """A panel with a line for each of at most two series, broken where a value is not finite.

    The axis is logarithmic where all that is finite is positive and spans a factor of 30.
    """
    drawn = {label: [(x, _drawable(y)) for x, y in thinned(points)] for label, points in series.items()}
    finite = [(x, y) for points in drawn.values() for x, y in points if isfinite(y)]
    if not finite:
        return ""
    ys = [y for _, y in finite]
    is_log = min(ys) > 0 and max(ys) / min(ys) > _WORTH_A_LOG
    y_ticks = _decades(min(ys), max(ys)) if is_log else _round_ticks(min(ys), max(ys))
    low, high = min([*ys, *y_ticks]), max([*ys, *y_ticks])
    left, right = min(x for x, _ in finite), max(x for x, _ in finite)

    def at(x: float, y: float) -> tuple[float, float]:
        across = 0.5 if left == right else (x - left) / (right - left)
        up = (log10(y) - log10(low)) / (log10(high) - log10(low)) if is_log else (y - low) / (high - low)
        return _LEFT + across * (_RIGHT - _LEFT), _BOTTOM - up * (_BOTTOM - _TOP)

    x_ticks = [tick for tick in _round_ticks(left, right, least=1.0) if left <= tick <= right]
    parts = [f"<title>{in_html(f'{y_label} over {x_label}')}</title>"]
    parts += [*_y_axis(at, left, y_ticks), *_x_axis(at, low, x_ticks, x_label)]
    offset = _LEFT
    for i, (label, points) in enumerate(drawn.items()):
        line = 'stroke="var(--second)" stroke-dasharray="6 3"' if i else 'stroke="var(--first)"'
        parts += _drawn(points, at, line)
        # above the axes, where it covers nothing
        parts.append(f'<path d="M{offset} 14 L{offset + 22} 14" stroke-width="1.8" {line}/>')
        parts.append(f'<text x="{offset + 27}" y="18">{in_html(_brief(label, _LONGEST // 2))}</text>')
        offset += 45 + 7 * min(len(label), _LONGEST // 2)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" font-family="sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def thinned(points: Points) -> list[tuple[float, float]]:
    """Of very many points the lowest and the highest of each stretch, so that no peak is lost, and the last."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    length = ceil(2 * len(points) / _MOST_POINTS)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), length):
        stretch = points[start : start + length]
        broken = [point for point in stretch if not isfinite(point[1])]
        extremes = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += broken[:1] if broken else sorted(extremes)
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _drawable(y: float) -> float:
    """A value that arithmetic of a picture bears."""
    return float("nan") if not abs(y) < _HUGE else 0.0 if abs(y) < _TINY else y


def _y_axis(at: Place, left: float, ticks: Sequence[float]) -> list[str]:
    parts = [f'<path d="M{_LEFT} {_TOP} L{_LEFT} {_BOTTOM} L{_RIGHT} {_BOTTOM}" fill="none" stroke="currentColor"/>']
    for tick in ticks:
        _, y = at(left, tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f} L{_RIGHT} {y:.1f}" stroke="currentColor" stroke-opacity="0.15"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    return parts


def _x_axis(at: Place, low: float, ticks: Sequence[float], label: str) -> list[str]:
    text = in_html(_brief(label, _LONGEST))
    parts = [f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{text}</text>']
    for tick in ticks:
        x, _ = at(tick, low)
        parts.append(f'<path d="M{x:.1f} {_BOTTOM} l0 4" stroke="currentColor"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{tick:,.0f}</text>')
    return parts


def _drawn(points: Points, at: Place, line: str) -> list[str]:
    """A path for each stretch of finite values; a lone one is a dot."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if isfinite(y):
            stretches[-1].append(at(x, y))
        else:
            stretches.append([])
    parts: list[str] = []
    for stretch in filter(None, stretches):
        ends = stretch if len(stretch) > 1 else stretch * 2
        width = 'stroke-width="1.8"' if len(stretch) > 1 else 'stroke-width="6" stroke-linecap="round"'
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in ends)
        parts.append(f'<path d="M{path}" fill="none" {width} {line}/>')
    return parts


def _brief(label: str, longest: int) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"


def _decades(low: float, high: float) -> list[float]:
    first, last = floor(log10(low)), ceil(log10(high))
    step = ceil((last - first) / _MOST_TICKS)
    return [10.0**k for k in range(first, last + 1, step)]


def _round_ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """A few round numbers, the first below a range and the last above; around what is one value up to rounding."""
    size = max(abs(low), abs(high)) or 1.0
    is_one = high - low <= 1e-6 * size
    span = size if is_one else high - low
    step = 10.0 ** floor(log10(span / 2))
    step = max(step * next((factor for factor in (1, 2, 5) if span / (factor * step) <= _MOST_TICKS), 10), least)
    first, last = floor(low / step) - is_one, ceil(high / step) + is_one
    return [k * step for k in range(first, max(last, first + 1) + 1)]
