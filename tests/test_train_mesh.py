"""Training on several devices: the same numbers, a divided batch, and no collectives but those that it needs."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import case_named
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxbp
from jaxbp import train
from jaxbp.train._data import Batch, divided
from jaxbp.train._placement import Placement
from jaxbp.train._steps import Rule, _compiled_step, compiled_steps

pytestmark = pytest.mark.skipif(len(jax.devices()) < 4, reason="needs 4 devices: set JAX_NUM_CPU_DEVICES=4")

NET = jaxbp.Network(
    inputs={"x": 8},
    units={
        "up": jaxbp.Unit(16, jaxbp.tanh, {"x": jaxbp.Dense()}, dropout=0.25),
        "down": jaxbp.Unit(8, jaxbp.linear, {"up": jaxbp.Dense()}),
        "o": jaxbp.Unit(4, jaxbp.softmax, {"down": jaxbp.Dense(), "x": jaxbp.Dense()}),
    },
)
LOSS, ADAM = jaxbp.cross_entropy, optax.adam(1e-2)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 8))
Y = np.argmax(X[:, :4], axis=1)
KEY = jax.random.key(0)


def megatron(name, shape):
    """The units between are divided: columns of what goes up, rows of what comes down."""
    return {"up.x": P(None, "model"), "up.bias": P("model"), "down.up": P("model", None)}.get(name)


MESHES = {
    "1": ((1,), ("data",)),
    "2": ((2,), ("data",)),
    "4": ((4,), ("devices",)),
    "2x2": ((2, 2), ("data", "model")),
}
PLACES = [(name, layout) for name in ("1", "2", "4") for layout in ("replicated", "sharded")] + [("2x2", megatron)]
KINDS = [pytest.param(AxisType.Auto, id="auto"), pytest.param(AxisType.Explicit, id="explicit")]


def mesh_of(name, axis_type=AxisType.Auto):
    shape, names = MESHES[name]
    return jax.make_mesh(shape, names, axis_types=(axis_type,) * len(shape), devices=jax.devices()[: np.prod(shape)])


def trained(net=NET, x=X, y=Y, **options):
    options = {"optimizer": ADAM, "batch_size": 8, "key": KEY, "epochs": 20} | options
    *_, last = train.run(net, LOSS, x, y, **options)
    return last


@pytest.fixture(scope="module")
def on_one_device():
    return trained()


IN_THE_QUICK_RUN = [
    ("4", "replicated", AxisType.Auto), ("4", "sharded", AxisType.Explicit), ("2x2", megatron, AxisType.Auto),
]  # fmt: skip
EVERYWHERE = [
    pytest.param(*place, *kind.values, marks=[pytest.mark.slow] * ((*place, *kind.values) not in IN_THE_QUICK_RUN))
    for place in PLACES
    for kind in KINDS
]


@pytest.mark.parametrize(("name", "layout", "axis_type"), EVERYWHERE)
def test_100_steps_on_a_mesh_are_those_on_one_device(on_one_device, name, layout, axis_type):
    mesh = mesh_of(name, axis_type)
    done = trained(mesh=mesh, layout=layout, chunk=3 if name == "4" else None)
    assert done.state.step == 100
    chex.assert_trees_all_close(done.state.params, on_one_device.state.params, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(done.steps.loss, on_one_device.steps.loss, rtol=1e-12)
    lies = {"replicated": P(), "sharded": P(None, mesh.axis_names[0])}.get(layout, P(None, "model"))
    for tree in (done.state.params, done.state.opt_state[0].mu):
        assert tree["up"]["x"].sharding.is_equivalent_to(NamedSharding(mesh, lies), 2)


def collectives(compiled):
    """Kind and number of the collectives in a program."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
    found = re.findall(rf" ({kinds})(?:-start)?\(", compiled.as_text())
    return {kind: found.count(kind) for kind in found}


def compiled_step(mesh, layout, gradient=None):
    net = jaxbp.layered([8, 16, 4], hidden=jaxbp.tanh, output=jaxbp.softmax)
    gradient = gradient or jaxbp.value_and_grad(net, LOSS)
    place = Placement(mesh, layout)
    state = train.init_state(KEY, net, ADAM)
    state = jax.device_put(state, place.of_state(state))
    batch = jax.device_put(Batch(jnp.asarray(X[:8]), jnp.asarray(Y[:8])), place.rows())
    return _compiled_step(Rule(gradient, ADAM, False, None, place)).lower(state, batch).compile(), state


@pytest.mark.parametrize("axis_type", KINDS)
def test_a_replicated_step_has_one_all_reduce(axis_type):
    compiled, _ = compiled_step(mesh_of("4", axis_type), "replicated")
    assert collectives(compiled) == {"all-reduce": 1}


@pytest.mark.parametrize("axis_type", KINDS)
def test_a_sharded_step_gathers_parameters_and_sums_gradients(axis_type):
    """XLA's CPU sums all gradients and takes a slice, where an accelerator scatters the sum."""
    compiled, state = compiled_step(mesh_of("4", axis_type), "sharded")
    assert set(collectives(compiled)) == {"all-gather", "all-reduce"}
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert compiled.memory_analysis().argument_size_in_bytes < held / 2


def flops(mesh, within):
    """Of the program that one device has of a step, as `run` compiles it, or within a program of the caller's."""
    net = jaxbp.layered([64, 256, 64, 16], hidden=jaxbp.tanh, output=jaxbp.softmax)
    place = None if mesh is None else Placement(mesh, "replicated")
    gradient, sgd = jaxbp.value_and_grad(net, LOSS), optax.sgd(0.1)
    state, data = train.init_state(KEY, net, sgd), Batch(jnp.ones((256, 64)), jnp.zeros(256, int))
    if within:
        step = jax.jit(partial(train.step, gradient=gradient, optimizer=sgd, mesh=mesh))
        return step.lower(state, data.x, data.y).compile().cost_analysis()["flops"]
    rows = jnp.arange(256).reshape(1, 256)
    if place is not None:
        state, data, rows = jax.device_put((state, data, rows), place.replicated)
    program = compiled_steps(Rule(gradient, sgd, False, None, place)).lower(state, data, rows, 0, 1)
    return program.compile().cost_analysis()["flops"]


@pytest.mark.parametrize("within", [False, True], ids=["run", "a step within jit"])
def test_four_devices_share_the_work(within):
    """A program of each computes a quarter; where nothing is divided, each computes all."""
    assert flops(mesh_of("4"), within) <= 0.27 * flops(None, within)


@pytest.mark.parametrize(
    ("layout", "axis_type"),
    [
        ("sharded", AxisType.Explicit),
        pytest.param("replicated", AxisType.Auto, marks=pytest.mark.slow),
        pytest.param("sharded", AxisType.Auto, marks=pytest.mark.slow),
        pytest.param("replicated", AxisType.Explicit, marks=pytest.mark.slow),
    ],
)
def test_step_and_epoch_take_a_mesh(axis_type, layout):
    gradient = jaxbp.value_and_grad(NET, LOSS)
    step = partial(train.step, gradient=gradient, optimizer=ADAM, keyed=True)
    epoch = partial(train.epoch, gradient=gradient, optimizer=ADAM, batch_size=8, keyed=True)
    mesh, x, y = mesh_of("4", axis_type), jnp.asarray(X), jnp.asarray(Y)
    start = partial(train.init_state, KEY, NET, ADAM)
    for do in (step, epoch):
        alone, _ = do(start(), x, y)
        together, _ = do(start(), x, y, mesh=mesh, layout=layout)
        chex.assert_trees_all_close(together.params, alone.params, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "axis_type"),
    [
        ("padded tokens", AxisType.Explicit),
        pytest.param("padded tokens", AxisType.Auto, marks=pytest.mark.slow),
        pytest.param("tied convolution", AxisType.Auto, marks=pytest.mark.slow),
        pytest.param("tied convolution", AxisType.Explicit, marks=pytest.mark.slow),
        pytest.param("stacks", AxisType.Auto, marks=pytest.mark.slow),
        pytest.param("stacks", AxisType.Explicit, marks=pytest.mark.slow),
    ],
)
def test_any_network_trains_on_a_mesh(name, axis_type):
    case = case_named(name)
    params, x, y, weights = case.arguments(jnp.float64)
    x, y, weights = jax.tree.map(lambda v: jnp.concatenate([v] * 4), (x, y, weights))
    options = {"optimizer": ADAM, "batch_size": 4, "epochs": 2, "weights": weights, "drop_last": True}
    state = train.init_state(KEY, case.net, ADAM, params=params)
    for layout in ("replicated", "sharded"):
        alone, together = (
            list(train.run(case.net, case.loss, x, y, state=state, **options, **place))[-1]
            for place in ({}, {"mesh": mesh_of("4", axis_type), "layout": layout})
        )
        chex.assert_trees_all_close(together.state.params, alone.state.params, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "axis_type", [AxisType.Explicit, pytest.param(AxisType.Auto, marks=pytest.mark.slow)], ids=["explicit", "auto"]
)
def test_a_divergence_on_a_mesh_names_the_unit(axis_type):
    blows_up = optax.scale_by_schedule(lambda count: jnp.where(count == 1, jnp.nan, 0.0))
    with pytest.raises(train.DivergedError, match="in epoch 1 at step 3: up is the first"):
        trained(mesh=mesh_of("2x2", axis_type), layout=megatron, optimizer=blows_up)


@pytest.mark.parametrize("axis_type", KINDS)
def test_validation_data_are_divided_too(axis_type):
    """Of any number of examples."""
    net = jaxbp.layered([8, 4], hidden=(), output=jaxbp.softmax)
    options = {"batch_size": 8, "epochs": 1, "validation": (X[:27], Y[:27]), "drop_last": True}
    alone, together = (train.fit(net, LOSS, X, Y, **options, **on) for on in ({}, {"mesh": mesh_of("4", axis_type)}))
    for name in ("validation_loss", "validation_accuracy"):
        assert together.history[-1][name] == pytest.approx(alone.history[-1][name], rel=1e-12)
    data = divided(Batch(X[:27], Y[:27]), Placement(mesh_of("4"), "replicated"))
    assert data.x.sharding.shard_shape(data.x.shape) == (7, 8)
    assert data.weights.tolist() == [1.0] * 27 + [0.0]


def matrices(params):
    return jax.tree.map(lambda W: W.ndim > 1, params)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.masked(optax.adam(1e-2), matrices),
        optax.multi_transform(
            {True: optax.adam(1e-2), False: optax.sgd(0.1)}, lambda params: jax.tree.map(bool, matrices(params))
        ),
        optax.adafactor(1e-2),
    ],
    ids=["masked", "one of several", "adafactor"],
)
def test_what_an_optimizer_keeps_lies_as_the_parameters_whatever_its_form(optimizer):
    net = jaxbp.layered([8, 16, 4], hidden=jaxbp.tanh, output=jaxbp.softmax)
    alone = trained(net, optimizer=optimizer, epochs=1)
    together = trained(net, optimizer=optimizer, epochs=1, mesh=mesh_of("4"), layout="sharded")
    chex.assert_trees_all_close(together.state.params, alone.state.params, rtol=1e-11, atol=1e-13)
    of_matrix = [v for v in jax.tree.leaves(together.state.opt_state) if v.shape == (8, 16)]
    assert not any(v.sharding.is_fully_replicated for v in of_matrix)


REFUSED = [
    ({"mesh": "4", "batch_size": 6}, ValueError, "a batch has 6 examples, which the 4 devices .* cannot divide"),
    ({"mesh": "4", "batch_size": 12, "x": X[:26], "y": Y[:26]}, ValueError, "the last batch of an epoch has 2 exam"),
    ({"mesh": "2x2"}, ValueError, "nothing is divided along 'model' of the mesh, so its devices would repeat"),
    ({"mesh": "4", "layout": "halved"}, ValueError, "layout must be 'replicated', 'sharded', or a function"),
    ({"layout": "sharded"}, ValueError, "a layout is how the state lies on a mesh, and there is none"),
    ({"mesh": 4}, TypeError, "mesh must be a jax.sharding.Mesh"),
    ({"mesh": "2x2", "layout": lambda name, shape: "model"}, TypeError, "the layout of 'down.bias' must be a jax"),
    ({"mesh": "2x2", "layout": lambda name, shape: P("rows")}, ValueError, "names the axis 'rows'; the mesh has"),
    ({"mesh": "2x2", "layout": lambda name, shape: P(*["model"] * 3)}, ValueError, "more axes than its shape"),
    ({"mesh": "4", "layout": lambda name, shape: P("devices"), "net": jaxbp.layered([8, 6, 4], output=jaxbp.softmax)},
     ValueError, r"the layout of 'h1\.bias' divides an axis of 6 by 4"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_placements_that_make_no_sense_are_refused(options, error, message):
    options = dict(options)
    if options.get("mesh") in MESHES:
        options["mesh"] = mesh_of(options["mesh"])
    with pytest.raises(error, match=message):
        trained(**options)


def test_a_mesh_without_an_axis_for_the_batch_is_refused():
    mesh = jax.make_mesh((2, 2), ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)
    with pytest.raises(ValueError, match=r"which of them divides the batch\? Call that one 'data'"):
        trained(mesh=mesh)
    mixed = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Explicit))
    with pytest.raises(ValueError, match="the axes of the mesh are of different kinds"):
        trained(mesh=mixed)
