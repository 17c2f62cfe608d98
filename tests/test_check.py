"""The checker: right gradients are right, and wrong ones are located and named."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of, swept
from plain_phases import readers
from wrong_networks import ALL, NETWORKS, Problem, draw, example
from wrong_passes import (
    Wrong,
    first_wrong_gradient,
    gradient_tree,
    gradients,
    one_of_each,
    pairs,
    right_pass,
    together,
    wrong_passes,
)

import jaxbp
from jaxbp import Dense, Network, Unit, check
from jaxbp._check._catalogue import CATALOGUE
from jaxbp.experiments.claims.slides import SharedBias


def checked(problem: Problem, mine) -> jaxbp.Report:
    return check(problem.net, problem.loss, problem.params, problem.x, problem.y, mine)


def slugs_of(report: jaxbp.Report) -> list[tuple[str, ...]]:
    return [tuple(sorted(mistake.slug for mistake in together)) for together in report.alternatives]


# Wrong gradients are located and named.

SEEDS = (0, 1, 2)


def complaint(problem: Problem, wrong: Wrong, everything: bool) -> str | None:
    """What a report misses of a planted mistake; None where it is located and named."""
    report = checked(problem, dict(wrong.quantities) if everything else gradients(wrong))
    places = wrong.first_wrong if everything else first_wrong_gradient(problem, wrong)
    if report.verdict != "wrong" or report.first_wrong not in places:
        return f"{wrong} is said to be {report.verdict} at {report.first_wrong}, not at {', '.join(places)}"
    # mistakes that give the same numbers are all listed, and fewer that do are as good an explanation
    for mistakes in planted(problem, wrong):
        if any(is_planted(named, mistakes) or len(named) < len(mistakes) for named in report.alternatives):
            return None
    return f"{wrong} is called {slugs_of(report) or 'nothing'}"


def planted(problem: Problem, wrong: Wrong) -> list[list[tuple[str, set[str]]]]:
    """The mistakes with the units in which they are made; one that is made twice may be one mistake."""
    if isinstance(wrong.slug, str):
        return [[(wrong.slug, set(wrong.units))]]
    (first, second), (units, others) = wrong.slug, map(set, wrong.units)
    units |= receivers(problem, wrong, first, units)
    others |= receivers(problem, wrong, second, others)
    one = [[(first, units | others)]] if first == second else []
    return [*one, [(first, units), (second, others)]]


def receivers(problem: Problem, wrong: Wrong, slug: str, units: set[str]) -> set[str]:
    """The units whose only reader is one of these: a factor of what that sends them is as well one of their own."""
    if slug not in ("sign", "scale"):
        return set()
    sent = {(name.split(".")[1], name.split(".")[2]) for name in wrong.changes if name.startswith("signal.")}
    return {s for v, s in sent if v in units and readers(problem.net, s) == [v]}


def is_planted(named: tuple[jaxbp.Mistake, ...], mistakes: list[tuple[str, set[str]]]) -> bool:
    """Whether these are the mistakes, in no other units."""
    return len(named) == len(mistakes) and any(
        all(
            mistake.slug == slug and (not units or set(mistake.units) <= units)
            for mistake, (slug, units) in zip(order, mistakes, strict=True)
        )
        for order in permutations(named)
    )


SOME = {
    # network, and which of its mistakes are planted in the quick tests: each so many-th, and from where
    "sigmoid layer": (5, 0), "equal tanh layers": (8, 1), "distinct relu layers": (8, 2), "hard tanh layers": (8, 3),
    "sigmoid, cross-entropy": (8, 0), "softmax, binary cross-entropy": (8, 1), "skip connections": (9, 2),
    "residual": (9, 3), "three readers": (9, 4), "tied": (8, 0), "gated, by hand": (9, 1), "convolutions": (12, 2),
    "max pool with ties": (12, 3), "layer norm": (12, 0), "causal attention": (12, 1), "tokens": (9, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_a_mistake_is_located_and_named(name):
    """Some places; many more, with every seed, are in the slow tests."""
    every, start = SOME[name]
    problem = example(name, seed=start % 3)
    mistakes = one_of_each(problem, np.random.default_rng(start))[start::every]
    complaints = [complaint(problem, wrong, everything=i % 2 == 1) for i, wrong in enumerate(mistakes)]
    assert complaints == [None] * len(complaints)


PAIRED = ("sigmoid layer", "equal tanh layers", "softplus layers", "skip connections")


@pytest.mark.parametrize("name", PAIRED)
def test_two_mistakes_are_located_and_named(name):
    problem = example(name, seed=PAIRED.index(name) % 3)
    complaints = [complaint(problem, wrong, False) for wrong in pairs(problem, np.random.default_rng(1), 4)]
    assert complaints == [None] * 4


TOGETHER = {
    # weights that are updated too early, and another mistake that hides the learning rate
    "all widths equal": {"signal.o.h2": "updated-weights", "delta.h2": "relu-mask"},
    "no biases": {"signal.h2.h1": "updated-weights", "grad.h1.x": "transposed"},
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_learning_rate_is_found_beside_another_mistake(name):
    problem, mistakes = example(name, 7), TOGETHER[name]
    first, second = (
        next(w for w in wrong_passes(problem) if w.slug == slug and list(w.changes) == [quantity])
        for quantity, slug in mistakes.items()
    )
    both = together(problem, first, second)
    assert both is not None
    assert [complaint(problem, both, everything) for everything in (False, True)] == [None, None]


BESIDE = {
    # gradients in each other's place, one of which is not the right one; and a step that nothing shows until the next
    "three readers": ("gradients-swapped", {"delta.h1": "activation-for-derivative"}),
    "rms norm": ("missing-variance-term", {"delta.h1": "activation-for-derivative"}),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_shows_only_later_is_found_beside_another_mistake(name):
    problem, (slug, other) = example(name, 2), BESIDE[name]
    first = next(w for w in wrong_passes(problem) if w.slug == slug)
    second = next(w for w in wrong_passes(problem) if {w.slug} == set(other.values()) and [*w.changes] == [*other])
    both = together(problem, first, second)
    assert both is not None
    assert complaint(problem, both, everything=False) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_mistakes_in_every_network_are_located_and_named(seed):
    """Each mistake, and each that is made everywhere, as gradients and with all quantities; and ten pairs of them."""
    said: dict[str, list[str | None]] = {"alone": [], "in pairs": []}
    for name in ALL:
        problem, rng = example(name, seed), np.random.default_rng(seed)
        for everything in (False, True):
            said["alone"] += [complaint(problem, wrong, everything) for wrong in one_of_each(problem, rng)]
        if name != "softmax alone":
            said["in pairs"] += [complaint(problem, wrong, False) for wrong in pairs(problem, rng, 10)]
    located = {kind: np.mean(["is said to be" not in (words or "") for words in of]) for kind, of in said.items()}
    named = {kind: np.mean([words is None for words in of]) for kind, of in said.items()}
    print(*filter(None, (*said["alone"], *said["in pairs"])), sep="\n")
    print({kind: (len(said[kind]), round(located[kind], 4), round(named[kind], 4)) for kind in said})
    assert min(located.values()) >= 0.98
    assert named["alone"] >= 0.98
    assert named["in pairs"] >= 0.95


def test_the_table_can_fail(monkeypatch):
    """Without its catalogue the checker locates, and names nothing."""
    without = [entry for entry in CATALOGUE if entry.stage not in ("delta", "term")]
    monkeypatch.setattr(
        "jaxbp._check._walks.entries", lambda stage: [entry for entry in without if entry.stage == stage]
    )
    problem = example("sigmoid layer", 0)
    known = ("activation-for-derivative", "derivative-at-output")
    of_h1 = [w for w in one_of_each(problem, np.random.default_rng(0)) if w.slug in known and w.unit == "h1"]
    assert {wrong.slug for wrong in of_h1} == set(known)
    for wrong in of_h1:
        assert complaint(problem, wrong, everything=False) == f"{wrong} is called nothing"


# Right gradients are never called wrong.

DTYPES = (jnp.float64, jnp.float32, jnp.bfloat16)


def right_gradients(name: str, seeds: range):
    """By autodiff and by the sweep, in each number format: the arguments of `check`."""
    net, loss = NETWORKS[name]
    programs = (jax.jit(jax.grad(jaxbp.objective(net, loss))), jax.jit(jaxbp.value_and_grad(net, loss)))
    for seed in seeds:
        problem = draw(name, np.random.default_rng(seed))
        size = (1.0, 0.1, 3.0)[seed % 3]
        for dtype in DTYPES:
            params, x, y = jax.tree.map(
                lambda array, dtype=dtype: jnp.asarray(array, dtype),
                ({u: {s: size * W for s, W in w.items()} for u, w in problem.params.items()}, problem.x, problem.y),
            )
            by_autodiff = programs[0](params, x, y)
            value, ours = programs[1](params, x, y)
            yield net, loss, params, x, y, by_autodiff
            yield (
                net,
                loss,
                params,
                x,
                y,
                {"loss": value} | {f"grad.{u}.{s}": W for u, weights in ours.items() for s, W in weights.items()},
            )


@pytest.mark.parametrize("name", ["equal relu layers", "softmax, binary cross-entropy", "two inputs"])
def test_a_right_gradient_is_never_called_wrong(name):
    verdicts = Counter(check(*arguments).verdict for arguments in right_gradients(name, range(12)))
    assert not verdicts["wrong"]
    assert verdicts["right"] >= 48  # of 72; precision is for what cancels


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_many_right_gradients_are_not_called_wrong(name):
    verdicts = Counter(check(*arguments).verdict for arguments in right_gradients(name, range(24)))
    print(verdicts)
    assert verdicts.total() == 144  # 22 networks: 3168 in all
    assert not verdicts["wrong"]


def test_rounding_is_no_excuse_for_a_mistake():
    """In float32 and bfloat16 a mistake is still wrong, and named."""
    problem = example("equal tanh layers", 0)
    for dtype in (np.float32, jnp.bfloat16):
        for slug in ("missing-derivative", "not-transposed", "missing-gradient"):
            wrong = next(w for w in wrong_passes(problem) if w.slug == slug)
            report = checked(problem, jax.tree.map(lambda g, dtype=dtype: g.astype(dtype), gradients(wrong)))
            assert report.verdict == "wrong"
            assert report.explanations[0].slug == slug


# What is no mistake that is known.


@pytest.mark.parametrize(("mine", "verdict"), [(1.0, "wrong"), (1.1, "wrong"), (1.04, "right")])
def test_a_whole_number_is_exact(mine, verdict):
    """1.0 is no 1.04 that was rounded, as little as a 1 that is claimed of it."""
    net = jaxbp.layered([1, 1], output=jaxbp.linear, bias=False)
    params = {"o": {"x": np.array([[1.04]])}}
    report = check(net, jaxbp.squared_error, params, np.array([1.0]), np.array([0.0]), {"delta.o": [mine]})
    assert report.verdict == verdict


def test_noise_is_wrong_and_explained_by_nothing():
    problem = example("equal tanh layers", 0)
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda g: g * rng.uniform(0.9, 1.1, g.shape), gradient_tree(right_pass(problem)))
    report = checked(problem, noisy)
    assert report.verdict == "wrong"
    assert report.alternatives == ()
    assert "no mistake that is known here explains these numbers" in str(report)


def test_the_gradient_of_another_batch_is_explained_by_nothing():
    report = checked(example("sigmoid layer", 0), gradient_tree(right_pass(example("sigmoid layer", 1))))
    assert report.verdict == "wrong"
    assert report.alternatives == ()


# Corners.

CORNERED = Network(
    inputs={"x": 2},
    units={
        "h1": Unit(2, jaxbp.relu, {"x": Dense()}),
        "h2": Unit(2, jaxbp.hard_tanh, {"h1": Dense()}),
        "o": Unit(1, jaxbp.linear, {"h2": Dense()}),
    },
)
AT_CORNERS = {
    "h1": {"x": np.array([[1.0, 0.5], [-1.0, 1.0]]), "bias": np.array([0.0, 0.25])},  # a.h1[0] is 0
    "h2": {"h1": np.array([[0.5, -0.25], [1.0, 0.5]]), "bias": np.array([-0.75, 0.1])},  # a.h2[0] is 1
    "o": {"h2": np.array([[0.75], [-1.5]]), "bias": np.array([0.1])},
}


def corner_gradients(at_zero: float, at_one: float, factor: float = 1.0):
    """By hand, with a slope of one's own at each of the two corners."""
    p, x, y = AT_CORNERS, np.array([1.0, 1.0]), 0.5
    a1 = x @ p["h1"]["x"] + p["h1"]["bias"]
    h1 = np.maximum(a1, 0)
    a2 = h1 @ p["h2"]["h1"] + p["h2"]["bias"]
    h2 = np.clip(a2, -1, 1)
    assert a1[0] == 0
    assert a2[0] == 1
    delta_o = h2 @ p["o"]["h2"] + p["o"]["bias"] - y
    delta_2 = np.array([at_one, 1.0]) * (delta_o @ p["o"]["h2"].T) * factor
    delta_1 = np.array([at_zero, 1.0]) * (delta_2 @ p["h2"]["h1"].T)
    return {
        "h1": {"x": np.outer(x, delta_1), "bias": delta_1},
        "h2": {"h1": np.outer(h1, delta_2), "bias": delta_2},
        "o": {"h2": np.outer(h2, delta_o), "bias": delta_o},
    }


@pytest.mark.parametrize(
    ("at_zero", "at_one", "verdict"),
    [(0, 1, "right"), (1, 1, "kink"), (0, 0, "kink"), (1, 0, "kink"), (0.5, 0.5, "kink"), (2, 1, "wrong")],
)
def test_any_slope_between_the_two_sides_of_a_corner_is_valid(at_zero, at_one, verdict):
    mine = corner_gradients(at_zero, at_one)
    report = check(CORNERED, jaxbp.squared_error, AT_CORNERS, np.array([1.0, 1.0]), np.array([0.5]), mine)
    assert report.verdict == verdict
    assert report.ok == (verdict != "wrong")
    assert "1 of 2 elements of a.h1 sit on a corner" in str(report)


def test_a_corner_excuses_nothing_else():
    mine = corner_gradients(1, 1, factor=-1.0)
    report = check(CORNERED, jaxbp.squared_error, AT_CORNERS, np.array([1.0, 1.0]), np.array([0.5]), mine)
    assert report.verdict == "wrong"
    assert report.first_wrong == "grad.h2.h1"


@jax.custom_jvp
def _lying_tanh(a):
    return jnp.tanh(a)


_lying_tanh.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), 0.5 * tangents[0]))


def test_references_that_disagree_are_reported():
    activation = jaxbp.elementwise(_lying_tanh, lambda a, h: 1 - h**2, name="lying_tanh")
    net = jaxbp.layered([2, 3, 1], hidden=activation, output=jaxbp.linear)
    params = params_of(net)
    x, y = jnp.array([[1.0, -0.5]]), jnp.array([[0.25]])
    report = check(net, jaxbp.squared_error, params, x, y, swept(net, jaxbp.squared_error, params, x, y).grads)
    assert report.verdict == "wrong"
    assert "the two references disagree at grad.h1.x" in str(report)


# Every form of what is handed in.

SMALL = example("sigmoid layer", 0)
RIGHT = right_pass(SMALL)
X = SMALL.x["x"]


def as_lists(tree):
    return jax.tree.map(lambda g: g.tolist(), tree)


FORMS = {
    "numpy": gradient_tree(RIGHT),
    "jax": jax.device_put(gradient_tree(RIGHT)),
    "lists": as_lists(gradient_tree(RIGHT)),
    "everything": dict(RIGHT),
    "one quantity": {"delta.h1": RIGHT["delta.h1"]},
    "the loss": {"loss": float(RIGHT["loss"])},
    "a function": lambda params, x, y: gradient_tree(RIGHT),
    "a function with the value": lambda params, x, y: (RIGHT["loss"], gradient_tree(RIGHT)),
    "our own": lambda *arguments: jaxbp.value_and_grad(SMALL.net, SMALL.loss)(*jax.device_put(arguments)),
    "six decimals": jax.tree.map(lambda g: np.round(g, 6), gradient_tree(RIGHT)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form):
    report = checked(SMALL, FORMS[form])
    assert report.ok
    assert report.verdict in (("precision",) if form == "six decimals" else ("right", "precision"))


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3)])
def test_every_batch_is_read(batch):
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
    params = params_of(net)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(*batch, 3)), rng.integers(0, 2, size=batch)
    back = swept(net, jaxbp.cross_entropy, params, x, y)
    named = {name: np.asarray(array) for name, array in back.quantities().items()}
    assert check(net, jaxbp.cross_entropy, params, x, y, named).ok
    named["delta.h1"] = named["Delta.h1"]
    report = check(net, jaxbp.cross_entropy, params, x, y, named)
    assert report.first_wrong == "delta.h1"
    (finding,) = [finding for finding in report.findings if finding.name == "delta.h1"]
    assert len(finding.index) == len(batch) + 1
    assert finding.mine == named["delta.h1"][finding.index]


MALFORMED = {
    "nothing": ({}, ValueError, "nothing was handed in"),
    "a number": (3.0, TypeError, "is of type float"),
    "a missing unit": ({"o": gradient_tree(RIGHT)["o"]}, ValueError, "hold no 'h1'"),
    "an extra unit": (gradient_tree(RIGHT) | {"h2": {}}, ValueError, "'h2', which is none of the units 'h1', 'o'"),
    "a missing bias": (
        gradient_tree(RIGHT) | {"o": {"h1": RIGHT["grad.o.h1"]}}, ValueError, "gradients of 'o' hold no 'bias'"
    ),
    "a wrong source": (
        gradient_tree(RIGHT) | {"o": {"x": RIGHT["grad.o.h1"], "bias": 0}}, ValueError, "'x', which is none of"
    ),
    "an unknown quantity": ({"delta.h2": 0}, ValueError, "no quantity 'delta.h2' (did you mean 'delta.h1'?)"),
    "a wrong shape": ({"grad.o.bias": np.zeros(4)}, ValueError, r"grad.o.bias has shape (4,), expected (3,)"),
    "one for each example": (
        {"grad.o.bias": np.zeros((X.shape[0], 3))}, ValueError, "it has a batch axis; a gradient is the sum"
    ),
    "ragged lists": ({"grad.o.h1": [[1.0, 2.0], [3.0]]}, TypeError, "grad.o.h1 cannot be read as an array"),
    "strings": ({"grad.o.bias": ["a", "b", "c"]}, TypeError, "grad.o.bias is an array of <U1"),
    "complex": ({"grad.o.bias": np.zeros(3, complex)}, TypeError, "grad.o.bias is an array of complex128"),
    "booleans": ({"grad.o.bias": [True, False, True]}, TypeError, "grad.o.bias is an array of bool"),
    "None": ({"grad.o.bias": None}, TypeError, "grad.o.bias is None"),
    "three results": (lambda params, x, y: (1, 2, 3), ValueError, "the function returned 3 results"),
    "no dict in a tree": (lambda params, x, y: (1.0, [1.0]), TypeError, "the gradients are of type list"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_what_cannot_be_read_is_refused_by_name(case):
    mine, error, message = MALFORMED[case]
    with pytest.raises(error) as raised:
        checked(SMALL, mine)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(X.shape[0], 7), "y: class id 7 at example 0 is outside 0…2"),
        (np.where(SMALL.y == 1, np.nan, SMALL.y), "values of y are not finite"),
    ],
)
def test_targets_that_are_none_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check(SMALL.net, SMALL.loss, SMALL.params, SMALL.x, y, gradient_tree(RIGHT))


@pytest.mark.parametrize("name", ["loss", "h.o", "a.h1"])
def test_a_wrong_forward_phase_is_located_and_explained_by_nothing(name):
    report = checked(SMALL, {name: RIGHT[name] * 1.2345678912345})
    assert report.first_wrong == name
    assert report.alternatives == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_wrong_and_counted(value):
    broken = gradient_tree(RIGHT)
    broken["o"]["h1"] = broken["o"]["h1"].copy()
    broken["o"]["h1"][1, 2] = value
    report = checked(SMALL, broken)
    assert report.first_wrong == "grad.o.h1"
    (finding,) = [finding for finding in report.findings if finding.status == "wrong"]
    assert finding.index == (1, 2)
    assert "1 of its 15 elements is NaN or infinite" in str(finding)
    assert report.alternatives == ()
    json.dumps(report.to_dict(), allow_nan=False)


# The report.


def a_report():
    return checked(
        SMALL, gradients(next(w for w in wrong_passes(SMALL) if w.slug == "missing-derivative" and w.unit == "h1"))
    )


def test_the_report_says_where_and_why():
    report = a_report()
    assert report.first_wrong == "grad.h1.x"
    assert str(report).splitlines()[:2] == [
        "wrong: this is not the gradient",
        "  grad.o.h1 is right, grad.o.bias is right, grad.h1.x is wrong: look at the step from delta.o to delta.h1",
    ]
    assert report.explanations == [
        jaxbp.Mistake(
            "missing-derivative", ("h1",), "Φ' is left out: delta.h1 = h.h1 (1 − h.h1) ⊙ Delta.h1, not Delta.h1"
        )
    ]
    assert report.right == ["grad.o.h1", "grad.o.bias"]
    assert len(str(report).splitlines()) <= 15
    with pytest.raises(AssertionError, match="missing-derivative"):
        report.raise_if_wrong()


def test_the_report_as_a_dict_has_a_score_for_partial_credit():
    parts = json.loads(json.dumps(a_report().to_dict(), allow_nan=False))
    assert parts["verdict"] == "wrong"
    assert parts["quantities"]["grad.o.h1"]["score"] == 1
    assert parts["quantities"]["grad.h1.x"]["score"] < 0.2
    assert 0 < parts["score"] < 1
    assert parts["explanations"][0][0]["slug"] == "missing-derivative"


def test_explanations_that_agree_are_all_listed_with_what_tells_them_apart():
    """With two readers, dropping one branch is the other one overwriting it; a squared error's o − y is Δ_o."""
    problem = example("diamond", 0)
    dropped = next(w for w in wrong_passes(problem) if w.slug == "dropped-branch")
    report = checked(problem, gradients(dropped))
    assert [mistake.slug for mistake in report.explanations] == ["dropped-branch"]
    assert slugs_of(report) == [("dropped-branch",), ("last-branch-wins",)]
    assert "(the same in other words: last-branch-wins at h1)" in str(report)


def test_one_example_may_not_tell_two_mistakes_apart():
    """Where all signals are positive, a mask from the signal is no mask at all: another batch tells."""
    net = jaxbp.layered([2, 2, 1], hidden=jaxbp.relu, output=jaxbp.linear)
    params = {
        "h1": {"x": np.array([[1.0, 0.5], [0.25, -1.0]]), "bias": np.array([0.1, 0.2])},
        "o": {"h1": np.array([[1.5], [0.5]]), "bias": np.array([0.3])},
    }
    x, y = np.array([[1.0, 2.0]]), np.array([[-1.0]])  # the second unit is off
    back = swept(net, jaxbp.squared_error, params, x, y)
    delta = back.Delta["h1"]
    mine = {"h1": {"x": x.T @ delta, "bias": delta.sum(0)}, "o": back.grads["o"]}
    report = check(net, jaxbp.squared_error, params, x, y, mine)
    assert {mistake.slug for mistake in report.explanations} >= {"missing-derivative", "relu-mask"}
    assert "4 normally distributed examples tell them apart" in str(report)


# The mistakes in the seed documents.


def test_the_slides_swapped_indices():
    """∂L/∂w₈ and ∂L/∂w₉ are swapped, and so are w₈ and w₉ in what flows back."""
    net = jaxbp.layered([3, 2, 2], output=jaxbp.softmax)
    params = {
        "h1": {"x": np.array([[0.2, -0.5], [-0.3, 0.1], [0.4, 0.2]]), "bias": np.array([0.5, 0.5])},
        "o": {"h1": np.array([[0.3, -0.1], [0.4, 0.2]]), "bias": np.array([0.1, 0.1])},
    }
    x, y = np.array([1.0, 2.0, -1.0]), np.array([1.0, 0.0])
    a = 1 / (1 + np.exp(-(x @ params["h1"]["x"] + 0.5)))
    e = np.exp(a @ params["o"]["h1"] + 0.1)
    d1, d2 = e / e.sum() - y
    (w7, w8), (w9, w10) = params["o"]["h1"]
    back_to_a = np.array([d1 * w7 + d2 * w9, d1 * w8 + d2 * w10]) * a * (1 - a)
    mine = {
        "h1": {"x": np.outer(x, back_to_a), "bias": back_to_a},
        "o": {"h1": np.array([[d1 * a[0], d1 * a[1]], [d2 * a[0], d2 * a[1]]]), "bias": np.array([d1, d2])},
    }
    report = check(net, jaxbp.cross_entropy, params, x, y, mine)
    assert report.first_wrong == "grad.o.h1"
    assert {(m.slug, m.unit) for m in report.explanations} == {
        ("transposed", "o"),
        ("not-transposed", "o"),
    }


def test_the_chapters_activation_for_its_derivative():
    """Step 3 of the chapter prints Φ(a) where Φ'(a) belongs."""
    wrong = next(w for w in wrong_passes(SMALL) if w.slug == "activation-for-derivative" and w.unit == "h1")
    h, W = RIGHT["h.h1"], SMALL.params["o"]["h1"]
    delta = h * (RIGHT["delta.o"] @ W.T)
    mine = gradient_tree(RIGHT) | {"h1": {"x": X.T @ delta, "bias": delta.sum(0)}}
    np.testing.assert_allclose(mine["h1"]["x"], wrong.quantities["grad.h1.x"])
    report = checked(SMALL, mine)
    assert report.first_wrong == "grad.h1.x"
    assert [(m.slug, m.unit) for m in report.explanations] == [("activation-for-derivative", "h1")]


def test_the_questions_element_wise_softmax():
    """(∂L/∂o) .* o .* (1 − o), as for a sigmoid, but with a softmax and cross-entropy."""
    o = RIGHT["h.o"]
    delta = RIGHT["Delta.o"] * o * (1 - o)
    back = delta @ SMALL.params["o"]["h1"].T * RIGHT["h.h1"] * (1 - RIGHT["h.h1"])
    mine = {
        "o": {"h1": RIGHT["h.h1"].T @ delta, "bias": delta.sum(0)},
        "h1": {"x": X.T @ back, "bias": back.sum(0)},
    }
    report = checked(SMALL, mine)
    assert report.first_wrong == "grad.o.h1"
    assert [(m.slug, m.unit) for m in report.explanations] == [("softmax-diagonal", "o")]


# What the networks of the table have not.


def _running_sum(a):
    return jnp.cumsum(a, axis=-1)


def _running_sum_pullback(a, h, Delta):
    return jnp.flip(jnp.cumsum(jnp.flip(Delta, -1), -1), -1)


def test_activations_and_connections_of_ones_own():
    net = Network(
        inputs={"x": 3, "one": 1},
        units={
            "h1": Unit(3, jaxbp.vector_activation(_running_sum, _running_sum_pullback), {"x": Dense()}),
            "h2": Unit(3, jaxbp.elementwise(jnp.sin, lambda a, h: jnp.cos(a)), {"h1": Dense()}),
            "o": Unit(2, jaxbp.linear, {"h2": Dense(), "one": SharedBias(2)}, bias=False),
        },
    )
    params = params_of(net)
    params["o"]["one"] = jnp.asarray(0.25)
    rng = np.random.default_rng(0)
    x = {"x": rng.normal(size=(4, 3)), "one": np.ones((4, 1))}
    y = rng.normal(size=(4, 2))
    args = (net, jaxbp.squared_error, params, x, y)
    grads = jax.jit(jax.grad(jaxbp.objective(net, jaxbp.squared_error)))(params, x, y)
    assert check(*args, grads).ok
    back = swept(net, jaxbp.squared_error, params, x, y)
    delta = back.Delta["h1"]
    mine = {**grads, "h1": {"x": x["x"].T @ delta, "bias": delta.sum(0)}}
    report = check(*args, mine)
    assert report.first_wrong == "grad.h1.x"
    assert [(m.slug, m.unit) for m in report.explanations] == [("missing-derivative", "h1")]
    # the diagonal of a running sum's Jacobian is all ones, so that these two are one
    assert ("softmax-diagonal",) in slugs_of(report)


@dataclass(frozen=True)
class Halved(SharedBias):
    """Contracts to half of its gradient."""

    def contract(self, W, h, delta):
        return super().contract(W, h, delta) / 2


OWN_RULES = {
    # an activation and a connection to the output of which one brings a wrong rule, at which unit, and what is said
    "elementwise": (jaxbp.elementwise(jnp.sin, lambda a, h: 2 * jnp.cos(a)), SharedBias(2), "h", "activation of h"),
    "vector": (jaxbp.vector_activation(_running_sum, lambda a, h, Δ: Δ), SharedBias(2), "h", "activation of h"),
    "contraction": (jaxbp.tanh, Halved(2), "o", "from one to o"),
}


@pytest.mark.parametrize("name", OWN_RULES)
def test_a_rule_of_the_network_itself_is_named_where_it_is_what_was_followed(name):
    activation, connection, unit, says = OWN_RULES[name]
    output = Unit(2, jaxbp.linear, {"h": Dense(), "one": connection})
    net = Network({"x": 4, "one": 1}, {"h": Unit(3, activation, {"x": Dense()}), "o": output})
    params = params_of(net)
    args = (net, jaxbp.squared_error, params, {"x": X, "one": np.ones((len(X), 1))}, np.ones((len(X), 2)))
    report = check(*args, swept(*args).grads)
    assert [(m.slug, m.unit) for m in report.explanations] == [("wrong-pull-back", unit)]
    assert says in report.explanations[0].text
    assert f"because wrong-pull-back: {report.explanations[0].text}" in str(report)


@pytest.mark.parametrize(("factor", "verdict"), [(1e-10, "close"), (3e-7, "close"), (3e-6, "wrong")])
def test_what_is_right_to_a_part_in_a_million_is_close_and_says_how_close(factor, verdict):
    mine = {name: array for name, array in RIGHT.items() if name.startswith("grad.")}
    name = min(mine)
    report = checked(SMALL, mine | {name: mine[name] * (1 + factor)})
    assert (report.verdict, report.ok) == (verdict, verdict == "close")
    assert (f"the largest: relative error {factor:.1e} in {name}" in str(report)) == (verdict == "close")


@pytest.mark.parametrize("value", [1e200, 1e308, -1.7e308])
def test_numbers_at_the_end_of_the_format_are_wrong_and_no_more(value):
    mine = {name: array for name, array in RIGHT.items() if name.startswith("grad.")}
    for changed in (mine, dict.fromkeys([min(mine)])):
        huge = {name: np.full(np.shape(mine[name]), value) for name in changed}
        report = checked(SMALL, mine | huge)
        assert (report.verdict, report.alternatives) == ("wrong", ())
        assert not any("so close to the gradient" in note for note in report.notes)
    squares = jaxbp.check_function(lambda p: jnp.sum(p**2), jnp.ones(3), np.full(3, value))
    assert squares.verdict == "wrong"
    report = checked(replace(SMALL, x={"x": np.full(np.shape(X), value)}), mine)
    assert report.verdict == "wrong"
