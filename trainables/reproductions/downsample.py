"""`python -m trainables.reproductions.downsample`: the row "Downsample" of the Regularization paper's Tables 3 and 4.

No model: test images at half their side and back, by the same filter both ways (methods.md 6.8). Scored against the
originals they check a pipeline of distances before anything is trained; the print has FID 39.2 and NDB .05 on CelebA
of 128 pixels. That the way down is antialiased bilinear is our reading, and both flags move the value.

    python -m trainables.reproductions.downsample --dataset celeba128 --out downsampled.npy
    python -m trainables.evaluate downsampled.npy --dataset celeba128 --metric fid --scores distance ndb

N images, C H W image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import interpolate

from trainables.config import ImageSize, UserPath
from trainables.datasets import load
from trainables.flags import read_flags, run
from trainables.method import as_images

BATCH = 500
Filter = Literal["bilinear", "bicubic"]


class Settings(BaseModel):
    """The flags of this program."""

    model_config = ConfigDict(extra="forbid")

    out: UserPath = Field(description=".npy file for the images, uint8 (N, C, H, W)")
    dataset: str = Field("celeba128", description="the print's is CelebA of 128 pixels")
    split: Literal["valid", "test"] = Field("test", description="which part of it")
    filter: Filter = Field("bilinear", description="of both resizings")
    antialias: bool = Field(True, description="smooth on the way down")
    images: Annotated[int, Field(ge=1)] = Field(10_000, description="how many, the first ones")
    data_root: UserPath = Field(Path("data"), description="where data sets lie or are downloaded to")
    image_size: ImageSize | None = Field(None, description="square side in pixels to resize to first")


def downsampled(images: Tensor, filter: Filter = "bilinear", antialias: bool = True) -> Tensor:
    """Images uint8 (N, C, H, W) at half their height and width, rounded down, and back at their own: uint8 too."""
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
        raise ValueError(f"{settings.dataset} holds no images of two pixels a side or more; name one that does")
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
