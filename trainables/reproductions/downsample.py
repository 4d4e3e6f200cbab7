"""`python -m trainables.reproductions.downsample`: the row "Downsample" of the Regularization paper's Tables 3 and 4.

It uses no model: test images are resized to half their side and back, with the same filter (methods.md 6.8). Their
scores against the originals check a pipeline of distances before any training; the print has FID 39.2 and NDB .05 on
CelebA of 128 pixels. Antialiased bilinear downsampling is our interpretation, and both flags change the value.

    python -m trainables.reproductions.downsample --dataset celeba128 --images 20000 --out downsampled.npy
    python -m trainables.evaluate downsampled.npy --dataset celeba128 --metric fid
    python -m trainables.evaluate downsampled.npy --preset regularization-table4

N images, C H W image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from trainables.config import ImageSize, UserPath
from trainables.datasets import load
from trainables.flags import read_flags, run
from trainables.method import as_images
from trainables.strict import StrictModel

BATCH = 500
Filter = Literal["bilinear", "bicubic"]


class Settings(StrictModel):
    """The flags of this program."""

    out: UserPath = Field(description=".npy file for the images, uint8 (N, C, H, W)")
    dataset: str = Field("celeba128", description="data set; the print uses CelebA of 128 pixels")
    split: Literal["valid", "test"] = Field("test", description="split of the data set")
    filter: Filter = Field("bilinear", description="filter of both resizes")
    antialias: bool = Field(True, description="antialias the downsampling")
    images: Annotated[int, Field(ge=1)] = Field(10_000, description="number of images, from the first")
    data_root: UserPath = Field(Path("data"), description="folder of the data sets, and for downloads")
    image_size: ImageSize | None = Field(None, description="side in pixels to resize to first")


def downsampled(images: Tensor, filter: Filter = "bilinear", antialias: bool = True) -> Tensor:
    """Resizes images uint8 (N, C, H, W) to half their height and width, rounded down, and back, as uint8."""
    height, width = images.shape[2:]
    found = []
    for batch in images.split(BATCH):
        small = interpolate(as_images(batch), (height // 2, width // 2), mode=filter, antialias=antialias)
        back = interpolate(small.clamp(0, 1), (height, width), mode=filter)  # (B, C, H, W)
        found.append((255 * back.clamp(0, 1)).round().to(torch.uint8))
    return torch.cat(found)


def main(argv: Sequence[str]) -> None:
    settings = read_flags(Settings, argv, "python -m trainables.reproductions.downsample", __doc__)
    splits = load(settings.dataset, settings.data_root, size=settings.image_size)
    if len(splits.shape) != 3 or min(splits.shape[1:]) < 2:
        raise ValueError(f"{settings.dataset} has no images of at least 2 x 2 pixels; choose another --dataset")
    images = torch.tensor(getattr(splits, settings.split).images[: settings.images])
    found = downsampled(images, settings.filter, settings.antialias)
    try:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        with open(settings.out, "wb") as stream:
            np.save(stream, found.numpy())
    except OSError as error:
        raise ValueError(f"--out {settings.out}: cannot be written ({error.strerror})") from None
    sse = (as_images(found) - as_images(images)).double().square().sum().item() / len(images)
    print(f"{len(images)} images in {settings.out}: squared error {sse:.4g} per image")


if __name__ == "__main__":
    run("python -m trainables.reproductions.downsample", main)
