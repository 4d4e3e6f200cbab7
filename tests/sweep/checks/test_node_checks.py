"""A node is compared with the machine of the driver."""

import pytest
from said import words

from sweep.checks import nodes, storage


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
    assert nodes.open_ports([table, table6, tmp_path / "none"]) == {22, 6379, 8275}


@pytest.fixture
def node(config):
    """What a sound node says of itself."""
    config.out.mkdir()
    with storage.held(config.out) as sign:
        said = nodes.look_around(config, sign)
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
    found = list(nodes.one_node("worker", "10.0.0.2", 0, node | fault, node, config))
    troubles = [finding for finding in found if finding.verdict != "ok"]
    assert [finding.verdict for finding in troubles] == ([verdict] if verdict else []), troubles
    assert all(output in finding.words for finding in troubles)


@pytest.mark.parametrize("package, verdict", [("ray", "bad"), ("python", "bad"), ("pytorch-fid", "warn")])
def test_other_versions_are_reported(node, config, package, verdict):
    there = node | {"versions": node["versions"] | {package: "0.0"}}
    (found,) = [f for f in nodes.one_node("worker", "10.0.0.2", 0, there, node, config) if f.verdict != "ok"]
    assert found.verdict == verdict and f"{package} 0.0" in found.words


def test_a_public_address_is_reported(node, config):
    assert nodes.ports("worker", "8.8.8.8", node, config).verdict == "warn"
    assert nodes.ports("worker", "8.8.8.8", node | {"open": {8265}}, config).verdict == "bad"


@pytest.mark.parametrize("address", ["127.0.0.1:9", "auto"])
def test_a_cluster_that_does_not_answer_breaks_the_sweep(config, started, address):
    started("127.0.0.1:9")
    (line,) = words(nodes.every_node(config.model_copy(update={"address": address}), address))
    assert f"Ray at {address} does not answer (ConnectionRefusedError" in line
