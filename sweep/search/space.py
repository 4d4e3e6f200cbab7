"""The search space of a method: the papers' hand-tuned points and the ranges around them, read from TOML.

Users edit the files under `search_spaces/`, so this module reports every mistake, such as a misspelt key, a missing
value or a point outside its range, in one line before any machine starts. It is independent of the methods: the caller
passes the names of a method's hyperparameters.

    in_epochs = ["warm_up"]                  # optional; hyperparameters that are counted in epochs

    [[paper]]                                # runs first, as trial 0; further points of a data set follow it
    name     = "paper"                       # optional
    source   = "title, table, page"
    datasets = ["mnist", "fashion_mnist"]    # the first point is the fallback
    values   = { latent_dim = 10, learning_rate = 1e-3, beta = 4.0 }

    [space]                                  # a list is a choice, low/high a range, anything else is fixed;
                                             # numbers listed in order are searched as an ordered choice
    latent_dim    = [8, 10, 16, 32]
    learning_rate = { low = 1e-4, high = 5e-3, log = true }

    [optional]                               # optional; searched only with --search NAME, else the point's value
    batch_size    = [20, 50, 100, 200, 500]

    [balance]                                # the ranges that weigh one term of the loss against another, the main
    beta = {}                                # one first, each with the values of other fields that it requires

    [rules]                                  # what sets the balance without a search: values that identify its trials,
    learned = { gamma_rule = "learned" }     # or { method = "geco" } for another method's hand-tuned point

    [idle]                                   # optional; what has no effect at some values of another field
    warm_up = { beta = 0.0 }
"""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sweep.record.trials import shortened
from trainables.words import did_you_mean

Value = bool | int | float | str
STEPS_PER_EPOCH, SMALLEST_BATCH = 30, 16  # of points carried to few images: our choice
Kind = TypeVar("Kind", bound=Value)
Conditions = Mapping[str, Mapping[str, list[Value]]]  # by name: required fields and their allowed values


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, inclusive: integers if `integer`, on a log scale if `log`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def cast(self, value: Any) -> int | float:
        """Convert `value` to this range's type of number. Raises ValueError if it is not such a finite number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{value!r} is not a finite number")
        if self.integer and value != int(value):
            raise ValueError(f"{value!r} is not an integer")
        return int(value) if self.integer else float(value)

    def contains(self, value: Any) -> bool:
        try:
            return self.low <= self.cast(value) <= self.high
        except ValueError:
            return False

    def to_record(self) -> dict[str, Any]:
        flags = {"log": self.log, "int": self.integer}
        return {"low": self.low, "high": self.high} | {flag: True for flag, on in flags.items() if on}

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Choice:
    """A list of values."""

    choices: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether the choices are numbers in ascending or descending order, so that neighbours are similar."""
        numbers = all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in self.choices)
        return numbers and list(self.choices) in (sorted(self.choices), sorted(self.choices, reverse=True))

    def cast(self, value: Any) -> Value:
        """Return the choice that equals `value` (10 for 10.0), or `value` if there is none."""
        return next((choice for choice in self.choices if _same(choice, value)), value)

    def contains(self, value: Any) -> bool:
        return any(_same(choice, value) for choice in self.choices)

    def to_record(self) -> dict[str, Any]:
        return {"choices": list(self.choices)}

    def __str__(self) -> str:
        return str(list(self.choices))


@dataclass(frozen=True)
class Fixed:
    """A value that is not searched."""

    value: Value

    def cast(self, value: Any) -> Value:
        return self.value if self.contains(value) else value

    def contains(self, value: Any) -> bool:
        return _same(self.value, value)

    def to_record(self) -> dict[str, Any]:
        return {"value": self.value}

    def __str__(self) -> str:
        return repr(self.value)


Dimension = Range | Choice | Fixed


@dataclass(frozen=True)
class Point:
    """Hand-tuned values and their source."""

    source: str
    datasets: tuple[str, ...]
    values: Mapping[str, Value]
    name: str = "paper"
    numbers: int | None = None  # numbers per image that the values are for, if a weight depends on it
    carried: str = ""  # the data sets or the network that the values were carried over from, if any

    def to_record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "source": self.source,
            "datasets": list(self.datasets),
            "values": dict(self.values),
            "numbers": self.numbers,
            "carried": self.carried,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Point":
        return cls(
            record["source"], tuple(record["datasets"]), record["values"], record["name"],
            record.get("numbers"), record.get("carried", ""),
        )  # fmt: skip


@dataclass(frozen=True)
class Space:
    """The search space of one method: `paper` holds its hand-tuned points, `dimensions` the ranges around them.

    `fields` are the method's hyperparameters, True for those without a default. A field without a dimension keeps the
    value of the hand-tuned point, which depends on the data set, see `on`. `optional` holds the dimensions that are
    searched only if requested by `opened`. `balance` names the dimensions that weigh one term of the loss against
    another, None if the file does not say; `rules` names what sets them without a search. `idle` names fields without
    effect, each with the values of other fields that switch it off; `in_epochs` those that are counted in epochs.
    """

    paper: tuple[Point, ...]
    dimensions: Mapping[str, Dimension]
    fields: Mapping[str, bool]
    optional: Mapping[str, Dimension] = field(default_factory=dict)
    balance: Conditions | None = None
    rules: Conditions = field(default_factory=dict)
    idle: Conditions = field(default_factory=dict)
    in_epochs: tuple[str, ...] = ()

    @property
    def searched(self) -> dict[str, Range | Choice]:
        """The dimensions that are not fixed."""
        return {name: found for name, found in self.dimensions.items() if not isinstance(found, Fixed)}

    def points(self, dataset: str, like: str | None = None) -> list[Point]:
        """Return the points for `dataset`, else those for the data set it is `like`, else the first point."""
        for name in (dataset, like):
            if found := [point for point in self.paper if name in point.datasets]:
                return found
        return [self.paper[0]]

    def on(self, dataset: str, like: str | None = None) -> "Space":
        """Return the space of one data set: its points, and a dimension for every field of the first point."""
        points = self.points(dataset, like)
        fixed = {name: Fixed(value) for name, value in points[0].values.items()}
        return replace(self, paper=tuple(points), dimensions=fixed | dict(self.dimensions))

    def carried_to(self, dataset: str, numbers: int, per_pixel: Sequence[str], images: int | None = None) -> "Space":
        """Return the space with its points of other data sets marked as carried over.

        Their weights named in `per_pixel`, and the ranges of these, are scaled by the ratio of the numbers per image.
        Their batches are reduced on few training `images`, so that an epoch has STEPS_PER_EPOCH optimiser steps, but
        not below SMALLEST_BATCH.
        """
        points, dimensions = [], dict(self.dimensions)
        for point in self.paper:
            if dataset in point.datasets:
                points.append(point)
                continue
            origin = ", ".join(point.datasets)
            ratio = numbers / point.numbers if point.numbers else 1.0
            weights = {name: value for name in per_pixel if isinstance(value := point.values.get(name), (int, float))}
            scaled: dict[str, Value] = {name: float(f"{ratio * weight:.4g}") for name, weight in weights.items()}
            words = [f"carried over from {origin}"]
            words += [f"{name} times {ratio:.3g} for {numbers} numbers per image" for name in weights if ratio != 1]
            batch = point.values.get("batch_size")
            most = math.inf if images is None else largest_batch(images)
            if isinstance(batch, int) and batch > most:
                scaled["batch_size"] = int(most)
                words.append(f"batch_size {batch} reduced to {most} for {images} images")
            source = "; ".join([point.source, *words])
            points.append(replace(point, source=source, values={**point.values, **scaled}, carried=f"from {origin}"))
        first = self.paper[0]
        if isinstance(dimensions.get("batch_size"), Fixed):
            dimensions["batch_size"] = Fixed(points[0].values["batch_size"])
        if first.numbers and dataset not in first.datasets:
            for name in per_pixel:
                if isinstance(found := dimensions.get(name), Range):
                    ratio = numbers / first.numbers
                    dimensions[name] = replace(found, low=ratio * found.low, high=ratio * found.high)
                elif isinstance(found, Fixed):
                    dimensions[name] = Fixed(points[0].values[name])
        return replace(self, paper=tuple(points), dimensions=dimensions)

    def shortened(self, scale: float) -> "Space":
        """Return the space with the hyperparameters that are counted in epochs times `scale`, as the epochs."""
        if scale == 1.0:
            return self
        points, dimensions = [], dict(self.dimensions)
        for point in self.paper:
            changed = {
                name: value for name in self.in_epochs if isinstance(value := point.values.get(name), (int, float))
            }
            words = [f"{name} times {scale:g}, as the epochs" for name, value in changed.items() if value]
            values = {**point.values, **{name: shortened(value, scale) for name, value in changed.items()}}
            points.append(replace(point, source="; ".join([point.source, *words]), values=values))
        for name in self.in_epochs:
            match dimensions.get(name):
                case Range(low=low, high=high) as found:
                    dimensions[name] = replace(
                        found, low=shortened(low, scale), high=shortened(high, scale), integer=False
                    )
                case Choice(choices=choices):
                    dimensions[name] = Choice(tuple(shortened(choice, scale) for choice in choices))
                case Fixed(value=value):
                    dimensions[name] = Fixed(shortened(value, scale))
        return replace(self, paper=tuple(points), dimensions=dimensions)

    def opened(self, names: Sequence[str]) -> "Space":
        """Return the space with these `optional` dimensions searched, too; names that are searched anyway are allowed.

        Raises ValueError for a name without a range.
        """
        for name in names:
            if name not in self.optional and isinstance(self.dimensions.get(name, Fixed("")), Fixed):
                known = ", ".join(self.optional) or "none"
                hint = did_you_mean(name, [*self.optional, *self.dimensions])
                raise ValueError(
                    f"{name!r} has no range{hint}; optional ranges: {known}; "
                    "add another to [space] of a file for --spaces"
                )
        found = {name: self.optional[name] for name in names if name in self.optional}
        return replace(self, dimensions={**self.dimensions, **found})

    def switched_off(self, name: str, points: bool = False) -> str:
        """Return what switches a field off in all trials, e.g. "l2_weight = 0.0", or "" if it has an effect in some.

        points: whether the trials are those of the hand-tuned points alone, without a search.
        """
        for other, off in self.idle.get(name, {}).items():
            match self.dimensions.get(other):
                case _ if points:
                    found = [point.values.get(other) for point in self.paper]
                case Fixed(value=value):
                    found = [value]
                case Choice(choices=choices):
                    found = list(choices)
                case _:
                    continue
            if all(any(_same(value, switch) for switch in off) for value in found):
                return f"{other} = {' or '.join(map(str, dict.fromkeys(found)))}"
        return ""

    def without_idle(self) -> "Space":
        """Return the space in which the dimensions that have no effect keep the value of the first point."""
        idle = {name: Fixed(self.paper[0].values[name]) for name in self.searched if self.switched_off(name)}
        return replace(self, dimensions={**self.dimensions, **idle})

    def with_fixed(self, values: Mapping[str, Value], by: str = "set here") -> "Space":
        """Return the space with some fields pinned, also in the points; pinned values override ranges.

        Points that become equal are merged, and those that get another network are marked as carried over. `by` names
        the origin of the pins in their sources. Raises ValueError for an unknown name or a value of the wrong type.
        """
        pins = {}
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(_unknown(name, self.fields))
            dimension = self.dimensions.get(name)
            pins[name] = _cast(name, (dimension if isinstance(dimension, Range) else Fixed(value)).cast, value)
        points: list[Point] = []
        for point in self.paper:
            changed = ", ".join(name for name, value in pins.items() if point.values.get(name) != value)
            source = f"{point.source}; {by}: {changed}" if changed else point.source
            carried, before = point.carried, point.values.get("network")
            if before is not None and pins.get("network", before) != before:
                carried = ", ".join(filter(None, [carried, f"from {before}"]))
            pinned = replace(point, source=source, values={**point.values, **pins}, carried=carried)
            if not any((pinned.values, pinned.datasets) == (p.values, p.datasets) for p in points):
                points.append(pinned)
        fixed = {name: Fixed(value) for name, value in pins.items()}
        return replace(self, paper=tuple(points), dimensions={**self.dimensions, **fixed})

    def with_each(self, name: str, values: Sequence[Value]) -> "Space":
        """Return the space with every point repeated for each of the values of one field, which become its choices.

        Raises ValueError as `with_fixed` does.
        """
        spaces = [self.with_fixed({name: value}) for value in values]
        if not spaces:
            raise ValueError(f"{name}: the list is empty; give at least one value")
        choice = Choice(tuple(space.paper[0].values[name] for space in spaces))
        points = tuple(point for space in spaces for point in space.paper)
        return replace(self, paper=points, dimensions={**self.dimensions, name: choice})

    def with_points(self, names: Sequence[str]) -> "Space":
        """Return the space with only the points of these names. Raises ValueError if there are none."""
        points = tuple(point for point in self.paper if point.name in names)
        if not points:
            known = ", ".join(dict.fromkeys(point.name for point in self.paper))
            raise ValueError(f"points: no point is named {' or '.join(names)}; known: {known}")
        fixed = {
            name: Fixed(points[0].values[name])
            for name, dimension in self.dimensions.items()
            if isinstance(dimension, Fixed) and name in points[0].values
        }
        return replace(self, paper=points, dimensions={**self.dimensions, **fixed})

    def points_only(self) -> "Space":
        """Return the space with only its hand-tuned points and nothing to search."""
        return replace(self, dimensions={name: Fixed(value) for name, value in self.paper[0].values.items()})

    def to_record(self) -> dict[str, dict[str, Any]]:
        """Return the dimensions as JSON, e.g. `{"beta": {"low": 1e-3, "high": 20, "log": true}}`."""
        return {name: dimension.to_record() for name, dimension in self.dimensions.items()}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Mapping[str, Any]], points: Iterable[Mapping[str, Any]],
        balance: Conditions | None = None, rules: Conditions | None = None,
    ) -> "Space":  # fmt: skip
        """Restore a space from the records of its dimensions and points; no field is required."""
        dimensions: dict[str, Dimension] = {}
        for name, entry in record.items():
            if "choices" in entry:
                dimensions[name] = Choice(tuple(entry["choices"]))
            elif "low" in entry:
                dimensions[name] = Range(entry["low"], entry["high"], entry.get("log", False), entry.get("int", False))
            else:
                dimensions[name] = Fixed(entry["value"])
        paper = tuple(Point.from_record(point) for point in points)
        fields = dict.fromkeys([*dimensions, *(k for p in paper for k in p.values)], False)
        return cls(paper, dimensions, fields, balance=balance, rules=rules or {})


def largest_batch(images: int) -> int:
    """Return the largest batch of a carried point on so many training images."""
    return max(min(SMALLEST_BATCH, images), images // STEPS_PER_EPOCH)


def load(path: str | Path, hyper_fields: Mapping[str, bool]) -> Space:
    """Read a search space and check it against the method's hyperparameters.

    `hyper_fields` maps the name of each hyperparameter to True if it is required. Raises ValueError, in one line with
    the file, the place and a fix.
    """
    path = Path(path)
    try:
        return _space(tomllib.loads(path.read_text(encoding="utf-8")), hyper_fields)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # raised by this module, the TOML parser or the decoder
        raise ValueError(f"{path.name}: {error}") from None


def _space(document: Mapping[str, Any], fields: Mapping[str, bool]) -> Space:
    _refuse_unknown("top level", document, ("paper", "space", "optional", "balance", "rules", "idle", "in_epochs"))
    papers = document.get("paper")
    if not isinstance(papers, list) or not papers or not all(isinstance(p, dict) for p in papers):
        raise ValueError("no [[paper]] table; a study starts from a hand-tuned point, so add at least one")
    table = document.get("space")
    if not isinstance(table, dict):
        raise ValueError("no [space] table; add one (an empty one runs only the [[paper]] points)")
    more = document.get("optional", {})
    if not isinstance(more, dict):
        raise ValueError("optional is not a table; write its ranges under [optional]")
    if twice := [name for name in more if name in table]:
        raise ValueError(f"[optional] {twice[0]} is a duplicate of [space], which is always searched; keep one")
    dimensions, optional = (
        _dimensions(where, entries, fields) for where, entries in (("[space]", table), ("[optional]", more))
    )
    every = dimensions | optional
    paper = tuple(_point(f"[[paper]] {i}", entry, every, fields) for i, entry in enumerate(papers, start=1))
    balance, rules = document.get("balance"), document.get("rules", {})
    if balance is not None:
        balance = _conditions("[balance]", balance, fields)
        if odd := [name for name in balance if not isinstance(every.get(name), Range)]:
            known = ", ".join(name for name, dimension in every.items() if isinstance(dimension, Range))
            raise ValueError(f"[balance] {odd[0]} has no range; use one of: {known}")
    rules = _conditions("[rules]", rules, [*fields, "method"])
    idle = _conditions("[idle]", document.get("idle", {}), fields)
    _refuse_unknown("[idle]", idle, fields)
    in_epochs = document.get("in_epochs", [])
    if not isinstance(in_epochs, list) or not all(isinstance(name, str) for name in in_epochs):
        raise ValueError(f'in_epochs must be a list of names such as ["warm_up"], got {in_epochs!r}')
    _refuse_unknown("in_epochs", in_epochs, fields)
    return Space(paper, dimensions, dict(fields), optional, balance, rules, idle, tuple(in_epochs))


def _conditions(where: str, table: Any, fields: Iterable[str]) -> Conditions:
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ValueError(f"{where} must be a table of NAME = {{ FIELD = VALUE, ... }}")
    conditions = {}
    for name, entry in table.items():
        _refuse_unknown(f"{where} {name}", entry, fields)
        lists = {field: value if isinstance(value, list) else [value] for field, value in entry.items()}
        conditions[name] = {f: [_scalar(f"{where} {name}: {f}", v) for v in values] for f, values in lists.items()}
    return conditions


def _dimensions(where: str, table: Mapping[str, Any], fields: Mapping[str, bool]) -> dict[str, Dimension]:
    _refuse_unknown(where, table, fields)
    return {name: _dimension(f"{where} {name}", entry) for name, entry in table.items()}


def _dimension(where: str, entry: Any) -> Dimension:
    if isinstance(entry, list):
        choices = tuple(_scalar(where, choice) for choice in entry)
        if not choices:
            raise ValueError(f"{where}: the list of choices is empty; give at least one value")
        for i, choice in enumerate(choices):
            if any(_same(choice, other) for other in choices[:i]):
                raise ValueError(f"{where}: duplicate choice {choice!r}; keep one")
        return Choice(choices)
    if not isinstance(entry, dict):
        return Fixed(_scalar(where, entry))

    _refuse_unknown(where, entry, ("low", "high", "log", "int"))
    for bound in ("low", "high"):
        if bound not in entry:
            raise ValueError(f"{where}: a range requires low and high, {bound} is missing")
    for flag in ("log", "int"):
        if not isinstance(entry.get(flag, False), bool):
            raise ValueError(f"{where}: {flag} = {entry[flag]!r} is not a boolean; write true or false")
    log, integer = entry.get("log", False), entry.get("int", False)
    anything = Range(-math.inf, math.inf, log, integer)
    low, high = (_cast(f"{where}: {bound}", anything.cast, entry[bound]) for bound in ("low", "high"))
    if not low < high:
        raise ValueError(f"{where}: low must be below high = {high}, got {low}; swap them, or write a single value")
    if log and low <= 0:
        raise ValueError(f"{where}: a log range requires low > 0, got {low}; raise low or remove log")
    return Range(low, high, log, integer)


def _point(
    where: str, entry: Mapping[str, Any], dimensions: Mapping[str, Dimension], fields: Mapping[str, bool]
) -> Point:
    _refuse_unknown(where, entry, ("name", "source", "datasets", "values", "numbers"))
    datasets, values, numbers = entry.get("datasets"), entry.get("values"), entry.get("numbers")
    for key in ("name", "source"):
        if not isinstance(entry.get(key, "paper"), str) or not entry.get(key, "paper").strip():
            raise ValueError(f"{where}: {key} = {entry[key]!r} is not a string; write it in quotes")
    if numbers is not None and (not isinstance(numbers, int) or isinstance(numbers, bool) or numbers < 1):
        raise ValueError(f"{where}: numbers (per image) must be an integer of at least 1, got {numbers!r}")
    if "source" not in entry:
        raise ValueError(f"{where}: no source; name the publication of the values, or say that they are our choice")
    if not isinstance(datasets, list) or not datasets or not all(isinstance(name, str) for name in datasets):
        raise ValueError(f'{where}: datasets must be a list of names such as ["mnist"], got {datasets!r}')
    if not isinstance(values, dict):
        raise ValueError(f"{where}: no values; add values = {{ name = value, ... }}")

    _refuse_unknown(f"{where}: values", values, fields)
    for name, required in fields.items():
        if name in values:
            continue
        if required:
            raise ValueError(f"{where}: {name} is missing; the method has no default for it, so add it to values")
        if name in dimensions:
            raise ValueError(f"{where}: {name} is missing but has a range below; add the paper's value")
    cast = {}
    for name, value in values.items():
        dimension = dimensions.get(name) or Fixed(value)
        cast[name] = value = _cast(f"{where}: {name}", dimension.cast, _scalar(f"{where}: {name}", value))
        if not dimension.contains(value):
            kind = "widen the range" if isinstance(dimension, Range) else "add it there"
            raise ValueError(
                f"{where}: {name} = {value!r} is outside its range {dimension}; {kind} or correct the value"
            )
    return Point(entry["source"], tuple(datasets), cast, entry.get("name", "paper"), numbers)


def _cast(where: str, cast: Callable[[Any], Kind], value: Any) -> Kind:
    try:
        return cast(value)
    except ValueError as error:
        raise ValueError(f"{where} = {error}; correct it") from None


def _scalar(where: str, value: Any) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} = {value!r} is not a finite number; correct it")
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{where} = {value!r} must be a number, string or boolean")
    return value


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal, with True different from 1."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _refuse_unknown(where: str, keys: Iterable[str], known: Iterable[str]) -> None:
    for key in keys:
        if key not in known:
            raise ValueError(f"{where}: {_unknown(key, known)}")


def _unknown(key: str, known: Iterable[str]) -> str:
    return f"unknown key {key!r}{did_you_mean(key, known)} (known: {', '.join(known)})"
