"""GPT-2 as a network with a stack, against Hugging Face's: logits, loss, every gradient, in float64; needs `peers`."""

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


TOLERANCE = 1e-10
N, ROWS, WIDTH, HEADS, WORDS = 2, 5, 8, 2, 11


def gpt2(depth: int, norm: Any = jaxbp.layer_norm, gelu: Any = jaxbp.gelu) -> Network:
    """A stack of blocks that normalise first; the table of the words reads out, too."""

    def rows(*sources: str, width: int = WIDTH, activation: Any = jaxbp.linear) -> Unit:
        first, *others = sources  # which are added as they are
        return Unit((ROWS, width), activation, {first: Dense(), **dict.fromkeys(others, Identity())})

    def normed(name: str, source: str) -> dict[str, Unit]:
        return {
            f"n_{name}": Unit((ROWS, WIDTH), norm, {source: Identity()}, bias=False),
            name: Unit((ROWS, WIDTH), jaxbp.linear, {f"n_{name}": Scale()}),
        }

    block = Network(
        {"x": (ROWS, WIDTH)},
        {
            **normed("first", "x"),
            **{role: rows("first") for role in ("q", "k", "v")},
            "mix": jaxbp.attention("q", "k", "v", (ROWS, WIDTH), heads=HEADS, causal=True),
            "seen": rows("mix", "x"),
            **normed("second", "seen"),
            "up": rows("second", width=4 * WIDTH, activation=gelu),
            "out": rows("up", "seen"),
        },
    )
    positions = jaxbp.connections.Bias(whole=True)
    return Network(
        {"tokens": jaxbp.ids(ROWS, WORDS)},
        {
            "e": Unit((ROWS, WIDTH), jaxbp.linear, {"tokens": Embedding(WORDS, share="E")}, bias=positions),
            "blocks": jaxbp.stack(block, depth, "e"),
            **normed("last", "blocks"),
            "o": Unit((ROWS, WORDS), jaxbp.softmax, {"last": Transposed(Dense(share="E"))}, bias=False),
        },
    )


def in_our_tree(theirs: dict[str, np.ndarray], depth: int) -> Any:
    """Their weights, or gradients of such, as ours: `(width before, width)` both, but for one table of q, k and v."""

    def affine(source: str, name: str) -> dict[str, np.ndarray]:
        return {source: theirs[f"{name}.weight"], "bias": theirs[f"{name}.bias"]}

    def layer(h: str) -> Any:
        W, b = (np.split(theirs[f"{h}.attn.c_attn.{kind}"], 3, axis=-1) for kind in ("weight", "bias"))
        return {
            "n_first": {},
            "first": affine("n_first", f"{h}.ln_1"),
            **{role: {"first": W[i], "bias": b[i]} for i, role in enumerate("qkv")},
            "mix": {},
            "seen": affine("mix", f"{h}.attn.c_proj"),
            "n_second": {},
            "second": affine("n_second", f"{h}.ln_2"),
            "up": affine("second", f"{h}.mlp.c_fc"),
            "out": affine("up", f"{h}.mlp.c_proj"),
        }

    return {
        "e": {"bias": theirs["wpe.weight"][:ROWS]},
        "blocks": jax.tree.map(lambda *of_layers: np.stack(of_layers), *(layer(f"h.{i}") for i in range(depth))),
        "n_last": {},
        "last": affine("n_last", "ln_f"),
        "o": {},
        "shared": {"E": theirs["wte.weight"]},
    }


def by_layer(tree: Any) -> dict[str, dict[str, np.ndarray]]:
    """The groups of a tree that hold any weights, those in the stack for each of its layers."""
    outside = {group: of for group, of in tree.items() if group != "blocks"}
    inside = {
        f"blocks.{u}[{i}]": {s: W[i] for s, W in of.items()}
        for u, of in tree["blocks"].items()
        for i in range(len(next(iter(of.values()), ())))
    }
    return {group: of for group, of in (outside | inside).items() if of}


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

    params = jax.tree.map(jnp.asarray, weights)
    run = jax.jit(lambda *arguments: jaxbp.backprop(net, jaxbp.cross_entropy, *arguments))
    back = run(params, jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:]))
    # ours is the sum over the rows of an example, theirs the mean
    ours = back.trace.a["o"], back.value / ROWS, jax.tree.map(lambda g: g / ROWS, back.grads)
    return ours, (out.logits[:, :-1].detach().numpy(), float(loss.detach()), gradient)


def error(ours: Any, theirs: Any) -> float:
    """The largest distance of logits, loss, and gradients, in units of the group: that of a key's bias is 0."""
    (a, loss, grads), (logits, their_loss, expected) = ours, theirs
    grads, expected = by_layer(grads), by_layer(expected)
    assert set(grads) == set(expected)
    errors = [np.linalg.norm(a - logits) / np.linalg.norm(logits), abs(loss - their_loss) / their_loss]
    for group, of in expected.items():
        size = np.sqrt(sum(np.sum(g**2) for g in of.values()))
        assert size > 0
        assert set(of) == set(grads[group])
        errors += [np.linalg.norm(grads[group][s] - g) / size for s, g in of.items()]
    return float(max(errors))


def test_gpt2_with_a_stack_of_twelve_blocks_is_hugging_faces():
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
