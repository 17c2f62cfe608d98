"""An explanation as plain text for a terminal."""

from collections.abc import Iterator, Sequence

from jaxbp._explain._claims import Claim
from jaxbp._explain._escaping import visible
from jaxbp._explain._steps import Step
from jaxbp._explain._typesetting import Typesetting
from jaxbp._explain._verdicts import mark, remark, summary


def rendered(steps: Sequence[Step], claims: tuple[Claim, ...], typesetting: Typesetting) -> str:
    """All steps, each with its equations below it and the claims below those."""
    return "\n".join(map(visible, _lines(steps, claims, typesetting)))


def _lines(steps: Sequence[Step], claims: tuple[Claim, ...], typesetting: Typesetting) -> Iterator[str]:
    section = None
    for step in steps:
        if step.section != section:
            section = step.section
            yield from (section, "=" * len(section), "")
        yield f"{step.title}  [{step.name}]"
        for equation in step.equations:
            if equation is None:
                yield "    …"
                continue
            yield f"    {' '.join(equation.text)}"
            for claim in equation.claims:
                yield f"      {claim_line(claim, typesetting)}"
        yield ""
    if claims:
        yield summary(claims)


def claim_line(claim: Claim, typesetting: Typesetting) -> str:
    """A claim with its mark, in one line."""
    place = f"{claim.where}: " if claim.where else ""
    note = remark(claim, typesetting.text.number)
    return f"{mark(claim)} {place}{said(claim, typesetting)}" + (f" ({note})" if note else "")


def said(claim: Claim, typesetting: Typesetting) -> str:
    """What was claimed, in plain text."""
    if claim.formula is None:
        return claim.written.replace("-", "−")
    return f"{typesetting.text(claim.formula)} = {typesetting.text.number(claim.claimed)}"
