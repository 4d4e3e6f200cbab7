"""What the driver spends on each trial of a long sweep beside a short one, Ray bypassed.

Trials of no length go through the conductor: every suggestion, judgement, line of the record and line of the
screen is real, so what grows with the number of trials shows. Seconds of the processor, for those of the clock
depend on who else is there; the record waits for the disk besides. A shorter sweep is repeated until it has as many
trials as the longest, for the speed of a machine changes within seconds, and means are printed. Asserts nothing.

    python tests/benchmarks/scale.py --trials 200 2000
    python tests/benchmarks/scale.py --trials 600 6000 --sets 2 20 --workers 50 500
    python tests/benchmarks/scale.py --trials 600 6000 --sets 20 --workers 500

The second command has ten times the studies, with 60 trainings each; the third has ten times the trainings in each of
100 studies. It also compares different trials: a study begins with hand-tuned points and probes, which need no
suggestion and are a quarter of the trials of the short sweep, and fewer of its trials pass a rung. The growth per
suggestion and that of all else per step leave these differences out.
"""

import argparse
import io
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from itertools import cycle, pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

if sys.path[0] == str(Path(__file__).parent):
    sys.path.pop(0)  # the file beside this one that is called sweep.py must not hide the package


RECIPE = {
    "metric": "fcd", "extractor": "classifier-digits", "fingerprint": "c55509d9582a3a68", "n": 5000, "split": "valid",
    "reference_n": 300, "resize": "none", "dtype": "float32 features of 8-bit images, float64 moments",
    "grey": "as it is", "versions": {"torch": "2.15.0", "torchvision": "0.29.2", "pytorch-fid": "0.3.0"},
}  # fmt: skip
SAMPLERS = [f"sampler_{i}" for i in range(19)]


@dataclass
class Cost:
    """Processor seconds of one sweep of `trials`; steps are a worker's tellings, each of which waits for the driver."""

    trials: int
    suggested: int  # trials whose point the sampler chose; the others are hand-tuned points and probes
    total: float
    asking: float  # for the next trial
    hearing: float  # and judging, writing, showing
    steps: int
    replay: float  # reading the record again and bringing the studies to where it ends
    board: float  # what `python -m sweep board` does, without its imports
    size: int  # of the record, in bytes
    memory: int  # peak of this process at the end of the sweep, in bytes
    after: int  # and after replay and board
    course: tuple[float, ...]  # seconds per trial while each tenth of the trials was started


def copies_of_digits(folder: Path, number: int) -> list[str]:
    """Data sets of the same images under several names, so that there are as many studies of each method."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    for i in range(number):
        np.savez(folder / f"digits{i}.npz", images=images, labels=digits.target)
    return [f"file:{folder}/digits{i}.npz" for i in range(number)]


def no_ops(trials: int, methods: list[str], epochs: int, searcher: str, sets: list[str], workers: int) -> Cost:
    from rich.console import Console

    from analysis.load import read_sweep
    from analysis.tables import leaderboard, leaderboard_text
    from sweep.config import SweepConfig
    from sweep.driver.conductor import Conductor
    from sweep.driver.resources import Resources
    from sweep.driver.screen import Screen
    from sweep.record import Progress, Record, Trials, by_study, read
    from sweep.search.plan import plan
    from sweep.search.study import Study
    from sweep.simulation.curves import Synthetic
    from sweep.simulation.simulate import Clock, run
    from trainables.metrics import Recipe

    each = trials // (len(methods) * len(sets))
    planned = plan(
        SweepConfig(methods=methods, datasets=sets, trials=each, epochs=epochs, searcher=searcher, metric="fcd")
    )
    curves = Synthetic([s.spec for s in planned.studies], {s.name: 1.0 for s in planned.studies}, seed=0)
    resources = Resources(cpus=1, gpus=0.0, slots=workers, ahead=workers, total_gpus=0)
    clock, spent = Clock(), {"next": 0.0, "hear": 0.0}
    ways = {f"valid/fcd_{sampler}": Recipe(**RECIPE, sampler=sampler).model_dump() for sampler in SAMPLERS}
    steps, starts = 0, list[float]()

    class Watched(Conductor):
        def next(self, ray_id: str) -> dict | None:
            with timed("next"):
                job = super().next(ray_id)
            if job is not None:
                starts.append(time.process_time())
            return job

        def hear(self, ray_id: str, found: Progress) -> bool:
            nonlocal steps
            steps += 1
            for row in found.rows:
                row.metrics |= dict.fromkeys(ways, 12.345678901234567)
                row.recipes, row.vectors = ways, {"kl_per_dim": [0.123456789] * 10}
            with timed("hear"):
                return super().hear(ray_id, found)

    class timed:
        def __init__(self, what: str) -> None:
            self.what = what

        def __enter__(self) -> None:
            self.began = time.process_time()

        def __exit__(self, *_: object) -> None:
            spent[self.what] += time.process_time() - self.began

    with tempfile.TemporaryDirectory() as folder:
        studies = {study.name: planned.study(study) for study in planned.studies}
        screen = Screen(planned, studies, resources, Path(folder), Console(file=io.StringIO(), width=200))
        with Record(Path(folder) / "record.jsonl", clock, durable=False) as record:
            entries = [study.spec.to_record() for study in planned.studies]
            opening = record.append(
                "sweep", sweep="scale", config=planned.config.model_dump(mode="json"), studies=entries
            )
            conductor = Watched(planned, studies, record, [opening], Path(folder), resources, screen.hear)
            starts.append(began := time.process_time())
            run(conductor, curves, clock)
            total, memory = time.process_time() - began, peak()
        began = time.process_time()
        events = read(record.path)
        grouped = by_study(events)
        for study in planned.studies:
            Study(study.spec, 0).replay(grouped[study.name])
        Trials.from_events(events)
        replay = time.process_time() - began
        began = time.process_time()
        leaderboard_text(leaderboard(read_sweep(folder), profiled=False))
        board, size = time.process_time() - began, record.path.stat().st_size
    started, asking, hearing = conductor.trials.trials.values(), spent["next"], spent["hear"]
    suggested = sum(trial.origin == "search" for trial in started) - sum(len(s.spec.probes) for s in planned.studies)
    ends = [tenth * (len(starts) - 1) // 10 for tenth in range(11)]
    course = tuple((starts[b] - starts[a]) / (b - a) for a, b in pairwise(ends))
    return Cost(len(started), suggested, total, asking, hearing, steps, replay, board, size, memory, peak(), course)


def mean(costs: list[Cost]) -> Cost:
    """The means of several sweeps of the same trials."""
    *numbers, courses = zip(*map(astuple, costs), strict=True)
    return Cost(*(type(values[0])(fmean(values)) for values in numbers), tuple(map(fmean, zip(*courses, strict=True))))


def peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def found(cost: Cost) -> str:
    return (
        f"{cost.trials} trials: {1000 * cost.total / cost.trials:.2f} ms per trial, of which asking "
        f"{1000 * cost.asking / cost.trials:.2f} ({1000 * cost.asking / cost.suggested:.2f} for each of the "
        f"{cost.suggested} suggestions); {1000 * cost.hearing / cost.steps:.2f} ms between two steps, "
        f"{1000 * cost.total / cost.steps:.2f} with asking; "
        f"replay {cost.replay:.2f} s, board {cost.board:.2f} s, record {cost.size / 1e6:.1f} MB, "
        f"memory {cost.memory / 1e6:.0f} MB, {cost.after / 1e6:.0f} MB with replay and board; ms per trial in each "
        f"tenth of the sweep: {', '.join(f'{1000 * seconds:.2f}' for seconds in cost.course)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[200, 2000], help="budget of all studies together, in full trainings"
    )
    parser.add_argument("--methods", nargs="+", default=["vae", "beta_vae", "wae", "rae_l2", "gae"])
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--searcher", default="tpe")
    parser.add_argument("--sets", type=int, nargs="+", default=[1], help="number of data sets, copies of the digits")
    parser.add_argument("--workers", type=int, nargs="+", default=[8], help="number of simulated workers")
    flags = parser.parse_args()
    for name in ("sets", "workers"):
        if len(getattr(flags, name)) not in (1, len(flags.trials)):
            parser.error(f"--{name} takes one number, or one for each of the {len(flags.trials)} sweeps")
    costs = []
    # Each sweep has a new process, so that its memory is that of one driver.
    with (
        tempfile.TemporaryDirectory() as images,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        names = copies_of_digits(Path(images), max(flags.sets))
        for trials, sets, workers in zip(flags.trials, cycle(flags.sets), cycle(flags.workers)):
            times = max(flags.trials) // trials
            sweep = trials, flags.methods, flags.epochs, flags.searcher, names[:sets], workers
            cost = mean([processes.submit(no_ops, *sweep).result() for _ in range(times)])
            print(f"{times} x {found(cost)}", flush=True)
            costs.append(cost)
    few, many = costs[0], costs[-1]
    print(
        f"growth per trial {many.total / many.trials * few.trials / few.total:.2f} x; "
        f"per suggestion {many.asking / many.suggested * few.suggested / few.asking:.2f} x; "
        f"of all else per step {(many.total - many.asking) / many.steps * few.steps / (few.total - few.asking):.2f} x"
    )


if __name__ == "__main__":
    main()
