"""Our runs beside the Regularization paper's print: its Tables 1 to 4, its Figure 1, and the text's negative control.

    python -m analysis.papers.regularization FILE.csv [FILE.csv ...]

FILE is what `python -m trainables.reproductions.regularization --out FILE.csv` writes, for Tables 1 and 2; Tables 3
and 4 come from the folders of sweeps of the preset regularization-table3, and from JSON files of
`python -m trainables.evaluate`. The print's MMD has an unknown scale and its networks are not known, so what is
compared is ratios, orderings, and where the number of active dimensions saturates (published/README.md).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.load import Sweep
from analysis.papers.beside import markdown, printed, rank_correlation
from analysis.papers.conditions import conditions, of_study

DATASETS = {"MNIST": ("mnist",), "CelebA-64": ("celeba64",), "CelebA-128": ("celeba128",)}
KEYS = ["table", "dataset", "method", "variant", "metric", "epoch"]
ERROR, BOUND, ACTIVE = "Rec. Err. (test)", "NLL (test)", "# Active"
RESIDUAL = "VAE, residual decoder, learnable gamma"
MEAN_IMAGE = {"mnist": 52.9, "fashion_mnist": 67.9}  # its squared error on the test images (methods.md, 12)
SATURATED = 0.9  # of the most active dimensions of the sweep
RULES = {"learnable gamma": "learnable", "fixed gamma = gamma*": "fixed"}
ROWS = {"ae_wae": "WAE-MMD", "ae_vae": "VAE", "vae_plus": "VAE+"}


def read(files: Sequence[str | Path]) -> pd.DataFrame:
    """The rows of the program's files, every look: the columns of KEYS, value. What was measured twice counts once.

    Raises ValueError for a file that is no such table.
    """
    parts = [pd.read_csv(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if missing := [key for key in [*KEYS, "value"] if key not in part]:
            raise ValueError(
                f"{file} has no column {missing[0]}; give what trainables.reproductions.regularization wrote"
            )
    return pd.concat(parts).drop_duplicates(KEYS, keep="last")[[*KEYS, "value"]].reset_index(drop=True)


def last(looks: pd.DataFrame) -> pd.DataFrame:
    """Each training's figures after its last epoch: table, dataset, method, variant, metric, epoch, value."""
    training = ["table", "dataset", "method", "variant"]
    return looks[looks["epoch"] == looks.groupby(training)["epoch"].transform("max")].reset_index(drop=True)


def table1(looks: pd.DataFrame) -> pd.DataFrame:
    """Table 1, a row for each decoder and kappa: dataset, method, kappa, epochs, error, nll, active, their print.

    error_share and printed_error_share are an error over the one at the smallest kappa of the same decoder that both
    have. The printed columns are empty where the paper prints none.
    """
    ours = last(looks[looks["table"] == 1])
    ours = ours.assign(kappa=ours["variant"].str.removeprefix("kappa=").astype(int))
    names = {ERROR: "error", BOUND: "nll", ACTIVE: "active"}
    keys = ["dataset", "method", "kappa"]
    wide = ours[ours["metric"].isin(names)].pivot_table(index=[*keys, "epoch"], columns="metric", values="value")
    wide = wide.rename(columns=names).reindex(columns=[*names.values()])  # a column each, also if none has it
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
    """The smallest kappa with SATURATED of the most active dimensions of a sweep; None if that is the greatest kappa,
    for then nothing says that they would not go on rising."""
    most = max(active)
    reached = min(kappa for kappa, n in zip(kappas, active, strict=True) if n >= SATURATED * most)
    return None if reached == max(kappas) else reached


def orderings(table: pd.DataFrame) -> pd.DataFrame:
    """What of Table 1 can be compared without its networks: a row for each data set with a print, residual decoder.

    errors, nlls, actives: Spearman's rank correlation of print and ours over kappa (NaN for fewer than three).
    saturates, printed_saturates: the kappa from which on the active dimensions hardly rise, if any.
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
    """Which trainings of Table 1 collapsed: dataset, method, kappa, error, of_mean_image, kl, active, collapsed.

    of_mean_image is the error over that of the mean image, which is what a decoder gives that hears nothing of its
    code; collapsed says that no dimension is active and the error is within 1 % of it. Data sets of unknown mean
    image have no row.
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
    """Table 2: dataset, metric, learnable, fixed, ratio (learnable over fixed), and the print's ratios on both of its
    data sets, printed_64 and printed_128, whatever ours was measured on."""
    theirs = _over_fixed(printed("regularization", 2).rename(columns={"printed": "value"}))
    theirs = theirs.set_index(["dataset", "metric"])["ratio"]
    found = _over_fixed(last(looks[looks["table"] == 2]))
    for side in (64, 128):
        found[f"printed_{side}"] = [theirs.get((f"CelebA-{side}", metric)) for metric in found["metric"]]
    return found


def _over_fixed(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.assign(rule=rows["variant"].map(RULES)).pivot_table(
        index=["dataset", "metric"], columns="rule", values="value"
    )
    wide = wide.reindex(columns=["learnable", "fixed"]).reset_index().rename_axis(columns=None)
    wide["ratio"] = wide["learnable"] / wide["fixed"]
    return wide


def table3(sweeps: Sequence[Sweep], downsample: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Table 3 of the presets' sweeps: dataset, row (as printed), metric, reconstruction, generation, price, and print.

    reconstruction and generation are the mean over the complete trials at the table's conditions, by the sweep's own
    distance, named in `metric`; price is generation over reconstruction, the one figure that may be compared where that
    distance is no FID.
    The row "VAE" is taken from VAE+'s prior too, which is the same model, where no ae_vae was run. downsample: both
    values of that row, from `read_scores`, by the same metric.
    """
    rows: dict[tuple[str, str], dict] = {}
    for sweep in sweeps:
        for study in sweep.studies.values():
            at_print = of_study(study, conditions("regularization", 3))
            trials = at_print[0].trials(sweep, sweep.trials_of(study.name)) if at_print else sweep.trials.iloc[:0]
            if trials.empty:
                continue
            metric = study.metric.partition("/")[2]
            columns = {ROWS[study.method]: study.metric}
            if study.method == "vae_plus":
                columns = {"VAE+": study.metric, "VAE": f"{study.metric}_prior"}
            for row, column in columns.items():
                told = {"metric": metric, "reconstruction": trials[f"{study.metric}_reconstruction"].mean()}
                told |= {"generation": trials[column].mean()}
                if row == ROWS[study.method]:
                    rows[study.dataset, row] = told
                else:
                    rows.setdefault((study.dataset, row), told)
    if downsample:
        dataset = next(iter(rows))[0] if rows else "celeba128"
        (metric, value), *_ = downsample.items()
        rows[dataset, "Downsample"] = {"metric": metric, "reconstruction": value, "generation": value}
    found = pd.DataFrame([{"dataset": d, "row": r, **told} for (d, r), told in rows.items()])
    if found.empty:
        raise ValueError("no complete trial of ae_wae, ae_vae or vae_plus in these sweeps; let one come to its end")
    found["price"] = found["generation"] / found["reconstruction"]
    theirs = printed("regularization", 3).pivot_table(index="method", columns="metric", values="printed")
    found["printed_reconstruction"] = found["row"].map(theirs["Recon. FID"])
    found["printed_generation"] = found["row"].map(theirs["Gen. FID"])
    found["printed_price"] = found["printed_generation"] / found["printed_reconstruction"]
    return found


def read_scores(file: str | Path, *names: str) -> dict[str, float]:
    """Values of a JSON file that `python -m trainables.evaluate --json-file` wrote, all unless some are named.

    Raises ValueError for a file that is none, or has not been asked for one of them.
    """
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))["values"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{file} holds no scores; give what trainables.evaluate --json-file wrote") from None
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{file} has no {missing[0]}, only {', '.join(values)}; ask for it with --scores")
    return {name: values[name] for name in names or values}


def table4(scores: Mapping[str, str | Path]) -> pd.DataFrame:
    """Table 4: row (as printed), bins, ndb, floor (held-out real images), printed.

    scores: for each printed row its JSON file of `--scores ndb`. Fewer bins than asked for are left out there.
    """
    theirs = printed("regularization", 4)
    theirs = theirs.set_index(["method", "variant"])["printed"]
    rows = []
    for row, file in scores.items():
        values = read_scores(file)
        for bins in (100, 200, 300):
            if f"ndb_{bins}" in values:
                told = {"row": row, "bins": bins, "ndb": values[f"ndb_{bins}"], "floor": values.get(f"ndb_{bins}_real")}
                rows.append(told | {"printed": theirs.get((row, f"K={bins}"))})
    return pd.DataFrame(rows, columns=["row", "bins", "ndb", "floor", "printed"])


def curves(looks: pd.DataFrame, metrics: Sequence[str] = (ERROR, ACTIVE, "gamma", "KL")) -> Figure:
    """How each training of a file went: a panel for each metric, a line for each training, over epochs."""
    figure = Figure(figsize=(3.4 * len(metrics), 3.2), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        for (method, variant), line in looks[looks["metric"] == metric].groupby(["method", "variant"], sort=False):
            dashed = "-" if "residual" in method or method == "VAE" else "--"
            ax.plot(line["epoch"], line["value"], dashed, lw=1.2, marker=".", label=f"{method}, {variant}")
        ax.set(xlabel="epoch", title=metric)
        if metric == "gamma":
            ax.set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
    return figure


def figure1(looks: pd.DataFrame) -> Figure:
    """Figure 1: |dL/dz| of a training with learned and of one with fixed gamma, over epochs."""
    return curves(looks[looks["table"] == 2], ("|dL/dz|", "gamma"))


def main(argv: Sequence[str]) -> None:
    if not argv:
        raise SystemExit("usage: python -m analysis.papers.regularization FILE.csv [FILE.csv ...]")
    looks = read(argv)
    picture = Path(argv[0]).with_suffix(".png")
    if (looks["table"] == 1).any():
        table = table1(looks)
        for part in (table, orderings(table), controls(looks)):
            print(markdown(part), end="\n\n")
        curves(looks[looks["table"] == 1]).savefig(picture, dpi=120)
    if (looks["table"] == 2).any():
        print(markdown(table2(looks)), end="\n\n")
        picture = picture.with_stem(f"{picture.stem}_figure1")
        figure1(looks).savefig(picture, dpi=120)
    print(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
