"""Numbers that somebody rounded by hand, step by step: they are right, a slip is not, and mistakes are named."""

import math
from functools import cache

import numpy as np
import pytest
from mistakes import AT_A_UNIT
from test_check import is_planted, planted
from wrong_networks import Problem
from wrong_passes import Mistaken, Wrong, made, right_pass

import jaxbp
from jaxbp.experiments.tools.exercise_numbers import DIGITS, Setting, draws

SETTINGS = {
    "3-2-2 softmax": Setting((3, 2, 2), "sigmoid", "softmax", "cross_entropy"),
    "2-3-1 linear": Setting((2, 3, 1), "tanh", "linear", "squared_error"),
}
ONE_AND_ALL = ["3-2-2 softmax", pytest.param("2-3-1 linear", marks=pytest.mark.slow)]
SLIP = 0.01
# sums of larger terms: there a hundredth is a few units of the last digits of these
CANCELS = {"3-2-2 softmax": [("a.h1", 0)], "2-3-1 linear": [("loss", 0)]}


def written(number, digits=DIGITS):
    return float(f"{number:.{digits}g}")


def rounded(array, digits=DIGITS):
    return np.vectorize(lambda number: written(number, digits), otypes=[float])(array)


@cache
def problem(name: str) -> Problem:
    """The numbers of an exercise."""
    setting = SETTINGS[name]
    one = next(one for one in draws(setting, 7) if one.has_clear_signals)
    return Problem(name, setting.net, getattr(jaxbp, setting.loss), one.params, {"x": one.x[None]}, one.y[None])


def by_calculator(at: Problem, digits: int) -> dict[str, np.ndarray]:
    """All quantities, where each product, each sum and each value of a function is written down before it is used."""

    def w(number):
        return written(number, digits)

    def product(xs, ys, so_far=0.0):
        for x, y in zip(xs, ys, strict=True):
            so_far = w(so_far + w(x * y))
        return so_far

    (h1, o), W, [x], [y] = at.net.units, at.params, at.x["x"], at.y
    a1 = [product(x, W[h1]["x"][:, j], b) for j, b in enumerate(W[h1]["bias"])]
    is_tanh = at.net.units[h1].activation == jaxbp.tanh
    h = [w(math.tanh(a)) if is_tanh else w(1 / w(1 + w(math.exp(-a)))) for a in a1]
    slopes = [w(1 - w(v * v)) if is_tanh else w(v * w(1 - v)) for v in h]
    ao = [product(h, W[o]["h1"][:, j], b) for j, b in enumerate(W[o]["bias"])]
    if at.loss == jaxbp.cross_entropy:
        powers = [w(math.exp(a)) for a in ao]
        out = [w(e / w(sum(powers))) for e in powers]
        loss = -w(math.log(out[int(np.argmax(y))]))
        Delta_o = [-w(t / v) for v, t in zip(out, y, strict=True)]
    else:
        out = ao
        loss = w(w(w(out[0] - y[0]) ** 2) / 2)
        Delta_o = [w(out[0] - y[0])]
    delta_o = [w(v - t) for v, t in zip(out, y, strict=True)]
    Delta = [product(delta_o, row) for row in W[o]["h1"]]
    delta = [w(D * slope) for D, slope in zip(Delta, slopes, strict=True)]
    found = {
        "a.h1": [a1], "h.h1": [h], "a.o": [ao], "h.o": [out], "loss": loss,
        "Delta.o": [Delta_o], "delta.o": [delta_o], "Delta.h1": [Delta], "delta.h1": [delta],
        "grad.o.h1": [[w(v * d) for d in delta_o] for v in h], "grad.o.bias": delta_o,
        "grad.h1.x": [[w(v * d) for d in delta] for v in x], "grad.h1.bias": delta,
    }  # fmt: skip
    return {name: np.array(value) for name, value in found.items()}


def judged(at: Problem, mine, digits: int = DIGITS) -> jaxbp.Report:
    return jaxbp.check(at.net, at.loss, at.params, at.x, at.y, dict(mine), digits=digits)


@pytest.mark.parametrize("digits", [2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_what_was_computed_exactly_and_then_rounded_is_right(name, digits):
    at = problem(name)
    mine = {quantity: rounded(array, digits) for quantity, array in right_pass(at).items()}
    assert judged(at, mine, digits).verdict == "right"


@pytest.mark.parametrize("digits", [3, 4, 5])
@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_calculator_rounded_in_each_step_is_right_up_to_rounding(name, digits):
    at = problem(name)
    mine = by_calculator(at, digits)
    assert not all(np.array_equal(mine[n], rounded(array, digits)) for n, array in right_pass(at).items() if n in mine)
    assert judged(at, mine, digits).verdict == "precision"


@pytest.mark.parametrize("name", ONE_AND_ALL)
def test_a_slip_of_a_hundredth_in_one_number_is_wrong(name):
    at, unseen = problem(name), []
    mine = by_calculator(at, DIGITS)
    for quantity, array in mine.items():
        for place in np.flatnonzero(array)[:1]:
            slipped = array.copy()
            slipped.flat[place] *= 1 + SLIP
            report = judged(at, {**mine, quantity: slipped})
            wrong = {finding.name: finding.off for finding in report.findings if finding.status == "wrong"}
            if not wrong:
                unseen.append((quantity, place))
            else:
                assert wrong == {quantity: 1}
    assert unseen == CANCELS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_slip_of_a_hundredth_that_is_carried_on_is_located_and_named(name):
    at = problem(name)
    mine = by_calculator(at, DIGITS)
    slipped = {
        n: rounded((1 + SLIP) * a) if n in ("delta.h1", "grad.h1.x", "grad.h1.bias") else a for n, a in mine.items()
    }
    report = judged(at, slipped)
    assert report.first_wrong == "delta.h1"
    assert report.explanations[0].slug == "scale"
    assert report.explanations[0].unit == "h1"


@pytest.mark.parametrize("name", ONE_AND_ALL)
def test_each_mistake_is_located_and_named_as_well_as_without_rounding(name):
    at, named = problem(name), 0
    for slug, variants in AT_A_UNIT:
        passes = (made(at, Mistaken(slug, u, False, changes)) for u in at.net.order for changes in variants(at, u))
        wrong = next((one for one in passes if one is not None), None)
        if wrong is None:
            continue
        exact = judged(at, wrong.quantities, 0)
        by_hand = judged(at, {quantity: rounded(array) for quantity, array in wrong.quantities.items()})
        assert by_hand.first_wrong in wrong.first_wrong, (wrong, by_hand)
        assert is_named(at, wrong, by_hand) == is_named(at, wrong, exact), (wrong, by_hand)
        named += is_named(at, wrong, by_hand)
    assert named > 20


def is_named(at: Problem, wrong: Wrong, report: jaxbp.Report) -> bool:
    return any(is_planted(together, one) for one in planted(at, wrong) for together in report.alternatives)


@pytest.mark.parametrize("digits", [1, 7, -4, 4.0, True, "4"])
def test_digits_that_nobody_writes_are_refused(digits):
    at = problem("2-3-1 linear")
    with pytest.raises(ValueError, match=r"digits is .*, expected 2 to 6"):
        judged(at, right_pass(at), digits)
