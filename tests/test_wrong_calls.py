"""Wrong calls: every public name refuses them in words of its own."""

import re

import jaxtyping
import pytest
from wrong_calls import WRONG, Wrong

import jaxbp

INTERNALS = re.compile(
    r"object is not|has no attribute|dataclass instance|PRNG|NoneType|unexpected keyword|custom_jvp|unhashable|"
    r"not supported between|jaxtyping|abstract array|Tracer|Non-hashable|positional argument|not iterable|JAX type"
)
NOT_CALLED = {
    # results
    *(
        "Backprop",
        "Claim",
        "Explanation",
        "Finding",
        "Mistake",
        "Report",
        "Trace",
        "testing.Rule",
        "testing.RulesReport",
    ),
    *(
        "collect.Grams",
        "collect.KroneckerFactors",
        "collect.NetworkStatistics",
        "collect.NoiseScale",
        "collect.NoiseScales",
    ),
    *("collect.SquaredNorms", "collect.UnitStatistics", "collect.Pair", "collect.Weight", "collect.UnitSignals"),
    "collect.Projection",
    "losses.Head",
    *("train.DivergedError", "train.Epoch", "train.Fit", "train.Steps", "train.TrainState"),
    *("textbook.Decoupled", "textbook.PathSums", "textbook.PostActivation", "textbook.PreActivation", "textbook.Work"),
    # a table, abstract classes, and names for types
    *("textbook.UPDATES", "connections.Connection", "connections.Shape", "collect.Sweep"),
    *("activations.Activation", "activations.Elementwise", "activations.VectorActivation"),
    *("feedback.DirectFeedback", "feedback.Feedback", "Params", "textbook.Update", "train.Gradient"),
}
ELSEWHERE = {
    "train.until_terminated": "nothing is passed to it",
    "explain": "test_explain.py and test_claims.py",
    "interop.from_torch": "test_interop.py, where torch is",
    "interop.to_torch": "test_interop.py, where torch is",
}


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Without the type checker that other tests run under, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def complaint_about(wrong: Wrong) -> str | None:
    """What is the matter with how a wrong call is refused, or None."""
    try:
        wrong.call()
    except Exception as error:
        message = str(error)
        right = type(error) is wrong.error and all(words in message for words in wrong.says)
        if right and not INTERNALS.search(message):
            return None
        return f"{wrong.what} raises {type(error).__name__}: {message}; expected {wrong.error.__name__}: {wrong.says}"
    return f"{wrong.what} passes in silence"


@pytest.mark.parametrize("name", dict.fromkeys(wrong.name for wrong in WRONG))
def test_wrong_calls_are_refused_in_our_words(name):
    complaints = [complaint_about(wrong) for wrong in WRONG if wrong.name == name]
    assert not [complaint for complaint in complaints if complaint]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: None, "passes in silence"),
        (lambda: None.targets, "raises AttributeError: 'NoneType' object has no attribute"),
        (lambda: jaxbp.unfused("mse"), "raises TypeError: loss must be"),
    ],
)
def test_the_table_can_fail(call, complaint):
    assert complaint in complaint_about(Wrong("unfused", "loss", call, TypeError, ("loss is wrong",)))


def public() -> set[str]:
    namespaces = {name: getattr(jaxbp, name) for name in jaxbp.__all__ if type(getattr(jaxbp, name)) is type(jaxbp)}
    at_the_top = set(jaxbp.__all__) - set(namespaces)
    inside = {f"{space}.{name}" for space, of in namespaces.items() for name in set(of.__all__) - at_the_top}
    return at_the_top | inside


def test_the_top_holds_what_the_first_page_needs_and_no_more():
    listed = {name for name in vars(jaxbp) if not name.startswith("_")} - {"experiments"}  # there once one is imported
    assert listed == set(jaxbp.__all__)
    assert len(jaxbp.__all__) == len(set(jaxbp.__all__)) <= 70
    for name in jaxbp.__all__:
        space = getattr(jaxbp, name)
        if type(space) is type(jaxbp):
            assert set(space.__all__) <= set(vars(space))


def test_every_public_name_has_wrong_calls():
    rows = {wrong.name for wrong in WRONG}
    assert public() == rows | NOT_CALLED | set(ELSEWHERE)
    assert not rows & (NOT_CALLED | set(ELSEWHERE))
    assert len(WRONG) >= 300
