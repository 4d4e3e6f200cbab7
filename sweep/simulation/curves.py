"""Learning curves without training: what a simulated trial shows at the epochs where it is judged, and when.

Two sources. `Synthetic` invents curves that are good where no one has looked yet and may cross, to test what
decides about trials. `Recorded` takes them from a sweep that was run, to plan the next one.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np

from sweep.record import RECORD, Trial, read_trials
from sweep.search.space import Choice, Range, Space
from sweep.search.study import Spec

USABLE = ("complete", "pruned")  # besides diverged: what says something about the values and not about a machine


@dataclass(frozen=True)
class Evaluated:
    """Where a trial stands when it has been evaluated: `seconds` since its start, `value` None if it diverged."""

    epoch: int
    seconds: float
    value: float | None


class Curves(Protocol):
    """Whatever can say how a trial goes."""

    def course(self, study: str, number: int, values: Mapping[str, Any], levels: Sequence[int]) -> Iterator[Evaluated]:
        """The trial at each of the epochs `levels`, ascending; the last one told if it diverges."""
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
        """What training for ever would lead to."""
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
    """The curves of a sweep that was run: a trial goes as the one whose searched values lie nearest went.

    Between two evaluations a value is interpolated over log(epoch), the seconds over epochs. A curve that
    halving cut short goes on by the median ratio of those that were not, and at its own pace. Values between
    those that were tried are not foreseen, so the best found cannot be better than what was recorded.
    """

    def __init__(self, folder: Path, specs: Iterable[Spec]) -> None:
        """Raises ValueError when the sweep in `folder` cannot say how these studies would go."""
        if not (folder / RECORD).exists():
            raise ValueError(f"{folder}: no {RECORD} here, so no curves; name the folder of a sweep")
        trials = read_trials(folder)
        self.curves: dict[str, list[_Curve]] = {}
        self.spaces: dict[str, Space] = {}
        for spec in specs:
            told = trials.studies.get(spec.study)
            if told is None:
                known = ", ".join(trials.studies) or "none"
                raise ValueError(f"{folder}: has no study {spec.study!r} to take curves from (it has: {known})")
            if told.metric != spec.metric or told.epochs < spec.epochs:
                raise ValueError(
                    f"{folder}: {spec.study} was recorded by {told.metric} up to epoch {told.epochs}; "
                    f"asked for {spec.metric} up to {spec.epochs}"
                )
            curves = [_Curve.of(trial, spec.space) for trial in trials.of(spec.study) if _is_usable(trial)]
            if not any(curve.reach >= spec.epochs for curve in curves):
                raise ValueError(f"{folder}: no trial of {spec.study} has come to epoch {spec.epochs} yet")
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
    epochs: np.ndarray  # (E,) that were evaluated, ascending; none if it diverged before
    values: np.ndarray  # (E,)
    clock: np.ndarray  # (T, 2) epoch and seconds since the start, evaluations included
    diverged_at: int | None

    @classmethod
    def of(cls, trial: Trial, space: Space) -> "_Curve":
        rows = [row for _, row in sorted(trial.rows.items()) if trial.metric in row.metrics]
        spent = [sum(v for name, v in row.metrics.items() if name.startswith("time/")) for row in rows]
        clock = [(0, 0.0), *((row.epoch, seconds) for row, seconds in zip(rows, spent, strict=True))]
        if trial.state == "diverged" and trial.ended is not None:
            clock.append((trial.end_epoch, trial.ended - trial.started))
        return cls(
            coordinates(space, trial.values),
            np.array([row.epoch for row in rows]),
            np.array([row.metrics[trial.metric] for row in rows]),
            np.array(clock),
            trial.end_epoch if trial.state == "diverged" else None,
        )

    @property
    def reach(self) -> int:
        """The last epoch that was evaluated, 0 if there is none."""
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
    """(K,) The searched ones of `values` in the unit cube: ranges on their own scale, choices in their order."""
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
