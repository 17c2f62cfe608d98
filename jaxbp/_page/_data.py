"""What a page carries: quantities with their formulas, what is given of them, symbols, steps, units and claims."""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from jaxbp._check._session import Session
from jaxbp._explain._claims import Claim, statements
from jaxbp._explain._equations import Equations
from jaxbp._explain._escaping import visible
from jaxbp._explain._expressions import Expression, Leaf, Partial
from jaxbp._explain._mathml import mathml
from jaxbp._explain._notation import Notation
from jaxbp._explain._numbers import Numbers
from jaxbp._explain._parsing import parse_name
from jaxbp._explain._steps import Heading, Steps
from jaxbp._explain._titles import Title
from jaxbp._explain._verdicts import said
from jaxbp._explain._within import within
from jaxbp._explain._work import Work
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE
from jaxbp._names import Name
from jaxbp._page._folding import Folded, Folder, affine
from jaxbp.connections import Dense

RATE = 0.1
"""The learning rate of a page whose explanation has none."""

LARGEST = 2_000_000
"""How many quantities all formulas of a page may mention together."""

_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_MANY = 200  # elements that are looked at one by one, before a matrix is told by some of them
_IN_TEXT = 256  # numbers that are written in decimals
_SLOT, _SLOTS = 7_770_000, 0xE000  # an index that no array has, and the private characters that stand for one
_GIVEN = ("y", "W", "learning_rate")
_OF_THE_LOSS = ("loss", "losses", "Delta", "delta")


class _Anywhere(Numbers):
    """Numbers at which nothing holds by chance: no target is 0 or 1, and the sum of a row of them is not 1."""

    def __call__(self, leaf: Leaf) -> float:
        return 0.3


def data_of(work: Work, language: str) -> dict[str, Any]:
    """All of it, ready for JSON, with titles in this language."""
    numbers = work.typesetting.equations.numbers
    if numbers.learning_rate is None:
        numbers = replace(numbers, learning_rate=RATE)
    with Session.of(numbers.net, numbers.loss, numbers.params, numbers.x, numbers.y).undisturbed():
        return _Data(work, numbers, language).everything()


@dataclass(frozen=True, eq=False)
class _Data:
    work: Work
    numbers: Numbers
    language: str

    def everything(self) -> dict[str, Any]:
        arrays = [self._array(name) for name in self.names]
        claims = list(self._claims())  # their formulas have shapes, too
        partials = self._partials()
        if self.folder.opaque or self.is_still or any("on" in about for about in partials.values()):
            # which numbers are those that there were is seen by them
            for name, array in zip(self.names, arrays, strict=True):
                if "values" not in array:
                    array["values"] = _packed(self.numbers.arrays[name])
        return {
            "arrays": arrays,
            "shapes": list(self.shapes),
            "batch": list(self.numbers.batch),
            "digits": self.work.typesetting.digits,
            "still": self.is_still,
            "opaque": list(dict.fromkeys(visible(re.sub(r"_\d+$", "", name)) for name in self.folder.opaque)),
            "opaqueValues": dict(self._opaque_values()),
            "nodes": list(self._nodes()),
            "steps": list(self._steps()),
            "claims": claims,
            "partials": partials,
        }

    @cached_property
    def masks(self) -> set[str]:
        """The sources that say which keys a row of attention sees, and so of what its formulas are made."""
        ways = (within(u, unit, self.numbers.net.shapes) for u, unit in self.numbers.net.units.items())
        return {s for way in ways for stages in way.values() for s in stages.decided_by}

    @property
    def is_still(self) -> bool:
        """Whether nothing can be changed, as formulas of this page are not those at other numbers."""
        return not self.masks <= self.numbers.net.inputs.keys()

    def _opaque_values(self) -> Iterator[tuple[str, float | str | None]]:
        """What functions without a formula give, by the key that the page makes of their name and first element."""
        for (function, leaf), value in self.folder.values.items():
            place = ""
            if leaf is not None:
                k = self.folder.arrays[leaf.whole]
                place = f"{k}:{np.ravel_multi_index(leaf.index, self.numbers.arrays[leaf.whole].shape)}"
            yield f"{function}:{place}", None if value is None else _number(value)

    @cached_property
    def names(self) -> list[Name]:
        return [name for name in self.numbers.arrays if not name.index]

    @cached_property
    def folder(self) -> Folder:
        return Folder({name: k for k, name in enumerate(self.names)}, self.numbers)

    @cached_property
    def shapes(self) -> dict[Any, int]:
        """The shapes of all trees, each with its place."""
        return {}

    @cached_property
    def here(self) -> Equations:
        return Equations(self.numbers)

    @cached_property
    def anywhere(self) -> Equations:
        numbers = _Anywhere(*(getattr(self.numbers, field) for field in self.numbers.__dataclass_fields__))
        vars(numbers).update(vars(self.numbers))  # what is computed already
        return Equations(numbers)

    @property
    def notation(self) -> Notation:
        return self.work.typesetting.notation

    def _array(self, name: Name) -> dict[str, Any]:
        array = self.numbers.arrays[name]
        about: dict[str, Any] = {"name": visible(str(name)), "kind": name.kind, "shape": list(array.shape)}
        about |= self._symbols(name, array.shape)
        if name.kind in _GIVEN or (name.kind == "h" and name.unit in self.numbers.flat.stacked.inputs):
            fixed = np.issubdtype(array.dtype, np.integer) or name.unit in self.masks
            ids = {"ids": True} if fixed and name.kind == "h" else {}
            return about | {"values": _packed(array)} | ids
        alike = self._of_strides(name, array.shape) if array.size > _MANY and self._is_uniform(name) else None
        if alike is not None:
            return about | {"all": alike}
        rows: list[Folded] = []
        for index in np.ndindex(array.shape):
            rows.append(self._folded(name.at(index)))
            if self.folder.size > LARGEST:
                raise ValueError(
                    f"the formulas of this network mention more than {LARGEST} quantities, too many for a page; "
                    "explain it with fewer examples or narrower units"
                )
        return about | self._formulas(array.shape, rows)

    def _is_uniform(self, name: Name) -> bool:
        """Whether all elements have formulas of one kind, as those of a matrix, so that a few of them tell all."""
        dense = self.numbers.flat.is_original and name.kind == "grad"
        return name.kind == "updated" or (
            dense and all(type(edge.linear) is Dense for edge in self.numbers.net.plan.uses[name.path])
        )

    def _of_strides(self, name: Name, shape: tuple[int, ...]) -> list[Any] | None:
        """The formulas of all elements from those of the first along each axis; None if some others contradict."""
        first = self._folded(name.at((0,) * len(shape)))
        start, strides = np.array(first.integers, np.int64), np.zeros((len(shape), len(first.integers)), np.int64)
        for axis, n in enumerate(shape):
            if n > 1:
                beside = self._folded(name.at(tuple(int(i == axis) for i in range(len(shape)))))
                strides[axis] = np.array(beside.integers) - start if beside.shape == first.shape else 0
        rng = np.random.default_rng(0)
        others = [tuple(n - 1 for n in shape), *(tuple(map(int, rng.integers(shape))) for _ in range(_MANY))]
        for index in others:
            other = self._folded(name.at(index))
            if other.shape != first.shape or not np.array_equal(other.integers, start + np.array(index) @ strides):
                return None
        return [self._shape(first.shape), start.tolist(), strides.tolist()]

    def _formulas(self, shape: tuple[int, ...], rows: Sequence[Folded]) -> dict[str, Any]:
        alike = all(row.shape == rows[0].shape for row in rows)
        found = affine(shape, np.array([row.integers for row in rows], np.int64)) if alike else None
        if found is not None:
            return {"all": [self._shape(rows[0].shape), *found]}
        return {"each": [[self._shape(row.shape), *row.integers] for row in rows]}

    def _shape(self, shape: Any) -> int:
        return self.shapes.setdefault(shape, len(self.shapes))

    def _folded(self, leaf: Leaf) -> Folded:
        general = self.anywhere.forms(leaf)
        # only what the loss and its gradient are depends on numbers: 0 · log 0, and targets whose sum is 1
        here = self.here.forms(leaf) if isinstance(leaf, Name) and leaf.kind in _OF_THE_LOSS else ()
        return self.folder.forms(general, [form for form in here if form not in general])

    def _tree(self, e: Expression) -> list[Any]:
        shape, integers = self.folder(e)
        return [self._shape(shape), *integers]

    def _partials(self) -> dict[str, Any]:
        """All derivatives that formulas mention, by name; those that the formulas of these mention, too."""
        partials: dict[str, Any] = {}
        while missing := [leaf for leaf in self.folder.partials if visible(str(leaf)) not in partials]:
            partials |= {visible(str(leaf)): self._partial(leaf) for leaf in missing}
        return partials

    def _partial(self, leaf: Partial) -> dict[str, Any]:
        """A derivative: its number here, and its formula; or, without one, the arrays that it depends on."""
        about: dict[str, Any] = {"value": _number(self.numbers(leaf))}
        if forms := self.anywhere.forms(leaf):
            shape, integers = self.folder.forms(forms, ())
            return about | {"tree": [self._shape(shape), *integers]}
        of, by = (self.numbers.flat.written_out(name) for name in (leaf.of, leaf.by))
        unit = self.numbers.net.units.get(of.unit)
        if (of.kind, by.kind, of.path) == ("h", "a", by.path):
            on = [Name("a", of.path)]
        elif of.kind == "a" and by.kind == "h" and isinstance(unit, FunctionUnit) and by.unit in unit.sources:
            on = [Name("h", (s,)) for s in unit.sources]
        else:
            return about  # over a longer way: found through all formulas between them
        return about | {"on": [self.folder.arrays[self.numbers.flat.original(name).whole] for name in on]}

    def _symbols(self, name: Name, shape: tuple[int, ...]) -> dict[str, Any]:
        """The symbol of an element, with a slot for each index, and those of elements that have one of their own."""
        slots = tuple(_SLOT + axis for axis in range(len(shape)))
        symbol, text = self._symbol(name.at(slots)), visible(self.notation.text(name.at(slots)))
        for axis, slot in enumerate(slots):
            symbol = symbol.replace(str(slot), chr(_SLOTS + axis))
            for digits in (str(slot), str(slot).translate(_BELOW)):
                text = text.replace(digits, chr(_SLOTS + axis))
        kinds = {name.kind, {"grad": "W", "updated": "W", "delta": "a", "Delta": "h"}.get(name.kind, name.kind)}
        starts = tuple(f"{replace(name, kind=kind)}[" for kind in kinds)
        if not any(given.startswith(starts) for given in self.notation.names):
            return {"symbol": symbol, "text": text}
        own, texts = {}, {}
        for flat, index in enumerate(np.ndindex(shape)):
            found = self._symbol(name.at(index))
            if found != symbol.translate({_SLOTS + axis: str(i) for axis, i in enumerate(index)}):
                own[flat] = found
                texts[flat] = visible(self.notation.text(name.at(index)))
        return {"symbol": symbol, "text": text, "own": own, "texts": texts}

    def _symbol(self, leaf: Leaf) -> str:
        return _maths(self.notation.latex(leaf))

    def _nodes(self) -> Iterator[dict[str, Any]]:
        """Inputs and units as they are drawn, each with what it reads."""
        flat = self.numbers.flat
        for u in (*flat.net.inputs, *flat.order):
            unit = flat.net.units.get(u)
            called, layer = flat.units[u]
            named = {kind: flat.original(Name(kind, (u,))) for kind in ("a", "h", "Delta", "delta")}
            own = {name.kind: name for name in named.values()}  # of an input of a block an h and a Δ alone
            bias = unit is not None and flat.net.plan.edges[u].get(ONE)
            yield {
                "name": visible(u),
                "unit": visible(called),
                "label": visible(f"{called}{list(layer) if layer else ''}"),
                "phi": visible(unit.activation.name) if unit is not None else "",
                "reads": [visible(s) for s in flat.net.plan.edges.get(u, {}) if s != ONE],
                "shape": list(flat.net.shapes[u]),
                "prefix": list(layer),
                "bias": bool(bias),
                "output": u == flat.net.output,
                **{kind: k for kind, name in own.items() if (k := self.folder.arrays.get(name.whole)) is not None},
            }

    def _steps(self) -> Iterator[dict[str, Any]]:
        """The steps, those of an example once for all of them."""
        about = [(self._leaf(claim), claim) for claim in self.work.claims]
        steps = Steps(self.numbers, self.notation, about, all_layers=True)
        example = (0,) * len(self.numbers.batch)
        examples = prod(self.numbers.batch)
        title = Title("Loss, the mean over {} examples", (str(examples),))
        mean = [Heading(Name("loss"), title, r"L = \frac{1}{N} \sum_i L_i")]
        phases = {
            "given": steps.given(),
            "forward": steps.forward(example),
            "mean": mean if examples > 1 else (),
            "back": steps.backward(example),
            "gradient": steps.gradients(),
            "update": steps.updates(),
        }
        for phase, headings in phases.items():
            for heading in headings:
                name = heading.name
                loss = name.kind in ("loss", "losses")
                yield {
                    "array": self.folder.arrays[name.whole],
                    "prefix": list(name.index),
                    "phase": "loss" if loss else phase,
                    "title": visible(heading.title.said(self.language)),
                    "rule": _maths(heading.rule) if heading.rule else "",
                    "rows": heading.rows,
                    "example": phase in ("forward", "back"),
                }

    def _leaf(self, claim: Claim) -> Leaf:
        return parse_name(claim.name, self.numbers.arrays)

    def _claims(self) -> Iterator[dict[str, Any]]:
        for claim in self.work.claims:
            leaf = self._leaf(claim)
            about = self._tree(leaf)
            yield {
                "name": visible(claim.name),
                "of": about,
                "symbol": self._symbol(leaf),
                "where": visible(claim.where or ""),
                "said": _maths(said(claim, self.work.typesetting.latex).rsplit(" = ", 1)[0]),
                "holds": claim.holds,
                "claimed": _number(claim.claimed),
                **({"precision": self._precision(claim)} if claim.formula is None else {}),
                **({"tree": self._tree(claim.formula), "general": claim.general} if claim.formula is not None else {}),
            }

    def _precision(self, claim: Claim) -> float:
        precision = statements({claim.name: claim.written}, self.numbers.arrays)[0].precision
        # what was computed has its rounding errors, however many digits it prints
        return max(precision, abs(claim.claimed - claim.value)) if claim.holds else precision


def _maths(latex: str) -> str:
    """What is within the elements `math`."""
    return re.sub(r"</?math\b[^>]*>", "", mathml(latex).elements)


def _number(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(value)


def _packed(array: np.ndarray) -> Any:
    """Numbers as a list, or in base64 where there are many.

    As float32 if those print as the same decimals; else as the first six bytes of each float64, which are right to a
    part in 10¹¹: a page of a hundred thousand weights is to stay below a megabyte.
    """
    flat = np.ravel(array).astype(np.float64)
    if flat.size <= _IN_TEXT:
        return [_number(value) for value in flat.tolist()]
    narrow = flat.astype(np.float32)
    if all(float(str(a)) == b for a, b in zip(narrow, flat, strict=True)):
        return {"f4": base64.b64encode(narrow.astype("<f4").tobytes()).decode()}
    finite = np.isfinite(flat)
    bits = flat.view(np.uint64) + np.where(finite, np.uint64(1 << 15), np.uint64(0))
    return {"f6": base64.b64encode(bits.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :6].tobytes()).decode()}
