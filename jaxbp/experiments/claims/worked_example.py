"""Worked example: every number and formula of the postnetwork slides, and of the chapter, marked by computing it.

    python -m experiments.worked_example
    python -m experiments.worked_example --steps --learning-rate 0.5

Writes the slides' example with every claim marked in its place as `slides.html`, `slides.md` and `slides.tex`, the
verdicts on all claims as `claims.json`, and those on the chapter's formulas as `formulas.png`. Which claims are wrong
is nowhere written down: it is what comes out. Of a formula that is wrong as printed, what the chain rule gives for the
same quantity is marked in its place; ends with exit code 1 should that be wrong, too, or should a gradient of these
networks not be that of jax.grad.
"""

import re
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxbp
from jaxbp.experiments.claims import chapter, slides
from jaxbp.experiments.common.command_line import command_line, terminal
from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.options import check_options
from jaxbp.experiments.common.records import as_json
from jaxbp.experiments.common.verdicts import conclude, in_a_word, verdict

CLAIM = (
    "It is noteworthy that the dynamic programming recursion of Equation … can be computed in multiple ways, depending "
    "on which variables one uses for intermediate chaining. All these recursions are equivalent in terms of the final "
    "result of backpropagation."
)
PLACE = "Training a Neural Network with Backpropagation"

CORRECTED = "corrected"
MOST_ERROR = 1e-9  # of the gradients, relative
EXACT = 1e-17  # what a difference of 0 is drawn as

MARKS = {True: Text("✓", "green"), False: Text("✗", "red")}


@dataclass(frozen=True)
class WorkedExample:
    """Mark what two documents on backpropagation state."""

    learning_rate: float = 0.1
    """η, which the slides leave open."""
    steps: bool = False
    """Print every step of the slides' example too, with its formulas and numbers."""
    out: Path = Path("runs/worked_example")
    """The folder to write to."""

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True, eq=False)
class Formula:
    """One of the chapter's, for one quantity."""

    passage: chapter.Passage
    printed: jaxbp.Claim
    """The verdict on what the chapter prints,"""
    corrected: jaxbp.Claim
    """and on what the chain rule gives."""


@dataclass(frozen=True, eq=False)
class Result:
    """The verdicts on both documents."""

    slides: tuple[jaxbp.Claim, ...]
    """In the slides' order; nothing is decided by them."""
    formulas: tuple[Formula, ...]
    """In the chapter's."""
    gradient_error: float
    """The largest of the gradients of the chapter's networks, relative to jax.grad's."""

    @property
    def wrong(self) -> tuple[Formula, ...]:
        """What does not hold as it is printed."""
        return tuple(f for f in self.formulas if not f.printed.holds)

    @property
    def holds(self) -> bool | None:
        """Whether every formula does, as printed or corrected."""
        return verdict([self.gradient_error <= MOST_ERROR, *(f.corrected.holds for f in self.wrong)])

    @property
    def decision(self) -> str:
        """How many hold, where the others stand, and the gradients' error beside its bound, in a line."""
        wrong, places = self.wrong, "; ".join(f.passage.place for f in self.wrong)
        mended = sum(f.corrected.holds for f in wrong)
        return (
            f"{len(self.formulas) - len(wrong)} of {len(self.formulas)} formulas of the chapter hold as printed, and "
            f"{mended} of the other {len(wrong)} as the chain rule corrects them (all asked): {places or 'none'}; the "
            f"gradients of their networks are within {self.gradient_error:.1e} of jax.grad's (at most {MOST_ERROR:.0e} "
            f"allowed): {in_a_word(self.holds)}"
        )


def main(config: WorkedExample, console: Console | None = None) -> Result:
    """Mark the claims, print those that are wrong, and write the pages."""
    console = console or terminal()
    worked = explained_slides(config.learning_rate)
    passages = chapter.passages()
    result = Result(
        slides=tuple(sorted(worked.claims, key=lambda claim: slides.PLACES.index(claim.where))),
        formulas=tuple(formula for passage in passages for formula in marked(passage)),
        gradient_error=float(np.max([gradient_error(passage) for passage in passages])),
    )
    config.out.mkdir(parents=True, exist_ok=True)
    if drawn := find_spec("matplotlib") is not None:
        save_plot(result, config.out / "formulas.png")
    pages = {
        "slides.html": worked.html("The postnetwork slides, computed"),
        "slides.md": worked.markdown(),
        "slides.tex": worked.latex(),
        "claims.json": _json(result),
    }
    for name, text in pages.items():
        write_whole(config.out / name, text)
    if config.steps:
        console.print(coloured(str(worked)))
    _print_slides(console, worked, result.slides)
    _print_chapter(console, result)
    conclude(console, result, config.out, *(["formulas.png"] if drawn else []), *pages)
    return result


def explained_slides(learning_rate: float) -> jaxbp.Explanation:
    """The slides' network in the slides' notation, with everything that they claim of it."""
    return jaxbp.explain(
        slides.NETWORK,
        jaxbp.cross_entropy,
        slides.PARAMS,
        slides.X,
        slides.Y,
        learning_rate,
        slides.claims(),
        names=slides.NAMES,
    )


def marked(passage: chapter.Passage) -> list[Formula]:
    """The formulas of one passage of the chapter on its network, as printed and corrected."""
    claims = {name: {passage.place: said, CORRECTED: passage.corrected[name]} for name, said in passage.claims.items()}
    verdicts = jaxbp.explain(passage.net, passage.loss, passage.params, passage.x, passage.y, claims=claims).claims
    return [Formula(passage, *pair) for pair in zip(verdicts[::2], verdicts[1::2], strict=True)]


def gradient_error(passage: chapter.Passage) -> float:
    """‖ours − jax.grad's‖ / ‖jax.grad's‖ of all parameters of a passage's network: the largest."""
    with jax.enable_x64(True):
        arguments = jax.device_put((passage.params, passage.x, passage.y))

        @jax.jit
        def both(*arguments: Any) -> tuple[Any, Any]:
            explicit = jaxbp.backprop(passage.net, passage.loss, *arguments).grads
            return explicit, jax.grad(jaxbp.objective(passage.net, passage.loss))(*arguments)

        ours, theirs = jax.device_get(both(*arguments))
        ratios = jax.tree.map(lambda g, true: np.linalg.norm(g - true) / np.linalg.norm(true), ours, theirs)
    return float(np.max(jax.tree.leaves(ratios)))


def save_plot(result: Result, path: Path) -> None:
    """How far each formula of the chapter is from the quantity it is for, as printed and corrected."""
    from jaxbp.experiments.common.plots import plt, save  # all else is there without matplotlib

    figure, axis = plt.subplots(figsize=(14, 0.32 * len(result.formulas) + 1.8), layout="constrained")
    for holds, marker, color in ((True, "o", "C2"), (False, "X", "C3")):
        rows = [i for i, f in enumerate(result.formulas) if f.printed.holds == holds]
        off = [_off(result.formulas[i].printed) for i in rows]
        axis.plot(off, rows, marker, color=color, label=f"as printed: {in_a_word(holds)}")
    rows = [i for i, f in enumerate(result.formulas) if not f.printed.holds]
    off = [_off(result.formulas[i].corrected) for i in rows]
    axis.plot(off, rows, "o", color="C0", markerfacecolor="none", label="corrected by the chain rule")
    for i in rows:
        claim = result.formulas[i].printed
        numbers = f"gives ${claim.claimed:.3g}$, is ${claim.value:.3g}$"
        axis.annotate(numbers, (_off(claim), i), xytext=(-8, 0), textcoords="offset points", ha="right", va="center")
    labels = [f"{f.passage.place}:  {in_mathtext(f.passage.formula)}" for f in result.formulas]
    axis.set_yticks(range(len(labels)), labels, fontsize=9)
    axis.set(
        xscale="log", xlim=(EXACT / 3, 10), xlabel="|formula − quantity| / the larger of both (0 at the left edge)"
    )
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.set_title(f"The chapter's formulas in numbers: {len(result.wrong)} of {len(labels)} do not hold as printed")
    figure.legend(loc="outside lower center", ncols=3)
    save(figure, path)


def in_mathtext(formula: str) -> str:
    r"""A formula of the chapter with its indices set as such, in the font of the words around it.

    >>> in_mathtext("h_{r+1} = Φ(W_rᵀ h_r)")
    '$\\mathdefault{h_{r+1}}$ = Φ($\\mathdefault{W_r}$ᵀ $\\mathdefault{h_r}$)'
    """
    return re.sub(r"\w_(\{([^{}]|\{[^{}]*\})*\}|\w)", lambda match: rf"$\mathdefault{{{match[0]}}}$", formula)


def _off(claim: jaxbp.Claim) -> float:
    larger = max(abs(claim.claimed), abs(claim.value))
    return max(abs(claim.claimed - claim.value) / (larger or 1), EXACT)


def _json(result: Result) -> str:
    documents = {"slides": result.slides, "chapter": [f.printed for f in result.formulas]}
    rows = {
        document: [{k: v for k, v in asdict(claim).items() if k != "formula"} for claim in claims]
        for document, claims in documents.items()
    }
    return as_json(rows, indent=1, ensure_ascii=False)


def coloured(text: str) -> Text:
    """An explanation with its marks in colour."""
    shown = Text(text)
    shown.highlight_regex(r"✓ .*", "green")
    shown.highlight_regex(r"✓ .*other numbers\)", "yellow")
    shown.highlight_regex(r"✗ .*", "bold red")
    return shown


def _print_slides(console: Console, worked: jaxbp.Explanation, claims: tuple[jaxbp.Claim, ...]) -> None:
    wrong = [claim for claim in claims if not claim.holds]
    here = [claim for claim in claims if claim.general is False]
    console.print(f"\nThe postnetwork slides: {len(claims)} claims, {len(wrong)} wrong", style="bold")
    by_name = {e.name: e for step in worked.steps for e in step.equations if e is not None}
    text, rows = worked.typesetting.text, _rows()
    for claim in [*wrong, *here]:
        equation = by_name[claim.name]
        value, words = text.number(claim.value), Text(f"{claim.where}: {equation.text[0]} = {worked.said(claim)}")
        right = text(equation.forms[-1]) if equation.forms else ""
        if not claim.holds:
            words.append(f"\nright: {value if right in ('', value) else f'{right} = {value}'}")
        if remark := worked.reservation(claim):
            words.append(f" ({remark})", "yellow" if claim.holds else "")
        rows.add_row(MARKS[claim.holds], words)
    console.print(rows)


def _print_chapter(console: Console, result: Result) -> None:
    title = f"{len(result.formulas)} claims, {len(result.wrong)} wrong"
    console.print(f"\nThe chapter, where a formula can be evaluated: {title}", style="bold")
    rows = _rows()
    for f in result.formulas:
        claim = f.printed
        words = Text(f"{f.passage.place}: {f.passage.formula}\n{claim.name}")
        if claim.holds:
            words.append(f" is {claim.value:.4g}" + (", here only" if claim.general is False else ""))
        else:
            words.append(f" is {claim.value:.4g}, not {claim.claimed:.4g}; as corrected: {f.corrected.claimed:.4g} ")
            words.append_text(MARKS[f.corrected.holds])
        rows.add_row(MARKS[claim.holds], words)
    console.print(rows)


def _rows() -> Table:
    """Marks, and words beside them that are broken where the terminal ends."""
    rows = Table.grid(padding=(0, 1))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    return rows


if __name__ == "__main__":
    command_line(main, WorkedExample)
