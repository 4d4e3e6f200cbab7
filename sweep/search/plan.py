"""Planning: build the studies of a sweep from its configuration and validate them before Ray starts."""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import as_file
from typing import Any

import numpy as np
import torch

from sweep.config import SweepConfig
from sweep.search import space as spaces
from sweep.search.probes import probes
from sweep.search.rungs import SPARED, Rungs
from sweep.search.space import Choice, Fixed, Range, Space
from sweep.search.study import Spec, Study
from trainables import global_state, outside
from trainables.catalog import find, label, place, space_file
from trainables.config import Config, checked, hyper_fields
from trainables.datasets import Absent, Splits, load
from trainables.feed import shared
from trainables.flags import scalar
from trainables.maps import joined
from trainables.memory import Footprint, footprint, of_this_machine, require_memory
from trainables.method import Method
from trainables.metrics import choose, default_metric, obstacle
from trainables.metrics.resolution import ENOUGH
from trainables.networks import Networks
from trainables.strict import kinds_of
from trainables.training import Diverged, Training
from trainables.words import did_you_mean, readable


@dataclass(frozen=True)
class Planned:
    """A planned study, with the names of its method and data set in the configuration (tables show shorter names)."""

    spec: Spec
    method: str
    dataset: str

    @property
    def name(self) -> str:
        return self.spec.study

    @property
    def hand_tuned_values(self) -> dict[str, Any]:
        return dict(self.spec.space.paper[0].values)


@dataclass(frozen=True)
class Plan:
    config: SweepConfig
    splits: dict[str, Splits]  # by name in the configuration
    studies: tuple[Planned, ...]
    lengthened: str = field(default="", kw_only=True)  # why trials have more epochs than the default, if they do

    @property
    def split(self) -> str:
        """The split on which trials are scored; a search uses only valid."""
        return self.config.split

    def metric_of(self, dataset: str) -> str:
        """Return the metric of a data set's trials, as an argument of `evaluator_for`."""
        return self.config.metric or default_metric(self.splits[dataset])

    def parts_of(self, dataset: str) -> dict[str, Splits]:
        """Return the splits that trials of a data set train and score on, by the names that `part_of` returns."""
        return {dataset: self.splits[dataset]}

    def part_of(self, study: Planned, number: int) -> str:
        """Return the name of the splits of a trial."""
        return study.dataset

    @property
    def rungs(self) -> list[int]:
        return Rungs(self.config.epochs, self.config.rung_epoch, self.config.factor).levels

    def readings(self) -> list[str]:
        """Return one line for each folder of images that says how it was read, and one if trials are lengthened."""
        sets = self.splits.values()
        read = [f"{splits.name}: {splits.reading.words()}" for splits in sets if splits.reading is not None]
        return [*read, self.lengthened] if self.lengthened else read

    def trained_on(self, splits: Splits) -> np.ndarray:
        """Return the images that trials train on, uint8 (N, C, H, W): the training images, with the validation images
        if trials are scored on the test split."""
        return splits.train.images if self.split == "valid" else joined(splits.train.images, splits.valid.images)

    @cached_property
    def footprints(self) -> dict[str, Footprint]:
        """The memory of a training step of each study's hand-tuned point, measured on the CPU at the first use."""
        return {study.name: _footprint(self, study) for study in self.studies}

    def study(self, planned: Planned) -> Study:
        """Return a planned study in its initial state."""
        return Study(planned.spec, self.config.seed)

    def seed_of(self, study: str, number: int) -> int:
        """Return the seed of the training and the evaluation of a trial; in a search all trials share it.

        Without a searcher the hand-tuned points run repeatedly, each round with the next seed.
        """
        if self.config.searcher != "none":
            return self.config.seed
        points = next(planned.spec.space.paper for planned in self.studies if planned.name == study)
        return self.config.seed + number // len(points)

    def fit_config(self, study: Planned, values: Mapping[str, Any], seed: int) -> Config:
        """Return the configuration of the training of one trial."""
        shared = {name: getattr(self.config, name) for name in ("epochs", "data_root", "image_size", "channels")}
        return Config(method=study.method, dataset=study.dataset, values=dict(values), seed=seed, **shared)


def plan(config: SweepConfig) -> Plan:
    """Load data sets and search spaces and check that they are compatible. Raises ValueError in one line."""
    for field_name, value in config.model_dump(mode="json").items():
        _refuse_other_encodings(f"{field_name} =", json.dumps(value, ensure_ascii=False))
    for method in config.methods:
        find(method)
    unused = [method for method in config.spaces if method not in config.methods]
    if unused:
        hint = did_you_mean(unused[0], config.methods)
        raise ValueError(f"spaces: {unused[0]!r} is not among the methods ({', '.join(config.methods)}){hint}")
    labels = [label(method) for method in config.methods]
    for flag, names in (("set", config.set), ("search", config.search)):
        for name in names:
            if (of := name.rpartition(".")[0]) and of not in labels:
                raise ValueError(f"{flag}: {name}: {of!r} is not among the methods ({', '.join(labels)})")
    splits = load_splits(config)
    if config.confirm_folds is not None:
        check_folds(splits.values(), config.confirm_folds, "--confirm-folds")
    memory = of_this_machine() if config.address is None else None
    config = config.model_copy(update={"datasets": list(splits)})
    shown = [s.name for s in splits.values()]
    for name in shown:
        _refuse_other_encodings("data set", name)
    if len(set(shown)) < len(shown):
        raise ValueError(f"two data sets are named {max(shown, key=shown.count)!r}; rename one folder")
    config, lengthened = _lengthened(config, splits)
    if config.first_rung is not None and config.first_rung > config.epochs:
        raise ValueError(f"first_rung must be at most epochs = {config.epochs}, got {config.first_rung}")
    if late := [epoch for epoch in config.looks if epoch > config.epochs]:
        raise ValueError(f"looks must be at most epochs = {config.epochs}, got {', '.join(map(str, late))}; omit them")
    studies = []
    spaces_of = {method: _opened(space_of(method, config), method, config) for method in config.methods}
    for dataset, data in splits.items():
        metric = choose(config.metric or default_metric(data)).recorded
        if metric in config.objectives:
            raise ValueError(f"objectives = {metric} is already the metric of {data.name}; omit it")
        for name in config.objectives:
            if why := obstacle(name, data):
                raise ValueError(f"objectives = {name} {why}; omit it")
        kind = _network(config, dataset, data, spaces_of.values())
        for method, space in spaces_of.items():
            space = space.on(data.name, data.like)
            images = len(data.train) if len(data.shape) == 3 else None
            space = space.carried_to(data.name, math.prod(data.shape), find(method).per_pixel, images)
            if kind is not None:
                space = space.with_fixed(find(method).on_network(kind), by="--networks")
            space = _effective(space, _pinned(space, method, config), method, config)
            space = space.shortened(config.schedule_scale)
            trials = config.seeds or config.trials
            if config.searcher == "none":
                space, trials = space.points_only(), trials * len(space.paper)
            steps = _steps(space, config.epochs, len(data.train))
            first = () if config.searcher == "random" else probes(space, steps)
            spec = Spec(
                study=f"{label(method)}-{data.name}", method=label(method), dataset=data.name, trials=trials,
                budget_epochs=None if config.searcher == "none" else trials * config.epochs,
                epochs=config.epochs, metric=f"{config.split}/{metric}", space=space, first_rung=config.rung_epoch,
                factor=config.factor, spared=SPARED, promotes=True, adaptive=True, probes=first,
                sampler=config.searcher, objectives=tuple(recorded(name) for name in config.objectives),
            )  # fmt: skip
            studies.append(Planned(spec, method, dataset))
            check(studies[-1], data, memory)
    if len({study.name for study in studies}) < len(studies):
        raise ValueError("two methods have the same name; run them in separate sweeps")
    planned = Plan(config, splits, tuple(studies), lengthened=lengthened)
    for study in planned.studies:
        if place(study.method):
            rehearse(planned, study)
    return planned


def _refuse_other_encodings(what: str, text: str) -> None:
    """Raise ValueError if the record cannot hold a text, because names of files may have any bytes."""
    if (shown := readable(text)) != text:
        raise ValueError(f"{what} {shown} has bytes that are not UTF-8, here ?; rename the file or folder")


def _lengthened(config: SweepConfig, splits: Mapping[str, Splits]) -> tuple[SweepConfig, str]:
    """Return the configuration, with more epochs and the reason if the user gives none and images are few.

    With few images an epoch has fewer than `STEPS_PER_EPOCH` optimiser steps, even with the smallest batch. All trials
    of a sweep have the same number of epochs, so the largest data set decides.
    """
    if "epochs" in config.model_fields_set or any(len(data.shape) != 3 for data in splits.values()):
        return config, ""
    images = max(len(data.train) for data in splits.values())
    steps = images // spaces.largest_batch(images)
    epochs = math.ceil(config.epochs * spaces.STEPS_PER_EPOCH / steps)
    if epochs <= config.epochs:
        return config, ""
    reason = (
        f"epochs = {epochs} in place of {config.epochs}, because {images} training images are too few for "
        f"{spaces.STEPS_PER_EPOCH} optimiser steps per epoch (here {steps}); set --epochs for another number"
    )
    return config.model_copy(update={"epochs": epochs}), reason


def _steps(space: Space, epochs: int, images: int) -> float:
    """Return the optimiser steps of a trial of the first hand-tuned point; infinitely many if `check` refuses it."""
    batch = space.paper[0].values.get("batch_size")
    return epochs * max(1.0, images / batch) if isinstance(batch, int) and batch > 0 else math.inf


def recorded(objective: str) -> str:
    """Return the name of a further objective's values in the record."""
    return "time/train_seconds" if objective == "train_seconds" else f"valid/{objective}"


def _network(config: SweepConfig, dataset: str, data: Splits, spaces: Iterable[Space]) -> str | None:
    """Return the kind of network that all methods use on a data set; None: that of each hand-tuned point."""
    if config.networks is not None:
        return None if config.networks == "paper" else config.networks
    of_its_own = all(any(data.name in point.datasets for point in space.paper) for space in spaces)
    apart = dataset.startswith("folder:") or not of_its_own
    return "shared" if apart and len(data.shape) == 3 else None


def load_splits(config: SweepConfig) -> dict[str, Splits]:
    """Load the data sets, by their names in the configuration; with `present_only`, absent ones are skipped."""
    splits, absent = {}, []
    for name in config.datasets:
        try:
            splits[name] = load(
                name, config.data_root, size=config.image_size, channels=config.channels,
                download=not config.present_only,
            )  # fmt: skip
        except Absent as error:
            if not config.present_only:
                raise
            absent.append(error)
    if not splits:
        raise absent[0]
    return splits


def space_of(method: str, config: SweepConfig) -> Space:
    """Load the search space of a method: the file given by the user, else the file of a built-in method, else the file
    next to the module of an outside method."""
    fields = hyper_fields(method)
    if method in config.spaces:
        found = spaces.load(config.spaces[method], fields)
    else:
        with as_file(space_file(method)) as path:
            found = spaces.load(path, fields)
    return replace(
        found, paper=tuple(replace(point, values=_with_integers(method, point.values)) for point in found.paper)
    )


def _with_integers(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with 100 in place of 1e2 where the method's hyperparameter is an integer.

    Values that the method refuses are returned as they are, because `check` names them.
    """
    with suppress(ValueError):
        hyper = find(method).Hyper(**values)
        integers = {name: value for name in values if type(value := getattr(hyper, name)) is int}
        return {**values, **integers}
    return dict(values)


def _opened(space: Space, method: str, config: SweepConfig) -> Space:
    """Apply `search` of the configuration to the space: names for all methods, or `method.name` for one."""
    own = f"{label(method)}."
    names = [name.removeprefix(own) for name in config.search if "." not in name or name.startswith(own)]
    try:
        return space.opened(names)
    except ValueError as error:
        raise ValueError(f"search: {method}: {error}") from None


def _pinned(space: Space, method: str, config: SweepConfig) -> Space:
    """Apply `points` and `set` of the configuration to the space: names for all methods, or `method.name` for one."""
    own = f"{label(method)}."
    pins = {name: value for name, value in config.set.items() if "." not in name}
    pins |= {name.removeprefix(own): value for name, value in config.set.items() if name.startswith(own)}
    try:
        if config.points is not None:
            space = space.with_points(config.points)
    except ValueError as error:
        raise ValueError(f"{method}: {error}") from None
    try:
        single = {name: scalar(value) for name, value in pins.items() if not isinstance(value, list)}
        values = {**space.paper[0].values, **single}
        for name, several in pins.items():
            if isinstance(several, list):
                each = [_with_integers(method, {**values, name: scalar(value)})[name] for value in several]
                space = space.with_each(name, each)
        values = _with_integers(method, values)
        return space.with_fixed({name: values[name] for name in single})
    except ValueError as error:
        raise ValueError(f"set: {method}: {error}") from None


def _effective(before: Space, space: Space, method: str, config: SweepConfig) -> Space:
    """Return the space after `_pinned`, without ranges that the values set here switch off.

    Raises ValueError if a hyperparameter has no effect in any trial, although `search` names it or `set` changes it.
    """
    own, points = f"{label(method)}.", config.searcher == "none"
    for flag, names in (("search", config.search), ("set", config.set)):
        for name in (name.removeprefix(own) for name in names if "." not in name or name.startswith(own)):
            was, now = ({point.values.get(name) for point in each.paper} for each in (before, space))
            if (flag == "search" or was != now) and (why := space.switched_off(name, points)):
                raise ValueError(
                    f"{flag}: {method}: {name} has no effect where {why}; search or set {why.partition(' ')[0]}, too, "
                    f"or omit {name}"
                )
    return space.without_idle()


def check(study: Planned, data: Splits, memory: int | None = None) -> None:
    """Check that the method can be built and trained on these images at the points and the bounds of the space, within
    `memory` bytes if given. Raises ValueError."""
    cls, space = find(study.method), study.spec.space
    try:
        for point in space.paper:
            hyper = checked(cls.Hyper, dict(point.values), study.method)
            with outside.mistakes("cannot be built"):
                if memory is not None:
                    require_memory(cls, hyper, data.shape, memory)
                cls(hyper, data.shape)
        for kind in _extremes(space.dimensions["network"]):
            Networks(data.shape, kind)
        for field, dimension in space.dimensions.items():
            if isinstance(dimension, Range) and not dimension.integer and _is_integer(cls, field):
                raise ValueError(
                    f"{field} is an integer, but its range {dimension} is not; add int = true to the range"
                )
            for value in _extremes(dimension):
                checked(cls.Hyper, {**study.hand_tuned_values, field: value}, study.method)
            if memory is None:
                continue
            for value in _largest(dimension):
                hyper = checked(cls.Hyper, {**study.hand_tuned_values, field: value}, study.method)
                _require_memory_at(field, value, cls, hyper, data, memory)
    except ValueError as error:
        raise ValueError(f"{study.name}: {error}") from None
    largest = max(_extremes(space.dimensions["batch_size"]))
    if largest > len(data.train):
        raise ValueError(
            f"{study.name}: batch_size must be at most {len(data.train)}, the number of training images of "
            f"{data.name}, got {largest}; use --set batch_size=N"
        )


def check_folds(splits: Iterable[Splits], count: int, flag: str) -> None:
    """Raise ValueError if a data set has too few images for `count` folds, or enough test images without folds."""
    for data in splits:
        if len(data.test) >= ENOUGH:
            raise ValueError(f"{data.name} has {len(data.test)} test images, which are enough; omit {flag}")
        data.fold_size(count)


def rehearse(planned: Plan, study: Planned) -> None:
    """Train an outside method for one step, so that a mistake in it ends the program before Ray starts. Raises
    ValueError with the author's file and line."""
    with outside.mistakes(study.name), suppress(Diverged):  # divergence is a result
        _footprint(planned, study)


def _largest(dimension: Range | Choice | Fixed) -> Iterable[Any]:
    """Return the values of a dimension at which a method may have the most parameters; none for real numbers."""
    match dimension:
        case Range(high=high, integer=True):
            return (int(high),)
        case Choice(choices=choices):
            numbers = all(isinstance(choice, (int, float)) for choice in choices)
            return (max(choices),) if numbers else choices
    return ()


def _require_memory_at(
    field: str, value: Any, cls: type[Method], hyper: Method.Hyper, data: Splits, memory: int
) -> None:
    """Call `require_memory` at one end of a range, which the error names."""
    try:
        require_memory(cls, hyper, data.shape, memory)
    except ValueError as error:
        raise ValueError(f"{field} = {value!r}, which is in its range: {error}") from None


def _is_integer(cls: type[Method], field: str) -> bool:
    """Return whether a hyperparameter takes only integers."""
    kinds = set(kinds_of(cls.Hyper.model_fields[field].annotation))
    return int in kinds and float not in kinds


def _extremes(dimension: Range | Choice | Fixed) -> Iterable[Any]:
    match dimension:
        case Range():
            return (dimension.low, dimension.high)
        case Choice():
            return dimension.choices
        case Fixed():
            return (dimension.value,)


def epoch_seconds(planned: Plan, device: str) -> dict[str, float]:
    """Measure the seconds per epoch of each study's hand-tuned point on this machine by a few steps."""
    seconds = {}
    for study in planned.studies:
        images = planned.splits[study.dataset].train.images
        few = torch.tensor(images[: 4 * study.hand_tuned_values["batch_size"]], device=device)
        config = planned.fit_config(study, study.hand_tuned_values, seed=0)
        with global_state.kept():
            training = Training(config.model_copy(update={"epochs": max(2, config.epochs)}), few)
            training.run_epoch()  # warm-up
            before = training.seconds["train"]
            training.run_epoch()
        seconds[study.name] = (training.seconds["train"] - before) / len(few) * len(images)
    return seconds


def _footprint(planned: Plan, study: Planned) -> Footprint:
    config = planned.fit_config(study, study.hand_tuned_values, seed=0)
    return footprint(config, shared(planned.splits[study.dataset].train.images))


def expected_epochs(planned: Plan) -> float:
    """Return the expected epochs per trial if successive halving keeps 1/`factor` at each rung."""
    if planned.config.searcher == "none":
        return float(planned.config.epochs)  # hand-tuned points are never stopped
    spent, previous, share = 0.0, 0, 1.0
    for level in [*planned.rungs, planned.config.epochs]:
        spent += share * (level - previous)
        previous, share = level, share / planned.config.factor
    return (1 - SPARED) * spent + SPARED * planned.config.epochs
