"""Rows of the programs of this folder: the columns of `analysis/published`, then what the run was given."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PUBLISHED = ("paper", "table", "dataset", "method", "variant", "metric", "epoch", "value", "std")
COLUMNS = (*PUBLISHED, "epochs", "seed", "set")


def recipe(epochs: int, seed: int, overrides: Mapping[str, Any]) -> tuple[int, int, str]:
    """Returns the values of the columns after PUBLISHED: planned epochs, seed, and what overrides the paper's point."""
    return epochs, seed, " ".join(f"{name}={value}" for name, value in overrides.items())


def add(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Appends rows to a CSV file, with a header if it is new. Raises ValueError if it has other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", newline="") as stream:
        stream.seek(0)
        header = next(csv.reader(stream), None)
        if header is not None and header != list(columns):
            raise ValueError(f"{path} has the columns {', '.join(header)}, not {', '.join(columns)}; give a new file")
        csv.writer(stream, lineterminator="\n").writerows([columns] * (header is None) + list(rows))
