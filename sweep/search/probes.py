"""Probes: the points that a study tries first after the hand-tuned ones, before its sampler has evidence.

Each is the best finished trial with one hyperparameter multiplied by a factor: the learning rate, if trials are short,
and the main balance hyperparameter, to both sides. Papers tune the learning rate for trainings of tens of thousands of
steps; with a few hundred it is too low. docs/concepts/budget.md has the measurements.
"""

from collections.abc import Mapping
from typing import Any

from sweep.search.space import Range, Space

LEARNING_RATE = "learning_rate"
STEPS = 2000  # optimiser steps from which on the learning rate of a paper is not too low
LEAST, MOST = 1.5, 5.0  # factor of the learning rate below which there is no probe, and its maximum
BALANCE = 5.0  # factor of the balance, down and up

Probe = tuple[str, float]  # hyperparameter and factor


def probes(space: Space, steps: float) -> tuple[Probe, ...]:
    """Return the probes of a study whose trials have so many optimiser steps."""
    found: list[Probe] = []
    factor = round(min(MOST, STEPS / steps), 2)
    if factor >= LEAST and isinstance(space.dimensions.get(LEARNING_RATE), Range):
        found.append((LEARNING_RATE, factor))
    first = space.paper[0].values
    for name, required in (space.balance or {}).items():
        if isinstance(space.dimensions.get(name), Range) and all(first.get(f) in of for f, of in required.items()):
            return (*found, (name, 1 / BALANCE), (name, BALANCE))
    return tuple(found)


def probe(space: Space, name: str, factor: float, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the hyperparameters `values` with one multiplied by the factor and clipped to its range, or None if it is
    not in the range or does not change."""
    dimension = space.dimensions.get(name)
    if not isinstance(dimension, Range) or not dimension.contains(values.get(name)):
        return None
    wanted = round(values[name] * factor) if dimension.integer else values[name] * factor
    changed = dimension.cast(min(max(wanted, dimension.low), dimension.high))
    return None if changed == values[name] else {**values, name: changed}
