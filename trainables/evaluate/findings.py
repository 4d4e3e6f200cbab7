"""The results of an evaluation. Each value is stored with the recipe of its measurement."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trainables.metrics import Recipe


class NotFinite(FloatingPointError):
    """Codes or images that are not finite, by name."""


def finite(tensor: Tensor, name: str) -> Tensor:
    """Returns the tensor. Raises NotFinite with its name if it contains NaN or infinity."""
    if not tensor.isfinite().all():
        raise NotFinite(name)
    return tensor


@dataclass
class Findings:
    """Metrics named split/name, each with its recipe; vectors; and warnings by flag."""

    split: str
    metrics: dict[str, float] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    caveats: dict[str, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], recipe: Recipe) -> None:
        """Adds values that share a recipe; drops non-finite ones."""
        for name, value in values.items():
            if math.isfinite(value):
                self.metrics[f"{self.split}/{name}"] = float(value)
                self.recipes[f"{self.split}/{name}"] = recipe

    def flag(self, names: tuple[str, ...], found: Mapping[str, str]) -> None:
        """Adds each flag as flag/<name>, 1 if it was found and else 0, so that its absence is recorded."""
        self.metrics |= {f"flag/{name}": float(name in found) for name in names}
        self.caveats |= found
