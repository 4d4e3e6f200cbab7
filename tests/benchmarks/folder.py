"""A sweep on a folder of pictures that have several times the memory which the sweep may use.

Generates pictures, limits the memory of all processes of the sweep, the page cache included, by a control group of
Linux (version 1 or 2, which takes root), and prints what they used of it. Asserts nothing; a sweep that is killed for
memory says so. The default takes 11 GB of disk.

    sudo .venv/bin/python tests/benchmarks/folder.py
    sudo .venv/bin/python tests/benchmarks/folder.py --pictures 5000 --limit 3
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GROUPS = Path("/sys/fs/cgroup")
IN_FOLDER = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--limit", type=float, help="GB; default: a quarter of the decoded pictures")
    parser.add_argument("--methods", nargs="+", default=["vae"])
    parser.add_argument("--work", type=Path, help="folder for the pictures and the sweep; default: a temporary one")
    flags = parser.parse_args()
    decoded = flags.pictures * flags.side**2 * 3
    limit = int(flags.limit * 1e9) if flags.limit else decoded // 4
    with TemporaryDirectory(dir=flags.work) as work, control_group(limit) as group:
        draw(Path(work) / "pictures", flags.pictures, flags.side)
        command = [
            sys.executable, "sweep/run.py", "--datasets", f"folder:{work}/pictures", "--methods", *flags.methods,
            "--set", "network=mlp_8", "latent_dim=2", "--searcher", "none", "--trials", "1", "--epochs", "1",
            "--samples", "1000", "--metric", "pooled:Pooled", "--out", f"{work}/sweeps", "--name", "folder",
        ]  # fmt: skip
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "benchmarks" / "methods")])
        join = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        start, peak = time.monotonic(), 0
        sweep = subprocess.Popen(
            [*join, *command], cwd=ROOT, env=os.environ | {"PYTHONPATH": paths, "SWEEP_CACHE": f"{work}/cache"}
        )
        while sweep.poll() is None:
            peak = max(peak, private(group))
            time.sleep(0.2)
        print(
            f"{flags.pictures} pictures, {flags.side} pixels, {decoded / 1e9:.2f} GB decoded; "
            f"limit {limit / 1e9:.2f} GB; exit code {sweep.returncode}, private memory of all processes "
            f"{peak / 1e9:.2f} GB at most, {time.monotonic() - start:.0f} s; deleting the pictures ...",
            flush=True,
        )


def draw(folder: Path, number: int, side: int) -> None:
    """Writes JPEGs of a coloured ellipse on a coloured ground, IN_FOLDER to a folder."""
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_draw, folder, number, side), range(0, number, IN_FOLDER)))


def _draw(folder: Path, number: int, side: int, first: int) -> None:
    place = folder / f"{first // IN_FOLDER:04d}"
    place.mkdir(parents=True)
    random = np.random.default_rng(first)
    axis = np.arange(side)
    for i in range(first, min(number, first + IN_FOLDER)):
        (x, y), (a, b) = random.uniform(0, side, 2), random.uniform(side / 8, side / 2, 2)
        inside = ((axis[None] - x) / a) ** 2 + ((axis[:, None] - y) / b) ** 2 < 1
        colours = random.integers(0, 256, (2, 3), dtype=np.uint8)
        Image.fromarray(np.where(inside[..., None], *colours)).save(place / f"{i:06d}.jpg")


@contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """Yields a new control group whose processes may use so many bytes of memory, page cache included."""
    first = (GROUPS / "memory").is_dir()  # version 1
    group = GROUPS / ("memory" if first else "") / f"sweep-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
    except OSError as error:
        sys.exit(f"cannot limit memory by a control group in {group} ({error.strerror}); run this as root on Linux")
    try:
        yield group
    finally:
        while (group / "cgroup.procs").read_text():  # Ray's last processes
            time.sleep(0.2)
        group.rmdir()


def private(group: Path) -> int:
    """The bytes that the processes of a group use without a file behind them."""
    numbers = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(numbers.get("anon", numbers.get("rss", 0)))


if __name__ == "__main__":
    main()
