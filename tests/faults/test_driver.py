"""A sweep whose driver, or whose trial's process, dies: it goes on, loses nothing and does nothing twice.

Real processes are killed. With one trial at a time the order of all events is fixed, so a sweep that was
killed and resumed must end with what an undisturbed one has, to the last digit.
"""

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from mischief import SURROUNDINGS as MISCHIEF

from sweep.record import Event, Row, Trials, read
from sweep.search.study import Spec, Study

pytestmark = pytest.mark.slow

FLAGS = ["--methods", "vae", "beta_vae"]
ROUNDS = int(os.environ.get("SWEEP_FAULT_ROUNDS", 1))  # of the killed driver, each with moments of its own
EVENTS = 36  # about as many as the sweep has; the first death is in the first third
FINDINGS = ("flag/", "density/")  # MLflow has them as tags
SYSTEM = {"memory/peak_mb": "system/memory_peak_mb"}  # MLflow has it as a system metric
BY_CLOCK = ("time/", "speed/", "memory/")  # metrics that no two runs share


@dataclass
class Recorded:
    """What the record of a sweep says."""

    events: list[Event]

    @classmethod
    def by(cls, folder: Path) -> "Recorded":
        return cls(read(folder / "record.jsonl"))

    @property
    def trials(self) -> dict[str, dict]:
        """The values, end and rows of each trial, without what the clock says."""
        found = {}
        for trial in Trials.from_events(self.events).trials.values():
            rows = {epoch: without_clock(row) for epoch, row in trial.rows.items()}
            found[trial.name] = {"values": trial.values, "state": trial.state, "rows": rows}
        return found

    @property
    def studies(self) -> list[Study]:
        entries = self.events[0].studies
        return [Study(Spec.from_record(entry), seed=0).replay(self.events) for entry in entries]

    @property
    def rungs(self) -> list[dict]:
        return [study.rungs.judged for study in self.studies]

    @property
    def rows(self) -> list[tuple[str, int]]:
        return [(e.trial, r.epoch) for e in self.events if e.event == "report" for r in e.rows]

    def attempts(self) -> dict[str, int]:
        return {name: trial.attempt for name, trial in Trials.from_events(self.events).trials.items()}

    def ended(self) -> set[str]:
        trials = Trials.from_events(self.events).trials.values()
        return {trial.name for trial in trials if trial.state not in ("running", "paused")}


def without_clock(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.metrics.items() if not name.startswith(BY_CLOCK)}


def lost_and_doubled(shown: Recorded, planned: Recorded, programs) -> tuple[int, int]:
    """Counts trials, rows and runs that are missing, and those that are there more than once."""
    sweep = shown.events[0].sweep
    runs = [trial for trial, _, _ in programs.runs(sweep) if trial is not None]
    tracked = set(programs.rows(sweep))
    expected = {(e.trial, r.epoch, SYSTEM.get(name, name)) for e in shown.events if e.event == "report"
                for r in e.rows for name in r.metrics if not name.startswith(FINDINGS)}  # fmt: skip
    ends = [event.trial for event in shown.events if event.event == "end" and event.state != "paused"]
    ends += [name for name, trial in shown.trials.items() if trial["state"] == "pruned"]  # which a close event ended
    lost = (
        len(planned.trials.keys() - set(ends))
        + len(set(planned.rows) - set(shown.rows))
        + len(planned.trials.keys() - set(runs))
        + len(expected - tracked)
    )
    doubled = sum(len(found) - len(set(found)) for found in (ends, shown.rows, runs))
    doubled += len(set(shown.rows) - set(planned.rows)) + len(shown.trials.keys() - planned.trials.keys())
    return lost, doubled


def assert_as_if_nothing_had_happened(programs, folder: Path, undisturbed: Recorded, label: str) -> Recorded:
    shown = Recorded.by(folder)
    lost, doubled = lost_and_doubled(shown, undisturbed, programs)
    print(f"{label}: {len(shown.trials)} trials, {len(shown.rows)} epochs; lost {lost}, doubled {doubled}")
    assert (lost, doubled) == (0, 0)
    assert shown.trials == undisturbed.trials
    assert shown.rungs == undisturbed.rungs
    assert not any(study.unfinished for study in shown.studies)
    assert not any(trial.state.name == "RUNNING" for study in shown.studies for trial in study.history())
    runs = programs.runs(shown.events[0].sweep)
    assert not [run for run in runs if run[1] == "RUNNING"]
    ends = {trial: outcome for trial, _, outcome in runs if trial is not None}
    assert ends == {name: trial["state"] for name, trial in shown.trials.items()}
    return shown


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, module_programs) -> Recorded:
    module_programs.sweep(*FLAGS).ends_well()
    return Recorded.by(module_programs.folder / "sweeps" / "quick")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_driver_that_dies_twice_and_is_interrupted_between(programs, undisturbed, seed):
    """Killed anywhere from its first imports on, interrupted by Ctrl-C, which says how to go on, and killed again."""
    chance = random.Random(seed)
    folder = programs.folder / "sweeps" / "quick"
    record = folder / "record.jsonl"

    def ended() -> int:
        return len(Recorded.by(folder).ended()) if record.exists() else 0

    sweep = programs.sweep(*FLAGS)
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0, 12))
    else:
        early = chance.randrange(1, EVENTS // 3)
        sweep.until(lambda: record.exists() and len(read(record)) >= early)
        time.sleep(chance.uniform(0, 0.3))
    deaths = [kill(sweep, folder)]
    sweep = programs.resume() if (folder / "config.yaml").exists() else programs.sweep(*FLAGS)

    sweep.until(lambda: ended() >= 2)
    sweep.interrupt()
    assert sweep.wait() == 130, sweep.output
    assert "Traceback" not in sweep.output
    assert f"Continue with:  python -m sweep resume {folder}" in sweep.output
    programs.wait_for_processes()
    deaths.append(Recorded.by(folder))
    assert deaths[-1].events[-1].event == "finish" and deaths[-1].events[-1].outcome == "interrupted"
    assert not [run for run in programs.runs(deaths[-1].events[0].sweep) if run[1] == "RUNNING"]

    sweep = programs.resume()
    late = chance.randrange(len(deaths[-1].events), len(undisturbed.events) + 2)  # to its last lines
    while sweep.running and len(read(record)) <= late:
        time.sleep(0.1)
    time.sleep(chance.uniform(0, 0.3))
    deaths.append(kill(sweep, folder))
    with record.open("ab") as file:
        file.write(b'{"time": 1795257000.2, "event": "rep')  # what a machine that dies leaves behind
    programs.resume().ends_well()
    label = f"seed {seed}, ended after {[len(before.events) for before in deaths]} events"
    shown = assert_as_if_nothing_had_happened(programs, folder, undisturbed, label)
    for before in deaths:
        assert shown.events[: len(before.events)] == before.events
        assert all(shown.attempts()[trial] == before.attempts()[trial] for trial in before.ended())


def kill(sweep, folder: Path) -> Recorded:
    """Kills the driver, and gives what its record says then."""
    sweep.kill()
    return Recorded.by(folder) if (folder / "record.jsonl").exists() else Recorded([])


@pytest.mark.parametrize("moment", ["imports", "checks", "ray", "begin"])
def test_ctrl_c_before_the_first_trial_has_ended(programs, moment):
    folder = programs.folder / "sweeps" / "quick"
    sweep = programs.sweep(*FLAGS)
    reached = {
        "imports": lambda: Path(f"/proc/{sweep.process.pid}/maps").read_text().count("torch") > 0,
        "checks": lambda: "sklearn" in Path(f"/proc/{sweep.process.pid}/maps").read_text(),
        "ray": lambda: programs.processes("gcs_server"),
        "begin": (folder / "record.jsonl").exists,
    }
    sweep.until(reached[moment])
    sweep.interrupt()
    assert sweep.wait() == 130, sweep.output
    assert "Traceback" not in sweep.output
    print(moment, sweep.output)
    programs.wait_for_processes()
    if moment == "begin":
        assert Recorded.by(folder).events[-1].outcome == "interrupted"
        assert "Continue with" in sweep.output
    else:
        assert not folder.exists()


def test_a_killed_process_of_a_trial(programs):
    """A trial goes on from its checkpoint in a new process; one whose process dies each time is given up. One that
    runs out of memory is given room, once. What failed is retried once its fault is mended, and the sweep extended:
    nothing else runs again, and each trial stays one run."""
    diary = programs.folder / "diary.txt"
    surroundings = MISCHIEF | {"MISCHIEF_DIARY": str(diary)}
    flags = ["--methods", "mischief:Mischief", "--trials", 7, "--retries", 1]
    output = programs.sweep(*flags, **surroundings).ends_well()
    folder = programs.folder / "sweeps" / "quick"
    shown = Recorded.by(folder)
    ends = {event.trial: event for event in shown.events if event.event == "end"}
    good, once, raises, always, hungry, starved, searched = (f"Mischief-digits-000{number}" for number in range(7))

    attempts = {name: shown.attempts()[name] for name in (good, once, raises, always, hungry, starved, searched)}
    assert attempts == {good: 1, once: 2, raises: 1, always: 2, hungry: 2, starved: 2, searched: 1}
    assert [ends[name].state for name in (good, once, raises, always, hungry, starved)] == [
        "complete", "complete", "failed", "failed", "complete", "out_of_memory",
    ]  # fmt: skip
    trials = Trials.from_events(shown.events).trials
    assert {name: dict(trial.setbacks) for name, trial in trials.items() if trial.setbacks} == {
        once: {"preempted": 1}, raises: {"failed": 1}, always: {"preempted": 1, "failed": 1},
        hungry: {"out_of_memory": 1}, starved: {"out_of_memory": 2},
    }  # fmt: skip
    assert shown.trials[searched]["state"] in ("complete", "pruned")
    assert ends[raises].reason.startswith("RuntimeError: the moon is in the wrong quarter (mischief.py:")
    assert ends[always].reason == "its process was lost 2 times" and ends[always].epoch == 3
    assert ends[raises].reason in output

    # these trained alike, so they must end with the same digits as the one that was left in peace
    assert shown.trials[once]["rows"] == shown.trials[good]["rows"] == shown.trials[hungry]["rows"]
    assert sorted(shown.rows) == sorted(set(shown.rows))
    trained = [line.split() for line in diary.read_text().splitlines()]
    first, second = dict.fromkeys(process for kind, process, _ in trained if kind == "dies_once")
    epochs = {p: [int(epoch) for kind, q, epoch in trained if (kind, q) == ("dies_once", p)] for p in (first, second)}
    assert epochs == {first: [1, 2, 3, 4, 5], second: [4, 5, 6, 7, 8, 9]}  # saved after rung 3

    outcomes = {trial: (status, outcome) for trial, status, outcome in programs.runs(shown.events[0].sweep)}
    assert outcomes[once] == ("FINISHED", "complete")
    assert outcomes[raises] == outcomes[always] == ("FAILED", "failed")
    assert outcomes[hungry] == ("FINISHED", "complete") and outcomes[starved] == ("FAILED", "out_of_memory")

    mended = programs.start("-m", "sweep", "retry", folder, **MISCHIEF).ends_well()  # without a diary all behave
    assert f"retrying: {raises}, {always}, {starved}\n" in mended
    retried = Recorded.by(folder)
    again = {raises: 2, always: 3, starved: 3}
    assert shown.attempts() | again == {name: retried.attempts()[name] for name in shown.trials}
    assert all(retried.trials[name]["rows"] == retried.trials[good]["rows"] for name in again)
    others = shown.trials.keys() - again
    assert {name: retried.trials[name] for name in others} == {name: shown.trials[name] for name in others}

    # Three of them pay for what ran again.
    programs.start("-m", "sweep", "extend", folder, "--trials", 4, **MISCHIEF).ends_well()
    extended = Recorded.by(folder)
    added = extended.trials.keys() - retried.trials
    assert added and extended.attempts() == retried.attempts() | dict.fromkeys(added, 1)
    assert {name: extended.trials[name] for name in retried.trials} == retried.trials
    assert sorted(extended.rows) == sorted(set(extended.rows))
    runs = programs.runs(extended.events[0].sweep)
    assert len(runs) == 1 + len(extended.trials)
    outcomes = {trial: outcome for trial, _, outcome in runs}
    assert outcomes == {None: "done"} | {name: trial["state"] for name, trial in extended.trials.items()}
    assert all(outcomes[name] == "complete" for name in again)
