"""Private training: who takes part, what they add, the noise, ε, and the mistakes that would make it public."""

import io
import json
import math
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from scipy.optimize import brentq
from scipy.stats import binom, norm

import jaxbp
from jaxbp.experiments.tools import privacy
from jaxbp.experiments.tools.privacy import (
    Mechanism,
    Proof,
    capacity_for,
    epsilon,
    gathered,
    gradient,
    prove,
    sample,
    step,
)
from jaxbp.experiments.tools.private import Private, main

CLASSES = 3
NET = jaxbp.layered([5, 4, CLASSES], hidden=jaxbp.tanh, output=jaxbp.softmax, bias=False)  # compiles sooner
PARAMS = jaxbp.init_params(jax.random.key(0), NET)
X = jax.random.normal(jax.random.key(1), (12, 5))
Y = jax.random.randint(jax.random.key(2), (12,), 0, CLASSES, jnp.int32)
MECHANISM = Mechanism(examples=12, batch_size=6, max_norm=1.8, noise_multiplier=0.7, capacity=10)
SGD = optax.sgd(0.1)
SILENT = replace(MECHANISM, noise_multiplier=0.0)


def flat(tree, axes=0):
    return np.concatenate([np.reshape(leaf, (*leaf.shape[:axes], -1)) for leaf in jax.tree.leaves(tree)], axis=axes)


@pytest.fixture(scope="module")
def own():
    """The gradient of each example by autodiff, one row for each, half of them longer than C."""
    of_one = jax.grad(jaxbp.objective(NET, jaxbp.cross_entropy))
    rows = flat(jax.jit(jax.vmap(of_one, in_axes=(None, 0, 0)))(PARAMS, X, Y), axes=1)
    assert 3 <= np.sum(np.linalg.norm(rows, axis=1) > MECHANISM.max_norm) <= 9
    return rows


@pytest.fixture(scope="module")
def silent_sum():
    """The sum of clipped gradients over given rows, without noise."""
    of_rows = jax.jit(lambda rows: gradient(NET, PARAMS, *gathered(X, Y, rows, CLASSES), SILENT))
    return lambda rows: flat(of_rows(jnp.asarray(rows))) * SILENT.batch_size


def clipped(rows):
    return rows / np.maximum(1, np.linalg.norm(rows, axis=1, keepdims=True) / MECHANISM.max_norm)


def noise(key):
    """σ C z, shaped like the parameters, by the keys of the collector."""
    leaves = jax.tree.leaves(PARAMS)
    keys = jax.random.split(key, len(leaves))
    draw = jax.jit(lambda keys: [jax.random.normal(k, W.shape, W.dtype) for k, W in zip(keys, leaves, strict=True)])
    return 0.7 * 1.8 * flat(draw(keys))


# who takes part


def test_each_example_is_drawn_with_probability_q_and_independently_of_the_others():
    draws, N, q = 20_000, 12, 0.25
    mechanism = Mechanism(examples=N, batch_size=3, max_norm=1.0, noise_multiplier=0.0, capacity=N)
    rows = np.asarray(jax.jit(jax.vmap(lambda key: sample(key, mechanism)))(jax.random.split(jax.random.key(3), draws)))
    assert np.all((np.diff(rows, axis=1) > 0) | (rows[:, 1:] == N))  # nobody twice, and N where nobody is
    member = np.any(rows[:, :, None] == np.arange(N), axis=1)
    np.testing.assert_array_equal(member.sum(axis=1), np.sum(rows < N, axis=1))
    np.testing.assert_allclose(member.mean(axis=0), q, atol=5 * math.sqrt(q * (1 - q) / draws))
    # a sample of a fixed size would have pairs that avoid each other, and sizes that do not vary
    together = (member.T.astype(float) @ member) / draws
    np.testing.assert_allclose(together[~np.eye(N, dtype=bool)], q**2, atol=5 * math.sqrt(q**2 / draws))
    sizes = np.bincount(member.sum(axis=1), minlength=N + 1) / draws
    np.testing.assert_allclose(sizes, binom.pmf(np.arange(N + 1), N, q), atol=5 * math.sqrt(0.25 / draws))


def test_a_sample_has_its_capacity_and_everybody_is_in_it_at_q_1():
    everybody = Mechanism(examples=12, batch_size=12, max_norm=1.0, noise_multiplier=0.0, capacity=12)
    np.testing.assert_array_equal(sample(jax.random.key(0), everybody), np.arange(12))
    np.testing.assert_array_equal(sample(jax.random.key(0), replace(everybody, capacity=5)), np.arange(5))
    assert sample(jax.random.key(0), everybody).dtype == jnp.int32


@pytest.mark.parametrize(("examples", "batch_size"), [(1437, 512), (60_000, 1024), (60_000, 1), (50, 50)])
def test_the_capacity_is_the_least_that_suffices(examples, batch_size):
    enough = capacity_for(examples, batch_size, steps=1180, chance=1e-11)
    mechanism = Mechanism(examples, batch_size, 1.0, 1.0, enough)
    assert mechanism.chance_of_overflow(1180) < 1e-11
    assert batch_size == examples == enough or replace(mechanism, capacity=enough - 1).chance_of_overflow(1180) >= 1e-11


# what they add


def test_a_place_where_nobody_is_adds_nothing(silent_sum, own):
    x, targets = jax.jit(lambda rows: gathered(X, Y, rows, CLASSES))(jnp.array([2, 7, 12, 12]))
    np.testing.assert_array_equal(x, np.concatenate([np.asarray(X)[[2, 7]], np.zeros((2, 5))]))
    np.testing.assert_array_equal(targets[:2], np.eye(CLASSES)[np.asarray(Y)[[2, 7]]])
    np.testing.assert_array_equal(targets[2:], 0)
    np.testing.assert_allclose(silent_sum([2, 7] + [12] * 8), clipped(own)[[2, 7]].sum(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(silent_sum([12] * 10), 0)


def test_removing_an_example_changes_the_sum_by_at_most_the_norm(silent_sum, own):
    everybody = np.arange(10)
    changes = [silent_sum(everybody) - silent_sum(np.where(everybody == i, 12, everybody)) for i in everybody]
    lengths, own_lengths = np.linalg.norm(changes, axis=1), np.linalg.norm(own[:10], axis=1)
    np.testing.assert_allclose(lengths, np.minimum(own_lengths, MECHANISM.max_norm), rtol=1e-12)
    assert lengths.max() <= MECHANISM.max_norm * (1 + 1e-12)


@pytest.fixture(scope="module")
def one_step():
    return jax.jit(lambda state: step(state, X, Y, net=NET, optimizer=SGD, mechanism=MECHANISM))


def test_a_step_is_that_of_the_definition(own, one_step):
    state = jaxbp.train.init_state(jax.random.key(5), NET, SGD, params=PARAMS)
    after = one_step(state)
    key, sample_key, noise_key = jax.random.split(state.key, 3)
    rows = np.asarray(sample(sample_key, MECHANISM))
    taking_part = rows[rows < 12]
    assert 0 < len(taking_part) < 10
    assert len(taking_part) != MECHANISM.batch_size  # or dividing by the one would not differ from the other
    expected = (clipped(own)[taking_part].sum(axis=0) + noise(noise_key)) / MECHANISM.batch_size
    np.testing.assert_allclose(flat(after.params), flat(PARAMS) - 0.1 * expected, rtol=1e-12, atol=1e-14)
    assert jnp.array_equal(jax.random.key_data(after.key), jax.random.key_data(key))
    assert after.step == 1


def test_a_step_in_which_nobody_takes_part_has_the_same_noise():
    key = jax.random.key(8)
    of_rows = jax.jit(lambda rows: gradient(NET, PARAMS, *gathered(X, Y, rows, CLASSES), MECHANISM, key))
    np.testing.assert_allclose(flat(of_rows(jnp.full(10, 12))) * MECHANISM.batch_size, noise(key), rtol=1e-12)
    # why empty places are marked by their targets: the collector's noise is scaled by the largest weight
    collect = {"clipped": jaxbp.collect.clipped(1.8, noise_multiplier=0.7, key=key)}
    weighted = jax.jit(
        lambda w: jaxbp.backprop(
            NET, jaxbp.cross_entropy, PARAMS, X, Y, weights=w, reduction="sum", collect=collect
        ).collected["clipped"]
    )
    np.testing.assert_array_equal(flat(weighted(jnp.zeros(12))), 0)


def test_every_step_of_an_epoch_has_its_own_sample_and_noise(one_step):
    state = jaxbp.train.init_state(jax.random.key(5), NET, SGD, params=PARAMS)
    by_hand = one_step(one_step(state))
    after = privacy.epoch(state, X, Y, net=NET, optimizer=SGD, mechanism=MECHANISM)
    assert after.step == MECHANISM.steps == 2
    np.testing.assert_allclose(flat(after.params), flat(by_hand.params), rtol=1e-12)


# the proof, and what it must catch


def unit_by_unit(max_norm, **_):
    """Clips what leads into each unit by itself."""
    whole = jaxbp.collect.clipped(max_norm)
    return lambda sweep: {
        unit: whole(replace(sweep, weights={unit: group}))[unit] for unit, group in sweep.weights.items()
    }


def mean_of_them(net, loss, params, x, y, *, reduction, collect):
    return jaxbp.backprop(net, loss, params, x, y, reduction="mean", collect=collect)


def clipped_together(max_norm, **_):
    """Clips the sum, not what it is made of."""

    def collector(sweep):
        grads = jaxbp.collect.gradient(sweep)
        length = jnp.sqrt(sum(jnp.sum(G**2) for G in jax.tree.leaves(grads)))
        return jax.tree.map(lambda G: G / jnp.maximum(1, length / max_norm), grads)

    return collector


def test_the_proof_holds():
    proof = prove(NET, PARAMS, X, Y, MECHANISM)
    assert proof.holds
    assert max(proof.plain_error, proof.clipped_error) < 1e-12
    assert proof.largest_norm == pytest.approx(1, rel=1e-12)
    assert 0 < proof.share_clipped < 1


@pytest.mark.parametrize(
    ("place", "bug", "caught_by"),
    [
        ("collect.clipped", unit_by_unit, {"clipped_error", "largest_norm"}),
        ("collect.clipped", lambda max_norm, **_: jaxbp.collect.gradient, {"clipped_error", "largest_norm"}),
        ("collect.clipped", clipped_together, {"clipped_error"}),
        ("backprop", mean_of_them, {"plain_error", "clipped_error"}),
    ],
    ids=["clipped unit by unit", "not clipped", "the sum clipped", "the mean"],
)
def test_the_proof_catches(place, bug, caught_by, monkeypatch):
    monkeypatch.setattr(privacy, "jaxbp", Patched(place, bug))
    proof = prove(NET, PARAMS, X, Y, MECHANISM)
    assert not proof.holds
    assert proof.largest_norm > 1.1 or "largest_norm" not in caught_by
    assert all(getattr(proof, name) > 0.1 for name in caught_by)


class Patched:
    """jaxbp with one thing replaced, for `privacy` alone."""

    def __init__(self, place, bug):
        self._place, self._bug = place.split("."), bug

    def __getattr__(self, name):
        if name != self._place[0]:
            return getattr(jaxbp, name)
        return self._bug if len(self._place) == 1 else type("collect", (), {self._place[1]: staticmethod(self._bug)})


def test_nothing_is_trained_when_the_proof_fails(tmp_path, monkeypatch):
    too_long = Proof(plain_error=1e-7, clipped_error=1e-7, largest_norm=1.01, share_clipped=1.0)
    monkeypatch.setattr(privacy, "prove", lambda *_: too_long)
    report, printed = run(data="iris", hidden=(), batch_size=20, out=tmp_path / "out")
    assert report.proof is too_long
    assert report.rows == []
    assert "1.0100000" in printed
    assert "nothing was trained" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["plain_error", "clipped_error", "largest_norm"])
def test_a_proof_needs_all_three(wrong):
    good = Proof(plain_error=1e-6, clipped_error=1e-6, largest_norm=1 + 1e-6, share_clipped=0.0)
    assert good.holds
    assert not replace(good, **{wrong: 1.0001}).holds
    assert not replace(good, **{wrong: math.nan}).holds


# ε


def epsilon_of_one_step(q, sigma, delta):
    """By the curve of the sampled Gaussian itself: the larger of both directions of the hockey-stick divergence."""

    def removed(e):  # P = (1 − q) N(0) + q N(1) against Q = N(0), which it exceeds e^ε-fold beyond t
        t = 0.5 + sigma**2 * math.log(1 + math.expm1(e) / q)
        P, Q = (1 - q) * norm.sf(t / sigma) + q * norm.sf((t - 1) / sigma), norm.sf(t / sigma)
        return P - math.exp(e) * Q - delta

    def added(e):
        if math.exp(-e) <= 1 - q:  # the density of Q is nowhere so small beside that of P
            return -delta
        t = 0.5 + sigma**2 * math.log((math.exp(-e) - (1 - q)) / q)
        P, Q = norm.cdf(t / sigma), (1 - q) * norm.cdf(t / sigma) + q * norm.cdf((t - 1) / sigma)
        return P - math.exp(e) * Q - delta

    return max(brentq(removed, 1e-9, 20), brentq(added, 1e-9, 20))


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "delta"), [(1, 2.0, 1, 1e-5), (0.25, 0.8, 1, 1e-5), (1, 40.0, 400, 1e-5)]
)
def test_epsilon_is_that_of_the_closed_form(q, sigma, steps, delta):
    pytest.importorskip("dp_accounting")
    mechanism = Mechanism(examples=1000, batch_size=int(1000 * q), max_norm=1.0, noise_multiplier=sigma, capacity=1000)
    # at q = 1 steps compose to one with noise that is √steps smaller
    exact = epsilon_of_one_step(q, sigma / math.sqrt(steps), delta)
    value = epsilon(mechanism, steps, delta)
    assert exact - 1e-6 <= value <= exact + 2e-3  # an upper bound, which rounds by 1e-3 / min(1, σ)²


def test_epsilon_of_a_whole_training_is_below_the_renyi_bound():
    dp = pytest.importorskip("dp_accounting")
    from dp_accounting.rdp import RdpAccountant

    mechanism = Mechanism(60_000, 1024, max_norm=1.0, noise_multiplier=1.2, capacity=1277)
    value = epsilon(mechanism, 1180, 5.5e-6)
    event = dp.PoissonSampledDpEvent(1024 / 60_000, dp.GaussianDpEvent(1.2))
    renyi = RdpAccountant().compose(event, 1180).get_epsilon(5.5e-6)
    assert 2.6455 < value < 2.6465  # 2.6456 with a ten times finer interval
    assert 1.05 < renyi / value < 1.15
    assert epsilon(replace(mechanism, max_norm=9.0), 1180, 5.5e-6) == value
    assert epsilon(mechanism, 590, 5.5e-6) < value


def test_without_noise_or_without_the_accountant_no_number_is_made_up(monkeypatch):
    assert epsilon(SILENT, 1, 1e-5) == math.inf
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    assert epsilon(MECHANISM, 1, 1e-5) is None
    assert epsilon(SILENT, 1, 1e-5) == math.inf


# the experiment


def run(**options):
    console = Console(file=io.StringIO(), width=140)
    return main(Private(**options), console), console.file.getvalue()


@pytest.mark.slow
def test_digits_are_learned_without_the_accountant_too(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    report, printed = run(hidden=(32,), epochs=12, out=tmp_path / "out")
    assert report.proof.holds
    assert report.rows[-1].private_accuracy > 0.7  # 0.1 is chance
    assert report.rows[-1].plain_accuracy > 0.9
    assert [row.epoch for row in report.rows] == list(range(1, 13))
    assert report.delta == pytest.approx(1437**-1.1)
    assert set(report.epsilons.values()) == {None}
    assert "not known: pip install 'jaxbp[private]'" in printed
    assert "the most that one example adds, over C" in printed
    assert "s privately and" in printed
    assert (tmp_path / "out" / "private.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "out" / "private.json").read_text())
    assert numbers["epochs"][-1]["private_accuracy"] == report.rows[-1].private_accuracy
    assert numbers["mechanism"]["capacity"] >= 512


@pytest.mark.slow
def test_clipping_without_noise_is_called_infinite(tmp_path, monkeypatch):
    monkeypatch.setattr(privacy, "prove", lambda *_: Proof(0.0, 0.0, 1.0, 1.0))  # which another test runs
    report, printed = run(data="iris", hidden=(), epochs=1, batch_size=60, noise_multiplier=0.0, out=tmp_path / "out")
    assert report.epsilons == {1: math.inf}
    assert "∞" in printed
    assert "clipping alone is not private" in printed
    assert json.loads((tmp_path / "out" / "private.json").read_text())["epsilon"] == {"1": "inf"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"max_norm": 0.0}, "max_norm must be positive and finite, got 0.0"),
        ({"max_norm": math.inf}, "max_norm must be positive and finite, got inf"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be 0 or more and finite, got -1.0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be 0 or more and finite, got nan"),
        ({"delta": 0.0}, "delta must be above 0 and below 1, got 0.0"),
        ({"delta": 1.0}, "delta must be above 0 and below 1, got 1.0"),
        ({"batch_size": 1438}, "batch_size is 1438, but there are only 1437 training examples"),
        ({"data": "diabetes"}, "diabetes is a regression"),
        ({"data": "digts"}, "unknown data set 'digts'"),
        ({"optimizer": "adm"}, "optax has no optimizer 'adm'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
