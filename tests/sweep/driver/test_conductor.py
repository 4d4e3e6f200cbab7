"""The conductor without Ray: what it starts, whom it stops, what it writes down, and that it can be replayed."""

import errno
import json
import math
import os
import random
from collections import Counter, deque
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.air.execution import FixedResourceManager
from ray.air.execution._internal import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    RayTaskError,
)
from ray.tune import PlacementGroupFactory

from sweep.driver import actors, executor
from sweep.driver.conductor import Conductor, outside_label
from sweep.driver.inbox import Inbox
from sweep.driver.resources import Resources
from sweep.driver.stop import Stop
from sweep.record import CHECKPOINT, REPORTED, Event, Progress, Request, Row, Trials, read
from sweep.search.study import Study

METRIC = "valid/fcd"
RUNGS = (1, 3)
EPOCHS = 9


def quality(values: dict, epoch: int) -> float:
    """A stand-in for training: best at a rate of 1e-3, and better with every epoch."""
    return 100 * abs(math.log10(values["learning_rate"] / 1e-3)) + 10 / epoch + values.get("beta", 0.0)


class Tune:
    """A stand-in for Ray and its workers: runs what the conductor hands out, one step of one trial at a time.

    With one slot trials run one after the other. `saved` are the checkpoints: trial -> epoch.
    """

    def __init__(self, conductor: Conductor, slots: int = 1, saved: dict[str, int] | None = None):
        self.conductor, self.slots = conductor, slots
        self.saved = {} if saved is None else saved
        self.pending: deque[tuple[str, dict]] = deque()
        self.running: dict[str, dict] = {}
        self.reached: dict[str, int] = {}
        self.asked = 0

    def fill(self) -> None:
        while not self.conductor.exhausted:
            ray_id = f"{self.asked:05x}"
            described = self.conductor.next(ray_id)
            if described is None:
                break
            self.asked += 1
            self.pending.append((ray_id, described))
        while self.pending and len(self.running) < self.slots:
            ray_id, described = self.pending.popleft()
            self.running[ray_id] = described
            saved = self.saved.get(described["trial"], 0)
            self.reached[ray_id] = saved if saved <= described["epoch"] else 0

    def step(self, choice: int = 0) -> bool:
        """False when all is done."""
        self.fill()
        if not self.running:
            return False
        ray_id = sorted(self.running)[choice % len(self.running)]
        sent = progress_after(self.running[ray_id], self.reached[ray_id])
        self.reached[ray_id] = sent.epoch
        if sent.value is not None:  # also of a trial that is paused now
            self.saved[self.running[ray_id]["trial"]] = sent.epoch
        if not self.conductor.hear(ray_id, sent):
            del self.running[ray_id]
        return True

    def run(self) -> None:
        while self.step():
            pass


def progress_after(described: dict, epoch: int) -> Progress:
    """What a worker sends after its next step, from `epoch` on."""
    values = described["fit"]["values"]
    last = next(level for level in (*described["rungs"], EPOCHS) if level > epoch)
    rows = [row(e, quality(values, e) if e == last else None) for e in range(epoch + 1, last + 1)]
    state = "complete" if last == EPOCHS else None
    return progress(rows, state, value=quality(values, last))


def row(epoch: int, value: float | None = None) -> Row:
    metrics = {"train/loss": 1.0 / epoch} | ({} if value is None else {METRIC: value})
    return Row(epoch=epoch, stage="train", time=0.0, metrics=metrics)


def progress(rows=(), state=None, value=None, reason="") -> Progress:
    epoch = rows[-1].epoch if rows else 0
    worker = {"host": "here", "pid": 1, "device": "cpu"}
    return Progress(rows=list(rows), state=state, reason=reason, value=value, epoch=epoch, worker=worker)


def events(conductor: Conductor, kind: str | None = None) -> list[Event]:
    return [event for event in read(conductor.record.path) if kind in (None, event.event)]


def fates(conductor: Conductor) -> dict[str, tuple]:
    """What became of each trial, by the record alone."""
    trials = Trials.from_events(read(conductor.record.path)).trials.values()
    return {
        trial.name: (
            trial.values,
            trial.origin,
            trial.state,
            trial.epoch,
            {e: r.metrics for e, r in trial.rows.items()},
        )
        for trial in trials
    }


def rungs(conductor: Conductor) -> dict[str, dict]:
    return {name: study.rungs.judged for name, study in conductor.studies.items()}


# What runs


def test_studies_take_turns_by_their_share(begin):
    conductor = begin(trials=4, first_rung=9)
    Tune(conductor).run()
    started = [event.study for event in events(conductor, "start")]
    assert started == ["vae-digits", "beta_vae-digits"] * 4


def test_a_small_study_is_spread_over_a_large_one(begin):
    conductor = begin(trials=6, first_rung=9)
    small = conductor.studies["beta_vae-digits"]
    small.spec = replace(small.spec, budget_epochs=18)
    Tune(conductor).run()
    order = "".join(event.study[0] for event in events(conductor, "start"))
    assert order == "vbvvvbvv"


@pytest.mark.parametrize("slots", [1, 3])
def test_studies_spend_equal_epochs_whatever_halving_stops(begin, slots):
    conductor = begin(trials=12, slots=slots)
    Tune(conductor, slots).run()
    spent = {name: sum(t.epoch for t in conductor.trials.of(name)) for name in conductor.studies}
    assert all(abs(epochs - 12 * EPOCHS) <= EPOCHS / 2 for epochs in spent.values()), spent
    numbers = [len(conductor.trials.of(name)) for name in conductor.studies]
    states = Counter(trial.state for trial in conductor.trials.trials.values())
    assert min(numbers) > 12 and states["pruned"] > states["complete"] and conductor.places == 0


def test_a_study_whose_trials_stop_early_catches_up(begin):
    conductor = begin(trials=8)
    for number in range(6):  # every trial of the first study fails at once
        trial = conductor.next(f"{number}")
        if trial["trial"].startswith("vae"):
            conductor.hear(f"{number}", progress(state="failed"))
    started = [event.study for event in events(conductor, "start")]
    assert started == ["vae-digits", "beta_vae-digits", *4 * ["vae-digits"]]


def test_no_more_are_under_way_than_asked_for(begin):
    conductor = begin(slots=2)
    assert [conductor.next(ray_id) is None for ray_id in "abcd"] == [False, False, False, True]
    assert conductor.hear("a", progress([row(1)], "failed")) is False
    assert conductor.next("d") is not None


def test_a_trial_is_described_in_full(begin, tmp_path):
    conductor = begin(samples=50, seed=3)
    described = conductor.next("a")
    assert described["trial"] == "vae-digits-0000"
    assert described["folder"] == str(tmp_path / "quick" / "trials" / "vae-digits-0000")
    assert described["fit"]["values"] == conductor.plan.studies[0].hand_tuned_values
    assert (described["fit"]["epochs"], described["fit"]["seed"]) == (EPOCHS, 3)
    assert described["rungs"] == list(RUNGS) and described["metric"] == METRIC
    assert described["looks"] == []
    pairs = {"pairs": 2000, "inception_splits": 10, "against_training": False}
    assert described["evaluate"] == {"metric": "fcd", "split": "valid", "samples": 50} | pairs
    assert json.loads(json.dumps(described)) == described


def test_exhausted_comes_before_done(begin):
    conductor = begin(methods=["vae"], trials=2, first_rung=9)
    assert not conductor.exhausted and not conductor.done
    conductor.next("a"), conductor.next("b")
    assert conductor.exhausted and not conductor.done
    conductor.hear("a", progress(state="failed"))
    conductor.hear("b", progress(state="failed"))
    assert conductor.done


def test_what_a_stopped_trial_leaves_is_asked_for_again(begin):
    conductor = begin(methods=["vae"], trials=4, searcher="random")
    conductor.resources = Resources(1, 0.0, 9, 9, 0)
    for ray_id in "abcd":
        conductor.next(ray_id)
    assert conductor.exhausted and conductor.next("e") is None
    for ray_id, value in (("b", 10.0), ("c", 20.0), ("d", 30.0)):
        conductor.hear(ray_id, progress([row(1, value)], value=value))
    assert not conductor.exhausted and conductor.places == 1 + 3
    assert [conductor.next(ray_id)["trial"][-1] for ray_id in "efg"] == ["1", "4", "5"], "the best is promoted first"
    assert conductor.exhausted


# How trials end


def test_everything_is_in_the_record_before_it_is_used(begin):
    conductor = begin(methods=["vae"], trials=3)
    conductor.listener = lambda event, trials: seen.append(
        (events(conductor)[-1] == event, event.event == "close" or event.trial in trials.trials)
    )
    seen = []
    Tune(conductor).run()
    assert set(seen) == {(True, True)} and len(seen) == len(events(conductor)) - 1


@pytest.mark.parametrize("state", ["complete", "diverged", "failed"])
def test_what_a_worker_tells_of_an_end_is_kept(begin, tmp_path, state):
    conductor = begin(methods=["vae"])
    conductor.next("a")
    checkpoint = tmp_path / "quick" / "trials" / "vae-digits-0000" / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert conductor.hear("a", progress([row(1, 50.0)], value=50.0)) and checkpoint.exists()
    assert not conductor.hear("a", progress([row(2), row(3, 40.0)], state, 40.0, "because"))
    (end,) = events(conductor, "end")
    assert (end.trial, end.state, end.epoch, end.reason) == ("vae-digits-0000", state, 3, "because")
    assert end.worker == {"host": "here", "pid": 1, "device": "cpu"}
    assert not conductor.studies["vae-digits"].unfinished and not conductor.running
    assert not checkpoint.exists()


def test_a_trial_that_fails_before_its_next_epoch_keeps_those_it_had(begin):
    conductor = begin(methods=["vae"])
    conductor.next("a")
    conductor.hear("a", progress([row(1, 50.0)], value=50.0))
    conductor.hear("a", progress(state="failed", reason="because"))
    assert events(conductor, "end")[0].epoch == 1


def test_worse_trials_are_stopped_with_a_reason_but_never_the_hand_tuned_point(begin):
    conductor = begin(methods=["vae"], trials=4, searcher="random")
    for ray_id in "abcd":
        conductor.resources = Resources(1, 0.0, 9, 9, 0)
        conductor.next(ray_id)
    assert conductor.hear("a", progress([row(1, 99.0)], value=99.0))
    assert not conductor.hear("b", progress([row(1, 20.0)], value=20.0)), "the best of two, but two are few"
    assert not conductor.hear("c", progress([row(1, 30.0)], value=30.0))
    assert conductor.hear("d", progress([row(1, 10.0)], value=10.0))
    assert [(end.trial, end.state, end.reason) for end in events(conductor, "end")] == [
        ("vae-digits-0001", "paused", "not among those that pass the rung at epoch 1"),
        ("vae-digits-0002", "paused", "not among those that pass the rung at epoch 1"),
    ]


def test_the_last_epoch_is_complete_whatever_the_others_have(begin):
    conductor = begin(methods=["vae"], trials=6)
    Tune(conductor).run()
    states = Counter(trial.state for trial in conductor.trials.trials.values())
    assert states["complete"] >= 1 and states["pruned"] >= 1 and states.keys() == {"complete", "pruned"}
    assert all(t.epoch == EPOCHS for t in conductor.trials.trials.values() if t.state == "complete")


# Lost processes, and too little memory

LOST = ("failed", "its process was lost")


def again(conductor, ray_id: str) -> dict:
    """The next trial, which has run before."""
    described = conductor.next(ray_id)
    assert events(conductor, "start")[-1].attempt > 1
    return described


def test_another_attempt_tells_the_same_trial_and_doubles_no_row(begin):
    conductor = begin(methods=["vae"])
    first = conductor.next("a")
    conductor.hear("a", progress([row(1, 50.0)], value=50.0))
    conductor.lost("a", *LOST)
    assert again(conductor, "b") == first | {"epoch": 1}
    assert conductor.hear("b", progress([row(1, 50.0)], value=50.0))
    assert conductor.hear("b", progress([row(2), row(3, 40.0)], value=40.0))
    start, second = events(conductor, "start")
    assert second.model_copy(update={"time": start.time, "attempt": 1}) == start
    assert second.attempt == 2
    assert [r.epoch for event in events(conductor, "report") for r in event.rows] == [1, 2, 3]
    assert not events(conductor, "end")


def test_a_trial_that_gets_no_further_is_given_up(begin):
    conductor = begin(methods=["vae"], retries=1)
    conductor.next("a")
    conductor.hear("a", progress([row(1, 50.0)], value=50.0))
    conductor.lost("a", *LOST)
    again(conductor, "b")
    conductor.lost("b", *LOST)
    conductor.lost("b", "failed", "Ray says so twice")
    (end,) = events(conductor, "end")
    assert (end.state, end.epoch, end.reason) == ("failed", 1, "its process was lost 2 times")
    assert not conductor.running
    assert conductor.trials.trials["vae-digits-0000"].setbacks == {"preempted": 1, "failed": 1}


def test_a_trial_that_gets_further_each_time_is_never_given_up(begin):
    conductor = begin(methods=["vae"], trials=1, retries=1)
    conductor.next("a")
    for epoch in range(1, EPOCHS):
        conductor.hear("a", progress([row(epoch)]))
        conductor.lost("a", "preempted", "its node was lost")
        again(conductor, "a")
    conductor.hear("a", progress([row(EPOCHS, 1.0)], "complete", 1.0))
    (trial,) = conductor.trials.trials.values()
    assert (trial.state, trial.attempt, trial.setbacks) == ("complete", EPOCHS, {"preempted": EPOCHS - 1})


def test_a_training_that_hung_is_said_to_have(begin, tmp_path):
    conductor = begin(methods=["vae"])
    conductor.next("a")
    hung = tmp_path / "quick" / "trials" / "vae-digits-0000" / "hung.txt"
    hung.parent.mkdir(parents=True)
    hung.touch()
    conductor.lost("a", *LOST)  # it ended in another way
    again(conductor, "b")
    hung.write_text("Timeout (0:10:00)!")
    conductor.lost("b", *LOST)
    assert [event.reason for event in events(conductor, "lost")] == [LOST[1], "it hung (hung.txt shows where)"]


def test_a_node_lost_too_often_is_not_the_trials_fault(begin):
    """`retry` continues the trial where it was."""
    conductor = begin(methods=["vae"], retries=0)
    checkpoint = Path(conductor.next("a")["folder"]) / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert conductor.hear("a", progress([row(1, 50.0)], value=50.0))
    conductor.lost("a", "preempted", "its node was lost")
    (end,) = events(conductor, "end")
    assert (end.state, end.reason) == ("preempted", "its node was lost 1 times")
    assert not conductor.studies["vae-digits"].unfinished
    conductor.retry(["vae-digits-0000"])
    assert conductor.next("b")["epoch"] == 1 and checkpoint.exists()


def test_a_checkpoint_that_cannot_be_deleted_ends_no_sweep(begin, monkeypatch):
    conductor = begin(methods=["vae"])
    conductor.next("a")

    def stale(*_, **__):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "unlink", stale)
    assert not conductor.hear("a", progress([row(3, 40.0)], "complete", 40.0))
    assert [end.state for end in events(conductor, "end")] == ["complete"]


def test_a_checkpoint_that_cannot_be_kept_ends_no_sweep(begin, monkeypatch):
    """A trial that is paused loses its state, and starts again if it is promoted."""
    conductor = begin(methods=["vae"], trials=4)
    conductor.resources = Resources(1, 0.0, 9, 9, 0)
    for ray_id in "abcd":
        conductor.next(ray_id)
    tried = []

    def full(*_):
        tried.append(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    assert not conductor.hear("d", progress([row(1, 1e6)], value=1e6))
    assert [end.state for end in events(conductor, "end")] == ["paused"] and tried


def test_a_machine_that_cannot_store_a_trial_sets_it_back(begin):
    conductor = begin(methods=["vae"], retries=1)
    first = conductor.next("a")
    assert not conductor.hear("a", progress(state="preempted", reason="its disk is full"))
    assert again(conductor, "b") == first
    assert not conductor.hear("b", progress(state="preempted", reason="its disk is full"))
    (lost,), (end,) = events(conductor, "lost"), events(conductor, "end")
    assert (lost.state, lost.reason) == ("preempted", "its disk is full")
    assert (end.state, end.reason) == ("preempted", "its disk is full 2 times")
    assert lost.worker["host"] == end.worker["host"] == "here"


@pytest.mark.parametrize("killed", [False, True], ids=["reported", "killed by Ray"])
def test_out_of_memory_runs_once_more_with_fewer_neighbours(begin, tmp_path, killed):
    conductor = begin(methods=["vae"], trials=1, first_rung=9)
    conductor.resources = Resources(1, 0.25, 4, 5, 1)
    checkpoint = tmp_path / "quick" / "trials" / "vae-digits-0000" / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()

    def runs_out(ray_id: str) -> None:
        if killed:
            conductor.lost(ray_id, "out_of_memory", "too large")
        else:
            assert not conductor.hear(ray_id, progress(state="out_of_memory", reason="too large"))

    first = conductor.next("a")
    assert conductor.hear("a", progress([row(1, 50.0)], value=50.0))
    assert conductor.exhausted
    runs_out("a")
    assert not conductor.exhausted and not conductor.done and checkpoint.exists()
    assert conductor.studies["vae-digits"].history()[0].state.name == "RUNNING"
    second = again(conductor, "b")
    assert (first["gpus"], second["gpus"]) == (0.25, 1.0)
    assert second == first | {"gpus": 1.0, "wants_room": True, "epoch": 1} and not first["wants_room"]
    runs_out("b")
    (end,) = events(conductor, "end")
    assert (end.state, end.epoch, end.reason) == ("out_of_memory", 1, "too large")
    assert conductor.done and not checkpoint.exists()
    assert conductor.studies["vae-digits"].history()[0].state.name == "FAIL"
    assert conductor.trials.trials["vae-digits-0000"].setbacks == {"out_of_memory": 2}


ON_A_SHARE = {"host": "here", "gpus": 0.25}
ON_A_GPU = {"host": "here", "gpus": 1.0}


def on_shares(begin, gpus: int = 2, **changes) -> Conductor:
    """The conductor of a sweep on GPUs with four trials each."""
    conductor = begin(**changes)
    conductor.resources = Resources(1, 0.25, 4 * gpus, 4 * gpus + 1, gpus)
    return conductor


def ran_out(worker: dict) -> Progress:
    return progress(state="out_of_memory", reason="too large").model_copy(update={"worker": worker})


def test_a_study_that_outgrew_its_share_goes_on_with_whole_gpus(begin):
    conductor = on_shares(begin, gpus=9)
    first = conductor.next("a")
    other = conductor.next("b")
    assert first["gpus"] == other["gpus"] == 0.25 and first["trial"] != other["trial"]
    conductor.hear("a", ran_out(ON_A_SHARE))
    assert conductor.next("c")["trial"] == first["trial"]  # again

    def shares(conductor: Conductor) -> dict[str, set[float]]:
        found = {}
        for number in range(6):
            described = conductor.next(f"more-{number}")
            if described is not None and described["trial"] not in (first["trial"], other["trial"]):
                found.setdefault(conductor.trials.trials[described["trial"]].study, set()).add(described["gpus"])
        return found

    expected = {"vae-digits": {1.0}, "beta_vae-digits": {0.25}}
    assert shares(conductor) == expected
    assert shares(on_shares(begin, gpus=9)) == expected  # resumed from the record
    resumed = on_shares(begin)
    resumed.resources = Resources(1, 0.5, 4, 5, 2)  # a larger share, on which no trial has run out yet
    assert not resumed._wants_room(conductor.trials.trials["vae-digits-0001"])


def test_a_trial_on_a_whole_gpu_takes_its_slots(begin):
    conductor = on_shares(begin, methods=["vae"], trials=20)
    conductor.next("a")
    conductor.hear("a", ran_out(ON_A_SHARE))
    started = [name for name in "bcdef" if conductor.next(name) is not None]
    assert len(started) == 3  # one on each of the two GPUs, and one that waits


def test_a_trial_that_began_on_a_whole_gpu_has_no_more_memory_in_another_attempt(begin):
    conductor = on_shares(begin, methods=["vae"])
    conductor.next("a")
    conductor.next("b")
    conductor.hear("a", ran_out(ON_A_SHARE))
    conductor.hear("b", ran_out(ON_A_SHARE))  # it had begun on a share, and runs again
    again(conductor, "c")
    again(conductor, "d")
    assert conductor.next("e")["wants_room"]
    conductor.hear("e", ran_out(ON_A_GPU))
    (end,) = events(conductor, "end")
    assert (end.trial, end.state) == ("vae-digits-0002", "out_of_memory")


def test_a_machine_without_memory_says_nothing_of_the_share_of_a_gpu(begin):
    conductor = on_shares(begin, methods=["vae"])
    conductor.next("a")
    conductor.lost("a", "out_of_memory", "the system killed its process because memory ran out")
    assert again(conductor, "b")["wants_room"] and not conductor.next("c")["wants_room"]
    conductor.hear("c", progress(state="preempted").model_copy(update={"worker": ON_A_SHARE}))
    assert not again(conductor, "d")["wants_room"]


def test_out_of_memory_that_goes_well_alone_is_an_ordinary_trial(begin):
    conductor = begin(methods=["vae"], trials=1)
    conductor.next("a")
    conductor.hear("a", progress(state="out_of_memory"))
    again(conductor, "b")
    conductor.hear("b", progress([row(EPOCHS, 7.0)], "complete", 7.0))
    (trial,) = conductor.studies["vae-digits"].history()
    assert (trial.state.name, trial.value) == ("COMPLETE", 7.0)


def test_the_second_attempt_wants_room_even_if_the_driver_died_between(begin):
    conductor = begin(methods=["vae"], trials=1)
    conductor.next("a")
    conductor.hear("a", progress(state="out_of_memory"))
    resumed = begin(methods=["vae"], trials=1)
    resumed.settle()
    assert again(resumed, "b")["wants_room"]


@pytest.mark.parametrize(
    "gpus, wants_room, excluded, asked",
    [
        (0.0, False, [], (2, 0.0)),
        (0.0, True, [], (9, 0.0)),
        (0.0, True, ["16"], (3, 0.0)),  # no other node has nine
        (0.0, True, ["16", "4"], (2, 0.0)),
        (1.0, True, [], (2, 1.0)),
        (0.25, False, ["16"], (2, 0.25)),
        (2.0, True, [], (9, 2)),
    ],
)
def test_room_is_asked_of_ray(monkeypatch, gpus, wants_room, excluded, asked):
    nodes = [{"NodeID": f"{n:g}", "Alive": n < 64, "Resources": {"CPU": n}} for n in (4.0, 16.0, 64.0)]
    monkeypatch.setattr(executor.ray, "nodes", lambda: nodes)
    found = executor.room({"cpus": 2, "gpus": gpus, "wants_room": wants_room, "excluded": excluded, "outside": ""})
    selected = [{"ray.io/node-id": f"!in({','.join(excluded)})"}] if excluded else None
    assert found._kwargs.get("bundle_label_selector") == selected
    assert found.bundles == [{"CPU": float(asked[0])} | ({"GPU": float(asked[1])} if gpus else {})]


def test_what_ray_says_of_lost_processes():
    died, drained = RayActorError(error_msg="worker process has died"), RayActorError(preempted=True)
    gone = RayActorError(error_msg="The actor died because its node has died.")
    unavailable = ActorUnavailableError("no connection", actor_id=None)
    states = [actors.how_lost(error)[0] for error in (died, drained, gone, unavailable, None)]
    assert states == ["failed", "preempted", "preempted", "preempted", "failed"]


def test_why_a_process_could_not_begin_is_said():
    error = RayActorError(
        error_msg="The actor died because of an error raised in its creation task, ray::X.__init__()\n  File ...\n"
        "ModuleNotFoundError: No module named 'my_lab'"
    )
    assert actors.how_lost(error) == (
        "failed", "its process could not start (ModuleNotFoundError: No module named 'my_lab')"
    )  # fmt: skip


def test_an_error_of_our_own_outside_the_training_is_named():
    error = RayTaskError("train", "a traceback of many lines", OSError(30, "Read-only file system", "hung.txt"))
    reason = "its process failed (OSError: [Errno 30] Read-only file system: 'hung.txt')"
    assert actors.how_lost(error) == ("failed", reason)


@pytest.fixture(autouse=True)
def no_node_is_drained(monkeypatch):
    monkeypatch.setattr("sweep.driver.nodes.draining", set)  # it asks Ray


class Pool(executor.Pool):
    """Nodes without Ray."""

    def __init__(self, *nodes: str, gpus: float = 0.0):
        self.said = []
        needs = Resources(cpus=1, gpus=gpus, slots=1, ahead=1, total_gpus=0)
        super().__init__((Path("record.jsonl"), "s", "code", {}, [], ("", 0)), self.said.append, needs)
        self._nodes = {node: {"Resources": {"CPU": 1}, "NodeManagerHostname": f"host {node}"} for node in nodes}
        self.passed = set(nodes)

    def look(self) -> bool:
        return True


@pytest.fixture
def on_nodes(begin, tmp_path):
    """A conductor and its nodes; `ask` asks for a trial, `step` reports what a node says of it, `lose` an error."""

    def make(*nodes: str) -> SimpleNamespace:
        conductor, pool, stop = begin(methods=["vae"], slots=2), Pool(*nodes), Stop()
        judge = executor._Judge(conductor, pool, stop)
        watch = executor._Watch(conductor, pool, pool.said.append)
        asker = executor._Asker(conductor, watch, Inbox(conductor, stop, print), stop)

        def step(ray_id: str, node: str, **what) -> str:
            said = progress(**what).model_copy(update={"node": node})
            return judge.on_trial_result(None, SimpleNamespace(trial_id=ray_id), {"progress": [said]})

        def lose(ray_id: str, node: str, error: type[RayActorError] = actors.Died, why: str = "it died") -> None:
            lost, file = error(error_msg=why), tmp_path / "error.pkl"
            lost.node = node
            file.write_bytes(cloudpickle.dumps(lost))
            losses = executor._Losses(conductor, stop, pool)
            losses.on_trial_error(1, [], SimpleNamespace(trial_id=ray_id, pickled_error_file=file))

        return SimpleNamespace(conductor=conductor, pool=pool, ask=asker.suggest, step=step, lose=lose)

    return make


def test_a_node_on_which_fails_what_trains_elsewhere_is_set_aside(on_nodes):
    """Also if it fails first, while no other node has trained anything: its trials run again, elsewhere."""
    sweep = on_nodes("good", "bad")
    for ray_id in ("x", "y"):
        assert sweep.ask(ray_id)["excluded"] == []
        sweep.step(ray_id, "", state="preempted", reason="the checkpoint is damaged")  # by no node
    for ray_id in "ab":
        first = sweep.ask(ray_id)
        assert sweep.step(ray_id, "bad", state="failed", reason="no kernel image for this GPU") == "STOP"
        again = sweep.ask(f"{ray_id}2")
        assert (again["trial"], again["excluded"]) == (first["trial"], ["bad"]) and not sweep.pool.said
        sweep.step(f"{ray_id}2", "good", rows=[row(1, 50.0)], value=50.0)
    assert sweep.pool.said == ["host bad (bad) is excluded: no kernel image for this GPU"]
    lost = events(sweep.conductor, "lost")
    assert [event.state for event in lost] == ["preempted"] * 4 and not events(sweep.conductor, "end")
    assert sweep.pool.holding() == [(1, 0)]


def test_a_trial_that_fails_on_every_node_is_at_fault_itself(on_nodes):
    sweep = on_nodes("one", "two")
    for n in range(3):
        assert sweep.ask(f"a{n}")["excluded"] == []
        sweep.step(f"a{n}", "one", state="failed", reason="a bug")
        assert sweep.ask(f"b{n}")["excluded"] == ["one"]
        sweep.step(f"b{n}", "two", state="failed", reason="a bug")
        assert [end.state for end in events(sweep.conductor, "end")] == ["failed"] * (n + 1)
    assert not sweep.pool.said


@pytest.mark.parametrize("epochs", [0, 1], ids=["before its first epoch", "later"])
def test_a_node_on_which_processes_die_is_set_aside(on_nodes, epochs):
    """Their trials run again elsewhere. Once they have got further there, the node was the cause."""
    sweep = on_nodes("good", "bad")
    for ray_id in "ab":
        first = sweep.ask(ray_id)
        for epoch in range(1, epochs + 1):
            sweep.step(ray_id, "bad", rows=[row(epoch)])
        sweep.lose(ray_id, "bad")
        again = sweep.ask(f"{ray_id}2")
        assert (again["trial"], again["excluded"]) == (first["trial"], ["bad"]) and not sweep.pool.said
        for epoch in range(1, epochs + 2):
            assert not sweep.pool.said
            sweep.step(f"{ray_id}2", "good", rows=[row(epoch)], value=50.0)
    why = "processes end there whose trials train elsewhere (its process was lost)"
    assert sweep.pool.said == [f"host bad (bad) is excluded: {why}"]


def test_a_trial_that_kills_every_process_at_the_same_epoch_sets_no_node_aside(on_nodes):
    sweep = on_nodes("one", "two", "three", "four")
    sweep.pool.trained("another", "four", 1, stored=True)
    for ray_id in "ab":
        for node in ("one", "two", "three"):
            sweep.ask(ray_id)
            sweep.step(ray_id, node, rows=[row(1)])
            sweep.lose(ray_id, node)
    assert not sweep.pool.said


@pytest.mark.parametrize("error, why", [(actors.Killed, ""), (actors.Died, "its node has died")])
def test_a_process_lost_for_memory_or_with_its_node_says_nothing_against_the_node(on_nodes, error, why):
    sweep = on_nodes("one", "two")
    first = sweep.ask("a")
    sweep.lose("a", "one", error, why)
    again = sweep.ask("b")
    assert (again["trial"], again["excluded"]) == (first["trial"], [])


def test_a_fault_that_all_nodes_share_excludes_none(on_nodes):
    pool = on_nodes(*"abcd").pool
    for node in "abcd":
        pool.trained(f"trial {node}", node, 1, stored=True)
    for node in "abcd" * 3:
        pool.spoilt(node, "Disk quota exceeded")
    assert not pool.said
    pool.trained("trial", "c", 1, stored=True)  # there is room again, but not for the others
    assert set(pool.set_aside) == set("abd")


def test_a_node_that_joins_while_no_trial_runs_is_used(begin):
    """Tune then asks for trials for ten minutes, and calls nothing else."""
    conductor, pool, stop = begin(methods=["vae"], slots=0), Pool(), Stop()
    conductor.resources = replace(conductor.resources, ahead=0)
    watch = executor._Watch(conductor, pool, pool.said.append)
    asker = executor._Asker(conductor, watch, Inbox(conductor, stop, print), stop)
    assert asker.suggest("a") is None
    pool._nodes |= Pool("late")._nodes
    pool.passed.add("late")
    assert asker.suggest("a")["trial"] == "vae-digits-0000"


def test_the_last_node_is_never_set_aside(begin):
    pool = Pool("only")
    for _ in range(3):
        pool.spoilt("only", "its disk is full")
    assert not pool.set_aside


def test_a_trial_runs_again_where_it_failed_if_it_fits_on_no_other_node():
    """E.g. because the others have no GPU. It would wait for one without end."""
    pool = Pool("head", "worker", gpus=0.25)
    pool._nodes["worker"]["Resources"]["GPU"] = 1
    assert not pool.is_suspect("a", "worker")
    pool.suspect("a", "worker", 0, "it died")
    assert pool.avoided("a") == set()
    pool._nodes["head"]["Resources"]["GPU"] = 1
    assert pool.avoided("a") == {"worker"}


def test_a_trial_whose_nodes_are_gone_is_asked_for_again():
    """It avoided the one that is left, or wants more CPUs than that has."""
    heard, pool = [], Pool("left", "gone")
    pool._nodes["gone"]["Resources"]["CPU"] = 9
    manager = actors.ActorManager(FixedResourceManager({"CPU": 1}))

    def wait(cpus: int, excluded: list[str]) -> None:
        manager.add_actor(
            object, {"config": {"excluded": excluded}}, PlacementGroupFactory([{"CPU": cpus}]),
            on_error=lambda _, error: heard.append(actors.how_lost(error)),
        )  # fmt: skip

    wait(1, ["left"])
    wait(9, [])
    wait(1, [])
    pool.passed.remove("gone")  # it is being checked
    manager._give_up_stranded(pool)
    assert not heard
    del pool._nodes["gone"]
    manager._give_up_stranded(pool)
    assert heard == [("preempted", "the nodes that it waited for are gone")] * 2
    assert manager.num_pending_actors == 1
    pool._nodes = {}
    manager._give_up_stranded(pool)  # a node may join
    assert len(heard) == 2


@pytest.mark.parametrize("stored", [True, False])
def test_only_what_is_stored_clears_a_node(stored):
    pool = Pool("one", "two")
    pool.trained("a", "two", 1, stored=True)
    pool.spoilt("one", "a hiccup of its disk")
    pool.trained("b", "one", 1, stored=stored)
    assert not pool.is_suspect("c", "one") and not pool.is_suspect("c", "two")
    pool.spoilt("one", "another")
    assert ("one" in pool.set_aside) is not stored


def test_processes_of_an_outside_method_are_its_own(monkeypatch):
    trial = {"cpus": 1, "gpus": 0, "wants_room": False, "excluded": []}
    own, other = (executor.room(trial | {"outside": outside_label(name)}) for name in ("my_lab:Ladder", "vae"))
    assert own != other == executor.room(trial | {"outside": ""})
    assert own == executor.room(trial | {"outside": outside_label("my_lab:Ladder")})


@pytest.mark.parametrize("error", [ObjectLostError("00" * 28, None, ""), RaySystemError("cannot unpickle")])
def test_what_ray_has_lost_of_a_trial_does_not_end_the_sweep(error):
    heard = []
    actor = TrackedActor("a", on_error=lambda actor, error: heard.append(actors.how_lost(error)))
    manager = actors.ActorManager(FixedResourceManager({}))
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_task_failed(TrackedActorTask(actor), error)
    ((state, reason),) = heard
    assert state == "preempted" and reason.startswith(f"Ray lost its result ({type(error).__name__}")


def test_processes_killed_for_memory_or_on_a_silent_node_do_not_end_the_sweep():
    """Ray's own actor manager raises a RuntimeError for the first, out of `tune.run`, and waits for the other."""
    heard = []
    actor = TrackedActor("a", on_error=lambda actor, error: heard.append(actors.how_lost(error)))
    task = TrackedActorTask(actor)
    manager = actors.ActorManager(FixedResourceManager({}))
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_task_failed(task, OutOfMemoryError("the node is running low"))
    manager._left.add(actor)
    manager._actor_start_failed(actor, RayActorError(error_msg="worker process has died"))
    assert [state for state, _ in heard] == ["out_of_memory", "preempted"]
    assert heard[1][1] == "its node does not answer"
    manager._left.clear()
    with pytest.raises(RuntimeError, match="unexpected"):
        manager._actor_task_failed(task, KeyError("anything else"))


def test_the_node_of_a_process_that_died_is_where_it_was_placed(monkeypatch):
    heard, group = [], object()
    monkeypatch.setattr(actors, "placement_group_table", lambda of: {group: {"bundles_to_node_id": {0: "n"}}}[of])
    manager = actors.ActorManager(FixedResourceManager({}))
    manager._cleanup_actor = lambda tracked_actor: None
    known, unknown = (TrackedActor(name, on_error=lambda _, error: heard.append(error)) for name in "ab")
    manager._live_actors_to_ray_actors_resources[known] = None, SimpleNamespace(placement_group=group)
    for actor in (known, unknown):
        manager._actor_task_failed(TrackedActorTask(actor), ActorDiedError())
    assert [error.node for error in heard] == ["n", ""]
    assert actors.how_lost(cloudpickle.loads(cloudpickle.dumps(heard[0]))) == LOST


@pytest.mark.parametrize("local", [True, False])
def test_a_process_that_the_system_killed_for_memory_is_distinguished(tmp_path, monkeypatch, local):
    """Ray says only that it died. The count of the driver's machine says nothing about other machines."""
    monkeypatch.setattr(actors, "VMSTAT", tmp_path / "vmstat")
    assert actors.killed_for_memory() == 0, "not counted on this system"
    lost = []
    conductor = SimpleNamespace(lost=lambda trial, state, reason: lost.append((trial, state)))
    stop = SimpleNamespace(going_on=nullcontext)
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 2\n")
    losses = executor._Losses(conductor, stop, None if local else Pool("one"))
    for kills, trial in enumerate(("a", "b", "c"), start=2):
        (tmp_path / "vmstat").write_text(f"pgfault 7\noom_kill {min(kills, 3)}\n")
        losses.on_trial_error(1, [], SimpleNamespace(trial_id=trial, pickled_error_file=None))
    assert lost == [("a", "failed"), ("b", "out_of_memory" if local else "failed"), ("c", "failed")]


# Going on after the driver has died


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_sweep_cut_anywhere_goes_on_as_if_nothing_had_happened(begin, tmp_path, every):
    """After each single event, or every seventh, with the checkpoints that there would be, and with none at all."""
    undisturbed = begin(tmp_path / "undisturbed", trials=4)
    Tune(undisturbed).run()
    assert undisturbed.done
    lines = undisturbed.record.path.read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) + 1, every):
        for keep_checkpoints in (True, False):
            folder = tmp_path / f"cut-{cut}-{keep_checkpoints}"
            folder.mkdir()
            (folder / "record.jsonl").write_bytes(b"".join(lines[:cut]))
            resumed = begin(folder, trials=4)
            over = [t for t in resumed.trials.trials.values() if t.state not in ("running", "paused")]
            attempts = {trial.name: trial.attempt for trial in over}
            saved = {}
            if keep_checkpoints:
                saved = {t.name: max([0, *(e for e in RUNGS if e in t.rows)]) for t in resumed.trials.trials.values()}
            resumed.settle()
            Tune(resumed, saved=saved).run()
            assert resumed.done
            assert fates(resumed) == fates(undisturbed), cut
            assert rungs(resumed) == rungs(undisturbed), cut
            reported = [(e.trial, r.epoch) for e in events(resumed, "report") for r in e.rows]
            assert len(reported) == len(set(reported)), cut
            assert_ended_once(resumed)
            assert all(resumed.trials.trials[name].attempt == attempt for name, attempt in attempts.items())


def assert_ended_once(conductor) -> None:
    ends = [event.trial for event in events(conductor, "end") if event.state != "paused"]
    assert len(ends) == len(set(ends))
    closed = [event.study for event in events(conductor, "close")]
    assert len(closed) == len(set(closed))
    assert not any(trial.state == "paused" for trial in conductor.trials.trials.values())


def promoted(conductor) -> list[str]:
    """Trials that were paused and went on."""
    paused, found = set(), []
    for event in events(conductor):
        if event.event == "end" and event.state == "paused":
            paused.add(event.trial)
        elif event.event == "start" and event.trial in paused:
            paused.remove(event.trial)
            found.append(event.trial)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 20))])
def test_a_sweep_killed_again_and_again_promotes_the_same_trials(begin, tmp_path, seed):
    """Three kills at random times each, with paused and promoted trials, between the lines of one message too."""
    changes = {"trials": 14, "searcher": "random", "seed": seed}
    undisturbed = begin(tmp_path / "undisturbed", **changes)
    Tune(undisturbed).run()
    killed, chance, saved = begin(tmp_path / "killed", **changes), random.Random(seed), {}
    for _ in range(3):
        going = Tune(killed, saved=saved)
        for _ in range(chance.randrange(40)):
            going.step()
        lines = killed.record.path.read_bytes().splitlines(keepends=True)
        lost = chance.randrange(min(4, len(lines) - 1))  # lines that were not on disk yet
        killed.record.path.write_bytes(b"".join(lines[: len(lines) - lost]))
        killed = begin(tmp_path / "killed", **changes)
        killed.settle()
    Tune(killed, saved=saved).run()
    assert killed.done and promoted(undisturbed)
    assert promoted(killed) == promoted(undisturbed)
    assert fates(killed) == fates(undisturbed) and rungs(killed) == rungs(undisturbed)
    reported = [(e.trial, r.epoch) for e in events(killed, "report") for r in e.rows]
    assert len(reported) == len(set(reported))
    assert_ended_once(killed)


def test_a_paused_trial_keeps_its_checkpoint_until_its_study_ends(begin, tmp_path):
    conductor = begin(methods=["vae"], trials=4)
    conductor.resources = Resources(1, 0.0, 9, 9, 0)
    for ray_id in "abcd":
        conductor.next(ray_id)
    folder = tmp_path / "quick" / "trials" / "vae-digits-0003"
    folder.mkdir(parents=True)
    (folder / REPORTED).write_text("of epoch 1")
    assert not conductor.hear("d", progress([row(1, 1e6)], value=1e6))
    assert (folder / CHECKPOINT).read_text() == "of epoch 1" and not (folder / REPORTED).exists()

    (folder / CHECKPOINT).rename(folder / REPORTED)  # the driver died before it could rename it
    resumed = begin(methods=["vae"], trials=4)
    resumed.settle()
    assert (folder / CHECKPOINT).exists() and not (folder / REPORTED).exists()
    Tune(resumed).run()
    assert resumed.done and not (folder / CHECKPOINT).exists()
    assert [event.study for event in events(resumed, "close")] == ["vae-digits"]
    assert resumed.trials.trials["vae-digits-0003"].state == "pruned"
    assert resumed.trials.trials["vae-digits-0003"].reason == "not among those that pass the rung at epoch 1"


def test_a_stopped_study_ends_its_paused_trials(begin):
    conductor = begin(methods=["vae"], trials=4, searcher="random")
    conductor.resources = Resources(1, 0.0, 9, 9, 0)
    for ray_id in "abcd":
        conductor.next(ray_id)
    for ray_id, value in (("b", 10.0), ("c", 20.0), ("d", 30.0)):
        conductor.hear(ray_id, progress([row(1, value)], value=value))
    conductor.accept(Request(request="1", action="stop", study="vae-digits"))
    assert conductor.trials.trials["vae-digits-0003"].state == "paused"
    conductor.hear("a", progress([row(1, 5.0)], value=5.0))
    states = [trial.state for trial in conductor.trials.of("vae-digits")]
    assert states == ["cancelled", "pruned", "pruned", "pruned"] and conductor.done


def test_what_had_reached_its_end_is_ended_and_not_run_again(begin):
    conductor = begin(methods=["vae"], trials=4, searcher="random")
    conductor.resources = Resources(1, 0.0, 9, 9, 0)
    for ray_id in "abcd":
        conductor.next(ray_id)
    record = conductor.record
    record.append("report", trial="vae-digits-0000", rows=[row(1, 10.0), row(2), row(3, 9.0)])
    record.append("report", trial="vae-digits-0001", rows=[row(1, 20.0)])
    record.append("report", trial="vae-digits-0000", rows=[*map(row, range(4, 9)), row(9, 8.0)])

    resumed = begin(methods=["vae"], trials=4, searcher="random")
    resumed.settle()
    ends = {event.trial: event for event in events(resumed, "end")}
    assert {name: (end.state, end.epoch) for name, end in ends.items()} == {
        "vae-digits-0000": ("complete", 9), "vae-digits-0001": ("paused", 1),
    }  # fmt: skip
    assert ends["vae-digits-0001"].reason == "not among those that pass the rung at epoch 1"
    again = [resumed.next(ray_id)["trial"] for ray_id in "ab"]
    assert again == ["vae-digits-0002", "vae-digits-0003"]
    assert resumed.trials.trials["vae-digits-0002"].attempt == 2


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_what_failed_in_its_last_evaluation_is_not_complete(begin, state):
    """The driver is killed between the report of the last epoch and the end of the trial."""
    last = progress([*map(row, range(4, 10))], state=state, reason="fcd: not finite")
    conductor = begin(methods=["vae"], trials=1)
    conductor.next("a")
    conductor.hear("a", progress([row(1, 5.0), row(2), row(3, 4.0)], value=4.0))
    conductor.record.append("report", trial="vae-digits-0000", rows=last.rows)
    resumed = begin(methods=["vae"], trials=1)
    resumed.settle()
    assert resumed.next("b")["trial"] == "vae-digits-0000"
    resumed.hear("b", last)
    assert resumed.trials.trials["vae-digits-0000"].state == state


# More of an ended sweep


def test_what_is_retried_runs_again_from_its_beginning_and_nothing_else_does(begin):
    conductor = begin(methods=["vae"], trials=3, first_rung=9)
    conductor.resources = Resources(1, 0.0, 9, 9, 0)
    for ray_id, end in (("a", "complete"), ("b", "failed"), ("c", "diverged")):
        conductor.next(ray_id)
        rows = [row(e, 50.0 - e) for e in range(1, 4 if end == "failed" else EPOCHS + 1)]
        assert not conductor.hear(ray_id, progress(rows, end, None if end == "failed" else 41.0))
    before = fates(conductor)

    retried = begin(methods=["vae"], trials=3, first_rung=9)
    assert retried.done
    retried.retry(["vae-digits-0001"])
    assert not retried.done
    retried.settle()
    Tune(retried).run()
    assert retried.done
    after = fates(retried)
    assert {name for name in after if after[name] != before[name]} == {"vae-digits-0001"}
    trial = retried.trials.trials["vae-digits-0001"]
    assert (trial.state, trial.attempt, trial.setbacks) == ("complete", 2, {"failed": 1})
    reported = [(e.trial, r.epoch) for e in events(retried, "report") for r in e.rows]
    assert len(reported) == len(set(reported))
    assert [t.state.name for t in retried.studies["vae-digits"].history()] == ["COMPLETE", "COMPLETE", "PRUNED"]


def test_an_extended_sweep_searches_on_with_all_it_knows(begin):
    conductor = begin(trials=4)
    Tune(conductor).run()
    before, judged, history = fates(conductor), rungs(conductor), events(conductor)
    attempts = {name: trial.attempt for name, trial in conductor.trials.trials.items()}

    extended = begin(trials=7)
    assert not extended.done
    fresh = Study(extended.studies["vae-digits"].spec, 0).replay(history)
    extended.settle()
    Tune(extended).run()
    assert extended.done
    after = fates(extended)
    assert {name: after[name] for name in before} == before
    for name in extended.studies:
        spent = sum(trial.epoch for trial in extended.trials.of(name))
        assert abs(spent - 7 * EPOCHS) <= EPOCHS / 2
    assert all(extended.trials.trials[name].attempt == attempt for name, attempt in attempts.items())
    for study, levels in judged.items():
        for level, trials in levels.items():
            assert trials.items() <= rungs(extended)[study][level].items()
        assert len(rungs(extended)[study][RUNGS[0]]) == len(extended.trials.of(study))
    number = sum(name.startswith("vae") for name in before)
    first = extended.trials.trials[f"vae-digits-{number:04d}"]
    assert (first.origin, first.values) == ("search", fresh.ask().values)
    assert first.values != Study(fresh.spec, 0)._suggest(number)  # as it would be without what was found before
