"""Comparison of our runs with Tables 1 to 5 and Figures 2 and 4 to 6 of the Balancing paper.

    python -m analysis.papers.balancing SWEEP [SWEEP ...]
    python -m analysis.papers.balancing FILE.csv LATENTS.csv [...]

SWEEP is the folder of a sweep of `two_stage_vae` without a searcher: the presets balancing-table1 to -table5, or any
other sweep, because the ratios of one kind of gamma to the other and of the second stage to the first are comparable on
every data set. REC, GEN-1 and GEN-2 are FIDs in print; here they use the sweep's distance, given by its name.

The released code averages sigma where the text has sigma^2, in the variance law and in the count of inactive variables,
so the print is compared with that reading; the text's reading is in separate columns (methods.md 7.4).

The files are those of `python -m trainables.reproductions.regularization --out FILE.csv --latents LATENTS.csv
--latent-steps N`, which trains the same VAE with `--set gamma_rule=computed` or `learned`. They give the figures,
written next to the first file.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.load import Sweep, read_sweep
from analysis.papers import regularization
from analysis.papers.beside import UNKNOWN, beside, markdown, our_recipe, printed
from analysis.papers.command import inputs
from analysis.papers.conditions import conditions

DATASETS = {"CIFAR-10": ("cifar10", "cifar10-jpeg"), "CelebA-64": ("celeba64", "celeba64_nn", "celeba64_140")}
METHODS = {"two_stage_vae": "2S-VAE", "rae_l2": "RAE-L2", "rae_sn": "RAE-SN"}
MODEL = ("hyper/network", "hyper/latent_dim", "hyper/l2", "hyper/l2_of", "hyper/l2_weight", "hyper/kl_weight")
RATE = "hyper/learning_rate"
RAE = ("rae_l2", "rae_sn")
TRAINING = ["dataset", "method", "variant"]  # of a file of latents
METRICS = ("REC", "GEN-1", "GEN-2", "mse", "variance law", "inactive variables")


def figures(sweep: Sweep, methods: Sequence[str] = ("two_stage_vae",), share: float = 1.0) -> pd.DataFrame:
    """Return the final results of each complete trial of some methods: the trial's row, and columns named as in print.

    share: share of the epochs of stage one; below 1, the columns are the results of the look at that epoch (`look`),
    which has no second stage, and are missing if the trial has no such look.

    For an RAE, GEN-1 uses one Gaussian fitted to the codes, GEN-2 its mixture. For the two-stage VAE, GEN-2 uses the
    second stage as it is, "GEN-2, normalised" rescales its latents. "variance law" and "inactive variables" follow the
    released code, with the suffix ", text" the text. Raises ValueError if there is no such trial.
    """
    complete = sweep.trials[sweep.trials["state"] == "complete"]
    trials = complete[complete["method"].isin(methods)]
    if trials.empty:
        raise ValueError(f"{sweep.name} has no complete trial of {' or '.join(methods)}; complete one first")
    rows = []
    for _, trial in trials.iterrows():
        metric = sweep.studies[trial["study"]].metric
        split = metric.partition("/")[0]
        own, other, first = metric, f"{metric}_second_normalised", f"{metric}_prior"
        if trial["method"] in RAE:
            first = f"{metric}_gaussian"
        if trial.get("hyper/normalised") is True:
            own, other = f"{metric}_second", metric
        columns = {
            "REC": f"{metric}_reconstruction", "GEN-1": first, "GEN-2": own, "GEN-2, normalised": other,
            "mse": f"{split}/mse", "variance law": f"{split}/var_law_sd", "variance law, text": f"{split}/var_law",
            "inactive variables": f"{split}/inactive_sd", "inactive variables, text": f"{split}/inactive",
            "gamma": f"{split}/gamma",
        }  # fmt: skip
        look, seen = (None, trial) if share == 1 else _look(sweep, trial["trial"], share)
        rows.append({**trial, "look": look, **{name: seen.get(column) for name, column in columns.items()}})
    return pd.DataFrame(rows).reset_index(drop=True)


def _look(sweep: Sweep, trial: str, share: float) -> tuple[int | None, Mapping[str, float]]:
    """The epoch after a share of a trial's first stage, and what was found there; nothing if no epoch ends there."""
    first = sweep.curves[(sweep.curves["trial"] == trial) & (sweep.curves["stage"] == "first")]
    length = first["epoch"].max()  # NaN without any
    if first.empty or abs(share * length - round(share * length)) > 0.01 * length:
        return None, {}
    epoch = round(share * length)
    return epoch, first[first["epoch"] == epoch].set_index("metric")["value"]


def measured(sweep: Sweep, table: int) -> pd.DataFrame:
    """Return our cells of one of the five tables: dataset, method, variant, metric, epoch, ours, ours_std, trials,
    recipe.

    Values are means over the trials (seeds) that match a row's conditions, with their standard deviation if there are
    several. epoch is the print's: its last rows correspond to the end of a trial, earlier rows to looks after the same
    share of stage one, which have all metrics but GEN-2.
    """
    columns = ["dataset", "method", "variant", "metric", "epoch", "ours", "ours_std", "trials", "recipe"]
    epochs = printed("balancing", table).groupby("variant")["epoch"].unique()
    rows = []
    for row in conditions("balancing", table):
        named = {row.columns.get(metric, metric): metric for metric in METRICS}
        last = max(map(_first, epochs[row.variant]))
        for epoch in epochs[row.variant]:
            try:
                found = figures(sweep, (row.method,), _first(epoch) / last)
            except ValueError:
                continue
            for (dataset, study), trials in row.trials(sweep, found).groupby(["dataset", "study"]):
                recipe = our_recipe(sweep, study) | {"epochs": _epochs(sweep, trials.iloc[0], "/" in epoch)}
                cell = {"dataset": dataset, "method": METHODS[row.method], "variant": row.variant, "epoch": epoch}
                rows += _cells(trials, named, cell | {"recipe": recipe})
    return pd.DataFrame(rows, columns=columns)


def _epochs(sweep: Sweep, trial: pd.Series, both: bool) -> int | str:
    """Return the epochs of stage one that a trial's results are of, or of both stages, `120/300`, as the print has
    them."""
    if trial["method"] in RAE:
        return int(trial["epochs"])
    curve = sweep.curves[sweep.curves["trial"] == trial["trial"]]
    first = curve.loc[curve["stage"] == "first", "epoch"].max() if pd.isna(trial["look"]) else trial["look"]
    if pd.isna(first):
        return UNKNOWN
    return f"{int(first)}/{int(trial['epochs'] - first)}" if both else int(first)


def _cells(trials: pd.DataFrame, named: dict[str, str], cell: dict) -> Iterable[dict]:
    """Yield a row for each printed metric in our columns; `named` maps our columns to printed metrics."""
    for column, metric in named.items():
        values = trials[column].dropna()
        if len(values):
            spread = values.std(ddof=1) if len(values) > 1 else float("nan")
            yield cell | {"metric": metric, "ours": values.mean(), "ours_std": spread, "trials": len(values)}


def table(sweep: Sweep, number: int) -> pd.DataFrame:
    """Compare one of the five tables with its print; see `analysis.papers.beside.beside`.

    of_print is the ratio of ours to the print, same_recipe says whether both were measured by the same recipe. Only
    trials that match the row's conditions count (`analysis.papers.conditions`).
    """
    return beside(printed("balancing", number, DATASETS), measured(sweep, number))


def _first(epoch: str) -> int:
    return int(epoch.partition("/")[0])


def ratios(sweep: Sweep) -> pd.DataFrame:
    """Return ratios that are comparable on any data set, one row per data set, kind of gamma and other settings.

    gamma, epochs, network, latent_dim, learning_rate, trials, prior_gap (GEN-1 / REC), second_gain (GEN-2 / GEN-1;
    below 1 the second stage helps), normalised_gain (GEN-2 with / without normalisation), mse, variance_law,
    gamma_of_mse (gamma / mse; 1 is the optimum).
    """
    found = figures(sweep)
    keys = ["dataset", "epochs", *(column for column in found if column.startswith("hyper/"))]
    rows = []
    for _, trials in found.groupby(keys, dropna=False, sort=False):
        first = trials.iloc[0]
        row = {"dataset": first["dataset"], "gamma": first["hyper/gamma_rule"], "epochs": first["epochs"]}
        row |= {name: first.get(f"hyper/{name}") for name in ("network", "latent_dim", "learning_rate")}
        row |= {"trials": len(trials), "prior_gap": (trials["GEN-1"] / trials["REC"]).mean()}
        row |= {"second_gain": (trials["GEN-2"] / trials["GEN-1"]).mean()}
        row |= {"normalised_gain": (trials["GEN-2, normalised"] / trials["GEN-2"]).mean()}
        row |= {"mse": trials["mse"].mean(), "variance_law": trials["variance law, text"].mean()}
        rows.append(row | {"gamma_of_mse": (trials["gamma"] / trials["mse"]).mean()})
    return pd.DataFrame(rows)


def printed_ratios() -> pd.DataFrame:
    """Return the ratios of the print that are available: table, dataset, variant, epoch, prior_gap, second_gain."""
    keys = ["table", "dataset", "variant", "epoch"]
    tables = pd.concat([printed("balancing", number) for number in (1, 2, 3, 4, 5)])
    tables = tables[tables["method"] == "2S-VAE"]
    wide = tables.pivot_table(index=keys, columns="metric", values="printed", sort=False).reset_index()
    wide["prior_gap"] = wide["GEN-1"] / wide["REC"]
    wide["second_gain"] = wide["GEN-2"] / wide["GEN-1"]
    return wide[[*keys, "prior_gap", "second_gain"]].rename_axis(columns=None)


def computed_over_learned(sweep: Sweep) -> pd.DataFrame:
    """Return the ratio of computed to learned gamma of each model: dataset, epochs, model, metric, ours, and the ratio
    of the print on CIFAR-10 (Table 2) and on CelebA-64 (Table 3, last epochs). Below 1, computing gamma is better.

    There is a row for each model (MODEL) with both rules, each from the trials of one setting, because other learning
    rates and schedules are different trainings: that of a printed row, or else the first, which must then have the
    learning rate of the other rule. printed_celeba64 belongs to the same model in Table 3, or to model 1 for other
    models.
    """
    found = figures(sweep)
    rows_in_print = [row for table in (2, 3, 4) for row in conditions("balancing", table)]
    at_print = {trial for row in rows_in_print for trial in row.trials(sweep, found)["trial"]}
    last = printed("balancing", 3).query("epoch == '120/300'")
    cifar = _over(printed("balancing", 2), "computed gamma", "learned gamma; replicated")
    models = {row.variant.partition(";")[0]: row for row in conditions("balancing", 3)}
    model_of = [column for column in MODEL if column in found]
    settings = [column for column in found if column.startswith("hyper/")]
    rows = []
    for key, trials in found.groupby(["dataset", "epochs", *model_of], dropna=False, sort=False):
        firsts, chosen = {}, {}
        for rule, same in trials.groupby("hyper/gamma_rule"):
            in_print = same["trial"].isin(at_print)
            chosen[rule] = first = (same[in_print] if in_print.any() else same).sort_values("number").iloc[0]
            alike = (same[settings] == first[settings]) | (same[settings].isna() & first[settings].isna())
            firsts[rule] = same[alike.all(axis=1)][[*METRICS]].mean()
        if not {"computed", "learned"} <= set(firsts):
            continue
        both = [chosen["computed"], chosen["learned"]]
        if both[0].get(RATE) != both[1].get(RATE) and not all(trial["trial"] in at_print for trial in both):
            continue
        (dataset, epochs), trial = key[:2], trials.iloc[0]
        named = [name for name, row in models.items() if _is_model(trial, row.values(row.datasets[0]))]
        model = named[0] if named else "model 1"
        celeba = _over(last, f"{model}; computed gamma", f"{model}; learned gamma")
        shown = ", ".join(str(trial[column]) for column in model_of[:2])
        for metric, ratio in (firsts["computed"] / firsts["learned"]).dropna().items():
            row = {"dataset": dataset, "epochs": epochs, "model": named[0] if named else shown}
            row |= {"metric": metric, "ours": ratio}
            rows.append(row | {"printed_cifar10": cifar.get(metric), "printed_celeba64": celeba.get(metric)})
    columns = ["dataset", "epochs", "model", "metric", "ours", "printed_cifar10", "printed_celeba64"]
    return pd.DataFrame(rows, columns=columns)


def _is_model(trial: pd.Series, values: Mapping[str, object]) -> bool:
    return all(
        trial.get(column) == values[column.removeprefix("hyper/")]
        for column in MODEL
        if column.removeprefix("hyper/") in values
    )


def _over(rows: pd.DataFrame, above: str, below: str) -> dict[str, float]:
    """Return the ratios of one variant's printed values to another's, by metric."""
    values = {variant: cells.set_index("metric")["printed"] for variant, cells in rows.groupby("variant")}
    return (values[above] / values[below]).dropna().to_dict()


def latents(files: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Read one or several files written by `python -m trainables.reproductions.regularization --latents FILE`.

    Raises ValueError if they hold several trainings of one data set, method and variant.
    """
    files = [files] if isinstance(files, (str, Path)) else files
    found = pd.concat([pd.read_csv(file) for file in files], ignore_index=True).drop_duplicates()
    again = found[found.duplicated([*TRAINING, "epoch", "latent"])]
    if len(again):
        training = ", ".join(again.iloc[0][TRAINING])
        raise ValueError(f"{training} was trained several times; give the files of one training")
    return found


def figure4(found: pd.DataFrame) -> Figure:
    """Plot Figures 4 and 6: E sigma^2 of every latent over epochs, a panel for each training of `latents`.

    Its title names the data set if there are several. A latent that the decoder uses leaves the top; if the decoder's
    variance follows the error, they do so one by one.
    """
    trainings, several = list(found.groupby(TRAINING, sort=False)), found["dataset"].nunique() > 1
    columns, rows = min(5, len(trainings)), math.ceil(len(trainings) / 5)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for ax in panels:
        ax.axis("off")
    for ax, ((dataset, method, variant), training) in zip(figure.axes, trainings, strict=False):
        lines = training.pivot_table(index="epoch", columns="latent", values="posterior_variance")
        ax.axis("on")
        ax.plot(lines.index, lines.to_numpy(), lw=0.6, alpha=0.7)
        ax.axhline(0.8, color="0.4", lw=0.8, ls=":")  # a variable above counts as inactive
        ax.set_title(f"{method}\n{variant}" + (f", {dataset}" if several else ""), fontsize=7)
        ax.set(xlabel="epoch", ylim=(0, 1.1))
    figure.axes[0].set_ylabel("E σ²")
    return figure


def figure5(found: pd.DataFrame) -> Figure:
    """Plot Figure 5: E sigma^2 of every latent within the first epoch, from files with `--latent-steps`."""
    return figure4(found[found["epoch"] <= 1])


def figure2(looks: pd.DataFrame) -> Figure:
    """Plot Figure 2: error, KL and decoder variance over epochs, a line per training; computed against learned."""
    return regularization.curves(looks, (regularization.ERROR, "KL", "gamma"))


def figures_of(files: Sequence[str | Path]) -> dict[str, Figure]:
    """Plot the figures from the program's files, by name; none without files. Raises ValueError for other files."""
    drawn = [file for file in files if "latent" in pd.read_csv(file, nrows=0)]
    figures = {}
    if looks := [file for file in files if file not in drawn]:
        figures["figure2"] = figure2(regularization.read(looks))
    if drawn:
        found = latents(drawn)
        figures |= {"figure4": figure4(found), "figure5": figure5(found)}
    return figures


def draw(files: Sequence[str | Path]) -> list[Path]:
    """Write the figures next to the first file, and return their paths. Raises ValueError for other files."""
    written = {Path(files[0]).with_name(f"balancing_{name}.png"): figure for name, figure in figures_of(files).items()}
    for path, figure in written.items():
        figure.savefig(path, dpi=120)
    return list(written)


def main(argv: Sequence[str] | None = None) -> None:
    with inputs("balancing", __doc__, "SWEEP|FILE.csv", argv) as names:
        if all(name.endswith(".csv") for name in names):
            print(*draw(names), sep="\n")
            return
        for sweep in map(read_sweep, names):
            found = [table(sweep, number) for number in (1, 2, 3, 4, 5)]
            if all(part.empty for part in found) or "two_stage_vae" in set(sweep.trials["method"]):
                found = [ratios(sweep), computed_over_learned(sweep), *found]
            print("\n\n".join([f"## {sweep.name}", *(markdown(part) for part in found if len(part))]))


if __name__ == "__main__":
    main()
