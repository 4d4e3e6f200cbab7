"""Probes: the points that a study tries first after the hand-tuned ones, before its sampler has evidence.

Each is the best finished trial with one hyperparameter changed: the learning rate times `RATE`, then the main balance
hyperparameter divided and multiplied by `BALANCE`. Papers tune the learning rate for trainings that are much longer
than those of most sweeps. The first probe is never stopped, because a rung cannot judge it: it compares a learning
rate with others after a few epochs. docs/concepts/budget.md has the measurements.
"""

from collections.abc import Mapping
from typing import Any

from sweep.search.space import Range, Space

LEARNING_RATE = "learning_rate"
RATE, BALANCE = 4.0, 5.0
COUNT = 3


def probe(space: Space, index: int, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the probe of this index from 0, based on the hyperparameters `values` and clipped to the range, or None if
    the hyperparameter is not searched or does not change."""
    factor = (RATE, 1 / BALANCE, BALANCE)[index]
    name = LEARNING_RATE if index == 0 else main_balance(space, values)
    dimension = space.dimensions.get(name) if name else None
    if name is None or not isinstance(dimension, Range) or not dimension.contains(values.get(name)):
        return None
    wanted = values[name] * factor
    changed = dimension.cast(min(max(round(wanted) if dimension.integer else wanted, dimension.low), dimension.high))
    return None if changed == values[name] else {**values, name: changed}


def main_balance(space: Space, values: Mapping[str, Any]) -> str | None:
    """Return the first balance hyperparameter that is searched and whose required values are those of `values`."""
    for name, required in (space.balance or {}).items():
        if isinstance(space.dimensions.get(name), Range) and all(values.get(f) in of for f, of in required.items()):
            return name
    return None
