"""A network's own worked example: every step of backpropagation with its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jaxbp._check._session import Session
from jaxbp._checks import (
    check_choice,
    check_flag,
    check_integer,
    check_kind,
    check_mapping,
    check_number,
    is_known,
    quoted,
    suggestion,
)
from jaxbp._explain import _html, _markup, _text
from jaxbp._explain._claims import Claim, judged, statements
from jaxbp._explain._digits import DIGITS, MOST_DIGITS
from jaxbp._explain._equations import Equations
from jaxbp._explain._escaping import brief
from jaxbp._explain._notation import Notation, batch_axes
from jaxbp._explain._numbers import Numbers, as_shown
from jaxbp._explain._parsing import parse_name
from jaxbp._explain._steps import Steps
from jaxbp._explain._symbols import Symbol, SymbolError, parse_symbol
from jaxbp._explain._titles import TITLE
from jaxbp._explain._verdicts import reservation, said, summary
from jaxbp._explain._work import Work
from jaxbp._forward import check_inputs
from jaxbp._names import Name
from jaxbp._network import Network
from jaxbp._page import FILL_IN, WORDS, document
from jaxbp._parameters import check_params
from jaxbp.losses import Loss


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Work):
    """A worked example: its `steps`, and the verdict on each of the `claims`.

    `str` and `print` show it as plain text; a notebook shows its living page.
    """

    def __repr__(self) -> str:
        return f"Explanation({len(self.steps)} steps; {summary(self.claims)})"

    def __str__(self) -> str:
        return _text.rendered(self)

    def markdown(self) -> str:
        """The explanation as Markdown with LaTeX maths between dollar signs."""
        return _markup.markdown(self)

    def latex(self) -> str:
        """The explanation as a LaTeX document that needs the packages amsmath and amssymb."""
        return _markup.latex(self)

    def html(self, title: str = "A worked example of backpropagation") -> str:
        """The explanation as one page that needs nothing else: no network, no scripts, formulas as MathML."""
        check_kind(title, str, "title", "text")
        return _html.page(self, title)

    def page(self, title: str | None = None, *, fill_in: str = "nothing", language: str = "en") -> str:
        """The explanation as a living page: one file that needs nothing else, to step through, change and fill in.

        It evaluates and draws the formulas of this explanation, for all examples, layers and elements. Where one of
        them is a function without a formula, such as an activation of yours, what follows from it is shown as unknown
        once what it is applied to has changed. An explanation without a learning rate has a page that starts from 0.1.
        A ValueError refuses a network whose formulas mention more than two million quantities. The page is made with
        latex2mathml, as `html` is.

        Args:
            title: The heading; by default "Backpropagation, step by step", in the language of the page.
            fill_in: What is blank when the page is opened, and to be filled in: "nothing", "numbers" or "formulas".
            language: In which language the page speaks, "en" or "de".

        Example:
            >>> import jax.numpy as jnp, jaxbp
            >>> net = jaxbp.layered([2, 1], output=jaxbp.sigmoid, bias=False)
            >>> params = {"o": {"x": jnp.array([[0.5], [-1.0]])}}
            >>> work = jaxbp.explain(net, jaxbp.squared_error, params, jnp.array([1.0, 2.0]), jnp.array([1.0]))
            >>> work.page("One neuron").startswith("<!doctype html>")
            True
        """
        if title is not None:
            check_kind(title, str, "title", "text")
        check_choice(fill_in, "fill_in", FILL_IN)
        check_choice(language, "language", tuple(WORDS))
        return document(self, TITLE.said(language) if title is None else title, fill_in, language)

    def said(self, claim: Claim) -> str:
        """What was claimed, in plain text: a number as written, a formula in this notation with what it gives."""
        return said(claim, self.typesetting.text)

    def reservation(self, claim: Claim) -> str:
        """What there is to say of a claim besides whether it holds and the true value; mostly nothing."""
        return reservation(claim, self.typesetting.text)

    def _repr_html_(self) -> str | None:
        from jaxbp._notebook._explanation import of_explanation

        return of_explanation(self)


def explain(
    net: Network,
    loss: Loss,
    params: Any,
    x: Any,
    y: Any,
    learning_rate: float | None = None,
    claims: Mapping[str, Any] | None = None,
    *,
    names: Mapping[str, str] | None = None,
    all_layers: bool = False,
    digits: int = DIGITS,
) -> Explanation:
    r"""A network's own worked example: each step's formula in symbols, with its numbers, and its result.

    a_u = Σ h_s W_su + b_u,  h_u = Φ_u(a_u),  L,  Δ_o = ∂L/∂o,  δ_u = (∂h_u/∂a_u)ᵀ Δ_u,  Δ_u = Σ δ_v W_uvᵀ,
    ∂L/∂W_su = h_sᵀ δ_u,  W ← W − η ∂L/∂W

    Everything is computed in float64, without dropout. Several examples are shown one by one, and then the gradient of
    their mean; δ and Δ are those of the mean. What has rows or many elements is shown as a matrix, with its first and
    last element worked out, and attention and normalisation in their steps. Large arrays and long sums are elided, and
    of a stack all layers but the first and the last; what something is claimed of is shown, with all of its layer. Of a
    table that ids look up only the rows that they say are shown. Without a learning rate η nothing is updated. Besides
    the errors of `backprop`, a ValueError tells of an id that is out of range, and of a claim or a name that cannot be
    read.

    Args:
        claims: What a book or a student says, by the name of a quantity: a number, of which as many digits are
            claimed as are written (text keeps final zeros: `"0.50"`; a whole number is exact), a formula over
            quantities as text, a list of several such, a dict of them by the place where they are said, or, where
            the name is that of an array, an array of them.
            Names are those of `Backprop.quantities` with an index where one element is meant, and `y`,
            `W.o.h1[0, 1]`, `losses[0]`, `learning_rate`, `updated.o.h1[0, 1]`, `d(h.o[0])/d(a.o[1])`. A weight that
            several connections share is `W.shared.NAME`, and its gradient `grad.shared.NAME`. What is in a stack has
            its layer before all other indices, and `delta.blocks.up[3]` is an array, that of one layer. Within a unit
            of attention, `mix`, there are `scores.mix`, `mask.mix`, `weights.mix` and, as their signals,
            `Delta_weights.mix` and `Delta_scores.mix`, by head (where there are several), row and key. Within one of
            normalisation, `n`, there are by row `mean.n` and `std.n` of `layer_norm`, or `rms.n` of `rms_norm`, and on
            the way back `mean_Delta.n` (of `layer_norm`) and `mean_h_Delta.n`, the means of Δ and of h ⊙ Δ.
        names: Symbols in LaTeX notation, by unit (`"h1"`, `"blocks.up"`), by array (`"W.o.h1"`, `"W.blocks.up.x[3]"`)
            or by element without a batch index (`"a.h1[0]"`); the quantity's own name otherwise. A symbol is made of
            letters, digits and other signs, scripts as in `w_{10}` and `z^{(4)}`, primes, Greek letters and a few more
            signs as in `\alpha`, accents as in `\hat y`, and fonts as in `\mathrm{in}`.
        all_layers: Whether all layers of stacks are shown.
        digits: How many significant digits a result has, from 1 to 10. Its operands have as many, or more where it
            takes more to get the result as it is shown; ≈ stands before what is rounded.

    Example:
        >>> import jax.numpy as jnp, jaxbp
        >>> net = jaxbp.layered([2, 1], output=jaxbp.sigmoid, bias=False)
        >>> params = {"o": {"x": jnp.array([[0.5], [-1.0]])}}
        >>> work = jaxbp.explain(
        ...     net, jaxbp.squared_error, params, jnp.array([1.0, 2.0]), jnp.array([1.0]),
        ...     claims={"a.o[0]": "-1.5", "delta.o[0]": "h.o[0] - y[0]"},
        ... )
        >>> [(claim.name, claim.holds) for claim in work.claims]
        [('a.o[0]', True), ('delta.o[0]', False)]
        >>> work.said(work.claims[1])
        'h.o[0] − y[0] = −0.8176'
        >>> print(work.steps[3].name, *work.steps[3].equations[0].text)
        a.o a.o[0] = W.o.x[0, 0]·x[0] + W.o.x[1, 0]·x[1] = 0.5·1 − 1·2 = −1.5

    Source: the chapter, "Training a Neural Network with Backpropagation"; the worked 3-2-2 example.
    """
    check_kind(net, Network, "net", "a jaxbp.Network, such as jaxbp.layered makes")
    check_kind(loss, Loss, "loss", "a jaxbp.Loss, with a value and a gradient")
    if not all(map(is_known, jax.tree.leaves((params, x, y, learning_rate)))):
        raise TypeError("explain shows numbers, and under jit, grad or vmap there are none yet: call it outside")
    if learning_rate is not None:
        check_number(learning_rate, "learning_rate", least=0, finite=True)
    check_flag(all_layers, "all_layers")
    check_integer(digits, "digits", 1)
    if digits > MOST_DIGITS:
        raise ValueError(
            f"digits must be from 1 to {MOST_DIGITS}, as float64 has no more for their operands, got {digits}"
        )
    check_params(net, params)
    check_inputs(net, x)
    flat = as_shown(net)
    with Session.of(flat.net, loss, flat.params(params), x, y).undisturbed():
        numbers = Numbers.of(flat, loss, params, x, y, learning_rate)
        symbols = {} if names is None else _symbols(names, net, numbers)
        notation = Notation(symbols, tuple(net.inputs), len(numbers.batch), lambda name: len(flat.stacks_around(name)))
        stated = [] if claims is None else statements(claims, numbers.arrays)
        verdicts = judged(stated, Equations(numbers).forms, numbers)
        about = [(statement.quantity, claim) for statement, claim in zip(stated, verdicts, strict=True)]
        steps = Steps(numbers, notation, about, all_layers, int(digits))
        work = Explanation(tuple(steps), tuple(verdicts), steps.typesetting)
        str(work)  # computes every number that is ever printed
    return work


def _symbols(names: Mapping[str, str], net: Network, numbers: Numbers) -> dict[str, Symbol]:
    """The given symbols, by the names that quantities have."""
    check_mapping(names, "names", "{'W.o.h1': 'w'}")
    # one element of a batch is named like that of a single example
    single: dict[Name, Any] = {}
    for name, array in numbers.arrays.items():
        layers = len(numbers.flat.stacks_around(name)) - len(name.index)
        single[name] = array[(*[slice(None)] * layers, *[0] * batch_axes(name, len(numbers.batch)))]
    symbols: dict[str, Symbol] = {}
    for name, symbol in names.items():
        check_kind(name, str, "a key of names", "the name of a unit or of a quantity, such as 'W.o.h1'")
        check_kind(symbol, str, f"names[{brief(name)}]", "LaTeX notation, such as 'w_1'")
        try:
            symbols[name if name in net.plan.shapes else _quantity(name, single)] = parse_symbol(symbol)
        except SymbolError as error:
            raise ValueError(f"names[{brief(name)}] is {brief(symbol)}, which {error}") from None
        except ValueError as error:
            hint = suggestion(name, net.plan.shapes)
            raise ValueError(
                f"names holds {brief(name)}, but {error}; units and inputs are {quoted(net.plan.shapes)}{hint}"
            ) from None
    return symbols


def _quantity(name: str, arrays: Mapping[Name, Any]) -> str:
    quantity = parse_name(name, arrays)
    if not isinstance(quantity, Name):
        raise ValueError("the symbol of a derivative is made of those of its two quantities: name them")
    return str(quantity)
