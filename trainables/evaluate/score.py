"""Scores from the command line: of a saved model, or of a folder of pictures, whoever made them.

N images, C H W image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from trainables.datasets import Splits, load
from trainables.evaluate.findings import finite
from trainables.flags import read_flags
from trainables.method import as_images
from trainables.metrics import Recipe, Scores, caveats, extractor, reference
from trainables.metrics.scores import SCORES
from trainables.saved import load as load_method

PROG = "python -m trainables.evaluate"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
BATCH = 250


class Settings(BaseModel):
    """The flags of this program."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: Path = Field(description="folder of a saved model (config.json, model.safetensors), or of pictures")
    against: Path | None = Field(None, description="folder of pictures to compare with, instead of the data set's")
    metric: str = Field("fcd", description="fcd, fid or package.module:Name")
    dataset: str = Field("digits", description="what the model was trained on; fcd takes its classifier")
    split: Literal["valid", "test"] = Field("test", description="which part of it is the reference")
    scores: list[str] = Field(["distance"], description=f"of {', '.join(sorted(SCORES))}")
    samples: Annotated[int, Field(ge=2)] = Field(10_000, description="images drawn from a model")
    sampler: str | None = Field(None, description="the model's density to draw from, by default its own")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the draws")
    data_root: Path = Field(Path("data"), description="where data sets lie or are downloaded to")
    image_size: Annotated[int, Field(ge=1)] | None = Field(None, description="square side to resize the data set to")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour")
    fid_weights: Path | None = Field(None, description="the Inception weights of pytorch-fid")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    json_file: Path | None = Field(None, description="file for values, recipe and caveats")


def read_pictures(folder: Path) -> np.ndarray:
    """All pictures of a folder, in order of their names, uint8 (N, C, H, W), grey where all of them are.

    ValueError: fewer than 2, one that cannot be read (named), or sizes or colours that differ.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise ValueError(f"{folder} holds {len(files)} pictures; at least 2 are needed ({' '.join(SUFFIXES)})")
    pictures: list[np.ndarray] = []
    for path in files:
        picture = _read(path)
        if pictures and picture.shape != pictures[0].shape:
            raise ValueError(
                f"{path} is of {_shape(picture)} and {files[0].name} of {_shape(pictures[0])}; make all alike"
            )
        pictures.append(picture)
    return np.stack(pictures).transpose(0, 3, 1, 2).copy()


def _read(path: Path) -> np.ndarray:
    """One picture as uint8 (H, W, C)."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path} does not hold 8-bit values (mode {image.mode}); save it with 8 bits")
            return np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB")).reshape(
                image.height, image.width, -1
            )
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error


def _shape(picture: np.ndarray) -> str:
    height, width, channels = picture.shape
    return f"{width} x {height} pixels of {channels} channel{'s' if channels > 1 else ''}"


def _generated(settings: Settings) -> tuple[int, str, Callable[[], Iterator[Tensor]]]:
    """How many images there are to score, where from, and batches of them, (B, C, H, W) in [0, 1]."""
    if not settings.source.exists():
        raise ValueError(f"{settings.source}: there is no such folder")
    if (settings.source / "config.json").exists():
        method = load_method(settings.source, settings.device)
        sampler = settings.sampler or next(iter(method.densities))
        if sampler not in method.densities:
            known = ", ".join(method.densities)
            raise ValueError(f"--sampler {sampler}: this model can be drawn from by {known}")

        def draws() -> Iterator[Tensor]:
            torch.manual_seed(settings.seed)
            for first in range(0, settings.samples, BATCH):
                try:
                    yield finite(method.sample(min(BATCH, settings.samples - first), sampler), "samples")
                except FloatingPointError:
                    raise ValueError(f"{settings.source}: the model draws images that are not finite") from None

        return settings.samples, sampler, draws
    pictures = torch.from_numpy(read_pictures(settings.source))
    return len(pictures), "pictures", lambda: (as_images(batch) for batch in pictures.split(BATCH))


def _reference(settings: Settings, splits: Splits) -> np.ndarray:
    if settings.against is not None:
        return read_pictures(settings.against)
    return getattr(splits, settings.split).images[:10_000]


def score(settings: Settings, watch: Callable[[Iterator[Tensor], int], Iterator[Tensor]]) -> dict[str, Any]:
    """Values, their recipe and caveats, JSON-able; `watch` sees each batch go by."""
    splits = load(settings.dataset, settings.data_root, size=settings.image_size, channels=settings.channels)
    net = extractor(settings.metric, splits, fid_weights=settings.fid_weights, device=settings.device)
    gathered = Scores(net, settings.scores)
    n, sampler, batches = _generated(settings)
    real_images = _reference(settings, splits)
    with torch.no_grad():
        for batch in watch(batches(), -(-n // BATCH)):
            if net.name.startswith("classifier-") and batch.shape[1:] != splits.shape:
                raise ValueError(f"images of shape {tuple(batch.shape[1:])}; {net.name} takes {splits.shape}")
            gathered.update(batch)
    real = reference(net, real_images)
    recipe = Recipe.of(
        net,
        n=n,
        split=settings.split if settings.against is None else str(settings.against),
        reference_n=len(real_images),
        sampler=sampler,
    )
    return {
        "source": str(settings.source),
        "values": gathered.against(real_images),
        "recipe": recipe.model_dump(),
        "caveats": caveats(gathered.moments, real),
    }


def main(argv: Sequence[str]) -> None:
    settings = read_flags(Settings, argv, PROG, __doc__, positional=["source"])
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    quiet = not screen.is_terminal

    def watch(batches: Iterator[Tensor], n: int) -> Iterator[Tensor]:
        return iter(track(batches, "scoring", n, console=screen, transient=True, disable=quiet))

    told = score(settings, watch)
    for name, value in told["values"].items():
        print(f"{name} {value:.6g}")
    recipe = told["recipe"]
    print(
        f"{recipe['n']} images ({recipe['sampler']}) against {recipe['reference_n']} of {recipe['split']}, "
        f"{recipe['extractor']} {recipe['fingerprint']}, resize {recipe['resize']}"
    )
    for flag, words in told["caveats"].items():
        print(f"{flag}: {words}")
    if settings.json_file is not None:
        try:
            settings.json_file.write_text(json.dumps(told, indent=2) + "\n")
        except OSError as error:
            raise ValueError(f"--json-file {settings.json_file}: cannot be written ({error.strerror})") from None
