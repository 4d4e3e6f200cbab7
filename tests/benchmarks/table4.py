"""Seconds per epoch of the GAE paper's ten methods at its protocol, beside the training times of its Table 4.

Each method at its first hand-tuned point (MLP 500-500-2000, batch 100), or at all of them, on the same images; the
methods take turns epoch by epoch, so that a slow minute of the machine hits all of them. VaDE is the mean of an epoch
of its pretraining and one with its mixture. Fits of mixtures are left out. Prints medians, scaled to the whole training
split, and ratios to VAE; asserts nothing.

    python tests/benchmarks/table4.py --dataset mnist --data-root DIR --rounds 5

On a machine that does other things as well, --clock cpu counts the seconds of this process alone.
"""

import argparse
import statistics
import time
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch

from analysis.load import read_published
from analysis.papers.gae import DATASETS, METHODS
from trainables.config import Config
from trainables.datasets import load
from trainables.training import Training

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def trainings(images: torch.Tensor, like: str, epochs: int, points: str) -> dict[str, Training]:
    """A training of each method (and point), by its name in print; `like` is the data set whose points fit."""
    found = {}
    for name, method in METHODS.items():
        space = tomllib.loads(files("search_spaces").joinpath(f"{method}.toml").read_text())
        hand_tuned = [point for point in space["paper"] if like in point["datasets"]]
        for point in hand_tuned if points == "all" else hand_tuned[:1]:
            config = Config(method=method, dataset="benchmark", values=point["values"], epochs=epochs)
            label = f"{name}, {point['name']}" if "name" in point else name
            found[label] = Training(config, images)
    return found


def measure(runs: dict[str, Training], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of the epochs of each run; the first half of a VaDE's are its pretraining. One epoch of each half
    warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for epoch in range(2 * (rounds + 1)):
        for name, training in runs.items():
            start = clock()
            training.run_epoch()
            if training.device.type == "cuda":
                torch.cuda.synchronize()
            if epoch % (rounds + 1):
                seconds[name].append(clock() - start)
    return seconds


def typical(seconds: list[float]) -> float:
    """The mean of the two halves' medians."""
    half = len(seconds) // 2
    return (statistics.median(seconds[:half]) + statistics.median(seconds[half:])) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--images", type=int, default=3000, help="training images of an epoch that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each half of the run, 29 at most")
    parser.add_argument("--points", choices=("first", "all"), default="first")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.set_flush_denormal(True)  # as the workers of a sweep do
    splits = load(flags.dataset, flags.data_root)
    images = torch.tensor(splits.train.images[: flags.images], device=flags.device)
    runs = trainings(images, splits.like, 2 * (flags.rounds + 1), flags.points)
    seconds = measure(runs, flags.rounds, CLOCKS[flags.clock])

    scale = len(splits.train) / len(images)
    where = torch.cuda.get_device_name() if images.device.type == "cuda" else f"CPU, {flags.threads} threads"
    print(f"{splits.name} {tuple(images.shape)} of {len(splits.train)}, batch 100, {where}, {flags.clock} clock")
    printed = read_published("gae", 4)
    theirs_called = next((name for name, ours in DATASETS.items() if splits.name in ours), "")
    printed = printed[printed["dataset"] == theirs_called].set_index("method")["value"]
    print(f"{'method':<24} {'s / epoch':>9} {'ratio':>6} {'printed s / 30 epochs':>22} {'ratio':>6}")
    vae = typical(seconds["VAE"])
    for name, own in seconds.items():
        theirs = printed.get(name.partition(",")[0])
        beside = f"{theirs:>22.0f} {theirs / printed['VAE']:>6.2f}" if theirs is not None else ""
        print(f"{name:<24} {scale * typical(own):>9.2f} {typical(own) / vae:>6.2f} {beside}")


if __name__ == "__main__":
    main()
