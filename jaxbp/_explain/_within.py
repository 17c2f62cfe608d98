"""Which units have stages within, or formulas of their own, and what these are."""

from collections.abc import Mapping

from jaxbp._explain import _attention, _norms
from jaxbp._explain._attention import AttentionSteps
from jaxbp._explain._attention_forms import AttentionForms
from jaxbp._explain._norms import NormForms, NormSteps
from jaxbp._explain._products import ProductForms, ProductSteps
from jaxbp._explain._stages import Arrays, Forms, Stages
from jaxbp._names import Name
from jaxbp._unit import Node
from jaxbp.connections import Shape

STAGES = (*_attention.ALL, *_norms.ALL)
"""All that there are."""

LEADS_TO = {
    stage.kind: steps.leads_to
    for steps, stages in ((AttentionSteps, _attention.ALL), (NormSteps, _norms.ALL))
    for stage in stages
} | {"a": "a", "h": "h"}
"""By the kind of a stage, and of that itself, the kind of quantity at the end of its way."""


def within(u: str, unit: Node, shapes: Mapping[str, Shape]) -> dict[str, Stages]:
    """What happens within a unit, by the kind of quantity that it leads to."""
    found = (steps.of(u, unit, shapes) for steps in (AttentionSteps, ProductSteps, NormSteps))
    return {stages.leads_to: stages for stages in found if stages is not None}


def forms_of(stages: Stages, known: Arrays) -> Forms:
    """The formulas of stages, at these numbers."""
    match stages:
        case AttentionSteps():
            return AttentionForms(stages, known.get(Name("mask", (stages.u,))))
        case NormSteps():
            return NormForms(stages)
        case ProductSteps():
            return ProductForms(stages)
        case _:
            raise TypeError(f"there are no formulas of {stages!r}")
