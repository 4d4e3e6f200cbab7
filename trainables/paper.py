"""The hand-tuned values of a method's paper, read from its search space."""

import tomllib
from pathlib import Path
from typing import Any

from trainables.catalog import space_file
from trainables.datasets import Splits


def paper_point(method: str, splits: Splits, path: Path | None) -> dict[str, Any]:
    """Returns the values of the [[paper]] point for the data set, else for its family, else of the first point."""
    source = path or space_file(method)
    try:
        paper = tomllib.loads(source.read_text(encoding="utf-8"))["paper"]
        points = [(point["datasets"], point["values"]) for point in paper]
        _, first = points[0]
    except (OSError, KeyError, TypeError, IndexError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{source}: no [[paper]] point to start from ({error}); name a file with --values") from None
    for name in (splits.name, splits.like):
        for datasets, values in points:
            if name in datasets:
                return values
    return first
