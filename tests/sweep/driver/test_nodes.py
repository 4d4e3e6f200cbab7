"""The checks of a cluster's nodes, without Ray: nodes that answer, that take long, and that never do."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.driver import executor, nodes, provenance
from sweep.driver.inbox import Inbox, send
from sweep.driver.nodes import SECONDS_TO_ANSWER, SECONDS_TO_NAME, Pool
from sweep.driver.resources import Resources
from sweep.driver.stop import Stop, Stopped
from sweep.record import RECORD

EXPECTED = "record.jsonl", "s1", "code", {}, [], ("", 0)
ONE_CPU = Resources(cpus=1, gpus=0.0, slots=1, ahead=1, total_gpus=0)


class Ray:
    """Nodes and their answers, None while there is none; a reference is the number of its task."""

    def __init__(self, **answers: str | None):
        self.answers, self.now, self.draining, self.tasks = answers, 0.0, set(), []

    def nodes(self):
        about = {"Alive": True, "Resources": {"CPU": 1}}
        return [about | {"NodeID": name, "NodeManagerHostname": f"host-{name}"} for name in self.answers]

    def remote(self, **_):
        def options(scheduling_strategy):
            return SimpleNamespace(remote=lambda *_: self.tasks.append(scheduling_strategy) or len(self.tasks))

        return lambda function: SimpleNamespace(options=options)

    def wait(self, refs, num_returns, timeout):
        self.now += timeout
        answered = [ref for ref in refs if self.answers[self.tasks[ref - 1]] is not None]
        return answered, [ref for ref in refs if ref not in answered]

    def get(self, ref):
        return self.answers[self.tasks[ref - 1]]


@pytest.fixture
def cluster(monkeypatch):
    def make(**answers: str | None) -> tuple[Ray, Pool, list[str]]:
        ray, said = Ray(**answers), []
        monkeypatch.setattr(nodes, "ray", ray)
        monkeypatch.setattr(nodes, "draining", lambda: ray.draining)
        monkeypatch.setattr(nodes, "NodeAffinitySchedulingStrategy", lambda node, soft: node)
        monkeypatch.setattr(nodes, "time", SimpleNamespace(monotonic=lambda: ray.now))
        return ray, Pool(EXPECTED, said.append, ONE_CPU), said

    return make


def test_a_node_that_never_answers_is_named_and_excluded_and_the_others_are_used(cluster):
    ray, pool, said = cluster(good="", bad="its code differs", silent=None)
    pool.look(1.0)
    assert pool.holding() == [(1, 0)] and pool.checking == {"silent"}
    assert said == ["host-bad (bad) is excluded: its code differs"]
    pool.look(SECONDS_TO_NAME)
    pool.look(1.0)
    assert said[1:] == [f"waiting up to {SECONDS_TO_ANSWER} s for the check of host-silent (silent)"]
    pool.look(SECONDS_TO_ANSWER)
    assert said[2:] == [f"host-silent (silent) is excluded: it has not answered in {SECONDS_TO_ANSWER} s"]
    assert pool.passed == {"good"} and not pool.checking and pool.silent == {"silent"}
    ray.answers["silent"] = ""
    pool.look(1.0)
    assert pool.passed == {"good"} and len(said) == 3


def test_a_node_that_takes_long_is_used_once_it_answers(cluster):
    ray, pool, said = cluster(slow=None)
    pool.look(SECONDS_TO_NAME + 1)
    ray.answers["slow"] = ""
    pool.look(1.0)
    assert pool.passed == {"slow"} and len(said) == 1


def test_a_node_that_is_drained_during_its_check_stays_excluded(cluster):
    ray, pool, _ = cluster(leaving=None)
    pool.look(1.0)
    ray.draining.add("leaving")
    pool.look(1.0)
    ray.answers["leaving"] = ""
    pool.look(1.0)
    assert not pool.passed and pool.set_aside == {"leaving": nodes.DRAINED}


def test_a_node_that_does_not_answer_whether_it_has_the_files_is_excluded(cluster):
    ray, pool, said = cluster(good="", silent="")
    pool.look(1.0)
    ray.answers |= {"good": True, "silent": None}
    assert pool.share(set())
    assert pool.passed == {"good"} and "host-silent (silent) is excluded" in said[0]


@pytest.fixture
def sound(tmp_path, monkeypatch) -> dict[str, Any]:
    """The arguments of `fault` for this machine, in whose processes torch computes on two GPUs."""
    record = tmp_path / RECORD
    record.write_text('{"sweep": "s1"}\n')
    (tmp_path / "trials").mkdir()
    computed = SimpleNamespace(returncode=0, stdout="8\n8\n", stderr="")
    monkeypatch.setattr(nodes.subprocess, "run", lambda *_, **__: computed)
    versions = {"code": provenance.code_hash(), "versions": nodes.own_versions()}
    return {
        "record": record,
        "sweep": "s1",
        **versions,
        "methods": [],
        "step": ("vae-digits", 1),
        "gpus": 2,
        "files": [],
    }


def test_a_node_without_an_outside_method_is_at_fault(sound):
    assert nodes.fault(**sound) == ""
    found = nodes.fault(**sound | {"methods": ["trainables.methods.vae:VAE", "my_lab:Ladder"]})
    assert found.startswith("it cannot import my_lab:Ladder (") and "my_lab" in found.partition("(")[2]


def test_a_node_on_whose_gpu_torch_cannot_compute_is_at_fault(sound, monkeypatch):
    broken = "Traceback ...\nRuntimeError: CUDA error: no kernel image is available\n"
    failed = SimpleNamespace(returncode=1, stdout="", stderr=broken)
    monkeypatch.setattr(nodes.subprocess, "run", lambda *_, **__: failed)
    why = "torch cannot compute on its GPUs (RuntimeError: CUDA error: no kernel image is available)"
    assert nodes.fault(**sound) == why
    assert nodes.fault(**sound | {"gpus": 0}) == "", "a sweep without GPUs"


@pytest.fixture
def inbox(begin, monkeypatch) -> Inbox:
    """That of a sweep on a cluster."""
    monkeypatch.setattr(executor, "own_versions", dict)
    monkeypatch.setattr("sweep.driver.inbox.SECONDS_BETWEEN_LOOKS", 0.0)
    conductor = begin(methods=["vae"])
    config = conductor.plan.config.model_copy(update={"address": "auto"})
    conductor.plan = replace(conductor.plan, config=config)
    return Inbox(conductor, Stop(), print)


def test_the_first_trials_wait_for_the_nodes_that_are_there(cluster, inbox, monkeypatch):
    ray, _, said = cluster(good="", silent=None)
    wait = ray.wait

    def joined(*arguments, **named):
        ray.answers[f"late-{ray.now}"] = None
        return wait(*arguments, **named)

    monkeypatch.setattr(ray, "wait", joined)
    pool = executor._pool(inbox.conductor, said.append, inbox)
    assert pool.passed == {"good"} and "silent" in pool.set_aside and ray.now < 2 * SECONDS_TO_ANSWER


def test_a_request_to_stop_is_heard_before_the_first_trial(cluster, inbox, monkeypatch):
    ray, _, said = cluster(silent=None)
    monkeypatch.setattr(ray, "wait", lambda refs, **_: ([], refs))  # no time passes
    send(inbox.conductor.folder, action="stop")
    with pytest.raises(Stopped):
        inbox.stop.attend(lambda: executor._pool(inbox.conductor, said.append, inbox))
    assert inbox.conductor.trials.requests[0].action == "stop"
