"""Our values beside those of the reference implementations, on the same PNG files with the same weights.

    python tests/benchmarks/references.py [--images 24] [--sizes 8 299] [--weights FILE] [--data-root data]

pytorch_fid always takes part; torch-fidelity and clean-fid (its mode legacy_pytorch) where they are installed, as
the extra `test` does. The generated images are digits with noise. Without --weights the network is a random one,
seeded: its values say nothing of images, and everything of whether two programs do the same. At 299 pixels nobody
resizes.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainables.datasets import load, read_pictures
from trainables.metrics import FID, Scores
from trainables.metrics.inception import inception

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
import other_programs
import seeded_inception


def write_images(images: np.ndarray, size: int, folder: Path) -> str:
    """uint8 (N, 1, H, W) as PNG files of size x size."""
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).resize((size, size), Image.Resampling.BILINEAR).save(folder / f"{i:05}.png")
    return str(folder)


def ours(fake: str, real: str, weights: Path) -> dict[str, float]:
    """All scores by the way of torch-fidelity; by the others the distance alone."""
    shown: dict[str, float] = {}
    for metric in FID:
        more = ("kid", "neighbourhoods", "inception_score") if metric == "fid_tensorflow1" else ()
        scores = Scores(inception(weights, metric=metric), ("distance", *more), split_size=None)
        for batch in torch.from_numpy(read_pictures(Path(fake))[0]).split(50):
            scores.update(batch.float() / 255)
        shown |= scores.against(read_pictures(Path(real))[0], batch_size=50)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 299])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-root", default="data")
    arguments = parser.parse_args()
    digits, n = load("digits", arguments.data_root), arguments.images
    noise = np.random.default_rng(0).normal(0, 20, digits.train.images[:n].shape)
    fake = (digits.train.images[:n] + noise).clip(0, 255).astype(np.uint8)
    programs = list(other_programs.PROGRAMS)
    print("| images | score | ours | " + " | ".join(programs) + " |\n|" + "---|" * (3 + len(programs)))
    with tempfile.TemporaryDirectory() as scratch:
        weights = arguments.weights or seeded_inception.write(Path(scratch, "weights.pth"))
        for size in arguments.sizes:
            images = (fake, digits.test.images[:n])
            folders = [
                write_images(x, size, Path(scratch, f"{name}{size}")) for name, x in zip("ab", images, strict=True)
            ]
            found = {name: other_programs.values_of(name, *folders, weights) for name in programs}
            for score, value in ours(*folders, weights).items():
                others = [f"{found[name][score]:.8g}" if score in found[name] else "–" for name in programs]
                print(f"| {n} of {size} px | {score} | {value:.8g} | {' | '.join(others)} |", flush=True)


if __name__ == "__main__":
    main()
