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
    *("Backprop", "Claim", "Explanation", "Finding", "Mistake", "Report", "Trace"),
    *("collect.Grams", "collect.KroneckerFactors", "collect.NetworkStatistics", "collect.NoiseScale"),
    *("collect.SquaredNorms", "collect.UnitStatistics", "collect.Pair", "collect.Weight", "collect.UnitSignals"),
    *("train.DivergedError", "train.Epoch", "train.Fit", "train.Steps", "train.TrainState"),
    *("textbook.Decoupled", "textbook.PathSums", "textbook.PostActivation", "textbook.PreActivation", "textbook.Work"),
    # a table, abstract classes, and names for types
    *("textbook.UPDATES", "Activation", "Connection", "collect.Sweep"),
    *("DirectFeedback", "Feedback", "Params", "textbook.Update", "train.Gradient"),
}
ELSEWHERE = {
    "explain": "test_explain.py and test_claims.py",
    "from_torch": "test_interop.py, where torch is",
    "to_torch": "test_interop.py, where torch is",
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
    names = {name for name, value in vars(jaxbp).items() if not name.startswith("_") and not is_module(value)}
    for module in (jaxbp.collect, jaxbp.train, jaxbp.textbook, jaxbp.testing):
        short = module.__name__.removeprefix("jaxbp.")
        for name, value in vars(module).items():
            imported = module is jaxbp.testing and getattr(value, "__module__", "") != module.__name__
            if not name.startswith("_") and not is_module(value) and not imported:
                names.add(f"{short}.{name}")
    return names


def is_module(value: object) -> bool:
    return type(value) is type(jaxbp)


def test_every_public_name_has_wrong_calls():
    rows = {wrong.name for wrong in WRONG}
    assert public() == rows | NOT_CALLED | set(ELSEWHERE)
    assert not rows & (NOT_CALLED | set(ELSEWHERE))
    assert len(WRONG) >= 300
