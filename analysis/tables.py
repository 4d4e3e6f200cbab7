"""What a sweep found, as tables and in words: the half of the analysis that a terminal can show.

The leaderboard has a row for every study, also for those that went wrong: a method whose hand-tuned point
diverged, or none of whose trials finished, is a finding, and leaving it out would flatter the rest.
Values that were measured in different ways are never compared: not in a block, a difference or a sentence.
"""

import math
import os
import textwrap
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path

import pandas as pd

from analysis.load import SETBACKS, Study, Sweep, read_sweep
from analysis.page.labels import label_trials
from analysis.page.names import dataset_name, listed, measured, method_name, readable, short_knob, short_metric
from analysis.profiles import COLUMNS as PROFILE_COLUMNS
from analysis.profiles import balance, balances
from analysis.recipes import Comparison, comparisons

BESIDE = {"mse": "valid/mse", "active_dims": "valid/active_dims", "train_seconds": "time/train_seconds"}
USES = {  # of codes, reconstructions and samples, at a trial's end
    name: f"valid/{name}" for name in ("probe_error", "knn_error", "nmi", "ari", "psnr", "ssim", "memorisation")
}
TRIALS, CURVES, LEADERBOARD = "trials.parquet", "curves.parquet", "leaderboard.csv"
BALANCES = "balances.csv"
PROFILED = PROFILE_COLUMNS[PROFILE_COLUMNS.index("knob") : PROFILE_COLUMNS.index("trials")]
LEADERBOARD_COLUMNS = (
    "study",
    "method",
    "dataset",
    "metric",
    "hand_tuned",
    "tuned",
    "difference",
    "improvement_percent",
    "noise",
    "changed",
    "hand_tuned_state",
    "hand_tuned_trial",
    "tuned_trial",
    "tuned_origin",
    "tuned_runs",
    "mse_hand_tuned",
    "mse_tuned",
    "active_dims_hand_tuned",
    "active_dims_tuned",
    "balance_hand_tuned",
    "balance_tuned",
    *PROFILED,
    "train_seconds_hand_tuned",
    "train_seconds_tuned",
    "network",
    "parameters",
    "epoch_seconds",
    "train_images",
    "steps",
    "collapsed",
    "images_per_second",
    "carried",
    *(f"{name}_{point}" for name in USES for point in ("hand_tuned", "tuned")),
    "knobs_searched",
    "trials",
    "searched",
    "complete",
    "pruned",
    "diverged",
    "failed",
    "out_of_memory",
    "preempted",
    "unfinished",
    "times_preempted",
    "times_out_of_memory",
    "times_failed",
    "worker_seconds",
    "recipe",
)
SPEEDS = ("time/train_seconds", "speed/images_per_second")
OUTCOMES = {
    "complete": ("complete",),
    "pruned": ("pruned",),
    "diverged": ("diverged",),
    "failed": ("failed",),
    "out_of_memory": ("out_of_memory",),
    "preempted": ("preempted",),
    "unfinished": ("running", "cancelled"),
}

CHANGED = "what changed"
FEW_STEPS = 500  # optimiser steps after which a comparison says little of methods
DISPENSABLE = ("images/s", "params", "s/epoch", "trials")  # the first goes first where a terminal is narrow


def write_tables(folder: str | Path) -> Sweep:
    """Write trials.parquet, curves.parquet, leaderboard.csv and balances.csv beside the record they are made from.

    trials.parquet has the balance label of each trial beside it. Each file appears whole or not at all.
    Returns the sweep that was read.
    """
    sweep = read_sweep(folder)
    trials = sweep.trials.join(label_trials(sweep.trials))
    replace(sweep.folder / TRIALS, lambda path: trials.to_parquet(path, index=False))
    replace(sweep.folder / CURVES, lambda path: sweep.curves.to_parquet(path, index=False))
    replace(sweep.folder / LEADERBOARD, lambda path: leaderboard(sweep).to_csv(path, index=False))
    replace(sweep.folder / BALANCES, lambda path: balances(sweep).to_csv(path, index=False))
    return sweep


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write(temporary_path)` write a file that then takes the place of `path` at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def leaderboard(sweep: Sweep) -> pd.DataFrame:
    """One row per study, the columns of LEADERBOARD_COLUMNS; per data set, the best tuned value first.

    `hand_tuned` is the value of the paper's point, missing unless that trial used its whole budget
    (`hand_tuned_state` says what became of it); `tuned` is the lowest value among all complete trials, the
    paper's point among them. Where points were run several times, with seeds of their own, both are means over a
    point's runs, for the lowest of them is but a lucky one; `tuned_runs` counts them. `difference` is tuned minus
    hand-tuned, so negative is better, and `improvement_percent` the share of the hand-tuned distance that is gone;
    `noise` is how far another draw of the held-out images moves a distance, missing where they are not few;
    `tuned_origin` is `search`, `warm` if an earlier search had found it, or `paper` if one of the paper's points
    stayed the best. `searched` counts the trials that are no point of the paper, `failed` errors of the code,
    `unfinished` trials without an end; `times_...` count attempts, also those after which the trial went on.
    `seconds` is the time that all trials of the study held a worker.
    `network`, its `parameters`, the seconds that an epoch of training takes and the images trained on per second are
    those of the tuned point; `carried` says from which data sets or network the hand-tuned point was taken.
    `steps` are the optimiser steps of the tuned point on `train_images`, missing where the record does not say;
    `collapsed`: an instrument flagged its samples, which hardly differ from each other.
    `balance_hand_tuned` and `balance_tuned` are the labels of analysis/page/labels.py. `knob` and what follows it, to
    `optimum_is`, are of the study's main balance knob, see `analysis.profiles.balances`. `recipe` is how the objective
    was measured: rows of another recipe do not compare, and a study that was measured in two ways has two rows.
    """
    labels = label_trials(sweep.trials)["balance"]
    rows = []
    for comparison in comparisons(sweep):
        block = [_leaderboard_row(sweep, comparison, study, labels) for study in comparison.studies]
        rows += sorted(block, key=lambda row: (row["tuned"] != row["tuned"], row["tuned"]))
    return pd.DataFrame(rows, columns=list(LEADERBOARD_COLUMNS))


def _leaderboard_row(whole: Sweep, comparison: Comparison, study: Study, labels: pd.Series) -> dict:
    sweep, hand = comparison.sweep, whole.hand_tuned(study.name)
    trials = sweep.trials_of(study.name)
    points = _points(sweep, study)
    at_best = min(points, key=lambda runs: runs["value"].mean(), default=None)
    best = None if at_best is None else at_best.iloc[0]
    state = "not started" if hand is None else hand["state"]
    if hand is not None and hand.name not in trials.index:
        state, hand = "by another recipe", None
    complete = hand is not None and hand["state"] == "complete" and pd.notna(hand["value"])
    at_hand = next(runs for runs in points if hand.name in runs.index) if complete else None
    hand_tuned = at_hand["value"].mean() if complete else float("nan")
    tuned = float("nan") if best is None else at_best["value"].mean()
    row = {
        "study": study.name,
        "method": study.method,
        "dataset": study.dataset,
        "metric": study.metric,
        "hand_tuned": hand_tuned,
        "tuned": tuned,
        "difference": tuned - hand_tuned,
        "improvement_percent": 100 * (hand_tuned - tuned) / hand_tuned if hand_tuned else float("nan"),
        "noise": _noise(whole, study),
        "changed": "" if best is None else changed(study, best),
        "tuned_origin": None if best is None else best["origin"],
        "hand_tuned_state": state,
        "hand_tuned_trial": None if hand is None else hand["trial"],
        "tuned_trial": None if best is None else best["trial"],
        "tuned_runs": 0 if best is None else len(at_best),
        "knobs_searched": len(study.searched),
        "trials": len(trials),
        "searched": int((trials["origin"] != "paper").sum()),
        "worker_seconds": trials["worker_seconds"].sum(),
        "recipe": comparison.recipe,
        "balance_hand_tuned": "" if hand is None else labels[hand.name],
        "balance_tuned": "" if best is None else labels[best.name],
    }
    for column, metric in (BESIDE | USES).items():
        for point, runs in (("hand_tuned", at_hand), ("tuned", at_best)):
            known = runs is not None and metric in runs
            row[f"{column}_{point}"] = runs[metric].mean() if known else float("nan")
    row |= _network(at_best, study) | _training(whole, best, study)
    row |= _profiled(comparison.sweep, study)
    row |= {f"times_{setback}": int(trials[f"times_{setback}"].sum()) for setback in SETBACKS}
    return row | {outcome: int(trials["state"].isin(states).sum()) for outcome, states in OUTCOMES.items()}


def _noise(sweep: Sweep, study: Study) -> float:
    """How far another draw of few held-out images moves the distance of a study; nan where it was not measured."""
    return _part(sweep, study).meta["resolutions"].get(study.dataset, {}).get("spread", float("nan"))


def beyond_noise(difference: float, noise: float) -> bool:
    """Whether two distances differ by more than another draw of the held-out images would move one of them."""
    return noise != noise or abs(difference) > noise


def _network(runs: pd.DataFrame | None, study: Study) -> dict:
    """The network of a point's runs, its size and its speed."""
    if runs is None:
        return {"network": "", "carried": study.carried}
    mean = {name: runs[name].mean() if name in runs else float("nan") for name in ("model/parameters", *SPEEDS)}
    return {
        "network": str(runs["hyper/network"].iloc[0]) if "hyper/network" in runs else "",
        "parameters": mean["model/parameters"],
        "epoch_seconds": mean["time/train_seconds"] / study.epochs,
        "images_per_second": mean["speed/images_per_second"],
        "carried": study.carried,
    }


def _training(sweep: Sweep, best: pd.Series | None, study: Study) -> dict:
    """How long the tuned point was trained on how many images, and whether its samples are all alike."""
    part = _part(sweep, study)
    data = part.meta["data"].get(study.dataset, {})
    images = data.get("train", float("nan")) + (data.get("valid", 0) if part.config.get("split") == "test" else 0)
    if best is None:
        return {"train_images": images, "steps": float("nan"), "collapsed": False}
    steps = study.epochs * (images // best.get("hyper/batch_size", float("nan")))
    return {"train_images": images, "steps": steps, "collapsed": best.get("flag/collapsed") == 1}


def _part(sweep: Sweep, study: Study) -> Sweep:
    """The sweep that a study is of, where several are joined."""
    return sweep.parts.get(study.name.partition("/")[0], sweep)


def _profiled(sweep: Sweep, study: Study) -> dict:
    """What the profile of the main balance knob says; nothing where a method has none."""
    main = next(iter(study.balance), None)
    told = {} if main is None else balance(sweep, study, main)
    return {name: told[name] for name in PROFILED if name in told}


def _points(sweep: Sweep, study: Study) -> list[pd.DataFrame]:
    """The complete trials of a study by their point, the lowest value first in each.

    Only points of the papers are run several times: what a search repeats has the same seed too.
    """
    trials = sweep.complete(study.name)
    knobs = [f"hyper/{knob}" for knob in study.hand_tuned if f"hyper/{knob}" in trials]
    alone = trials["trial"].where(trials["origin"] != "paper", "")
    return [runs for _, runs in trials.groupby([*knobs, alone], sort=False, dropna=False)]


def changed(study: Study, trial: pd.Series) -> str:
    """The knobs in which a trial departs from the paper's point: `beta 4 → 0.12, lr 1e-3 → 4e-4`."""
    steps = []
    for knob, before in study.hand_tuned.items():
        after = trial.get(f"hyper/{knob}")
        if not _same(before, after):
            steps.append(f"{short_knob(knob)} {readable(before)} → {readable(after)}")
    return ", ".join(steps)


def _same(before: object, after: object) -> bool:
    if isinstance(before, Real) and isinstance(after, Real):
        return before == after
    return str(before) == str(after)


def leaderboard_text(table: pd.DataFrame, width: float = math.inf) -> str:
    """The leaderboard as plain lines for a terminal, a block per data set; several where recipes differ.

    width: of a line, in characters, where columns that matter less are left out and what changed gets lines of its own.
    """
    blocks = []
    mixed = mixed_datasets(table)
    apart = table["recipe"].where(table["dataset"].isin(mixed), "")
    for (dataset, metric, recipe), rows in table.groupby(["dataset", "metric", apart], sort=False):
        head = ("method", "hand-tuned", "tuned", "change", CHANGED, "params", "s/epoch", "images/s", "trials")
        lines = [head] + [
            (
                method_name(row.method),
                hand_tuned_words(row),
                measured(row.tuned) if row.complete else "none complete",
                change_words(row),
                changed_words(row),
                count_words(row.parameters),
                measured(row.epoch_seconds),
                count_words(row.images_per_second),
                outcome_words(row),
            )
            for row in rows.itertuples()
        ]
        title = f"{dataset_name(dataset)} · {short_metric(metric)}, lower is better"
        if dataset in mixed:
            title += f" · not to be compared with the other blocks, measured by {recipe or 'an unknown recipe'}"
        above = [words] if (words := networks_words(rows)) else []
        blocks.append("\n".join([title, *above, *_fitted(lines, width)]))
    return "\n\n".join(blocks)


def _fitted(rows: Sequence[Sequence[str]], width: float) -> list[str]:
    """The rows of a leaderboard, its head first, on lines of at most `width` characters where that can be."""
    columns = [list(rows[0]), [name for name in rows[0] if name != CHANGED]]
    fewer = [[n for n in names if n not in DISPENSABLE[:k]] for names in columns for k in range(len(DISPENSABLE) + 1)]
    for names in fewer:
        places = [rows[0].index(name) for name in names]
        lines = aligned([[row[place] for place in places] for row in rows])
        if max(map(len, lines)) <= width:
            break
    if CHANGED in names:
        return lines
    place, indent = rows[0].index(CHANGED), {"initial_indent": "  ", "subsequent_indent": "  "}
    below = ([], *(textwrap.wrap(row[place], int(width), **indent) for row in rows[1:]))
    return [line for first, more in zip(lines, below, strict=True) for line in (first, *more)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns are equally wide, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def networks_words(rows: pd.DataFrame) -> str:
    """Which networks the rows of one table have, in a sentence; "" where it is one for all."""
    ranked = rows[rows["tuned"].notna()]
    if ranked["network"].nunique() < 2:
        return ""
    kinds = [
        f"{listed([method_name(method) for method in same['method']])} {kind}"
        for kind, same in ranked.groupby("network", sort=False)
    ]
    return f"Networks differ, so method and network are ranked together: {'; '.join(kinds)} (--networks shared: one)"


def count_words(number: float) -> str:
    """A large count in thousands or millions: 23.4 k, 1.91 M."""
    if number != number:
        return measured(number)
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def mixed_datasets(table: pd.DataFrame) -> set[str]:
    """The data sets of a leaderboard whose values are not all of one metric and recipe."""
    return {
        dataset for dataset, rows in table.groupby("dataset") if len(rows[["metric", "recipe"]].drop_duplicates()) > 1
    }


def hand_tuned_words(row) -> str:
    """The hand-tuned value of a leaderboard row, or what became of that trial."""
    if row.hand_tuned == row.hand_tuned:
        return f"{measured(row.hand_tuned)}{' carried over' if row.carried else ''}"
    return "no value" if row.hand_tuned_state == "complete" else spaced(row.hand_tuned_state)


def change_words(row) -> str:
    """The improvement of a leaderboard row as a signed percentage, minus meaning a smaller distance."""
    percent = row.improvement_percent
    if percent != percent:
        return "–"
    return "±0 %" if abs(percent) < 0.5 else f"{'−' if percent > 0 else '+'}{abs(percent):.0f} %"


def changed_words(row) -> str:
    """What the tuned point of a leaderboard row changed; some papers leave room for two hand-tuned points."""
    if row.tuned != row.tuned:
        return ""
    if row.tuned_runs > 1:
        return ", ".join([row.changed or "hand-tuned point", f"mean of {row.tuned_runs} runs"])
    if row.tuned_trial == row.hand_tuned_trial:
        return "carried-over point kept" if row.carried else "hand-tuned point kept"
    return f"{row.changed} (another hand-tuned point)" if row.tuned_origin == "paper" else row.changed


def outcome_words(row) -> str:
    """How the trials of a leaderboard row ended, and attempts after which they went on:
    `8: 5 complete, 2 pruned, 1 diverged (attempts: 3 preempted)`."""
    counts = [f"{getattr(row, outcome)} {spaced(outcome)}" for outcome in OUTCOMES if getattr(row, outcome)]
    went_on = {setback: getattr(row, f"times_{setback}") - getattr(row, setback) for setback in SETBACKS}
    attempts = ", ".join(f"{count} {spaced(setback)}" for setback, count in went_on.items() if count)
    words = f"{row.trials}: {', '.join(counts)}" if counts else "0"
    return f"{words} (attempts: {attempts})" if attempts else words


def spaced(state: str) -> str:
    """A state of the record in words."""
    return state.replace("_", " ")


def headline(table: pd.DataFrame, gains: str = "") -> str:
    """The result of a sweep in one or two plain sentences, made from its leaderboard.

    gains: what a confirmation says of tuned against hand-tuned points (`analysis.confirm.gains_words`). Without one it
    is said that the search found lower values, not that these points are better: it has one training of each.
    """
    found = table[table["tuned"].notna()]
    if found.empty:
        return "No trial has used its whole budget yet, so there is nothing to compare."
    mixed = mixed_datasets(found)
    best = found.loc[~found["dataset"].duplicated() & ~found["dataset"].isin(mixed)]  # sorted by value in each
    if best.empty:
        return "The values were measured by different recipes, so no method is said to be the best."
    first = _closest(found, best)
    compared = found[found["improvement_percent"].notna() & (found["searched"] > 0)]
    if gains:
        return f"{first} {gains}"
    if compared.empty:
        return first
    # A second point of the paper that beats the first is the paper's merit, not the search's.
    gains = compared[(compared["improvement_percent"] >= 0.5) & (compared["tuned_origin"] != "paper")]
    clear = gains[[beyond_noise(row.difference, row.noise) for row in gains.itertuples()]]
    if clear.empty:
        small = "" if gains.empty else " by more than another draw of the held-out images would change"
        return f"{first} The search found no lower value than a hand-tuned point's{small}."
    top = clear.loc[clear["improvement_percent"].idxmax()]
    where = f" on {dataset_name(top.dataset)}" if table["dataset"].nunique() > 1 else ""
    which = "most for" if len(clear) > 1 else "that of"
    beyond = "" if len(clear) == len(gains) else ", by more than another draw of the held-out images would change it,"
    return (
        f"{first} The search found a lower value than the hand-tuned point's{beyond} in {len(clear)} of "
        f"{len(compared)} studies, {which} {method_name(top.method)}{where}: "
        f"{measured(top.hand_tuned)} → {measured(top.tuned)}, "
        "one training each."
    )


def _closest(found: pd.DataFrame, best: pd.DataFrame) -> str:
    """Which method comes closest on each data set, or which cannot be told apart there, and what speaks against it."""
    closest: dict[str, list[str]] = {}
    ties, cautions = [], []
    for row in best.itertuples():
        rivals = found[found["dataset"] == row.dataset]
        near = rivals[[not beyond_noise(value - row.tuned, row.noise) for value in rivals["tuned"]]]
        cautions += _cautions(near if len(near) > 1 else found.loc[[row.Index]])
        name, metric = dataset_name(row.dataset), short_metric(row.metric)
        if len(near) > 1:
            values = f"{metric} {measured(near['tuned'].min())} to {measured(near['tuned'].max())}"
            who = listed([method_name(method) for method in near["method"]])
            ties.append(
                f"On {name} {who} cannot be told apart ({values}, ± {measured(row.noise)} with other held-out images)."
            )
        else:
            closest.setdefault(method_name(row.method), []).append(f"{name} ({metric} {measured(row.tuned)})")
    winners = [f"{method} comes closest to real {listed(words)}" for method, words in closest.items()]
    told = ", ".join([*winners[:1], *(words.replace(" comes closest", "", 1) for words in winners[1:])])
    return " ".join([*([f"{told}."] if told else []), *ties, *cautions])


def _cautions(near: pd.DataFrame) -> list[str]:
    """Why the methods that come closest on one data set may mean little."""
    name, words = dataset_name(near["dataset"].iloc[0]), []
    alike = [method_name(method) for method in near[near["collapsed"]]["method"]]
    if alike:
        words.append(f"Samples of {listed(alike)} on {name} hardly differ from each other.")
    if (steps := near["steps"].max()) < FEW_STEPS:
        words.append(f"On {name} that is after {steps:.0f} optimiser steps on {near['train_images'].iloc[0]} images.")
    return words
