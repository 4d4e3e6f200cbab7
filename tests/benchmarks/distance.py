"""Our Fréchet distance beside pytorch_fid's on the FID's 2048 dimensions: the same value, how much faster.

    python tests/benchmarks/distance.py [--runs 3] [--threads 1]

The two alternate, so that a machine's changes of speed touch both; processor seconds, of all threads together, are
also printed, which other programs on the machine lengthen little.
"""

import argparse
import statistics
import time
import warnings

import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from threadpoolctl import threadpool_limits

from trainables.metrics import Moments, frechet_distance

DIMS, N = 2048, 5000


def moments(spread: float, generator: torch.Generator) -> Moments:
    """Of features that look like Inception's: not negative, and of very different variances."""
    scale = torch.logspace(0, -1.5, DIMS, dtype=torch.float64) * spread
    return Moments.of((torch.randn(N, DIMS, generator=generator, dtype=torch.float64) * scale).relu())


def now() -> tuple[float, float]:
    """Wall and processor seconds."""
    return time.perf_counter(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    threadpool_limits(arguments.threads)  # SciPy's
    warnings.simplefilter("ignore", DeprecationWarning)  # pytorch_fid's use of SciPy
    generator = torch.Generator().manual_seed(0)
    a, b = moments(1, generator), moments(1.1, generator)
    theirs_of = [x.numpy() for side in (a, b) for x in (side.mean, side.covariance)]
    frechet_distance(a, b)  # the first call starts the libraries
    ratios: dict[str, list[float]] = {"wall": [], "processor": []}
    for _ in range(arguments.runs):
        clocks = [now()]
        theirs = calculate_frechet_distance(*theirs_of)
        clocks.append(now())
        ours = frechet_distance(a, b)
        clocks.append(now())
        for clock, (start, middle, end) in zip(ratios, zip(*clocks, strict=True), strict=True):
            their_seconds, our_seconds = middle - start, end - middle
            ratios[clock].append(their_seconds / our_seconds)
            print(
                f"pytorch_fid {theirs:.9f} in {their_seconds:.2f} s ({clock}), ours {ours:.9f} in {our_seconds:.2f} s: "
                f"{ratios[clock][-1]:.1f} times as fast",
                flush=True,
            )
    for clock, found in ratios.items():
        ratio = statistics.median(found)
        print(f"median ratio {ratio:.1f} ({clock}) at {DIMS} dimensions, {arguments.threads} thread(s)")


if __name__ == "__main__":
    main()
