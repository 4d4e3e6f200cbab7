"""How the fsd ranks models, beside the labelled fcd and NDB, and whether it grows with damage to images.

    python tests/benchmarks/judges.py cifar10-jpeg --data-root data [--image-size 16] [--images 10000] [--epochs 6]

Small models of seven methods, each after its first and its last epoch, are scored against the validation split. Real
images are blurred, made noisy and stripped of classes in steps; each step must raise the distance.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import spearmanr
from torchvision.transforms.functional import gaussian_blur

from trainables import Config, fit
from trainables.datasets import Split, Splits, load
from trainables.evaluate import fit_densities
from trainables.method import Method, as_images
from trainables.metrics import Moments, extractor, frechet_distance, reference
from trainables.metrics.ndb import bins, difference
from trainables.paper import paper_point

METHODS = {
    "vae": {},
    "beta_vae": {"beta": 0.1},
    "beta_vae 10": {"beta": 10.0},
    "wae": {},
    "rae_l2": {},
    "gae": {"components": 10},
    "gae 50": {"components": 50},
}
BLURS, NOISES, CLASSES_LOST = (0.5, 1.0, 2.0), (0.05, 0.1, 0.2), (1, 3, 6)  # pixels; of the range; of ten


def subset(splits: Splits, n: int) -> Splits:
    """Returns the data set with n training images."""
    part = np.random.default_rng(0).permutation(len(splits.train))[:n]
    labels = None if splits.train.labels is None else splits.train.labels[part]
    return replace(splits, train=Split(splits.train.images[part], labels))


def models(splits: Splits, epochs: int, network: str):
    """Trains each method and yields its name, epoch and model after the first and the last epoch."""
    images = torch.tensor(splits.train.images)
    for name, changes in METHODS.items():
        method = name.split()[0]
        values = paper_point(method, splits, None) | {"network": network, "batch_size": 100} | changes
        config = Config(method=method, dataset=splits.name, values=values, epochs=epochs)
        for report in fit(config, images):
            if report.epoch in (1, epochs):
                with torch.no_grad():
                    fit_densities(report.method.eval(), images, seed=0)
                yield name, report.epoch, report.method
                report.method.train()


@torch.no_grad()
def drawn(method: Method, n: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.cat([method.sample(500) for _ in range(n // 500)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--network", default="mlp_256_256")
    a = parser.parse_args()
    torch.set_num_threads(1)
    splits = subset(load(a.dataset, a.data_root, size=a.image_size), a.images)
    valid = Split(*(part[:5000] for part in (splits.valid.images, splits.valid.labels)))
    judges = {metric: extractor(metric, splits) for metric in ("fsd", "fcd")}
    real = {metric: reference(judge, valid.images) for metric, judge in judges.items()}
    cells = bins(splits.train.images)

    @torch.no_grad()
    def score(images: torch.Tensor) -> dict[str, float]:
        found = {
            metric: frechet_distance(Moments.of(torch.cat([judge(part) for part in images.split(500)])), real[metric])
            for metric, judge in judges.items()
        }
        return found | {"ndb": difference(cells, images).js}

    rows = []
    for name, epoch, method in models(splits, a.epochs, a.network):
        rows.append(score(drawn(method, a.samples)))
        print(f"{name}, epoch {epoch}: " + ", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
    for other in ("fcd", "ndb"):
        rank = spearmanr([row["fsd"] for row in rows], [row[other] for row in rows]).statistic
        print(f"Spearman's correlation of fsd with {other} over {len(rows)} models: {rank:.2f}")

    test = as_images(torch.tensor(splits.test.images[: a.samples]))
    labels = splits.test.labels[: a.samples]
    noise = torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    damages = {
        "blur": [gaussian_blur(test, 9, sigma) for sigma in BLURS],
        "noise": [(test + sigma * noise).clamp(0, 1) for sigma in NOISES],
        "classes lost": [test[torch.tensor(labels >= k)] for k in CLASSES_LOST],
    }
    whole = score(test)
    for damage, steps in damages.items():
        for metric in judges:
            values = [whole[metric], *(score(images)[metric] for images in steps)]
            grows = "grows" if values == sorted(values) else "does not grow"
            print(f"{damage}: {metric} {grows}, {', '.join(f'{value:.3g}' for value in values)}", flush=True)


if __name__ == "__main__":
    main()
