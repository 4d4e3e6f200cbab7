"""Comparison of our runs with Tables 1-5, by the sign of each difference to AAE, and Figures 9 and 10 of the AAE paper.

    python -m analysis.papers.aae SWEEP [SWEEP ...]   sweeps of the presets aae-tables and aae-sigma, or confirmations

Yang et al. print one run per cell with a custom network, so neither magnitude nor spread is comparable, only whether a
system is better or worse than AAE. Ours are paired by seed: a system shares initial weights and batches with AAE as far
as their networks agree. There are two references for the noise: the print's KLD-loss-IAAE, which as published trains
exactly like AAE, and the differences between AAE's seeds here.

Writes aae_values.csv into the folder of the first sweep, and aae_sigma.csv and the figures of each sweep into its own.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.confirm import interval
from analysis.load import Sweep, read_sweep
from analysis.page.drawing import grids
from analysis.page.names import dataset_name, listed, measured, method_name, short_metric
from analysis.papers.beside import (
    UNKNOWN,
    departs,
    first_point,
    our_recipe,
    printed,
    printed_recipe,
    same_recipe,
    samples_of,
)
from analysis.papers.command import inputs
from analysis.papers.conditions import conditions, of_study

BASE, NO_OP = "aae", "iaae_kld"
METHODS = {
    "AAE": BASE,
    "latent-mapping-IAAE": "iaae_mapping",
    "n-iter-IAAE": "iaae_niter",
    "KLD-loss-IAAE": NO_OP,
    "feature-IAAE": "iaae_feature",
    "equal-linear-IAAE": "iaae_equal",
}
DATASETS = {
    "CIFAR-10": ("cifar10", "cifar10-jpeg"),
    "FFHQ": ("ffhq",),
    "MNIST": ("mnist",),
    "EMNIST": ("emnist",),
    "Fashion MNIST": ("fashion_mnist",),
}
TABLES = (1, 2, 3, 4, 5)
CELL = ["dataset", "variant", "metric"]
MEASURED = ["measured_as", "same_recipe"]  # how ours was measured: values that differ in these are not compared
QUANTILES = ("q05", "q50", "q95")
PANELS = {f"train/loss_{player}": f"loss, {player}" for player in ("autoencoder", "critic", "generator")}
FEW = 20  # points of a line that are marked
COLLAPSED, SPREAD = 0.05, 0.5  # |sigma| below and codes above these are almost deterministic (methods.md 7.10)


def values(sweep: Sweep) -> pd.DataFrame:
    """Return the results of each system at the conditions of the tables, one row per complete training and metric.

    dataset, variant (`32 px`, as in print), method, metric (FID or IS, the corresponding printed column), measured_as
    (`fcd` if the FID's weights were missing; to all training images, if the sweep has that), same_recipe (whether it
    was measured as in print), seed, value.
    """
    theirs = {metric: printed_recipe({"paper": "AAE", "table": "2", "metric": metric}) for metric in ("FID", "IS")}
    rows = []
    for study in sweep.studies.values():
        split = study.metric.partition("/")[0]
        found = {"FID": study.metric, "IS": f"{split}/fid_inception_score"}
        recipe = our_recipe(sweep, study.name)
        if sweep.part(study.name).config.get("against_training"):
            found = {name: f"{column}_to_training" for name, column in found.items()}
            recipe |= {"n": "as many as training images", "split": "train", "reference_n": "all"}
        splits = sweep.part(study.name).config.get("inception_splits", UNKNOWN)
        recipes = {"FID": recipe, "IS": recipe | {"metric": "is", "splits": splits}}
        alike = {metric: same_recipe(theirs[metric], recipes[metric]) for metric in found}
        for row in of_study(study, conditions("aae", 2)):  # Table 2 has both image sizes
            for trial in row.trials(sweep, sweep.trials_of(study.name)).sort_values("number").to_dict("records"):
                cell = {"dataset": study.dataset, "variant": row.variant, "method": study.method, "seed": trial["seed"]}
                rows += [
                    cell
                    | {"metric": metric, "measured_as": short_metric(ours), "same_recipe": alike[metric]}
                    | {"value": trial[ours]}
                    for metric, ours in found.items()
                    if not math.isnan(trial.get(ours, math.nan))
                ]
    return pd.DataFrame(rows, columns=["dataset", "variant", "method", "metric", *MEASURED, "seed", "value"])


def printed_differences() -> pd.DataFrame:
    """Return Tables 1-5 as differences to AAE: table, dataset (ours), variant, metric, method, printed_aae, printed."""
    rows = pd.concat([printed("aae", table, DATASETS, METHODS) for table in TABLES])
    aae = rows[rows["method"] == BASE].set_index(CELL)["printed"].rename("printed_aae")
    rows = rows[rows["method"] != BASE].join(aae, on=CELL)
    rows["printed"] -= rows["printed_aae"]
    return rows[["table", *CELL, "method", "printed_aae", "printed"]].reset_index(drop=True)


def differences(ours: pd.DataFrame) -> pd.DataFrame:
    """Return the paired differences of each system to AAE with the printed differences, from `values` of any sweeps.

    table, dataset, variant, metric, method, printed_aae, printed, measured_as, same_recipe, seeds, aae (the mean of
    those seeds), difference, low and high of its paired 95 % t interval, and verdict: as in print, opposite to print,
    cannot be told apart, the same training (all seeds have identical values), too few seeds. Values that were measured
    differently have rows of their own; several trainings with one seed count as their mean.
    """
    rows = []
    for cell in printed_differences().to_dict("records"):
        here = ours[(ours[CELL] == [cell[key] for key in CELL]).all(axis=1)]
        for measured_as, alike in here.groupby(MEASURED, sort=False):
            by_seed = alike.groupby(["method", "seed"])["value"].mean()
            if not {BASE, cell["method"]} <= set(alike["method"]):
                continue
            aae = by_seed[BASE]
            pairs = (by_seed[cell["method"]] - aae).dropna()
            if pairs.empty:
                continue
            low, high = interval(pairs)
            row = cell | dict(zip(MEASURED, measured_as, strict=True))
            row |= {"seeds": len(pairs), "aae": aae[pairs.index].mean()}
            row |= {"difference": pairs.mean(), "low": low, "high": high}
            rows.append(row | {"verdict": verdict(pairs, low, high, cell["printed"])})
    ends = [*MEASURED, "seeds", "aae", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=["table", *CELL, "method", "printed_aae", "printed", *ends])


def verdict(pairs: Sequence[float], low: float, high: float, theirs: float) -> str:
    """Return the verdict of paired differences, with their interval, on the printed difference."""
    if len(pairs) and not np.any(pairs):
        return "the same training"
    if math.isnan(low):
        return "too few seeds"
    if low <= 0 <= high:
        return "cannot be told apart"
    return "as in print" if (low > 0) == (theirs > 0) else "opposite to print"


def noise(ours: pd.DataFrame) -> pd.DataFrame:
    """Return the difference between two trainings of the same system, in print and here, relative to AAE's value.

    dataset, variant, metric, measured_as, same_recipe, printed (|KLD-loss-IAAE - AAE|), ours (the mean over pairs of
    AAE's seeds), seeds.
    """
    same = printed_differences()
    same = same[same["method"] == NO_OP].set_index(CELL)
    rows = []
    keys = [*CELL, *MEASURED]
    for key, group in ours[ours["method"] == BASE].groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True))
        cell = tuple(row[name] for name in CELL)
        by_seed = group.groupby("seed")["value"].mean()
        if cell not in same.index or len(by_seed) < 2:
            continue
        apart = np.mean([abs(a - b) for a, b in combinations(by_seed, 2)])
        theirs = abs(same.loc[cell, "printed"]) / same.loc[cell, "printed_aae"]
        rows.append(row | {"printed": theirs, "ours": apart / by_seed.mean(), "seeds": len(by_seed)})
    return pd.DataFrame(rows, columns=[*keys, "printed", "ours", "seeds"])


def sigma(sweep: Sweep) -> pd.DataFrame:
    """Return |sigma| and mu of the held-out images at every evaluated epoch of every complete training.

    dataset, method, point (differences to the first hand-tuned point, empty for itself), seed, epoch, q05, q50, q95
    (quantiles of |sigma| over images and latents), mu_q05, mu_q50, mu_q95 (of the means), code_std (of the means).
    """
    parts = []
    for study in sweep.studies.values():
        if study.method not in METHODS.values():
            continue
        split = study.metric.partition("/")[0]
        columns = {f"{split}/sigma_{q}": q for q in QUANTILES} | {f"{split}/code_std": "code_std"}
        columns |= {f"{split}/code_{q}": f"mu_{q}" for q in QUANTILES}
        for _, trial in sweep.trials_of(study.name).iterrows():
            if trial["state"] != "complete":
                continue
            curves = sweep.curves[(sweep.curves["trial"] == trial["trial"]) & sweep.curves["metric"].isin(columns)]
            table = curves.pivot(index="epoch", columns="metric", values="value").rename(columns=columns)
            if table.empty:
                continue
            about = {"dataset": study.dataset, "method": study.method, "point": departs(study, trial)}
            parts.append(table.reset_index().assign(**about, seed=trial["seed"]))
    mu = [f"mu_{q}" for q in QUANTILES]
    columns = ["dataset", "method", "point", "seed", "epoch", *QUANTILES, "code_std", *mu]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return found.reindex(columns=columns)


def convergence(sigmas: pd.DataFrame) -> pd.DataFrame:
    """Return how sigma changes, one row per data set, system and point of `sigma`, as means over seeds.

    first_epoch, first (the median of |sigma|), last_epoch, last, code_std at the last epoch, seeds, and collapsed, the
    number of seeds that end almost deterministic: median |sigma| < COLLAPSED and deviation of the codes > SPREAD.
    """
    rows = []
    for names, group in sigmas.groupby(["dataset", "method", "point"], sort=False):
        first, last = (group[group["epoch"] == end(group["epoch"])] for end in (min, max))
        row = dict(zip(("dataset", "method", "point"), names, strict=True))
        row |= {"first_epoch": first["epoch"].iloc[0], "first": first["q50"].mean()}
        row |= {"last_epoch": last["epoch"].iloc[0], "last": last["q50"].mean(), "code_std": last["code_std"].mean()}
        collapsed = (last["q50"] < COLLAPSED) & (last["code_std"] > SPREAD)
        rows.append(row | {"seeds": len(last), "collapsed": int(collapsed.sum())})
    ends = ["first_epoch", "first", "last_epoch", "last", "code_std", "seeds", "collapsed"]
    return pd.DataFrame(rows, columns=["dataset", "method", "point", *ends])


def figure10(sigmas: pd.DataFrame, dataset: str, of: Literal["sigma", "mu"] = "sigma") -> Figure:
    """Plot one half of the paper's Figure 10: a panel for each system and point, with the median of |sigma| or of the
    means by epoch, a line per seed.

    The band contains 90 % of a seed's values; the dotted line is COLLAPSED, or 0 for the means.
    """
    low, middle, high = QUANTILES if of == "sigma" else (f"mu_{q}" for q in QUANTILES)
    panels = list(sigmas[sigmas["dataset"] == dataset].groupby(["method", "point"], sort=False))
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(2.5 * columns + 0.5, 2.2 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax, ((method, point), group) in zip(axes.flat, panels, strict=False):
        for _, line in group.sort_values("epoch").groupby("seed"):
            ax.plot(line["epoch"], line[middle], "o-", ms=3, lw=1, color="#0072b2")
            ax.fill_between(line["epoch"], line[low], line[high], color="#0072b2", alpha=0.15, lw=0)
        ax.axhline(COLLAPSED if of == "sigma" else 0.0, color="0.4", ls=":", lw=1)
        ax.set_yscale("log" if of == "sigma" else "linear")
        ax.set_title(f"{method_name(method)}\n{point}" if point else method_name(method), fontsize=9)
        ax.tick_params(labelsize=8)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("|sigma|" if of == "sigma" else "mu", fontsize=9)
    return figure


def courses(sweep: Sweep) -> pd.DataFrame:
    """Return the losses of the players and the distance at each epoch of every complete training of a first point.

    dataset, method, seed, epoch, metric (a column of PANELS), value.
    """
    parts = []
    for study in sweep.studies.values():
        if study.method not in METHODS.values():
            continue
        named = {**PANELS, study.metric: short_metric(study.metric)}
        for _, trial in first_point(sweep, study).iterrows():
            found = sweep.curves[(sweep.curves["trial"] == trial["trial"]) & sweep.curves["metric"].isin(named)]
            about = {"dataset": study.dataset, "method": study.method, "seed": trial["seed"]}
            metric = [named[name] for name in found["metric"]]
            parts.append(found[["epoch", "value"]].assign(metric=metric, **about))
    columns = ["dataset", "method", "seed", "epoch", "metric", "value"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def figure9(found: pd.DataFrame, dataset: str) -> Figure:
    """Plot Figure 9: the losses of the three players and the distance over epochs, a line per system, means over seeds.

    found: from `courses`. Losses are means over the training images of an epoch; the distance is that of the search.
    """
    found = found[found["dataset"] == dataset]
    panels = list(dict.fromkeys([*PANELS.values(), *found["metric"]]))
    figure = Figure(figsize=(3.2 * len(panels), 3.2), layout="constrained")
    for ax, metric in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for method in METHODS.values():
            line = found[(found["metric"] == metric) & (found["method"] == method)].groupby("epoch")["value"].mean()
            if len(line):
                ax.plot(line.index, line, "o-" if len(line) < FEW else "-", ms=3, lw=1.2, label=method_name(method))
        ax.set(xlabel="epoch", title=metric)
        ax.tick_params(labelsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    return figure


def sample_grids(sweep: Sweep, dataset: str) -> Figure:
    """Plot samples of each point of each system on a data set, from the lowest seed that has some; a panel each."""
    shown = []
    for study in sweep.studies_of(dataset):
        points = set()
        for _, trial in sweep.trials_of(study.name).sort_values(["seed", "number"]).iterrows():
            picture, point = samples_of(sweep, trial), departs(study, trial)
            if point not in points and picture.exists():
                points.add(point)
                name = f"{method_name(study.method)} · {short_metric(study.metric)} {measured(trial['value'])}"
                shown.append((f"{name}\n{point}" if point else name, picture))
    return grids(shown)


def text(found: pd.DataFrame) -> str:
    """Format `differences` as Markdown, with differences relative to AAE's value."""
    lines = ["| | print | ours [95 %] | seeds | |", "|---|---|---|---|---|"]
    for (dataset, variant, metric, measured_as, recipe), cells in found.groupby([*CELL, *MEASURED], sort=False):
        first = cells.iloc[0]
        size = f", {variant}" if found.loc[found["dataset"] == dataset, "variant"].nunique() > 1 else ""
        base = f"{metric} {measured(first.printed_aae)} | {measured_as} {measured(first.aae)}"
        name = f"**{dataset_name(dataset)}{size}, AAE**"
        lines.append(f"| {name} | {base} | {first.seeds} | same recipe? {recipe} |")
        for row in cells.itertuples():
            ours = signed(row.difference, row.aae)
            if not math.isnan(row.low):
                ours += f" [{signed(row.low)}, {signed(row.high)}]"
            names = f"{method_name(row.method)} − AAE | {signed(row.printed, row.printed_aae)}"
            lines.append(f"| {names} | {ours} | {row.seeds} | {row.verdict} |")
    return "\n".join(lines)


def signed(difference: float, of: float | None = None) -> str:
    """Format a difference, `−3.6 (−5 %)`; the share only if `of` is given."""
    sign = "−" if difference < 0 else "+" if difference > 0 else "±"
    share = f" ({sign}{abs(100 * difference / of):.0f} %)" if of else ""
    return f"{sign}{measured(abs(difference))}{share}"


def sigma_text(found: pd.DataFrame) -> str:
    """Format `convergence` as Markdown."""
    lines = ["| | median of sigma after epoch | | collapsed |", "|---|---|---|---|"]
    for row in found.itertuples():
        name = f"{dataset_name(row.dataset)}, {method_name(row.method)}" + (f", {row.point}" if row.point else "")
        ends = f"{row.first_epoch}: {row.first:.3f} | {row.last_epoch}: {row.last:.3f}"
        lines.append(f"| {name} | {ends} | {row.collapsed} of {row.seeds} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    with inputs("aae", __doc__, "SWEEP", argv) as folders:
        show([read_sweep(folder) for folder in folders])


def show(sweeps: Sequence[Sweep]) -> None:
    """Print and write the tables and figures of sweeps."""
    ours = pd.concat([values(sweep) for sweep in sweeps])
    if ours.empty:
        names = listed([sweep.name for sweep in sweeps])
        raise ValueError(f"{names}: no complete trial of a system of Tables 3 and 5; complete one first")
    print(text(differences(ours)), noise(ours).to_string(index=False), sep="\n\n")
    ours.to_csv(sweeps[0].folder / "aae_values.csv", index=False)
    print(f"\n{sweeps[0].folder}: aae_values.csv")
    for sweep in sweeps:  # figures of one sweep each, because sweeps may differ in their images and epochs
        sigmas, lines, folder = sigma(sweep), courses(sweep), sweep.folder
        print(f"\n{sigma_text(convergence(sigmas))}")
        sigmas.to_csv(folder / "aae_sigma.csv", index=False)
        for dataset in sigmas["dataset"].unique():
            for half in ("sigma", "mu"):
                figure10(sigmas, dataset, half).savefig(folder / f"aae_{half}_{dataset}.png", dpi=120)
            figure9(lines, dataset).savefig(folder / f"aae_courses_{dataset}.png", dpi=120)
        for dataset in sweep.datasets:
            sample_grids(sweep, dataset).savefig(folder / f"aae_samples_{dataset}.png", dpi=120)
        print(f"\n{folder}: aae_sigma.csv, aae_{{sigma,mu,courses,samples}}_*.png")


if __name__ == "__main__":
    main()
