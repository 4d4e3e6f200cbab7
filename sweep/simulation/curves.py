"""Learning curves of simulated trials: their value and time at each epoch where they are evaluated.

There are two sources. `Synthetic` generates curves that may cross, to test search and halving. `Recorded` uses the
curves of a finished sweep, to plan the next one.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np

from sweep.record import Trial, read_trials
from sweep.search.space import Choice, Range, Space
from sweep.search.study import Spec

USABLE = ("complete", "paused", "pruned")  # and diverged: outcomes that depend on the values, not on a machine


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of a trial: `seconds` since its start, `value` None if it diverged."""

    epoch: int
    seconds: float
    value: float | None


class Curves(Protocol):
    """Source of learning curves."""

    def course(self, study: str, number: int, values: Mapping[str, Any], levels: Sequence[int]) -> Iterator[Evaluated]:
        """Yield the evaluations of a trial at the epochs `levels`, ascending; a divergence is the last one."""
        ...


class Synthetic:
    """Power laws over a landscape with one valley per study.

        value(e) = floor (1 + 4 e^-rate) exp(noise)        floor = 10 exp(3 d)

    d is the distance of the searched values from the study's optimum (root mean square in the unit cube, log
    and order as in the space). The rate is drawn for each trial, from 0.5 to 1.5, so that curves cross; the
    noise has a standard deviation of 0.05. One trial in 50 diverges. An epoch takes `epoch_seconds` of the
    study, times a factor of the trial that is log-normal with a deviation of 0.2. Same seed, same curves.
    """

    DIVERGING, NOISE, SPREAD = 0.02, 0.05, 0.2

    def __init__(self, specs: Iterable[Spec], epoch_seconds: Mapping[str, float], seed: int) -> None:
        self.spaces = {spec.study: spec.space for spec in specs}
        self.epoch_seconds, self.seed = epoch_seconds, seed
        self.optima = {name: self._chance(name).random(len(s.searched)) for name, s in self.spaces.items()}

    def floor(self, study: str, values: Mapping[str, Any]) -> float:
        """Return the value in the limit of infinite training."""
        away = coordinates(self.spaces[study], values) - self.optima[study]
        return 10 * math.exp(3 * math.sqrt(np.mean(away**2)) if away.size else 0.0)

    def course(self, study: str, number: int, values: Mapping[str, Any], levels: Sequence[int]) -> Iterator[Evaluated]:
        chance = self._chance(f"{study}/{number}")
        floor, rate = self.floor(study, values), chance.uniform(0.5, 1.5)
        pace = self.epoch_seconds[study] * math.exp(self.SPREAD * chance.standard_normal())
        diverges_at = chance.integers(1, levels[-1] + 1) if chance.random() < self.DIVERGING else math.inf
        for level in levels:
            if diverges_at <= level:
                yield Evaluated(int(diverges_at), float(diverges_at) * pace, None)
                return
            noise = math.exp(self.NOISE * chance.standard_normal())
            yield Evaluated(level, level * pace, floor * (1 + 4 * level**-rate) * noise)

    def _chance(self, name: str) -> np.random.Generator:
        return np.random.default_rng(crc32(f"{self.seed}/curves/{name}".encode()))


class Recorded:
    """The curves of a recorded sweep: a trial follows the recorded trial with the nearest searched values.

    Between two evaluations, values are interpolated over log(epoch) and seconds over epochs. A curve that halving
    stopped is extended by the median ratio of the longer curves, at its own pace. Nothing is extrapolated between
    recorded points, so the best value found cannot be better than the recorded ones.
    """

    def __init__(self, folder: Path, specs: Iterable[Spec]) -> None:
        """Raises ValueError if the sweep in `folder` lacks curves of these studies."""
        trials = read_trials(folder)
        self.curves: dict[str, list[_Curve]] = {}
        self.spaces: dict[str, Space] = {}
        for spec in specs:
            entry = trials.studies.get(spec.study)
            if entry is None:
                known = ", ".join(trials.studies) or "none"
                raise ValueError(f"{folder} has no study {spec.study!r}; its studies: {known}")
            if entry.metric != spec.metric or entry.epochs < spec.epochs:
                raise ValueError(
                    f"{folder}: {spec.study} was recorded with {entry.metric} up to epoch {entry.epochs}; "
                    f"the simulation needs {spec.metric} up to {spec.epochs}"
                )
            curves = [_Curve.of(trial, spec.space) for trial in trials.of(spec.study) if _is_usable(trial)]
            if not any(curve.reach >= spec.epochs for curve in curves):
                raise ValueError(f"{folder}: no trial of {spec.study} has reached epoch {spec.epochs} yet")
            self.spaces[spec.study], self.curves[spec.study] = spec.space, curves

    def course(self, study: str, number: int, values: Mapping[str, Any], levels: Sequence[int]) -> Iterator[Evaluated]:
        here = coordinates(self.spaces[study], values)
        curve = min(self.curves[study], key=lambda other: float(np.sum((other.at - here) ** 2)))
        for level in levels:
            if curve.diverged_at is not None and (curve.diverged_at <= level or not curve.reach):
                yield Evaluated(curve.diverged_at, curve.seconds_at(curve.diverged_at), None)
                return
            yield Evaluated(level, curve.seconds_at(level), self._value(study, curve, level))

    def _value(self, study: str, curve: "_Curve", epoch: int) -> float:
        last = curve.reach
        if epoch <= last:
            return curve.value_at(epoch)
        longer = [other for other in self.curves[study] if other.reach >= epoch]
        ratios = [other.value_at(epoch) / other.value_at(last) for other in longer if other.value_at(last) > 0]
        return curve.value_at(last) * float(np.median(ratios or [1.0]))


@dataclass(frozen=True)
class _Curve:
    at: np.ndarray  # (K,) in the unit cube
    epochs: np.ndarray  # (E,) evaluated epochs, ascending; empty if it diverged before the first
    values: np.ndarray  # (E,)
    clock: np.ndarray  # (T, 2) epoch and seconds since the start, evaluations included
    diverged_at: int | None

    @classmethod
    def of(cls, trial: Trial, space: Space) -> "_Curve":
        rows = [row for _, row in sorted(trial.rows.items()) if trial.metric in row.metrics]
        spent = [sum(v for name, v in row.metrics.items() if name.startswith("time/")) for row in rows]
        clock = [(0, 0.0), *((row.epoch, seconds) for row, seconds in zip(rows, spent, strict=True))]
        if trial.state == "diverged" and trial.ended is not None:
            clock.append((trial.end_epoch, trial.worker_seconds))
        return cls(
            coordinates(space, trial.values),
            np.array([row.epoch for row in rows]),
            np.array([row.metrics[trial.metric] for row in rows]),
            np.array(clock),
            trial.end_epoch if trial.state == "diverged" else None,
        )

    @property
    def reach(self) -> int:
        """The last evaluated epoch, 0 if there is none."""
        return int(self.epochs[-1]) if self.epochs.size else 0

    def value_at(self, epoch: int) -> float:
        return float(np.interp(math.log(epoch), np.log(self.epochs), self.values))

    def seconds_at(self, epoch: int) -> float:
        known, seconds = self.clock.T
        if epoch > known[-1]:
            return float(seconds[-1] * epoch / known[-1])
        return float(np.interp(epoch, known, seconds))


def _is_usable(trial: Trial) -> bool:
    return trial.state == "diverged" or (trial.state in USABLE and trial.value is not None)


def coordinates(space: Space, values: Mapping[str, Any]) -> np.ndarray:
    """Map the searched ones of `values` to the unit cube, (K,): ranges by their scale, choices by their order."""
    return np.array([_coordinate(found, values[name]) for name, found in space.searched.items()])


def _coordinate(dimension: Range | Choice, value: Any) -> float:
    if isinstance(dimension, Choice):
        known = dimension.cast(value)
        place = dimension.choices.index(known) if known in dimension.choices else 0
        return place / max(1, len(dimension.choices) - 1)
    low, high, here = dimension.low, dimension.high, float(value)
    if dimension.log:
        low, high, here = math.log(low), math.log(high), math.log(here)
    return (here - low) / (high - low)
