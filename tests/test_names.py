"""`Name`: the one name of a quantity, to text and back."""

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from cases import params_of, swept
from hypothesis import given
from hypothesis import strategies as st

import jaxbp
from jaxbp._names import Name, named

TEXTS = {
    "loss": Name("loss"),
    "y": Name("y"),
    "y[1, 0]": Name("y", (), (1, 0)),
    "losses[3]": Name("losses", (), (3,)),
    "learning_rate": Name("learning_rate"),
    "a.h1": Name("a", ("h1",)),
    "h.x": Name("h", ("x",)),
    "h.(x)": Name("h", ("(x)",)),
    "Delta.o": Name("Delta", ("o",)),
    "delta.h1[0]": Name("delta", ("h1",), (0,)),
    "delta.blocks.up[3]": Name("delta", ("blocks", "up"), (3,)),
    "grad.o.bias": Name("grad", ("o", "bias")),
    "grad.o.h1[0, 1]": Name("grad", ("o", "h1"), (0, 1)),
    "grad.blocks.up.norm2": Name("grad", ("blocks", "up", "norm2")),
    "W.shared.W": Name("W", ("shared", "W")),
    "W.Schicht-1.größe[10, 20, 0]": Name("W", ("Schicht-1", "größe"), (10, 20, 0)),
    "updated.o.h1[2, 0]": Name("updated", ("o", "h1"), (2, 0)),
}

FORM = r"cannot be read as the name of a quantity, which looks like 'loss', 'a.o\[1\]' or 'grad.o.h1\[0, 1\]'"
REFUSED = {
    "": FORM,
    ".": FORM,
    "a.": FORM,
    "a..o": FORM,
    ".a.o": FORM,
    "a.o ": FORM,
    "a.h 1": FORM,
    "a.o\n": FORM,
    "a.o[": FORM,
    "a.o[]": FORM,
    "a.o[1": FORM,
    "a.o[-1]": FORM,
    "a.o[x]": FORM,
    "a.o[1.0]": FORM,
    "a.o[1, ]": FORM,
    "a.o[1][0]": FORM,
    "a.o[1].h": FORM,
    "a.o[٣]": FORM,
    "2 * a.o": FORM,
    "grd.o.h1": r"there is no kind 'grd' \(did you mean 'grad'\?\), only 'loss', .*, 'a', .*, 'updated'$",
    "params.o.h1": "there is no kind 'params', only 'loss'",
    "o": "'o' names no quantity: there is no kind 'o'",
    "loss.o": "'loss.o' names no quantity: 'loss' stands alone, as in 'loss'$",
    "y.o[1]": r"'y.o\[1\]' names no quantity: 'y' stands alone",
    "delta": "'delta' is of a unit, as in 'delta.o'$",
    "a[0]": "'a' is of a unit, as in 'a.o'$",
    "W": "'W' is of a unit and of what it reads, as in 'W.o.h1'$",
    "grad.o": "'grad' is of a unit and of what it reads, as in 'grad.o.h1'$",
}

PARTS = st.text(st.characters(exclude_characters=".[]"), min_size=1).filter(
    lambda part: part.isprintable() and not any(map(str.isspace, part))
)
INDICES = st.lists(st.integers(0, 10**6), max_size=4).map(tuple)


def names(kinds, least, most):
    paths = st.lists(PARTS, min_size=least, max_size=most).map(tuple)
    return st.builds(Name, st.sampled_from(kinds), paths, INDICES)


NAMES = (
    names(["loss", "losses", "y", "learning_rate"], 0, 0)
    | names(["a", "h", "Delta", "delta"], 1, 4)
    | names(["grad", "W", "updated"], 2, 5)
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_and_its_value(text):
    assert Name.parse(text) == TEXTS[text]
    assert str(TEXTS[text]) == text


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match=REFUSED[text]):
        Name.parse(text)


@pytest.mark.parametrize("text", [None, 1, b"loss", Name("loss"), ("a", "o")])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ValueError, match="cannot be read as the name of a quantity"):
        Name.parse(text)


@given(NAMES)
def test_every_name_is_read_as_it_is_printed(name):
    assert Name.parse(str(name)) == name


@given(NAMES, NAMES)
def test_two_names_print_alike_only_if_they_are_one(one, other):
    assert (str(one) == str(other)) == (one == other)


def test_an_index_may_be_written_close():
    assert Name.parse("grad.o.h1[0,1]") == Name.parse("grad.o.h1[0, 1]") == Name.parse("grad.o.h1[0,  01]")


def test_a_name_is_a_key_that_stays():
    arrays = {name: i for i, name in enumerate(TEXTS.values())}
    assert [arrays[Name.parse(text)] for text in TEXTS] == list(range(len(TEXTS)))
    assert pickle.loads(pickle.dumps(arrays)) == arrays
    with pytest.raises(FrozenInstanceError):
        Name("loss").kind = "y"


def test_names_have_no_order():
    with pytest.raises(TypeError, match="not supported between"):
        sorted([Name("loss"), Name("y")])


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("a.h1", "h1"),
        ("h.x[0, 1]", "x"),
        ("delta.blocks.up[3]", "blocks.up"),
        ("grad.o.bias", "o"),
        ("W.shared.W", "shared"),
        ("updated.blocks.up.norm2", "blocks.up"),
        ("loss", ""),
        ("y[0]", ""),
    ],
)
def test_the_unit_is_what_comes_before_the_name_of_a_weight(text, unit):
    assert Name.parse(text).unit == unit


def test_only_the_four_quantities_of_a_unit_have_its_axes():
    of_units = {"a", "h", "Delta", "delta"}
    assert {name.kind for name in TEXTS.values() if name.is_of_unit} == of_units
    assert not any(name.is_of_unit for name in TEXTS.values() if name.kind not in of_units)


@given(NAMES, INDICES)
def test_an_element_and_the_whole_array(name, index):
    assert name.at(index) == replace(name, index=index)
    assert name.at(index).whole == name.whole == replace(name, index=())
    assert str(name).startswith(str(name.whole))


def test_the_leaves_of_nested_dicts_are_named():
    tree = {
        "loss": 0,
        "delta": {"h1": 1, "blocks": {"up": 2}},
        "grad": {"empty": {}, "shared": {"W": 3}, "blocks": {"up": {"norm2": 4}}},
    }
    texts = ["loss", "delta.h1", "delta.blocks.up", "grad.shared.W", "grad.blocks.up.norm2"]
    assert [(str(name), leaf) for name, leaf in named(tree).items()] == list(zip(texts, range(5), strict=True))
    assert named({"o": {"bias": 1}}, "W") == {Name("W", ("o", "bias")): 1}
    assert named({"bias": 1}, "W", "o") == {Name("W", ("o", "bias")): 1}


def test_the_quantities_of_a_network_have_names():
    net = jaxbp.layered([2, 3, 1], hidden=jaxbp.tanh, output=jaxbp.linear)
    params = params_of(net)
    back = swept(net, jaxbp.squared_error, params, np.ones((4, 2)), np.ones((4, 1)))
    quantities = {Name.parse(text): array for text, array in back.quantities().items()}
    assert quantities[Name("Delta", ("x",))] is back.Delta["x"]
    assert quantities[Name("grad", ("o", "bias"))] is back.grads["o"]["bias"]
    assert [str(name) for name in quantities] == list(back.quantities())
