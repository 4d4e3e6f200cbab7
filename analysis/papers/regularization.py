"""Comparison of our runs with Tables 1 to 4, Figure 1 and the negative control of the Regularization paper.

    python -m analysis.papers.regularization FILE.csv [FILE.csv ...] [SWEEP ...]

FILE is written by `python -m trainables.reproductions.regularization --out FILE.csv` for Tables 1 and 2. SWEEP is the
folder of a sweep of the preset regularization-table1, -table2 or -table3; the values of Tables 1 and 2 are written to
it as such a file. Table 4 uses JSON files of `python -m trainables.evaluate`. The scale of the print's MMD and its
networks are unknown, so the comparison uses ratios, orderings, and the kappa at which the number of active dimensions
saturates (published/README.md).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.load import MEASURED, Sweep, read_sweep
from analysis.papers.beside import (
    changed,
    markdown,
    our_recipe,
    printed,
    printed_recipe,
    rank_correlation,
    read_trainings,
    same_recipe,
)
from analysis.papers.command import inputs
from analysis.papers.conditions import Condition, conditions, of_study

OURS = tuple(MEASURED / f"regularization_{name}.csv" for name in ("mnist", "table2"))
DATASETS = {"MNIST": ("mnist",), "CelebA-64": ("celeba64",), "CelebA-128": ("celeba128",)}
KEYS = ["table", "dataset", "method", "variant", "metric", "epoch"]
ERROR, BOUND, ACTIVE = "Rec. Err. (test)", "NLL (test)", "# Active"
RESIDUAL = "VAE, residual decoder, learnable gamma"
MEAN_IMAGE = {
    "mnist": 52.9,
    "fashion_mnist": 67.9,
}  # squared error of the mean image on the test images (methods.md, 12)
SATURATED = 0.9  # share of the maximum number of active dimensions
DECODERS = {  # the points of search_spaces/gaussian_vae.toml, named as the program names them
    "paper": RESIDUAL,
    "no_skip": "VAE, plain decoder, learnable gamma",
    "affine": "VAE, plain decoder, affine skip, learnable gamma",
}
PIXELS = {"mnist": 784, "celeba64": 3 * 64**2, "celeba128": 3 * 128**2}  # the print's errors are sums over pixels
SCORES = {BOUND: "nll_bound", ACTIVE: "active_dims", "KL": "kl", "gamma": "gamma", "variance law": "var_law",
          "MMD": "mmd_imq", "|dL/dz|": "gradient_at_codes"}  # fmt: skip
RULES = {"learnable gamma": "learnable", "fixed gamma = gamma*": "fixed"}
ROWS = {"ae_wae": "WAE-MMD", "ae_vae": "VAE", "vae_plus": "VAE+"}


def read(files: Sequence[str | Path]) -> pd.DataFrame:
    """Read the rows of the program's files: the columns of KEYS, and value. Duplicates are dropped.

    Raises ValueError if a file is not such a table, or a training has several settings.
    """
    return read_trainings(files, KEYS, "trainables.reproductions.regularization")


def of_sweeps(sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """Return the complete trials at the conditions of Tables 1 and 2 as `read` does: means over seeds, at the end.

    Only those of the test split count, as in print.
    """
    decoders = [
        (1, method, ERROR, replace(row, point=point))
        for row in conditions("regularization", 1)
        for point, method in DECODERS.items()
    ]
    gammas = [(2, "VAE", "Rec. Err.", row) for row in conditions("regularization", 2)]
    rows = [
        (table, *found)
        for sweep in sweeps
        for table, method, error, condition in (*decoders, *gammas)
        for found in _values(sweep, condition, method, error)
    ]
    found = pd.DataFrame(rows, columns=[*KEYS, "value"])
    return found.groupby(KEYS, sort=False, as_index=False)["value"].mean()


def _values(sweep: Sweep, condition: Condition, method: str, error: str) -> Iterator[tuple]:
    for trial in condition.trials(sweep).to_dict("records"):
        study = sweep.studies[trial["study"]]
        if study.split != "test":
            continue
        found = {error: trial["test/mse"] * PIXELS[study.dataset]}
        found |= {metric: trial.get(f"test/{column}") for metric, column in SCORES.items()}  # old records lack some
        for metric, value in found.items():
            yield study.dataset, method, condition.variant, metric, study.epochs, value


def last(looks: pd.DataFrame) -> pd.DataFrame:
    """Return each training's results after its last epoch: table, dataset, method, variant, metric, epoch, value."""
    training = ["table", "dataset", "method", "variant"]
    return looks[looks["epoch"] == looks.groupby(training)["epoch"].transform("max")].reset_index(drop=True)


def table1(looks: pd.DataFrame) -> pd.DataFrame:
    """Return Table 1, one row per decoder and kappa: dataset, method, kappa, epochs, error, nll, active, their print.

    error_share and printed_error_share are relative to the error at the smallest kappa of the same decoder. The printed
    columns are empty if the paper prints no value.
    """
    ours = last(looks[looks["table"] == 1])
    ours = ours.assign(kappa=ours["variant"].str.removeprefix("kappa=").astype(int))
    names = {ERROR: "error", BOUND: "nll", ACTIVE: "active"}
    keys = ["dataset", "method", "kappa"]
    wide = ours[ours["metric"].isin(names)].pivot_table(index=[*keys, "epoch"], columns="metric", values="value")
    wide = wide.rename(columns=names).reindex(columns=[*names.values()])  # all columns, even if no row has a value
    wide = wide.reset_index().rename(columns={"epoch": "epochs"})
    theirs = printed("regularization", 1, DATASETS)
    theirs = theirs.assign(kappa=theirs["variant"].str.removeprefix("kappa=").astype(int))
    theirs = theirs.pivot_table(index=keys, columns="metric", values="printed").rename(columns=names)
    found = wide.merge(theirs.add_prefix("printed_").reset_index(), on=keys, how="left").sort_values(keys)
    for side in ("", "printed_"):
        first = found.groupby(["dataset", "method"])[f"{side}error"].transform("first")
        found[f"{side}error_share"] = found[f"{side}error"] / first
    columns = [*keys, "epochs", "error", "printed_error", "error_share", "printed_error_share"]
    return found[[*columns, "nll", "printed_nll", "active", "printed_active"]].reset_index(drop=True)


def saturation(kappas: Sequence[int], active: Sequence[float]) -> int | None:
    """Return the smallest kappa with SATURATED of the maximum number of active dimensions; None if that is the greatest
    kappa, because the number may rise further."""
    most = max(active)
    reached = min(kappa for kappa, n in zip(kappas, active, strict=True) if n >= SATURATED * most)
    return None if reached == max(kappas) else reached


def orderings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the orderings of Table 1, which do not depend on the networks: a row per printed data set.

    errors, nlls, actives: Spearman's rank correlation of print and ours over kappa (NaN for fewer than three).
    saturates, printed_saturates: the kappa at which the active dimensions saturate, if any.
    """
    rows = []
    for dataset, cells in table[table["printed_error"].notna()].groupby("dataset"):
        row: dict[str, object] = {"dataset": dataset, "kappas": len(cells)}
        for name, column in (("errors", "error"), ("nlls", "nll"), ("actives", "active")):
            row[name] = rank_correlation(cells[f"printed_{column}"], cells[column])["correlation"]
        for side in ("", "printed_"):
            row[f"{side}saturates"] = saturation(list(cells["kappa"]), list(cells[f"{side}active"]))
        rows.append(row)
    return pd.DataFrame(
        rows, columns=["dataset", "kappas", "errors", "nlls", "actives", "saturates", "printed_saturates"]
    )


def controls(looks: pd.DataFrame) -> pd.DataFrame:
    """Return which trainings of Table 1 collapsed: dataset, method, kappa, error, of_mean_image, kl, active, collapsed.

    of_mean_image is the error relative to that of the mean image, the output of a decoder that ignores its code;
    collapsed means that no dimension is active and the error is within 1 % of it. Data sets without a known error of
    the mean image have no row.
    """
    ours = last(looks[(looks["table"] == 1) & looks["dataset"].isin(MEAN_IMAGE)])
    keys = ["dataset", "method", "variant"]
    wide = ours.pivot_table(index=keys, columns="metric", values="value").reset_index()
    wide["kappa"] = wide["variant"].str.removeprefix("kappa=").astype(int)
    wide = wide.rename(columns={ERROR: "error", ACTIVE: "active", "KL": "kl"})
    wide["of_mean_image"] = wide["error"] / wide["dataset"].map(MEAN_IMAGE)
    wide["collapsed"] = (wide["active"] == 0) & (wide["of_mean_image"].sub(1).abs() <= 0.01)
    columns = ["dataset", "method", "kappa", "error", "of_mean_image", "kl", "active", "collapsed"]
    return wide[columns].sort_values(["dataset", "method", "kappa"], ignore_index=True)


def table2(looks: pd.DataFrame) -> pd.DataFrame:
    """Return Table 2: dataset, metric, epochs, learnable, fixed, ratio (learnable / fixed, of as many epochs), and the
    print's ratios on both of its data sets, printed_64 and printed_128, regardless of our data set."""
    theirs = _over_fixed(printed("regularization", 2).rename(columns={"printed": "value"}))
    theirs = theirs.set_index(["dataset", "metric"])["ratio"]
    found = _over_fixed(last(looks[looks["table"] == 2]))
    for side in (64, 128):
        found[f"printed_{side}"] = [theirs.get((f"CelebA-{side}", metric)) for metric in found["metric"]]
    return found


def _over_fixed(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.assign(rule=rows["variant"].map(RULES)).rename(columns={"epoch": "epochs"})
    wide = wide.pivot_table(index=["dataset", "metric", "epochs"], columns="rule", values="value")
    wide = wide.reindex(columns=["learnable", "fixed"]).reset_index().rename_axis(columns=None)
    wide["ratio"] = wide["learnable"] / wide["fixed"]
    return wide


def table3(sweeps: Sequence[Sweep], downsample: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return Table 3 of the presets' sweeps: dataset, row (as printed), metric, split, n, epochs, trials,
    reconstruction, generation, price, and the print.

    reconstruction and generation are means over the complete trials at the table's conditions, by the sweep's distance
    (`metric`) of `n` samples to a split; price is generation / reconstruction, the only comparable value if that
    distance is not FID. Trials of other distances, samples, splits or epochs have rows of their own. Without an ae_vae,
    the row "VAE" uses VAE+ with its prior, which is the same model. downsample: both values of that row, from
    `read_scores`, by the same metric.
    """
    cells = []
    for sweep in sweeps:
        for study in sweep.studies.values():
            at_print = of_study(study, conditions("regularization", 3))
            trials = at_print[0].trials(sweep, sweep.trials_of(study.name)) if at_print else sweep.trials.iloc[:0]
            if trials.empty:
                continue
            split, _, metric = study.metric.partition("/")
            n = our_recipe(sweep, study.name).get("n")
            about = {"dataset": study.dataset, "metric": metric, "split": split, "n": n, "epochs": study.epochs}
            columns = {ROWS[study.method]: study.metric}
            if study.method == "vae_plus":
                columns["VAE"] = f"{study.metric}_prior"
            for row, column in columns.items():
                values = {"reconstruction": trials[f"{study.metric}_reconstruction"], "generation": trials[column]}
                cells.append(pd.DataFrame(values).assign(**about, row=row, own=row == ROWS[study.method]))
    if not cells:
        raise ValueError("no complete trial at the conditions of Tables 1 to 3 in these sweeps; complete one first")
    keys = ["dataset", "row", "metric", "split", "n", "epochs"]
    all_cells = pd.concat(cells)
    all_cells = all_cells[all_cells["own"] == all_cells.groupby(keys, dropna=False)["own"].transform("max")]
    values = all_cells.groupby(keys, sort=False, dropna=False)
    means = values[["reconstruction", "generation"]].mean()
    found = means.assign(trials=values.size())[["trials", *means]].reset_index()
    if downsample:
        (metric, value), *_ = downsample.items()
        resized = {"dataset": found["dataset"][0], "row": "Downsample", "metric": metric}
        found.loc[len(found)] = pd.Series(resized | {"reconstruction": value, "generation": value})
    found["price"] = found["generation"] / found["reconstruction"]
    theirs = printed("regularization", 3).pivot_table(index="method", columns="metric", values="printed")
    found["printed_reconstruction"] = found["row"].map(theirs["Recon. FID"])
    found["printed_generation"] = found["row"].map(theirs["Gen. FID"])
    found["printed_price"] = found["printed_generation"] / found["printed_reconstruction"]
    return found


def read_scores(file: str | Path, *names: str) -> dict[str, float]:
    """Read values from a JSON file written by `python -m trainables.evaluate --json-file`; default: all.

    Raises ValueError if the file is not such a file or lacks a value.
    """
    values = _scores(file)["values"]
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{file} has no {missing[0]}, only {', '.join(values)}; request it with --scores")
    return {name: values[name] for name in names or values}


def _scores(file: str | Path) -> dict[str, dict]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        return {"values": found["values"], "recipes": found["recipes"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{file} has no scores; give a file of trainables.evaluate --json-file") from None


def table4(scores: Mapping[str, str | Path]) -> pd.DataFrame:
    """Return Table 4: row (as printed), bins, ndb, floor (held-out real images), printed, same_recipe.

    scores: the JSON file of `--scores ndb` for each printed row; bins that a file lacks are omitted.
    """
    print_ = printed("regularization", 4).set_index(["method", "variant"])
    columns = ["row", "bins", "ndb", "floor", "printed", "same_recipe"]
    rows = []
    known = list(dict.fromkeys(print_.index.get_level_values("method")))
    for row, file in scores.items():
        if row not in known:
            raise ValueError(f"{row} is no row of Table 4; known: {', '.join(known)}")
        found = _scores(file)
        for bins in (100, 200, 300):
            if (name := f"ndb_{bins}") in found["values"]:
                theirs = print_.loc[(row, f"K={bins}")]
                alike = same_recipe(printed_recipe(theirs), found["recipes"].get(name, {}))
                floor = found["values"].get(f"{name}_real")
                rows.append((row, bins, found["values"][name], floor, theirs["printed"], alike))
    return pd.DataFrame(rows, columns=columns)


def curves(looks: pd.DataFrame, metrics: Sequence[str] = (ERROR, ACTIVE, "gamma", "KL")) -> Figure:
    """Plot each training of a file over epochs: a panel per metric, a line per training.

    The label names the data set if there are several.
    """
    training, several = ["dataset", "method", "variant"], looks["dataset"].nunique() > 1
    figure = Figure(figsize=(3.4 * len(metrics), 3.2), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        for (dataset, method, variant), line in looks[looks["metric"] == metric].groupby(training, sort=False):
            dashed = "-" if "residual" in method or method == "VAE" else "--"
            label = f"{method}, {variant}" + (f", {dataset}" if several else "")
            ax.plot(line["epoch"], line["value"], dashed, lw=1.2, marker=".", label=label)
        ax.set(xlabel="epoch", title=metric)
        if metric == "gamma":
            ax.set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
    return figure


def figure1(looks: pd.DataFrame) -> Figure:
    """Plot Figure 1: |dL/dz| of a training with learned and of one with fixed gamma, over epochs."""
    return curves(looks[looks["table"] == 2], ("|dL/dz|", "gamma"))


def main(argv: Sequence[str] | None = None) -> None:
    with inputs("regularization", __doc__, "FILE.csv|SWEEP", argv) as names:
        files = [name for name in names if name.endswith(".csv")]
        sweeps = [read_sweep(name) for name in names if name not in files]
        if sweeps:
            show_sweeps(sweeps)
        if files:
            looks = read(files)
            show(looks)
            print("\n".join(changed(files, KEYS)))
            draw(looks, Path(files[0]).with_suffix(".png"))


def show_sweeps(sweeps: Sequence[Sweep]) -> None:
    """Print Tables 1 to 3 of sweeps, and write the values of Tables 1 and 2 to the first one."""
    looks = of_sweeps(sweeps)
    if looks.empty or any(study.method in ROWS for sweep in sweeps for study in sweep.studies.values()):
        print(markdown(table3(sweeps)), end="\n\n")
    if not looks.empty:
        show(looks)
        file = sweeps[0].folder / "regularization_tables.csv"
        looks.to_csv(file, index=False)
        print(file)


def show(looks: pd.DataFrame) -> None:
    """Print Tables 1 and 2 of measurements."""
    if (looks["table"] == 1).any():
        table = table1(looks)
        for part in (table, orderings(table), controls(looks)):
            print(markdown(part), end="\n\n")
    if (looks["table"] == 2).any():
        print(markdown(table2(looks)), end="\n\n")


def draw(looks: pd.DataFrame, picture: Path) -> None:
    """Plot the trainings of Tables 1 and 2 over epochs; write `picture`, and Figure 1 beside it."""
    if (looks["table"] == 1).any():
        curves(looks[looks["table"] == 1]).savefig(picture, dpi=120)
    if (looks["table"] == 2).any():
        picture = picture.with_stem(f"{picture.stem}_figure1")
        figure1(looks).savefig(picture, dpi=120)
    print(picture)


if __name__ == "__main__":
    main()
