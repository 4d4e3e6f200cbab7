"""What an evaluation has found so far: a value never stands without the way in which it was measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trainables.metrics import Recipe


class NotFinite(FloatingPointError):
    """Codes or images that are not finite, by name."""


def finite(tensor: Tensor, name: str) -> Tensor:
    """The tensor itself; raises NotFinite with its name when it holds NaN or infinity."""
    if not tensor.isfinite().all():
        raise NotFinite(name)
    return tensor


@dataclass
class Findings:
    """Metrics named split/name, each with its recipe, vectors, and what a reader should know, by flag."""

    split: str
    metrics: dict[str, float] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    caveats: dict[str, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], recipe: Recipe) -> None:
        """Takes in values that were measured in one way; what is not finite is left out."""
        for name, value in values.items():
            if math.isfinite(value):
                self.metrics[f"{self.split}/{name}"] = float(value)
                self.recipes[f"{self.split}/{name}"] = recipe

    def flag(self, names: tuple[str, ...], found: Mapping[str, str]) -> None:
        """Each of the flags as flag/<name>, 1 where it was found and else 0, so that an absence is told too."""
        self.metrics |= {f"flag/{name}": float(name in found) for name in names}
        self.caveats |= found
