"""Comparison of our runs with Tables 1-4 of the VG paper by epoch.

    python -m analysis.papers.vg FILE.csv [FILE.csv ...]

FILE is written by `python -m trainables.reproductions.vg --out FILE.csv`. The print continues to epoch 10 in Figures 11
and 13, whose logs include the tables' numbers. Both sides use the print's units: test loss in nats per image, training
loss as a sum over a batch of 2000.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.load import read_published

KEYS = ["method", "variant", "metric", "epoch"]
TABLES = {
    ("MLP VAE-GAN", "test set loss"): "Table 1",
    ("MLP VAE-GAN", "average training loss"): "Table 2",
    ("denoising MLP VAE-GAN", "test set loss"): "Table 3",
    ("denoising MLP VAE-GAN", "average training loss"): "Table 4",
}
VARIANTS = {"without BatchNorm": "#0072b2", "with BatchNorm": "#d55e00"}


def printed() -> pd.DataFrame:
    """Return the ten epochs of Figures 11 and 13: method, variant, metric, epoch (int), value."""
    logs = pd.concat([read_published("VAE-GAN", log) for log in ("fig11_log", "fig13_log")])
    return logs.assign(epoch=logs["epoch"].astype(int))[[*KEYS, "value"]]


def beside_print(files: Sequence[str | Path]) -> pd.DataFrame:
    """Join measured and printed values: table, variant, epoch, printed, measured, difference in percent of the print.

    Only rows with both are kept; the last of duplicate measurements wins. Raises ValueError if a file is not such a
    table.
    """
    parts = [pd.read_csv(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if missing := [key for key in [*KEYS, "value"] if key not in part]:
            raise ValueError(f"{file} has no column {missing[0]}; give a file of trainables.reproductions.vg")
    measured = pd.concat(parts).drop_duplicates(KEYS, keep="last")[[*KEYS, "value"]]
    both = printed().merge(measured, on=KEYS, suffixes=("_printed", "_measured"))
    table = [TABLES[pair] for pair in zip(both["method"], both["metric"], strict=True)]
    found = both.rename(columns={"value_printed": "printed", "value_measured": "measured"}).assign(table=table)
    found["difference"] = 100 * (found["measured"] / found["printed"] - 1)
    order = ["table", "variant", "epoch"]
    found = found.sort_values(order, ascending=[True, False, True], ignore_index=True)
    return found[[*order, "printed", "measured", "difference"]]


def text(found: pd.DataFrame) -> str:
    """Format the comparison as Markdown."""
    lines = ["| table | variant | epoch | printed | measured | difference |", "|---|---|---|---|---|---|"]
    for row in found.itertuples():
        digits = 1 if row.printed < 10_000 else 0
        numbers = f"{row.printed:,.{digits}f} | {row.measured:,.{digits}f} | {row.difference:+.1f} %"
        lines.append(f"| {row.table} | {row.variant} | {row.epoch} | {numbers} |")
    return "\n".join(lines)


def plot(found: pd.DataFrame) -> Figure:
    """Plot one panel per table, with the print as a line and measured values as dots."""
    figure, log = Figure(figsize=(9, 6), layout="constrained"), printed()
    for axes, table in zip(figure.subplots(2, 2).flat, sorted(TABLES.values()), strict=True):
        axes.set_title(table, fontsize=10)
        method, metric = next(pair for pair, name in TABLES.items() if name == table)
        whole = log[(log.method == method) & (log.metric == metric)]
        for variant, colour in VARIANTS.items():
            line, dots = whole[whole.variant == variant], found[(found.table == table) & (found.variant == variant)]
            axes.plot(line["epoch"], line["value"], color=colour, label=f"{variant}, printed")
            axes.plot(dots["epoch"], dots["measured"], "o", color=colour, label=f"{variant}, measured")
        axes.set(xlabel="epoch", ylabel=metric)
    axes.legend(fontsize=8)
    return figure


def main(argv: Sequence[str]) -> None:
    if not argv:
        raise SystemExit("usage: python -m analysis.papers.vg FILE.csv [FILE.csv ...]")
    found = beside_print(argv)
    print(text(found))
    picture = Path(argv[0]).with_suffix(".png")
    plot(found).savefig(picture, dpi=120)
    print(f"\n{picture}")


if __name__ == "__main__":
    main(sys.argv[1:])
