"""A folder with gradients of the documented network, right and wrong, in every form that `check` takes."""

import json

import jax
import numpy as np
import pytest
from described import LAYERS, PROGRAM

import jaxbp
from jaxbp.experiments.tools.description import read_description


@pytest.fixture(scope="session")
def gradients(tmp_path_factory):
    """The right gradients of the documented network by name, and those without Φ'."""
    path = tmp_path_factory.mktemp("network") / "net.toml"
    path.write_text(LAYERS, encoding="utf-8")
    read = read_description(path)
    backprop = jax.jit(jaxbp.backprop, static_argnums=(0, 1))
    back = backprop(read.net, read.loss, read.params, read.x, read.y)
    right = {f"grad.{u}.{s}": np.asarray(W) for u, weights in back.grads.items() for s, W in weights.items()}
    Delta = np.asarray(back.Delta["h1"])
    return {"right": right, "wrong": right | {"grad.h1.x": read.x.T @ Delta, "grad.h1.bias": Delta.sum(0)}}


@pytest.fixture
def folder(tmp_path, gradients):
    (tmp_path / "net.toml").write_text(LAYERS, encoding="utf-8")
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    for name, arrays in gradients.items():
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays)
        lists = {key: array.tolist() for key, array in arrays.items()}
        (tmp_path / f"{name}.json").write_text(json.dumps(lists))
        tree = {u: {s: lists[f"grad.{u}.{s}"] for s in ("x" if u == "h1" else "h1", "bias")} for u in ("h1", "o")}
        (tmp_path / f"{name}_tree.json").write_text(json.dumps(tree))
    return tmp_path
