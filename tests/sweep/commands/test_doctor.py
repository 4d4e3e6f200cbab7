"""The doctor must see what breaks sweeps, say it in a line, and end with 2; and see nothing where nothing is."""

import errno
import os
import socket
from pathlib import Path

import pytest
import yaml

from sweep import commands
from sweep.commands import doctor, prefetch
from sweep.config import SweepConfig
from sweep.driver.nodes import read_cluster
from sweep.record import Record

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path):
    return SweepConfig(out=tmp_path / "sweeps", data_root=tmp_path / "data")


def words(findings, verdict="bad"):
    return [found.words for found in findings if found.verdict == verdict]


def test_a_sound_machine_has_nothing_to_fear(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "graphics_cards", lambda: 0)  # whether torch suits the driver is not ours to fix
    commands.main(["doctor", "--datasets", "digits"])
    lines = capsys.readouterr().out.splitlines()
    assert any("data set digits: " in line for line in lines)
    assert sum("-digits: a training step takes" in line and "activations" in line for line in lines) == 5
    assert not [line for line in lines if line.startswith("bad")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_breaks_a_sweep_is_named_and_ends_with_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as end:
        commands.main(
            ["doctor", "--datasets", "digits", "mnist", "--data-root", str(tmp_path),
             "--out", str(tmp_path / "file" / "sweeps"),
             "--metric", "fid", "--fid-weights", str(tmp_path / "none.pth"), "--tracking-uri", "http://127.0.0.1:9"]
        )  # fmt: skip
    assert end.value.code == 2
    shown = capsys.readouterr().out
    bad = [line for line in shown.splitlines() if line.startswith("bad")]
    for what in ("file/sweeps is not writable", "mnist", "prefetch --metric fid", "127.0.0.1:9 does not answer"):
        assert sum(what in line for line in bad) == 1, shown
    assert f"{len(bad)} of these would break the sweep" in shown


def test_a_set_that_may_be_absent_breaks_nothing(config):
    allowed = config.model_copy(update={"present_only": True})
    assert doctor.data_set("here", "mnist", config).verdict == "bad"
    assert doctor.data_set("here", "mnist", allowed).verdict == "warn"


def test_flags_are_those_of_a_sweep(capsys):
    with pytest.raises(SystemExit):
        commands.main(["doctor", "--dataset", "mnist"])
    assert "Unknown option: --dataset. Did you mean --datasets?" in capsys.readouterr().err


def test_our_file_for_aws_has_examples_to_fill_in_and_no_other_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch(mode=0o600)
    found = words(doctor.cluster_file(REPOSITORY / "cluster.yaml"))
    ours = [line for line in found if "is missing" not in line]  # boto3 and rsync, where a machine has none
    assert len(ours) == 3 and all("is a placeholder" in line for line in ours), found


def test_faults_of_a_cluster_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cluster = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    del cluster["available_node_types"]["gpu_worker"]["node_config"]["SecurityGroupIds"]
    cluster["setup_commands"] = []
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(cluster))
    found = words(doctor.cluster_file(path))
    for what in ("gpu_worker has no SecurityGroupIds", "no RAY_AUTH_MODE", "no token in", "trainables"):
        assert sum(what in line for line in found) == 1, found


@pytest.mark.parametrize(
    "text, output",
    [
        ("provider: {type: aws}\nhead: 1\n", "Ray would reject it"),
        ("- 1\n", "no provider"),
        ("provider: {type: local, head_ip: 10.0.0.1}\ncluster_name: a\n", "Ray would reject it"),
        ("a: [\n", "Ray would reject it"),
    ],
)
def test_a_file_that_ray_would_refuse_is_refused_in_one_line(tmp_path, text, output):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=output) as error:
        read_cluster(path)
    assert "\n" not in " ".join(str(error.value).split()) and str(path) in str(error.value)


def test_the_token_is_for_its_owner_only(tmp_path):
    token = tmp_path / "token"
    assert doctor.token_file(token).verdict == "bad"
    token.touch(mode=0o644)
    token.chmod(0o644)
    assert "chmod 600" in doctor.token_file(token).words
    token.chmod(0o600)
    assert doctor.token_file(token).verdict == "ok"


def test_a_machine_that_does_not_answer_is_named(tmp_path):
    found = doctor.logged_in(["false"], "me@nowhere")
    assert (found.verdict, found.where) == ("bad", "nowhere")


def test_open_ports_are_those_that_others_can_reach(tmp_path):
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000:0016 00000000:0000 0A 00000000\n"  # 0.0.0.0:22
        "   1: 0100007F:1388 00000000:0000 0A 00000000\n"  # 127.0.0.1:5000
        "   2: 0A4D0A0A:18EB 00000000:0000 0A 00000000\n"  # 10.10.77.10:6379
        "   3: 0A4D0A0A:2049 00000000:0000 01 00000000\n"  # connected, not listening
    )
    table6 = tmp_path / "tcp6"
    table6.write_text(
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000000000000000000001000000:2051 00000000:0000 0A 0\n"  # [::1]:8273
        "   1: 0000000000000000FFFF00000100007F:2052 00000000:0000 0A 0\n"  # [::ffff:127.0.0.1]:8274
        "   2: 00000000000000000000000000000000:2053 00000000:0000 0A 0\n"  # [::]:8275
    )
    assert doctor.open_ports([table, table6, tmp_path / "none"]) == {22, 6379, 8275}


@pytest.fixture
def node(config):
    """What a sound node says of itself."""
    config.out.mkdir()
    with doctor.held(config.out) as sign:
        said = doctor.look_around(config, sign)
    return said | {"token": True, "open": {6379}, "free": 1e12}


@pytest.mark.parametrize(
    "fault, verdict, output",
    [
        ({}, None, ""),
        ({"code": "000000000000"}, "bad", "ray up again"),
        ({"shared": False}, "bad", "mount a shared folder"),
        ({"storage": "locks are lost"}, "bad", "locks are lost; mount another folder"),
        ({"token": False}, "bad", "RAY_AUTH_MODE"),
        ({"free": 1e9}, "warn", "1.0 GB free"),
        ({"open": {6379, 8265}}, "warn", "port 8265"),
        ({"open": {6379, 5000}}, "warn", "port 5000"),
        ({"cards": 2, "gpus": []}, "bad", "torch sees 0 of 2"),
    ],
)
def test_a_node_is_held_beside_the_driver(node, config, fault, verdict, output):
    found = list(doctor.one_node("worker", "10.0.0.2", 0, node | fault, node, config))
    troubles = [finding for finding in found if finding.verdict != "ok"]
    assert [finding.verdict for finding in troubles] == ([verdict] if verdict else []), troubles
    assert all(output in finding.words for finding in troubles)


@pytest.mark.parametrize("package, verdict", [("ray", "bad"), ("python", "bad"), ("pytorch-fid", "warn")])
def test_other_versions_are_reported(node, config, package, verdict):
    there = node | {"versions": node["versions"] | {package: "0.0"}}
    (found,) = [f for f in doctor.one_node("worker", "10.0.0.2", 0, there, node, config) if f.verdict != "ok"]
    assert found.verdict == verdict and f"{package} 0.0" in found.words


def test_a_public_address_is_reported(node, config):
    assert doctor.ports("worker", "8.8.8.8", node, config).verdict == "warn"
    assert doctor.ports("worker", "8.8.8.8", node | {"open": {8265}}, config).verdict == "bad"


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
    found = list(doctor.memory("here", small, gpus))
    assert any(said in line for line in words(found, verdict)), found
    assert not gpus or len({finding.verdict for finding in found}) == 1 + (gpus[0] < 80e9)


def test_fewer_gpus_than_ray_was_given():
    assert doctor.graphics("worker", expected=2, seen=1, cards=2).verdict == "bad"
    assert doctor.graphics("worker", expected=1, seen=2, cards=2).verdict == "warn"
    assert doctor.graphics("worker", expected=2, seen=2, cards=2).verdict == "ok"


def test_prefetch_readies_what_the_sweep_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    output = []
    prefetch.prefetch(SweepConfig(datasets=["digits"], data_root=tmp_path), output.append)
    assert "digits: 1197 + 300 + 300 images of 1 x 8 x 8" in output[0]
    assert any((tmp_path / "cache").rglob("*.*")) and str(tmp_path / "cache") in output[1]


def test_prefetch_without_network_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(ValueError, match=r"cifar10: .*connect to the network"):
        prefetch.prefetch(SweepConfig(datasets=["cifar10"], data_root=tmp_path))


def test_sockets_of_ray_that_do_not_fit(config, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 30)))
    assert any("the folder for Ray's sockets, must have" in line for line in words(doctor.this_machine(config)))


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Leaves an address behind as `ray start` does."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return (tmp_path / "ray" / "ray_current_cluster").write_text


def test_an_address_that_a_dead_head_has_left_behind_is_named(started):
    assert not list(doctor.other_ray("here"))
    started("127.0.0.1:9")
    (line,) = words(doctor.other_ray("here"), "warn")
    assert "127.0.0.1:9, does not answer" in line and "`ray stop` removes" in line


def test_a_head_that_runs_is_named_and_not_used(started):
    with socket.create_server(("127.0.0.1", 0)) as head:
        started(address := f"127.0.0.1:{head.getsockname()[1]}")
        (line,) = words(doctor.other_ray("here"), "ok")
    assert f"give --address {address}" in line


@pytest.mark.parametrize("address", ["127.0.0.1:9", "auto"])
def test_a_cluster_that_does_not_answer_breaks_the_sweep(config, started, address):
    started("127.0.0.1:9")
    (line,) = words(doctor.every_node(config.model_copy(update={"address": address}), address))
    assert f"Ray at {address} does not answer (ConnectionRefusedError" in line


def test_storage_is_tried(tmp_path, monkeypatch):
    with doctor.held(tmp_path) as sign:
        assert doctor.storage_fault(sign) == ""
        assert list(tmp_path.iterdir()) == [sign]

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        for call in ("replace", "fsync"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, refuse)
                assert "cannot be written, synced and renamed ([Errno 5]" in doctor.storage_fault(sign)
    sign.touch()
    assert "locks of other processes are not visible" in doctor.storage_fault(sign)  # nobody holds it any more
    sign.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*flock")
def test_locks_that_are_files_are_said_and_how_to_free_one(tmp_path, config, monkeypatch):
    """Lustre without flock: filelock then uses a file that exists while the lock is held."""
    sign = tmp_path / "sign"
    sign.touch()

    def unknown(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    assert "where locks, renames" in doctor.writable(tmp_path)
    monkeypatch.setattr("fcntl.flock", unknown)
    assert "locks as files (if a driver's machine dies, delete its record.lock)" in doctor.writable(tmp_path)
    there = doctor.look_around(config, sign)  # the driver's machine has locks
    (storage,) = (f.words for f in doctor.one_node("worker", "10.0.0.2", 0, there, there, config) if "syncs" in f.words)
    assert "where locks as files (if a driver's machine dies, delete its record.lock), renames" in storage
    (tmp_path / "record.lock").write_text("4711\nnode-that-died\n")
    with pytest.raises(ValueError, match=f"no longer exists, delete {tmp_path}/record.lock"):
        Record(tmp_path / "record.jsonl")
