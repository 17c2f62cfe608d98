"""An explanation as one self-contained HTML page: formulas as MathML, no scripts, nothing to load."""

from collections.abc import Iterator, Sequence

from jaxbp._explain._claims import Claim
from jaxbp._explain._escaping import in_html
from jaxbp._explain._mathml import mathml
from jaxbp._explain._matrices import matrices
from jaxbp._explain._style import STYLE
from jaxbp._explain._verdicts import mark, place, remark, reservation, said, summary
from jaxbp._explain._work import Equation, Step, Work

_WORTH_CONTENTS = 8  # steps


def page(work: Work, title: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f'<title>{in_html(title)}</title>\n</head>\n<body class="jaxbp-page">\n'
        f"{_within('main', work, title)}\n</body>\n</html>\n"
    )


def fragment(work: Work) -> str:
    """The part of it that a notebook shows."""
    return _within("div", work, "")


def _within(tag: str, work: Work, title: str) -> str:
    return "\n".join(["<style>", STYLE, "</style>", f'<{tag} class="jaxbp-work">', *_lines(work, title), f"</{tag}>"])


def _lines(work: Work, title: str) -> Iterator[str]:
    if title:
        yield f"<h1>{in_html(title)}</h1>"
    if work.claims:
        yield f"<p>{in_html(summary(work.claims))}.</p>"
        yield from _mistakes(work)
    sections = [(section, list(steps)) for section, steps in work.sections()]
    if len(work.steps) >= _WORTH_CONTENTS:
        yield from _contents(sections)
    examples = 0
    for i, (section, steps) in enumerate(sections):
        examples += section.startswith("Example")
        claimed = any(equation.claims for step in steps for equation in step.equations if equation)
        folded = section.startswith("Example") and examples > 1 and not claimed
        heading = f'<h2 id="part-{i}">{in_html(section)}</h2>'
        yield f'<details class="part"{"" if folded else " open"}><summary>{heading}</summary>'
        for j, step in enumerate(steps):
            yield from _step(work, step, f"part-{i}-{j}")
        yield "</details>"


def _contents(sections: Sequence[tuple[str, Sequence[Step]]]) -> Iterator[str]:
    yield '<nav class="contents" aria-label="Contents"><ul>'
    for i, (section, steps) in enumerate(sections):
        yield f"<li><details><summary>{in_html(section)}, {len(steps)} steps</summary><ul>"
        for j, step in enumerate(steps):
            yield f'<li><a href="#part-{i}-{j}">{in_html(step.title)}</a></li>'
        yield "</ul></details></li>"
    yield "</ul></nav>"


def _mistakes(work: Work) -> Iterator[str]:
    equations = {c: equation for step in work.steps for equation in step.equations if equation for c in equation.claims}
    doubtful = [claim for claim in work.claims if not claim.holds or claim.general is False]
    if not doubtful:
        return
    yield f'<div class="scroll" {_region("Claims that do not hold")}>'
    yield '<table><thead><tr><th><span class="unseen">verdict</span></th>'
    yield '<th scope="col">where</th><th scope="col">claimed</th><th scope="col">right</th></tr></thead><tbody>'
    printer = work.typesetting.text
    for claim in doubtful:
        equation = equations[claim]
        symbol, *pieces = equation.latex
        right = pieces[-1:] if claim.formula is None else dict.fromkeys([pieces[len(equation.forms) - 1], pieces[-1]])
        yield (
            f'<tr class="{_class(claim)}"><td class="mark">{mark(claim)}</td>'
            f'<td><a href="#{_anchor(equation)}">{in_html(claim.where or claim.name)}</a></td>'
            f"<td>{_inline(f'{symbol} {pieces[0].split()[0]} {said(claim, work.typesetting.latex)}')}</td>"
            f"<td>{'' if claim.holds else _inline(' '.join(right))} {in_html(reservation(claim, printer))}</td></tr>"
        )
    yield "</tbody></table></div>"


def _step(work: Work, step: Step, anchor: str) -> Iterator[str]:
    given = "" if step.rule else " given"
    title = f"{in_html(step.title)} <code>{in_html(step.name)}</code>"
    yield f'<section class="step{given}"><h3 id="{anchor}">{title}</h3>'
    if step.rule:
        yield f'<div class="rule">{_formula(step.rule, f"{step.title}, {step.name}, the rule")}</div>'
    for i, shown in enumerate(matrices(step, work.typesetting.latex)):
        if shown is None:
            yield '<div class="equation">⋮</div>'
        else:
            label = f"{step.title}, {step.name}, matrix {i + 1}"
            yield f'<div class="equation">{_formula(f"{shown[0]} {shown[1].latex}", label)}</div>'
    folded = [equation for equation in step.worked if step.array and equation and not equation.claims]
    for equation in step.worked:
        if equation is None:
            yield '<div class="equation">…</div>'
        elif equation not in folded:
            yield from _equation(work, step, equation)
    if folded:
        yield f"<details><summary>{_worked_out(len(folded))}</summary>"
        for equation in folded:
            yield from _equation(work, step, equation)
        yield "</details>"
    yield "</section>"


def _worked_out(elements: int) -> str:
    return "one element worked out" if elements == 1 else f"{elements} elements worked out"


def _equation(work: Work, step: Step, equation: Equation) -> Iterator[str]:
    labels = (f"{step.title}, {equation.name}, part {i + 1}" for i, _ in enumerate(equation.latex))
    pieces = "".join(map(_formula, equation.latex, labels))
    yield f'<div class="equation" id="{_anchor(equation)}" title="{in_html(equation.name)}">{pieces}</div>'
    for i, claim in enumerate(equation.claims):
        note = remark(claim, work.typesetting.text)
        yield (
            f'<div class="claim {_class(claim)}"><span class="mark">{mark(claim)}</span> {in_html(place(claim))}'
            f"{_formula(said(claim, work.typesetting.latex), f'{step.title}, {equation.name}, claim {i + 1}')} "
            f"{in_html(f'— {note}' if note else '')}</div>"
        )


def _formula(latex: str, label: str) -> str:
    """A formula, which can be scrolled where it is wider than a phone and cannot be broken."""
    formula = mathml(latex)
    wide = f' class="scroll" {_region(label)}' if formula.is_wide else ""
    return f"<span{wide}>{formula.elements}</span>"


def _inline(latex: str) -> str:
    return mathml(latex).elements


def _region(label: str) -> str:
    """What a region that scrolls needs, so that it can be scrolled by keys and a screen reader says what it is."""
    return f'tabindex="0" role="region" aria-label="{in_html(label)}"'


def _class(claim: Claim) -> str:
    return "wrong" if not claim.holds else "here" if claim.general is False else "right"


def _anchor(equation: Equation) -> str:
    return in_html(equation.name.replace(" ", ""))
