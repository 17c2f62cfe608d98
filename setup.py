"""The page of the package: README.md, without what only a checkout can show."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def page(text: str) -> str:
    """Markdown in which pictures and links that are paths are their words alone: on a package's page they are broken.

    What has a scheme, or leads to a place on the same page, stays.
    """
    picture, link = (rf"{mark}\[([^\]]*)\]\((?![a-z]+:|#)[^)\s]+\)" for mark in ("!", "(?<!!)"))
    return re.sub(link, r"\1", re.sub(picture, r"*\1*", text))


if __name__ == "__main__":
    setup(
        long_description=page((HERE / "README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
