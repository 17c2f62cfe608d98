"""The Laplace posterior by Kronecker factors against the dense one, in float64, where the factors are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp
from jaxbp import Conv, Dense, Unit, train

KEY, MSE, TAU = jax.random.key(0), jaxbp.squared_error, 0.7
LINEAR = jaxbp.layered([3, 4, 2], hidden=jaxbp.linear, output=jaxbp.linear)
ONE = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
CASES = {"linear": (LINEAR, MSE, 6), "one example": (ONE, jaxbp.cross_entropy, 1)}


def flat(tree, unit, axes=0):
    """The weights into a unit, as `(…, sources and the bias, width)`, in a row."""
    (source,) = [name for name in tree[unit] if name != "bias"]
    rows = jnp.concatenate([tree[unit][source], tree[unit]["bias"][..., None, :]], axis=-2)
    return rows.reshape(*rows.shape[:axes], -1)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_variances_and_samples_are_those_of_the_dense_posterior(name, last):
    net, loss, N = CASES[name]
    x, seen = jax.random.normal(KEY, (N, 3)), jax.random.normal(KEY, (4, 3))
    y = jnp.ones((N, 2)) if loss is MSE else jnp.zeros(N, int)
    params = jaxbp.init_params(KEY, net)

    @jax.jit
    def found(params, x, y, seen):
        def output(params, x):
            return jaxbp.forward(net, params, x).a["o"]

        def of_output(a):
            return jnp.sum(loss.value(a, y)) if loss is MSE else -jnp.sum(jax.nn.log_softmax(a)[:, 0])

        J, J_seen = (jax.jacobian(output)(params, inputs) for inputs in (x, seen))
        H = jax.hessian(of_output)(output(params, x))
        covariances, truth = {}, 0.0
        for u in ("o",) if last else ("h1", "o"):
            of, of_seen = (flat(tree, u, 2) for tree in (J, J_seen))
            precision = jnp.einsum("nkp,nkml,mlq->pq", of, H, of) + TAU * jnp.eye(of.shape[-1])
            covariances[u] = jnp.linalg.inv(precision)
            truth = truth + jnp.einsum("nkp,pq,nlq->nkl", of_seen, covariances[u], of_seen)
        posterior = train.laplace(net, loss, params, x, y, prior_precision=TAU, last=last)
        samples = jax.vmap(posterior.sample)(jax.random.split(KEY, 20_000))
        return posterior.predict(seen), truth, covariances, samples

    (mean, covariance), truth, covariances, samples = found(params, x, y, seen)
    np.testing.assert_allclose(mean, jaxbp.forward(net, params, seen).a["o"], rtol=1e-12)
    np.testing.assert_allclose(covariance, truth, rtol=1e-9, atol=1e-12)
    for u, of_unit in covariances.items():
        drawn = np.asarray(flat(samples, u, 1))
        assert np.abs(np.cov(drawn.T) - of_unit).max() < 0.06 < np.abs(of_unit).max()
        np.testing.assert_allclose(drawn.mean(0), flat(params, u), atol=0.06)
    assert last == (np.ptp(samples["h1"]["x"], axis=0).max() == 0)


@pytest.mark.parametrize(
    ("inputs", "unit", "says"),
    [
        ((4, 3), Unit((4, 2), jaxbp.linear, {"x": Dense()}), "no rule for 'o', of shape \\(4, 2\\)"),
        ((4, 3), Unit((4, 2), jaxbp.linear, {"x": Conv((3,))}), "no rule for 'o', of shape \\(4, 2\\)"),
        ((3,), Unit((3,), jaxbp.linear, {"x": jaxbp.Scale()}, bias=False), "no rule for Scale connections"),
        ((3,), jaxbp.stack(jaxbp.layered([3, 3], output=jaxbp.linear), 2, "x"), "stands in a stack"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(inputs, unit, says):
    net = jaxbp.Network({"x": inputs}, {"o": unit})
    params = jaxbp.init_params(KEY, net)
    with pytest.raises((TypeError, ValueError), match=says):
        train.laplace(net, MSE, params, jnp.ones((2, *inputs)), jnp.ones((2, *net.shapes["o"])))
