"""A GPT: embedded tokens, a stack of transformer blocks, and the embedding's transpose as readout."""

import jax

import jaxbp
from jaxbp.connections import Bias


def gpt(
    vocabulary: int, context: int, *, layers: int, heads: int, width: int, dropout: float = 0.0, remat: bool = False
) -> jaxbp.Network:
    """The network, with the initial weights of GPT-2.

    Source: Radford et al., Language models are unsupervised multitask learners, 2019.
    """
    shape = (context, width)
    small = jax.nn.initializers.normal(0.02)
    # what adds to the residual stream is smaller the more there is of it
    smaller = jax.nn.initializers.normal(0.02 / (2 * layers) ** 0.5)

    def dense(source: str, n: int = width, activation: jaxbp.activations.Activation = jaxbp.linear) -> jaxbp.Unit:
        return jaxbp.Unit((context, n), activation, {source: jaxbp.Dense(small)})

    def added(source: str, stream: str) -> jaxbp.Unit:
        connections = {source: jaxbp.Dense(smaller), stream: jaxbp.Identity()}
        return jaxbp.Unit(shape, jaxbp.linear, connections)

    def normalised(source: str) -> jaxbp.Unit:
        return jaxbp.Unit(shape, jaxbp.layer_norm, {source: jaxbp.Identity()}, bias=False)

    def gained(source: str) -> jaxbp.Unit:
        return jaxbp.Unit(shape, jaxbp.linear, {source: jaxbp.Scale()})

    def dropped(source: str, n: int = width) -> jaxbp.Unit:
        return jaxbp.Unit((context, n), jaxbp.linear, {source: jaxbp.Identity()}, bias=False, dropout=dropout)

    block = jaxbp.Network(
        inputs={"x": shape},
        units={
            "norm1": normalised("x"),
            "gain1": gained("norm1"),
            "query": dense("gain1"),
            "key": dense("gain1"),
            "value": dense("gain1"),
            "attention": jaxbp.attention("query", "key", "value", shape, heads=heads, causal=True),
            "mixed": dropped("attention"),
            "attended": added("mixed", "x"),
            "norm2": normalised("attended"),
            "gain2": gained("norm2"),
            "up": dense("gain2", 4 * width, jaxbp.gelu),
            "wide": dropped("up", 4 * width),
            "out": added("wide", "attended"),
        },
    )
    readout = jaxbp.Transposed(jaxbp.Dense(share="embedding"))
    return jaxbp.Network(
        inputs={"tokens": jaxbp.ids(context, vocabulary)},
        units={
            "embedded": jaxbp.Unit(
                shape,
                jaxbp.linear,
                {"tokens": jaxbp.Embedding(vocabulary, small, share="embedding")},
                bias=Bias(small, whole=True),
                dropout=dropout,
            ),
            "blocks": jaxbp.stack(block, layers, "embedded", remat=remat),
            "norm": normalised("blocks"),
            "gain": gained("norm"),
            "o": jaxbp.Unit((context, vocabulary), jaxbp.softmax, {"gain": readout}, bias=False),
        },
    )
