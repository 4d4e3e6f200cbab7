"""Images per second of a training whose images lie on the device, on the host, or in a mapped file.

One VAE on the same images in the same order, the ways taking turns within one process, so that a slow minute of the
machine hits all of them. On a CPU "device" and "host" are the same memory. Prints medians and ratios, and the memory of
the process beside that of the images; asserts nothing.

    python tests/benchmarks/data.py --dataset mnist --data-root DIR --rounds 5
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from trainables.config import Config
from trainables.datasets import load
from trainables.feed import placed, shared
from trainables.training import Training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--network", default="mlp_500_500_2000")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    flags = parser.parse_args()
    images = np.ascontiguousarray(load(flags.dataset, flags.data_root).train.images[: flags.images])
    values = {
        "latent_dim": 10, "learning_rate": 1e-3, "likelihood": "bce", "batch_size": flags.batch,
        "network": flags.network,
    }  # fmt: skip
    config = Config(method="vae", dataset="benchmark", values=values, epochs=10_000)
    with TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        lying = {
            "device": shared(images).to(flags.device),
            "host": shared(images),
            "map": placed(np.load(f"{folder}/images.npy", mmap_mode="r"), flags.device, share=0),
        }
        trainings = {name: Training(config, where, flags.device) for name, where in lying.items()}
        seconds: dict[str, list[float]] = {name: [] for name in trainings}
        losses: dict[str, list[float]] = {name: [] for name in trainings}
        for round_ in range(flags.rounds + 1):
            for name, training in trainings.items():
                start = time.perf_counter()
                losses[name].append(training.run_epoch()["loss"])  # reads it back, so the device is done
                if round_:  # the first one warms up
                    seconds[name].append(time.perf_counter() - start)
    trained = len(images) // flags.batch * flags.batch
    print(f"{flags.dataset} {images.shape}, {flags.network}, batch {flags.batch}, {flags.device}")
    for name, times in seconds.items():
        ratio = statistics.median(first / own for first, own in zip(seconds["device"], times, strict=True))
        same = "the same losses" if losses[name] == losses["device"] else "OTHER losses"
        print(f"{name:<8} {trained / statistics.median(times):>9.0f} images/s   {ratio:.2f} x device   {same}")


if __name__ == "__main__":
    main()
