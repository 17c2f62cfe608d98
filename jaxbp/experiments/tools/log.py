"""The metrics of a run, a line for each epoch, in a file that a restart goes on with."""

import json
from pathlib import Path
from typing import Any

from jaxbp.experiments.common.files import write_whole
from jaxbp.experiments.common.records import append_line, as_json

Row = dict[str, Any]
NAME = "metrics.jsonl"


class Log:
    """The rows of a run so far, and the file that holds them; of several processes one writes."""

    def __init__(self, folder: Path, *, writes: bool = True):
        self.path, self.writes, self.rows = folder / NAME, writes, rows_in(folder)
        if self.path.exists():
            self._keep(self.rows)

    def add(self, row: Row) -> Row:
        """Add the row of an epoch; those of it and of later ones, from before a restart, are gone over."""
        kept = [old for old in self.rows if old["epoch"] < row["epoch"]]
        if len(kept) < len(self.rows):
            self._keep(kept)
        if self.writes:
            append_line(self.path, as_json(row))
        self.rows.append(row)
        return row

    def _keep(self, rows: list[Row]) -> None:
        if self.writes:
            write_whole(self.path, "".join(f"{as_json(row)}\n" for row in rows))
        self.rows[:] = rows

    def reached(self, epochs: int) -> str:
        """How far it came, in words."""
        return f"after {max(len(self.rows) - 1, 0)} of {epochs} epochs"


def rows_in(folder: Path) -> list[Row]:
    """The rows in the folder of a run, but for a last one that was being written when it was killed."""
    path, rows = folder / NAME, list[Row]()
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
