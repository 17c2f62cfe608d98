"""Wrong calls: every public name refuses them in words of its own."""

import re

import jaxtyping
import pytest
from wrong_calls import WRONG, Wrong

INTERNALS = re.compile(
    r"object is not|has no attribute|dataclass instance|PRNG|NoneType|unexpected keyword|custom_jvp|"
    r"not supported between|jaxtyping|abstract array|Tracer|unhashable|Non-hashable|positional argument|not iterable"
)


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Without the type checker that other tests run under, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def id_of(wrong: Wrong) -> str:
    return f"{wrong.name}, {wrong.what}"


@pytest.mark.parametrize("wrong", WRONG, ids=id_of)
def test_a_wrong_call_is_refused_in_our_words(wrong):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        wrong.call()
    message = str(caught.value)
    assert type(caught.value) is wrong.error, message
    assert all(words in message for words in wrong.says), message
    assert not INTERNALS.search(message), message
