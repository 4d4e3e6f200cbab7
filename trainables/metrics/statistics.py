"""Files of the statistics of a set of images: the format of pytorch_fid, plus the recipe.

F dimensions of a feature.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments

MEASURE = ("extractor", "fingerprint", "resize")  # must be equal on both sides of a distance


def save_statistics(path: Path, moments: Moments, extractor: Extractor) -> None:
    """Writes an .npz of mu (F,) and sigma (F, F), as pytorch_fid does, and the recipe as JSON.

    Raises ValueError for fewer than 2 images, or if the file cannot be written.
    """
    recipe = json.dumps({"n": moments.n, "metric": extractor.metric} | _measure(extractor))
    mean, covariance = moments.mean.cpu().numpy(), moments.covariance.cpu().numpy()
    try:
        with open(path, "wb") as file:  # given a name, NumPy would append a missing suffix
            np.savez(file, mu=mean, sigma=covariance, recipe=np.array(recipe))
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error


def load_statistics(path: Path, extractor: Extractor) -> tuple[Moments, int | None]:
    """Reads the moments in an .npz, and the number of images, or None if the file does not contain it.

    Files written by pytorch_fid contain only mu and sigma; they are accepted for the FID only. Raises ValueError for
    another file, non-finite values, other dimensions, or a recipe that differs from the extractor's.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in ("mu", "sigma"))
            recipe = json.loads(str(file["recipe"])) if "recipe" in file else {}
    except (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} contains no statistics (an .npz of mu and sigma): {error}") from error
    dims = extractor.dims
    if mean.shape != (dims,) or covariance.shape != (dims, dims):
        got = f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}"
        raise ValueError(f"{path}: {extractor.name} has {dims} dimensions, got {got}; use the extractor that made it")
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise ValueError(f"{path}: mu or sigma contains NaN or infinite values; create the file again")
    if not recipe and extractor.metric != "fid":
        raise ValueError(f"{path} does not contain a recipe; only --metric fid accepts such a file")
    mine = _measure(extractor)
    if recipe and (differ := [key for key in MEASURE if recipe.get(key) != mine[key]]):
        words = "; ".join(f"{key} {recipe.get(key)} instead of {mine[key]}" for key in differ)
        raise ValueError(f"{path} has another recipe ({words}); create it again with --save-statistics")
    n = recipe.get("n")
    return Moments.stated(mean, covariance, n).to(extractor.device), n


def _measure(extractor: Extractor) -> dict[str, str]:
    return dict(zip(MEASURE, (extractor.name, extractor.fingerprint, extractor.resize), strict=True))
