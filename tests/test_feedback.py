"""Feedback: what stands in for W in the backward recursion, and how far it points away from backpropagation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import case_named, params_of, swept
from reference import relative_error

import jaxbp

CASE = case_named("skip connection")
NET, LOSS = CASE.net, CASE.loss
PARAMS, X, Y, _ = CASE.arguments(jnp.float64)


def sweep(feedback, net=NET, params=PARAMS, x=X, y=Y, loss=LOSS):
    return swept(net, loss, params, x, y, feedback=feedback)


def test_random_feedback_replaces_every_matrix_of_the_recursion_and_nothing_else():
    B = jaxbp.feedback.random_feedback(jax.random.key(1), NET)
    back = sweep(B)
    a, h, d = back.trace.a, back.trace.h, back.delta
    o, truth = h["o"], sweep(None)
    np.testing.assert_allclose(d["o"], truth.delta["o"], rtol=1e-12)
    Delta_2 = d["o"] @ B["o"]["h2"].T
    delta_2 = h["h2"] * (1 - h["h2"]) * Delta_2
    Delta_1 = d["o"] @ B["o"]["h1"].T + delta_2 @ B["h2"]["h1"].T
    delta_1 = (1 - h["h1"] ** 2) * Delta_1
    Delta_x = d["o"] @ B["o"]["x"].T + delta_1 @ B["h1"]["x"].T
    for ours, theirs in ((back.Delta["h2"], Delta_2), (d["h1"], delta_1), (back.Delta["x"], Delta_x)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(back.grads["h1"]["x"], X.T @ delta_1, rtol=1e-12)
    np.testing.assert_allclose(a["o"], truth.trace.a["o"], rtol=1e-15)
    assert o.shape == truth.trace.h["o"].shape
    assert relative_error(back.grads["h1"], truth.grads["h1"]) > 0.1


def test_direct_feedback_sends_the_outputs_signal_to_each_unit():
    B = jaxbp.feedback.direct_feedback(jax.random.key(1), NET)
    assert {u: M.shape for u, M in B.matrices.items()} == {"h1": (3, 5), "h2": (3, 3)}
    back, h = sweep(B), sweep(B).trace.h
    np.testing.assert_allclose(back.Delta["h1"], back.delta["o"] @ B.matrices["h1"], rtol=1e-12)
    np.testing.assert_allclose(back.delta["h2"], h["h2"] * (1 - h["h2"]) * back.Delta["h2"], rtol=1e-12)
    np.testing.assert_allclose(back.grads["h2"]["h1"], h["h1"].T @ back.delta["h2"], rtol=1e-12)
    # an input's signal comes from its readers
    expected = back.delta["o"] @ PARAMS["o"]["x"].T + back.delta["h1"] @ PARAMS["h1"]["x"].T
    np.testing.assert_allclose(back.Delta["x"], expected, rtol=1e-12)


def test_direct_feedback_through_the_products_of_a_linear_network_is_backpropagation():
    net = jaxbp.layered([3, 4, 5, 2], hidden=jaxbp.linear, output=jaxbp.linear)
    params = params_of(net)
    x, y = jax.random.normal(jax.random.key(1), (5, 3)), jnp.ones((5, 2))
    W2, W3 = params["h2"]["h1"], params["o"]["h2"]
    B = jaxbp.feedback.DirectFeedback({"h1": (W2 @ W3).T, "h2": W3.T})
    ours = sweep(B, net, params, x, y, jaxbp.squared_error)
    theirs = sweep(None, net, params, x, y, jaxbp.squared_error)
    assert relative_error((ours.Delta, ours.grads), (theirs.Delta, theirs.grads)) <= 1e-12


def test_direct_feedback_takes_units_with_several_axes():
    case = case_named("sequence")
    params, x, y, _ = case.arguments(jnp.float64)
    B = jaxbp.feedback.direct_feedback(jax.random.key(0), case.net)
    back = sweep(B, case.net, params, x, y, case.loss)
    assert B.matrices["h1"].shape == (6, 15)
    expected = np.asarray(back.delta["o"]).reshape(5, 6) @ np.asarray(B.matrices["h1"])
    np.testing.assert_allclose(np.asarray(back.Delta["h1"]).reshape(5, 15), expected, rtol=1e-12)


def test_sign_symmetric_feedback_has_the_signs_of_the_weights_alone():
    B = jaxbp.feedback.random_feedback(jax.random.key(1), NET)
    S = jaxbp.feedback.sign_symmetric(PARAMS, B)
    assert relative_error(jax.tree.map(jnp.abs, S), jax.tree.map(jnp.abs, B)) == 0
    assert relative_error(jax.tree.map(jnp.sign, S["o"]), jax.tree.map(jnp.sign, PARAMS["o"])) == 0


def test_angles_are_those_between_the_signals_of_each_example():
    own = jaxbp.feedback.alignment_angles(NET, LOSS, PARAMS, PARAMS, X, Y)
    assert list(own) == ["h2", "h1"]
    assert max(own.values()) < 1e-5
    B = jaxbp.feedback.random_feedback(jax.random.key(1), NET)
    found = jaxbp.feedback.alignment_angles(NET, LOSS, PARAMS, B, X, Y)
    ours, theirs = sweep(B).delta, sweep(None).delta
    for u in ("h1", "h2"):
        u_, v_ = np.asarray(ours[u]), np.asarray(theirs[u])
        cosines = np.sum(u_ * v_, axis=1) / (np.linalg.norm(u_, axis=1) * np.linalg.norm(v_, axis=1))
        np.testing.assert_allclose(found[u], np.degrees(np.arccos(cosines)).mean(), rtol=1e-9)


def test_an_example_without_a_signal_has_no_angle():
    net = jaxbp.layered([2, 3, 1], hidden=jaxbp.relu, output=jaxbp.linear, bias=False)
    params = {"h1": {"x": jnp.ones((2, 3))}, "o": {"h1": jnp.ones((3, 1))}}
    B = params | {"o": {"h1": jnp.array([[1.0], [1.0], [-1.0]])}}
    x, y = jnp.array([[1.0, 1.0], [-1.0, -1.0]]), jnp.zeros((2, 1))  # all three are off for the second
    angle = jaxbp.feedback.alignment_angles(net, jaxbp.squared_error, params, B, x, y)["h1"]
    np.testing.assert_allclose(angle, np.degrees(np.arccos(1 / 3)), rtol=1e-12)


def test_feedback_alignment_aligns_and_fresh_feedback_does_not():
    """What is claimed of it: the weights come to fit the feedback, so the angle falls well below 90°."""
    net = jaxbp.layered([10, 20, 4], hidden=jaxbp.linear, output=jaxbp.linear, bias=False)
    params = jax.tree.map(lambda W: 0.01 * W, params_of(net))
    x = jax.random.normal(jax.random.key(1), (64, 10))
    y = x @ jax.random.normal(jax.random.key(2), (10, 4))
    B = jaxbp.feedback.random_feedback(jax.random.key(3), net)
    gradient = jaxbp.value_and_grad(net, jaxbp.squared_error)

    @jax.jit
    def angle_after(params, redraw):
        def step(params, key):
            fresh = jaxbp.feedback.random_feedback(key, net)
            used = jax.tree.map(lambda fixed, new: jnp.where(redraw, new, fixed), B, fresh)
            grads = gradient(params, x, y, feedback=used)[1]
            return jax.tree.map(lambda W, g: W - 0.05 * g, params, grads), None

        params, _ = jax.lax.scan(step, params, jax.random.split(jax.random.key(4), 300))
        return jaxbp.feedback.alignment_angles(net, jaxbp.squared_error, params, B, x, y)["h1"]

    assert angle_after(params, False) < 45
    assert angle_after(params, True) > 70


def test_kolen_pollack_brings_weights_and_feedback_together():
    rate, decay = 0.1, 0.5
    rule = optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))
    B = jaxbp.feedback.random_feedback(jax.random.key(1), NET)
    state = jaxbp.train.init_state(jax.random.key(2), NET, rule, params=(PARAMS, B))
    gradient = jaxbp.train.kolen_pollack(NET, LOSS)
    assert gradient is jaxbp.train.kolen_pollack(NET, LOSS, "mean")
    state, _ = jaxbp.train.epoch(state, X, Y, gradient=gradient, optimizer=rule, batch_size=1)
    W, after = state.params
    before = jax.tree.map(jnp.subtract, PARAMS, B)
    shrunk = jax.tree.map(lambda difference: difference * (1 - rate * decay) ** 5, before)
    assert relative_error(jax.tree.map(jnp.subtract, W, after), shrunk) <= 1e-12


def test_feedback_of_another_network_is_refused_by_name():
    other = jaxbp.layered([4, 5, 3], output=jaxbp.softmax)
    tree, direct = (
        jaxbp.feedback.random_feedback(jax.random.key(0), other),
        jaxbp.feedback.direct_feedback(jax.random.key(0), other),
    )
    with pytest.raises(ValueError, match="feedback holds the units 'h1', 'o', but the network has"):
        sweep(tree)
    with pytest.raises(
        ValueError, match="direct feedback holds matrices to 'h1', but below its output the network has"
    ):
        sweep(direct)
    with pytest.raises(ValueError, match=r"feedback.matrices\['h2'\] has shape \(3, 4\), expected \(3, 3\)"):
        sweep(jaxbp.feedback.DirectFeedback({"h1": jnp.ones((3, 5)), "h2": jnp.ones((3, 4))}))
    with pytest.raises(TypeError, match=r"feedback\.matrices is of type list, expected a dict by unit"):
        sweep(jaxbp.feedback.DirectFeedback([jnp.ones((3, 5))]))
    with pytest.raises(ValueError, match="take both from the same network"):
        jaxbp.feedback.sign_symmetric(PARAMS, tree)
