"""The API reference: every public name of a namespace from its docstring, under the name that users write.

`.. namespace:: jaxbp.collect` is a namespace's page: its text, a table of its names, and each of them; with names below
it, of these alone.
"""

import inspect
import re
import sys
from functools import cache
from operator import attrgetter
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import jaxbp

_LOG = logging.getLogger(__name__)
_SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Raises|Returns|Yields|Source|Note):$")
_EQUATION = re.compile(r"^\S+(\([^)]*\))?( \+?=|, \S+ =| ⇒) ")
_OF_OURSELVES = re.compile(r"`_\w+\.py`")


def setup(app: Sphinx) -> dict[str, Any]:
    """Give every public class the module that users import it from, and register the directive."""
    # types in signatures then link to what is documented, and no private module is named
    for name, thing in public().items():
        if inspect.isclass(thing) or inspect.isfunction(thing):
            thing.__module__ = name.rpartition(".")[0]
    app.add_directive("namespace", Namespace)
    app.connect("autodoc-process-docstring", _as_written, priority=100)
    app.connect("autodoc-process-docstring", _of_property, priority=900)
    app.connect("autodoc-process-signature", _as_imported)
    app.connect("autodoc-skip-member", _skipped)
    app.connect("doctree-read", _linked)
    app.connect("env-check-consistency", _complete)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def public() -> dict[str, Any]:
    """Every public name with what it is, under the shortest path to it."""
    namespaces = {f"jaxbp.{n}": m for n, m in vars(jaxbp).items() if n in jaxbp.__all__ and inspect.ismodule(m)}
    found: dict[str, Any] = {f"jaxbp.{n}": getattr(jaxbp, n) for n in jaxbp.__all__ if f"jaxbp.{n}" not in namespaces}
    for path, module in namespaces.items():
        for name in module.__all__:
            if not any(getattr(module, name) is thing for thing in found.values()):
                found[f"{path}.{name}"] = getattr(module, name)
    return found


class Namespace(SphinxDirective):
    """The reference of one namespace."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The page's nodes, parsed from what autodoc makes."""
        path = self.arguments[0]
        module = jaxbp if path == "jaxbp" else getattr(jaxbp, path.removeprefix("jaxbp."))
        names = " ".join(self.content).split() or list(module.__all__)
        known = public()
        lines = [] if self.content else [f".. automodule:: {path}", "   :no-members:", ""]
        full = [next(p for p, thing in known.items() if thing is getattr(module, name)) for name in names]
        lines += [".. list-table::", "   :class: names", ""]
        for p in full:
            lines += [f"   * - :py:obj:`{p.removeprefix('jaxbp.')} <{p}>`", f"     - {_first_line(known[p])}"]
        lines.append("")
        for p in full:
            thing = known[p]
            if inspect.isclass(thing):
                # of a tuple or an exception what it inherits says nothing
                inherited = [] if issubclass(thing, tuple | Exception) else ["   :inherited-members:"]
                lines += [f".. autoclass:: {p}", "   :members:", *inherited]
            elif inspect.isfunction(thing):
                lines += [f".. autofunction:: {p}"]
            else:
                of, _, short = p.rpartition(".")
                text = ("   " + line for line in _text_of(thing).splitlines())
                lines += [f".. py:data:: {short}", f"   :module: {of}", "", *text]
            lines.append("")
        return self.parse_text_to_nodes("\n".join(lines))


def _text_of(thing: Any) -> str:
    """The docstring of an object that is neither a class nor a function, or what stands below an alias."""
    found = _below_assignments()
    text = next((text for value, text in found if value is thing), None) or inspect.getdoc(thing) or ""
    lines = text.splitlines()
    _as_written(None, "data", "", thing, None, lines)
    return "\n".join(lines)


@cache
def _below_assignments() -> list[tuple[Any, str]]:
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "jaxbp"]
    return [
        (getattr(module, name), "\n".join(text).strip())
        for module in modules
        for (owner, name), text in ModuleAnalyzer.for_module(module.__name__).find_attr_docs().items()
        if not owner
    ]


def _first_line(thing: Any) -> str:
    known = inspect.isclass(thing) or inspect.isfunction(thing)
    doc = (inspect.getdoc(thing) if known else _text_of(thing)) or ""
    if not known:
        return "\n       ".join(doc.split("\n\n")[0].splitlines())
    return "\n       ".join(_escaped(doc.split("\n\n")[0].splitlines()))


def _as_written(app: Sphinx | None, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """What the docstrings' plain text means: equations stand on their lines, tables keep their columns."""
    paragraphs = [p.split("\n") for p in "\n".join(lines).split("\n\n")]
    made: list[str] = []
    in_section = False
    for i, paragraph in enumerate(paragraphs):
        first = paragraph[0]
        if _OF_OURSELVES.search("\n".join(paragraph)) and what == "module":
            continue  # where things are in the source is for those who change it
        if not first.startswith(" "):
            in_section = any(_SECTION.match(line) for line in paragraph)
        if first.lstrip().startswith(">>>") or any(">>> " in line for line in paragraph):
            made += [*paragraph, ""]
        elif in_section:
            made += [*_escaped(paragraph, "|"), ""]
        elif first.startswith("    "):
            rows = _rows([line[4:] for line in paragraph])
            made += [*_table(rows), ""] if rows else [".. code-block:: text", "", *paragraph, ""]
        elif any(line.startswith("    ") for line in paragraph[1:]) and not first.startswith(("* ", "- ")):
            made += [".. code-block:: text", "", *("    " + line for line in paragraph), ""]
        elif i and _EQUATION.match(first) and not paragraph[-1].endswith("."):  # with a full stop it is a sentence
            # several in a line have two spaces between them
            each = [part for line in _escaped(paragraph) for part in re.split(r"(?<=[,;])  +", line)]
            made += [".. rst-class:: equation", "", *("| " + part for part in each), ""]
        else:
            made += [*_escaped(paragraph), ""]
    lines[:] = made


def _of_property(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """The text of a property again, of which what is before a colon has been taken for its type."""
    if what == "property":
        lines[:] = (inspect.getdoc(thing) or "").splitlines()
        _as_written(app, what, name, thing, options, lines)


def _rows(lines: list[str]) -> list[tuple[str, list[str]]]:
    """The terms of a table of two columns, with the lines that say what each is; none where it is no such table."""
    start = re.match(r"\S.*?\s{2,}(?=\S)", lines[0])
    rows: list[tuple[str, list[str]]] = []
    for line in lines:
        term, text = (line[: start.end()].strip(), line[start.end() :]) if start else ("", line)
        if not start or "  " in text or "  " in term or line[start.end() - 1 : start.end()].strip():
            return []
        rows += [(term, [text])] if term else []
        if not term:
            rows[-1][1].append(text)
    return rows


def _table(rows: list[tuple[str, list[str]]]) -> list[str]:
    made = [".. list-table::", "   :class: names", ""]
    for term, text in rows:
        first, *rest = _escaped(text)
        made += [f"   * - {_escaped([term])[0]}", f"     - {first}", *("       " + line for line in rest)]
    return made


def _escaped(lines: list[str], marks: str = "*|_") -> list[str]:
    """Text in which a star, a bar or an underscore at the end of a symbol is none of reStructuredText's marks."""
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    for i in range(0, len(parts), 2):
        parts[i] = parts[i].replace("|", r"\|")
        if marks == "|":
            continue
        text = re.sub(r"(?<!^)(?<!\n)\*|(?<=^)\*(?! )|(?<=\n)\*(?! )", r"\\*", parts[i])
        parts[i] = re.sub(r"(\w)_(?!\w)", r"\1\\_", text)
    return "".join(parts).split("\n")


def _as_imported(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """An array by the name that it is imported by, not by where it is made."""
    signature, returned = (
        text and re.sub(r"~?(jax\.)?jaxlib\._jax\.Array", "Array", text) for text in (signature, returned)
    )
    return signature, returned


def _linked(app: Sphinx, doctree: nodes.document) -> None:
    """Names in the text are links, and have to exist; a block of examples ends with its last line."""
    for node in list(doctree.findall(nodes.literal)):
        named = re.match(r"jaxbp(\.[A-Za-z]\w*)+", node.astext())
        if named is None or isinstance(node.parent, addnodes.pending_xref | nodes.reference):
            continue
        target = named[0]
        # the commands' modules are named, but not imported
        if not target.startswith("jaxbp.experiments") and _member(target) is None:
            _LOG.warning("%s is no public name", target, location=node)
        link = addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=_shortest(target), refexplicit=True)
        link["py:module"] = link["py:class"] = None
        link["refdoc"] = app.env.docname
        node.replace_self(link)
        link += node
    for node in doctree.findall(nodes.literal_block):
        if node.astext().endswith("\n"):
            node.rawsource = node.astext().rstrip()
            node.children = [nodes.Text(node.rawsource)]


def _complete(app: Sphinx, env: BuildEnvironment) -> None:
    """No public name may be missing."""
    for name in public().keys() - env.domains.python_domain.objects.keys():
        _LOG.warning("%s is public, but on no page of the reference", name)


def _member(path: str) -> Any:
    """What a dotted path leads to, None where it leads nowhere."""
    try:
        return attrgetter(path.removeprefix("jaxbp."))(jaxbp)
    except AttributeError:
        return None


def _shortest(path: str) -> str:
    """The path under which the reference has it: `jaxbp.relu` for `jaxbp.activations.relu`."""
    thing = _member(path)
    return next((p for p, known in public().items() if known is thing), path)


def _skipped(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples are in the text of the tuple already, and so are those of dataclasses."""
    if type(thing).__name__ in {"_tuplegetter", "member_descriptor"} or name in {"count", "index"}:
        return True
    return None
