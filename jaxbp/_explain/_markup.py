"""An explanation as Markdown with LaTeX maths, and as a LaTeX document."""

from collections.abc import Callable, Iterator, Sequence

from jaxbp._explain._claims import Claim
from jaxbp._explain._escaping import code_in_markdown, in_latex, in_markdown
from jaxbp._explain._steps import Equation, Step
from jaxbp._explain._typesetting import Typesetting
from jaxbp._explain._verdicts import mark, remark, summary


def markdown(steps: Sequence[Step], claims: tuple[Claim, ...], typesetting: Typesetting) -> str:
    """Headings, a display formula for each equation, and the claims as a list below it."""
    return "\n".join(_markdown_lines(steps, claims, typesetting)) + "\n"


def latex(steps: Sequence[Step], claims: tuple[Claim, ...], typesetting: Typesetting) -> str:
    """A document that compiles as it is."""
    body = "\n".join(_latex_lines(steps, claims, typesetting))
    return _PREAMBLE + body + "\n\\end{document}\n"


def said(claim: Claim, typesetting: Typesetting) -> str:
    """What was claimed, in LaTeX maths."""
    if claim.formula is None:
        return claim.written
    return f"{typesetting.latex(claim.formula)} = {typesetting.latex.number(claim.claimed)}"


def _markdown_lines(steps: Sequence[Step], claims: tuple[Claim, ...], typesetting: Typesetting) -> Iterator[str]:
    yield "# A worked example of backpropagation"
    if claims:
        yield from ("", f"{summary(claims)}.")
    section = None
    for step in steps:
        if step.section != section:
            section = step.section
            yield from ("", f"## {section}")
        yield from ("", f"### {in_markdown(step.title)} ({code_in_markdown(step.name)})")
        if step.rule:
            yield from ("", f"${step.rule}$")
        if not step.rule and not any(e.claims for e in step.equations if e):
            yield from ("", f"$${_side_by_side(step)}$$")
            continue
        for equation in step.equations:
            yield ""
            yield "$$\\cdots$$" if equation is None else f"$${' '.join(equation.latex)}$$"
            if equation is not None and equation.claims:
                yield ""
                yield from (f"- {_marked(claim, typesetting, in_markdown)}" for claim in equation.claims)


def _latex_lines(steps: Sequence[Step], claims: tuple[Claim, ...], typesetting: Typesetting) -> Iterator[str]:
    if claims:
        yield f"{summary(claims)}."
    section = None
    for step in steps:
        if step.section != section:
            section = step.section
            yield rf"\section*{{{section}}}"
        yield rf"\subsection*{{{in_latex(step.title)} (\texttt{{{in_latex(step.name)}}})}}"
        if step.rule:
            yield rf"\[ {step.rule} \]"
        if not step.rule and not any(e.claims for e in step.equations if e):
            yield rf"\[ {_side_by_side(step)} \]"
            continue
        for equation in step.equations:
            yield r"\[ \cdots \]" if equation is None else _aligned(equation)
            if equation is not None and equation.claims:
                yield r"\begin{itemize}"
                yield from (rf"\item {_marked(claim, typesetting, in_latex)}" for claim in equation.claims)
                yield r"\end{itemize}"


def _side_by_side(step: Step) -> str:
    return r" \quad ".join(r"\cdots" if e is None else " ".join(e.latex) for e in step.equations)


def _aligned(equation: Equation) -> str:
    symbol, *pieces = equation.latex
    lines = " \\\\\n".join(f"  &{piece}" for piece in pieces)
    return f"\\begin{{align*}}\n  {symbol} {lines.lstrip()}\n\\end{{align*}}"


def _marked(claim: Claim, typesetting: Typesetting, escaped: Callable[[str], str]) -> str:
    note = remark(claim, typesetting.text.number)
    before, after = f"{mark(claim)} {f'{claim.where}: ' if claim.where else ''}", f", {note}" if note else ""
    return f"{escaped(before)}${said(claim, typesetting)}${escaped(after)}"


_PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{amsmath, amssymb}
\providecommand{\lt}{<}
\providecommand{\gt}{>}
\allowdisplaybreaks
\begin{document}
\title{A worked example of backpropagation}
\date{}
\maketitle
"""
