"""Text to learn from: a file, a folder of files, or the sources of Python's standard library, as characters."""

import gzip
import io
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxbp.experiments.common.files import read_bytes

SUFFIXES = (".txt", ".md", ".py", ".rst", ".gz")
MOST_CHARACTERS = 20_000_000
MOST_DIFFERENT = 255  # characters that have an id of their own; all rarer ones are one
RARE = "\N{REPLACEMENT CHARACTER}"
VALIDATION = 0.1  # of the text, at its end


@dataclass(frozen=True, eq=False)
class Text:
    """A text as ids of its characters.

    Attributes:
        name: What it is.
        characters: What each id stands for.
        train: The ids of the first part.
        validation: The ids of the rest.
    """

    name: str
    characters: str
    train: np.ndarray
    validation: np.ndarray

    def encoded(self, text: str) -> np.ndarray:
        """The ids of another text."""
        return _encoded(text, self.characters)

    def decoded(self, ids: np.ndarray) -> str:
        """The characters of some ids."""
        return "".join(self.characters[i] for i in np.ravel(ids))


def load_text(path: Path | None, context: int) -> Text:
    """The text of a file or a folder; of Python's standard library without one.

    Files are read as UTF-8, gzipped ones unpacked, those of a folder one after the other by name. A text longer than
    20 million characters is cut there.

    Raises:
        ValueError: There is no text, or too little for windows of this length.
        OSError: A file cannot be read.
    """
    standard = path is None
    path = Path(sysconfig.get_paths()["stdlib"]) if path is None else path
    pieces: list[str] = []
    length = 0
    files = [path] if path.is_file() else sorted(f for f in path.glob("*") if f.suffix in SUFFIXES and f.is_file())
    for file in files:
        if length < MOST_CHARACTERS:
            pieces.append(_read(file))
            length += len(pieces[-1])
    if not files:
        known = ", ".join(SUFFIXES)
        raise ValueError(f"{path} holds no text: expected a file, or a folder with files that end in {known}")
    text = "\n".join(pieces)[:MOST_CHARACTERS]
    split = int(len(text) * (1 - VALIDATION))
    if min(split, len(text) - split) <= context + 1:
        raise ValueError(f"{path} holds {len(text)} characters, too few for windows of {context}; take a longer text")
    counted = Counter(text)
    frequent = sorted(c for c, _ in counted.most_common(MOST_DIFFERENT))
    characters = "".join(frequent) + (RARE if len(counted) > len(frequent) and RARE not in frequent else "")
    ids = _encoded(text, characters)
    name = "Python's standard library" if standard else path.name
    return Text(name, characters, ids[:split], ids[split:])


def _read(file: Path) -> str:
    content = read_bytes(file)
    if file.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(content)) as unpacked:
                content = unpacked.read(4 * MOST_CHARACTERS)  # which may be far more than the file
        except (OSError, EOFError) as error:
            raise ValueError(f"{file} ends in .gz, but cannot be unpacked: {error}") from None
    return content.decode("utf-8", errors="replace")


def _encoded(text: str, characters: str) -> np.ndarray:
    of = {c: i for i, c in enumerate(characters)}
    rare = of.get(RARE, 0)
    return np.fromiter((of.get(c, rare) for c in text), np.int32, len(text))
