"""The steps of a worked example: the forward phase, the sweep, the gradients, the update, in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, product
from math import prod

import numpy as np

from jaxbp._explain._claims import Claim
from jaxbp._explain._equations import Equations
from jaxbp._explain._expressions import Expression, Index, Leaf, Partial, leaves
from jaxbp._explain._notation import Notation
from jaxbp._explain._numbers import Numbers
from jaxbp._explain._printing import Latex, Printer, rounded
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name
from jaxbp._plan import Place
from jaxbp.connections import Shape

SHOWN_ELEMENTS = 24
SHOWN_EXAMPLES = 4
EDGE_ELEMENTS = 2


@dataclass(frozen=True, eq=False)
class Typesetting:
    """How formulas are printed: in which symbols, and with which numbers for them."""

    notation: Notation
    equations: Equations

    @cached_property
    def text(self) -> Printer:
        """Symbols in plain text."""
        return Printer(self.notation.text)

    @cached_property
    def latex(self) -> Printer:
        """Symbols in LaTeX."""
        return Latex(self.notation.latex)

    def numbers(self, kind: type[Printer]) -> Printer:
        """A printer that shows numbers instead of symbols."""

        def shown(leaf: Leaf) -> str:
            row = self.equations.row(leaf)
            return kind.number(self.equations.value(leaf)) if row is None else printer.array(row)

        printer = kind(shown)
        return printer


@dataclass(frozen=True)
class Equation:
    """One element of a quantity: equal formulas for it, the simplest last, and its value; none where it is given."""

    quantity: Leaf
    forms: tuple[Expression, ...]
    value: float
    claims: tuple[Claim, ...]
    typesetting: Typesetting = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The quantity, such as `a.h1[0]`."""
        return str(self.quantity)

    @property
    def latex(self) -> tuple[str, ...]:
        """The equation in LaTeX, in pieces: the symbol, then `= …` for each formula, the numbers, the result."""
        return self._pieces(self.typesetting.latex)

    @property
    def text(self) -> tuple[str, ...]:
        """The equation in plain text, in the same pieces."""
        return self._pieces(self.typesetting.text)

    def _pieces(self, symbols: Printer) -> tuple[str, ...]:
        numbers = self.typesetting.numbers(type(symbols))
        shown = [symbols(form) for form in self.forms]
        if self.forms and leaves(self.forms[-1]):
            shown.append(numbers(self.forms[-1]))
        value = self.typesetting.equations.value(self.quantity)
        result = numbers.number(value)
        shown = [*(s for i, s in enumerate(shown) if s != result and s not in shown[:i]), result]
        assigns = isinstance(self.quantity, Name) and self.quantity.kind == "updated"
        signs = [symbols.arrow if assigns else "=", *["="] * (len(shown) - 1)]
        if rounded(value):
            signs[-1] = symbols.nearly if len(shown) > 1 or not assigns else symbols.arrow
        return (symbols(self.quantity), *(f"{sign} {piece}" for sign, piece in zip(signs, shown, strict=True)))


@dataclass(frozen=True)
class Step:
    """The equations of one quantity, such as `a.h1`, or `a.h1[0]` for one example of a batch.

    None among them stands for elements that are left out. The rule, in LaTeX, is the formula for the whole array,
    empty where that is given; the section is a part of the page: what is given, an example, the mean.
    """

    name: str
    title: str
    rule: str
    equations: tuple[Equation | None, ...]
    section: str
    value: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Work:
    """What is rendered: the steps in order, and the verdict on every claim, in the order in which they were made."""

    steps: tuple[Step, ...]
    claims: tuple[Claim, ...]
    typesetting: Typesetting

    def sections(self) -> Iterator[tuple[str, Iterator[Step]]]:
        """The steps by the part of the page they belong to."""
        return groupby(self.steps, lambda step: step.section)


class Steps:
    """All steps of a network's worked example; an element that something is claimed of is never left out."""

    def __init__(self, numbers: Numbers, notation: Notation, claims: Sequence[tuple[Leaf, Claim]]):
        self.numbers = numbers
        self.net = numbers.net
        self.equations = Equations(numbers)
        self.typesetting = Typesetting(notation, self.equations)
        self.several = prod(numbers.batch) > 1
        self.claims: dict[Leaf, list[Claim]] = {}
        for leaf, claim in claims:
            self.claims.setdefault(leaf, []).append(claim)

    def __iter__(self) -> Iterator[Step]:
        yield from self.given()
        section = "One example"
        for example in self.examples():
            if self.several:
                section = f"Example {', '.join(map(str, example))}"
            yield from self.forward(example, section)
            yield from self.backward(example, section)
        if self.several:
            section = f"Mean over all {prod(self.numbers.batch)} examples"
            yield self._step(Name("loss"), "Loss", r"L = \frac{1}{N} \sum_i L_i", section)
        yield from self.gradients(section)
        if self.numbers.learning_rate is not None:
            yield from self.updates(section)

    def examples(self) -> list[Index]:
        """The examples to show: the first and the last few, and those that something is claimed of."""
        about = map(_element_of, self.claims)
        of_examples = [name for name in about if name.is_of_unit or name.kind == "losses"]
        claimed = [name.index[: len(self.numbers.batch)] for name in of_examples]
        shown = _shown(self.numbers.batch, claimed, SHOWN_EXAMPLES)
        return [example for example in shown if example is not None]

    def given(self) -> Iterator[Step]:
        """The inputs, the targets, the weights and the learning rate."""
        for name in self.net.inputs:
            yield self._step(Name("h", (name,)), f"Input {name}", "", "Given")
        yield self._step(Name("y"), "Target", "", "Given")
        for weight in self._weights():
            words = self._words(weight)
            yield self._step(Name("W", weight), words[0].upper() + words[1:], "", "Given")
        if self.numbers.learning_rate is not None:
            yield self._step(Name("learning_rate"), "Learning rate", "", "Given")

    def forward(self, example: Index, section: str) -> Iterator[Step]:
        """The forward phase of one example."""
        for u in self.net.order:
            is_function = isinstance(self.net.units[u], FunctionUnit)
            rule = r"a_u = f(h_s, h_t, \ldots)" if is_function else r"a_u = \sum_{s \Rightarrow u} h_s W_{su} + b_u"
            yield self._step(Name("a", (u,)), f"Pre-activation of {u}", rule, section, example)
            phi = self.net.units[u].activation.name
            yield self._step(Name("h", (u,)), f"Activation of {u}, {phi}", r"h_u = \Phi_u(a_u)", section, example)
        name = Name("losses" if self.several else "loss")
        yield self._step(name, f"Loss, {self.numbers.loss.name}", "L = L(o, y)", section, example)

    def backward(self, example: Index, section: str) -> Iterator[Step]:
        """The sweep for one example."""
        start = r"\Delta_o = \frac{\partial L}{\partial o}"
        factor = r"\left(\frac{\partial h_u}{\partial a_u}\right)^{\top} \Delta_u"
        pull = rf"\delta_u = \frac{{\partial L}}{{\partial a_u}} = {factor}"
        for u in reversed(self.net.order):
            rule = start if u == self.net.output else self._recursion(u)
            yield self._step(Name("Delta", (u,)), f"Error signal at the output of {u}", rule, section, example)
            yield self._step(Name("delta", (u,)), f"Error signal at the pre-activation of {u}", pull, section, example)
        for s in self.net.inputs:
            Delta = Name("Delta", (s,))
            if any(_element_of(leaf).whole == Delta for leaf in self.claims):
                yield self._step(Delta, f"Error signal at the input {s}", self._recursion(s), section, example)

    def _recursion(self, s: str) -> str:
        """The rule for Δ of a unit or input, by the kind of units that read it."""
        term = r"\delta_v W_{uv}^{\top}"
        if any(self.net.plan.edges[v][s].connection is None for v in self.net.plan.readers[s]):
            term = r"\left(\frac{\partial a_v}{\partial h_u}\right)^{\top} \delta_v"
        return rf"\Delta_u = \frac{{\partial L}}{{\partial h_u}} = \sum_{{u \Rightarrow v}} {term}"

    def gradients(self, section: str) -> Iterator[Step]:
        """The gradient of every weight, the output first, as the sweep finds them."""
        for weight in (weight for u in reversed(self.net.order) for weight in self.net.plan.due[u]):
            rule = r"\frac{\partial L}{\partial W_{su}} = h_s^{\top} \delta_u"
            if weight[0] == SHARED:
                rule = r"\frac{\partial L}{\partial W} = \sum_{s \Rightarrow u} h_s^{\top} \delta_u"
            elif weight[1] == ONE:
                rule = r"\frac{\partial L}{\partial b_u} = 1^{\top} \delta_u"
            yield self._step(Name("grad", weight), f"Gradient of the {self._words(weight)}", rule, section)

    def updates(self, section: str) -> Iterator[Step]:
        """A step of gradient descent."""
        rule = r"W \leftarrow W - \eta \, \frac{\partial L}{\partial W}"
        for weight in self._weights():
            yield self._step(Name("updated", weight), f"Update of the {self._words(weight)}", rule, section)

    def _weights(self) -> list[Place]:
        """Every weight, by unit in topological order; those that connections share once, at the end."""
        groups = self.net.plan.groups
        return [(group, name) for group in (*self.net.order, SHARED) for name in groups.get(group, ())]

    def _words(self, weight: Place) -> str:
        group, name = weight
        if group == SHARED:
            edges = self.net.plan.uses[group, name]
            places = [f"bias of {e.unit}" if e.source == ONE else f"{e.source} to {e.unit}" for e in edges]
            return f"shared weights {name}, {' and '.join(places)}"
        return f"bias of {group}" if name == ONE else f"weights from {name} to {group}"

    def _step(self, name: Name, title: str, rule: str, section: str, example: Index = ()) -> Step:
        array = self.numbers.arrays[name]
        example = example[: array.ndim]  # the loss of a batch of one has no example axis
        claimed = [leaf for leaf in self.claims if self._belongs(leaf, name, example)]
        wanted = [leaf.index[len(example) :] for leaf in claimed if isinstance(leaf, Name)]
        indices = _shown(array.shape[len(example) :], wanted)
        elements = [None if index is None else name.at((*example, *index)) for index in indices]
        derivatives = [leaf for leaf in claimed if isinstance(leaf, Partial)]
        equations = tuple(None if leaf is None else self._equation(leaf) for leaf in (*elements, *derivatives))
        label = name.at(example) if self.several else name
        return Step(str(label), title, rule, equations, section, array[example])

    def _equation(self, leaf: Leaf) -> Equation:
        claims = tuple(self.claims.get(leaf, ()))
        return Equation(leaf, self.equations.forms(leaf), self.numbers(leaf), claims, self.typesetting)

    def _belongs(self, leaf: Leaf, name: Name, example: Index) -> bool:
        quantity = _element_of(leaf)
        return quantity.whole == name and quantity.index[: len(example)] == example


def _element_of(leaf: Leaf) -> Name:
    """Where a derivative is shown: at the quantity that is differentiated."""
    return leaf.of if isinstance(leaf, Partial) else leaf


def _shown(shape: Shape, wanted: Sequence[Index], whole: int = SHOWN_ELEMENTS) -> list[Index | None]:
    """The indices to show of an array of this shape, with one None for what is left out between them."""
    if prod(shape) <= whole:
        return list(np.ndindex(shape))
    edges = [
        range(n) if n <= 2 * EDGE_ELEMENTS else (*range(EDGE_ELEMENTS), *range(n - EDGE_ELEMENTS, n)) for n in shape
    ]
    chosen = sorted({*product(*edges), *wanted})
    shown: list[Index | None] = []
    for index in chosen:
        before = shown[-1] if shown else None
        if before is not None and np.ravel_multi_index(index, shape) > np.ravel_multi_index(before, shape) + 1:
            shown.append(None)
        shown.append(index)
    return shown
