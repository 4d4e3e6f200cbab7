"""What would break `ray up` must be named."""

from pathlib import Path

import pytest
import yaml
from said import words

from sweep.checks import cluster_file
from sweep.driver.nodes import read_cluster

REPOSITORY = Path(__file__).parents[3]


def test_our_file_for_aws_has_examples_to_fill_in_and_no_other_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch(mode=0o600)
    found = words(cluster_file.cluster_file(REPOSITORY / "cluster.yaml"))
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
    found = words(cluster_file.cluster_file(path))
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
    assert cluster_file.token_file(token).verdict == "bad"
    token.touch(mode=0o644)
    token.chmod(0o644)
    assert "chmod 600" in cluster_file.token_file(token).words
    token.chmod(0o600)
    assert cluster_file.token_file(token).verdict == "ok"


def test_a_machine_that_does_not_answer_is_named(tmp_path):
    found = cluster_file.logged_in(["false"], "me@nowhere")
    assert (found.verdict, found.where) == ("bad", "nowhere")
