"""The words in which claims are repeated and marked, for every renderer."""

from collections.abc import Sequence

from jaxbp._explain._claims import Claim
from jaxbp._explain._printing import Printer


def said(claim: Claim, printer: Printer) -> str:
    """What was claimed: a number as it was written, a formula with the number that it gives."""
    if claim.formula is None:
        return claim.written.replace("-", printer.minus)
    number = printer if claim.holds else printer.apart(claim.claimed, claim.value)
    return f"{printer(claim.formula)} = {number.number(claim.claimed)}"


def place(claim: Claim) -> str:
    """Where it was claimed, as the start of a line."""
    return f"{claim.where}: " if claim.where else ""


def mark(claim: Claim) -> str:
    """✓ or ✗."""
    return "✓" if claim.holds else "✗"


def remark(claim: Claim, printer: Printer) -> str:
    """What there is to say besides the mark; empty when the claim is simply right."""
    truth = "" if claim.holds else f"it is {printer.apart(claim.claimed, claim.value).number(claim.value)}"
    return "; ".join(filter(None, [truth, reservation(claim, printer)]))


def reservation(claim: Claim, printer: Printer) -> str:
    """What there is to say besides the mark and the true value."""
    if claim.general is False:
        return "here, but not at other numbers"
    if claim.follows:
        return "this follows from the numbers claimed before"
    if not claim.holds and claim.carried is not None and printer.number(claim.carried) != printer.number(claim.value):
        return f"the numbers claimed before would give {printer.number(claim.carried)}"
    return ""


def summary(claims: Sequence[Claim]) -> str:
    """How many claims hold."""
    right = sum(claim.holds for claim in claims)
    here = sum(claim.general is False for claim in claims)
    text = f"{len(claims)} claim{'s' * (len(claims) != 1)}: {right} right, {len(claims) - right} wrong"
    return f"{text}; {here} of the right ones only at these numbers" if here else text
