"""The words in which claims are marked, for every renderer."""

from collections.abc import Callable

from jaxbp._explain._claims import Claim

RIGHT, WRONG = "✓", "✗"


def mark(claim: Claim) -> str:
    """✓ or ✗."""
    return RIGHT if claim.holds else WRONG


def remark(claim: Claim, number: Callable[[float], str]) -> str:
    """What there is to say besides the mark; empty when the claim is simply right."""
    parts = [] if claim.holds else [f"it is {number(claim.value)}"]
    return "; ".join([*parts, *filter(None, [reservation(claim, number)])])


def reservation(claim: Claim, number: Callable[[float], str]) -> str:
    """What there is to say besides the mark and the true value."""
    if claim.general is False:
        return "here, but not at other numbers"
    if claim.follows:
        return "this follows from the numbers claimed before"
    if not claim.holds and claim.carried is not None and number(claim.carried) != number(claim.value):
        return f"the numbers claimed before would give {number(claim.carried)}"
    return ""


def summary(claims: tuple[Claim, ...]) -> str:
    """How many claims hold."""
    right = sum(claim.holds for claim in claims)
    here = sum(claim.general is False for claim in claims)
    text = f"{len(claims)} claim{'s' * (len(claims) != 1)}: {right} right, {len(claims) - right} wrong"
    return f"{text}; {here} of the right ones only at these numbers" if here else text
