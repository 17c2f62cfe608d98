"""The formulas of attention: what each element of its scores, weights and mix is made of, and of their signals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxbp._explain._attention import AttentionSteps
from jaxbp._explain._expressions import FUNCTIONS, Bracket, Call, Expression, Index, Number, Quotient
from jaxbp._explain._formulas import minus, summed, times
from jaxbp._explain._stages import Forms
from jaxbp._names import Name


@dataclass(frozen=True, eq=False)
class AttentionForms(Forms):
    """The formulas of one unit; the mask, of all examples, says which keys each row sees, which is all without one."""

    attention: AttentionSteps
    mask: np.ndarray | None

    def _sees(self, example: Index, head: Index, row: int) -> list[int]:
        if self.mask is None:
            return list(range(self.attention.shapes[self.attention.sources[1]][0]))
        return np.flatnonzero(self.mask[(*example, *head, row)]).tolist()

    def form(self, kind: str, example: Index, element: Index) -> Expression:
        """What an element of a quantity is made of."""
        if kind == "a":
            return self._mix(example, element)
        if "turned" in kind:
            return self._form_of_turned(kind, example, element)
        head, (row, key) = element[:-2], element[-2:]
        n = head[0] if head else 0
        match kind:
            case "scores":
                products = [
                    times(self._query(example, row, n, c), self._key(example, key, n, c)) for c in range(self._d)
                ]
                return Quotient(summed(products), self._root)
            case "mask":
                return times(*self._brackets(example, row, key))
            case "weights":
                if key not in self._sees(example, head, row):
                    return Number(0)
                of_row = [self._exp(example, (*head, row, k)) for k in self._sees(example, head, row)]
                return Quotient(self._exp(example, element), summed(of_row))
            case "Delta_weights":
                columns = range(self._value_width)
                return summed(
                    [times(self._delta(example, row, n, c), self._value(example, key, n, c)) for c in columns]
                )
            case _:
                if key not in self._sees(example, head, row):
                    return Number(0)
                P, Delta_P = (
                    lambda k, kind=kind: self._of(kind, example, (*head, row, k))
                    for kind in ("weights", "Delta_weights")
                )
                mean = summed([times(P(k), Delta_P(k)) for k in self._sees(example, head, row)])
                return times(P(key), minus(Delta_P(key), mean))

    def _mix(self, example: Index, element: Index) -> Expression:
        """An element of a = P V."""
        row, n, c, head = self._place(element, self._value_width)
        keys = self._sees(example, head, row)
        return summed(
            [times(self._of("weights", example, (*head, row, k)), self._value(example, k, n, c)) for k in keys]
        )

    def back(self, s: str, example: Index, element: Index) -> list[Expression]:
        """What the unit adds to Δ of one of its sources."""
        role = self.attention.sources.index(s)
        if role > 2:
            return []
        if role == 2:
            return self._back_to_values(example, element)
        kind = ("Delta_turned_query", "Delta_turned_key")[role]
        if self.attention.function.rotary is None:
            return [self._signal(kind, example, element)]
        return self._rotation(kind, -1, example, element)

    def _form_of_turned(self, kind: str, example: Index, element: Index) -> Expression:
        if kind.startswith("Delta"):
            return self._signal(kind, example, element)
        return summed(self._rotation("h", 1, example, element, self.attention.sources[kind == "turned_key"]))

    def _signal(self, kind: str, example: Index, element: Index) -> Expression:
        """An element of ∂L/∂S K / √d, or of ∂L/∂Sᵀ Q / √d."""
        place, n, c, head = self._place(element, self._d)
        if kind == "Delta_turned_query":
            products = [
                times(self._of("Delta_scores", example, (*head, place, k)), self._key(example, k, n, c))
                for k in self._sees(example, head, place)
            ]
        else:
            products = [
                times(self._of("Delta_scores", example, (*head, row, place)), self._query(example, row, m, c))
                for m, head, row in self._readers(n, place, example)
            ]
        return Quotient(summed(products), self._root)

    def _back_to_values(self, example: Index, element: Index) -> list[Expression]:
        key, n, c, _ = self._place(element, self._value_width)
        return [
            times(self._of("weights", example, (*head, row, key)), self._delta(example, row, m, c))
            for m, head, row in self._readers(n, key, example)
        ]

    def _readers(self, n: int, key: int, example: Index) -> Iterator[tuple[int, Index, int]]:
        """Every head that has these keys, and every row that sees this one."""
        for m in range(n * self.attention.group, (n + 1) * self.attention.group):
            head = () if self.attention.function.heads == 1 else (m,)
            for row in range(self.attention.shapes[self.attention.u][0]):
                if key in self._sees(example, head, row):
                    yield m, head, row

    def _rotation(
        self, kind: str, sign: int, example: Index, element: Index, source: str | None = None
    ) -> list[Expression]:
        """Two terms, an element and the other one of its pair, turned one way or the other."""
        row, _, i, _ = self._place(element, self._d)
        half = self._d // 2
        first = i < half
        other = element[1] + (half if first else -half)
        angle = sign * self.attention.angle(row, i % half, self._d)
        name = Name(kind, (self.attention.u if source is None else source,), (*example, *element))
        cosine, sine = float(np.cos(angle)), float(np.sin(angle)) * (-1 if first else 1)
        return [times(Number(cosine), name), times(Number(sine), name.at((*example, row, other)))]

    def _place(self, element: Index, width: int) -> tuple[int, int, int, Index]:
        """Row, head, column in it, and the head as an index."""
        row, column = element
        n = column // width
        return row, n, column % width, () if self.attention.function.heads == 1 else (n,)

    @property
    def _d(self) -> int:
        return self.attention.shapes[self.attention.sources[0]][-1] // self.attention.function.heads

    @property
    def _value_width(self) -> int:
        return self.attention.shapes[self.attention.sources[2]][-1] // self.attention.function.key_heads

    @property
    def _root(self) -> Expression:
        return Call(FUNCTIONS["sqrt"], (Number(self._d),))

    def _of(self, kind: str, example: Index, element: Index) -> Name:
        return self.attention.called(kind, example, element)

    def _exp(self, example: Index, element: Index) -> Expression:
        return Call(FUNCTIONS["exp"], (self._of("scores", example, element),))

    def _delta(self, example: Index, row: int, head: int, c: int) -> Name:
        return self._of("delta", example, (row, head * self._value_width + c))

    def _query(self, example: Index, row: int, head: int, c: int) -> Name:
        at = (row, head * self._d + c)
        return (
            self._of("turned_query", example, at)
            if self.attention.function.rotary
            else Name("h", (self.attention.sources[0],), (*example, *at))
        )

    def _key(self, example: Index, key: int, head: int, c: int) -> Name:
        at = (key, head // self.attention.group * self._d + c)
        return (
            self._of("turned_key", example, at)
            if self.attention.function.rotary
            else Name("h", (self.attention.sources[1],), (*example, *at))
        )

    def _value(self, example: Index, key: int, head: int, c: int) -> Name:
        return Name(
            "h", (self.attention.sources[2],), (*example, key, head // self.attention.group * self._value_width + c)
        )

    def _brackets(self, example: Index, row: int, key: int) -> Iterator[Expression]:
        if self.attention.function.causal:
            yield Bracket((Number(key), Number(row)), ("≤",))
        for s in self.attention.decided_by:
            at = (row, key) if len(self.attention.shapes[s]) == 2 else (key,)
            yield Bracket((Name("h", (s,), (*example, *at)), Number(0)), ("≠",))
