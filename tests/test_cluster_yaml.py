"""The cluster file: what Ray would refuse, and what nobody should find out from a bill or an intruder."""

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"


def test_ray_accepts_it():
    validate_config(prepare_config(yaml.safe_load(CLUSTER.read_text())))


def test_only_ssh_is_open_and_nothing_listens_outside():
    cluster = yaml.safe_load(CLUSTER.read_text())
    ports = {rule["FromPort"] for rule in cluster["provider"]["security_group"]["IpPermissions"]}
    assert ports == {22}
    assert "0.0.0.0" not in CLUSTER.read_text()
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    ray_starts = [command for command in starts if "ray start" in command]
    assert len(ray_starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in ray_starts)


def test_the_head_trains_nothing_and_its_disks_are_encrypted():
    types = yaml.safe_load(CLUSTER.read_text())["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    for node in types.values():
        assert all(disk["Ebs"]["Encrypted"] for disk in node["node_config"]["BlockDeviceMappings"])
