"""Tables 1-4 of the VG paper, measured here and as printed, epoch by epoch.

    python -m analysis.papers.vg FILE.csv [FILE.csv ...]

FILE is what `python -m trainables.reproductions.vg --out FILE.csv` writes. The print goes on to epoch 10 in its
figures 11 and 13, whose logs hold the tables' numbers too. Both sides are in the print's units: the test loss in nats
per image, the training loss a sum over a batch of 2000.
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
    """The ten epochs of figures 11 and 13: method, variant, metric, epoch (int), value."""
    logs = pd.concat([read_published("VAE-GAN", log) for log in ("fig11_log", "fig13_log")])
    return logs.assign(epoch=logs["epoch"].astype(int))[[*KEYS, "value"]]


def beside_print(files: Sequence[str | Path]) -> pd.DataFrame:
    """Measured beside printed: table, variant, epoch, printed, measured and difference in percent of the print.

    Rows are those measured and printed both; of a figure that was measured twice the last counts. Raises
    ValueError for a file that is no such table.
    """
    parts = [pd.read_csv(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if missing := [key for key in [*KEYS, "value"] if key not in part]:
            raise ValueError(f"{file} has no column {missing[0]}; give what trainables.reproductions.vg wrote")
    measured = pd.concat(parts).drop_duplicates(KEYS, keep="last")[[*KEYS, "value"]]
    both = printed().merge(measured, on=KEYS, suffixes=("_printed", "_measured"))
    table = [TABLES[pair] for pair in zip(both["method"], both["metric"], strict=True)]
    found = both.rename(columns={"value_printed": "printed", "value_measured": "measured"}).assign(table=table)
    found["difference"] = 100 * (found["measured"] / found["printed"] - 1)
    order = ["table", "variant", "epoch"]
    found = found.sort_values(order, ascending=[True, False, True], ignore_index=True)
    return found[[*order, "printed", "measured", "difference"]]


def text(found: pd.DataFrame) -> str:
    """The comparison as Markdown."""
    lines = ["| table | variant | epoch | printed | measured | difference |", "|---|---|---|---|---|---|"]
    for row in found.itertuples():
        digits = 1 if row.printed < 10_000 else 0
        numbers = f"{row.printed:,.{digits}f} | {row.measured:,.{digits}f} | {row.difference:+.1f} %"
        lines.append(f"| {row.table} | {row.variant} | {row.epoch} | {numbers} |")
    return "\n".join(lines)


def plot(found: pd.DataFrame) -> Figure:
    """One panel a table: the print as a line, what was measured as dots."""
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
