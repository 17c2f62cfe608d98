"""The cost of path sums: what is measured and written, what decides the claim, and what is refused."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import jaxbp
from jaxbp import textbook
from jaxbp.experiments.claims import path_sums
from jaxbp.experiments.claims.path_sums import Claim, Growth, Result, claim, main

SMALL = {"widths": (3,), "max_seconds": 0.02, "repeats": 2}


def run(tmp_path, **options):
    console = Console(file=io.StringIO(), width=120)
    return main(Growth(**(SMALL | options), out=tmp_path / "out"), console), " ".join(console.file.getvalue().split())


def test_what_is_counted_and_written(tmp_path):
    result, printed = run(tmp_path, widths=(4,), max_seconds=0.3)  # the times themselves decide nothing here
    rows, (c,) = result.measurements, result.claims
    np.testing.assert_allclose(c.power_of_multiplications, 1, rtol=1e-9)
    assert c.error < 1e-12
    assert result.holds == c.holds
    assert result.decision in printed
    assert [(row.width, row.depth) for row in rows] == [(4, d) for d in range(1, len(rows) + 1)]
    for row in rows:
        assert row.paths == sum(row.width ** (length + 1) for length in range(1, row.depth + 1))
        assert row.multiplications_by_nodes == row.depth * row.width**2
    written = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert [row["paths"] for row in written] == [row.paths for row in rows]
    assert (tmp_path / "out" / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("way", ["accumulate_by_paths", "accumulate_by_nodes", "pre_activation_recursion"])
def test_a_way_with_another_result_is_noticed(monkeypatch, way):
    right = getattr(textbook, way)

    def scaled(*arguments):
        result = right(*arguments)
        if way == "pre_activation_recursion":
            return result._replace(delta={u: 1.001 * signal for u, signal in result.delta.items()})
        return [[1.001 * D for D in layer] for layer in result]

    monkeypatch.setattr(textbook, way, scaled)
    enumerated = [(1.0, textbook.accumulate_by_paths(*path_sums.local_problem(3, depth))) for depth in (1, 2)]
    np.testing.assert_allclose(path_sums.measure(3, 2, enumerated, 2).error, 0.001, rtol=1e-6)


GOOD = Claim(
    width=4,
    factor_of_paths=4.3,
    power_of_multiplications=1.0,
    power_of_nodes=0.9,
    power_of_sweep=0.4,
    error=1e-15,
)


def test_a_sabotaged_sweep_decides_against_it(monkeypatch):
    right = jaxbp.Dense.pull_back
    monkeypatch.setattr(jaxbp.Dense, "pull_back", lambda *of: -right(*of))
    enumerated = [(1.0, textbook.accumulate_by_paths(*path_sums.local_problem(2, 1)))]
    error = path_sums.measure(2, 1, enumerated, 2).error
    result = Result((), (GOOD, replace(GOOD, error=error)))
    assert not result.holds
    assert result.decision.endswith("(below 1e-09 asked): does not hold")


def test_each_number_of_each_width_decides():
    assert GOOD.holds
    assert Result((), (GOOD, GOOD)).decision.endswith(": holds")
    for spoilt in (
        {"factor_of_paths": 2.7},
        {"power_of_multiplications": 1.1},
        {"power_of_nodes": 1.6},
        {"power_of_sweep": 1.6},
        {"error": 1e-6},
        {"error": float("nan")},
    ):
        assert replace(GOOD, **spoilt).holds is False
        assert Result((), (replace(GOOD, **spoilt), GOOD)).decision.endswith(": does not hold")
        # seconds may have been too few to tell, counts and results not
        timed = spoilt.keys() & {"factor_of_paths", "power_of_nodes", "power_of_sweep"}
        short = Result((), (GOOD, replace(GOOD, **spoilt, full=False)))
        assert short.holds is (None if timed else False)


def test_the_fits_find_the_growth_that_is_there():
    rows = [
        path_sums.Measurement(
            width=5,
            depth=d,
            paths=5**d,
            multiplications_by_paths=5**d,
            multiplications_by_nodes=25 * d,
            seconds_by_paths=1e-5 * 5.5**d if d < 7 else None,
            seconds_by_nodes=1e-6 * d,
            seconds_of_sweep=1e-5 * d**2,
            error=d * 1e-16,
        )
        for d in range(1, 9)
    ]
    c = claim(rows)
    np.testing.assert_allclose(
        [c.factor_of_paths, c.power_of_multiplications, c.power_of_nodes, c.power_of_sweep, c.error],
        [5.5, 1, 1, 2, 8e-16],
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (4, 1)}, "widths must be at least 2, got 4 1: layers of one neuron have one path"),
        ({"widths": ()}, "widths must be at least 2, got none"),
        ({"repeats": 1}, "repeats must be at least 2, got 1"),
        ({"max_seconds": 0.0}, "max_seconds must be positive and finite, got 0.0"),
        ({"max_seconds": float("inf")}, "max_seconds must be positive and finite, got inf"),
        ({"widths": (300,)}, "width 300 has 0 depths whose paths take 5e-05 to 0.02 seconds .* raise --max-seconds"),
        ({"max_seconds": 1e-4}, "width 3 has [0-2] depths whose paths take 5e-05 to 0.0001 seconds"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **options)
    assert not (tmp_path / "out").exists()
