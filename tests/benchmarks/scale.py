"""What the driver spends on each trial of a long sweep beside a short one, Ray bypassed.

Trials of no length go through the conductor: every suggestion, judgement, line of the record and line of the
screen is real, so what grows with the number of trials shows. Seconds of the processor, for those of the clock
depend on who else is there; the record waits for the disk besides. Prints figures; asserts nothing.

    python tests/benchmarks/scale.py --trials 200 2000
"""

import argparse
import io
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.pop(0)  # the file beside this one that is called sweep.py must not hide the package


@dataclass
class Cost:
    """Processor seconds of one sweep of `trials`; steps are a worker's tellings, each of which waits for the driver."""

    trials: int
    total: float
    asking: float  # for the next trial
    hearing: float  # and judging, writing, showing
    steps: int
    replay: float  # reading the record again and bringing the studies to where it ends


def no_ops(trials: int, methods: list[str], epochs: int) -> Cost:
    from rich.console import Console

    from sweep.config import SweepConfig
    from sweep.driver.conductor import Conductor
    from sweep.driver.resources import Resources
    from sweep.driver.screen import Screen
    from sweep.record import Record, Trials, read
    from sweep.search.plan import plan
    from sweep.search.study import Study
    from sweep.simulation.curves import Synthetic
    from sweep.simulation.simulate import Clock, run

    planned = plan(SweepConfig(methods=methods, trials=trials // len(methods), epochs=epochs))
    curves = Synthetic([s.spec for s in planned.studies], {s.name: 1.0 for s in planned.studies}, seed=0)
    resources = Resources(cpus=1, gpus=0.0, slots=8, ahead=8, total_gpus=0)
    clock, spent = Clock(), {"next": 0.0, "hear": 0.0}
    steps = 0

    class Watched(Conductor):
        def next(self, ray_id: str) -> dict | None:
            with timed("next"):
                return super().next(ray_id)

        def hear(self, ray_id: str, told: dict) -> bool:
            nonlocal steps
            steps += 1
            with timed("hear"):
                return super().hear(ray_id, told)

    class timed:
        def __init__(self, what: str) -> None:
            self.what = what

        def __enter__(self) -> None:
            self.began = time.process_time()

        def __exit__(self, *_: object) -> None:
            spent[self.what] += time.process_time() - self.began

    with tempfile.TemporaryDirectory() as folder:
        screen = Screen(planned, resources, Path(folder), Console(file=io.StringIO(), width=200))
        with Record(Path(folder) / "record.jsonl", clock, durable=False) as record:
            entries = [study.spec.to_record() for study in planned.studies]
            opening = record.append("sweep", sweep="scale", config={}, studies=entries)
            studies = {study.name: Study(study.spec, 0) for study in planned.studies}
            conductor = Watched(planned, studies, record, [opening], Path(folder), resources, screen.hear)
            began = time.process_time()
            run(conductor, curves, clock)
            total = time.process_time() - began
        began = time.process_time()
        events = read(record.path)
        for study in planned.studies:
            Study(study.spec, 0).replay(events)
        Trials.from_events(events)
        replay = time.process_time() - began
    return Cost(len(conductor.trials.trials), total, spent["next"], spent["hear"], steps, replay)


def told(cost: Cost) -> str:
    return (
        f"{cost.trials} trials: {1000 * cost.total / cost.trials:.2f} ms per trial, of which asking "
        f"{1000 * cost.asking / cost.trials:.2f}; {1000 * cost.hearing / cost.steps:.2f} ms between two steps; "
        f"replay {1000 * cost.replay / cost.trials:.2f} ms per trial"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 2000], help="of all studies together")
    parser.add_argument("--methods", nargs="+", default=["vae", "beta_vae", "wae", "rae_l2", "gae"])
    parser.add_argument("--epochs", type=int, default=27)
    flags = parser.parse_args()
    per_trial = []
    for trials in flags.trials:
        cost = no_ops(trials, flags.methods, flags.epochs)
        print(told(cost), flush=True)
        per_trial.append(cost.total / cost.trials)
    print(f"growth {per_trial[-1] / per_trial[0]:.2f} x")


if __name__ == "__main__":
    main()
