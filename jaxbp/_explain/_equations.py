"""The formula behind each quantity of a network: what an element of it is made of."""

from collections.abc import Callable
from functools import cache
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp._explain._expressions import (
    Component,
    Expression,
    Function,
    Index,
    Leaf,
    Negative,
    Number,
    Partial,
    Product,
    Quotient,
    Sum,
    magnitude,
    mapped,
)
from jaxbp._explain._formulas import (
    ONE,
    activated,
    derivative,
    loss_gradient,
    loss_of,
    pulled_back,
    simplified,
    summed,
    times,
)
from jaxbp._explain._numbers import Numbers, applied
from jaxbp._explain._stages import Forms
from jaxbp._explain._terms import Term, Terms, terms_of
from jaxbp._explain._within import LEADS_TO, forms_of, within
from jaxbp._function_unit import FunctionUnit, name_of
from jaxbp._names import Name
from jaxbp._plan import Edge

_SUSPICIOUS, _ROUNDOFF = 1e-12, 1e-15


class Equations:
    """The recursions of the forward and the backward phase, written out for single elements.

    An `example` is an index into the batch, `i`, `j` and `k` are indices of an element of a source, a unit and a
    weight.
    """

    def __init__(self, numbers: Numbers):
        self.numbers = numbers
        self.flat, self.net = numbers.flat, numbers.net
        self.examples = prod(numbers.batch)
        self._found = cache(self._find_terms)
        self._made = cache(self._make)
        self._within = cache(self._find_within)
        self.value = cache(self._value)

    def _value(self, quantity: Leaf) -> float:
        """The number of one element; 0 where the terms of its sum or mean cancel up to what float64 makes of it."""
        value = self.numbers(quantity)
        if 0 < abs(value) < _SUSPICIOUS:
            for form in self.forms(quantity)[-1:]:
                added = form.numerator if isinstance(form, Quotient) else form
                if isinstance(added, Sum) and abs(value) < _ROUNDOFF * magnitude(form, self.numbers):
                    return 0.0
        return value

    def row(self, leaf: Leaf) -> list[float] | None:
        """The numbers of an array, one after the other; None for a single number."""
        if isinstance(leaf, Partial):
            return None
        array = self.numbers.arrays[leaf.whole][leaf.index]
        return array.ravel().tolist() if array.ndim else None

    def forms(self, quantity: Leaf) -> tuple[Expression, ...]:
        """Equal formulas for one element, the simplest last; none for what is given, or has no short one."""
        if self.flat.is_original:
            return self._forms(quantity)
        forms = self._forms(_called(quantity, self.flat.written_out))
        return mapped(forms, lambda leaf: _called(leaf, self.flat.original))

    def _forms(self, quantity: Leaf) -> tuple[Expression, ...]:
        """The same in the names of the network written out, as all that follows."""
        if isinstance(quantity, Partial):
            return self._local_derivative(quantity)
        split = len(self.numbers.batch)
        example, element = quantity.index[:split], quantity.index[split:]
        match quantity:
            case Name(kind, (u,)) if forms := self._within(u).get(LEADS_TO.get(kind, "")):
                return (forms.form(kind, example, element),)
            case Name("a", (u,)):
                return (self._pre_activation(u, example, element),)
            case Name("h", (u,)) if u in self.net.units and self.flat.units[u][0] not in self.flat.stacked.plan.nodes:
                return (self._pre_activation(u, example, element),)  # an input of a block is what it reads
            case Name("h", (u,)) if u in self.net.units:
                row = self._row("a", u, example, element)
                return (activated(self.net.units[u].activation, row, element[-1]),)
            case Name("losses"):
                return (self._example_loss(example),)
            case Name("loss"):
                return (self._mean_loss(),)
            case Name("Delta", (u,)) if u == self.net.output:
                return (self._signal_at_output(example, element),)
            case Name("Delta", (s,)):
                return (self._signal_from_readers(s, example, element),)
            case Name("delta", (u,)):
                return self._deltas(u, example, element)
            case Name("grad", (group, name)):
                return (self._gradient(group, name, quantity.index),)
            case Name("updated", (group, name)):
                return (self._update(group, name, quantity.index),)
            case _:
                return ()

    def _pre_activation(self, u: str, example: Index, j: Index) -> Expression:
        unit = self.net.units[u]
        if isinstance(unit, FunctionUnit):
            return self._of_function(unit, u, example, j)
        return summed(
            [
                self._product(edge, term, example, "W", "h")
                for edge in self.net.plan.edges[u].values()
                for term in self._terms(edge, example).into(j)
            ]
        )

    def _find_within(self, u: str) -> dict[str, Forms]:
        """The formulas of the stages within a unit, by the kind of quantity that they lead to."""
        found = within(u, self.net.units[u], self.net.shapes) if u in self.net.units else {}
        return {kind: forms_of(stages, self.numbers.written_out) for kind, stages in found.items()}

    def _of_function(self, unit: FunctionUnit, u: str, example: Index, j: Index) -> Expression:
        name = name_of(unit.function)
        function = Function(name if name.replace("_", "").isalnum() else "f", lambda *row: float(self._made(u, row)[j]))
        arrays = tuple(Name("h", (s,), example) for s in unit.sources)
        elements = [Name("h", (s,), (*example, *i)) for s in unit.sources for i in np.ndindex(self.net.shapes[s])]
        return Component(function, arrays, tuple(elements), j)

    def _make(self, u: str, row: tuple[float, ...]) -> np.ndarray:
        """What a function unit makes of all elements of its sources, one after the other."""
        unit = self.net.units[u]
        ends = np.cumsum([prod(self.net.shapes[s]) for s in unit.reads])
        parts = np.split(np.array(row, np.float64), ends[:-1])
        with jax.enable_x64(True):
            h = [jnp.asarray(part.reshape(self.net.shapes[s])) for s, part in zip(unit.reads, parts, strict=True)]
            return np.asarray(applied(unit, h))

    def _example_loss(self, example: Index) -> Expression:
        o = self.net.output
        rows = [(*row, 0) for row in np.ndindex(self.net.shapes[o][:-1])]
        return summed(
            [
                loss_of(self.numbers.loss, self._row("h", o, example, row), self._targets(example, row), self.numbers)
                for row in rows
            ]
        )

    def _mean_loss(self) -> Expression:
        if self.examples == 1:
            return self._example_loss((0,) * len(self.numbers.batch))
        losses = summed([Name("losses", (), example) for example in np.ndindex(self.numbers.batch)])
        return times(Quotient(ONE, Number(self.examples)), losses)

    def _signal_at_output(self, example: Index, j: Index) -> Expression:
        row, y = self._row("h", self.net.output, example, j), self._targets(example, j)
        return self._of_the_mean(loss_gradient(self.numbers.loss, row, y, j[-1], self.numbers))

    def _signal_from_readers(self, s: str, example: Index, i: Index) -> Expression:
        terms: list[Expression] = []
        for v in reversed(self.net.plan.readers[s]):
            edge = self.net.plan.edges[v][s]
            if edge.connection is None:
                terms += self._through_function(v, s, example, i)
            else:
                terms += [self._product(edge, t, example, "W", "delta") for t in self._terms(edge, example).out_of(i)]
        return summed(terms)

    def _through_function(self, v: str, s: str, example: Index, i: Index) -> list[Expression]:
        """The terms (∂a_v[j]/∂h_s[i]) δ_v[j], without those that this example makes 0; of attention its own."""
        if forms := self._within(v).get("a"):
            return forms.back(s, example, i)
        column = self.numbers.column(v, s, example, i)
        by = Name("h", (s,), (*example, *i))
        return [
            times(Partial(Name("a", (v,), (*example, *j)), by), Name("delta", (v,), (*example, *j)))
            for j in np.ndindex(self.net.shapes[v])
            if column[j] != 0
        ]

    def _deltas(self, u: str, example: Index, j: Index) -> tuple[Expression, ...]:
        activation = self.net.units[u].activation
        a, h, Delta = (self._row(kind, u, example, j) for kind in ("a", "h", "Delta"))
        forms = self._within(u).get("h")
        by_product = summed(forms.back(u, example, j)) if forms else pulled_back(activation, a, h, Delta, j[-1])
        if u != self.net.output:
            return (by_product,)
        y = self._targets(example, j)
        simple = simplified(self.numbers.loss, activation, a, h, y, j[-1], self.numbers)
        if simple is None:
            return (by_product,)
        finite = all(np.isfinite(self.numbers(leaf)) for leaf in Delta)
        return (*([by_product] if finite else []), self._of_the_mean(simple))

    def _gradient(self, group: str, name: str, k: Index) -> Expression:
        return summed(
            [
                self._product(edge, term, example, "h", "delta")
                for edge in self._uses(group, name)
                for example in np.ndindex(self.numbers.batch)
                for term in self._terms(edge, example).of(k)
            ]
        )

    def _uses(self, group: str, name: str) -> tuple[Edge, ...]:
        return self.net.plan.uses[group, name]

    def _update(self, group: str, name: str, k: Index) -> Expression:
        step = Product((Name("learning_rate"), Name("grad", (group, name), k)))
        return Sum((Name("W", (group, name), k), Negative(step)))

    def _local_derivative(self, leaf: Partial) -> tuple[Expression, ...]:
        """The formula of a derivative between neighbours; none for one over a longer way."""
        kind, u, by_kind, by = leaf.of.kind, leaf.of.unit, leaf.by.kind, leaf.by.path
        batch = len(self.numbers.batch)
        example, j = leaf.of.index[:batch], leaf.of.index[batch:]
        if (kind, by_kind, (u,)) == ("h", "a", by):
            if (*example, *j[:-1]) != leaf.by.index[:-1]:
                return (Number(0),)
            if forms := self._within(u).get("h"):
                form = forms.derivative(example, j, leaf.by.index[batch:])
            else:
                a, h = (self._row(k, u, example, j) for k in ("a", "h"))
                form = derivative(self.net.units[u].activation, a, h, j[-1], leaf.by.index[-1])
            return () if form is None or form == leaf else (form,)
        edges = self.numbers.edges_by(u, by) if (kind, by_kind) == ("a", "W") else []
        if edges:
            terms = [
                (edge, t) for edge in edges for t in self._terms(edge, example).into(j) if t.weight == leaf.by.index
            ]
            return (summed([self._product(edge, t, example, "h") for edge, t in terms]),)
        if kind == "a" and isinstance(self.net.units[u], FunctionUnit):
            return ()
        if kind == "a" and by_kind == "h" and by[0] in self.net.plan.edges[u]:
            edge, same = self.net.plan.edges[u][by[0]], leaf.by.index[:batch] == example
            terms = [t for t in self._terms(edge, example).into(j) if same and t.source == leaf.by.index[batch:]]
            return (summed([self._product(edge, t, example, "W") for t in terms]),)
        return ()

    def _of_the_mean(self, e: Expression) -> Expression:
        return e if self.examples == 1 else times(Quotient(ONE, Number(self.examples)), e)

    def _row(self, kind: str, u: str, example: Index, j: Index) -> list[Name]:
        return [Name(kind, (u,), (*example, *j[:-1], i)) for i in range(self.net.shapes[u][-1])]

    def _targets(self, example: Index, j: Index) -> list[Name]:
        return [Name("y", (), (*example, *j[:-1], i)) for i in range(self.net.shapes[self.net.output][-1])]

    def _terms(self, edge: Edge, example: Index) -> Terms:
        """The terms of a connection, which only ids make others for each example."""
        return self._found(edge, example if edge.linear.reads_ids else None)

    def _find_terms(self, edge: Edge, example: Index | None) -> Terms:
        weights = self.net.plan.weight_shapes
        weight = None if edge.weight is None else weights[edge.weight]
        ids = None if example is None else self.numbers.x[edge.source][example]
        return terms_of(edge.linear, weight, edge.shape, self.net.shapes[edge.unit], ids)

    def _product(self, edge: Edge, term: Term, example: Index, *kinds: str) -> Expression:
        """The factors of these kinds in a term: its weight and its source, where it has them, and δ of its unit."""
        factors: list[Expression] = [Number(term.t)]
        for kind in kinds:
            if kind == "delta":
                factors.append(Name("delta", (edge.unit,), (*example, *term.unit)))
            elif kind == "W" and edge.weight is not None and term.weight is not None:
                factors.append(Name("W", edge.weight, term.weight))
            elif kind == "h" and term.source is not None:
                factors.append(Name("h", (edge.source,), (*example, *term.source)))
        return times(*factors)


def _called(leaf: Leaf, name: Callable[[Name], Name]) -> Leaf:
    return Partial(name(leaf.of), name(leaf.by)) if isinstance(leaf, Partial) else name(leaf)
