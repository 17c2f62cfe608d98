"""Gradients in other layouts on the command lines of `check` and `grade`."""

import numpy as np
import pytest
from described import LAYERS, complaint, run

from jaxbp.experiments.tools import check
from jaxbp.experiments.tools.laid_out import arguments
from jaxbp.experiments.tools.marks import marked, named
from jaxbp.experiments.tools.problem import read_problem

IN_COLUMNS = """
import numpy as np

def gradients(params, x, y):
    W1, b1, W2, b2 = (params[u][s] for u, s in (("h1", "x"), ("h1", "bias"), ("o", "h1"), ("o", "bias")))
    h = 1 / (1 + np.exp(-(W1 @ x + b1)))
    e = np.exp(W2 @ h + b2)
    dZ2 = (e / e.sum(0) - np.eye(2)[:, y]) / len(y)
    dZ1 = W2.T @ dZ2 * h * (1 - h)
    sums = [dZ.sum(1, keepdims=True) for dZ in (dZ1, dZ2)]
    return {"dW1": dZ1 @ x.T, "db1": sums[0], "dW2": dZ2 @ h.T, "db2": sums[1]}
"""


def test_a_program_in_columns_is_checked(folder):
    (folder / "mine.py").write_text(IN_COLUMNS, encoding="utf-8")
    report, printed = run(folder, "mine.py", layout="columns")
    assert report.verdict in ("right", "precision")
    assert "dW1 for grad.h1.x, db1 for grad.h1.bias" in printed
    with pytest.raises(check.ProgramError, match="failed"):  # W1 @ x, of other shapes
        run(folder, "mine.py")


def test_arrays_as_torch_has_them_are_checked(folder, gradients):
    arrays = {name: np.transpose(array) for name, array in gradients["right"].items()}
    np.savez(folder / "torch.npz", **arrays)
    assert run(folder, "torch.npz", layout="torch")[0].ok
    assert run(folder, "torch.npz")[0].first_wrong == "grad.o.h1"
    np.savez(folder / "keys.npz", **{f"fc.{i}": array for i, array in enumerate(arrays.values())})
    assert "no quantity 'fc.0'" in complaint(folder, "keys.npz", layout="torch")
    with pytest.raises(ValueError, match=r"--layout torch is of the gradients of a network; describe it by --network"):
        check.Check(mine="model.py:loss", layout="torch")


def test_a_problem_is_graded_in_its_layout(tmp_path, gradients):
    path = tmp_path / "problem.toml"
    path.write_text(f'{LAYERS}\n[points]\ngrad = 4\n[grading]\nlayout = "columns"\n', encoding="utf-8")
    problem = read_problem(path)
    params, x, _ = problem.arguments
    assert (x.shape, params["h1"]["x"].shape, params["h1"]["bias"].shape) == ((3, 2), (2, 3), (2, 1))
    assert arguments(problem.described, "torch")[0]["h1"]["bias"].shape == (2,)
    right = {name: np.transpose(array) for name, array in gradients["right"].items()}
    assert marked(problem, named(right)).score == 4
    names = ("grad.h1.x", "grad.h1.bias", "grad.o.h1", "grad.o.bias")
    by_key = {key: right[name] for key, name in zip(("W1", "b1", "W2", "b2"), names, strict=True)}
    assert marked(problem, named(by_key)).score == 4
    assert marked(problem, named((0.7087630, by_key))).parts[0].score == 1
    wrong = marked(problem, named(by_key | {"b2": -right["grad.o.bias"]}))
    assert (wrong.status, wrong.score) == ("wrong", 3)
    path.write_text(f'{LAYERS}\n[grading]\nlayout = "column"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"grading\.layout is 'column', expected one of 'rows', 'torch', 'columns'"):
        read_problem(path)
