"""A hand gradient of a network with stacks: read as one of the network written out, and reported on by layer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxbp._check._compare import as_numbers
from jaxbp._check._report import Report
from jaxbp._checks import quoted, suggestion
from jaxbp._names import Name
from jaxbp._network import Network
from jaxbp._unrolled import Unrolled

_OF_INPUTS = ("h", "Delta")
_OF_UNITS = ("a", "h", "Delta", "delta")
_OF_WEIGHTS = ("grad", "W")


@dataclass(frozen=True, eq=False)
class Layers:
    """The names of a network with stacks beside those of the network written out."""

    net: Network
    flat: Unrolled

    def written_out(self, mine: Mapping[str, Any]) -> Mapping[str, Any]:
        """The quantities that were handed in, as they are called in the network written out."""
        return mine if self.flat.is_original else self._quantities(mine)

    def reported(self, report: Report) -> Report:
        """The report, with the names of the network with stacks."""
        if self.flat.is_original:
            return report
        said = self._said
        findings = tuple(replace(f, name=said(f.name), remark=said(f.remark)) for f in report.findings)
        alternatives = tuple(
            tuple(replace(m, units=tuple(map(said, m.units)), text=said(m.text)) for m in together)
            for together in report.alternatives
        )
        first = report.first_wrong and said(report.first_wrong)
        notes = tuple(map(said, report.notes))
        return replace(
            report,
            findings=findings,
            first_wrong=first,
            where=said(report.where),
            alternatives=alternatives,
            notes=notes,
        )

    def _quantities(self, mine: Mapping[str, Any]) -> dict[str, Any]:
        whole: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        for written_out, name in self._names.items():
            if name.kind != "W":
                whole.setdefault(str(name.whole), []).append((written_out, name.index))
        alone = {str(name): written_out for written_out, name in self._names.items() if name.index}
        found: dict[str, Any] = {}
        for said, value in mine.items():
            if said == "loss":
                found[said] = value
            elif said in alone:
                found[alone[said]] = value
            elif said in whole:
                found |= {name: self._layer(said, value, layer) for name, layer in whole[said]}
            else:
                raise ValueError(f"there is no quantity {said!r}{suggestion(said, whole)}; known are {quoted(whole)}")
        return found

    def _layer(self, name: object, value: Any, layer: tuple[int, ...]) -> Any:
        """What one layer has of an array."""
        if not layer:
            return value
        array = as_numbers(name, value)
        if array.ndim < len(layer) or any(i >= size for i, size in zip(layer, array.shape, strict=False)):
            raise ValueError(f"{name} has shape {array.shape}, but its first axis is that of the layers")
        return np.asarray(array[layer])

    @cached_property
    def _names(self) -> dict[str, Name]:
        """Every quantity of the network written out, as one layer of a quantity of the original."""
        nodes = self.net.plan.nodes
        units = [
            Name(kind, (u,))
            for u, (original, _) in self.flat.units.items()
            for kind in (_OF_UNITS if original in nodes else _OF_INPUTS)
        ]
        weights = [Name(kind, place) for place in self.flat.weights for kind in _OF_WEIGHTS]
        return {str(name): self.flat.original(name) for name in (*units, *weights)}

    def _said(self, text: str) -> str:
        """A sentence, with the names of the original."""
        return self._pattern.sub(self._original, text)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = [name for name, original in self._names.items() if "/" in name or original.index]
        bare = [u for u, (_, layer) in self.flat.units.items() if layer]
        longest_first = sorted(map(re.escape, (*names, *bare)), key=len, reverse=True)
        return re.compile(rf"({'|'.join(longest_first)})(?:\[([\d, ]+)\])?(?![\w/])")

    def _original(self, found: re.Match[str]) -> str:
        name, index = found[1], tuple(map(int, found[2].split(","))) if found[2] else ()
        if name in self._names:
            original = self._names[name]
            return str(original.at((*original.index, *index)))
        unit, layer = self.flat.units[name]
        return f"{unit}[{', '.join(map(str, (*layer, *index)))}]"
