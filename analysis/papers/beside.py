"""Comparison of our values with a printed table, cell by cell, and whether both were measured by the same recipe.

    table = beside(printed("gae", 3, datasets, methods), ours)     # printed, ours, of_print, same_recipe
    rank_correlation(table["printed"], table["ours"])              # cells, correlation, low, high
    notes("gae", 3)                                                # decoded cells and reasons for doubt

`ours` is a frame with the columns `dataset`, `method`, optionally `variant` and `metric`, then `ours` and optionally
`recipe`, a mapping as returned by `our_recipe`. `published/recipes.toml` holds the papers' recipes,
`published/README.md` the known problems of their numbers.
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.load import PUBLISHED, Study, Sweep, read_published
from analysis.page.names import readable, short_knob

KEYS = ("dataset", "method", "variant", "metric", "epoch")
GIVEN = ("epochs", "seed", "set")  # what the programs of trainables.reproductions were given
UNKNOWN = "unknown"
CODEC = "CIFAR-10"
FEWEST = 3  # minimum number of pairs; the rank correlation of two is always 1 or -1


def printed(
    paper: str,
    table: int | str,
    datasets: Mapping[str, Sequence[str]] | None = None,
    methods: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return a printed table with our names: paper, table, the columns of KEYS, printed, printed_std.

    datasets: our names for each printed name, one row each; methods: our name for each printed one. Other printed names
    are kept. Raises ValueError if there is no such table.
    """
    rows = read_published(paper, table).rename(columns={"value": "printed", "std": "printed_std"})
    rows["dataset"] = [(datasets or {}).get(name, (name,)) for name in rows["dataset"]]
    rows["method"] = [(methods or {}).get(name, name) for name in rows["method"]]
    return rows.explode("dataset", ignore_index=True)


def beside(print_: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Join the printed table with ours on the columns of KEYS that both have; keep rows that both have.

    print_: from `printed`; ours: `ours`, any further columns, and `recipe`, the recipe of our value (a mapping; unknown
    if omitted). Adds of_print, the ratio of ours to the print, and same_recipe, in words. Raises ValueError if one of
    our cells matches several rows of the print.
    """
    on = [key for key in KEYS if key in print_ and key in ours]
    cells = print_[on].merge(ours[on].drop_duplicates(), on=on)
    if cells.duplicated().any():
        cell = ", ".join(map(str, cells[cells.duplicated()].iloc[0]))
        free = ", ".join(key for key in KEYS if key not in on)
        raise ValueError(f"{cell} matches several rows of the print; add the column {free}, or select rows")
    both = print_.merge(ours, on=on)
    both["of_print"] = both["ours"] / both["printed"]
    recipes = both["recipe"] if "recipe" in both else [{}] * len(both)
    rows = zip(both.to_dict("records"), recipes, strict=True)
    both["same_recipe"] = [same_recipe(printed_recipe(row), recipe) for row, recipe in rows]
    return both.drop(columns="recipe", errors="ignore")


def printed_recipe(row: Mapping) -> dict:
    """Return the recipe of a printed value; fields that its paper does not state are "unknown".

    row: a row of `printed`, with paper, table, metric and epoch.
    """
    recipe = {}
    for entry in tomllib.loads((PUBLISHED / "recipes.toml").read_text(encoding="utf-8"))["recipe"]:
        if entry["paper"] == row["paper"] and row["table"] in entry["tables"] and row["metric"] in entry["metrics"]:
            recipe = {key: value for key, value in entry.items() if key not in ("paper", "tables", "metrics")}
    epoch = str(row.get("epoch", ""))
    return recipe | ({"epochs": int(epoch) if epoch.isdigit() else epoch} if epoch[:1].isdigit() else {})


def our_recipe(sweep: Sweep, study: str) -> dict:
    """Return the recipe of a study's objective from the record, with the epochs of a full trial.

    If there are several recipes, a value that they do not share is "several"; analysis/recipes.py does not rank those.
    """
    recipes = sweep.recipes.get(study, ())
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    values = {key: [recipe.get(key) for recipe in recipes] for key in keys}
    recipe = {key: found[0] if all(v == found[0] for v in found) else "several" for key, found in values.items()}
    return recipe | _codec(sweep.studies[study].dataset) | {"epochs": sweep.studies[study].epochs}


def _codec(dataset: str) -> dict[str, str]:
    """Return how images of CIFAR-10 are stored; empty for other data sets."""
    return {CODEC: "JPEG" if dataset.endswith("-jpeg") else "raw"} if dataset.startswith("cifar10") else {}


def read_trainings(files: Sequence[str | Path], keys: Sequence[str], program: str) -> pd.DataFrame:
    """Read the columns `keys` and value of files that a program of trainables.reproductions wrote.

    keys: they identify a value; without `metric` and `epoch`, a training. The last of equal ones is kept. Raises
    ValueError if a file is not such a table, or the files have a training with different epochs, seeds or settings.
    """
    parts = [pd.read_csv(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if missing := [key for key in [*keys, "value"] if key not in part]:
            raise ValueError(f"{file} has no column {missing[0]}; give a file of {program}")
    rows = pd.concat(parts)
    given = [name for name in GIVEN if name in rows]
    training = [key for key in keys if key not in ("metric", "epoch")]
    for names, same in rows.groupby(training, sort=False):
        ways = same[given].drop_duplicates() if given else []
        if len(ways) > 1:
            words = ["; ".join(f"{name} {_plain(value)}" for name, value in way.dropna().items())
                     for _, way in ways.iterrows()]  # fmt: skip
            found = " and ".join(word or "unknown settings" for word in words)
            raise ValueError(f"{', '.join(map(str, names))} was trained with {found}; give the files of one of these")
    return rows.drop_duplicates(keys, keep="last")[[*keys, "value"]].reset_index(drop=True)


def changed(files: Sequence[str | Path], keys: Sequence[str]) -> list[str]:
    """Return a line for each training of `read_trainings` with other hyperparameters than the paper's point."""
    rows = pd.concat([pd.read_csv(file) for file in files])
    if "set" not in rows:
        return []
    training = [key for key in keys if key not in ("metric", "epoch")]
    found = rows.dropna(subset=["set"]).drop_duplicates([*training, "set"])
    return [
        f"{', '.join(map(str, row[:-1]))}: not the paper's point, {row[-1]}" for row in found[[*training, "set"]].values
    ]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def first_point(sweep: Sweep, study: Study) -> pd.DataFrame:
    """Return the complete trials of a study's first hand-tuned point, one row per seed."""
    trials = sweep.complete(study.name).sort_values("number")
    for knob, value in study.hand_tuned_values.items():
        trials = trials[trials[f"hyper/{knob}"] == value]
    return trials


def departs(study: Study, trial: pd.Series) -> str:
    """Format the differences of a trial's point from the first hand-tuned one: `sigma = exp`."""
    differing = {knob: trial[f"hyper/{knob}"] for knob, value in study.hand_tuned_values.items()}
    differing = {knob: value for knob, value in differing.items() if value != study.hand_tuned_values[knob]}
    return ", ".join(f"{short_knob(knob)} = {readable(value)}" for knob, value in differing.items())


def samples_of(sweep: Sweep, trial: pd.Series) -> Path:
    """Return the path of a trial's sample grid, also in a joined sweep."""
    folder, _ = sweep.home(trial["study"])
    return folder / "trials" / trial["trial"].rpartition("/")[2] / "samples.png"


def same_recipe(theirs: Mapping, ours: Mapping) -> str:
    """Return `yes`, `no: epochs 5, printed 30` with all differences, or `unknown: extractor` with unstated fields.

    Only fields of the print's recipe are compared; an empty recipe is unknown.
    """
    theirs = {key: value for key, value in theirs.items() if key != CODEC or key in ours}  # of one data set only
    if not theirs:
        return UNKNOWN
    said = {key: value for key, value in theirs.items() if value != UNKNOWN and ours.get(key, UNKNOWN) != UNKNOWN}
    differ = [f"{key} {ours[key]}, printed {value}" for key, value in said.items() if ours[key] != value]
    if differ:
        return f"no: {'; '.join(differ)}"
    silent = [key for key in theirs if key not in said]
    return f"{UNKNOWN}: {', '.join(silent)}" if silent else "yes"


def markdown(table: pd.DataFrame) -> str:
    """Format a table as Markdown, with four significant digits and empty cells for missing values."""

    def shown(value: object) -> str:
        return "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(map(str, table.columns))} |", "|---" * len(table.columns) + "|"]
    lines += [f"| {' | '.join(map(shown, row))} |" for row in table.itertuples(index=False, name=None)]
    return "\n".join(lines)


def notes(paper: str, table: int | str) -> list[str]:
    """Return the notes on a table in `published/README.md`: decoded cells and reasons for doubt.

    Raises ValueError if there is no such table.
    """
    tag, number = read_published(paper, table).iloc[0][["paper", "table"]]
    text = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    bullets = [" ".join(bullet.split()) for bullet in re.findall(r"^\* (.*(?:\n  .*)*)", text, re.MULTILINE)]
    own = []
    for bullet in bullets:
        named = re.match(rf"{re.escape(tag)}(?:, Tables? ((?:\d|, | and )+))?\b", bullet)
        if named and (named[1] is None or number in re.findall(r"\d+", named[1])):
            own.append(bullet)
    return own


def rank_correlation(theirs: Sequence[float], ours: Sequence[float], draws: int = 2000, seed: int = 0) -> dict:
    """Return Spearman's rank correlation of two columns: cells, correlation, and low and high of its 95 % interval.

    The interval is a bootstrap over the cells, so it reflects the number of cells, not the variation between trainings.
    Pairs with a missing value are omitted; fewer than FEWEST pairs or a constant column give NaN.
    """
    both = np.stack([np.asarray(theirs, float), np.asarray(ours, float)], axis=1)  # (n, 2)
    both = both[~np.isnan(both).any(1)]
    if len(both) < FEWEST or math.isnan(spearman(*both.T)):
        return {"cells": len(both), "correlation": math.nan, "low": math.nan, "high": math.nan}
    chosen = both[np.random.default_rng(seed).integers(len(both), size=(draws, len(both)))]  # (draws, n, 2)
    low, high = np.nanquantile(spearman(chosen[..., 0], chosen[..., 1]), (0.025, 0.975))
    return {"cells": len(both), "correlation": float(spearman(*both.T)), "low": float(low), "high": float(high)}


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of samples, (..., n) -> (...); ties share a rank; NaN if one is constant."""
    a, b = (_ranks(values) - (values.shape[-1] + 1) / 2 for values in (a, b))  # (..., n) around 0
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value in its sample, from 1, (..., n) -> (..., n)."""
    below = (values[..., :, None] > values[..., None, :]).sum(-1)
    return below + ((values[..., :, None] == values[..., None, :]).sum(-1) + 1) / 2
