"""What would break a sweep on this machine must be named."""

import socket

import pytest
from said import words

from sweep.checks import machine


def test_a_set_that_may_be_absent_breaks_nothing(config):
    allowed = config.model_copy(update={"present_only": True})
    assert machine.data_set("here", "mnist", config).verdict == "bad"
    assert machine.data_set("here", "mnist", allowed).verdict == "warn"


@pytest.mark.parametrize(
    ("gpus", "verdict", "said"),
    [
        ([], "ok", "vae-digits: a training step takes"),
        ([80e9], "ok", "a trial gets 0.25 of a GPU; the smallest GPU of each node has 80.0 GB"),
        ([3e9, 80e9], "warn", "gpus_per_trial = 0.5 in place of 0.25, because on a GPU of 3.0 GB"),
        ([3e9, 80e9], "ok", "a trial gets 0.5 of a GPU; the smallest GPU of each node has 3.0 GB, 80.0 GB"),
        ([1e3, 80e9], "warn", "nodes whose smallest GPU has 0.0 MB will be excluded: a training step takes"),
        ([1e3], "bad", "vae-digits: a training step takes"),
    ],
)
def test_the_memory_of_trials_is_held_beside_the_gpus(config, gpus, verdict, said):
    small = config.model_copy(update={"methods": ["vae"], "set": {"network": "mlp_8", "latent_dim": 2}})
    found = list(machine.memory("here", small, gpus))
    assert any(said in line for line in words(found, verdict)), found
    assert not gpus or len({finding.verdict for finding in found}) == 1 + (gpus[0] < 80e9)


def test_gpus_on_which_cuda_does_not_start(config, monkeypatch):
    def fail() -> None:
        raise ValueError("torch cannot use the GPUs of this machine")

    monkeypatch.setattr(machine, "own_gpus", fail)
    assert "torch cannot use the GPUs of this machine" in words(machine.this_machine(config))


def test_fewer_gpus_than_ray_was_given():
    assert machine.graphics("worker", expected=2, seen=1, cards=2).verdict == "bad"
    assert machine.graphics("worker", expected=1, seen=2, cards=2).verdict == "warn"
    assert machine.graphics("worker", expected=2, seen=2, cards=2).verdict == "ok"


def test_sockets_of_ray_that_do_not_fit(config, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 30)))
    assert any("the folder for Ray's sockets, must have" in line for line in words(machine.this_machine(config)))


def test_an_address_that_a_dead_head_has_left_behind_is_named(started):
    assert not list(machine.other_ray("here"))
    started("127.0.0.1:9")
    (line,) = words(machine.other_ray("here"), "warn")
    assert "127.0.0.1:9, does not answer" in line and "`ray stop` removes" in line


def test_a_head_that_runs_is_named_and_not_used(started):
    with socket.create_server(("127.0.0.1", 0)) as head:
        started(address := f"127.0.0.1:{head.getsockname()[1]}")
        (line,) = words(machine.other_ray("here"), "ok")
    assert f"give --address {address}" in line
