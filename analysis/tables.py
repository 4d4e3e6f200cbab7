"""Results of a sweep as tables and sentences, for files and the terminal.

The leaderboard has a row for every study, including failed ones: a method whose hand-tuned point diverged, or without a
complete trial, is a result, too. Values measured by different recipes are never compared in a block, a difference or a
sentence.
"""

import math
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.load import SETBACKS, Study, Sweep, read_sweep, same
from analysis.page.labels import label_trials
from analysis.page.names import (
    counted,
    dataset_name,
    listed,
    measured,
    method_name,
    readable,
    short_knob,
    short_metric,
)
from analysis.profiles import COLUMNS as PROFILE_COLUMNS
from analysis.profiles import balance, balances
from analysis.recipes import Comparison, comparisons

BESIDE = ("mse", "active_dims", "train_seconds")
# Metrics of codes, reconstructions and samples at the end of a trial.
USES = ("probe_error", "knn_error", "nmi", "ari", "psnr", "ssim", "memorisation", "copies")
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
    "floor",
    "own_metric",
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
    "memorised",
    "kernel_distance",
    "images_per_second",
    "peak_mb",
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
COSTS = ("model/parameters", "time/train_seconds", "speed/images_per_second", "memory/peak_mb")
OUTCOMES = {
    "complete": ("complete",),
    "pruned": ("pruned",),
    "diverged": ("diverged",),
    "failed": ("failed",),
    "out_of_memory": ("out_of_memory",),
    "preempted": ("preempted",),
    "unfinished": ("running", "paused", "cancelled"),
}

# Metrics that say nothing about samples.
NOT_OF_SAMPLES = ("probe_error", "knn_error", "nmi_error", "ari_error", "dssim", "psnr_rmse")
CHANGED = "what changed"
ORIGINS = {"paper": " (another hand-tuned point)", "enqueued": " (enqueued)", "warm": " (of an earlier sweep)"}
MARGIN = 0.5  # per cent by which a value must be lower to count as lower
NAMED = 4  # methods that a sentence names
FEW_STEPS = 500  # optimiser steps below which a comparison says little about methods
FAR = 3.0  # times the distance of the training images from the held-out ones
CONTRADICTS = 1.2  # times the lowest kernel distance, above which the lowest Fréchet distance is doubtful
DISPENSABLE = ("images/s", "params", "s/epoch", "trials")  # columns omitted on a narrow terminal, in this order


def write_tables(folder: str | Path) -> Sweep:
    """Write trials.parquet, curves.parquet, leaderboard.csv and balances.csv into the folder of the record, atomically.

    trials.parquet includes the balance label of each trial. Returns the sweep that was read.
    """
    sweep = read_sweep(folder)
    trials = sweep.trials.join(label_trials(sweep.trials, sweep.studies))
    replace(sweep.folder / TRIALS, lambda path: trials.to_parquet(path, index=False))
    replace(sweep.folder / CURVES, lambda path: sweep.curves.to_parquet(path, index=False))
    replace(sweep.folder / LEADERBOARD, lambda path: leaderboard(sweep).to_csv(path, index=False))
    replace(sweep.folder / BALANCES, lambda path: balances(sweep).to_csv(path, index=False))
    return sweep


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary_path)` and atomically replace `path` by the written file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def leaderboard(sweep: Sweep, profiled: bool = True) -> pd.DataFrame:
    """Return one row per study with the columns of LEADERBOARD_COLUMNS; per data set, the best tuned value first.

    `hand_tuned` is the value of the paper's point, missing unless a trial of it is complete (`hand_tuned_state` is the
    state of the first); `tuned` is the lowest value of all complete trials, including the paper's points. If points
    were run several times with different seeds, both are means over the complete runs of a point, because the lowest
    run would be biased; `tuned_runs` counts them. `difference` is tuned minus hand-tuned, so negative is better, and
    `improvement_percent` the reduction relative to the hand-tuned distance, missing unless that is positive; `noise` is
    the variation of the distance over other draws of the held-out images and `floor` the distance of the training
    images, both missing unless images are few, where `own_metric` says whether the metric's network was trained on the
    training images; `tuned_origin` is `search`, `warm` if the point is from an earlier search, or `paper` if one of the
    paper's points is the best. `searched` counts the trials that are not points of the paper, `failed` errors of the
    code, `unfinished` trials without an end; `times_...` count attempts, including those after which the trial
    continued. `worker_seconds` is the time that all trials of the study held a worker. `network`, its `parameters`, the
    seconds per epoch of training, the images per second and the peak memory (of the GPU, or else of the process, in MB)
    are those of the tuned point; `carried` names the data sets or the network that the hand-tuned point was carried
    over from. `steps` are the optimiser steps of the tuned point on `train_images`, missing if the record does not say;
    `collapsed`: its samples were flagged, because they hardly differ from each other; `memorised`: they were flagged,
    because many are copies of training images; `kernel_distance`: their kernel distance (KID) on the features of a
    Fréchet distance.
    `balance_hand_tuned` and `balance_tuned` are the labels of analysis/page/labels.py. The columns from `knob` to
    `optimum_is` describe the study's main balance knob, see `analysis.profiles.balances`. `recipe` is the recipe of the
    objective: rows of different recipes are not comparable, and a study measured by two recipes has two rows.

    profiled: False leaves the columns from `knob` to `optimum_is` empty; their fit takes seconds per study.
    """
    labels = label_trials(sweep.trials, sweep.studies)["balance"]
    rows = []
    for comparison in comparisons(sweep):
        block = [_leaderboard_row(sweep, comparison, study, labels, profiled) for study in comparison.studies]
        rows += sorted(block, key=lambda row: (row["tuned"] != row["tuned"], row["tuned"]))
    return pd.DataFrame(rows, columns=list(LEADERBOARD_COLUMNS))


def _leaderboard_row(whole: Sweep, comparison: Comparison, study: Study, labels: pd.Series, profiled: bool) -> dict:
    sweep, hand = comparison.sweep, whole.hand_tuned_trial(study.name)
    trials = sweep.trials_of(study.name)
    points = _points(sweep, study)
    at_best = min(points, key=lambda runs: runs["value"].mean(), default=None)
    best = None if at_best is None else at_best.iloc[0]
    state = "not started" if hand is None else hand["state"]
    if hand is not None and hand.name not in trials.index:
        state, hand = "by another recipe", None
    papers = [] if hand is None else [runs for runs in points if runs["origin"].iloc[0] == "paper"]
    at_hand = next((runs for runs in papers if not changed(study, runs.iloc[0])), None)
    hand_tuned = float("nan") if at_hand is None else at_hand["value"].mean()
    tuned = float("nan") if best is None else at_best["value"].mean()
    row = {
        "study": study.name,
        "method": study.method,
        "dataset": study.dataset,
        "metric": study.metric,
        "hand_tuned": hand_tuned,
        "tuned": tuned,
        "difference": tuned - hand_tuned,
        "improvement_percent": 100 * (hand_tuned - tuned) / hand_tuned if hand_tuned > 0 else float("nan"),
        **_resolution(whole, study),
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
    for name in BESIDE + USES:
        column = study.column(name)
        for point, runs in (("hand_tuned", at_hand), ("tuned", at_best)):
            known = runs is not None and column in runs
            row[f"{name}_{point}"] = runs[column].mean() if known else float("nan")
    kernel = f"{study.metric}_kid"
    row["kernel_distance"] = at_best[kernel].mean() if at_best is not None and kernel in at_best else float("nan")
    row |= _network(at_best, study) | _training(whole, best, study)
    if profiled:
        row |= _profiled(comparison.sweep, study)
    row |= {f"times_{setback}": int(trials[f"times_{setback}"].sum()) for setback in SETBACKS}
    return row | {outcome: int(trials["state"].isin(states).sum()) for outcome, states in OUTCOMES.items()}


def _resolution(sweep: Sweep, study: Study) -> dict:
    """Return the variation of a study's distance over other draws of the held-out images, and the distance of real
    images, nan if not measured; and whether the metric's network is known to be trained on the training images."""
    found = sweep.part(study.name).meta["resolutions"].get(study.dataset, {})
    return {
        "noise": found.get("spread", float("nan")),
        "floor": found.get("floor", float("nan")),
        "own_metric": found.get("own", False),
    }


def beyond_noise(difference: float, noise: float) -> bool:
    """Return whether two distances differ by more than the variation over other draws of the held-out images, if that
    was measured."""
    return abs(difference) > (0 if noise != noise else noise)


def _network(runs: pd.DataFrame | None, study: Study) -> dict:
    """Return the network of a point's runs, its size, speed and memory."""
    if runs is None:
        return {"network": "", "carried": study.carried}
    mean = {name: runs[name].mean() if name in runs else float("nan") for name in COSTS}
    return {
        "network": str(runs["hyper/network"].iloc[0]) if "hyper/network" in runs else "",
        "parameters": mean["model/parameters"],
        "epoch_seconds": mean["time/train_seconds"] / study.epochs,
        "images_per_second": mean["speed/images_per_second"],
        "peak_mb": mean["memory/peak_mb"],
        "carried": study.carried,
    }


def _training(sweep: Sweep, best: pd.Series | None, study: Study) -> dict:
    """Return training images and steps of the tuned point, and whether its samples were flagged."""
    part = sweep.part(study.name)
    data = part.meta["data"].get(study.dataset, {})
    images = data.get("train", float("nan")) + (data.get("valid", 0) if part.config.get("split") == "test" else 0)
    if best is None:
        return {"train_images": images, "steps": float("nan"), "collapsed": False, "memorised": False}
    steps = study.epochs * (images // best.get("hyper/batch_size", float("nan")))
    flags = {flag: best.get(f"flag/{flag}") == 1 for flag in ("collapsed", "memorised")}
    return {"train_images": images, "steps": steps, **flags}


def _profiled(sweep: Sweep, study: Study) -> dict:
    """Return the profile columns of the main balance knob; empty if a method has none."""
    main = next(iter(study.balance), None)
    found = {} if main is None else balance(sweep, study, main)
    return {name: found[name] for name in PROFILED if name in found}


def _points(sweep: Sweep, study: Study) -> list[pd.DataFrame]:
    """Return the complete trials of a study grouped by point, the lowest value first in each; of other points than the
    papers' only the lowest, because there may be thousands.

    Only the papers' points are run several times; repetitions in a search have the same seed.
    """
    trials = sweep.complete(study.name)
    others = trials["origin"] != "paper"
    trials = trials[~others | (others.cumsum() == 1)]
    knobs = [f"hyper/{knob}" for knob in study.hand_tuned_values if f"hyper/{knob}" in trials]
    alone = trials["trial"].where(trials["origin"] != "paper", "")
    return [runs for _, runs in trials.groupby([*knobs, alone], sort=False, dropna=False)]


def changed(study: Study, trial: pd.Series) -> str:
    """Format the changes of a trial from the paper's point: `beta 4 → 0.12, lr 1e-3 → 4e-4`."""
    steps = []
    for knob, before in study.hand_tuned_values.items():
        after = trial.get(f"hyper/{knob}")
        if not same(before, after):
            steps.append(f"{short_knob(knob)} {readable(before)} → {readable(after)}")
    return ", ".join(steps)


def leaderboard_text(table: pd.DataFrame, width: float = math.inf) -> str:
    """Format the leaderboard as plain lines for a terminal, with a block per data set and recipe.

    width: maximum characters of a line; narrow terminals omit minor columns and get the changes on separate lines.
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
            title += f" · not comparable with the other blocks, measured by {recipe or 'an unknown recipe'}"
        above = _wrapped(networks_words(rows), width)
        blocks.append("\n".join([title, *above, *_fitted(lines, width)]))
    return "\n\n".join(blocks)


def _wrapped(text: str, width: float) -> list[str]:
    """Return the lines of a text of at most `width` characters each; none for ""."""
    return textwrap.wrap(text, int(width)) if width < math.inf else [text] * bool(text)


def _fitted(rows: Sequence[Sequence[str]], width: float) -> list[str]:
    """Format the rows of a leaderboard, header first, as lines of at most `width` characters if possible."""
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
    """Format rows of cells as lines with aligned columns, separated by two spaces."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def networks_words(rows: pd.DataFrame) -> str:
    """Say which networks the rows of one table have; "" if all have the same."""
    ranked = rows[rows["tuned"].notna()]
    if ranked["network"].nunique() < 2:
        return ""
    kinds = [
        f"{listed([method_name(method) for method in same['method']])} {kind}"
        for kind, same in ranked.groupby("network", sort=False)
    ]
    return f"Networks differ, so method and network are ranked together: {'; '.join(kinds)} (--networks shared: one)"


def count_words(number: float) -> str:
    """Format a large count in thousands or millions: 23.4 k, 1.91 M."""
    if number != number:
        return measured(number)
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def mixed_datasets(table: pd.DataFrame) -> set[str]:
    """Return the data sets of a leaderboard with several metrics or recipes."""
    return {
        dataset for dataset, rows in table.groupby("dataset") if len(rows[["metric", "recipe"]].drop_duplicates()) > 1
    }


def hand_tuned_words(row) -> str:
    """Format the hand-tuned value of a leaderboard row, or the state of that trial."""
    if row.hand_tuned == row.hand_tuned:
        return f"{measured(row.hand_tuned)}{' carried over' if row.carried else ''}"
    return "no value" if row.hand_tuned_state == "complete" else spaced(row.hand_tuned_state)


def change_words(row) -> str:
    """Format the improvement of a leaderboard row as a signed percentage; minus means a smaller distance."""
    percent = row.improvement_percent
    if percent != percent:
        return "–"
    return "±0 %" if abs(percent) < MARGIN else f"{'−' if percent > 0 else '+'}{abs(percent):.0f} %"


def is_lower(row) -> bool:
    """Return whether the tuned value of a leaderboard row is lower than the hand-tuned one, by MARGIN if that is
    positive."""
    return bool(row.difference < 0 and not row.improvement_percent < MARGIN)


def is_kept(row) -> bool:
    """Return whether the tuned value of a leaderboard row is that of its hand-tuned point."""
    return bool(row.hand_tuned == row.tuned)


def result_words(row) -> str:
    """Format the hand-tuned and the tuned value of a leaderboard row: `45.4 → 17.7`; one value if they are the same,
    with `kept` if the search found no better one."""
    hand = hand_tuned_words(row)
    if is_kept(row):
        return f"{hand}, kept" if row.searched else hand
    return f"{hand} → {measured(row.tuned) if row.complete else 'none complete'}"


def changed_words(row) -> str:
    """Format the changes of the tuned point of a leaderboard row; some papers have several hand-tuned points."""
    if row.tuned != row.tuned:
        return ""
    if row.tuned_runs > 1:
        point = row.changed + ORIGINS.get(row.tuned_origin, "") if row.changed else "hand-tuned point"
        return f"{point}, mean of {row.tuned_runs} runs"
    if row.tuned_trial == row.hand_tuned_trial:
        return "carried-over point kept" if row.carried else "hand-tuned point kept"
    return row.changed + ORIGINS.get(row.tuned_origin, "")


def outcome_words(row) -> str:
    """Format the outcomes of the trials of a leaderboard row, and attempts after which they continued:
    `8: 5 complete, 2 pruned, 1 diverged (attempts: 3 preempted)`."""
    counts = [f"{getattr(row, outcome)} {spaced(outcome)}" for outcome in OUTCOMES if getattr(row, outcome)]
    went_on = {setback: getattr(row, f"times_{setback}") - getattr(row, setback) for setback in SETBACKS}
    attempts = ", ".join(f"{count} {spaced(setback)}" for setback, count in went_on.items() if count)
    words = f"{row.trials}: {', '.join(counts)}" if counts else "0"
    return f"{words} (attempts: {attempts})" if attempts else words


def spaced(state: str) -> str:
    """A state of the record in words."""
    return state.replace("_", " ")


def headline(table: pd.DataFrame, gains: str = "", leaders: Mapping[str, str] | None = None) -> str:
    """Summarise the leaderboard of a sweep in a few sentences.

    gains, leaders: the results of a confirmation, on tuned against hand-tuned points (`analysis.confirm.gains_words`)
    and on the best method of each data set on which it compared several. Without one, the summary says that the search
    found lower values, not that these points are better, because each was trained once. `cautions` says what else
    belongs to it.
    """
    found = table[table["tuned"].notna()]
    if found.empty:
        return "No trial is complete, so there is nothing to compare."
    best = _best(found)
    if best.empty:
        return "The values were measured by different recipes, so the methods are not ranked."
    confirmed = {dataset: words for dataset, words in (leaders or {}).items() if dataset in set(best["dataset"])}
    others = best[~best["dataset"].isin(confirmed)]
    first = " ".join([*confirmed.values(), _closest(found, others)]).strip()
    ranked = found["dataset"].value_counts()[others["dataset"]]
    if confirmed and (alone := [dataset_name(name) for name in ranked.index[ranked > 1]]):
        first += f" On {listed(alone)} the confirmation compares no methods."
    if gains:
        return f"{first} {gains}"
    compared = found[found["difference"].notna() & (found["searched"] > 0)]
    if compared.empty:
        return first
    # A second point of the paper that beats the first is not a result of the search, nor is an enqueued one.
    lower = compared[(compared["difference"] < 0) & ~compared["tuned_origin"].isin(["paper", "enqueued"])]
    marked = lower[[is_lower(row) for row in lower.itertuples()]]
    clear = marked[[beyond_noise(row.difference, row.noise) for row in marked.itertuples()]]
    limits = ["by more than another draw of the held-out images would change it"] * (len(clear) < len(marked))
    limits = [f"by more than {MARGIN:g} %"] * (len(marked) < len(lower)) + limits
    if clear.empty:
        by = f" {listed(limits)}" if limits else ""
        return f"{first} The search found no lower value than a hand-tuned point's{by}."
    # The largest relative gain, because distances on two data sets have no common scale.
    top = clear.sort_values(["improvement_percent", "difference"], ascending=[False, True], kind="stable").iloc[0]
    where = f" on {dataset_name(top.dataset)}" if table["dataset"].nunique() > 1 else ""
    which = "most for" if len(clear) > 1 else "that of"
    by = f", {listed(limits)}," if limits else ""
    return (
        f"{first} The search found a lower value than the hand-tuned point's{by} in "
        f"{counted(len(compared), 'study', len(clear))}, {which} {method_name(top.method)}{where}: "
        f"{measured(top.hand_tuned)} → {measured(top.tuned)}, one training each."
    )


def cautions(table: pd.DataFrame) -> list[str]:
    """Return a sentence per study without a complete trial, and per reason to doubt the closest methods of a data
    set."""
    found = table[table["tuned"].notna()]
    words = _failed_words(table)
    for row in _best(found).itertuples():
        words += _cautions(_near(found, row)) + _doubts(found[found["dataset"] == row.dataset])
    return words


def _doubts(rivals: pd.DataFrame) -> list[str]:
    """Say that the kernel distance contradicts the lowest Fréchet distance: on the same features, another method is
    clearly closer, and half of the methods are. A Fréchet distance sees only the mean and covariance of features."""
    best, known = rivals.iloc[0], rivals[rivals["kernel_distance"].notna()]
    if len(known) < 3 or best.name not in known.index:
        return []
    closest = known.loc[known["kernel_distance"].idxmin()]
    if best["kernel_distance"] <= max(CONTRADICTS * closest["kernel_distance"], known["kernel_distance"].median()):
        return []
    name, other = method_name(best["method"]), method_name(closest["method"])
    kernels = f"{measured(closest['kernel_distance'])}; {name} {measured(best['kernel_distance'])}"
    return [
        f"On {dataset_name(best['dataset'])} {name} has the lowest {short_metric(best['metric'])}, but by the kernel "
        f"distance on the same features {other} is closer ({kernels}): judge by the samples, too."
    ]


def _failed_words(table: pd.DataFrame) -> list[str]:
    """Say which studies have trials that ended without a value, and no complete one."""
    failing = [outcome for outcome in OUTCOMES if outcome in ("diverged", *SETBACKS)]
    without = table[(table["complete"] == 0) & (table[failing].sum(axis=1) > 0)]
    return [
        f"{method_name(row.method)} on {dataset_name(row.dataset)} has no complete trial ({outcome_words(row)})."
        for row in without.itertuples()
    ]


def _best(found: pd.DataFrame) -> pd.DataFrame:
    """Return the row of the lowest value of each data set whose values can be ranked; `found` is sorted by value."""
    return found.loc[~found["dataset"].duplicated() & ~found["dataset"].isin(mixed_datasets(found))]


def _near(found: pd.DataFrame, best) -> pd.DataFrame:
    """Return the best row of a data set and those that cannot be told apart from it."""
    rivals = found[found["dataset"] == best.dataset]
    beyond = [beyond_noise(value - best.tuned, best.noise) for value in rivals["tuned"]]
    return rivals[(rivals.index == best.Index) | ~np.array(beyond)]


def _closest(found: pd.DataFrame, best: pd.DataFrame) -> str:
    """Say which method is closest on each data set, or which cannot be told apart."""
    closest: dict[str, list[str]] = {}
    alone: dict[str, list[str]] = {}
    ties, lowest = [], []
    for row in best.itertuples():
        near, name, metric = _near(found, row), dataset_name(row.dataset), short_metric(row.metric)
        if len(near) > 1:
            who = listed([method_name(method) for method in near["method"]], NAMED)
            if row.noise != row.noise:
                ties.append(f"On {name} {who} have the same {metric} ({measured(row.tuned)}).")
                continue
            ends = dict.fromkeys(measured(value) for value in (near["tuned"].min(), near["tuned"].max()))
            values = f"{metric} {' to '.join(ends)}, ± {measured(row.noise)} with other held-out images"
            ties.append(f"On {name} {who} cannot be told apart ({values}).")
        elif (found["dataset"] == row.dataset).sum() == 1:
            alone.setdefault(method_name(row.method), []).append(f"{metric} {measured(row.tuned)} on {name}")
        elif metric in NOT_OF_SAMPLES or _doubts(found[found["dataset"] == row.dataset]):
            lowest.append(f"{method_name(row.method)} has the lowest {metric} on {name} ({measured(row.tuned)}).")
        else:
            closest.setdefault(method_name(row.method), []).append(f"{name} ({metric} {measured(row.tuned)})")
    winners = [f"{method} comes closest to real {listed(words)}" for method, words in closest.items()]
    closest_words = ", ".join([*winners[:1], *(words.replace(" comes closest", "", 1) for words in winners[1:])])
    single = [f"{method} has {listed(words)}." for method, words in alone.items()]
    return " ".join([*([f"{closest_words}."] if winners else []), *lowest, *ties, *single])


def _cautions(near: pd.DataFrame) -> list[str]:
    """Return cautions about the closest methods on a data set."""
    name, words = dataset_name(near["dataset"].iloc[0]), []
    alike = [method_name(method) for method in near[near["collapsed"]]["method"]]
    if alike:
        words.append(f"Samples of {listed(alike, NAMED)} on {name} hardly differ from each other.")
    copied = [method_name(method) for method in near[near["memorised"]]["method"]]
    if copied:
        words.append(f"Samples of {listed(copied, NAMED)} on {name} contain copies of training images.")
    best, floor, metric = near["tuned"].min(), near["floor"].iloc[0], short_metric(near["metric"].iloc[0])
    if best > FAR * floor:
        words.append(
            f"On {name} samples of all methods are far from real images: {metric} {measured(best)} at best, where the "
            f"training images have {measured(floor)}."
        )
    elif best < floor:  # seen on a few hundred images: the network sets its training images apart from others
        seen = ", which the metric's network was trained on" if near["own_metric"].iloc[0] else ""
        words.append(
            f"On {name} the lowest {metric} ({measured(best)}) is below that of the training images "
            f"({measured(floor)}){seen}: judge by the samples, too."
        )
    if (steps := near["steps"].max()) < FEW_STEPS:
        few = f"at most {steps:.0f} optimiser steps on {near['train_images'].max():.0f} images"
        words.append(f"On {name} the best points were trained for {few}.")
    return words
