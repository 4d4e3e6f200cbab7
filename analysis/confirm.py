"""Results of a confirmation: means over new seeds on the test split, their intervals, and the values of the search.

A search reports the minimum of many noisy values, so the value of its winner is biased. A confirmation trains the same
points again on the training and validation images, scores each training on the test split once, and reports all points.
The gap is the search's value minus the confirmed mean; a negative gap means that the search was too optimistic. The
hand-tuned point was not selected by its value, so its gap shows the effect of other images and more training data.

A confirmation has one or more rounds of seeds, and a study ends after the first round in which its points are told
apart. p-values are multiplied by the number of rounds (Bonferroni), and intervals of differences and ratios are widened
accordingly, so that a comparison after each round does not make an error more likely.

With folds, each seed trained and scored on another part of the images. The trainings share images, so their values are
not independent, and intervals and tests use the corrected variance of Nadeau and Bengio (2003).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from analysis.load import RECORD, SETBACKS, Sweep, read_sweep
from analysis.page.names import counted, dataset_name, listed, measured, method_name, short_metric
from analysis.tables import aligned, replace

CONFIRMED, POINTS = "confirmed.csv", "points.csv"
HAND_TUNED = "hand-tuned"
FEWEST = 3  # minimum number of values for an interval
COVERAGE = 0.95
GIVEN = {"paper": "another hand-tuned", "enqueued": "enqueued"}  # roles of points that no search found, by origin
WORSE, UNCLEAR = "hand-tuned point is better", "cannot be told apart"
SHOWN = {
    "mse": "test/mse",
    "active_dims": "test/active_dims",
    "fcd_reconstruction": "test/fcd_reconstruction",
    "train_seconds": "time/train_seconds",  # with concurrent trials
    "alone_seconds_per_epoch": "time/alone_seconds_per_epoch",  # first seed, without concurrent trials
}


def confirmation_of(folder: str | Path) -> Sweep | None:
    """Return the latest confirmation of the sweep in a folder; None if there is none."""
    found = []
    for record in sorted(Path(folder).glob(f"confirm*/{RECORD}")):
        if record.stat().st_size:
            found.append(read_sweep(record.parent))
    return max((sweep for sweep in found if sweep.meta["confirms"]), key=_look, default=None)


def _look(confirmation: Sweep) -> int:
    return confirmation.meta["confirms"]["look"]


def points(confirmation: Sweep) -> pd.DataFrame:
    """Return one row per training of a confirmation: study, method, dataset, point, seed, state, value on the test
    split, the other values in SHOWN, and `searched`, the search's value of its point (NaN if none)."""
    rows = []
    for study, claims in confirmation.meta["confirms"]["points"].items():
        trials = confirmation.trials_of(study).sort_values("number")
        for trial in trials.to_dict("records"):
            claim = claims[trial["number"] % len(claims)]
            kept = claim["rank"] == 1 and len(claims) == 1
            rows.append(
                {name: trial[name] for name in ("study", "method", "dataset", "trial")}
                | {"metric": confirmation.studies[study].metric, "point": claim["point"], "rank": claim["rank"]}
                | {"role": role(claim["point"], kept, claim.get("origin", ""))}  # no origin in old records
                | {"seed": trial["seed"], "state": trial["state"], "searched_trial": claim["trial"]}
                | {"searched": math.nan if claim["value"] is None else claim["value"]}
                | {"value": trial["value"] if trial["state"] == "complete" else math.nan}
                | {name: trial.get(metric, math.nan) for name, metric in SHOWN.items()}
            )
    columns = ["study", "method", "dataset", "trial", "metric", "point", "rank", "role", "seed", "state"]
    table = pd.DataFrame(rows, columns=[*columns, "searched_trial", "searched", "value", *SHOWN])
    return table.astype({"rank": "Int64", "seed": "Int64"})


def confirmed(confirmation: Sweep) -> pd.DataFrame:
    """Return one row per study and point: number of completed seeds, mean and 95 % interval of the distance on the test
    split, the search's value, the gap (search minus mean), and the means of the values in SHOWN.

    `role` is hand-tuned, both for a hand-tuned point that is confirmed alone because the search completed no other,
    tuned, or a value of GIVEN for a point that the search did not find. `better` is the mean paired difference over
    the seeds, hand-tuned minus this point, with its interval; positive means that the point is better. `ratio` is the
    geometric mean of this point's values over the hand-tuned point's, seed by seed, with its interval; NaN if a
    value is not positive. Both intervals hold over all rounds. `paired` is the mean of this point over the seeds that
    the hand-tuned point completed, too. `failed` and `hand_failed` count the seeds, of the `planned` ones of the
    rounds so far, in which this and the hand-tuned point ended without a value. `overlap` is the ratio of test to
    training images of a fold, 0 without folds. `p` is the two-sided p-value of the paired t-test over all rounds, see
    `race_p`, and `p_holm` the p-value after Holm's correction over all other points of the confirmation, which
    `verdict` uses. The study with the lowest mean of a data set comes first.
    """
    every, rows = points(confirmation), []
    every["failed"] = every["state"].isin(("diverged", *SETBACKS))
    for (study, point), group in every.groupby(["study", "point"], sort=False):
        overlap, rounds = overlap_of(confirmation.part(study)), rounds_of(confirmation.part(study))
        coverage = 1 - (1 - COVERAGE) / len(rounds)
        first, values = group.iloc[0], group.set_index("seed")["value"]
        low, high = interval(values.dropna(), overlap)
        row = {name: first[name] for name in ("study", "method", "dataset", "metric", "point", "searched_trial")}
        trained = every[every["study"] == study]
        by_hand = trained[(trained["point"] == HAND_TUNED) & (point != HAND_TUNED)]
        hand = by_hand.set_index("seed")["value"]
        pairs = (hand - values).dropna()
        better_low, better_high = interval(pairs, overlap, coverage)
        logs = log_ratios(hand[pairs.index], values[pairs.index])
        ratio_low, ratio_high = interval(logs, overlap, coverage)
        row |= {
            "role": first["role"],
            "overlap": overlap,
            "seeds": int(values.notna().sum()),
            "failed": int(group["failed"].sum()),
            "hand_failed": int(by_hand["failed"].sum()),
            "planned": next((n for n in rounds if n >= len(group)), rounds[-1]),
            "mean": values.mean(),
            "low": low,
            "high": high,
            "searched": first["searched"],
            "gap": first["searched"] - values.mean(),
            "paired": values[pairs.index].mean(),
            "better": pairs.mean(),
            "better_low": better_low,
            "better_high": better_high,
            "ratio": _exp(logs.mean()),
            "ratio_low": _exp(ratio_low),
            "ratio_high": _exp(ratio_high),
            "p": race_p(hand, values, _done(trained, rounds), len(rounds), overlap) if len(hand) else math.nan,
        }
        rows.append(row | {name: group.loc[group["value"].notna(), name].mean() for name in SHOWN})
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"]))
    place = table["dataset"].map({name: i for i, name in enumerate(confirmation.datasets)})
    best = table.groupby("study")["mean"].transform("min")
    order = table.assign(_place=place, _best=best).sort_values(["_place", "_best"], kind="stable", na_position="last")
    return order.drop(columns=["_place", "_best"]).reset_index(drop=True)


def _exp(log: float) -> float:
    """Return e to a power, infinite where it overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(log))


def role(point: str, kept: bool, origin: str) -> str:
    """Return the role of a point, given whether it is confirmed alone as the search's best, and its trial's origin."""
    if point != HAND_TUNED:
        return GIVEN.get(origin, "tuned")
    return "both" if kept else HAND_TUNED


def point_words(row) -> str:
    """Name the point of a row: `hand-tuned point`, `tuned point`, `another hand-tuned point`."""
    return f"{HAND_TUNED if row.role == 'both' else row.role} point"


def overlap_of(confirmation: Sweep) -> float:
    """Return the ratio of test to training images of a fold, the correction of Nadeau and Bengio; 0 without folds."""
    claims = confirmation.meta["confirms"]
    return 1 / (len(claims["seeds"]) - 1) if claims.get("folds") else 0.0  # None in records before folds


def rounds_of(confirmation: Sweep) -> tuple[int, ...]:
    """Return the numbers of seeds after which the points of a confirmation are compared."""
    return frozen_rounds(confirmation.meta["confirms"])


def frozen_rounds(claims: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of seeds of the rounds in the claims of a confirmation; records of earlier versions have one
    round."""
    return tuple(claims.get("rounds", [len(claims["seeds"])]))


def _done(trials: pd.DataFrame, rounds: Sequence[int]) -> list[int]:
    """Return the rounds that are over for a study, with its rows of `points`; before the first is, all its seeds."""
    ended = trials[trials["state"] != "running"].groupby("seed").size()
    whole = int((ended == trials["point"].nunique()).sum())
    return [number for number in rounds if number <= whole] or [trials["seed"].nunique()]


def _standard_error(values: np.ndarray, overlap: float) -> float:
    return math.sqrt(1 / len(values) + overlap) * values.std(ddof=1)


def interval(values, overlap: float = 0.0, coverage: float = COVERAGE) -> tuple[float, float]:
    """Return Student's t interval of the mean; NaN for fewer than FEWEST values. overlap: see `overlap_of`.

    It has the nominal coverage with few values, unlike bootstrap percentiles: for a normal distribution with three,
    five and ten values we measured a coverage of 95 %, where the bootstrap has 76, 84 and 90 %. For a log-normal
    distribution with sigma 0.5 the t interval has 92 % at each size. A sign-flip test of five pairs cannot reach 5 %
    (at best 2 / 32).
    """
    values = np.asarray(values, float)
    if len(values) < FEWEST:
        return math.nan, math.nan
    mean = values.mean()
    half = stdtrit(len(values) - 1, (1 + coverage) / 2) * _standard_error(values, overlap)
    return float(mean - half), float(mean + half)


def p_value(values, overlap: float = 0.0) -> float:
    """Return the two-sided p-value of the t-test that the mean is 0; NaN for fewer than FEWEST values."""
    values = np.asarray(values, float)
    if len(values) < FEWEST:
        return math.nan
    if not np.ptp(values):
        return float(values[0] == 0)
    return float(2 * stdtr(len(values) - 1, -abs(values.mean()) / _standard_error(values, overlap)))


def log_ratios(hand: pd.Series, values: pd.Series) -> pd.Series:
    """Return log(value / hand-tuned value) of each seed; empty if any of them is not positive."""
    positive = bool((hand > 0).all() and (values > 0).all())
    return np.log(values / hand) if positive else pd.Series(dtype=float)


def paired_p(differences: pd.Series, logs: pd.Series, overlap: float = 0.0) -> float:
    """Return the p-value of the paired t-test on the logarithms of the ratios, or on differences if there are none.

    The spread of a distance over seeds grows with the distance, so differences are skewed and ratios are not: WAE-MMD's
    hand-tuned point on digits has 123 to 317, its tuned one 30 to 71. The p-value is 1 if the mean difference and the
    mean ratio disagree on which point is better.
    """
    if logs.empty:
        return p_value(differences, overlap)
    p = p_value(logs, overlap)
    agree = logs.mean() * differences.mean() < 0  # the ratio of a better point is below 1, its difference above 0
    return p if agree or math.isnan(p) else 1.0


def race_p(hand: pd.Series, values: pd.Series, done: Sequence[int], rounds: int, overlap: float = 0.0) -> float:
    """Return the p-value of a comparison after several rounds of seeds: the lowest of `paired_p` after each, times the
    number of planned rounds (Bonferroni), which is valid wherever the rounds end. NaN without any p-value. A round in
    which the other point was better is no evidence for the one that is better over all seeds, so its p-value is 1.

    hand, values: of each seed, in the order of training; NaN if it failed. done: numbers of seeds of the ended rounds.
    """
    found, better = [], (hand - values).mean()
    for number in done:
        pairs = (hand.iloc[:number] - values.iloc[:number]).dropna()
        p = paired_p(pairs, log_ratios(hand[pairs.index], values[pairs.index]), overlap)
        if not math.isnan(p):
            found.append(min(1.0, rounds * p) if pairs.mean() * better > 0 else 1.0)
    return min(found, default=math.nan)


def holm(p: pd.Series) -> pd.Series:
    """Return p-values adjusted for multiple tests (Holm, 1979); NaN stays NaN and does not count as a test."""
    ranked = p.dropna().sort_values()
    adjusted = (ranked * np.arange(len(ranked), 0, -1)).cummax().clip(upper=1.0)
    return adjusted.reindex(p.index)


def write_confirmed(folder: str | Path) -> pd.DataFrame:
    """Write confirmed.csv and points.csv into a confirmation's folder and return the table of the first."""
    confirmation = read_sweep(folder)
    table = confirmed(confirmation)
    replace(confirmation.folder / POINTS, lambda path: points(confirmation).to_csv(path, index=False))
    replace(confirmation.folder / CONFIRMED, lambda path: table.to_csv(path, index=False))
    return table


def mean_words(row) -> str:
    """Format mean and interval, `12.3 [11.8, 12.9]`; a dash if no training completed."""
    if math.isnan(row.mean):
        return "–"
    if math.isnan(row.low):
        return measured(row.mean)
    return f"{measured(row.mean)} [{measured(row.low)}, {measured(row.high)}]"


def gap_words(row) -> str:
    """Format the gap with its sign and as a share of the confirmed mean, if that is positive: `−1.2 (−9 %)`."""
    if math.isnan(row.gap):
        return "–"
    sign = "±" if row.gap == 0 else "+" if row.gap > 0 else "−"
    share = f" ({sign}{abs(100 * row.gap / row.mean):.0f} %)" if row.mean > 0 else ""
    return f"{sign}{measured(abs(row.gap))}{share}"


def alone_words(row) -> str:
    """Format the seconds per epoch without concurrent trials, `alone 0.460/epoch`; "" if not timed."""
    seconds = row.alone_seconds_per_epoch
    return "" if math.isnan(seconds) else f"alone {measured(seconds)}/epoch"


def verdict(row) -> str:
    """Return the verdict on a point against the hand-tuned one, which has none, and how many seeds failed."""
    if row.role == HAND_TUNED:
        return ""
    return ", ".join(filter(None, [_outcome(row), failed_words(row)]))


def _outcome(row) -> str:
    """Return the verdict on a point by its values; "" if no seed of it or of the hand-tuned point has any."""
    if row.role == "both":
        return "hand-tuned point kept"
    if row.planned in (row.failed, row.hand_failed):
        return ""
    if math.isnan(row.p_holm):
        return "too few seeds"
    if row.p_holm > 1 - COVERAGE:
        return UNCLEAR
    return f"{row.role} point is better" if wins(row) else WORSE


def failed_words(row) -> str:
    """Say in how many seeds a point, or the hand-tuned one, ended without a value: `1 of 5 seeds failed`; "" if in
    none."""
    counts = {"seeds": row.failed, "hand-tuned seeds": row.hand_failed}
    return ", ".join(f"{count} of {row.planned} {whose} failed" for whose, count in counts.items() if count)


def wins(row) -> bool:
    """Return whether a point is significantly better than the one that it was tested against."""
    return row.p_holm <= 1 - COVERAGE and row.better > 0


def gains_words(table: pd.DataFrame) -> str:
    """Say in how many studies a tuned point beats the hand-tuned one; "" while no study has enough seeds.

    A tuned point counts only if its mean is also below those of the other points that the search did not find. Against
    the hand-tuned point the verdict decides, which compares the seeds that both completed.
    """
    given = table["mean"].where(table["role"].isin(GIVEN.values())).groupby(table["study"]).transform("min")
    lost = (table["role"] == "tuned") & (table["failed"] == table["planned"])
    answered = table.assign(given=given)[(table["role"] == "both") | table["p_holm"].notna() | lost]
    if answered.empty:
        return ""
    count = answered["study"].nunique()
    if not (table["role"] == "tuned").any():
        return f"The search found no tuned point to confirm in {counted(count, 'study')}."
    better = answered[[wins(row) for row in answered.itertuples()]]
    won = better[(better["role"] == "tuned") & ~(better["mean"] >= better["given"])]
    if won.empty:
        return f"Over fresh seeds no tuned point beats the hand-tuned one significantly in {counted(count, 'study')}."
    hand = won["paired"] + won["better"]  # both means are over the seeds that both points completed
    # The largest relative gain, because distances on two data sets have no common scale.
    won = won.assign(hand=hand, gain=(won["better"] / hand).where(hand > 0))
    top = won.sort_values(["gain", "better"], ascending=False, kind="stable").iloc[0]
    where = f" on {dataset_name(top['dataset'])}" if table["dataset"].nunique() > 1 else ""
    which = "most for" if won["study"].nunique() > 1 else "that of"
    failed = f" ({failed_words(top)})" if failed_words(top) else ""
    share = counted(count, "study", won["study"].nunique())
    return (
        f"Over fresh seeds tuning beats the hand-tuned point in {share}, {which} "
        f"{method_name(top['method'])}{where}: {measured(top['hand'])} → {measured(top['paired'])}{failed}."
    )


def others_words(table: pd.DataFrame) -> str:
    """Say where a point that the search did not find beats the hand-tuned one; "" if nowhere."""
    others = table[[row.role in GIVEN.values() and wins(row) for row in table.itertuples()]]
    if others.empty:
        return ""
    return f"A point that the search did not find beats the hand-tuned one for {listed(names_of(others))}."


def names_of(rows: pd.DataFrame) -> list[str]:
    """Return the names of the methods of some points, with the data set if there are several."""
    several = rows["dataset"].nunique() > 1
    names = [
        method_name(row.method) + (f" on {dataset_name(row.dataset)}" if several else "") for row in rows.itertuples()
    ]
    return list(dict.fromkeys(names))


def confirmed_text(table: pd.DataFrame) -> str:
    """Format the table as plain lines for a terminal, with a block per data set."""
    blocks = []
    for (dataset, metric), rows in table.groupby(["dataset", "metric"], sort=False):
        lines = [("method", "point", "mean [95 %]", "seeds", "search", "gap", "")]
        for row in rows.itertuples():
            seeds = f"{row.seeds}" + (f", {row.failed} failed" if row.failed else "")
            said = "–" if math.isnan(row.searched) else measured(row.searched)
            point = row.point if row.role != "both" else "both"
            lines.append((method_name(row.method), point, mean_words(row), seeds, said, gap_words(row), verdict(row)))
        title = f"{dataset_name(dataset)} · {short_metric(metric)} {where_words(table)}, lower is better"
        blocks.append("\n".join([title, *aligned(lines)]))
    return "\n\n".join(blocks)


def where_words(table: pd.DataFrame) -> str:
    """Say which images the points of a confirmation were scored on."""
    return "on folds of training and test images" if table["overlap"].any() else "on the test split"


def over_words(table: pd.DataFrame) -> str:
    """Say what varies between the values of a point."""
    return (
        "over folds, each with other test images" if table["overlap"].any() else "over seeds, on the same test images"
    )


def looks_words(*folders: str | Path) -> str:
    """Say how many models of a sweep were scored on the test split, or on folds with its images, and in how many
    confirmations."""
    found = [record for folder in folders for record in Path(folder).glob(f"confirm*/{RECORD}")]
    looks = [read_sweep(record.parent) for record in found if record.stat().st_size]
    looks = [look for look in looks if look.meta["confirms"]]
    scored = sum(int((points(look)["value"].notna()).sum()) for look in looks)
    times = "once" if len(looks) == 1 else f"in {len(looks)} looks"
    where = "folds that contain the test images" if any(map(overlap_of, looks)) else "the test split"
    return f"{counted(scored, 'trained model')} {'was' if scored == 1 else 'were'} scored on {where}, {times}"
