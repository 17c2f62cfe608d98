"""What a compiled program sends from device to device, read from the text that XLA prints of it."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
BITS = re.compile(r"(?:bf|[a-z])(\d+)")
INSTRUCTION = re.compile(rf"\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({'|'.join(KINDS)})(-start)?\(")
ROOT = re.compile(r"\s*ROOT %?[\w.\-]+ = (.*?) [\w\-]+\(")
CHANNEL = re.compile(r"channel_id=(\d+)")
SCATTERED = "all-reduce-scatter"
"""What libtpu calls a fusion of an all-reduce and the choice of each device's part: a reduce-scatter."""
COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
CALLED = re.compile(r"(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Sent(NamedTuple):
    """Of one kind of collective: how often it runs in a step, and the bytes of its results on one device, added up."""

    times: int
    size: int


def collectives(text: str) -> dict[str, Sent]:
    """What one run of a program sends, by kind.

    What stands in the body of a loop runs as often as the body does. XLA says how often on GPUs; on TPUs it is the
    constant that the loop's counter is compared with.

    Args:
        text: Of a compiled program, as `compiled.as_text()` gives it.

    Example:
        >>> collectives('''ENTRY %main (p: f32[8]) -> f32[8] {
        ...   ROOT %r = f32[8]{0} all-reduce(f32[8]{0} %p), to_apply=%add
        ... }''')
        {'all-reduce': Sent(times=1, size=32)}
    """
    computations, entry = _computations(text)
    runs = _runs(computations, entry)
    fused = {name for lines in computations.values() for line in lines if " fusion(" in line for name in _called(line)}
    times: Counter[str] = Counter()
    size: Counter[str] = Counter()
    channels: set[tuple[str, str]] = set()
    for name, lines in computations.items():
        for line in lines:
            found = INSTRUCTION.match(line)
            if found is None or (found[3] and "calls=" in line):  # the computation that is called has the collective
                continue
            if name in fused and (channel := CHANNEL.search(line)):
                # on TPUs the beginning, the middle and the end of one collective are in three fusions
                if (found[2], channel[1]) in channels:
                    continue
                channels.add((found[2], channel[1]))
            kind, sent = found[2], _result(found[1], found[2], started=bool(found[3]))
            if name.startswith(SCATTERED):
                kind, sent = "reduce-scatter", next(root[1] for row in lines if (root := ROOT.match(row)))
            times[kind] += runs[name]
            size[kind] += runs[name] * _size(sent)
    return {kind: Sent(times[kind], size[kind]) for kind in KINDS if times[kind]}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    computations: dict[str, list[str]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        if lines is None:
            if head := COMPUTATION.match(line):
                lines = computations[head[2]] = []
                entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            lines = None
        else:
            lines.append(line)
    return computations, entry


def _runs(computations: dict[str, list[str]], entry: str) -> Counter[str]:
    """How often each computation runs; of the branches of a condition each is counted, for any may be the one."""
    runs: Counter[str] = Counter()

    def enter(name: str, times: int) -> None:
        runs[name] += times
        for line in computations[name]:
            trips = _trips(line, computations)
            for called in _called(line):
                if called in computations:
                    enter(called, times * trips)

    if entry:
        enter(entry, 1)
    return runs


def _called(line: str) -> Iterator[str]:
    yield from (name for _, name in CALLED.findall(line))
    for branches in BRANCHES.findall(line):
        yield from re.findall(r"[\w.\-]+", branches)


def _trips(line: str, computations: dict[str, list[str]]) -> int:
    if " while(" not in line:
        return 1
    if known := TRIPS.search(line):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    inside = "\n".join(computations.get(condition[1], ()) if condition else ())
    bounds = {name: int(n) for name, n in re.findall(r"%?([\w.\-]+) = s32\[\]\S* constant\((\d+)\)", inside)}
    compared = re.search(r"compare\(.*?, (?:\S+ )?%?([\w.\-]+)\), direction=LT", inside)
    return bounds.get(compared[1], 1) if compared else 1


def _result(kind_of_value: str, kind: str, *, started: bool) -> str:
    """The type of what comes out: what starts a collective has a tuple of what goes in, what comes out, and more."""
    if not started or kind == "all-reduce" or not kind_of_value.startswith("("):
        return kind_of_value
    depth, parts = 0, [""]
    for letter in kind_of_value[1:-1]:
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts[1] if len(parts) > 1 else parts[0]


def _size(kind_of_value: str) -> int:
    """Bytes of a type: `(f32[8,4]{1,0}, bf16[3])`."""
    bits = 0
    for element, shape in re.findall(r"([a-z]\w*)\[([\d,]*)\]", kind_of_value):
        of_one = BITS.match(element)
        bits += (int(of_one[1]) if of_one else 8) * math.prod(int(n) for n in shape.split(",") if n)
    return bits // 8
