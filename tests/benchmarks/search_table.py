"""Records the table that `search.py` judges searchers by: points trained to the end, scored on the way.

Each study has its hand-tuned points and random points of its own space, and the first eight of these again on four
further seeds. No trial is stopped and Ray is not used. Each process appends finished trainings to its own file of JSON
lines, point by point through all studies, and continues after an interruption; `--pack` writes the parquet table.

    python tests/benchmarks/search_table.py --out ROWS --data-root DIR --process 0 --of 2 &
    python tests/benchmarks/search_table.py --out ROWS --data-root DIR --process 1 --of 2 &
    python tests/benchmarks/search_table.py --out ROWS --data-root DIR --pack tests/benchmarks/search.parquet

So that a training costs seconds, all studies take the network mlp_100_100, the second stage a width of 128, the digits
batches of 60, and Fashion-MNIST batches of 100, its first 2,000 training images and its first 1,000 validation images.
Scores are fcd of 500 samples.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.pop(0)  # the file beside this one that is called sweep.py must not hide the package

import optuna
import pandas as pd
import torch

from sweep.config import SweepConfig
from sweep.search.plan import Plan, Planned, plan
from sweep.search.space import Fixed
from sweep.search.study import distribution, value_of
from trainables import Diverged, evaluator_for
from trainables.datasets import Split
from trainables.training import Training

DIGITS = ("vae", "gae", "wae", "aae", "two_stage_vae")
FASHION = ("vae", "beta_vae", "rae_l2")
EPOCHS, LEVELS = 27, (1, 3, 6, 9, 13, 18, 27)
SAMPLES = 500
AGAIN, SEEDS = 8, 5


class Task(NamedTuple):
    plan: Plan
    study: Planned
    point: int
    origin: str
    values: dict[str, Any]
    seed: int


def plans(root: Path) -> list[Plan]:
    shared = {"epochs": EPOCHS, "samples": SAMPLES, "data_root": root, "metric": "fcd"}
    small = {"network": "mlp_100_100"}
    given = small | {"batch_size": 60, "two_stage_vae.second_width": 128}
    digits = plan(SweepConfig(methods=list(DIGITS), datasets=["digits"], set=given, **shared))
    fashion = plan(
        SweepConfig(methods=list(FASHION), datasets=["fashion_mnist"], set=small | {"batch_size": 100}, **shared)
    )
    splits = fashion.splits["fashion_mnist"]
    few = replace(splits, train=first(splits.train, 2000), valid=first(splits.valid, 1000))
    return [digits, replace(fashion, splits={"fashion_mnist": few})]


def first(part: Split, count: int) -> Split:
    return replace(part, images=part.images[:count], labels=part.labels[:count])


def tasks(found: list[Plan], points: int) -> Iterator[Task]:
    """In the order that leaves the most useful table when it is cut off: a point through all studies, then the next.

    After every third point one of the first eight is trained on a further seed.
    """
    studies = [(one, study) for one in found for study in one.studies]
    drawn = {study.name: [*hand_tuned(study), *random_points(study, points)] for _, study in studies}
    again = [(point, seed) for seed in range(1, SEEDS) for point in range(min(AGAIN, points))]
    order = []
    for point in range(max(map(len, drawn.values()))):
        order.append((point, 0))
        if point % 3 == 2 and again:
            order.append(again.pop(0))
    for point, seed in [*order, *again]:
        for one, study in studies:
            if point < len(drawn[study.name]):
                yield Task(one, study, point, *drawn[study.name][point], seed)


def hand_tuned(study: Planned) -> list[tuple[str, dict[str, Any]]]:
    return [("paper", dict(point.values)) for point in study.spec.space.paper]


def random_points(study: Planned, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Uniform in the space, on its scales."""
    dimensions = study.spec.space.dimensions
    searched = {name: distribution(dim) for name, dim in dimensions.items() if not isinstance(dim, Fixed)}
    fixed = {name: dim.value for name, dim in dimensions.items() if isinstance(dim, Fixed)}
    oracle = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [oracle.ask(searched).params for _ in range(count)]
    return [("random", fixed | {name: value_of(dimensions[name], p[name]) for name in searched}) for p in drawn]


def train(task: Task) -> dict[str, Any]:
    """The training of one task: its fcd at each level that its stage lets be judged, and its CPU seconds."""
    splits = task.plan.splits[task.study.dataset]
    images = torch.tensor(splits.train.images)
    evaluator = evaluator_for(splits, "fcd", split="valid", samples=SAMPLES)
    curve: dict[int, float | None] = {}
    state = "complete"
    begun = time.process_time()
    try:
        training = Training(task.plan.fit_config(task.study, task.values, task.seed), images)
        while not training.finished:
            training.run_epoch()
            if training.finished or (training.epoch in LEVELS and training.stage.judged):
                value = evaluator(training.method, images, seed=task.seed).metrics["valid/fcd"]
                curve[training.epoch] = value if math.isfinite(value) else None
    except (Diverged, FloatingPointError):
        state = "diverged"
    row = {"study": task.study.name, "point": task.point, "origin": task.origin, "values": task.values}
    return row | {"seed": task.seed, "curve": curve, "state": state, "seconds": time.process_time() - begun}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text().splitlines()
        rows += [json.loads(line) for line in lines if line.endswith("}")]
    return rows


def pack(folder: Path, path: Path, spaces: dict[str, Any]) -> None:
    """A row per training and level, the values as JSON; `spaces` go into the table's attributes."""
    table = [
        {name: row[name] for name in ("study", "point", "origin", "seed", "state", "seconds")}
        | {"values": json.dumps(row["values"]), "epoch": int(epoch), "value": math.nan if value is None else value}
        for row in rows_of(folder)
        for epoch, value in (row["curve"] or {EPOCHS: None}).items()
    ]
    frame = pd.DataFrame(table).sort_values(["study", "point", "seed", "epoch"], ignore_index=True)
    frame.attrs = {"epochs": EPOCHS, "spaces": spaces}
    frame.to_parquet(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--points", type=int, default=60, help="random points per study")
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--of", type=int, default=1, help="how many processes share the work")
    parser.add_argument("--pack", type=Path, help="write this table from the rows instead")
    options = parser.parse_args()
    if options.pack:
        studies = [study for found in plans(options.data_root) for study in found.studies]
        spaces = {
            study.name: {
                "space": space.to_record(),
                "points": [point.to_record() for point in space.paper],
                "balance": space.balance,
            }
            for study in studies
            for space in [study.spec.space]
        }
        pack(options.out, options.pack, spaces)
        return
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    options.out.mkdir(parents=True, exist_ok=True)
    done = {(row["study"], row["point"], row["seed"]) for row in rows_of(options.out)}
    with (options.out / f"{options.process}.jsonl").open("a", buffering=1) as file:
        for number, task in enumerate(tasks(plans(options.data_root), options.points)):
            if number % options.of == options.process and (task.study.name, task.point, task.seed) not in done:
                file.write(json.dumps(train(task)) + "\n")


if __name__ == "__main__":
    main()
