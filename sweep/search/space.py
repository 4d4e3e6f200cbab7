"""A method's search space: the papers' hand-tuned points and the ranges around them, read from TOML.

The files under `search_spaces/` are where people change what a sweep tries, so this module is where their
slips end: a misspelt key, a forgotten value or a paper's point outside its own range is one line here, before
any machine starts. It knows nothing of the methods: the names of a method's hyperparameters are handed in.

    [[paper]]                                # runs first, as trial 0; further points of a data set follow it
    name     = "paper"                       # optional
    source   = "title, table, page"
    datasets = ["mnist", "fashion_mnist"]    # the first point is the fallback
    values   = { latent_dim = 10, learning_rate = 1e-3, beta = 4.0 }

    [space]                                  # a list is a choice, low/high a range, anything else is fixed;
                                             # numbers listed in order are searched as an ordered choice
    latent_dim    = [8, 10, 16, 32]
    learning_rate = { low = 1e-4, high = 5e-3, log = true }

    [optional]                               # may be left out; searched only with --search NAME, else the point's value
    batch_size    = [20, 50, 100, 200, 500]

    [balance]                                # the ranges that weigh one term of the loss against another, the main
    beta = {}                                # one first, each with the values of others without which it weighs nothing

    [rules]                                  # what sets the balance without a search: the values by which its trials
    learned = { gamma_rule = "learned" }     # are known, or { method = "geco" } for another method's hand-tuned point
"""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from trainables.words import did_you_mean

Value = bool | int | float | str
Kind = TypeVar("Kind", bound=Value)
Conditions = Mapping[str, Mapping[str, list[Value]]]  # by name: the fields that matter, and which of their values


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included: whole ones if `integer`, on a log scale if `log`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def cast(self, value: Any) -> int | float:
        """`value` as this range's kind of number. Raises ValueError for anything but a finite such number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{value!r} is not a finite number")
        if self.integer and value != int(value):
            raise ValueError(f"{value!r} is not a whole number")
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
    """One of a few values."""

    choices: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether the choices are numbers in ascending or descending order, so that neighbours resemble each other."""
        numbers = all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in self.choices)
        return numbers and list(self.choices) in (sorted(self.choices), sorted(self.choices, reverse=True))

    def cast(self, value: Any) -> Value:
        """The choice that equals `value` (10.0 finds 10), or `value` itself if none does."""
        return next((choice for choice in self.choices if _same(choice, value)), value)

    def contains(self, value: Any) -> bool:
        return any(_same(choice, value) for choice in self.choices)

    def to_record(self) -> dict[str, Any]:
        return {"choices": list(self.choices)}

    def __str__(self) -> str:
        return str(list(self.choices))


@dataclass(frozen=True)
class Fixed:
    """One value, not searched."""

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
    """Values that somebody tuned by hand, and where they are printed."""

    source: str
    datasets: tuple[str, ...]
    values: Mapping[str, Value]
    name: str = "paper"
    numbers: int | None = None  # of an image that the values are for, where a weight depends on them
    carried: str = ""  # from which data sets or network the values were taken to others; empty: nothing was

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
    """What may be tried of one method: `paper` holds its hand-tuned points, `dimensions` what surrounds them.

    `fields` are the method's hyperparameters, True for those without a default. A field without a dimension
    keeps the value of the hand-tuned point; which point that is depends on the data set, so ask `on` for it.
    `optional` holds the dimensions that are searched only where `opened` is asked for them. `balance` names those that
    weigh one term of the loss against another, None where the file does not say; `rules` says what sets them without a
    search.
    """

    paper: tuple[Point, ...]
    dimensions: Mapping[str, Dimension]
    fields: Mapping[str, bool]
    optional: Mapping[str, Dimension] = field(default_factory=dict)
    balance: Conditions | None = None
    rules: Conditions = field(default_factory=dict)

    @property
    def searched(self) -> dict[str, Range | Choice]:
        """The dimensions that a search may move."""
        return {name: found for name, found in self.dimensions.items() if not isinstance(found, Fixed)}

    def points(self, dataset: str, like: str | None = None) -> list[Point]:
        """The points for `dataset`; failing that, for what it is `like`; failing that, the first one."""
        for name in (dataset, like):
            if found := [point for point in self.paper if name in point.datasets]:
                return found
        return [self.paper[0]]

    def on(self, dataset: str, like: str | None = None) -> "Space":
        """The space of one data set: its points, and a dimension for every field the first of them gives."""
        points = self.points(dataset, like)
        fixed = {name: Fixed(value) for name, value in points[0].values.items()}
        return replace(self, paper=tuple(points), dimensions=fixed | dict(self.dimensions))

    def carried_to(self, dataset: str, numbers: int, per_pixel: Sequence[str]) -> "Space":
        """The space with its points of other data sets marked as carried over.

        Their weights named by `per_pixel` grow by how many more `numbers` an image has, and so do the ranges of these.
        """
        points, dimensions = [], dict(self.dimensions)
        for point in self.paper:
            if dataset in point.datasets:
                points.append(point)
                continue
            origin = ", ".join(point.datasets)
            ratio = numbers / point.numbers if point.numbers else 1.0
            weights = {name: value for name in per_pixel if isinstance(value := point.values.get(name), (int, float))}
            scaled = {name: float(f"{ratio * weight:.4g}") for name, weight in weights.items()}
            words = [f"carried over from {origin}"]
            words += [f"{name} times {ratio:.3g} for {numbers} numbers an image" for name in scaled if ratio != 1]
            source = "; ".join([point.source, *words])
            points.append(replace(point, source=source, values={**point.values, **scaled}, carried=f"from {origin}"))
        first = self.paper[0]
        if first.numbers and dataset not in first.datasets:
            for name in per_pixel:
                if isinstance(found := dimensions.get(name), Range):
                    ratio = numbers / first.numbers
                    dimensions[name] = replace(found, low=ratio * found.low, high=ratio * found.high)
                elif isinstance(found, Fixed):
                    dimensions[name] = Fixed(points[0].values[name])
        return replace(self, paper=tuple(points), dimensions=dimensions)

    def opened(self, names: Sequence[str]) -> "Space":
        """The space that also searches these of its `optional` dimensions; one that it searches anyway may be named.

        Raises ValueError for a name without a range.
        """
        for name in names:
            if name not in self.optional and isinstance(self.dimensions.get(name, Fixed("")), Fixed):
                known = ", ".join(self.optional) or "none"
                hint = did_you_mean(name, [*self.optional, *self.dimensions])
                raise ValueError(
                    f"{name!r} has no range{hint}; optional ones: {known}; "
                    "for another write it into [space] of a file for --spaces"
                )
        found = {name: self.optional[name] for name in names if name in self.optional}
        return replace(self, dimensions={**self.dimensions, **found})

    def with_fixed(self, values: Mapping[str, Value], by: str = "set here") -> "Space":
        """The space with some fields pinned, in the points as well: what the user says wins over any range.

        Points that the pins make alike become one, those that get another network are carried over; `by` says in their
        sources who pinned. Raises ValueError for an unknown name or a wrong kind of
        value.
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
        """The space with every point once with each of the values of one field, which are its choices from then on.

        Raises ValueError as `with_fixed` does.
        """
        spaces = [self.with_fixed({name: value}) for value in values]
        if not spaces:
            raise ValueError(f"{name}: the list is empty; name at least one value")
        choice = Choice(tuple(space.paper[0].values[name] for space in spaces))
        points = tuple(point for space in spaces for point in space.paper)
        return replace(self, paper=points, dimensions={**self.dimensions, name: choice})

    def with_points(self, names: Sequence[str]) -> "Space":
        """The space with only those of its points that have one of these names; ValueError if none has."""
        points = tuple(point for point in self.paper if point.name in names)
        if not points:
            known = ", ".join(dict.fromkeys(point.name for point in self.paper))
            raise ValueError(f"points: none is called {' or '.join(names)} here; there is {known}")
        fixed = {
            name: Fixed(points[0].values[name])
            for name, dimension in self.dimensions.items()
            if isinstance(dimension, Fixed) and name in points[0].values
        }
        return replace(self, paper=points, dimensions={**self.dimensions, **fixed})

    def points_only(self) -> "Space":
        """The space with nothing to search: its hand-tuned points."""
        return replace(self, dimensions={name: Fixed(value) for name, value in self.paper[0].values.items()})

    def to_record(self) -> dict[str, dict[str, Any]]:
        """The dimensions as JSON has them, e.g. `{"beta": {"low": 1e-3, "high": 20, "log": true}}`."""
        return {name: dimension.to_record() for name, dimension in self.dimensions.items()}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Mapping[str, Any]], points: Iterable[Mapping[str, Any]],
        balance: Conditions | None = None, rules: Conditions | None = None,
    ) -> "Space":  # fmt: skip
        """The space that the records of its dimensions and of its points came from; no field is required."""
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


def load(path: str | Path, hyper_fields: Mapping[str, bool]) -> Space:
    """Reads a search space and checks it against the method's hyperparameters.

    `hyper_fields` maps the name of each hyperparameter to True if the method cannot do without it. Raises
    ValueError, in one line that names the file, the place and the way out.
    """
    path = Path(path)
    try:
        return _space(tomllib.loads(path.read_text(encoding="utf-8")), hyper_fields)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # of ours, of the TOML parser, or of the decoding
        raise ValueError(f"{path.name}: {error}") from None


def _space(document: Mapping[str, Any], fields: Mapping[str, bool]) -> Space:
    _refuse_unknown("top level", document, ("paper", "space", "optional", "balance", "rules"))
    papers = document.get("paper")
    if not isinstance(papers, list) or not papers or not all(isinstance(p, dict) for p in papers):
        raise ValueError("no [[paper]] table; every study starts from a hand-tuned point, so write at least one")
    table = document.get("space")
    if not isinstance(table, dict):
        raise ValueError("no [space] table; write one (an empty one tries the [[paper]] points only)")
    more = document.get("optional", {})
    if not isinstance(more, dict):
        raise ValueError("optional is not a table; write its ranges under [optional]")
    if twice := [name for name in more if name in table]:
        raise ValueError(f"[optional] {twice[0]} stands in [space] too, which is always searched; keep one")
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
            raise ValueError(f"[balance] {odd[0]} has no range; name one that has: {known}")
    rules = _conditions("[rules]", rules, [*fields, "method"])
    return Space(paper, dimensions, dict(fields), optional, balance, rules)


def _conditions(where: str, table: Any, fields: Iterable[str]) -> Conditions:
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ValueError(f"{where} is not a table of NAME = {{ FIELD = VALUE, ... }}; write it so")
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
            raise ValueError(f"{where}: the list of choices is empty; name at least one value")
        for i, choice in enumerate(choices):
            if any(_same(choice, other) for other in choices[:i]):
                raise ValueError(f"{where}: {choice!r} stands twice among the choices; keep one")
        return Choice(choices)
    if not isinstance(entry, dict):
        return Fixed(_scalar(where, entry))

    _refuse_unknown(where, entry, ("low", "high", "log", "int"))
    for bound in ("low", "high"):
        if bound not in entry:
            raise ValueError(f"{where}: a range needs low and high, {bound} is missing")
    for flag in ("log", "int"):
        if not isinstance(entry.get(flag, False), bool):
            raise ValueError(f"{where}: {flag} = {entry[flag]!r} is not a boolean; write true or false")
    log, integer = entry.get("log", False), entry.get("int", False)
    anything = Range(-math.inf, math.inf, log, integer)
    low, high = (_cast(f"{where}: {bound}", anything.cast, entry[bound]) for bound in ("low", "high"))
    if not low < high:
        raise ValueError(f"{where}: low = {low} is not below high = {high}; swap them, or write a single value")
    if log and low <= 0:
        raise ValueError(f"{where}: a log range needs low > 0, got {low}; raise low or drop log")
    return Range(low, high, log, integer)


def _point(
    where: str, entry: Mapping[str, Any], dimensions: Mapping[str, Dimension], fields: Mapping[str, bool]
) -> Point:
    _refuse_unknown(where, entry, ("name", "source", "datasets", "values", "numbers"))
    datasets, values, numbers = entry.get("datasets"), entry.get("values"), entry.get("numbers")
    for key in ("name", "source"):
        if not isinstance(entry.get(key, "paper"), str) or not entry.get(key, "paper").strip():
            raise ValueError(f"{where}: {key} = {entry[key]!r} is not a text; write it in quotes")
    if numbers is not None and (not isinstance(numbers, int) or isinstance(numbers, bool) or numbers < 1):
        raise ValueError(f"{where}: numbers = {numbers!r} of an image is not a whole number of 1 or more; correct it")
    if "source" not in entry:
        raise ValueError(f"{where}: no source; say where the values are printed, or that they are our choice")
    if not isinstance(datasets, list) or not datasets or not all(isinstance(name, str) for name in datasets):
        raise ValueError(f'{where}: datasets must be a list of names such as ["mnist"], got {datasets!r}')
    if not isinstance(values, dict):
        raise ValueError(f"{where}: no values; write values = {{ name = value, ... }}")

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
        raise ValueError(f"{where} = {value!r} is not a number, text or boolean; write one of these")
    return value


def _same(a: Any, b: Any) -> bool:
    """Equal, and not merely so because Python counts True as 1."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _refuse_unknown(where: str, keys: Iterable[str], known: Iterable[str]) -> None:
    for key in keys:
        if key not in known:
            raise ValueError(f"{where}: {_unknown(key, known)}")


def _unknown(key: str, known: Iterable[str]) -> str:
    return f"unknown key {key!r}{did_you_mean(key, known)} (known: {', '.join(known)})"
