"""The cluster files and recipes: what Ray would refuse, and what nobody should find out from a bill or an intruder."""

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[1]
AWS = REPOSITORY / "cluster.yaml"
LOCAL = REPOSITORY / "cluster.local.yaml"


@pytest.fixture(params=[AWS, LOCAL], ids=lambda path: path.name)
def cluster(request):
    return yaml.safe_load(request.param.read_text())


def starts(cluster):
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def test_ray_accepts_it(cluster):
    validate_config(prepare_config(cluster))


def test_every_key_is_one_that_ray_knows(cluster):
    """The schema lets unknown keys of a provider and of commands pass in silence."""
    known = {"type", "region", "availability_zone", "cache_stopped_nodes", "head_ip", "worker_ips"}
    assert set(cluster["provider"]) <= known
    commands = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    assert all(isinstance(line, str) for command in commands for line in cluster[command])


def test_both_files_start_ray_and_mlflow_alike():
    """cluster.local.yaml is the one that the rehearsal runs."""
    aws, local = (yaml.safe_load(path.read_text()) for path in (AWS, LOCAL))
    assert aws["file_mounts"] == local["file_mounts"]
    assert aws["worker_start_ray_commands"] == local["worker_start_ray_commands"]
    own = "\n".join(local["head_start_ray_commands"])
    for alone in ("--num-cpus=0 --num-gpus=0 ", "export RAY_enable_autoscaler_v2=0; "):
        assert alone in own
        own = own.replace(alone, "")
    assert aws["head_start_ray_commands"] == own.split("\n")
    (environment,) = (command for command in local["setup_commands"] if ".bashrc" in command)
    assert environment in aws["setup_commands"]


def test_what_travels_is_there(cluster):
    assert all((REPOSITORY / here).exists() for here in cluster["file_mounts"].values() if not here.startswith("~"))


def test_all_of_the_package_travels(cluster):
    """Whatever the wheel holds, and what the build of it reads."""
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], project["project"]["readme"]}
    needed |= {*project["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    mounts = cluster["file_mounts"]
    assert {there.removeprefix("~/autoencoder-sweep/"): there for there in mounts if "auth_token" not in there} == {
        here: f"~/autoencoder-sweep/{here}" for here in needed
    }


def test_no_node_joins_without_the_token(cluster):
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in cluster["setup_commands"]
    (environment,) = (command for command in cluster["setup_commands"] if ".bashrc" in command)
    assert "RAY_AUTH_MODE=token" in environment  # every start command reads .bashrc
    assert len(starts(cluster)) == 2


def test_dashboard_and_mlflow_stay_on_loopback(cluster):
    assert "0.0.0.0" not in str(cluster)
    (head,) = (command for command in starts(cluster) if "--head" in command)
    assert "--dashboard-host=127.0.0.1" in head
    (mlflow,) = (command for command in cluster["head_start_ray_commands"] if "mlflow server" in command)
    assert "--host 127.0.0.1" in mlflow


def test_all_nodes_are_in_a_group_of_our_own():
    """In one that Ray makes, ssh is open to the whole world (`_create_default_ssh_inbound_rules`)."""
    types = yaml.safe_load(AWS.read_text())["available_node_types"].values()
    assert len({str(node["node_config"]["SecurityGroupIds"]) for node in types}) == 1


def test_workers_are_spot_and_the_head_is_not_and_disks_are_encrypted():
    types = yaml.safe_load(AWS.read_text())["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["gpu_worker"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu_worker"]["min_workers"] == 0
    for node in types.values():
        assert all(disk["Ebs"]["Encrypted"] for disk in node["node_config"]["BlockDeviceMappings"])


RECIPES = (REPOSITORY / "sweep" / "driver" / "clusters.md").read_text()


def recipe(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", RECIPES, re.DOTALL)
    return found


def test_the_slurm_script_passes_shellcheck_and_has_its_own_token():
    check = [
        Path(sys.executable).with_name("shellcheck"),
        "--shell=bash",
        "--exclude=SC1091",
        "-",
    ]  # SC1091: the environment's script is not here
    done = subprocess.run(check, input=recipe("bash"), text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert "RAY_AUTH_TOKEN=$(" in recipe("bash") and "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN" in recipe("bash")


def strict(*required: str, **properties: dict) -> dict:
    """The JSON schema of an object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def each(schema: dict) -> dict:
    return {"type": "array", "items": schema, "minItems": 1}


TEXT, INTEGER, TRUTH = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
WORDS = {"type": "object", "additionalProperties": TEXT}
AMOUNTS = {
    "type": "object",
    "additionalProperties": {"type": ["integer", "string"], "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"},
}
CONTAINER = strict(
    "name", "image", name=TEXT, image=TEXT, env=each(strict("name", name=TEXT, value=TEXT)),
    resources=strict(requests=AMOUNTS, limits=AMOUNTS),
    volumeMounts=each(strict("name", "mountPath", name=TEXT, mountPath=TEXT, readOnly=TRUTH)),
)  # fmt: skip
VOLUME = strict("name", name=TEXT, persistentVolumeClaim=strict("claimName", claimName=TEXT, readOnly=TRUTH))
POD = strict(
    "spec",
    spec=strict("containers", containers=each(CONTAINER), volumes=each(VOLUME)),
)
GROUP = {"rayStartParams": WORDS, "template": POD}
# What our manifests use of the schemas of KubeRay 1.5, rayjob_types.go and raycluster_types.go in
# ray-operator/apis/ray/v1 of https://github.com/ray-project/kuberay. No registry we reach has the CRDs themselves.
RAY_CLUSTER = strict(
    "headGroupSpec", rayVersion=TEXT, enableInTreeAutoscaling=TRUTH,
    authOptions=strict("mode", mode={"enum": ["disabled", "token"]}),
    headGroupSpec=strict("rayStartParams", "template", **GROUP),
    workerGroupSpecs=each(
        strict("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template", groupName=TEXT,
               replicas=INTEGER, minReplicas=INTEGER, maxReplicas=INTEGER, **GROUP)
    ),
)  # fmt: skip
RAY_JOB = strict(
    "rayClusterSpec", "entrypoint", backoffLimit=INTEGER, shutdownAfterJobFinishes=TRUTH, entrypoint=TEXT,
    ttlSecondsAfterFinished=INTEGER, submissionMode={"enum": ["K8sJobMode", "HTTPMode"]}, rayClusterSpec=RAY_CLUSTER,
)  # fmt: skip


def manifest(kind: str, spec: dict) -> dict:
    head = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}, "metadata": strict("name", name=TEXT)}
    return strict("apiVersion", "kind", "metadata", "spec", **head, spec=spec)


@pytest.mark.parametrize(("kind", "spec"), [("RayJob", RAY_JOB), ("RayCluster", RAY_CLUSTER)])
def test_kuberay_knows_every_field_of_the_manifests(kind, spec):
    job = yaml.safe_load(recipe("yaml"))
    if kind == "RayCluster":  # as the page says
        job = {**job, "kind": kind, "spec": job["spec"]["rayClusterSpec"]}
    jsonschema.validate(job, manifest(kind, spec))
    job["spec"]["headgroupspec"] = {}
    with pytest.raises(jsonschema.ValidationError, match="headgroupspec"):
        jsonschema.validate(job, manifest(kind, spec))


def test_the_ray_job_asks_for_the_token_and_shares_one_folder():
    cluster = yaml.safe_load(recipe("yaml"))["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert [pod["volumes"] for pod in pods] == [pods[0]["volumes"]] * 2
    assert all(pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/shared" for pod in pods)


@pytest.mark.parametrize("language", ["bash", "yaml"])
def test_drivers_that_are_started_again_resume_their_sweep(language):
    assert {"--resume-if-exists", "--name"} <= set(recipe(language).split())


def test_clusters_install_the_dashboard_that_jobs_are_submitted_to(cluster):
    assert sum("-e ~/'autoencoder-sweep[cluster]'" in command for command in cluster["setup_commands"]) == 1
    assert "-e '/home/ray/autoencoder-sweep[cluster]'" in recipe("dockerfile")


@pytest.mark.parametrize("place", ["cluster.yaml", "cluster.local.yaml", "sweep/driver/clusters.md"])
def test_flags_that_we_advise_are_flags_of_the_sweep(place):
    from sweep.commands.run import RunFlags

    known = {f"--{name.replace('_', '-')}" for name in RunFlags.model_fields}
    text = re.sub(r"\\?\n *#? *", " ", (REPOSITORY / place).read_text())
    calls = re.findall(r"run\.py (?:-- )?--address \S+((?: +(?:--[a-z-]+|[\w./:]+))+)", text)
    flags = {word for call in calls for word in call.split() if word.startswith("--")}
    assert flags and flags <= known, flags - known
