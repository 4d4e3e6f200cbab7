"""What a sweep costs beside its trials: wall time x slots / sum of trial seconds, with tracking on.

Then no-op trials, few and many, beside bare Ray Tune with re-used actors that report as often. Prints ratios;
asserts nothing.

    python tests/benchmarks/sweep.py --slots 2 --trials 20 --seconds 5 --noop-trials 200 2000
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE / "methods")  # Sleeper is found, and this file does not hide the package `sweep`


@dataclass
class Cost:
    """Seconds; `later` trials are those after the first one on each slot, whose process had to start."""

    wall: float  # from the first start to the last end
    inside: float  # of training, density fits and evaluations, all trials together
    later_wall: float  # from the last end of a first trial to the last end
    later_inside: float
    later: int  # how many


def ours(slots: int, trials: int, seconds: float, epochs: int) -> Cost:
    """A real sweep, record and tracking included."""
    from sweep.config import SweepConfig
    from sweep.driver.launch import start
    from sweep.record import read

    config = SweepConfig(
        methods=["sleeper:Sleeper"], trials=trials, epochs=epochs, first_rung=epochs, samples=2,
        set={"seconds": seconds / epochs}, concurrent=slots, out=Path(tempfile.mkdtemp()), name="overhead",
    )  # fmt: skip
    folder = start(config, announce=lambda text: None)
    events = read(folder / "record.jsonl")
    starts = [event.time for event in events if event.event == "start"]
    ends = {event.trial: event.time for event in events if event.event == "end"}
    inside = dict.fromkeys(ends, 0.0)
    for event in events:
        if event.event == "report":
            last = event.rows[-1].metrics
            inside[event.trial] += sum(value for name, value in last.items() if name.startswith("time/"))
    later = list(ends)[slots:]
    last = max(ends.values())
    return Cost(
        last - min(starts), sum(inside.values()),
        last - ends[list(ends)[slots - 1]], sum(inside[trial] for trial in later), len(later),
    )  # fmt: skip


def bare_ray(slots: int, trials: int) -> float:
    """Seconds from one end to the next of trials that do nothing, under Ray Tune alone."""
    import ray
    from ray import tune

    class Nothing(tune.Trainable):
        def step(self) -> dict:
            return {"value": 0.0, "done": True}

        def reset_config(self, new_config: dict) -> bool:
            return True

    class Ends(tune.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_trial_complete(self, iteration: int, trials: list, trial: object, **info: object) -> None:
            self.times.append(time.time())

    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_MAX_PENDING_TRIALS_PG": str(slots + 1)}
    ends = Ends()
    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tune.run(
        Nothing,
        num_samples=trials,
        reuse_actors=True,
        verbose=0,
        storage_path=tempfile.mkdtemp(),
        callbacks=[ends],
    )
    ray.shutdown()
    return (ends.times[-1] - ends.times[slots - 1]) / (len(ends.times) - slots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one trial")
    parser.add_argument("--noop-trials", type=int, nargs="+", default=[100])
    flags = parser.parse_args()
    os.environ["PYTHONPATH"] = sys.path[0]  # for the workers
    cost = ours(flags.slots, flags.trials, flags.seconds, epochs=5)
    print(
        f"{flags.trials} trials of {flags.seconds:g} s on {flags.slots} slots: {cost.wall:.1f} s wall, "
        f"{cost.inside:.1f} s in trials, overhead {cost.wall * flags.slots / cost.inside:.3f} x; "
        f"processes being up {cost.later_wall * flags.slots / cost.later_inside:.3f} x"
    )
    for trials in flags.noop_trials:
        cost = ours(flags.slots, trials, 0.0, epochs=1)
        bare = bare_ray(flags.slots, trials)
        per_trial = cost.later_wall / cost.later
        own = per_trial - cost.later_inside / cost.later / flags.slots
        print(
            f"{trials} trials without epochs to speak of, per trial: ours {1000 * per_trial:.1f} ms, of which "
            f"{1000 * own:.1f} ms are not evaluation; bare Ray {1000 * bare:.1f} ms; ratio {own / bare:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
