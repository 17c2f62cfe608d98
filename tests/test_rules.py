"""Every custom rule of a program is found and judged: the wrong ones with their places, and no right one accused."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ruled import HALVED, PLACES, RULED, X, Y, product, rectified, sine, sine_halved, sine_negated

import jaxbp
from jaxbp.testing import assert_rules_right

NARROW = jnp.asarray(X, jnp.float32)


def applied(fixed, args):
    filled = (
        [mine if is_fixed else x for mine, x, is_fixed in zip(ruled.args, given, of, strict=True)]
        for ruled, given, of in zip(RULED, args, fixed, strict=True)
    )
    return [ruled.function(*given) for ruled, given in zip(RULED, filled, strict=True)]


def numbers(fixed):
    return [
        [0 if is_fixed else x for x, is_fixed in zip(ruled.args, of, strict=True)]
        for ruled, of in zip(RULED, fixed, strict=True)
    ]


@pytest.fixture(scope="module")
def together():
    """All rules of the table in one program: JAX compiles it once."""
    fixed = [[callable(x) or isinstance(x, int) for x in ruled.args] for ruled in RULED]
    report = jaxbp.check_rules(lambda args: applied(fixed, args), numbers(fixed))
    return report, {rule.name: rule for rule in report.rules}


@pytest.mark.parametrize("ruled", RULED, ids=lambda ruled: ruled.name)
def test_each_rule_gets_the_verdict_it_deserves(together, ruled):
    rule = together[1][ruled.name]
    assert rule.verdict == ruled.verdict, rule
    assert rule.place.endswith(f"ruled.py:{PLACES[ruled.name]}")
    if ruled.argument or ruled.why:
        assert ruled.why in dict(rule.why).get(ruled.argument, ""), rule
    wrong = [finding.name for finding in rule.findings if finding.status == "wrong"]
    assert bool(wrong) == (ruled.verdict == "wrong" and bool(ruled.argument))
    assert ruled.argument in wrong or ruled.verdict != "wrong" or not ruled.argument


def test_the_table_is_large_and_the_report_has_the_wrong_ones_first(together):
    report, _ = together
    assert len(RULED) >= 60
    assert len(report.rules) == len(RULED)
    verdicts = [rule.verdict for rule in report.rules]
    assert verdicts == sorted(verdicts, key=lambda verdict: verdict != "wrong")
    assert not report.ok
    assert len(report.wrong) == sum(ruled.verdict == "wrong" for ruled in RULED)
    text = str(report)
    assert text.index("product_swapped") < text.index("running_sum ")
    assert "gradients-swapped: the gradients w and x are exchanged" in text


def test_a_single_element_is_placed():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: ((g * jnp.cos(x)).at[2, 1].mul(3),))
    (rule,) = jaxbp.check_rules(f, X).rules
    (finding,) = rule.findings
    assert (finding.name, finding.index, finding.off, finding.size) == ("x", (2, 1), 1, 12)
    assert finding.mine == pytest.approx(3 * finding.expected)


MESH = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])


def scanned(f):
    return lambda x: jax.lax.scan(lambda c, row: (c + f(row), c), 0 * x[0], x)


def looped(f):
    return lambda x: jax.lax.while_loop(lambda s: s[1] < 5, lambda s: (f(s[0]), s[1] + 1), (x, 0))


def branched(f):
    return lambda x: jax.lax.cond(x[0, 0] > 1e6, lambda x: product(x, x), f, x)


def sharded(f):
    return jax.shard_map(
        lambda x: jax.lax.psum(f(x), "i"), mesh=MESH, in_specs=jax.P("i"), out_specs=jax.P(), check_vma=True
    )


THROUGH = {
    "jit": (jax.jit, 1),
    "scan": (scanned, 4),
    "while": (looped, 5),
    "cond": (branched, 1),
    "vmap": (jax.vmap, 1),
    "remat": (jax.checkpoint, 1),
    "shard_map": (sharded, 1),
    "scan of cond in jit": (lambda f: jax.jit(scanned(lambda row: branched(f)(row[None])[0])), 4),
}


@pytest.mark.parametrize("through", THROUGH)
def test_rules_are_found_through(through):
    wrap, times = THROUGH[through]
    report = jaxbp.check_rules(wrap(lambda x: sine_halved(sine(x))), X)
    rules = {rule.name: rule for rule in report.rules}
    assert rules["sine_halved"].verdict == "wrong"
    assert rules["sine_halved"].uses == times
    assert dict(rules["sine_halved"].why)["x"] == HALVED
    assert rules["sine"].verdict == "right"
    if "cond" in through:
        assert rules["product"].verdict == "not judged"


def test_only_a_late_iteration_is_wrong():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.where(x > 8, 2.0, jnp.cos(x)),))
    (rule,) = jaxbp.check_rules(lambda x: jax.lax.scan(lambda c, _: (c + 1, f(c)), x, None, 10)[1], jnp.zeros(2)).rules
    assert rule.verdict == "wrong"


def test_one_array_for_two_arguments_counts_once():
    product_missing_half = jax.custom_vjp(lambda x, w: x * w)
    product_missing_half.defvjp(lambda x, w: (x * w, (x, w)), lambda r, g: (2 * g * r[1], None))
    (rule,) = jaxbp.check_rules(lambda x: product_missing_half(x, x), X).rules
    assert rule.verdict == "on purpose"
    (rule,) = jaxbp.check_rules(product_missing_half, X, Y).rules
    assert rule.verdict == "wrong"


def test_what_jax_and_optax_bring_is_not_accused():
    def f(x, ids):
        z = jax.nn.relu(x) + jax.nn.silu(x) + jax.nn.gelu(x) + jax.nn.softplus(x) + jax.nn.relu6(x)
        z = z + jax.nn.log_softmax(jax.scipy.special.xlogy(jnp.abs(x) + 1, jnp.abs(x) + 1)) + jnp.sinc(x)
        loss = optax.softmax_cross_entropy_with_integer_labels(z, ids) + jax.nn.logsumexp(z, -1)
        return loss + optax.losses.safe_softmax_cross_entropy(z, jax.nn.softmax(x)) + optax.safe_norm(z, 1e-3, axis=-1)

    report = assert_rules_right(f, NARROW.at[0, 0].set(0), jnp.array([0, 1, 2, 1]))
    assert len(report.rules) >= 6
    assert {rule.verdict for rule in report.rules} <= {"right", "precision", "kink"}


def test_our_own_function_is_right():
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.relu, output=jaxbp.softmax)
    params, f = jaxbp.init_params(jax.random.key(0), net), jaxbp.as_function(net)
    rule, inner = jaxbp.check_rules(f, params, X).rules
    assert (rule.name, rule.verdict, inner.name, inner.verdict) == ("explicit", "right", "relu", "right")
    assert {finding.name for finding in rule.findings} >= {"params['h1']['x']", "x"}


def test_modules_are_arguments_too():
    model = eqx.nn.MLP(3, 2, 4, 1, activation=sine_negated, key=jax.random.key(0))
    report = jaxbp.check_rules(jax.vmap(model), X)
    assert [rule.name for rule in report.wrong] == ["sine_negated"]
    report = jaxbp.check_rules(lambda model, x: jax.vmap(model)(x), model, X)
    assert [rule.name for rule in report.wrong] == ["sine_negated"]


def test_what_runs_in_no_float64_is_judged_as_it_came():
    def only_float32(x):
        assert x.dtype == jnp.float32
        return sine_halved(rectified(sine(x)))

    report = jaxbp.check_rules(only_float32, NARROW)
    assert {rule.name: rule.verdict for rule in report.rules} == {
        "sine_halved": "wrong", "rectified": "right", "sine": "right",
    }  # fmt: skip
    assert "in float64 the function raises AssertionError" in report.notes[0]


def by_number(c, x):
    rule = jax.custom_jvp(lambda c, x: c * jnp.sin(x), nondiff_argnums=(0,))
    rule.defjvp(lambda c, primals, tangents: (c * jnp.sin(*primals), 2 * c * jnp.cos(*primals) * tangents[0]))
    return rule(c, x)


def by_closure(c, x):
    rule = jax.custom_vjp(lambda x: c * jnp.sin(x))
    rule.defvjp(lambda x: (c * jnp.sin(x), x), lambda x, g: (2 * c * jnp.cos(x) * g,))
    return rule(x)


def along_rows(c, x):
    return jax.lax.scan(lambda c, row: (c + 1, by_number(c, row)), c, x)[1]


@pytest.mark.parametrize("f", [by_number, by_closure, jax.jit(by_closure), along_rows])
def test_a_rule_that_closes_over_what_is_traced_is_judged(f):
    (rule,) = jaxbp.check_rules(f, jnp.asarray(3.0), X).rules
    assert (rule.verdict, rule.uses) == ("wrong", 4 if f is along_rows else 1)
    assert dict(rule.why)["x"].startswith("scale: the gradient of x is 2 times the right one")


def test_where_no_trace_of_it_is_left_a_rule_is_not_judged():
    (rule,) = jaxbp.check_rules(jax.vmap(lambda row: by_number(row[0], row)), X).rules
    assert rule.verdict == "not judged"
    assert "closes over what is traced" in rule.why[0][1]


def test_rules_that_libraries_wrap_have_the_place_of_who_wrote_them():
    @eqx.filter_custom_jvp
    def forward(x):
        return jnp.sin(x)

    @forward.def_jvp
    def _(primals, tangents):
        return jnp.sin(*primals), 2 * jnp.cos(*primals) * tangents[0]

    @eqx.filter_custom_vjp
    def backward(x):
        return jnp.cos(x)

    backward.def_fwd(lambda perturbed, x: (jnp.cos(x), None))
    backward.def_bwd(lambda residuals, g, perturbed, x: -3 * g * jnp.sin(x))

    @eqx.filter_custom_vjp
    def reversed_(x):
        return x

    reversed_.def_fwd(lambda perturbed, x: (x, None))
    reversed_.def_bwd(lambda residuals, g, perturbed, x: -g)

    @jax.custom_gradient
    def both_at_once(x):
        return jnp.tanh(x), lambda g: g * (1 - jnp.tanh(x) ** 2)

    report = jaxbp.check_rules(lambda x: both_at_once(reversed_(backward(forward(x)))), X)
    found = {rule.name: (rule.verdict, rule.place.rpartition("/")[2].partition(":")[0]) for rule in report.rules}
    assert (
        found.items()
        >= {
            "forward": ("wrong", "test_rules.py"),
            "backward": ("wrong", "test_rules.py"),
            "reversed_": ("on purpose", "test_rules.py"),
            "both_at_once": ("right", "test_rules.py"),
        }.items()
    )


blocked = jax.custom_vjp(lambda x, scale: (jnp.round(x * scale), scale))
blocked.defvjp(lambda x, scale: (blocked(x, scale), scale), lambda scale, g: (None, scale))
scaled = jax.custom_vjp(lambda x, scale: x * scale)
scaled.defvjp(lambda x, scale: (x * scale, scale), lambda scale, g: (g * scale, None))
SCALES = {
    "a constant": (lambda x, s: scaled(x, 2.0 * jnp.ones_like(X)), "on purpose"),
    "stopped": (lambda x, s: scaled(x, jax.lax.stop_gradient(s)), "on purpose"),
    "of a rule that sends none back": (lambda x, s: scaled(x, blocked(x, s)[1]), "on purpose"),
    "stopped in a loop": (
        lambda x, s: jax.lax.scan(lambda s, x: (jnp.round(s), scaled(x, jnp.round(s))), s[0], x)[1],
        "on purpose",
    ),
    "of a loop": (lambda x, s: jax.lax.scan(lambda s, x: (jnp.sin(s), scaled(x, s)), s[0], x)[1], "wrong"),
    "an argument": (lambda x, s: jax.jit(scaled)(x, jnp.exp(s)), "wrong"),
}


@pytest.mark.parametrize("scale", SCALES)
def test_no_derivative_is_needed_where_none_goes_on(scale):
    f, verdict = SCALES[scale]
    rules = {rule.name: rule for rule in jaxbp.check_rules(f, X, Y).rules}
    assert rules["<lambda>"].verdict == verdict
    if verdict == "on purpose":
        assert any("none would go on" in why for rule in rules.values() for _, why in rule.why)


def test_what_hands_an_argument_on_that_nothing_reads_needs_no_derivative_of_it():
    beside = jax.custom_vjp(lambda x, w: (x * w, w))
    beside.defvjp(lambda x, w: ((x * w, w), (x, w)), lambda r, g: (g[0] * r[1], g[0] * r[0]))
    (rule,) = jaxbp.check_rules(lambda x, w: beside(x, w)[0], X, Y).rules
    assert rule.verdict == "on purpose"
    (rule,) = jaxbp.check_rules(beside, X, Y).rules
    assert rule.verdict == "wrong"


def test_on_a_device_rules_and_the_gradient_are_held_against_float64_on_the_host():
    @jax.custom_vjp
    def above(x):
        return jnp.log1p(jnp.exp(x))

    above.defvjp(lambda x: (above(x), x), lambda x, g: (g * jnp.exp(x) / (1 + jnp.exp(x)),))
    device, x = jax.devices()[0], 40 * NARROW
    assert jaxbp.check_rules(above, x).ok  # in float64 exp does not overflow
    report = jaxbp.check_rules(above, x.at[0].set(100.0), device=device)
    assert [(rule.name, rule.kind, rule.verdict) for rule in report.rules] == [
        ("above", "gradient", "wrong"), ("above", "custom_vjp", "wrong"),
    ]  # fmt: skip
    assert {finding.name for finding in report.rules[0].findings} == {"args[0]", "the value"}
    net = jaxbp.layered([3, 4, 2], hidden=jaxbp.tanh, output=jaxbp.softmax)
    params = jaxbp.init_params(jax.random.key(0), net)
    report = assert_rules_right(lambda params, x: jaxbp.as_function(net)(params, x), params, NARROW, device=device)
    assert [(rule.kind, rule.verdict) for rule in report.rules] == [("gradient", "right"), ("custom_vjp", "right")]
    assert "args[0]['h1']['x']" in {finding.name for finding in report.rules[0].findings}
    assert "1 custom rules and a gradient: 2 right" in str(report)


def test_the_report_for_other_programs_is_json():
    report = jaxbp.check_rules(lambda x: sine_halved(x) / 0, X).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    (rule,) = report["rules"]
    assert (report["ok"], rule["name"], rule["why"]) == (False, "sine_halved", {"x": HALVED})
    assert rule["findings"][0]["index"] == list(rule["findings"][0]["index"])


def test_a_gradient_has_no_rules_left():
    report = jaxbp.check_rules(jax.grad(lambda x: sine(x).sum()), X)
    assert report.rules == ()
    assert report.ok
    assert "the rules are used up" in report.notes[0]


def test_rules_of_a_newer_kind_are_said_not_to_be_looked_at():
    jax.config.update("jax_custom_vjp3", True)
    try:
        newer = jax.custom_vjp(lambda x: jnp.sin(x))
        newer.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))
        report = jaxbp.check_rules(lambda x: newer(x), X)
    finally:
        jax.config.update("jax_custom_vjp3", False)
    assert report.notes == ("rules inside of call_hi_primitive are not looked at",)


def test_the_assertion_fails_with_the_report():
    assert assert_rules_right(product, X, Y).ok
    with pytest.raises(AssertionError, match=r"sine_halved at .*ruled\.py"):
        assert_rules_right(sine_halved, X)


@pytest.mark.slow
def test_the_session_is_as_it_was():
    numbers = np.linspace(-1, 1, 5)  # JAX keeps a copy of it in one precision
    with jax.enable_x64(False):
        f = jax.jit(lambda x: sine(x * numbers).sum())
        x = jnp.ones(5, jnp.float32)
        before = f(x)
        assert jaxbp.check_rules(f, x).ok
        assert jax.dtypes.canonicalize_dtype(float) == jnp.float32
        assert f(x) == before
        assert f(x).dtype == jnp.float32
        assert jaxbp.check_rules(f, x).ok


def test_nothing_of_the_caller_is_traced_again_or_changed():
    traced = []

    @jax.jit
    def f(c, x):
        traced.append(x.dtype)
        return by_closure(c, x).sum()

    with jax.enable_x64(False):
        given = jnp.asarray(2.0, jnp.float32), NARROW
        before = f(*given), *map(np.array, given)
        assert not jaxbp.check_rules(f, *given).ok
        assert not jax.config.jax_disable_jit
        traced.clear()
        after = f(*given), *given
        assert not traced
        assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


WITHIN = {
    "jit": lambda f: jax.jit(f),
    "scan": lambda f: lambda args: jax.lax.scan(lambda c, _: (c, f(args)), 0, None, 2),
    "cond": lambda f: lambda args: jax.lax.cond(args[0][0][0, 0] < 1e6, f, f, args),
    "vmap": lambda f: lambda args: jax.vmap(f)(jax.tree.map(lambda x: jnp.asarray(x)[None], args)),
}


@pytest.mark.slow
@pytest.mark.parametrize("within", WITHIN)
def test_each_rule_gets_its_verdict_within(within):
    fixed = [[callable(x) or isinstance(x, int) for x in ruled.args] for ruled in RULED]
    report = jaxbp.check_rules(WITHIN[within](lambda args: applied(fixed, args)), numbers(fixed))
    assert {rule.name: rule.verdict for rule in report.rules} == {ruled.name: ruled.verdict for ruled in RULED}


POSITIVE, UNIT, LABELS = jnp.abs(NARROW) + 0.3, jax.nn.sigmoid(NARROW), jnp.array([0, 1, 2, 1])
FIRST = NARROW.at[0, 0].set(0.0)
CANDIDATES = (
    *((FIRST, UNIT, POSITIVE), (POSITIVE, POSITIVE, UNIT), (jax.nn.softmax(Y), jax.nn.softmax(X)), (FIRST, LABELS)),
    *((POSITIVE, UNIT), (FIRST,), (POSITIVE,), (UNIT,), (NARROW[:3] @ NARROW[:3].T + 3 * jnp.eye(3),), (LABELS, UNIT)),
)
NAMESPACES = (jax.nn, jnp, jnp.linalg, jax.scipy.special, optax.losses, optax.projections)
# at a = 0 the rule's derivative with respect to a is 0, and that of SciPy's values, by differences, is not
WRONG = {"hyp1f1"}
FILES = {"save", "savez", "load", "fromfile", "printoptions", "set_printoptions", "array_repr", "array_str"}


def accepts(f, args):
    try:
        jax.eval_shape(lambda *args: f(*args), *args)
    except Exception:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("namespace", NAMESPACES, ids=lambda namespace: namespace.__name__)
def test_nothing_that_is_installed_is_accused(namespace):
    judged, wrong = 0, []
    for name in sorted(set(dir(namespace)) - FILES):
        f = getattr(namespace, name)
        if name.startswith("_") or isinstance(f, type) or not callable(f):
            continue
        for args in [args for args in CANDIDATES if accepts(f, args)][:2]:
            report = jaxbp.check_rules(f, *args)
            judged += len(report.rules)
            wrong += [f"{name}: {rule}" for rule in report.rules if rule.verdict == "wrong" and name not in WRONG]
    assert not wrong
    assert judged or namespace in (jnp.linalg, optax.projections)
