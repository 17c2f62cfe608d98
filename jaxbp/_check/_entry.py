"""What an entry of the catalogue is: a mistake as data, with its name, its formula, and what it makes of a step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal["loss", "output", "term", "sum", "delta", "gradient", "use"]


def _anything(c: float) -> bool:
    return c != 0


@dataclass(frozen=True, eq=False)
class Case:
    """A mistake at one place, as something that takes the place of the right step.

    | stage | the step | apply |
    |---|---|---|
    | loss | the value of the loss | `(state) -> value` |
    | output | Δ and δ of the output | `(state) -> (Delta, delta)` |
    | term | what one reader sends back | `(state) -> term` |
    | sum | the sum over the readers | `(state, terms) -> Delta` |
    | delta | δ_u | `(state, Delta, delta) -> delta` |
    | gradient | the gradient of one weight | `(gradient) -> array` |
    | use | the gradient of a shared weight | `(state, parts) -> array`, of what each use adds |

    Attributes:
        text: What it is, in words, with the right formula; of a constant where it is `free`. `{}` stands for what it
            is a mistake of, where that may be several gradients.
        apply: What it makes of the step; takes a constant first where it is `free`.
        kind: Which of the entry's cases it is: the same kind at another place is the same mistake made again.
        unit: Whose step it is made in; None where it is made in the whole.
        free: Whether it has a constant that only the numbers can tell; the step is affine in it.
        solve: What tells the constant from the numbers themselves, where the step is not affine in it.
        allowed: Which constants make sense.
        bends: Whether it makes something of the signal that is not linear in it.
        alone: Whether it is looked for without another mistake in the same step: there are many of its kind.
        exchanged: The gradient that stands in its place while it stands in that one's.
        choices: The power of ten of how many of its kind there are that numbers chose from.
    """

    text: str | Callable[[float], str]
    apply: Callable[..., Any] = field(repr=False)
    kind: str = ""
    unit: str | None = None
    free: bool = False
    solve: Callable[[Any], float] | None = field(default=None, repr=False)
    allowed: Callable[[float], bool] = field(default=_anything, repr=False)
    bends: bool = False
    alone: bool = False
    exchanged: Any = None
    choices: float = 0.0


@dataclass(frozen=True, eq=False)
class Entry:
    """A mistake that people make.

    Attributes:
        slug: Its name.
        stage: The step in which it is made.
        formula: What stands there, and what belongs there.
        rank: How unlikely it is where others give the same numbers; equal ones in the order of the catalogue.
        cases: Its cases at a place, which may be none. They are called with what their stage has: `(facts)` for the
            loss and the output, `(state, s, v)` for the term of Δ_s that v sends, `(facts, s)` for a sum,
            `(facts, u)` for δ_u, `(gradient)` for a gradient, `(state, name)` for a shared weight.
    """

    slug: str
    stage: Stage
    formula: str
    cases: Callable[..., Iterator[Case]] = field(repr=False)
    rank: int = 0
