"""The steps of a worked example: the forward phase, the sweep, the gradients, the update, in order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, product
from math import prod
from typing import NamedTuple

import numpy as np

from jaxbp._explain._claims import Claim
from jaxbp._explain._digits import DIGITS
from jaxbp._explain._equations import Equations
from jaxbp._explain._expressions import Index, Leaf, Partial
from jaxbp._explain._notation import Notation
from jaxbp._explain._numbers import Numbers
from jaxbp._explain._stages import Stage, Stages
from jaxbp._explain._terms import looked_up
from jaxbp._explain._titles import Title, in_layer, title_of_weights
from jaxbp._explain._within import within
from jaxbp._explain._work import Equation, Step, Typesetting
from jaxbp._function_unit import FunctionUnit
from jaxbp._graph import ONE, SHARED
from jaxbp._names import Name
from jaxbp._plan import Place
from jaxbp.connections import Shape

LISTED_ELEMENTS = 12
SHOWN_ELEMENTS = 24
SHOWN_EXAMPLES = 4
EDGE_ELEMENTS = 2


class Heading(NamedTuple):
    """A step whose equations are not made yet: of a quantity, or of what one layer has of it."""

    name: Name
    title: Title
    rule: str
    example: Index = ()
    rows: Sequence[int] | None = None  # which of a table are looked up


class Steps:
    """All steps of a network's worked example; what something is claimed of is never left out.

    The network is the one with its stacks written out, and what is shown has the names of the one with stacks.
    """

    def __init__(
        self,
        numbers: Numbers,
        notation: Notation,
        claims: Sequence[tuple[Leaf, Claim]],
        all_layers: bool = False,
        digits: int = DIGITS,
    ):
        self.numbers = numbers
        self.flat, self.net = numbers.flat, numbers.net
        self.all_layers = all_layers
        self.equations = Equations(numbers)
        self.typesetting = Typesetting(notation, self.equations, digits)
        self.several = prod(numbers.batch) > 1
        self.claims: dict[Leaf, list[Claim]] = {}
        for leaf, claim in claims:
            self.claims.setdefault(leaf, []).append(claim)
        about = [(name.index, self.flat.stacks_around(name)) for name in map(_element_of, self.claims)]
        self.claimed_layers = {
            (stack, index[: i + 1]) for index, stacks in about for i, (stack, _) in enumerate(stacks)
        }

    def __iter__(self) -> Iterator[Step]:
        yield from self._steps(self.given(), "Given")
        section = "One example"
        for example in self.examples():
            if self.several:
                section = f"Example {', '.join(map(str, example))}"
            yield from self._steps(self.forward(example), section)
            yield from self._steps(self.backward(example), section)
        if self.several:
            section = f"Mean over all {prod(self.numbers.batch)} examples"
            yield self._step(Heading(Name("loss"), Title("Loss"), r"L = \frac{1}{N} \sum_i L_i"), section)
        yield from self._steps(self.gradients(), section)
        if self.numbers.learning_rate is not None:
            yield from self._steps(self.updates(), section)

    def examples(self) -> list[Index]:
        """The examples to show: the first and the last few, and those that something is claimed of."""
        about = map(_element_of, self.claims)
        of_examples = [name for name in about if name.is_of_unit or name.kind == "losses"]
        layers = [len(self.flat.stacks_around(name)) for name in of_examples]
        claimed = [name.index[n : n + len(self.numbers.batch)] for name, n in zip(of_examples, layers, strict=True)]
        shown = _shown(self.numbers.batch, claimed, SHOWN_EXAMPLES)
        return [example for example in shown if example is not None]

    def given(self) -> Iterator[Heading]:
        """The inputs, the targets, the weights and the learning rate."""
        for name in self.net.inputs:
            yield Heading(Name("h", (name,)), Title("Input {}", (name,)), "")
        yield Heading(Name("y"), Title("Target"), "")
        for weight in self._weights():
            yield self._of_weights("W", weight, "", "{}; the rows that are looked up")
        if self.numbers.learning_rate is not None:
            yield Heading(Name("learning_rate"), Title("Learning rate"), "")

    def forward(self, example: Index) -> Iterator[Heading]:
        """The forward phase of one example."""
        for u in self.flat.order:
            a, h = (self._named(kind, (u,)) for kind in ("a", "h"))
            called = in_layer(h.unit, h.index)
            if a.kind != "a":
                yield Heading(h, Title("Input {}", (called,)), "h_u = h_s", example)
                continue
            ways, phi = self._within(u), self.net.units[u].activation.name
            ends = {
                "a": Heading(a, Title("Pre-activation of {}", (called,)), self._forward_rule(u), example),
                "h": Heading(h, Title("Activation of {}, {}", (called, Title(phi))), r"h_u = \Phi_u(a_u)", example),
            }
            for kind, heading in ends.items():
                yield from self._staged(u, ways[kind].forward() if kind in ways else (), example)
                yield _with_rule(heading, ways)
        name = Name("losses" if self.several else "loss")
        yield Heading(name, Title("Loss, {}", (Title(self.numbers.loss.name),)), "L = L(o, y)", example)

    def _within(self, u: str) -> dict[str, Stages]:
        return within(u, self.net.units[u], self.net.shapes)

    def _staged(self, u: str, stages: Iterable[Stage], example: Index) -> Iterator[Heading]:
        for stage in stages:
            name = self._named(stage.kind, (u,))
            yield Heading(name, Title(stage.title, (in_layer(name.unit, name.index),)), stage.rule, example)

    def _forward_rule(self, u: str) -> str:
        if isinstance(self.net.units[u], FunctionUnit):
            return r"a_u = f(h_s, h_t, \ldots)"
        looks_up = {edge.linear.reads_ids for edge in self.net.plan.edges[u].values() if edge.source != ONE}
        products = [r"\sum_{s \Rightarrow u} h_s W_{su}"] if False in looks_up or not looks_up else []
        rows = [r"\sum_{s \Rightarrow u} W_{su}[h_s]"] if True in looks_up else []
        return f"a_u = {' + '.join((*products, *rows, 'b_u'))}"

    def backward(self, example: Index) -> Iterator[Heading]:
        """The sweep for one example."""
        start = r"\Delta_o = \frac{\partial L}{\partial o}"
        factor = r"\left(\frac{\partial h_u}{\partial a_u}\right)^{\top} \Delta_u"
        pull = rf"\delta_u = \frac{{\partial L}}{{\partial a_u}} = {factor}"
        for u in reversed(self.flat.order):
            Delta, delta = (self._named(kind, (u,)) for kind in ("Delta", "delta"))
            called = in_layer(Delta.unit, Delta.index)
            if delta.kind != "delta":
                yield Heading(Delta, Title("Error signal at the input {}", (called,)), self._recursion(u), example)
                continue
            ways, rule = self._within(u), start if u == self.net.output else self._recursion(u)
            signals = {
                "h": Heading(Delta, Title("Error signal at the output of {}", (called,)), rule, example),
                "a": Heading(delta, Title("Error signal at the pre-activation of {}", (called,)), pull, example),
            }
            for kind, heading in signals.items():
                yield _with_rule(heading, ways)
                yield from self._staged(u, ways[kind].backward() if kind in ways else (), example)
        for s in self.net.inputs:
            Delta = Name("Delta", (s,))
            if any(_element_of(leaf).whole == Delta for leaf in self.claims):
                yield Heading(Delta, Title("Error signal at the input {}", (s,)), self._recursion(s), example)

    def _recursion(self, s: str) -> str:
        """The rule for Δ of a unit or input, by the kind of units that read it."""
        term = r"\delta_v W_{uv}^{\top}"
        if any(self.net.plan.edges[v][s].connection is None for v in self.net.plan.readers[s]):
            term = r"\left(\frac{\partial a_v}{\partial h_u}\right)^{\top} \delta_v"
        return rf"\Delta_u = \frac{{\partial L}}{{\partial h_u}} = \sum_{{u \Rightarrow v}} {term}"

    def gradients(self) -> Iterator[Heading]:
        """The gradient of every weight, the output first, as the sweep finds them."""
        for weight in (weight for u in reversed(self.flat.order) for weight in self.net.plan.due[u]):
            rule = r"\frac{\partial L}{\partial W_{su}} = h_s^{\top} \delta_u"
            if self._rows(weight) is not None:
                rule = r"\frac{\partial L}{\partial W_{su}[i]} = \sum_{p: \, h_s[p] = i} \delta_u[p]"
            elif weight[0] == SHARED:
                rule = r"\frac{\partial L}{\partial W} = \sum_{s \Rightarrow u} h_s^{\top} \delta_u"
            elif weight[1] == ONE:
                rule = r"\frac{\partial L}{\partial b_u} = 1^{\top} \delta_u"
            yield self._of_weights("grad", weight, rule, "{}; it is 0 in the rows that are not looked up")

    def updates(self) -> Iterator[Heading]:
        """A step of gradient descent."""
        rule = r"W \leftarrow W - \eta \, \frac{\partial L}{\partial W}"
        for weight in self._weights():
            yield self._of_weights("updated", weight, rule, "{}; nothing changes in the rows that are not looked up")

    def _weights(self) -> list[Place]:
        """Every weight, by unit in topological order; those that connections share once, at the end."""
        groups = self.net.plan.groups
        return [(group, name) for group in (*self.flat.order, SHARED) for name in groups.get(group, ())]

    def _named(self, kind: str, path: Place) -> Name:
        return self.flat.original(Name(kind, path))

    def _of_weights(self, kind: str, weight: Place, rule: str, of_rows: str) -> Heading:
        """Weights, their gradient or their update, with what there is to say where only some rows are looked up."""
        name, rows = self._named(kind, weight), self._rows(weight)
        weights = self._named("W", weight)
        title = title_of_weights(kind, name.path[-1], self.flat.stacked.plan.uses[weights.path], weights.index)
        return Heading(name, title if rows is None else Title(of_rows, (title,)), rule, rows=rows)

    def _rows(self, weight: Place) -> Sequence[int] | None:
        """The rows of a table that some id looks up; None for weights that are more than that, or have no others."""
        edges = self.net.plan.uses[weight]
        if not all(edge.linear.reads_ids for edge in edges):
            return None
        found = [np.ravel(looked_up(edge.linear, self.numbers.x[edge.source])) for edge in edges]
        ids = np.unique(np.concatenate(found))
        return None if len(ids) == self.net.plan.weight_shapes[weight][0] else list(map(int, ids))

    def _steps(self, headings: Iterable[Heading], section: str) -> Iterator[Step]:
        """The steps, with one in the place of layers that are left out."""
        for left_out, run in groupby(headings, lambda heading: self._left_out(heading.name)):
            if left_out is None:
                yield from (self._step(heading, section) for heading in run)
                continue
            stack, above = left_out
            layers = [heading.name.index[len(above)] for heading in run]
            first, last = min(layers), max(layers)
            of = in_layer(stack, above)
            title = Title("Layers {} to {} of {}, left out", (str(first), str(last), of))
            if first == last:
                title = Title("Layer {} of {}, left out", (str(first), of))
            span = f"{first}" if first == last else f"{first}…{last}"
            yield Step(f"{stack}[{', '.join((*map(str, above), span))}]", title, "", (None,), section, np.empty(0))

    def _left_out(self, name: Name) -> tuple[str, Index] | None:
        """The stack, and the layers around that, in whose inner layers something is that is not shown."""
        for i, (stack, depth) in enumerate(self.flat.stacks_around(name)):
            inner = 0 < name.index[i] < depth - 1
            if inner and not self.all_layers and (stack, name.index[: i + 1]) not in self.claimed_layers:
                return stack, name.index[:i]
        return None

    def _step(self, heading: Heading, section: str) -> Step:
        name, title, rule, example, rows = heading
        array = self.numbers.arrays[name.whole][name.index]
        example = example[: array.ndim]  # the loss of a batch of one has no example axis
        start = (*name.index, *example)
        claimed = [leaf for leaf in self.claims if self._belongs(leaf, name.whole, start)]
        wanted = [leaf.index[len(start) :] for leaf in claimed if isinstance(leaf, Name)]
        indices = _shown(array.shape[len(example) :], wanted, rows=rows)
        elements = [None if index is None else name.at((*start, *index)) for index in indices]
        derivatives = [leaf for leaf in claimed if isinstance(leaf, Partial)]
        equations = tuple(None if leaf is None else self._equation(leaf) for leaf in (*elements, *derivatives))
        label = name.at(start) if self.several else name
        of_rows = array[example].ndim > 1 and (name.is_of_unit or name.kind == "y")
        is_matrix = rows is None and (of_rows or array[example].size > LISTED_ELEMENTS)
        whole = name.whole.at(start) if is_matrix else None
        return Step(str(label), title, rule, equations, section, array[example], whole)

    def _equation(self, leaf: Leaf) -> Equation:
        claims = tuple(self.claims.get(leaf, ()))
        return Equation(leaf, self.equations.forms(leaf), self.numbers(leaf), claims, self.typesetting)

    def _belongs(self, leaf: Leaf, name: Name, start: Index) -> bool:
        quantity = _element_of(leaf)
        return quantity.whole == name and quantity.index[: len(start)] == start


def _element_of(leaf: Leaf) -> Name:
    """Where a derivative is shown: at the quantity that is differentiated."""
    return leaf.of if isinstance(leaf, Partial) else leaf


def _with_rule(heading: Heading, ways: Mapping[str, Stages]) -> Heading:
    """A quantity at an end of the stages within a unit, with the rule that they have for it."""
    own = {kind: rule for stages in ways.values() for kind, rule in stages.rules.items()}
    return heading._replace(rule=own.get(heading.name.kind, heading.rule))


def _shown(
    shape: Shape, wanted: Sequence[Index], whole: int = SHOWN_ELEMENTS, rows: Sequence[int] | None = None
) -> list[Index | None]:
    """The indices to show of an array of this shape, or of these rows, with one None for each gap between them."""
    if rows is not None:
        among_rows = filter(None, _shown((len(rows), *shape[1:]), (), whole))
        chosen = {(rows[i], *rest) for i, *rest in among_rows}
    elif prod(shape) <= whole:
        return list(np.ndindex(shape))
    else:
        edges = [
            range(n) if n <= 2 * EDGE_ELEMENTS else (*range(EDGE_ELEMENTS), *range(n - EDGE_ELEMENTS, n)) for n in shape
        ]
        chosen = {*product(*edges)}
    shown: list[Index | None] = []
    expected = 0
    for index in sorted({*chosen, *wanted}):
        place = int(np.ravel_multi_index(index, shape))
        shown += [index] if place == expected else [None, index]
        expected = place + 1
    return shown if expected == prod(shape) else [*shown, None]
