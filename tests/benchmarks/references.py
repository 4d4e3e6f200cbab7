"""Our values beside those of the reference implementations, on the same PNG files with the same weights.

    python tests/benchmarks/references.py [--images 24] [--sizes 8 299] [--weights FILE] [--data-root data]

pytorch_fid always takes part; torch-fidelity and clean-fid (its mode legacy_pytorch) where they are installed. The
generated images are digits with noise. Without --weights the network is a random one, seeded: its values say
nothing of images, and everything of whether two programs do the same. At 299 pixels nobody resizes.
"""

import argparse
import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from trainables.datasets import load
from trainables.evaluate.pictures import read_pictures
from trainables.metrics import Scores
from trainables.metrics.inception import inception

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
import seeded_inception

Values = dict[str, float]


def write_images(images: np.ndarray, size: int, folder: Path) -> str:
    """uint8 (N, 1, H, W) as PNG files of size x size."""
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).resize((size, size), Image.Resampling.BILINEAR).save(folder / f"{i:05}.png")
    return str(folder)


def ours(fake: str, real: str, weights: Path) -> Values:
    scores = Scores(inception(weights), ("distance", "kid", "neighbourhoods", "inception_score"), split_size=None)
    for batch in torch.from_numpy(read_pictures(Path(fake))).split(50):
        scores.update(batch.float() / 255)
    told = scores.against(read_pictures(Path(real)), batch_size=50)
    return {name.removeprefix("fid_"): value for name, value in told.items()}


def pytorch_fid(fake: str, real: str, weights: Path) -> Values:
    from pytorch_fid import fid_score
    from pytorch_fid import inception as library

    state = torch.load(weights, weights_only=True)
    with patch.object(library, "load_state_dict_from_url", lambda *_, **__: state):
        return {"fid": fid_score.calculate_fid_given_paths([fake, real], 50, "cpu", 2048, num_workers=0)}


def clean_fid(fake: str, real: str, weights: Path) -> Values:
    from cleanfid import fid
    from cleanfid import inception_pytorch as library

    state = torch.load(weights, weights_only=True)
    with patch.object(library, "load_state_dict_from_url", lambda *_, **__: state):
        options = {"mode": "legacy_pytorch", "num_workers": 0, "use_dataparallel": False, "verbose": False}
        return {"fid": fid.compute_fid(fake, real, device=torch.device("cpu"), **options)}


def torch_fidelity(fake: str, real: str, weights: Path) -> Values:
    from torch_fidelity import calculate_metrics

    n = len(list(Path(fake).iterdir()))
    told = calculate_metrics(
        input1=fake, input2=real, feature_extractor="inception-v3-compat",  # its precision and recall want VGG-16
        feature_extractor_weights_path=str(weights), cuda=False, cache=False, verbose=False, batch_size=50,
        isc=True, fid=True, kid=True, prc=True, isc_splits=1, kid_subsets=1, kid_subset_size=n,
        prc_neighborhood=5,
    )  # fmt: skip
    return {
        "fid": told["frechet_inception_distance"],
        "kid": told["kernel_inception_distance_mean"],
        "precision": told["precision"],
        "recall": told["recall"],
        "inception_score": told["inception_score_mean"],
    }


PROGRAMS = {"pytorch_fid": pytorch_fid, "cleanfid": clean_fid, "torch_fidelity": torch_fidelity}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 299])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-root", default="data")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the references' own, of new versions of their libraries
    digits, n = load("digits", arguments.data_root), arguments.images
    noise = np.random.default_rng(0).normal(0, 20, digits.train.images[:n].shape)
    fake = (digits.train.images[:n] + noise).clip(0, 255).astype(np.uint8)
    print("| images | score | ours | " + " | ".join(PROGRAMS) + " |\n|" + "---|" * (3 + len(PROGRAMS)))
    with tempfile.TemporaryDirectory() as scratch:
        weights = arguments.weights or seeded_inception.write(Path(scratch, "weights.pth"))
        for size in arguments.sizes:
            images = (fake, digits.test.images[:n])
            folders = [
                write_images(x, size, Path(scratch, f"{name}{size}")) for name, x in zip("ab", images, strict=True)
            ]
            found = {"ours": ours(*folders, weights)}
            for name, program in PROGRAMS.items():
                there = importlib.util.find_spec(name) is not None
                found[name] = program(*folders, weights) if there else {}
            for score, value in found["ours"].items():
                others = [f"{found[name][score]:.8g}" if score in found[name] else "–" for name in PROGRAMS]
                print(f"| {n} of {size} px | {score} | {value:.8g} | {' | '.join(others)} |", flush=True)


if __name__ == "__main__":
    main()
