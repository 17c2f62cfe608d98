"""Attention in its steps: scores, mask, weights and mix, and the way back through each of them.

S = Q Kᵀ / √d,  P = softmax(S) over the keys that a row sees,  a = P V
∂L/∂P = δ Vᵀ,  ∂L/∂S = P ⊙ (∂L/∂P − Σ P ⊙ ∂L/∂P),  Δ_Q = ∂L/∂S K / √d,  Δ_K = ∂L/∂Sᵀ Q / √d,  Δ_V = Pᵀ δ
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxbp._attention import Attention
from jaxbp._explain._stages import Arrays, Stage, Stages
from jaxbp._function_unit import FunctionUnit
from jaxbp._names import Name
from jaxbp._unit import Node
from jaxbp.connections import Shape

_TURN = (
    r"\tilde{h}_i = h_i \cos\theta - h_{i+d/2} \sin\theta, \; \tilde{h}_{i+d/2} = h_i \sin\theta + h_{i+d/2} \cos\theta"
)
_FORWARD = (
    Stage("turned_query", "Queries of {}, turned by their positions", _TURN, "Q"),
    Stage("turned_key", "Keys of {}, turned by their positions", _TURN, "K"),
    Stage("scores", "Scores of {}", r"S = \frac{Q K^{\top}}{\sqrt{d}}", "S"),
    Stage("mask", "Mask of {}, 1 where a row sees a key", r"m_{ij} \in \{0, 1\}", "m"),
    Stage(
        "weights",
        "Weights of {}, softmax of the scores",
        r"P_{ij} = \frac{m_{ij} \, e^{S_{ij}}}{\sum_k m_{ik} \, e^{S_{ik}}}",
        "P",
    ),
)
_BACKWARD = (
    Stage("Delta_weights", "Error signal at the weights of {}", r"\frac{\partial L}{\partial P} = \delta_u V^{\top}"),
    Stage(
        "Delta_scores",
        "Error signal at the scores of {}, back through softmax",
        r"\frac{\partial L}{\partial S_{ij}} = P_{ij} \left(\frac{\partial L}{\partial P_{ij}} - "
        r"\sum_k P_{ik} \, \frac{\partial L}{\partial P_{ik}}\right)",
    ),
    Stage(
        "Delta_turned_query",
        "Error signal at the turned queries of {}",
        r"\frac{\partial L}{\partial \tilde{Q}} = \frac{1}{\sqrt{d}} \, \frac{\partial L}{\partial S} \tilde{K}",
    ),
    Stage(
        "Delta_turned_key",
        "Error signal at the turned keys of {}",
        r"\frac{\partial L}{\partial \tilde{K}} = \frac{1}{\sqrt{d}} "
        r"\left(\frac{\partial L}{\partial S}\right)^{\top} \tilde{Q}",
    ),
)
ALL = (*_FORWARD, *_BACKWARD)


@dataclass(frozen=True)
class AttentionSteps(Stages):
    """What happens between the sources of a unit of attention and its a.

    Quantities of rows and keys have a head, unless there is but one, a row and a key as their indices; what is turned
    is shaped like its source.
    """

    function: Attention
    sources: tuple[str, ...]

    leads_to: ClassVar[str] = "a"

    @classmethod
    def of(cls, u: str, unit: Node, shapes: Mapping[str, Shape]) -> "AttentionSteps | None":
        """Those of a unit; None where it is no attention."""
        if not (isinstance(unit, FunctionUnit) and isinstance(unit.function, Attention)):
            return None
        return cls(u, shapes, unit.function, unit.sources)

    @property
    def rules(self) -> Mapping[str, str]:
        """That of a."""
        return {"a": "a_u = P V"}

    @property
    def decided_by(self) -> tuple[str, ...]:
        """The masks: what a formula is made of are the keys that a row sees."""
        return self.sources[3:]

    @property
    def masks(self) -> bool:
        """Whether some row may not see some key."""
        return self.function.causal or bool(self.decided_by)

    def forward(self) -> Iterator[Stage]:
        """What comes before the mix."""
        return self._stages(_FORWARD)

    def backward(self) -> Iterator[Stage]:
        """What comes between the signal at the mix and those of its sources."""
        return self._stages(_BACKWARD)

    def _stages(self, stages: Sequence[Stage]) -> Iterator[Stage]:
        for stage in stages:
            if ("turned" in stage.kind and self.function.rotary is None) or (stage.kind == "mask" and not self.masks):
                continue
            plain = stage.kind == "weights" and not self.masks
            yield stage._replace(rule=r"P_{ij} = \frac{e^{S_{ij}}}{\sum_k e^{S_{ik}}}") if plain else stage

    # Numbers: all examples at once, by NumPy's own products.

    def arrays(self, known: Arrays) -> dict[str, np.ndarray]:
        """The array of each kind."""
        h = {s: known[Name("h", (s,))] for s in self.sources}
        q, k, v = (h[s] for s in self.sources[:3])
        found: dict[str, np.ndarray] = {}
        if self.function.rotary is not None:
            q, k = self._turned(q, self.function.heads), self._turned(k, self.function.key_heads)
            found |= {"turned_query": q, "turned_key": k}
        Q, K, V = self._split(q, self.function.heads), self._of_heads(k), self._of_heads(v)
        root = np.sqrt(Q.shape[-1])
        S = Q @ _transposed(K) / root
        m = self._mask(h, S.shape)
        exp = m * np.exp(S - np.max(S, axis=-1, keepdims=True, initial=-np.inf, where=m)) if self.masks else None
        exp = np.exp(S - np.max(S, axis=-1, keepdims=True)) if exp is None else np.where(m, exp, 0)
        total = np.sum(exp, axis=-1, keepdims=True)
        P = np.divide(exp, total, out=np.zeros_like(exp), where=total > 0)
        signal = self._split(known[Name("delta", (self.u,))], self.function.heads)
        Delta_P = signal @ _transposed(V)
        Delta_S = P * (Delta_P - np.sum(P * Delta_P, axis=-1, keepdims=True))
        by_head = {
            "scores": S,
            "mask": m.astype(S.dtype),
            "weights": P,
            "Delta_weights": Delta_P,
            "Delta_scores": Delta_S,
        }
        if not self.masks:
            del by_head["mask"]
        if self.function.rotary is not None:
            Delta_K = _transposed(Delta_S) @ Q / root
            grouped = Delta_K.reshape(*Delta_K.shape[:-3], self.function.key_heads, -1, *Delta_K.shape[-2:]).sum(
                axis=-3
            )
            found |= {"Delta_turned_query": _joined(Delta_S @ K / root), "Delta_turned_key": _joined(grouped)}
        one = self.function.heads == 1
        return found | {kind: array[..., 0, :, :] if one else array for kind, array in by_head.items()}

    def _split(self, rows: np.ndarray, heads: int) -> np.ndarray:
        return np.moveaxis(rows.reshape(*rows.shape[:-1], heads, -1), -2, -3)

    def _of_heads(self, rows: np.ndarray) -> np.ndarray:
        return np.repeat(self._split(rows, self.function.key_heads), self.group, axis=-3)

    @property
    def group(self) -> int:
        """How many heads of the queries share the keys of one."""
        return self.function.heads // self.function.key_heads

    def _mask(self, h: Mapping[str, np.ndarray], shape: Shape) -> np.ndarray:
        m = np.ones(shape, bool)
        if self.function.causal:
            m &= np.tri(*shape[-2:], dtype=bool)
        for s in self.decided_by:
            given = h[s] if len(self.shapes[s]) == 2 else h[s][..., None, :]
            m &= given[..., None, :, :] != 0
        return m

    def _turned(self, rows: np.ndarray, heads: int) -> np.ndarray:
        x, y = np.split(self._split(rows, heads), 2, axis=-1)
        angles = np.array(
            [[self.angle(row, i, 2 * x.shape[-1]) for i in range(x.shape[-1])] for row in range(x.shape[-2])]
        )
        c, s = np.cos(angles), np.sin(angles)
        return _joined(np.concatenate([c * x - s * y, s * x + c * y], axis=-1))

    def angle(self, row: int, i: int, d: int) -> float:
        """By which the pair i of a head of width d is turned."""
        return row * float(self.function.rotary or 1) ** (-i / (d / 2))


def _transposed(rows: np.ndarray) -> np.ndarray:
    return np.swapaxes(rows, -1, -2)


def _joined(heads: np.ndarray) -> np.ndarray:
    rows = np.moveaxis(heads, -3, -2)
    return rows.reshape(*rows.shape[:-2], -1)
