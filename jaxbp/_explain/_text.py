"""An explanation as plain text for a terminal."""

from collections.abc import Iterator

from jaxbp._explain._escaping import visible
from jaxbp._explain._matrices import matrices
from jaxbp._explain._verdicts import mark, place, remark, said, summary
from jaxbp._explain._work import Work


def rendered(work: Work) -> str:
    """All steps, each with its equations below it and the claims below those."""
    return "\n".join(map(visible, _lines(work)))


def _lines(work: Work) -> Iterator[str]:
    for section, steps in work.sections():
        yield from (section, "=" * len(section), "")
        for step in steps:
            yield f"{step.title}  [{step.name}]"
            for shown in matrices(step, work.typesetting.text):
                if shown is None:
                    yield "    …"
                    continue
                symbol, matrix = shown
                yield from (f"    {symbol}", *(f"      {row}" for row in matrix.text))
            for equation in step.worked:
                yield "    …" if equation is None else f"    {' '.join(equation.text)}"
                for claim in equation.claims if equation else ():
                    note = f" ({remark(claim, work.typesetting.text)})" if remark(claim, work.typesetting.text) else ""
                    yield f"      {mark(claim)} {place(claim)}{said(claim, work.typesetting.text)}{note}"
            yield ""
    if work.claims:
        yield summary(work.claims)
