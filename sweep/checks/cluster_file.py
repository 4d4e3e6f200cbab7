"""Checks of a cluster file, and of what `ray up` needs on the machine that runs it."""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.checks.finding import Finding

TOKEN = Path("~/.ray/auth_token")


def cluster_file(path: Path) -> Iterator[Finding]:
    from sweep.driver.nodes import read_cluster

    where = path.name
    try:
        cluster = read_cluster(path)
    except ValueError as error:
        yield Finding("bad", where, str(error))
        return
    yield Finding("ok", where, "Ray accepts it")
    for tool in ("ssh", "rsync"):
        found = shutil.which(tool)
        yield Finding("ok" if found else "bad", "this machine", f"{tool} {'at ' + found if found else 'is missing'}")
    yield token_file(TOKEN.expanduser())
    sources = [Path(source) for source in cluster.get("file_mounts", {}).values() if Path(source) != TOKEN]
    if absent := [str(source) for source in sources if not source.expanduser().exists()]:
        yield Finding("bad", where, f"file_mounts are missing here: {', '.join(absent)}; run ray up in the clone")
    if "RAY_AUTH_MODE=token" not in str(cluster):
        yield Finding("bad", where, "no RAY_AUTH_MODE=token: any client that reaches Ray's ports can execute code")
    if cluster["provider"]["type"] == "aws":
        yield from amazon(cluster, where)
    if cluster["provider"]["type"] == "local" and shutil.which("ssh"):
        yield from own_machines(cluster)


def token_file(path: Path) -> Finding:
    """Check the token file, Ray's secret, which every node and client of the cluster needs."""
    if not path.exists():
        return Finding("bad", "this machine", f"no token in {path}; create it: ray get-auth-token --generate")
    if path.stat().st_mode & 0o077:
        return Finding("bad", "this machine", f"other users can read the token; chmod 600 {path}")
    return Finding("ok", "this machine", f"token in {path}")


def amazon(cluster: dict[str, Any], where: str) -> Iterator[Finding]:
    if importlib.util.find_spec("boto3") is None:
        yield Finding("bad", "this machine", "boto3 is missing, which ray up needs for AWS; pip install boto3")
    for example in ("ami-0123456789abcdef0", "fs-0123456789abcdef0", "sg-0123456789abcdef0"):
        if example in str(cluster):
            yield Finding("bad", where, f"{example} is a placeholder; replace it by your own")
    types = cluster["available_node_types"].items()
    if exposed := [name for name, node in types if "SecurityGroupIds" not in node["node_config"]]:
        words = "has no SecurityGroupIds: Ray would create a group with ssh open to the whole internet"
        yield Finding("bad", where, f"{', '.join(exposed)} {words}")


def own_machines(cluster: dict[str, Any]) -> Iterator[Finding]:
    """Check logins to the head, logins from the head to the workers, and the programs that Ray calls there."""
    provider, auth = cluster["provider"], cluster.get("auth", {})
    ssh = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=10", "-oStrictHostKeyChecking=no"]
    ssh += ["-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR"]  # the options of Ray
    if key := auth.get("ssh_private_key"):
        if not Path(key).expanduser().exists():
            yield Finding("bad", "this machine", f"no ssh key {key}")
            return
        ssh += ["-oIdentitiesOnly=yes", "-i", str(Path(key).expanduser())]
    user = f"{auth['ssh_user']}@" if "ssh_user" in auth else ""
    head = user + provider.get("external_head_ip", provider["head_ip"])
    yield logged_in(ssh, head)
    for worker in provider["worker_ips"]:
        yield logged_in([*ssh, f"-oProxyCommand={' '.join(ssh)} -W %h:%p {head}"], user + worker)


def logged_in(ssh: list[str], machine: str) -> Finding:
    where = machine.rpartition("@")[2]
    ask = "for tool in rsync curl python3; do command -v $tool > /dev/null || echo $tool; done"
    try:
        done = subprocess.run(
            [*ssh, machine, ask], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Finding("bad", where, "ssh does not answer in 60 s")
    if done.returncode:
        return Finding("bad", where, f"ssh fails: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    if missing := done.stdout.split():
        return Finding("bad", where, f"ssh works, but {' and '.join(missing)} is missing there")
    return Finding("ok", where, "ssh works; rsync, curl and python3 are there")
