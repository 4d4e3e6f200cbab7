"""Core-hours that the presets of the papers take at their full budget, from a measured step of each stage.

    python -P tests/benchmarks/papers.py --out analysis/measured/paper_hours.csv

The first hand-tuned point of a preset's first study takes one step per epoch of a short budget, on random images of the
shape of its data set, in one thread; the least CPU time of each stage counts. It is scaled to the images and epochs of
the full budget, and to all studies, points and seeds as if each took as long as the first: the ten methods of
gae-table3 do not. `vg` is the program of the VG paper, whose four systems are all measured. Convolutional networks take
steps of BATCH images, which cost most per image, so their hours are rather too many. Evaluation and fits of mixtures
are left out. PyTorch counts the operations, forward and backward.
"""

import argparse
import csv
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import sweep.search.plan as planning
from sweep.config import PRESET_FILES, SweepConfig, read_config
from trainables.config import Config
from trainables.datasets import Split, Splits
from trainables.flags import preset_names
from trainables.paper import paper_point
from trainables.reproductions import vg
from trainables.training import Training

BATCH, EPOCHS = 10, 6
SHAPES = {
    "mnist": (60_000, 1, 28), "fashion_mnist": (60_000, 1, 28), "emnist": (112_800, 1, 28), "svhn": (73_257, 3, 32),
    "cifar10": (50_000, 3, 32), "cifar10-jpeg": (50_000, 3, 32), "ffhq": (60_000, 3, 128),
    "celeba64": (182_637, 3, 64), "celeba64_nn": (182_637, 3, 64), "celeba64_140": (182_637, 3, 64),
    "celeba128": (182_637, 3, 128),
}  # fmt: skip # training and validation images, which a trial scored on the test split trains on; channels; side


def shaped(name: str, root: object, size: int | None = None, channels: int | None = None, **_: object) -> Splits:
    """A data set of random images, as many as the check of a plan needs."""
    _, own, side = SHAPES[name]
    shape = (1_100, channels or own, size or side, size or side)
    split = Split(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    return Splits(name, name.removesuffix("-jpeg"), split, split, split)


def measure(
    method: str, values: dict[str, Any], images: torch.Tensor, epochs: int, steps: int = EPOCHS
) -> tuple[float, float]:
    """CPU seconds and operations per image of a whole training of `epochs` epochs, from as many `steps`."""
    given = dict(values)
    if not given["network"].startswith(("mlp", "residual", "plain", "aae")):
        given["batch_size"] = BATCH
    batch = given["batch_size"]
    images = images.repeat(math.ceil(batch / len(images)), 1, 1, 1)[:batch]
    training = Training(Config(method=method, dataset="benchmark", values=given, epochs=steps), images)
    seconds, operations = defaultdict(list), {}
    while not training.finished:
        start = time.process_time()
        training.run_epoch()
        seconds[training.stage.name].append(time.process_time() - start)
        if not training.finished and training.stage_epoch == training.stage.epochs - 1:  # not with a stage's inputs
            try:
                with FlopCounterMode(display=False) as counter:
                    training.run_epoch()
            except RuntimeError:  # PyTorch cannot count the weights' parametrisations of spectral norm
                operations[training.stage.name] = math.nan
                break
            operations[training.stage.name] = counter.get_total_flops()
    stages = {stage.name: stage.epochs for stage in training.method.stages(epochs)}
    total = sum(min(of) * stages[name] for name, of in seconds.items())
    return total / batch, sum(count * stages[name] for name, count in operations.items()) / batch


def of_vg(epochs: int = 10) -> dict[str, Any]:
    """The row of the VG program: two steps of each system, which have one stage and batches of 2000."""
    splits = shaped("mnist", None)
    images, found = torch.from_numpy(splits.train.images), []
    for system in vg.ROWS:
        found.append(measure(system, paper_point(system, splits, None), images, epochs, steps=2))
    seconds, operations = np.array(found).T * SHAPES["mnist"][0]
    return {
        "preset": "vg", "trainings": len(found), "epochs": epochs, "first": "vg-mnist, mlp_vg",
        "hours_of_first": f"{seconds[0] / 3600:.3g}", "hours_of_all": f"{seconds.sum() / 3600:.3g}",
        "pflop_of_all": f"{operations.sum() / 1e15:.3g}",
    }  # fmt: skip


def of_preset(name: str, seen: dict[tuple, tuple[float, float]]) -> dict[str, Any]:
    """The row of a preset. seen: what was measured before, by method, network, shape and epochs."""
    config = read_config(SweepConfig, ["--preset", name], "benchmark", "")
    with torch.device("meta"):  # a plan needs no weights
        plan = planning.plan(config)
    first = plan.studies[0]
    values, images = dict(first.spec.space.paper[0].values), torch.from_numpy(plan.splits[first.dataset].train.images)
    key = (first.method, values["network"], images.shape[1:], config.epochs)
    if key not in seen:
        seen[key] = measure(first.method, values, images, config.epochs)
    trained = sum(study.spec.trials * SHAPES[study.dataset][0] for study in plan.studies)
    seconds, operations = seen[key]
    return {
        "preset": name, "trainings": sum(study.spec.trials for study in plan.studies), "epochs": config.epochs,
        "first": f"{first.name}, {values['network']}",
        "hours_of_first": f"{seconds * SHAPES[first.dataset][0] / 3600:.3g}",
        "hours_of_all": f"{seconds * trained / 3600:.3g}", "pflop_of_all": f"{operations * trained / 1e15:.3g}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name for name in preset_names(PRESET_FILES) if "toy" not in name and "tuned" not in name]
    names.append("vg")
    parser.add_argument("--presets", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the workers of a sweep do
    planning.load = shaped
    rows, seen = [], {}
    for name in flags.presets:
        rows.append(of_vg() if name == "vg" else of_preset(name, seen))
        print(rows[-1], flush=True)
        with flags.out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
