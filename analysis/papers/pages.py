"""Fill the tables of the Markdown pages from the files in `analysis/measured`.

    python -m analysis.papers.pages            # rewrite every table of every page
    python -m analysis.papers.pages --check    # write nothing; fail if a page differs from its files

A comment marks each table of a page and names a function of TABLES and the files that it reads:

    <!-- table: confirmed all_digits_confirmed.csv -->
    | ... |
    <!-- end -->

The text between the two comments is generated. To publish a new measurement, copy its file into `analysis/measured` and
run the command.
"""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis.confirm import HAND_TUNED, mean_words, verdict
from analysis.page.names import dataset_name, measured, method_name, readable, short_metric
from analysis.papers import aae, gae, regularization, vg
from analysis.papers.beside import markdown, printed

ANALYSIS = Path(__file__).parents[1]
MEASURED = ANALYSIS / "measured"
PAGES = (ANALYSIS / "README.md", ANALYSIS / "all_methods.md", *sorted(Path(__file__).parent.glob("*.md")))
MARKED = re.compile(r"<!-- table: (?P<call>[^>]+) -->\n(?P<table>.*?)<!-- end -->", re.DOTALL)


def filled(page: str) -> str:
    """Return a page with each marked table regenerated. Raises ValueError for an unknown table or file."""

    def fill(found: re.Match) -> str:
        name, *files = found["call"].split()
        if name not in TABLES:
            raise ValueError(f"no table {name!r}; choose from {', '.join(TABLES)}")
        if missing := [file for file in files if not (MEASURED / file).is_file()]:
            raise ValueError(f"{MEASURED} has no {missing[0]}; give an existing file")
        table = TABLES[name](*(MEASURED / file for file in files))
        return f"<!-- table: {found['call']} -->\n{table}\n<!-- end -->"

    return MARKED.sub(fill, page)


def confirmed(file: Path) -> str:
    """Tabulate hand-tuned and tuned point of each study, best mean first, from a confirmation's confirmed.csv."""
    rows = []
    for hand, tuned in _points(file).values():
        shown = [hand, tuned] if tuned else [hand]
        means = (mean_words(hand), mean_words(tuned) if tuned else "")
        searched = " → ".join(measured(row.searched) for row in shown)
        rows.append((method_name(hand.method), *means, verdict(shown[-1]), searched))
    metric = short_metric(hand.metric)
    return _table([f"{metric}, mean [95 %]", "hand-tuned", "tuned", "verdict", "value in the search"], rows)


def searches(earlier: Path, now: Path) -> str:
    """Tabulate the points of two confirmations of the same studies side by side."""
    before, after = _points(earlier), _points(now)
    rows = []
    for study, found in after.items():
        means = [mean_words(row) if row else "kept" for row in (*before[study], *found)]
        rows.append((method_name(found[0].method), *means))
    metric = short_metric(found[0].metric)
    return _table([f"{metric}, mean [95 %]", "hand-tuned, earlier", "tuned, earlier", "hand-tuned", "tuned"], rows)


def _points(file: Path) -> dict[str, tuple]:
    """Return the rows of the hand-tuned and the tuned point of each study, the latter None if it is the former."""
    found = {}
    for study, points in pd.read_csv(file).groupby("study", sort=False):
        by_role = {row.role: row for row in points.itertuples()}
        tuned = next((row for role, row in by_role.items() if role not in ("both", HAND_TUNED)), None)
        found[str(study)] = (by_role.get("both") or by_role[HAND_TUNED], tuned)
    return found


def leaderboard(file: Path) -> str:
    """Tabulate hand-tuned and best trial of each study, best first, from a sweep's leaderboard.csv."""
    table = pd.read_csv(file).sort_values("tuned", kind="stable")
    rows = [
        (method_name(row.method), measured(row.hand_tuned), measured(row.tuned), _kept(row.changed),
         measured(row.mse_hand_tuned))
        for row in table.itertuples()
    ]  # fmt: skip
    metric = short_metric(table["metric"].iloc[0])
    return _table([metric, "hand-tuned", "better of two trials", "what changed", "mse, hand-tuned"], rows)


def gae_table2(file: Path) -> str:
    """Tabulate the toy: mean ± standard deviation over trials, printed and ours."""
    rows = [
        (f"{method_name(row.method)}, {row.metric}", _spread(row.printed, row.printed_std, ".4f"),
         _spread(row.ours, row.ours_std, ".4f"))
        for row in pd.read_csv(file).itertuples()
    ]  # fmt: skip
    return _table(["", "print", "ours"], rows)


def gae_table3(file: Path) -> str:
    """Tabulate Table 3: printed FID and our distances, with the data sets of the file side by side."""
    table = pd.read_csv(file)
    parts = dict(tuple(table.groupby("dataset", sort=False)))
    columns = ["printed", "hand_tuned", "tuned"]
    header = [f"{dataset_name(name)}: {words}" for name in parts for words in ("print (FID)", "hand-tuned", "tuned")]
    cells = {name: part.set_index("method")[columns] for name, part in parts.items()}
    rows = [
        (method_name(method), *(measured(value) for part in cells.values() for value in part.loc[method]))
        for method in table["method"].unique()
    ]
    return _table(["", *header], rows)


PRINTED_ON = {"cifar10-jpeg": "cifar10"}  # the data set that the papers used in place of ours


def gae_first_points(file: Path) -> str:
    """Tabulate Table 3 for a sweep without a search: printed FID, our distance and their ratios to the VAE's."""
    table = pd.read_csv(file)
    parts = {name: part.set_index("method") for name, part in table.groupby("dataset", sort=False)}
    header = []
    for name in parts:
        theirs, ours = dataset_name(PRINTED_ON.get(name, name)), dataset_name(name)
        header += [f"{theirs}: print (FID)", f"{theirs}: print / VAE", f"{ours}: ours (fcd)", f"{ours}: ours / VAE"]
    rows = []
    for method in table["method"].unique():
        cells = []
        for part in parts.values():
            for column in ("printed", "hand_tuned"):
                value, vae = part.loc[method, column], part.loc["vae", column]
                cells += ["", ""] if math.isnan(value) else [measured(value), f"{value / vae:.2f}"]
        rows.append((method_name(method), *cells))
    return _table(["", *header], rows)


def gae_readings(first: Path, further: Path) -> str:
    """Tabulate the ratios to the VAE of further readings of Table 3, beside those of the first points."""
    table, rows = pd.read_csv(first).set_index(["dataset", "method"]), []
    for row in pd.read_csv(further).itertuples():
        vae = table.loc[(row.dataset, "vae")]
        ratios = (row.printed / vae.printed, table.loc[(row.dataset, row.method)].hand_tuned / vae.hand_tuned)
        shown = [f"{ratio:.2f}" for ratio in (*ratios, row.ours / vae.hand_tuned)]
        rows.append(
            (dataset_name(row.dataset), method_name(row.method), f"`{row.reading}`", *shown, measured(row.ours))
        )
    header = ["data set", "method", "reading", "print / VAE", "first reading / VAE", "this reading / VAE", "fcd"]
    return _table(header, rows)


def gae_ranks(file: Path) -> str:
    """Tabulate Spearman's rank correlation of print and ours in Table 3; columns of the same values have one row."""
    unique = ["dataset", "correlation", "low", "high"]
    rows = [
        (
            dataset_name(row.dataset),
            row.ours.replace("_", " "),
            f"{row.correlation:.2f} [{row.low:.2f}, {row.high:.2f}]",
        )
        for row in gae.rank_correlations(pd.read_csv(file)).drop_duplicates(unique).itertuples()
    ]
    return _table(["data set", "ours", "rank correlation [95 %]"], rows)


def gae_table4(file: Path) -> str:
    """Tabulate Table 4: ratio of training seconds to the VAE."""
    rows = []
    for row in pd.read_csv(file).itertuples():
        name = row.method if row.point == "first" else f"{row.method}, {row.point}"
        rows.append((name, f"{row.printed_ratio:.2f}", f"{row.ratio:.2f}"))
    return _table(["seconds over the VAE's", "print", "ours"], rows)


def gammas(file: Path) -> str:
    """Tabulate computed and learned gamma: mean ± standard deviation over seeds, a column per rule."""
    table = pd.read_csv(file)
    rules = list(table["gamma"].unique())
    rows = []
    for metric, cells in table.groupby("metric", sort=False):
        by_rule = cells.set_index("gamma")
        values = [_spread(by_rule.loc[rule, "mean"], by_rule.loc[rule, "std"], "g") for rule in rules]
        rows.append((metric, *values, f"{by_rule.loc[rules[0], 'mean'] / by_rule.loc[rules[1], 'mean']:.2f}"))
    return _table(["", *rules, f"{rules[0]} / {rules[1]}"], rows)


def kappas(file: Path) -> str:
    """Tabulate Table 1 of the Regularization paper: error and active dimensions against kappa, over epochs."""
    looks = regularization.read([file])
    active = looks[looks["metric"] == regularization.ACTIVE]
    law = regularization.last(looks[looks["metric"] == "variance law"]).set_index("variant")["value"]
    rows = []
    for row in regularization.table1(looks).itertuples():
        course = active[active["variant"] == f"kappa={row.kappa}"].set_index("epoch")["value"]
        seen = [epoch for epoch in (2, 6, 12, row.epochs) if epoch in course]  # a sweep has the last only
        course = ", ".join(f"{course[epoch]:.0f}" for epoch in seen)
        cells = (measured(row.printed_error), measured(row.error), f"{row.printed_active:.0f}", course)
        rows.append((row.kappa, *cells, f"{row.printed_nll:.0f}", f"{row.nll:.0f}", f"{law[f'kappa={row.kappa}']:.2f}"))
    header = ["κ", "test error, print", "ours", "active, print", f"ours after {', '.join(map(str, seen))} epochs"]
    return _table([*header, "bound, print", "ours", "variance law, ours"], rows)


def control(file: Path) -> str:
    """Tabulate decoders without shortcuts: error, active dimensions and KL by epoch."""
    table = pd.read_csv(file, dtype=str)
    rows = []
    for (network, initial, rate), looks in table.groupby(["network", "initialisation", "learning_rate"], sort=False):
        rows.append((network, initial, rate, *(", ".join(looks[name]) for name in ("error", "active", "kl"))))
    return _table(["network", "initialisation", "learning rate", "error", "active", "KL"], rows)


def depth(file: Path) -> str:
    """Tabulate decoders with and without shortcuts at one depth: error and active dimensions of each seed."""
    last = regularization.last(pd.read_csv(file))
    last[["kappa", "seed"]] = last["variant"].str.extract(r"kappa=(\d+), seed (\d+)").astype(int)
    rows = []
    for (kappa, method), looks in last.sort_values("seed").groupby(["kappa", "method"], sort=False):
        values = {
            name: looks.loc[looks["metric"] == name, "value"] for name in (regularization.ERROR, regularization.ACTIVE)
        }
        errors = ", ".join(measured(value) for value in values[regularization.ERROR])
        active = ", ".join(f"{value:.0f}" for value in values[regularization.ACTIVE])
        rows.append((f"{method.removeprefix('VAE, ').partition(' ')[0]}, κ = {kappa}", errors, active))
    seeds = ", ".join(map(str, sorted(last["seed"].unique())))
    return _table([f"decoder, seeds {seeds}", "error", "active"], sorted(rows))


def gamma_fixed(file: Path) -> str:
    """Tabulate Table 2 of the Regularization paper: gamma learned, then fixed at the learned value."""
    ours = regularization.read([file])
    theirs = printed("regularization", 2).rename(columns={"printed": "value"})
    rows = []
    for name, looks in ((f"print, {name}", rows) for name, rows in theirs.groupby("dataset", sort=False)):
        rows.append((name, *_learned_and_fixed(looks), "", ""))
    for name, looks in regularization.last(ours).groupby("dataset", sort=False):
        by = looks.set_index(["variant", "metric"])["value"]
        active = [f"{by[variant, regularization.ACTIVE]:.0f}" for variant in regularization.RULES]
        label = f"ours, {dataset_name(name)}, gamma* {measured(by['fixed gamma = gamma*', 'gamma'])}"
        rows.append((label, *_learned_and_fixed(looks), *active))
    parts = [f"{metric}, {words}" for metric in ("error", "MMD") for words in ("learned", "fixed", "fixed / learned")]
    return _table(["", *parts, "active, learned", "active, fixed"], rows)


def _learned_and_fixed(looks: pd.DataFrame) -> list[str]:
    by = looks.set_index(["variant", "metric"])["value"]
    cells = []
    for metric in ("Rec. Err.", "MMD"):
        learned, fixed = (float(by[variant, metric]) for variant in regularization.RULES)
        cells += [measured(learned), measured(fixed), f"{fixed / learned:.2f}"]
    return cells


def vg_losses(*files: Path) -> str:
    """Tabulate a table of the VG paper with a column per file: `print`, then each with its difference in percent.

    A cell is empty if the run of its file ended before that epoch.
    """
    found = {file.stem.removeprefix("vg_mnist").strip("_") or "first point": vg.beside_print([file]) for file in files}
    parts = []
    for _, cells in pd.concat(found, names=["run"]).reset_index("run").groupby(["table", "variant"], sort=False):
        runs = list(cells["run"].unique())
        rows = []
        for epoch, values in cells.groupby("epoch"):
            ours = values.set_index("run")
            shown = {run: f"{_loss(row.measured)} ({row.difference:+.1f} %)" for run, row in ours.iterrows()}
            rows.append((epoch, _loss(values["printed"].iloc[0]), *(shown.get(run, "") for run in runs)))
        first = cells.iloc[0]
        header = [f"{first['table']}, {first['variant']}, epoch", "print", *(run.replace("_", " ") for run in runs)]
        parts.append(_table(header, rows))
    return "\n\n".join(parts)


def aae_differences(file: Path) -> str:
    """Tabulate Tables 1 to 5 of the AAE paper as differences to AAE."""
    return aae.text(aae.differences(pd.read_csv(file)))


def aae_sigma(file: Path) -> str:
    """Tabulate Figure 10 of the AAE paper: median of sigma by epoch, deviation of the codes, and the distance."""
    table = pd.read_csv(file)
    epochs = sorted(table["epoch"].unique())
    rows = []
    for point, looks in table.fillna({"point": "first point"}).groupby("point", sort=False):
        by = looks.set_index("epoch")
        last = by.loc[epochs[-1]]
        rows.append(
            (
                point,
                *(readable(by.loc[epoch, "q50"]) for epoch in epochs),
                measured(last["code_std"]),
                measured(last["fcd"]),
            )
        )
    return _table(
        ["median of sigma", *(f"epoch {epoch}" for epoch in epochs), "deviation of codes", "fcd at the end"], rows
    )


def paper_hours(file: Path) -> str:
    """Tabulate the core-hours of the presets of the papers, from tests/benchmarks/papers.py."""
    rows = [
        (f"`{row.preset}`", row.trainings, row.epochs, row.first, measured(row.hours_of_first),
         measured(row.hours_of_all), "" if pd.isna(row.pflop_of_all) else measured(row.pflop_of_all))
        for row in pd.read_csv(file).itertuples()
    ]  # fmt: skip
    header = ["preset", "trainings", "epochs of one", "measured", "core-hours of one", "of all", "PFLOP of all"]
    return _table(header, rows)


TABLES: dict[str, Callable[..., str]] = {
    maker.__name__: maker
    for maker in (
        confirmed, searches, leaderboard, gae_table2, gae_table3, gae_first_points, gae_readings, gae_ranks, gae_table4,
        gammas, kappas, control, depth, gamma_fixed, vg_losses, aae_differences, aae_sigma, paper_hours,
    )
}  # fmt: skip


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return markdown(pd.DataFrame(list(rows), columns=header))


def _kept(changed: object) -> str:
    return "hand-tuned point kept" if pd.isna(changed) else str(changed)


def _spread(mean: float, std: float, form: str) -> str:
    return format(mean, form) if pd.isna(std) else f"{mean:{form}} ± {std:{form}}"


def _loss(value: float) -> str:
    return f"{value:,.1f}" if value < 10_000 else f"{value:,.0f}"


def stale() -> list[Path]:
    """Return the pages that differ from their files."""
    return [page for page in PAGES if filled(text := page.read_text(encoding="utf-8")) != text]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.papers.pages", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page would change")
    flags = parser.parse_args(argv)
    try:
        changed = stale()
    except ValueError as error:
        parser.error(str(error))
    for page in changed:
        print(page.relative_to(ANALYSIS.parent))
        if not flags.check:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    if flags.check and changed:
        parser.error("these pages differ from analysis/measured; run the command without --check")


if __name__ == "__main__":
    main()
