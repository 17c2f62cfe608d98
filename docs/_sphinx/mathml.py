"""Formulas in TeX as MathML, which browsers show by themselves: no script, and nothing from elsewhere."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer and choose it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    # lines of an aligned formula stand below each other in any case
    formula = re.sub(r"\\(begin|end)\{split\}", r"\\\1{aligned}", node.astext())
    # wide ones scroll, by keyboard too
    self.body.append(
        f'<div class="formula" tabindex="0" role="group" aria-label="formula">{convert(formula, display="block")}</div>'
    )
    raise nodes.SkipNode
