"""GPT-2 written out as a network against Hugging Face's: logits, loss and every gradient, in float64; needs `peers`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp
from jaxbp import Dense, Embedding, Identity, Network, Scale, Transposed, Unit

NEEDED = "the extra `peers` is not installed: pip install --editable '.[peers]'"
torch = pytest.importorskip("torch", reason=NEEDED)
transformers = pytest.importorskip("transformers", reason=NEEDED)

pytestmark = pytest.mark.xdist_group("gpt2")

TOLERANCE = 1e-10
N, ROWS, WIDTH, HEADS, WORDS = 2, 5, 8, 2, 11


def gpt2(depth: int, norm: Any = jaxbp.layer_norm, gelu: Any = jaxbp.gelu) -> Network:
    """Blocks that normalise first; the table of the words reads out, too."""

    def rows(*sources: str, width: int = WIDTH, activation: Any = jaxbp.linear) -> Unit:
        first, *others = sources  # which are added as they are
        return Unit((ROWS, width), activation, {first: Dense(), **dict.fromkeys(others, Identity())})

    def normed(name: str, source: str) -> dict[str, Unit]:
        return {
            f"n_{name}": Unit((ROWS, WIDTH), norm, {source: Identity()}, bias=False),
            name: Unit((ROWS, WIDTH), jaxbp.linear, {f"n_{name}": Scale()}),
        }

    positions = jaxbp.connections.Bias(whole=True)
    units: dict[str, Any] = {
        "e": Unit((ROWS, WIDTH), jaxbp.linear, {"tokens": Embedding(WORDS, share="E")}, bias=positions)
    }
    carry = "e"
    for i in range(depth):
        units |= normed(f"first_{i}", carry)
        units |= {f"{role}_{i}": rows(f"first_{i}") for role in ("q", "k", "v")}
        units[f"mix_{i}"] = jaxbp.attention(f"q_{i}", f"k_{i}", f"v_{i}", (ROWS, WIDTH), heads=HEADS, causal=True)
        units[f"seen_{i}"] = rows(f"mix_{i}", carry)
        units |= normed(f"second_{i}", f"seen_{i}")
        units[f"up_{i}"] = rows(f"second_{i}", width=4 * WIDTH, activation=gelu)
        units[f"block_{i}"] = rows(f"up_{i}", f"seen_{i}")
        carry = f"block_{i}"
    units |= normed("last", carry)
    units["o"] = Unit((ROWS, WORDS), jaxbp.softmax, {"last": Transposed(Dense(share="E"))}, bias=False)
    return Network({"tokens": jaxbp.ids(ROWS, WORDS)}, units)


def in_our_tree(theirs: dict[str, np.ndarray], depth: int) -> Any:
    """Their weights, or gradients of such, as ours: `(width before, width)` both, but for one table of q, k and v."""

    def affine(source: str, name: str) -> dict[str, np.ndarray]:
        return {source: theirs[f"{name}.weight"], "bias": theirs[f"{name}.bias"]}

    tree: dict[str, Any] = {"shared": {"E": theirs["wte.weight"]}, "e": {"bias": theirs["wpe.weight"][:ROWS]}}
    for i in range(depth):
        h = f"h.{i}"
        tree[f"first_{i}"] = affine(f"n_first_{i}", f"{h}.ln_1")
        W, b = (np.split(theirs[f"{h}.attn.c_attn.{kind}"], 3, axis=-1) for kind in ("weight", "bias"))
        for role, W_role, b_role in zip("qkv", W, b, strict=True):
            tree[f"{role}_{i}"] = {f"first_{i}": W_role, "bias": b_role}
        tree[f"seen_{i}"] = affine(f"mix_{i}", f"{h}.attn.c_proj")
        tree[f"second_{i}"] = affine(f"n_second_{i}", f"{h}.ln_2")
        tree[f"up_{i}"] = affine(f"second_{i}", f"{h}.mlp.c_fc")
        tree[f"block_{i}"] = affine(f"up_{i}", f"{h}.mlp.c_proj")
    return tree | {"last": affine("n_last", "ln_f")}


def both(net: Network, depth: int) -> tuple[Any, Any]:
    """Logits, loss and gradients, ours and theirs."""
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=ROWS + 1, n_embd=WIDTH, n_layer=depth, n_head=HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.from_numpy(rng.normal(size=tuple(weights.shape)) / 3))
    tokens = rng.integers(0, WORDS, (N, ROWS + 1))
    each = torch.from_numpy(tokens)
    out = model(each, labels=each)  # each row is to say the next token
    # of which their own loss is in float32
    loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].reshape(-1, WORDS), each[:, 1:].reshape(-1))
    assert abs(loss - out.loss) < 1e-5
    loss.backward()
    inner = dict(model.transformer.named_parameters())
    weights = in_our_tree({name: W.detach().numpy() for name, W in inner.items()}, depth)
    gradient = in_our_tree({name: W.grad.numpy() for name, W in inner.items()}, depth)

    params = {group: {s: jax.device_put(W) for s, W in weights.get(group, {}).items()} for group in net.weight_shapes}
    run = jax.jit(lambda *arguments: jaxbp.backprop(net, jaxbp.cross_entropy, *arguments))
    back = run(params, jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:]))
    # ours is the sum over the rows of an example, theirs the mean
    ours = back.trace.a["o"], back.value / ROWS, jax.tree.map(lambda g: g / ROWS, back.grads)
    return ours, (out.logits[:, :-1].detach().numpy(), float(loss.detach()), gradient)


def error(ours: Any, theirs: Any) -> float:
    """The largest distance of logits, loss, and gradients, in units of the group: that of a key's bias is 0."""
    (a, loss, grads), (logits, their_loss, expected) = ours, theirs
    assert {group for group in grads if grads[group]} == set(expected)
    errors = [np.linalg.norm(a - logits) / np.linalg.norm(logits), abs(loss - their_loss) / their_loss]
    for group, of in expected.items():
        size = np.sqrt(sum(np.sum(g**2) for g in of.values()))
        assert size > 0
        assert set(of) == set(grads[group])
        errors += [np.linalg.norm(grads[group][s] - g) / size for s, g in of.items()]
    return float(max(errors))


def test_gpt2_of_twelve_blocks_is_hugging_faces():
    assert error(*both(gpt2(12), 12)) <= TOLERANCE


@pytest.mark.parametrize(
    "options",
    [
        {"norm": jaxbp.activations.with_epsilon(jaxbp.layer_norm, 1e-6)},
        {"gelu": jaxbp.silu},
        {"gelu": jaxbp.elementwise(jaxbp.gelu.value, lambda a, h: 1.001 * jaxbp.gelu.derivative(a, h), name="off")},
    ],
    ids=["epsilon", "activation", "slope"],
)
def test_what_is_a_little_different_is_caught(options):
    assert error(*both(gpt2(1, **options), 1)) > 1e-7
