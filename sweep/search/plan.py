"""From a configuration to the studies of a sweep: everything that can be wrong is found here, before Ray starts."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import as_file
from typing import Any

import numpy as np
import torch

from sweep.config import SweepConfig
from sweep.driver.maps import joined
from sweep.search import space as spaces
from sweep.search.rungs import Rungs
from sweep.search.space import Choice, Fixed, Range, Space
from sweep.search.study import Spec
from trainables import outside
from trainables.catalog import find, label, space_file
from trainables.config import Config, checked, hyper_fields
from trainables.datasets import Absent, Splits, load
from trainables.flags import scalar
from trainables.memory import of_this_machine, require_memory
from trainables.method import Method
from trainables.metrics import choose, default_metric
from trainables.networks import Networks
from trainables.training import Training
from trainables.words import did_you_mean

OBJECTIVES = {name: f"valid/{name}" for name in ("mse", "dssim", "active_dims", "probe_error", "knn_error")}
OBJECTIVES["train_seconds"] = "time/train_seconds"


@dataclass(frozen=True)
class Planned:
    """One study to be, and how the configuration names its method and data set (tables show shorter names)."""

    spec: Spec
    method: str
    dataset: str

    @property
    def name(self) -> str:
        return self.spec.study

    @property
    def hand_tuned(self) -> dict[str, Any]:
        return dict(self.spec.space.paper[0].values)


@dataclass(frozen=True)
class Plan:
    config: SweepConfig
    splits: dict[str, Splits]  # by the name in the configuration
    studies: tuple[Planned, ...]

    @property
    def split(self) -> str:
        """The split that trials are scored on; a search never sees another than valid."""
        return self.config.split

    def metric_of(self, dataset: str) -> str:
        """What a data set's trials are judged by, as `evaluator_for` takes it."""
        return self.config.metric or default_metric(self.splits[dataset])

    @property
    def rungs(self) -> list[int]:
        return Rungs(self.config.epochs, self.config.rung_epoch, self.config.factor).levels

    def readings(self) -> list[str]:
        """How each folder of pictures was read, in a line."""
        sets = self.splits.values()
        return [f"{splits.name}: {splits.reading.words()}" for splits in sets if splits.reading is not None]

    def trained_on(self, dataset: str) -> np.ndarray:
        """The images that trials on a data set learn from, uint8 (N, C, H, W): where they are scored on the test split,
        training and validation images together."""
        splits = self.splits[dataset]
        return splits.train.images if self.split == "valid" else joined(splits.train.images, splits.valid.images)

    def seed_of(self, study: str, number: int) -> int:
        """Of the training and the evaluation of one trial; in a search all share it and differ by their values only.

        Without a searcher the hand-tuned points come again and again, each round of them under the next seed.
        """
        if self.config.searcher != "none":
            return self.config.seed
        points = next(planned.spec.space.paper for planned in self.studies if planned.name == study)
        return self.config.seed + number // len(points)

    def fit_config(self, study: Planned, values: Mapping[str, Any], seed: int) -> Config:
        """What one trial trains."""
        shared = {name: getattr(self.config, name) for name in ("epochs", "data_root", "image_size", "channels")}
        return Config(method=study.method, dataset=study.dataset, values=dict(values), seed=seed, **shared)


def plan(config: SweepConfig) -> Plan:
    """Loads data sets and search spaces and checks them against each other. Raises ValueError in one line."""
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
    memory = of_this_machine() if config.address is None else None
    config = config.model_copy(update={"datasets": list(splits)})
    shown = [s.name for s in splits.values()]
    if len(set(shown)) < len(shown):
        raise ValueError(f"two data sets are both called {max(shown, key=shown.count)!r}; rename one folder")
    studies = []
    spaces_of = {method: _opened(space_of(method, config), method, config) for method in config.methods}
    for dataset, data in splits.items():
        metric = choose(config.metric or default_metric(data)).recorded
        if metric in config.objectives:
            raise ValueError(f"objectives = {metric} is the metric of {data.name} already; leave it out")
        kind = _network(config, dataset, data, spaces_of.values())
        for method, space in spaces_of.items():
            space = space.on(data.name, data.like)
            space = space.carried_to(data.name, math.prod(data.shape), find(method).per_pixel)
            if kind is not None:
                space = space.with_fixed(find(method).on_network(kind), by="--networks")
            space = _pinned(space, method, config)
            trials = config.seeds or config.trials
            if config.searcher == "none":
                space, trials = space.points_only(), trials * len(space.paper)
            spec = Spec(
                study=f"{label(method)}-{data.name}", method=label(method), dataset=data.name, trials=trials,
                budget_epochs=None if config.searcher == "none" else trials * config.epochs,
                epochs=config.epochs, metric=f"{config.split}/{metric}", space=space, first_rung=config.rung_epoch,
                factor=config.factor, sampler=config.searcher,
                objectives=tuple(OBJECTIVES[name] for name in config.objectives),
            )  # fmt: skip
            studies.append(Planned(spec, method, dataset))
            check(studies[-1], data, memory)
    if len({study.name for study in studies}) < len(studies):
        raise ValueError("two methods have files of the same name; sweep them apart")
    return Plan(config, splits, tuple(studies))


def _network(config: SweepConfig, dataset: str, data: Splits, spaces: Iterable[Space]) -> str | None:
    """The kind of network that all methods take on a data set; None: each that of its hand-tuned point."""
    if config.networks is not None:
        return None if config.networks == "paper" else config.networks
    of_its_own = all(any(data.name in point.datasets for point in space.paper) for space in spaces)
    apart = dataset.startswith("folder:") or not of_its_own
    return "shared" if apart and len(data.shape) == 3 else None


def load_splits(config: SweepConfig) -> dict[str, Splits]:
    """The data sets by their names in the configuration, which may allow some to be absent."""
    splits, absent = {}, []
    for name in config.datasets:
        options = {"size": config.image_size, "channels": config.channels, "download": not config.present_only}
        try:
            splits[name] = load(name, config.data_root, **options)
        except Absent as error:
            if not config.present_only:
                raise
            absent.append(error)
    if not splits:
        raise absent[0]
    return splits


def space_of(method: str, config: SweepConfig) -> Space:
    """The search space of a method: named by the user, or the file of the method's name where methods of the
    house keep theirs, or beside the module of a method from outside."""
    fields = hyper_fields(method)
    if method in config.spaces:
        return spaces.load(config.spaces[method], fields)
    with as_file(space_file(method)) as path:
        return spaces.load(path, fields)


def _opened(space: Space, method: str, config: SweepConfig) -> Space:
    """The space that also searches what the configuration asks for: of all methods, or `method.name` of one."""
    own = f"{label(method)}."
    names = [name.removeprefix(own) for name in config.search if "." not in name or name.startswith(own)]
    try:
        return space.opened(names)
    except ValueError as error:
        raise ValueError(f"search: {method}: {error}") from None


def _pinned(space: Space, method: str, config: SweepConfig) -> Space:
    """The space with the points the configuration takes and what it sets: for all methods, or `method.name` for one."""
    own = f"{label(method)}."
    pins = {name: value for name, value in config.set.items() if "." not in name}
    pins |= {name.removeprefix(own): value for name, value in config.set.items() if name.startswith(own)}
    try:
        if config.points is not None:
            space = space.with_points(config.points)
    except ValueError as error:
        raise ValueError(f"{method}: {error}") from None
    try:
        for name, values in pins.items():
            if isinstance(values, list):
                space = space.with_each(name, [scalar(value) for value in values])
        return space.with_fixed({name: scalar(value) for name, value in pins.items() if not isinstance(value, list)})
    except ValueError as error:
        raise ValueError(f"set: {method}: {error}") from None


def check(study: Planned, data: Splits, memory: int | None = None) -> None:
    """Every corner of the space must be a method that can be built and trained on these images, within `memory` bytes
    where they are given. Raises ValueError."""
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
            for value in _extremes(dimension):
                checked(cls.Hyper, {**study.hand_tuned, field: value}, study.method)
            for value in _largest(dimension) if memory is not None else ():
                hyper = checked(cls.Hyper, {**study.hand_tuned, field: value}, study.method)
                _require_memory_at(field, value, cls, hyper, data, memory)
    except ValueError as error:
        raise ValueError(f"{study.name}: {error}") from None
    largest = max(_extremes(space.dimensions["batch_size"]))
    if largest > len(data.train):
        raise ValueError(
            f"{study.name}: batch_size up to {largest} is larger than the {len(data.train)} training images of "
            f"{data.name}; use --set batch_size=N with N of 1..{len(data.train)}"
        )


def _largest(dimension: Range | Choice | Fixed) -> Iterable[Any]:
    """The values of a searched knob at which a method may have the most parameters; a real number changes none."""
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
    """As `require_memory`, at one end of a searched knob, which the error names."""
    try:
        require_memory(cls, hyper, data.shape, memory)
    except ValueError as error:
        raise ValueError(f"{field} = {value!r}, which is in its range: {error}") from None


def _extremes(dimension: Range | Choice | Fixed) -> Iterable[Any]:
    match dimension:
        case Range():
            return (dimension.low, dimension.high)
        case Choice():
            return dimension.choices
        case Fixed():
            return (dimension.value,)


def epoch_seconds(planned: Plan, device: str) -> dict[str, float]:
    """Measured seconds of one epoch of each study's hand-tuned point on this machine, from a few steps."""
    seconds = {}
    for study in planned.studies:
        images = planned.splits[study.dataset].train.images
        few = torch.tensor(images[: 4 * study.hand_tuned["batch_size"]], device=device)
        config = planned.fit_config(study, study.hand_tuned, seed=0)
        training = Training(config.model_copy(update={"epochs": max(2, config.epochs)}), few)
        training.run_epoch()  # the first one warms up
        before = training.seconds["train"]
        training.run_epoch()
        seconds[study.name] = (training.seconds["train"] - before) / len(few) * len(images)
    return seconds


def expected_epochs(planned: Plan) -> float:
    """Epochs per trial if successive halving stops as many as it aims to; the full budget is the upper bound."""
    if planned.config.searcher == "none":
        return float(planned.config.epochs)  # no hand-tuned point is stopped
    spent, previous, share = 0.0, 0, 1.0
    for level in [*planned.rungs, planned.config.epochs]:
        spent += share * (level - previous)
        previous, share = level, share / planned.config.factor
    return spent
