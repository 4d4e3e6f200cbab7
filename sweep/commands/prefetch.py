"""Download data sets and the weights of the metric, for nodes without network access.

`python -m sweep prefetch [flags of sweep/run.py]`.

If the nodes of a cluster have no network access, run it on a machine that has, with the same `--data-root` and the same
SWEEP_CACHE and TORCH_HOME (or `--fid-weights`) as the sweep, on storage shared by the nodes.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from sweep.config import SweepConfig, from_flags
from sweep.driver.launch import anywhere
from sweep.search.plan import load_splits
from trainables.evaluate import evaluator_for
from trainables.metrics import cache, needs_inception


def prefetch(config: SweepConfig, say: Callable[[str], None] = print) -> None:
    """Download and prepare data sets, download the metric's weights, compute its references. Raises ValueError."""
    config = anywhere(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, splits in load_splits(config).items():
        sizes = " + ".join(str(len(part)) for part in (splits.train, splits.valid, splits.test))
        say(f"{name}: {sizes} images of {' x '.join(map(str, splits.shape))} under {config.data_root}")
        judge = evaluator_for(
            splits, config.metric, samples=config.samples, fid_weights=config.fid_weights, device=device
        )
        say(f"{name}: {judge.metric} is ready, with its references in {cache.folder()}")
    if needs_inception(config.metric) and config.fid_weights is None:
        say(f"Inception weights in {Path(torch.hub.get_dir(), 'checkpoints')}")


main = from_flags(SweepConfig, prefetch)
