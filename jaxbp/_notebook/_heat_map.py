"""Small heat maps: one picture for light and dark, since 0 is transparent and colour grows with the magnitude."""

import base64
import struct
import zlib

import numpy as np

from jaxbp._drawing import by_axes
from jaxbp._explain._escaping import in_html
from jaxbp._notebook._measures import Measures
from jaxbp._notebook._parts import number

_POSITIVE, _NEGATIVE, _NOT_FINITE = (230, 97, 1), (33, 113, 206), (213, 0, 165)
_STEPS = 127  # on each side of 0
_WIDEST, _HIGHEST, _LARGEST_CELL = 144, 72, 8  # pixels


def heat_map(name: str, measures: Measures) -> str:
    """The cells of an array, orange where they are positive and blue where negative."""
    if not measures.cells.size:
        return ""
    rows, columns = measures.cells.shape
    side = max(2, min(_LARGEST_CELL, _WIDEST // columns, _HIGHEST // rows))
    finite = measures.cells[np.isfinite(measures.cells)]
    scale = float(np.max(np.abs(finite), initial=0.0))
    down, across = measures.block
    each = "" if (down, across) == (1, 1) else f"; a cell is the largest of {down} × {across} elements"
    label = in_html(
        f"{name}, {by_axes(measures.shape) or 'one number'}, from −{number(scale)} to {number(scale)}{each}"
    )
    data = base64.b64encode(_png(_indices(measures.cells, scale))).decode()
    return (
        f'<img src="data:image/png;base64,{data}" width="{columns * side}" height="{rows * side}" alt="{label}" '
        f'title="{label}">'
    )


def _indices(cells: np.ndarray, scale: float) -> np.ndarray:
    """The place of each cell in the palette: 0 for what is not finite, then from −scale to scale."""
    relative = np.nan_to_num(cells / np.float32(scale or 1), nan=0.0, posinf=0.0, neginf=0.0)
    steps = np.rint(relative * _STEPS).astype(int) + _STEPS + 1
    return np.where(np.isfinite(cells), steps, 0).astype(np.uint8)


def _png(indices: np.ndarray) -> bytes:
    """A PNG with a palette."""
    steps = range(-_STEPS, _STEPS + 1)
    colours = bytes(_NOT_FINITE) + b"".join(bytes(_POSITIVE if step > 0 else _NEGATIVE) for step in steps)
    opacity = bytes([255, *(round(255 * abs(step) / _STEPS) for step in steps)])
    rows, columns = indices.shape
    lines = b"".join(b"\0" + line.tobytes() for line in indices)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", colours), (b"tRNS", opacity), (b"IDAT", zlib.compress(lines, 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in (*chunks, (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
