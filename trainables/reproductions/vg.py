"""`python -m trainables.reproductions.vg`: Tables 1-4 of the VG paper, per epoch, in the units of the print.

The four systems run at the first point of their search space, on all 60,000 training images, the print's 30 batches of
2000. "Average training loss" is the loss of the VAE, summed over a batch and averaged over batches; "test set loss" is
BCE + KL in nats per image of the 10,000 test images at z = mean (methods.md 7.11). The denoising systems are tested on
noisy images, and a second value is for clean ones.

Writes rows as soon as they are measured, with the columns of `analysis/published` and the recipe;
`analysis.papers.vg` compares them. `--pictures FOLDER` adds, after the last epoch of each system, a file with images
and codes of the test set, which the same program draws.

N images, C H W image, D latent.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainables.config import Config, Device, Seed, UserPath
from trainables.datasets import Split, Splits, load
from trainables.families.vg import MLPVAEGAN
from trainables.files import whole
from trainables.fit import fit
from trainables.flags import read_flags, run, scalar
from trainables.method import as_images
from trainables.paper import paper_point
from trainables.reproductions.rows import COLUMNS, add, recipe
from trainables.strict import StrictModel

System = Literal["vg", "vg_bn", "vg_denoise", "vg_denoise_bn"]
# method: table of the test loss, table of the training loss, method and variant as printed
ROWS: dict[System, tuple[int, int, str, str]] = {
    "vg": (1, 2, "MLP VAE-GAN", "without BatchNorm"),
    "vg_bn": (1, 2, "MLP VAE-GAN", "with BatchNorm"),
    "vg_denoise": (3, 4, "denoising MLP VAE-GAN", "without BatchNorm"),
    "vg_denoise_bn": (3, 4, "denoising MLP VAE-GAN", "with BatchNorm"),
}
SHOWN, CODES = 10, 2000  # images and codes of the test set in a file of pictures
TEST, TRAIN, TEST_CLEAN = "test set loss", "average training loss", "test set loss, clean input"


class Settings(StrictModel):
    """The flags of this program."""

    out: UserPath = Field(description="CSV file to append to")
    systems: list[System] = Field(list(ROWS), description="systems to train")
    epochs: Annotated[int, Field(ge=1)] = Field(5, description="5 in the tables, 10 in figures 11 and 13 of the paper")
    dataset: str = Field("mnist", description="data set; the print uses mnist")
    data_root: UserPath = Field(Path("data"), description="folder of the data sets, and for downloads")
    set: dict[str, Any] = Field({}, description="hyperparameters that override the paper's point")
    seed: Seed = Field(0, description="seed of the initialisation and the order of images")
    device: Device = Field("auto", description="auto, cpu, cuda, ...")
    pictures: UserPath | None = Field(None, description="folder for SYSTEM.npz, images and codes after the last epoch")


@torch.no_grad()
def test_loss(method: MLPVAEGAN, images: Tensor, noisy: bool) -> float:
    """Returns BCE + KL at z = mean, nats per image of test images uint8 (N, C, H, W), with the method's noise or
    clean."""
    total = 0.0
    for batch in images.split(1000):
        x = as_images(batch)  # (B, C, H, W)
        total += method.loss_at_mean(method.seen(x) if noisy else x, x).item() * len(x)
    return total / len(images)


@torch.no_grad()
def pictures(method: MLPVAEGAN, test: Split, device: str) -> dict[str, np.ndarray]:
    """Returns images uint8 (SHOWN, C, H, W): of the test set, as the encoder sees them, decoded from the mean of their
    posterior, and sampled; and codes: the means of CODES test images (N, D), with their labels (N,) if there are any.
    """
    x = as_images(torch.tensor(test.images[:CODES], device=device))  # (N, C, H, W)
    seen = method.seen(x)
    codes = method.encode(seen).mean  # (N, D)
    shown = {"image": x[:SHOWN], "seen": seen[:SHOWN], "reconstruction": method.decode(codes[:SHOWN])}
    shown["sample"] = method.sample(SHOWN)
    found = {name: (255 * images).round().byte().cpu().numpy() for name, images in shown.items()}
    found["codes"] = codes.cpu().numpy()
    return found if test.labels is None else found | {"labels": test.labels[:CODES]}


def rows(
    name: System, values: dict[str, Any], splits: Splits, settings: Settings, device: str
) -> Iterator[tuple[str, int, str, str, str, str, int, str, str]]:
    """Trains one system; yields its rows with the columns PUBLISHED."""
    test_table, train_table, method, variant = ROWS[name]
    config = Config(method=name, dataset=splits.name, values=values, epochs=settings.epochs, seed=settings.seed)
    batch = config.hyper.batch_size
    images = torch.tensor(np.concatenate([splits.train.images, splits.valid.images]), device=device)
    test = torch.tensor(splits.test.images, device=device)
    for report in fit(config, images):
        assert isinstance(report.method, MLPVAEGAN)
        found = [
            (test_table, TEST, test_loss(report.method, test, noisy=True)),
            (train_table, TRAIN, report.metrics["train/loss_vae"] * batch),
        ]
        if test_table == 3:
            found.append((test_table, TEST_CLEAN, test_loss(report.method, test, noisy=False)))
        for table, metric, value in found:
            yield "VAE-GAN", table, splits.name, method, variant, metric, report.epoch, f"{value:.4f}", ""
        if settings.pictures is not None and report.epoch == settings.epochs:
            about: dict[str, Any] = {"method": method, "variant": variant, "epochs": settings.epochs}
            settings.pictures.mkdir(parents=True, exist_ok=True)
            with whole(settings.pictures / f"{name}.npz") as part, open(part, "wb") as stream:
                np.savez_compressed(stream, **(about | pictures(report.method, splits.test, device)))


def main(argv: Sequence[str]) -> None:
    settings = read_flags(Settings, argv, "python -m trainables.reproductions.vg", __doc__)
    device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    splits = load(settings.dataset, settings.data_root)
    overrides = {key: scalar(value) for key, value in settings.set.items()}
    add(settings.out, COLUMNS, [])
    for name in settings.systems:
        point = paper_point(name, splits, None) | overrides
        for row in rows(name, point, splits, settings, device):
            given = recipe(settings.epochs, settings.seed, overrides)
            add(settings.out, COLUMNS, [(*row, *given)])
            _, _, _, _, variant, metric, epoch, value, _ = row
            print(f"{variant:<18} {metric:<26} epoch {epoch:2d}  {value}", flush=True)


if __name__ == "__main__":
    run("python -m trainables.reproductions.vg", main)
