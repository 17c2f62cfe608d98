"""The benchmark: what can be asked of it, that what it compares is the same, and what its tables say. No times."""

import io
from dataclasses import replace

import jax
import pytest
import tyro
from reference import relative_error
from rich.console import Console

from jaxbp.experiments.benchmarks import collectors, timing
from jaxbp.experiments.benchmarks.benchmark import Benchmark
from jaxbp.experiments.benchmarks.collectors import MEASURED, collector_table, problem


def test_one_word_chooses_what_is_measured():
    assert tyro.cli(Benchmark, args=[]).what == "all"
    assert tyro.cli(Benchmark, args=["collectors", "--rounds", "3"]) == Benchmark("collectors", rounds=3)


@pytest.mark.slow
def test_vmap_finds_what_the_collectors_find():
    of = problem([6, 5, 4], 8)
    defined = {key: measured for key, measured in MEASURED.items() if measured.definition is not None}
    assert {"norms", "clipped", "second moment", "variance", "Gram"} == set(defined)

    pairs = {key: (collectors.collected(m, of), collectors.by_vmap(m, of)) for key, m in defined.items()}
    found = jax.jit(lambda *arguments: jax.tree.map(lambda run: run(*arguments), pairs))(*of.arguments)
    for key, ((value, ours), (their_value, theirs)) in found.items():
        if key in ("norms", "Gram"):  # the rest of these is sums over fewer weights
            ours["it"] = ours["it"].total
        assert relative_error((value, ours), (their_value, theirs)) <= 1e-5, key


def test_a_table_says_what_is_met(monkeypatch):
    unreachable, easy = replace(MEASURED["norms"], most=0.0), replace(MEASURED["clipped"], most=1e9)
    monkeypatch.setattr(collectors, "MEASURED", {"norms": unreachable, "clipped": easy, "Gram": MEASURED["Gram"]})
    monkeypatch.setattr(collectors, "INSTALLED", False)
    monkeypatch.setattr(timing, "WINDOW", 0.001)
    printed = io.StringIO()
    Console(file=printed, width=120).print(collector_table("6-5-4", problem([6, 5, 4], 8), 1))
    norms, clipped, gram = printed.getvalue().split("├")[0:3]
    assert "≤ 0.00: no" in norms
    assert "≤ 1000000000.00: yes" in clipped
    assert "≥ 20" in clipped
    assert "≥ 20" not in norms + gram
    assert printed.getvalue().count("not installed") == 3
    assert "…" not in printed.getvalue()


def test_rounds_are_fewer_where_there_is_no_time(monkeypatch):
    called = []
    monkeypatch.setattr(timing, "WINDOW", 0.0)
    timing.alternate([lambda: called.append(0), lambda: called.append(1)], 31, most_seconds=0.0)
    assert called.count(0) == called.count(1) == 2 + timing.FEWEST
    called.clear()
    monkeypatch.setattr(timing, "WINDOW", 1e-6)
    timing.alternate(
        [lambda: called.append(0), lambda: called.append(1)], 7
    )  # as many as asked for, when there is time
    assert called.count(0) >= 2 + 7
    with pytest.raises(ZeroDivisionError):  # and what fails is not measured
        timing.alternate([lambda: 1 / 0, lambda: None], 31)


def test_quartiles_are_in_words():
    assert timing.in_words(timing.quartiles([1.0, 2.0, 3.0, 4.0, 5.0])) == "3.00 [2.00–4.00]"
