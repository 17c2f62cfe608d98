"""An explanation as Markdown with LaTeX maths, and as a LaTeX document: the same blocks in two dialects."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxbp._explain._claims import Claim
from jaxbp._explain._escaping import code_in_markdown, in_latex, in_markdown
from jaxbp._explain._matrices import matrices
from jaxbp._explain._verdicts import mark, place, remark, said, summary
from jaxbp._explain._work import Equation, Work


def markdown(work: Work) -> str:
    """Headings, a display formula for each equation, and the claims as a list below it."""
    return "\n\n".join(["# A worked example of backpropagation", *_blocks(work, _MARKDOWN)]) + "\n"


def latex(work: Work) -> str:
    """A document that compiles as it is."""
    return _PREAMBLE + "\n".join(_blocks(work, _LATEX)) + "\n\\end{document}\n"


def _aligned(equation: Equation) -> str:
    symbol, *pieces = equation.latex
    lines = " \\\\\n".join(f"  &{piece}" for piece in pieces)
    return f"\\begin{{align*}}\n  {symbol} {lines.lstrip()}\n\\end{{align*}}"


@dataclass(frozen=True)
class _Dialect:
    escaped: Callable[[str], str]
    code: Callable[[str], str]
    section: str
    step: str
    rule: str
    display: str
    equation: Callable[[Equation], str]
    claims: str
    claim: str


_MARKDOWN = _Dialect(
    in_markdown,
    code_in_markdown,
    section="## %s",
    step="### %s (%s)",
    rule="$%s$",
    display="$$%s$$",
    equation=lambda equation: f"$${' '.join(equation.latex)}$$",
    claims="%s",
    claim="- %s",
)
_LATEX = _Dialect(
    in_latex,
    lambda name: rf"\texttt{{{in_latex(name)}}}",
    section=r"\section*{%s}",
    step=r"\subsection*{%s (%s)}",
    rule=r"\[ %s \]",
    display=r"\[ %s \]",
    equation=_aligned,
    claims="\\begin{itemize}\n%s\n\\end{itemize}",
    claim=r"\item %s",
)


def _blocks(work: Work, dialect: _Dialect) -> Iterator[str]:
    def marked(claim: Claim) -> str:
        note = f", {remark(claim, work.typesetting.text)}" if remark(claim, work.typesetting.text) else ""
        maths = said(claim, work.typesetting.latex)
        return dialect.claim % f"{dialect.escaped(f'{mark(claim)} {place(claim)}')}${maths}${dialect.escaped(note)}"

    if work.claims:
        yield f"{summary(work.claims)}."
    for section, steps in work.sections():
        yield dialect.section % section
        for step in steps:
            yield dialect.step % (dialect.escaped(step.title), dialect.code(step.name))
            if step.rule:
                yield dialect.rule % step.rule
            for shown in matrices(step, work.typesetting.latex):
                yield dialect.display % (r"\vdots" if shown is None else f"{shown[0]} {shown[1].latex}")
            if not step.rule and step.worked and not any(e.claims for e in step.worked if e):
                pieces = (r"\cdots" if e is None else " ".join(e.latex) for e in step.worked)
                yield dialect.display % r" \quad ".join(pieces)
                continue
            for equation in step.worked:
                yield dialect.display % r"\cdots" if equation is None else dialect.equation(equation)
                if equation is not None and equation.claims:
                    yield dialect.claims % "\n".join(map(marked, equation.claims))


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
