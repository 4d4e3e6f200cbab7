"""Our runs beside the Balancing paper's print: its Tables 1 to 5, and its Figures 4 to 6.

    python -m analysis.papers.balancing SWEEP [SWEEP ...]

SWEEP is the folder of a sweep of `two_stage_vae` without a searcher: the presets balancing-table1 to -table5, or any
other, for what can be compared on every data set is the ratio of one kind of gamma to the other and of the second
stage to the first. REC, GEN-1, GEN-2 are FIDs in print and here the sweep's own distance, which its name says.

The released code averages sigma where the text has sigma^2, in the variance law and in the count of inactive
variables, so the print is compared with that reading; the text's stands in the columns of its own (methods.md 7.4).
"""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.load import Sweep, read_sweep
from analysis.papers.beside import beside, our_recipe, printed
from analysis.papers.regularization import text

DATASETS = {"CIFAR-10": ("cifar10", "cifar10-jpeg"), "CelebA-64": ("celeba64", "celeba64_nn")}
MODELS = {  # Table 3: network, latent size, where its penalty is
    ("resnet_4_1_32", 64, None): 1,
    ("resnet_4_1_32", 64, "decoder"): 2,
    ("resnet_4_2_32", 64, "encoder"): 3,
    ("resnet_3_1_32", 128, None): 4,
}
PRINTED_RATES = {2e-4: ".00020", 1.5e-4: ".00015", 1e-4: ".00010", 5e-5: ".00005"}
METRICS = ("REC", "GEN-1", "GEN-2", "mse", "variance law", "inactive variables")


def _variant(trial: pd.Series, table: int) -> str | None:
    """How the print of a table calls what a trial is, None where it has no row for it."""
    rule = f"{trial['hyper/gamma_rule']} gamma"
    if table == 1:
        return rule if rule == "computed gamma" else None
    if table == 2:
        return rule if rule == "computed gamma" else "learned gamma; replicated"
    if table == 3:
        of = trial.get("hyper/l2_of")
        penalised = None if trial.get("hyper/l2") == "off" else of
        model = MODELS.get((trial["hyper/network"], trial["hyper/latent_dim"], penalised))
        return None if model is None else f"model {model}; {rule}"
    if table == 4:
        if trial.get("hyper/l2") != "off":
            return None
        return rule if rule == "computed gamma" else "learned gamma; quoted from the original paper"
    rate = PRINTED_RATES.get(trial["hyper/learning_rate"])
    return f"{rule}; lr={rate}" if rate and rule == "computed gamma" else None


def figures(sweep: Sweep) -> pd.DataFrame:
    """What each complete trial of the two-stage VAE told at its end: the trial's row, and columns named as in print.

    GEN-2 is the second stage's as it is, "GEN-2, normalised" with its latents rescaled. "variance law" and "inactive
    variables" are the released code's reading, with ", text" behind them the text's. Raises ValueError if there is no
    such trial.
    """
    trials = sweep.trials[(sweep.trials["method"] == "two_stage_vae") & (sweep.trials["state"] == "complete")]
    if trials.empty:
        raise ValueError(f"{sweep.name}: no complete trial of two_stage_vae; let one come to its end")
    rows = []
    for _, trial in trials.iterrows():
        metric = sweep.studies[trial["study"]].metric
        split = metric.partition("/")[0]
        own, other = metric, f"{metric}_second_normalised"
        if trial.get("hyper/normalised") is True:
            own, other = f"{metric}_second", metric
        columns = {
            "REC": f"{metric}_reconstruction", "GEN-1": f"{metric}_prior", "GEN-2": own, "GEN-2, normalised": other,
            "mse": f"{split}/mse", "variance law": f"{split}/var_law_sd", "variance law, text": f"{split}/var_law",
            "inactive variables": f"{split}/inactive_sd", "inactive variables, text": f"{split}/inactive",
            "gamma": f"{split}/gamma",
        }  # fmt: skip
        rows.append({**trial, **{name: trial.get(column) for name, column in columns.items()}})
    return pd.DataFrame(rows).reset_index(drop=True)


def measured(sweep: Sweep, table: int) -> pd.DataFrame:
    """Our cells of one of the five tables: dataset, method, variant, metric, ours, ours_std, trials, recipe.

    Means over the trials (seeds) of a row, and their standard deviation where there are several.
    """
    found = figures(sweep)
    found["variant"] = [_variant(trial, table) for _, trial in found.iterrows()]
    rows = []
    for (dataset, study, variant), trials in found.dropna(subset="variant").groupby(["dataset", "study", "variant"]):
        recipe = our_recipe(sweep, study)
        named = {name: (variant, name) for name in METRICS}
        if table == 4 and variant == "computed gamma":
            normed = f"{variant}; latent space norm."
            named |= {"GEN-2, normalised": (normed, "GEN-2")}
            rows += _cells(trials, {m: (normed, m) for m in ("REC", "GEN-1")}, dataset, recipe)
        rows += _cells(trials, named, dataset, recipe)
    columns = ["dataset", "method", "variant", "metric", "ours", "ours_std", "trials", "recipe"]
    return pd.DataFrame(rows, columns=columns)


def _cells(trials: pd.DataFrame, named: dict[str, tuple[str, str]], dataset: str, recipe: dict) -> Iterable[dict]:
    for column, (variant, metric) in named.items():
        values = trials[column].dropna()
        if len(values):
            cell = {"dataset": dataset, "method": "2S-VAE", "variant": variant, "metric": metric, "recipe": recipe}
            spread = values.std(ddof=1) if len(values) > 1 else float("nan")
            yield cell | {"ours": values.mean(), "ours_std": spread, "trials": len(values)}


def table(sweep: Sweep, number: int) -> pd.DataFrame:
    """One of the five tables beside its print, of the last epochs that it has: see `analysis.papers.beside.beside`.

    of_print is ours over the print, same_recipe says whether both were measured alike. Rows of another data set, and
    rows that the paper quotes, are not in it.
    """
    theirs = printed("balancing", number, DATASETS)
    finished = theirs.groupby("variant")["epoch"].transform(lambda epochs: max(epochs, key=_first))
    return beside(theirs[theirs["epoch"] == finished], measured(sweep, number))


def _first(epoch: str) -> int:
    return int(epoch.partition("/")[0])


def ratios(sweep: Sweep) -> pd.DataFrame:
    """What can be compared on any data set: a row for each data set, kind of gamma and point.

    gamma, epochs, trials, prior_gap (GEN-1 over REC), second_gain (GEN-2 over GEN-1: below 1 the second stage helps),
    normalised_gain (GEN-2 with normalisation over without), mse, variance_law, gamma_of_mse (gamma over mse: 1 is
    the optimum).
    """
    found = figures(sweep)
    keys = [
        "dataset",
        "hyper/gamma_rule",
        "epochs",
        *(k for k in ("hyper/network", "hyper/learning_rate") if k in found),
    ]
    rows = []
    for key, trials in found.groupby(keys, dropna=False):
        told = dict(zip(keys, key, strict=True))
        row = {"dataset": told["dataset"], "gamma": told["hyper/gamma_rule"], "epochs": told["epochs"]}
        row |= {"network": told.get("hyper/network"), "learning_rate": told.get("hyper/learning_rate")}
        row |= {"trials": len(trials), "prior_gap": (trials["GEN-1"] / trials["REC"]).mean()}
        row |= {"second_gain": (trials["GEN-2"] / trials["GEN-1"]).mean()}
        row |= {"normalised_gain": (trials["GEN-2, normalised"] / trials["GEN-2"]).mean()}
        row |= {"mse": trials["mse"].mean(), "variance_law": trials["variance law, text"].mean()}
        rows.append(row | {"gamma_of_mse": (trials["gamma"] / trials["mse"]).mean()})
    return pd.DataFrame(rows)


def printed_ratios() -> pd.DataFrame:
    """The same ratios of the print where it has them: table, dataset, variant, epoch, prior_gap, second_gain."""
    keys = ["table", "dataset", "variant", "epoch"]
    tables = pd.concat([printed("balancing", number) for number in (1, 2, 3, 4, 5)])
    tables = tables[tables["method"] == "2S-VAE"]
    wide = tables.pivot_table(index=keys, columns="metric", values="printed", sort=False).reset_index()
    wide["prior_gap"] = wide["GEN-1"] / wide["REC"]
    wide["second_gain"] = wide["GEN-2"] / wide["GEN-1"]
    return wide[[*keys, "prior_gap", "second_gain"]].rename_axis(columns=None)


def computed_over_learned(sweep: Sweep) -> pd.DataFrame:
    """Computed gamma over learned gamma: dataset, metric, ours, and the print's on CIFAR-10 (Table 2) and on CelebA-64
    (Table 3, model 1, last epochs). Below 1 computing gamma is better. Data sets with only one of both have no row."""
    found = figures(sweep)
    last = printed("balancing", 3).query("epoch == '120/300'")
    theirs = {
        "printed_cifar10": _over(printed("balancing", 2), "computed gamma", "learned gamma; replicated"),
        "printed_celeba64": _over(last, "model 1; computed gamma", "model 1; learned gamma"),
    }
    rows = []
    for dataset, trials in found.groupby("dataset"):
        means = trials.groupby("hyper/gamma_rule")[[*METRICS]].mean(numeric_only=True)
        if {"computed", "learned"} <= set(means.index):
            for metric, ratio in (means.loc["computed"] / means.loc["learned"]).dropna().items():
                row = {"dataset": dataset, "metric": metric, "ours": ratio}
                rows.append(row | {name: ratios.get(metric) for name, ratios in theirs.items()})
    return pd.DataFrame(rows, columns=["dataset", "metric", "ours", *theirs])


def _over(rows: pd.DataFrame, above: str, below: str) -> dict[str, float]:
    """One variant's printed values over another's, by metric."""
    values = {variant: cells.set_index("metric")["printed"] for variant, cells in rows.groupby("variant")}
    return (values[above] / values[below]).dropna().to_dict()


def latents(files: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """What `python -m trainables.reproductions.regularization --latents FILE` wrote, of one file or several."""
    files = [files] if isinstance(files, (str, Path)) else files
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def figure4(found: pd.DataFrame) -> Figure:
    """Figures 4 to 6: E sigma^2 of every latent over epochs, a panel for each training of `latents`.

    A latent that the decoder hears leaves the top: with a decoder's variance that follows the error they do one by one.
    """
    trainings = list(found.groupby(["method", "variant"], sort=False))
    columns, rows = min(5, len(trainings)), math.ceil(len(trainings) / 5)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for ax in panels:
        ax.axis("off")
    for ax, ((method, variant), told) in zip(figure.axes, trainings, strict=False):
        lines = told.pivot_table(index="epoch", columns="latent", values="posterior_variance")
        ax.axis("on")
        ax.plot(lines.index, lines.to_numpy(), lw=0.6, alpha=0.7)
        ax.axhline(0.8, color="0.4", lw=0.8, ls=":")  # from here on a variable counts as inactive
        ax.set_title(f"{method}\n{variant}", fontsize=7)
        ax.set(xlabel="epoch", ylim=(0, 1.1))
    figure.axes[0].set_ylabel("E σ²")
    return figure


def main(argv: Sequence[str]) -> None:
    if not argv:
        raise SystemExit("usage: python -m analysis.papers.balancing SWEEP [SWEEP ...]")
    for folder in argv:
        try:
            sweep = read_sweep(folder)
            print(f"## {sweep.name}\n\n{text(ratios(sweep))}")
        except ValueError as error:
            raise SystemExit(f"python -m analysis.papers.balancing: error: {error}") from None
        for part in (computed_over_learned(sweep), *(table(sweep, number) for number in (1, 2, 3, 4, 5))):
            if len(part):
                print(f"\n{text(part)}")


if __name__ == "__main__":
    main(sys.argv[1:])
