"""What a sweep costs beside its trials: wall time x slots / sum of trial seconds, with tracking on.

Then no-op trials, beside bare Ray Tune with re-used actors that report as often. Prints ratios; asserts nothing.

    python tests/benchmarks/sweep.py --slots 2 --trials 20 --seconds 5
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE / "methods")  # Sleeper is found, and this file does not hide the package `sweep`


def ours(slots: int, trials: int, seconds: float, epochs: int) -> tuple[float, float]:
    """(wall seconds from the first start to the last end, seconds inside trials) of a real sweep with tracking."""
    from sweep.config import SweepConfig
    from sweep.launch import start
    from sweep.record import read

    config = SweepConfig(
        methods=["sleeper:Sleeper"], trials=trials, epochs=epochs, first_rung=epochs, samples=2,
        set={"seconds": seconds / epochs}, concurrent=slots, out=Path(tempfile.mkdtemp()), name="overhead",
    )  # fmt: skip
    folder = start(config, announce=lambda text: None)
    events = read(folder / "record.jsonl")
    starts = [event["time"] for event in events if event["event"] == "start"]
    ends = [event["time"] for event in events if event["event"] == "end"]
    inside = 0.0
    for event in events:
        if event["event"] == "report":
            last = event["rows"][-1]["metrics"]
            inside += sum(value for name, value in last.items() if name.startswith("time/"))
    return max(ends) - min(starts), inside


def bare_ray(slots: int, trials: int, reports: int) -> float:
    """Wall seconds of Ray Tune alone on trials that do nothing."""
    import ray
    from ray import tune

    class Nothing(tune.Trainable):
        def step(self) -> dict:
            return {"value": 0.0, "done": self.iteration + 1 >= reports}

        def reset_config(self, new_config: dict) -> bool:
            return True

    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_MAX_PENDING_TRIALS_PG": str(slots + 1)}
    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    start = time.perf_counter()
    tune.run(Nothing, num_samples=trials, reuse_actors=True, verbose=0, storage_path=tempfile.mkdtemp())
    wall = time.perf_counter() - start
    ray.shutdown()
    return wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one trial")
    parser.add_argument("--noop-trials", type=int, default=100)
    flags = parser.parse_args()
    os.environ["PYTHONPATH"] = sys.path[0]  # for the workers
    wall, inside = ours(flags.slots, flags.trials, flags.seconds, epochs=5)
    print(
        f"{flags.trials} trials of {flags.seconds:g} s on {flags.slots} slots: {wall:.1f} s wall, {inside:.1f} s in "
        f"trials, overhead {wall * flags.slots / inside:.3f} x (worker start-up included)"
    )
    wall, _ = ours(flags.slots, flags.noop_trials, 0.0, epochs=1)
    bare = bare_ray(flags.slots, flags.noop_trials, reports=1)
    print(
        f"{flags.noop_trials} no-op trials: ours {1000 * wall / flags.noop_trials:.0f} ms each, bare Ray "
        f"{1000 * bare / flags.noop_trials:.0f} ms each, ours / bare {wall / bare:.2f}"
    )


if __name__ == "__main__":
    main()
