"""Code of the library in the text, as it is: `{source} jaxbp.textbook:decoupled` shows a function without docstring.

The name may be private, and have a dot for a method. A name that is not there fails the build, so text and code cannot
drift apart.
"""

import ast
import inspect
import textwrap
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import jaxbp

_ROOT = Path(inspect.getfile(jaxbp)).parents[1]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("source", Source)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class Source(SphinxDirective):
    """The body of a function or a class, with where it stands; `:inner:` names a function inside of it."""

    required_arguments = 1
    option_spec: ClassVar = {"inner": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """A block of code below its place."""
        module, _, name = self.arguments[0].partition(":")
        thing = inspect.unwrap(attrgetter(name)(import_module(module)))  # of what is jitted, what is
        file = inspect.getsourcefile(thing) or ""
        self.env.note_dependency(file)
        code = without_docstring(textwrap.dedent(inspect.getsource(thing)), self.options.get("inner"))
        block = nodes.literal_block(code, code, language="python", classes=["source"])
        place = Path(file).relative_to(_ROOT).as_posix()
        caption = nodes.paragraph("", "", nodes.literal(place, place), classes=["place"])
        return [caption, block]


def without_docstring(code: str, inner: str | None = None) -> str:
    """A definition, or one inside of it, as it is written but for its docstring."""
    lines = code.splitlines()
    (node,) = ast.parse(code).body
    if inner is not None:
        node = next(n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n.name == inner)
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    text = node.body[0] if ast.get_docstring(node) is not None else None
    kept = [
        line
        for number, line in enumerate(lines, 1)
        if node.lineno <= number <= (node.end_lineno or 0) and not (text and text.lineno <= number <= text.end_lineno)
    ]
    return textwrap.dedent("\n".join(kept))
