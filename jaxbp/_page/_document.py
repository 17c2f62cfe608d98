"""The page as one file: data, style and script within it, and nothing to load."""

import json
from importlib.resources import files
from typing import Any

from jaxbp._explain._escaping import in_html
from jaxbp._explain._work import Work
from jaxbp._page._data import data_of
from jaxbp._page._words import WORDS

SCRIPTS = [
    f"{name}.js"
    for name in ("engine", "slopes", "maths", "mistakes", "drawing", "state", "step", "given", "panels", "page")
]
"""In this order: names are known from the start, and what is run at once is at the end."""

FILL_IN = ("nothing", "numbers", "formulas")
"""What a page leaves blank."""


def document(work: Work, title: str, fill_in: str = "nothing", language: str = "en") -> str:
    """The whole document, in one of the languages of `WORDS`; what it leaves blank is one of `FILL_IN`."""
    script = "\n".join(map(_beside, SCRIPTS))
    data: dict[str, Any] = data_of(work, language) | {"fill": fill_in, "words": WORDS[language]}
    return _DOCUMENT.format(
        title=in_html(title), style=_beside("page.css"), script=script, data=_in_script(data), language=language
    )


def _beside(name: str) -> str:
    return files("jaxbp._page").joinpath(name).read_text(encoding="utf-8")


def _in_script(data: object) -> str:
    """JSON within an element `script`, which only a tag could end."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


_DOCUMENT = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main id="page"><h1>{title}</h1>
<noscript><p>This page computes, so it needs JavaScript; it loads nothing.</p></noscript>
</main>
<script type="application/json" id="data">{data}</script>
<script>
(() => {{
"use strict";
{script}}})();
</script>
</body>
</html>
"""
