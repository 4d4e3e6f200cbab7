"""Comparison of our runs with Tables 1-4 and the pictures of the VG paper.

    python -m analysis.papers.vg FILE.csv [FILE.csv ...] [SYSTEM.npz ...]

The files are written by `python -m trainables.reproductions.vg --out FILE.csv --pictures FOLDER`. The print continues
to epoch 10 in Figures 11 and 13, whose logs include the tables' numbers. Both sides use the print's units: test loss in
nats per image, training loss as a sum over a batch of 2000. The files of pictures give the counterparts of Figures 12
and 14 to 16, written next to the first one: pictures.png and codes.png.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.load import MEASURED, read_published
from analysis.papers.beside import changed, read_trainings
from analysis.papers.command import inputs

OURS = tuple(MEASURED / f"vg_mnist{name}.csv" for name in ("", "_denoise_100"))  # the first points
KEYS = ["dataset", "method", "variant", "metric", "epoch"]
DATASETS = {"MNIST": "mnist"}
TABLES = {
    ("MLP VAE-GAN", "test set loss"): "Table 1",
    ("MLP VAE-GAN", "average training loss"): "Table 2",
    ("denoising MLP VAE-GAN", "test set loss"): "Table 3",
    ("denoising MLP VAE-GAN", "average training loss"): "Table 4",
}
ROWS = {"image": "test", "seen": "noisy", "reconstruction": "decoded", "sample": "sample"}
VARIANTS = {"without BatchNorm": "#0072b2", "with BatchNorm": "#d55e00"}


def printed() -> pd.DataFrame:
    """Return the ten epochs of Figures 11 and 13: dataset (ours), method, variant, metric, epoch (int), value."""
    logs = pd.concat([read_published("VAE-GAN", log) for log in ("fig11_log", "fig13_log")])
    return logs.assign(epoch=logs["epoch"].astype(int), dataset=logs["dataset"].map(DATASETS))[[*KEYS, "value"]]


def beside_print(files: Sequence[str | Path]) -> pd.DataFrame:
    """Join measured and printed values: table, variant, epoch, printed, measured, difference in percent of the print.

    Only rows with both are kept, so only those of MNIST; the last of duplicate measurements wins. Raises ValueError if
    a file is not such a table, or a system was trained with several settings.
    """
    measured = read_trainings(files, KEYS, "trainables.reproductions.vg")
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


def read_pictures(files: Sequence[str | Path]) -> dict[str, dict[str, np.ndarray]]:
    """Read files of pictures: the arrays of each, by a title with its system, latent size and epochs.

    Raises ValueError if a file is not of `trainables.reproductions.vg --pictures`.
    """
    found = {}
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            held = dict(arrays)
        if missing := [key for key in ("image", "seen", "reconstruction", "sample", "codes") if key not in held]:
            raise ValueError(f"{file} has no {missing[0]}; give a file of trainables.reproductions.vg --pictures")
        size = f"d = {held['codes'].shape[1]}, {held['epochs']} epochs"
        found[f"{held['method']}, {held['variant']}\n{size}"] = held
    return found


def pictures(found: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Plot test images, their noisy inputs if any, their reconstructions and samples; a panel for each system."""
    figure = Figure(figsize=(4.6 * min(2, len(found)), 2.2 * -(-len(found) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(found) // 2), min(2, len(found)), squeeze=False).flat
    for ax in panels:
        ax.axis("off")
    for ax, (name, held) in zip(figure.axes, found.items(), strict=False):
        noisy = not np.array_equal(held["seen"], held["image"])
        rows = {key: words for key, words in ROWS.items() if noisy or key != "seen"}
        side = held["image"].shape[-1] + 1  # with a grey line
        framed = [np.pad(held[key][:, 0], ((0, 0), (0, 1), (0, 1)), constant_values=128) for key in rows]
        tiles = [np.concatenate([*images], axis=1) for images in framed]  # (H + 1, N (W + 1)) each
        ax.axis("on")
        ax.imshow(np.concatenate(tiles), cmap="gray", vmin=0, vmax=255)
        ax.set_yticks([side * (row + 0.5) for row in range(len(rows))], [*rows.values()], fontsize=8)
        ax.set_xticks([])
        ax.set_title(name, fontsize=8)
    return figure


def codes(found: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Plot the posterior means of test images on their two principal axes, coloured by label; a panel per system."""
    figure = Figure(figsize=(2.8 * len(found), 3.0), layout="constrained")
    for ax, (name, held) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        centred = held["codes"] - held["codes"].mean(0)  # (N, D)
        plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T  # (N, 2)
        ax.scatter(*plane.T, c=held.get("labels"), cmap="tab10", s=5, lw=0)
        ax.set_title(name, fontsize=7)
        ax.tick_params(labelsize=7)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    with inputs("vg", __doc__, "FILE.csv|SYSTEM.npz", argv) as names:
        drawn = [name for name in names if name.endswith(".npz")]
        written = {}
        if tables := [name for name in names if name not in drawn]:
            found = beside_print(tables)
            print("\n".join([text(found), "", *changed(tables, KEYS)]))
            written[Path(tables[0]).with_suffix(".png")] = plot(found)
        if drawn:
            held, folder = read_pictures(drawn), Path(drawn[0]).parent
            written |= {folder / "pictures.png": pictures(held), folder / "codes.png": codes(held)}
        for file, figure in written.items():
            figure.savefig(file, dpi=120)
            print(file)


if __name__ == "__main__":
    main()
