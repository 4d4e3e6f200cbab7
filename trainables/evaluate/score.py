"""Command line that scores a saved model or images from any source.

N images, C H W image.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainables.config import Device, ImageSize, Seed, UserPath
from trainables.datasets import Splits, load
from trainables.densities import Density
from trainables.evaluate.findings import finite
from trainables.evaluate.likelihood import likelihood
from trainables.evaluate.measures import BATCH, OfBins, OfFeatures, Real, Result
from trainables.evaluate.pictures import read_images
from trainables.evaluate.samplers import BEHIND_ANY, behind
from trainables.flags import output_file, read_flags
from trainables.method import Method, as_images
from trainables.metrics import CHOICES, Recipe, Scores, choose, default_metric, extractor, some_of, to_be_trained
from trainables.metrics.references import Watch
from trainables.metrics.scores import SCORES
from trainables.metrics.statistics import save_statistics
from trainables.progress import shown
from trainables.saved import load as load_method
from trainables.strict import StrictModel

PROG = "python -m trainables.evaluate"
PRESET_FILES = files("trainables") / "evaluate" / "presets"


class Settings(StrictModel):
    """The flags of this program."""

    source: UserPath = Field(description="folder of a saved model (config.json, ...) or of pictures, or .npy of images")
    against: UserPath | None = Field(
        None, description="pictures, .npy of images or .npz of statistics to compare with, instead of the data set"
    )
    metric: str | None = Field(None, description=f"{CHOICES}; by default fcd for data sets with labels, fsd without")
    dataset: str = Field("digits", description="data set of the model, and of the network of fcd and fsd")
    split: Literal["valid", "test"] = Field("test", description="split of the data set to use as the reference")
    scores: list[str] = Field([], description=f"any of {', '.join(sorted(SCORES))}, ndb, nll; by default the metric")
    samples: Annotated[int, Field(ge=2)] = Field(10_000, description="images drawn from a model")
    sampler: str | None = Field(
        None,
        description=f"density of the model to draw from, by default the first, or {', '.join(BEHIND_ANY)}, fitted to "
        "the codes of the training split",
    )
    whiten: bool = Field(False, description="ndb: standardise each pixel, as for CelebA")
    bin_images: Annotated[int, Field(ge=1)] | None = Field(
        None, description="ndb: number of training images to fit the bins to, by default all"
    )
    inception_splits: Annotated[int, Field(ge=1)] = Field(10, description="parts to average the Inception Score over")
    nll_images: Annotated[int, Field(ge=1)] = Field(500, description="number of real images for nll")
    seed: Seed = Field(0, description="seed of the samples")
    data_root: UserPath = Field(Path("data"), description="folder of the data sets, and for downloads")
    image_size: ImageSize | None = Field(None, description="side in pixels to resize the data set to")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour")
    fid_weights: UserPath | None = Field(None, description="file of pytorch-fid's Inception weights")
    device: Device = Field("cpu", description="cpu, cuda, cuda:1, ...")
    json_file: UserPath | None = Field(None, description="JSON file to write values, recipes and caveats to")
    save_statistics: UserPath | None = Field(None, description=".npz file for the statistics of the scored images")


class _Generated:
    """The images to score: their number, their source, and batches (B, C, H, W) in [0, 1]."""

    def __init__(self, settings: Settings, splits: Splits) -> None:
        self.settings, source = settings, settings.source
        self.method: Method | None = None
        self.density: Density | None = None  # fitted here unless it belongs to the model
        self.how = ""  # a description of how the pictures were read
        if not source.exists():
            raise ValueError(f"{source}: there is no such file or folder")
        if not (source / "config.json").exists():
            images, self.how = read_images(source, splits.shape[0])
            self.images = torch.from_numpy(images)
            self.n, self.sampler = len(self.images), "pictures"
            return
        self.method = load_method(source, settings.device)
        self.n, self.sampler = settings.samples, settings.sampler or next(iter(self.method.densities))
        if self.sampler in self.method.densities:
            return
        if self.sampler not in BEHIND_ANY:
            known = ", ".join([*self.method.densities, *BEHIND_ANY])
            raise ValueError(f"--sampler {self.sampler} is not known for this model; choose from {known}")
        if tuple(self.method.shape) != splits.shape:
            raise ValueError(
                f"--sampler {self.sampler} is fitted to {splits.name}, whose images are {splits.shape}, and those of "
                f"the model {tuple(self.method.shape)}; name its --dataset"
            )
        learned = torch.tensor(splits.train.images, device=settings.device)
        try:
            self.density = behind(self.method, learned, self.sampler, settings.seed)
        except FloatingPointError as error:
            raise ValueError(f"--sampler {self.sampler}: {error}; choose another") from None

    def for_likelihood(self) -> Method:
        """Returns the model. Raises ValueError for pictures."""
        if self.method is None:
            raise ValueError(f"nll needs a saved model, got {self.settings.source}; omit nll")
        return self.method

    def batches(self) -> Iterator[Tensor]:
        if self.method is None:
            yield from (as_images(batch) for batch in self.images.split(BATCH))
            return
        torch.manual_seed(self.settings.seed)
        for first in range(0, self.n, BATCH):
            try:
                yield finite(self._draw(self.method, min(BATCH, self.n - first)), "samples")
            except FloatingPointError:
                raise ValueError(f"{self.settings.source}: the model draws images that are not finite") from None

    def _draw(self, method: Method, n: int) -> Tensor:
        if self.density is None:
            return method.sample(n, self.sampler)
        return method.decode(self.density.sample(n))


def score(settings: Settings, watch: Watch, announce: Callable[[str], None]) -> dict[str, Any]:
    """Returns values, their recipes and caveats as JSON types.

    watch: wraps the iterators of batches, first of the real images. announce: called with a message before a network
    is trained.
    """
    splits = load(settings.dataset, settings.data_root, size=settings.image_size, channels=settings.channels)
    metric = settings.metric or default_metric(splits)
    wanted = set(settings.scores) or {choose(metric).score}
    if unknown := wanted - SCORES - {"ndb", "nll"}:
        raise ValueError(f"unknown scores {sorted(unknown)}; choose from {sorted(SCORES | {'ndb', 'nll'})}")
    generated = _Generated(settings, splits)
    real, how = _real(settings, splits)
    model = generated.for_likelihood() if "nll" in wanted else None
    features: OfFeatures | None = None
    bins: OfBins | None = None
    if wanted & SCORES or settings.save_statistics is not None:  # the network may have to be trained
        if (line := to_be_trained(metric, splits)) is not None:
            announce(line)
        net = extractor(metric, splits, fid_weights=settings.fid_weights, device=settings.device)
        split_size = max(1, generated.n // settings.inception_splits)
        features = OfFeatures(Scores(net, wanted & SCORES, split_size), splits)
    if "ndb" in wanted:
        bins = OfBins(splits, settings.whiten, settings.bin_images)
    measures = [measure for measure in (features, bins) if measure is not None]
    needs_images = (wanted & {"nll"}).union(*(measure.needs_images for measure in measures))
    if not len(real.images) and needs_images:
        raise ValueError(f"--against {settings.against} contains no images, which {sorted(needs_images)} need")

    for measure in measures:
        measure.begin(real, watch)
    with torch.no_grad():
        for batch in watch(generated.batches(), -(-generated.n // BATCH)) if measures else ():
            for measure in measures:
                measure.update(batch)
    results = [measure.result(generated.sampler) for measure in measures]
    if model is not None:
        results.append(_likelihood(model, real, settings, watch))
    if features is not None and settings.save_statistics is not None:
        save_statistics(settings.save_statistics, features.scores.moments, features.net)
    found: dict[str, Any] = {"source": str(settings.source), "values": {}, "recipes": {}, "caveats": {}}
    for result in results:
        found["values"] |= result.values
        found["recipes"] |= dict.fromkeys(result.values, result.recipe.model_dump())
        found["caveats"] |= result.caveats
    return found | {"read": [words for words in (generated.how, how) if words]}


def _real(settings: Settings, splits: Splits) -> tuple[Real, str]:
    """Returns the images to compare with, or their file of statistics, and how they were read."""
    if settings.against is None:
        held_out = getattr(splits, settings.split).images
        how = splits.reading.words() if splits.reading else ""
        return Real(some_of(held_out), settings.split, held_out), how
    split = str(settings.against)
    if settings.against.suffix == ".npz":
        return Real(np.empty((0, *splits.shape), np.uint8), split, statistics=settings.against), ""
    images, how = read_images(settings.against, splits.shape[0])
    return Real(images, split), how


def _likelihood(model: Method, real: Real, settings: Settings, watch: Watch) -> Result:
    some = torch.tensor(real.images[: settings.nll_images], device=settings.device)
    values = likelihood(model, some, settings.seed, watch)
    return Result(values, Recipe.without_extractor("likelihood", n=len(some), split=real.split, sampler="posterior"))


def main(argv: Sequence[str]) -> None:
    settings = read_flags(Settings, argv, PROG, __doc__, positional=["source"], presets=PRESET_FILES)
    for file, flag in ((settings.json_file, "--json-file"), (settings.save_statistics, "--save-statistics")):
        if file is not None:
            output_file(file, flag)

    def watch(batches: Iterator[Tensor], n: int) -> Iterator[Tensor]:
        return shown(batches, "scoring", n)

    result = score(settings, watch, lambda line: print(line, file=sys.stderr, flush=True))
    by_recipe: dict[str, list[str]] = {}
    for name, value in result["values"].items():
        by_recipe.setdefault(_words(result["recipes"][name]), []).append(f"{name} {value:.6g}")
    for recipe, values in by_recipe.items():
        print("\n".join([*values, recipe]))
    for words in result["read"]:
        print(f"read: {words}")
    for flag, words in result["caveats"].items():
        print(f"{flag}: {words}")
    if settings.json_file is not None:
        try:
            settings.json_file.write_text(json.dumps(result, indent=2) + "\n")
        except OSError as error:
            raise ValueError(f"--json-file {settings.json_file}: cannot be written ({error.strerror})") from None


def _words(recipe: dict[str, Any]) -> str:
    if recipe["extractor"] == "none":
        return f"  {recipe['metric']} of {recipe['n']} images ({recipe['sampler']}), {recipe['split']}"
    real = "an unknown number" if recipe["reference_n"] is None else recipe["reference_n"]
    protocol = Recipe(**recipe).protocol
    return (
        f"  {protocol and f'{protocol}: '}{recipe['n']} images ({recipe['sampler']}) against {real} of "
        f"{recipe['split']}, {recipe['extractor']} {recipe['fingerprint']}, resize {recipe['resize']}"
    )
