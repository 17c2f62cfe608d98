"""The gallery: pictures and pages made at build by the command that stands above them.

    ```{made} activations --depth 10
    :alt: What the picture shows.
    ```

runs `python -m experiments.activations --depth 10`, with a folder of its own to write to, and shows what it wrote. What
a command has made is kept until the library changes. With `:out:` it writes that file; with `:printed:` the command is
only printed.
"""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

_LOG = logging.getLogger(__name__)
_PICTURES = {".png", ".svg"}
_ROOT = Path(__file__).parents[2]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_config_value("made_folder", "", "env")
    app.add_directive("made", Made)
    app.connect("build-finished", _with_pages)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


class Made(SphinxDirective):
    """A command, and what it makes."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {
        "alt": directives.unchanged_required,
        "printed": directives.flag,
        "only": directives.unchanged,
        "out": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """The command as text, then its pictures, and links to its pages."""
        command = self.arguments[0]
        text = f"python -m experiments.{command}"
        shown: list[nodes.Node] = [nodes.literal_block(text, text, language="text")]
        if "printed" not in self.options:
            shown += self._results(
                _made(Path(self.config.made_folder), shlex.split(command), self.options.get("out", ""))
            )
        return shown + self.parse_content_to_nodes()

    def _results(self, folder: Path) -> list[nodes.Node]:
        only = self.options.get("only", "").split()
        made = (path for path in sorted(folder.rglob("*")) if path.is_file())  # some commands make a folder for each
        files = [path for path in made if not only or path.name in only]
        found: list[nodes.Node] = []
        for path in files:
            if path.suffix in _PICTURES:
                if "alt" not in self.options:
                    raise self.error("a picture needs :alt:, what it shows")
                uri = Path("_made", folder.name, path.relative_to(folder)).as_posix()
                source = f'<img src="{uri}" alt="{_quoted(self.options["alt"])}" loading="lazy">'
                found.append(nodes.raw("", f'<a class="made" href="{uri}">{source}</a>', format="html"))
            elif path.suffix == ".html":
                uri = Path("_made", folder.name, path.relative_to(folder)).as_posix()
                title = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"), re.DOTALL)
                words = title[1] if title else path.name
                found.append(nodes.raw("", f'<p>The page: <a href="{uri}">{words}</a></p>', format="html"))
        if not found:
            raise self.error(f"the command made nothing to show: {[path.name for path in files]}")
        return found


def _made(folder: Path, words: list[str], file: str) -> Path:
    """The folder that a command has written to, now or in an earlier build."""
    name = words[0] + "-" + hashlib.sha256(shlex.join(words).encode()).hexdigest()[:8]
    done = folder / name
    if not done.exists():
        _LOG.info("making %s", shlex.join(words))
        unfinished = folder / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        command = [sys.executable, "-m", f"experiments.{words[0]}", *words[1:], "--out", str(unfinished / file)]
        result = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600, check=False)
        # 1 is a claim that does not hold, or is not decided at this size
        if result.returncode not in (0, 1) or not any(unfinished.iterdir()):
            raise RuntimeError(f"{shlex.join(command)} failed:\n{result.stdout}\n{result.stderr}")
        unfinished.rename(done)
    return done


def _with_pages(app: Sphinx, exception: Exception | None) -> None:
    """What the commands made, beside the pages that show it."""
    made = Path(app.config.made_folder)
    if exception is None and app.builder.format == "html" and made.exists():
        shutil.copytree(made, Path(app.outdir, "_made"), dirs_exist_ok=True)


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
