"""The page of the package: README.md, without what only a checkout can show."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def page(text: str) -> str:
    """Markdown in which pictures and links that are paths are their words alone: on a package's page they are broken.

    What has a scheme, or leads to a place on the same page, stays, and so does code.
    """
    code, path = r"(`+)[^`]+\1", r"\((?![a-z]+:|#)[^)\s]+\)"
    return re.sub(rf"{code}|(!?)\[([^\]]*)\]{path}", _in_words, text)


def _in_words(found: re.Match[str]) -> str:
    fence, picture, words = found.groups()
    return found[0] if fence else f"*{words}*" if picture else words


if __name__ == "__main__":
    setup(
        long_description=page((HERE / "README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
