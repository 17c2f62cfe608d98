"""Hand gradients as people have them: in other layouts, by other keys, in lists, as tensors, with dropout."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import params_of, swept
from wrong_networks import example
from wrong_passes import gradient_tree, right_pass, wrong_passes

import jaxbp
from jaxbp import Conv, Dense, Embedding, Flatten, MaxPool, Network, Scale, Transposed, Unit, check

SMALL = example("sigmoid layer", 0)
RIGHT = right_pass(SMALL)
WRONG = next(w for w in wrong_passes(SMALL) if w.slug == "missing-derivative" and w.unit == "h1").quantities
X = SMALL.x["x"]
WEIGHTS = ("grad.h1.x", "grad.h1.bias", "grad.o.h1", "grad.o.bias")
KEYS = ("W1", "b1", "W2", "b2")


def checked(mine: Any, **options: Any) -> jaxbp.Report:
    return check(SMALL.net, SMALL.loss, SMALL.params, X, SMALL.y, mine, **options)


# Layouts, written here once more.


def laid_out(layout: str, quantities: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All quantities of a network of `Dense` connections in a layout."""
    return {name: _laid_out(layout, name, np.asarray(array)) for name, array in quantities.items()}


def _laid_out(layout: str, name: str, array: np.ndarray) -> np.ndarray:
    is_weight = name.startswith("grad")
    if layout == "columns" and array.ndim == 1:
        return array[:, None]
    return array.T if layout == "columns" or (layout == "torch" and is_weight) else array


class Tensor:
    """What `check` asks of a tensor of torch's."""

    def __init__(self, values, grad=None, requires_grad=False, is_leaf=True):
        self.values, self.requires_grad, self.is_leaf = np.asarray(values), requires_grad, is_leaf
        self.grad = grad
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def detach(self):
        return Tensor(self.values)

    def cpu(self):
        return self

    def numpy(self):
        assert not self.requires_grad, "Can't call numpy() on Tensor that requires grad"
        return self.values

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("a tensor on a device has no numbers for NumPy")


class Module:
    """What `check` asks of a module of torch's, which can be called."""

    def __init__(self, parameters):
        self.parameters = parameters

    def named_parameters(self):
        yield from self.parameters.items()

    def __call__(self, x):
        raise AssertionError("a module is not called")


def parameter(gradient):
    return Tensor(np.zeros_like(gradient), Tensor(gradient), requires_grad=True)


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a tree": gradient_tree,
    "quantities": dict,
    "a list": lambda q: [q[name] for name in WEIGHTS],
    "from above": lambda q: [q[name] for name in reversed(WEIGHTS)],
    "as JAX flattens": lambda q: jax.tree.leaves(gradient_tree(q)),
    "two lists": lambda q: ([q[name] for name in WEIGHTS[1::2]], [q[name] for name in WEIGHTS[::2]]),
    "pairs": lambda q: [(q["grad.h1.x"], q["grad.h1.bias"]), (q["grad.o.h1"], q["grad.o.bias"])],
    "numbered": lambda q: {f"d{key}": q[name] for key, name in zip(KEYS, WEIGHTS, strict=True)},
    "weights first": lambda q: {key: q[name] for key, name in sorted(zip(KEYS, WEIGHTS, strict=True))},
    "in a sequence": lambda q: {
        f"layers.{2 * i}.{what}": q[WEIGHTS[2 * i + j]] for i in (1, 0) for j, what in enumerate(("weight", "bias"))
    },
    "by unit": lambda q: {
        u: {"W": q[f"grad.{u}.{s}"], "b": q[f"grad.{u}.bias"]} for u, s in (("o", "h1"), ("h1", "x"))
    },
    "lists by kind": lambda q: {"W": [q[name] for name in WEIGHTS[::2]], "b": [q[name] for name in WEIGHTS[1::2]]},
    "a function": lambda q: lambda params, x, y: [q[name] for name in WEIGHTS],
    "with the value": lambda q: lambda params, x, y: (RIGHT["loss"], gradient_tree(q)),
    "tensors": lambda q: {name: Tensor(array, requires_grad=True, is_leaf=False) for name, array in q.items()},
    "parameters": lambda q: [parameter(q[name]) for name in WEIGHTS],
    "a module": lambda q: Module({f"fc{i // 2}.{'wb'[i % 2]}": parameter(q[name]) for i, name in enumerate(WEIGHTS)}),
}


@pytest.mark.parametrize("layout", ["rows", "torch", "columns"])
def test_every_form_is_read_in_every_layout(layout):
    right = laid_out(layout, RIGHT)
    for form, made in FORMS.items():
        report = checked(made(right), layout=layout)
        assert (form, report.verdict) == (form, "right")
        names = {finding.name for finding in report.findings}
        assert names - {"loss"} == (set(RIGHT) - {"loss"} if form in ("quantities", "tensors") else set(WEIGHTS))


@pytest.mark.parametrize("layout", ["rows", "torch", "columns"])
def test_a_mistake_is_named_in_every_layout(layout):
    wrong = laid_out(layout, WRONG)
    for form in list(FORMS)[("rows", "torch", "columns").index(layout) :: 6]:
        report = checked(FORMS[form](wrong), layout=layout)
        assert report.first_wrong == ("delta.h1" if form in ("quantities", "tensors") else "grad.h1.x")
        assert ("missing-derivative", "h1") in {(m.slug, m.unit) for m in report.explanations}


def test_the_report_says_what_was_taken_for_what():
    by_key = checked(FORMS["numbered"](laid_out("torch", RIGHT)), layout="torch")
    (note,) = by_key.notes
    assert "layout='torch'" in note
    assert note.endswith("dW1 for grad.h1.x, db1 for grad.h1.bias, dW2 for grad.o.h1, db2 for grad.o.bias")
    assert checked(FORMS["a tree"](RIGHT)).notes == ()
    transposed = checked(FORMS["a list"](laid_out("torch", RIGHT)))
    assert {m.slug for m in transposed.explanations} == {"transposed"}
    assert "layout='torch'" in transposed.notes[-1]


PASSES = {
    "rows": lambda h, W, b: h @ W + b[None],
    "torch": lambda h, W, b: h @ W.T + b,
    "columns": lambda h, W, b: W @ h + b,
}


@pytest.mark.parametrize("layout", PASSES)
def test_a_function_gets_everything_in_its_layout(layout):
    def loss(params, x, y):
        apply, axis = PASSES[layout], 0 if layout == "columns" else 1
        h = jax.nn.sigmoid(apply(x, params["h1"]["x"], params["h1"]["bias"]))
        o = jax.nn.softmax(apply(h, params["o"]["h1"], params["o"]["bias"]), axis)
        return -jnp.mean(jnp.sum(y * jnp.log(o), axis))

    def mine(params, x, y):
        with jax.numpy_rank_promotion("allow"):
            return jax.grad(loss)(jax.tree.map(jnp.asarray, params), x, y)

    assert checked(mine, layout=layout).ok
    if layout == "columns":  # one example is one of them
        assert check(SMALL.net, SMALL.loss, SMALL.params, X[0], SMALL.y[0], mine, layout=layout).ok


# Images, tables, stacks.

IMAGES = Network(
    inputs={"x": (4, 3, 2)},
    units={
        "c": Unit((4, 3, 3), jaxbp.tanh, {"x": Conv((3, 2))}),
        "p": Unit((2, 3, 3), jaxbp.linear, {"c": MaxPool((2, 1))}, bias=False),
        "f": Unit(18, jaxbp.linear, {"p": Flatten()}, bias=False),
        "s": Unit(18, jaxbp.tanh, {"f": Scale()}),
        "o": Unit(2, jaxbp.softmax, {"s": Dense()}),
    },
)


@pytest.mark.slow
def test_images_are_as_torch_has_them():
    params, rng = params_of(IMAGES), np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4, 3, 2)), np.array([0, 1, 1, 0, 1])
    back = swept(IMAGES, jaxbp.cross_entropy, params, x, y)
    ours = {name: np.asarray(array) for name, array in back.quantities().items()}
    theirs: dict[str, np.ndarray] = {}
    for name, array in ours.items():
        match name.split("."):
            case [_, "x" | "c" | "p"]:
                array = np.einsum("nhwc->nchw", array)
            case ["grad", "c", "x"]:
                array = np.einsum("hwio->oihw", array)
            case [_, "f" | "s"]:  # flattened from channels, height, width
                array = np.einsum("nhwc->nchw", array.reshape(5, 2, 3, 3)).reshape(5, 18)
            case ["grad", "s", _]:
                array = np.einsum("hwc->chw", array.reshape(2, 3, 3)).ravel()
            case ["grad", "o", "s"]:
                array = np.einsum("hwco->ochw", array.reshape(2, 3, 3, 2)).reshape(2, 18)
        theirs[name] = array
    arguments = IMAGES, jaxbp.cross_entropy, params, x, y
    assert check(*arguments, theirs, layout="torch").verdict == "right"
    seen: dict[str, Any] = {}

    def mine(params, x, y):
        seen.update({"x": x, "W": params["c"]["x"], "o": params["o"]["s"]})
        return {"h.p": theirs["h.p"], "h.f": ours["h.f"]}

    # flattened from height, width, channels: which is right here, and wrong there
    assert check(*arguments, mine, layout="torch").first_wrong == "h.f"
    np.testing.assert_array_equal(seen["x"], np.einsum("nhwc->nchw", x))
    np.testing.assert_array_equal(seen["W"], np.einsum("hwio->oihw", params["c"]["x"]))
    W = np.asarray(params["o"]["s"]).reshape(2, 3, 3, 2)
    np.testing.assert_array_equal(seen["o"], np.einsum("hwco->ochw", W).reshape(2, 18))
    columns = {name: np.moveaxis(array, 0, -1) for name, array in ours.items() if name[0] not in "gl"}
    columns |= {"grad.o.s": ours["grad.o.s"].T, "grad.c.x": ours["grad.c.x"]}
    assert check(*arguments, columns, layout="columns").verdict == "right"


@pytest.mark.slow
def test_tables_and_stacks_are_in_torchs_layout():
    """The read-out is the table of tokens, which torch too has as (tokens, width); each layer is (out, in)."""
    block = Network({"x": 3}, {"u": Unit(4, jaxbp.tanh, {"x": Dense()}), "v": Unit(3, jaxbp.tanh, {"u": Dense()})})
    net = Network(
        inputs={"t": jaxbp.ids((), 5)},
        units={
            "e": Unit(3, jaxbp.linear, {"t": Embedding(5, share="table")}, bias=False),
            "blocks": jaxbp.stack(block, 2, "e"),
            "o": Unit(5, jaxbp.softmax, {"blocks": Transposed(Dense(share="table"))}, bias=False),
        },
    )
    params, t, y = params_of(net), np.array([0, 3, 4]), np.array([1, 1, 2])
    grads = jax.tree.map(np.asarray, swept(net, jaxbp.cross_entropy, params, t, y).grads)
    arguments = net, jaxbp.cross_entropy, params, t, y
    blocks = {
        u: {s: np.swapaxes(W, 1, 2) if W.ndim == 3 else W for s, W in of.items()} for u, of in grads["blocks"].items()
    }
    assert check(*arguments, {**grads, "blocks": blocks}, layout="torch").verdict == "right"
    layers = [blocks[u][s][i] for i in range(2) for u, s in (("u", "x"), ("u", "bias"), ("v", "u"), ("v", "bias"))]
    report = check(*arguments, [grads["shared"]["table"], *layers], layout="torch")
    assert report.verdict == "right"
    assert "[5] for grad.blocks.u.x[1]" in report.notes[0]


# What is not clear is refused, and what is the matter is said.

SQUARE = jaxbp.layered([3, 3, 3], hidden=jaxbp.tanh, output=jaxbp.softmax)
REFUSED = {
    "a row for a bias": (
        {"grad.o.bias": RIGHT["grad.o.bias"][None]}, "rows", "sum keep its axis? hand in grad.o.bias[0]"
    ),
    "a column for a bias": (
        {"grad.o.bias": RIGHT["grad.o.bias"][:, None]}, "rows", "rows? hand in grad.o.bias[:, 0], or layout='columns'"
    ),
    "a row for a column": (
        {"grad.o.bias": RIGHT["grad.o.bias"][None]}, "columns", "sum keep its axis? hand in grad.o.bias[0]"
    ),
    "a row among others": ([a[None] if a.ndim == 1 else a for a in FORMS["a list"](RIGHT)], "rows", "h1.bias[0]"),
    "columns for rows": ({"a.h1": RIGHT["a.h1"].T}, "rows", "columns for rows? hand in a.h1.T, or layout='columns'"),
    "rows for columns": ({"a.h1": RIGHT["a.h1"]}, "columns", "rows for columns? hand in a.h1.T, or layout='rows'"),
    "everything transposed": (
        {name: np.transpose(array) for name, array in RIGHT.items()}, "rows", "columns for rows? hand in a.h1.T"
    ),
    "another shape": ({"grad.h1.x": np.ones((2, 4))}, "torch", "expected (5, 4) in layout='torch'"),
    "too few": (
        [RIGHT["grad.h1.x"], np.ones((7, 7))], "rows", "fit the weights in no usual order: got [0] of shape (4, 5)"
    ),
    "not clear by its key": ({"W": RIGHT["grad.h1.x"], "delta.o": 0}, "rows", "there is no quantity 'W'"),
    "no gradient": ([*FORMS["a list"](RIGHT)[:3], None], "rows", "[3] is None: there is no gradient"),
    "no .grad": ({"fc2.bias": Tensor(np.ones(3), None, True)}, "rows", "fc2.bias is a tensor whose .grad is None"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_a_hint(case):
    mine, layout, says = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(says)):
        checked(mine, layout=layout)


def test_equal_shapes_are_told_apart_by_numbers_alone():
    params, rng = params_of(SQUARE), np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    grads = swept(SQUARE, jaxbp.cross_entropy, params, x, y).grads
    h1, o = grads["h1"], grads["o"]
    arguments = SQUARE, jaxbp.cross_entropy, params, x, y
    with pytest.raises(ValueError, match=r"not clear .*\[0\] for grad.h1.x.*; or \[0\] for grad.o.h1") as raised:
        check(*arguments, [h1["x"], h1["bias"], o["h1"], o["bias"]])
    assert "{'grad.h1.x': …}" in str(raised.value)
    for mine in ({"b2": o["bias"], "W2": o["h1"], "b1": h1["bias"], "W1": h1["x"]}, {"dW2": o["h1"]}):
        assert check(*arguments, mine).verdict == "right"


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X.T, SMALL.y, "columns for rows? hand in x.T"),
        ({"x": X.T}, SMALL.y, "columns for rows? hand in x['x'].T"),
        (X, SMALL.y.T, "columns for rows? hand in y.T"),
        (X, np.zeros((1, len(X)), int), "hand in y.ravel()"),
        (X, np.zeros((len(X), 1), int), "hand in y.ravel()"),
    ],
)
def test_data_in_columns_gets_a_hint(x, y, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        check(SMALL.net, SMALL.loss, SMALL.params, x, y, gradient_tree(RIGHT))


@pytest.mark.slow
def test_a_function_of_ones_own_is_checked_by_the_grad_of_its_tensors():
    params = {"w": jnp.array([1.0, -2.0])}

    def f(params):
        return jnp.sum(params["w"] ** 2)

    assert jaxbp.check_function(f, params, {"w": parameter(np.array([2.0, -4.0]))}).verdict == "right"
    assert jaxbp.check_function(f, params, Module({"w": parameter(np.array([2.0, 4.0]))})).first_wrong == "w"
    with pytest.raises(ValueError, match=r"w is a tensor whose \.grad is None"):
        jaxbp.check_function(f, params, {"w": Tensor(np.ones(2), None, True)})


# Dropout.

NOISY = Network(
    inputs={"x": 4},
    units={
        "h1": Unit(6, jaxbp.tanh, {"x": Dense()}, dropout=0.5),
        "h2": Unit(6, jaxbp.softmax, {"h1": Dense()}, dropout=0.25),
        "o": Unit(3, jaxbp.softmax, {"h2": Dense()}),
    },
)


@pytest.mark.slow
def test_dropout_is_checked_with_its_key():
    params, key, rng = params_of(NOISY), jax.random.key(3), np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)), np.array([0, 1, 2, 0, 1])
    back = jax.jit(lambda *given: jaxbp.backprop(NOISY, jaxbp.cross_entropy, *given, key=key))(params, x, y)
    arguments = NOISY, jaxbp.cross_entropy, params, x, y
    assert check(*arguments, back.quantities(), key=key).verdict == "right"
    noise = np.asarray(back.trace.noise["h1"])
    anew = 2.0 * np.roll(noise > 0, 1, axis=0)
    delta = (1 - np.tanh(back.trace.a["h1"]) ** 2) * np.asarray(back.Delta["h1"])
    for factor, slug in (
        (1.0, "dropout-mask-forgotten"), (2.0, "dropout-mask-forgotten"), (noise > 0, "dropout-scale-forgotten"),
        (anew, "dropout-drawn-anew"),
    ):  # fmt: skip
        report = check(*arguments, {"delta.h1": factor * delta}, key=key)
        assert (report.first_wrong, report.explanations[0].slug) == ("delta.h1", slug)
    gradients = {"h1": {"x": x.T @ delta, "bias": delta.sum(0)}, **{u: back.grads[u] for u in ("h2", "o")}}
    assert check(*arguments, gradients, key=key).explanations[0].slug == "dropout-mask-forgotten"
