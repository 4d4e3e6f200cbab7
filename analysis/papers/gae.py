"""Comparison of our runs with Tables 2, 3 and 4 and Figure 4 of the GAE paper.

    python -m analysis.papers.gae SWEEP [SWEEP ...]

Ko et al., 2024, print one run per cell, without a spread, and distances of a magnitude that the common code does not
produce. The comparison therefore uses ranks within a data set and ratios to the VAE, never values. The inputs are
folders of sweeps: the presets gae-table3 and gae-table3-tuned for Tables 3 and 4, gae-toy for Table 2 and the figure,
gae-toy-kl for the series over its KL weight.

Several sweeps are joined first (analysis/join.py). Writes the tables as gae_table2.csv, gae_table3.csv,
gae_readings.csv and gae_table4.csv and the figures into the folder of the first sweep; tables for the pages are copied
from there into `analysis/measured`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.join import read_sweeps
from analysis.load import Study, Sweep, read_published, read_vectors
from analysis.page.drawing import grids
from analysis.page.names import bare_method, measured
from analysis.papers.beside import (
    FEWEST,
    departs,
    first_point,
    markdown,
    our_recipe,
    printed_recipe,
    rank_correlation,
    same_recipe,
    samples_of,
)
from analysis.papers.command import inputs
from analysis.papers.conditions import conditions, of_study

METHODS = {
    "VAE": "vae",
    "BetaVAE": "beta_vae",
    "InfoVAE": "info_vae",
    "WAE": "wae",
    "VAE-GAN": "vae_gan",
    "VaDE": "vade",
    "GMVAE": "gmvae",
    "VampVAE": "vamp_vae",
    "RAE-L2": "rae_l2",
    "GAE": "gae",
}
DATASETS = {
    "MNIST": ("mnist",),
    "Fashion MNIST": ("fashion_mnist",),
    "SVHN": ("svhn",),
    "CIFAR-10": ("cifar10", "cifar10-jpeg"),
}
WAYS = ("hand_tuned", "best_reading", "tuned")  # ways to choose our value of a cell, with increasing freedom
TOY = "cosine"
EVEN = 1.0  # the beta of a plain VAE
COLLAPSED = 0.05  # nats; a posterior with less KL is collapsed


def table3(sweep: Sweep) -> pd.DataFrame:
    """Return Table 3 of a sweep: dataset, method, `printed` (their FID), and ours in three columns, lower is better.

    hand_tuned: the first hand-tuned point, with all its values (`analysis.papers.conditions`). best_reading: the best
    of the hand-tuned points, if the paper is ambiguous. tuned: the best of all points; what the sweep does not search
    (the network, mostly) is the table's. Each is the mean over the complete trials (seeds) of the point, missing if
    there are none. runs: the number of complete trials of the cell.
    same_recipe: whether ours and theirs were measured by the same recipe.
    """
    printed, theirs = _printed(3), printed_recipe(read_published("gae", 3).iloc[0])
    rows = []
    for study in _on_images(sweep):
        values = {way: _value(sweep, study, way) for way in WAYS}
        cell = {"dataset": study.dataset, "method": study.method}
        rows.append(cell | {"printed": printed.get((study.dataset, bare_method(study.method)), math.nan)} | values)
        rows[-1] |= {
            "runs": len(sweep.complete(study.name)),
            "same_recipe": same_recipe(theirs, our_recipe(sweep, study.name)),
        }
    return pd.DataFrame(rows, columns=["dataset", "method", "printed", *WAYS, "runs", "same_recipe"])


def rank_correlations(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return Spearman's rank correlation of print and ours for each data set and column of `table3`.

    dataset, same_recipe, ours (the column), methods, correlation, low, high: the 95 % interval of a bootstrap over
    methods, which reflects the number of methods, not the variation between trainings. Cells that were measured
    differently are not ranked together. Fewer than three methods give no row.
    """
    rows = []
    for (dataset, recipe), cells in table.groupby(["dataset", "same_recipe"], sort=False):
        for way in WAYS:
            found = rank_correlation(cells["printed"], cells[way], draws, seed)
            if found["cells"] >= FEWEST:
                row = {"dataset": dataset, "same_recipe": recipe, "ours": way, "methods": found.pop("cells")}
                rows.append(row | found)
    columns = ["dataset", "same_recipe", "ours", "methods", "correlation", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def beta_sides(sweep: Sweep) -> pd.DataFrame:
    """Return for which beta the ratio of BetaVAE's distance to the VAE's agrees with the print.

    dataset, beta, side (below or above 1), printed, ours; a row for each hand-tuned beta with complete trials, if the
    hand-tuned VAE has some, too, measured alike. reproduces: whether both are better than the VAE or both worse.
    """
    printed, recipe = _printed(3), printed_recipe(read_published("gae", 3).iloc[0])
    rows = []
    for dataset in sweep.datasets:
        studies = {study.method: study for study in sweep.studies_of(dataset)}
        if not {"vae", "beta_vae"} <= set(studies) or (dataset, "vae") not in printed:
            continue
        alike = {same_recipe(recipe, our_recipe(sweep, studies[name].name)) for name in ("vae", "beta_vae")}
        if len(alike) > 1:
            continue
        vae = _value(sweep, studies["vae"], "hand_tuned")
        theirs = printed[dataset, "beta_vae"] / printed[dataset, "vae"]
        trials = sweep.complete(studies["beta_vae"].name)
        (row,) = of_study(studies["beta_vae"], conditions("gae", 3))
        for beta, same in row.readings(sweep, trials).groupby("hyper/beta"):
            ours = same["value"].mean() / vae
            side = "below 1" if beta < EVEN else "above 1"
            row = {"dataset": dataset, "beta": beta, "side": side, "printed": theirs, "ours": ours}
            rows.append(row | {"reproduces": bool((ours < 1) == (theirs < 1))})
    return pd.DataFrame(rows, columns=["dataset", "beta", "side", "printed", "ours", "reproduces"])


def readings(sweep: Sweep) -> pd.DataFrame:
    """Return the cells of Table 3 by hand-tuned point, for methods of which the paper can be read in several ways.

    dataset, method, reading (the name of the point in the search space), printed, ours (the mean over its complete
    trials), runs. Points without a complete trial have no row.
    """
    printed, rows = _printed(3), []
    for study in _on_images(sweep):
        for row in of_study(study, conditions("gae", 3)):
            for name in row.named_readings(study.dataset):
                found = replace(row, point=name).trials(sweep, sweep.trials_of(study.name))
                cell = {"dataset": study.dataset, "method": study.method, "reading": name}
                cell["printed"] = printed.get((study.dataset, row.method), math.nan)
                rows += [cell | {"ours": found["value"].mean(), "runs": len(found)}] if len(found) else []
    return pd.DataFrame(rows, columns=["dataset", "method", "reading", "printed", "ours", "runs"])


def table4(sweep: Sweep) -> pd.DataFrame:
    """Return Table 4 of a sweep: training seconds of the hand-tuned points, ours and printed, and their ratios to the
    VAE.

    dataset, method, epochs, printed_seconds, printed_ratio, seconds, density_seconds, ratio. seconds is the mean over
    the complete trials of the first point; the fit of an ex-post density is in density_seconds and included in the
    ratio, which is to a VAE of as many epochs. The print has 30 epochs.
    Trials of a sweep share their machine; tests/benchmarks/table4.py times each method alone.
    """
    printed = _printed(4)
    rows = []
    for study in _on_images(sweep):
        first = _first(sweep, study)
        seconds = {
            "seconds": _mean(first, "time/train_seconds"),
            "density_seconds": _mean(first, "time/density_fit_seconds"),
        }
        cell = {"dataset": study.dataset, "method": study.method, "epochs": study.epochs}
        rows.append(
            cell | {"printed_seconds": printed.get((study.dataset, bare_method(study.method)), math.nan)} | seconds
        )
    columns = ["dataset", "method", "epochs", "printed_seconds", "seconds", "density_seconds"]
    table = pd.DataFrame(rows, columns=columns)
    whole = table["seconds"] + table["density_seconds"].fillna(0.0)
    table["printed_ratio"] = table["printed_seconds"] / _of_vae(table, table["printed_seconds"])
    table["ratio"] = whole / _of_vae(table, whole)
    columns.insert(columns.index("printed_seconds") + 1, "printed_ratio")
    return table[[*columns, "ratio"]]


def table2(toy: Sweep) -> pd.DataFrame:
    """Return Table 2 of the toy: method, metric, printed and printed_std, ours and ours_std over the trials, trials and
    epochs, of which the print has 2000.

    The print does not say whether its reconstruction error is the mean over both coordinates or that of the cosine;
    both are listed with the same printed value.
    """
    printed = read_published("gae", 2).set_index(["method", "metric"])
    rows = []
    at_print = {row.method: row.trials(toy) for row in conditions("gae", 2)}
    parts = [
        (*names, part) for names in (("VAE", "vae"), ("GAE", "gae")) for part in at_print[names[1]].groupby("epochs")
    ]
    for name, method, (epochs, finished) in parts:
        for theirs, shown, column in (
            ("reconstruction error", "reconstruction error, both coordinates", "valid/mse"),
            ("reconstruction error", "reconstruction error, the cosine alone", "valid/mse_1"),
            ("regularization error", "regularization error", "valid/kl"),
        ):
            values = finished[column].dropna()
            if (name, theirs) not in printed.index or values.empty:
                continue
            cell = printed.loc[(name, theirs)]
            row = {"method": method, "metric": shown, "printed": cell["value"], "printed_std": cell["std"]}
            row |= {"ours": values.mean(), "ours_std": values.std(ddof=1), "trials": len(values)}
            rows.append(row | {"epochs": epochs})
    columns = ["method", "metric", "printed", "printed_std", "ours", "ours_std", "trials", "epochs"]
    return pd.DataFrame(rows, columns=columns)


def uncollapse(walk: Sweep) -> tuple[float, float]:
    """Return the two weights of the KL term between which a VAE of the toy un-collapses: (alive, collapsed).

    They are the greatest weight with KL above COLLAPSED, and the smallest above it that is collapsed. Raises ValueError
    if the series lacks one of them.
    """
    trials = _walked(walk)
    alive = trials.loc[trials["valid/kl"] > COLLAPSED, "hyper/beta"]
    collapsed = trials.loc[trials["valid/kl"] <= COLLAPSED, "hyper/beta"]
    if alive.empty or not (collapsed > alive.max()).any():
        raise ValueError(f"{walk.name} has no weight of the KL term at which it un-collapses; widen the range")
    return float(alive.max()), float(collapsed[collapsed > alive.max()].min())


def figure4(toy: Sweep) -> Figure:
    """Plot the toy as in the paper's Figure 4: reconstructions (dots) and samples (crosses) of each trial."""
    methods = [study for study in toy.studies_of(TOY) if bare_method(study.method) in ("vae", "gae")]
    columns = max(study.trials for study in methods)
    figure = Figure(figsize=(2.0 * columns, 2.1 * len(methods)), layout="constrained")
    panels = figure.subplots(len(methods), columns, sharex=True, sharey=True, squeeze=False)
    for row, study in zip(panels, methods, strict=True):
        vectors = read_vectors(toy.home(study.name)[0])
        for ax, (_, trial) in zip(row, toy.trials_of(study.name).sort_values("number").iterrows(), strict=False):
            drawn = vectors.get(trial["trial"].rpartition("/")[2], {})
            for kind, mark in (("point", "-"), ("sample", "x"), ("reconstruction", ".")):
                if f"{kind}_0" in drawn:
                    ax.plot(drawn[f"{kind}_0"], drawn[f"{kind}_1"], mark, ms=4, lw=1, label=kind)
            ax.set_title(f"{_printed_name(study.method)}, seed {trial['seed']}\nerror {trial['value']:.3f}", fontsize=8)
            ax.tick_params(labelsize=7)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def sample_grids(sweep: Sweep, dataset: str) -> Figure:
    """Plot the samples of the first seed of each hand-tuned point on a data set, in any state; a panel each."""
    shown = []
    for study in sweep.studies_of(dataset):
        trials = sweep.trials_of(study.name).sort_values("number")
        trials = trials[(trials["origin"] == "paper") & (trials["seed"] == trials["seed"].min())]
        shown += [(study, trial) for _, trial in trials.iterrows()]
    return grids([(_caption(study, trial), samples_of(sweep, trial)) for study, trial in shown])


def _caption(study: Study, trial: pd.Series) -> str:
    value = measured(trial["value"]) if trial["state"] == "complete" else trial["state"]
    return f"{_printed_name(study.method)} · {value}\n{departs(study, trial)}"


def kl_walk(walk: Sweep) -> Figure:
    """Plot error and KL of the toy's VAE against the weight of the KL term; the band is where it un-collapses."""
    trials = _walked(walk).sort_values("hyper/beta")
    figure = Figure(figsize=(6, 3), layout="constrained")
    ax = figure.subplots()
    ax.plot(trials["hyper/beta"], trials["valid/mse"], "o-", ms=3, lw=1, label="mean squared error")
    ax.plot(trials["hyper/beta"], trials["valid/kl"], "s-", ms=3, lw=1, label="KL, nats")
    ax.axvspan(*uncollapse(walk), color="0.85", lw=0, label="un-collapses")
    ax.set_xscale("log")
    ax.set_xlabel("weight of the KL term relative to the mean squared error")
    ax.legend(fontsize=8)
    return figure


def _on_images(sweep: Sweep) -> list[Study]:
    """Return the studies on images, by data set and in the order of the print; joined sweeps have another order."""
    places = {method: place for place, method in enumerate(METHODS.values())}
    found = [study for study in sweep.studies.values() if study.dataset != TOY]
    return sorted(
        found, key=lambda s: (sweep.datasets.index(s.dataset), places.get(bare_method(s.method), len(places)))
    )


def _walked(walk: Sweep) -> pd.DataFrame:
    """Return the complete trials of BetaVAE on the toy."""
    trials = walk.trials[(walk.trials["dataset"] == TOY) & (walk.trials["state"] == "complete")]
    return trials[trials["method"].map(bare_method) == "beta_vae"]


def _printed(table: int) -> dict[tuple[str, str], float]:
    """Return the printed values by our names of data set and method."""
    rows = read_published("gae", table).itertuples()
    return {(dataset, METHODS[row.method]): row.value for row in rows for dataset in DATASETS[row.dataset]}


def _printed_name(method: str) -> str:
    return next(name for name, ours in METHODS.items() if ours == bare_method(method))


def _first(sweep: Sweep, study: Study) -> pd.DataFrame:
    """Return the complete trials at the conditions of Table 3, or at the study's first point if there is no print."""
    rows = of_study(study, conditions("gae", 3))
    return rows[0].trials(sweep, sweep.trials_of(study.name)) if rows else first_point(sweep, study)


def _value(sweep: Sweep, study: Study, way: str) -> float:
    """Return our value of a cell: the mean over the seeds of the point chosen by `way`; NaN if there are none."""
    if way == "hand_tuned":
        return _mean(_first(sweep, study), "value")
    rows = of_study(study, conditions("gae", 3))
    trials = sweep.complete(study.name)
    if way == "best_reading":
        trials = trials[trials["origin"] == "paper"]
        trials = rows[0].readings(sweep, trials) if rows else trials
    elif rows:
        trials = rows[0].searched(sweep, study)
    knobs = [f"hyper/{knob}" for knob in study.hand_tuned_values]
    return float(trials.groupby(knobs, dropna=False)["value"].mean().min()) if len(trials) else math.nan


def _mean(trials: pd.DataFrame, column: str) -> float:
    return float(trials[column].mean()) if column in trials and len(trials) else math.nan


def _of_vae(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Return the VAE's value on the data set of each row, for as many epochs."""
    vae = table["method"] == "vae"
    found = dict(zip(zip(table["dataset"][vae], table["epochs"][vae], strict=True), values[vae], strict=True))
    keys = zip(table["dataset"], table["epochs"], strict=True)
    return pd.Series([found.get(key, math.nan) for key in keys], table.index, dtype=float)


def _contents(sweep: Sweep) -> tuple[dict[str, pd.DataFrame], dict[str, Figure], list[str]]:
    """Return the tables and figures of what a sweep has, by file name, and the text to print."""
    tables, figures, further, said = {}, {}, [], []
    on_toy = {bare_method(study.method) for study in sweep.studies_of(TOY)}
    if on_toy & {"vae", "gae"}:
        tables["gae_table2.csv"], figures["gae_figure4.png"] = table2(sweep), figure4(sweep)
    if "beta_vae" in on_toy:
        try:
            alive, collapsed = uncollapse(sweep)
        except ValueError as error:
            said = [str(error)]
        else:
            said = [f"The VAE of the toy collapses at a weight of its KL between {alive:.3g} and {collapsed:.3g}."]
            figures["gae_kl_walk.png"] = kl_walk(sweep)
    if _on_images(sweep):
        tables |= {
            "gae_table3.csv": table3(sweep),
            "gae_table4.csv": table4(sweep),
            "gae_readings.csv": readings(sweep),
        }
        figures |= {f"gae_{dataset}.png": sample_grids(sweep, dataset) for dataset in sweep.datasets if dataset != TOY}
        further = [rank_correlations(tables["gae_table3.csv"]), beta_sides(sweep)]
    return tables, figures, [markdown(table) for table in (*tables.values(), *further) if len(table)] + said


def main(argv: Sequence[str] | None = None) -> None:
    with inputs("gae", __doc__, "SWEEP", argv) as folders:
        tables, figures, shown = _contents(read_sweeps(folders))
        print("\n\n".join(shown))
        folder = Path(folders[0])
        for name, table in tables.items():
            table.to_csv(folder / name, index=False)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=120)
        print(f"\n{folder}: {', '.join([*tables, *figures])}")


if __name__ == "__main__":
    main()
