"""Signs of life of processes, without Ray: who has been silent for too long, and who has not."""

from types import SimpleNamespace

import pytest

from sweep.driver import actors, signs
from sweep.driver.signs import LOOKS, SILENT_SECONDS, Signs


@pytest.fixture
def store(monkeypatch) -> dict[str, bytes]:
    """The signs in Ray's store. Each look at the clock takes as long as the driver waits between two looks."""
    clock, found = iter(range(10**6)), {}
    monkeypatch.setattr(signs, "time", SimpleNamespace(monotonic=lambda: next(clock) * SILENT_SECONDS))
    monkeypatch.setattr(signs, "last", found.get)
    return found


def silent(heard: Signs, looks: int, **more) -> list[set[str]]:
    return [heard.silent(["a", "b"], **more) for _ in range(looks)]


def test_a_process_is_silent_after_many_looks_without_a_new_sign(store):
    heard, nobody = Signs(), [set()] * LOOKS
    store |= {"a": b"1", "b": b"1"}
    assert silent(heard, LOOKS) == nobody
    store["a"] = b"2"
    assert silent(heard, LOOKS) == [{"b"}] * LOOKS
    assert silent(heard, 1) == [{"a", "b"}]


@pytest.mark.parametrize("started", [True, False])
def test_a_process_without_a_first_sign_is_silent_if_it_runs(store, started):
    store["a"] = b"1"
    assert silent(Signs(), LOOKS + 1, started=started)[-1] == ({"a", "b"} if started else {"a"})


def test_a_store_that_does_not_answer_says_nothing_of_the_processes(store, monkeypatch):
    heard = Signs()
    silent(heard, LOOKS)

    def lost(process: str) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(signs, "last", lost)
        assert silent(heard, LOOKS) == [set()] * LOOKS
    assert silent(heard, 1) == [{"a", "b"}]


def test_looks_have_time_between_them(monkeypatch):
    """A driver that was stopped itself finds old signs, but only once."""
    now, looked = [0.0], []
    monkeypatch.setattr(signs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(signs, "last", looked.append)
    heard = Signs()
    for seconds in (0.0, SILENT_SECONDS / LOOKS, 0.0, 10 * SILENT_SECONDS, 0.0):
        now[0] += seconds
        assert not heard.silent(["a"])
    assert looked == ["a", "a"]


def test_only_processes_that_tune_waits_for_are_ended(monkeypatch):
    from ray.air.execution import FixedResourceManager
    from ray.air.execution._internal import TrackedActor

    killed, heard = [], []
    manager = actors.ActorManager(FixedResourceManager({}))
    manager._signs = SimpleNamespace(silent=lambda processes: set(processes) & {"stopped", "idle"})
    monkeypatch.setattr(actors.ray, "kill", killed.append)
    trials = {}
    for name in ("stopped", "idle", "sound"):
        handle = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda name=name: name))
        trials[name] = actor = TrackedActor(name, on_error=lambda _, error: heard.append(actors.how_lost(error)))
        manager._live_actors_to_ray_actors_resources[actor] = handle, None
        if name != "idle":
            manager._tracked_actors_to_task_futures[actor].add(name)
    manager._end_silent()
    assert [handle._actor_id.hex() for handle in killed] == ["stopped"]
    manager._cleanup_actor = lambda tracked_actor: None
    monkeypatch.setattr(manager, "_node_of", lambda actor: "n")
    for actor in trials.values():
        manager._actor_start_failed(actor, actors.ActorDiedError())
    assert heard == [("failed", "it hung: its process gave no sign of life in 30 minutes"), actors.LOST, actors.LOST]
