"""Worked example: every number and formula of the postnetwork slides, and of the chapter, marked by computing it.

    python -m experiments.worked_example
    python -m experiments.worked_example --steps --learning-rate 0.5

Writes the slides' example with every claim marked in its place as `slides.html`, `slides.md` and `slides.tex`, and
the verdicts on all claims as `claims.json`. Which claims are wrong is nowhere written down: it is what comes out.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxbp
from experiments import chapter, slides
from experiments.claims import command_line
from jaxbp._explain._text import said
from jaxbp._explain._verdicts import reservation

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


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
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


def main(config: WorkedExample, console: Console | None = None) -> dict[str, list[jaxbp.Claim]]:
    """Mark the claims, print those that are wrong, and write the pages.

    Args:
        config: The learning rate, and where to write.
        console: Where to print; the terminal when None.

    Returns:
        The claims of the `slides` in their order, and of the `chapter`.
    """
    console = console or Console()
    worked = explained_slides(config.learning_rate)
    config.out.mkdir(parents=True, exist_ok=True)
    title = "The postnetwork slides, computed"
    (config.out / "slides.html").write_text(worked.html(title), encoding="utf-8")
    (config.out / "slides.md").write_text(worked.markdown(), encoding="utf-8")
    (config.out / "slides.tex").write_text(worked.latex(), encoding="utf-8")
    if config.steps:
        console.print(coloured(str(worked)))
    by_place = sorted(worked.claims, key=lambda claim: slides.PLACES.index(claim.where))
    _print_slides(console, worked, by_place)
    marked = [(passage, claim) for passage in chapter.passages() for claim in explained(passage).claims]
    _print_chapter(console, marked)
    verdicts = {"slides": by_place, "chapter": [claim for _, claim in marked]}
    rows = {
        document: [{k: v for k, v in asdict(claim).items() if k != "formula"} for claim in claims]
        for document, claims in verdicts.items()
    }
    (config.out / "claims.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    console.print(f"\nEvery step, with the claims in place: {config.out / 'slides.html'}", highlight=False)
    return verdicts


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


def explained(passage: chapter.Passage) -> jaxbp.Explanation:
    """The network of one passage of the chapter, with the passage as the claim."""
    claims = {name: {passage.place: said} for name, said in passage.claims.items()}
    return jaxbp.explain(passage.net, passage.loss, passage.params, passage.x, passage.y, claims=claims)


def coloured(text: str) -> Text:
    """An explanation with its marks in colour."""
    shown = Text(text)
    shown.highlight_regex(r"✓ .*", "green")
    shown.highlight_regex(r"✓ .*other numbers\)", "yellow")
    shown.highlight_regex(r"✗ .*", "bold red")
    return shown


def _print_slides(console: Console, worked: jaxbp.Explanation, claims: list[jaxbp.Claim]) -> None:
    wrong = [claim for claim in claims if not claim.holds]
    here = [claim for claim in claims if claim.general is False]
    console.print(f"\nThe postnetwork slides: {len(claims)} claims, {len(wrong)} wrong", style="bold")
    by_name = {e.name: e for step in worked.steps for e in step.equations if e is not None}
    text = worked.typesetting.text
    table = Table("", "place", "claimed", "right", "which is", "remark")
    for claim in [*wrong, *here]:
        equation = by_name[claim.name]
        value = text.number(claim.value)
        right = text(equation.forms[-1]) if equation.forms else ""
        table.add_row(
            MARKS[claim.holds],
            claim.where,
            Text(f"{equation.text[0]} = {said(claim, worked.typesetting)}"),
            Text(right if right != value else ""),
            value,
            reservation(claim, text.number),
        )
    console.print(table)


def _print_chapter(console: Console, marked: list[tuple[chapter.Passage, jaxbp.Claim]]) -> None:
    wrong = sum(not claim.holds for _, claim in marked)
    console.print(f"\nThe chapter, where a formula can be evaluated: {len(marked)} claims, {wrong} wrong", style="bold")
    table = Table("", "place", "formula", "of", "gives", "is")
    for passage, claim in marked:
        numbers = (f"{claim.claimed:.4g}", f"{claim.value:.4g}")
        here = " (here only)" if claim.general is False else ""
        table.add_row(MARKS[claim.holds] + here, passage.place, Text(passage.formula), Text(claim.name), *numbers)
    console.print(table)


if __name__ == "__main__":
    command_line(main, WorkedExample)
