"""An explanation as one self-contained HTML page: formulas as MathML, no scripts, nothing to load."""

from collections.abc import Iterator

from jaxbp._explain._claims import Claim
from jaxbp._explain._escaping import in_html
from jaxbp._explain._mathml import mathml
from jaxbp._explain._steps import Equation, Step, Work
from jaxbp._explain._verdicts import mark, place, remark, reservation, said, summary


def page(work: Work, title: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{in_html(title)}</title>\n</head>\n<body>\n"
        f"{fragment(work, title)}\n</body>\n</html>\n"
    )


def fragment(work: Work, title: str = "") -> str:
    """The part of it that a notebook shows."""
    return "\n".join(_lines(work, title))


def _lines(work: Work, title: str) -> Iterator[str]:
    yield from ("<style>", _STYLE, "</style>", '<div class="jaxbp-work">')
    if title:
        yield f"<h1>{in_html(title)}</h1>"
    if work.claims:
        yield f"<p>{in_html(summary(work.claims))}.</p>"
        yield from _mistakes(work)
    for section, steps in work.sections():
        yield f"<h2>{in_html(section)}</h2>"
        for step in steps:
            yield from _step(work, step)
    yield "</div>"


def _mistakes(work: Work) -> Iterator[str]:
    equations = {c: equation for step in work.steps for equation in step.equations if equation for c in equation.claims}
    doubtful = [claim for claim in work.claims if not claim.holds or claim.general is False]
    if not doubtful:
        return
    yield "<table><thead><tr><th></th><th>where</th><th>claimed</th><th>right</th></tr></thead><tbody>"
    printer = work.typesetting.text
    for claim in doubtful:
        equation = equations[claim]
        symbol, *pieces = equation.latex
        right = pieces[-1:] if claim.formula is None else dict.fromkeys([pieces[len(equation.forms) - 1], pieces[-1]])
        yield (
            f'<tr class="{_class(claim)}"><td class="mark">{mark(claim)}</td>'
            f'<td><a href="#{_anchor(equation)}">{in_html(claim.where or claim.name)}</a></td>'
            f"<td>{mathml(f'{symbol} {pieces[0].split()[0]} {said(claim, work.typesetting.latex)}')}</td>"
            f"<td>{'' if claim.holds else mathml(' '.join(right))} {in_html(reservation(claim, printer))}</td></tr>"
        )
    yield "</tbody></table>"


def _step(work: Work, step: Step) -> Iterator[str]:
    given = "" if step.rule else " given"
    yield f'<section class="step{given}"><h3>{in_html(step.title)} <code>{in_html(step.name)}</code></h3>'
    if step.rule:
        yield f'<div class="rule">{mathml(step.rule)}</div>'
    for equation in step.equations:
        if equation is None:
            yield '<div class="equation">…</div>'
            continue
        pieces = "".join(f"<span>{mathml(piece)}</span>" for piece in equation.latex)
        yield f'<div class="equation" id="{_anchor(equation)}" title="{in_html(equation.name)}">{pieces}</div>'
        for claim in equation.claims:
            note = f"— {remark(claim, work.typesetting.text)}" if remark(claim, work.typesetting.text) else ""
            yield (
                f'<div class="claim {_class(claim)}"><span class="mark">{mark(claim)}</span> {in_html(place(claim))}'
                f"{mathml(said(claim, work.typesetting.latex))} {in_html(note)}</div>"
            )
    yield "</section>"


def _class(claim: Claim) -> str:
    return "wrong" if not claim.holds else "here" if claim.general is False else "right"


def _anchor(equation: Equation) -> str:
    return in_html(equation.name.replace(" ", ""))


_STYLE = """
.jaxbp-work { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 70rem; margin: 0 auto; padding: 1rem; }
.jaxbp-work h2 { margin: 2rem 0 .5rem; border-bottom: 2px solid #d0d7de; }
.jaxbp-work h3 { margin: 1.2rem 0 .3rem; font-size: 1.05rem; }
.jaxbp-work code { color: #57606a; font-size: .85em; font-weight: normal; }
.jaxbp-work math { font-size: 1.15em; font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math",
  "DejaVu Math TeX Gyre", math; }
.jaxbp-work .rule { color: #57606a; margin-bottom: .3rem; }
.jaxbp-work .equation { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem .5rem; }
.jaxbp-work .equation { padding: .25rem 0 .25rem 1.5rem; }
.jaxbp-work .equation > span, .jaxbp-work .claim { max-width: 100%; box-sizing: border-box; overflow: auto hidden; }
.jaxbp-work .given { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1rem; }
.jaxbp-work .given h3 { flex-basis: 100%; }
.jaxbp-work .claim { margin: .1rem 0 .4rem 3rem; padding: .1rem .6rem; border-left: 4px solid; }
.jaxbp-work .mark { font-weight: bold; }
.jaxbp-work .right { border-color: #1a7f37; } .jaxbp-work .right .mark { color: #1a7f37; }
.jaxbp-work .wrong { border-color: #cf222e; background: #fff0ef; } .jaxbp-work .wrong .mark { color: #cf222e; }
.jaxbp-work .here { border-color: #9a6700; background: #fff8e5; } .jaxbp-work .here .mark { color: #9a6700; }
.jaxbp-work table { border-collapse: collapse; margin: 1rem 0; display: block; overflow: auto hidden; }
.jaxbp-work th, .jaxbp-work td { text-align: left; padding: .3rem .6rem; border: 1px solid #d0d7de; }
.jaxbp-work :target { outline: 2px solid #0969da; }
"""
