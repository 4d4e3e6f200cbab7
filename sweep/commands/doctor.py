"""Check this machine, a cluster file and the nodes of a cluster before a sweep.

`python -m sweep doctor [cluster.yaml] [flags of sweep/run.py]`.

One line per check. With a cluster file: what `ray up` needs, seen from the machine that would call it. With
`--address`: every node of a running cluster. Always: this machine, which would drive the sweep that the flags describe.
"""

import importlib.util
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import torch
from pydantic import Field
from rich.console import Console
from rich.text import Text

from sweep import tracking
from sweep.config import SweepConfig, from_flags
from sweep.driver import local_ray, provenance
from sweep.driver.job import default_tracking
from sweep.driver.launch import anywhere
from sweep.driver.stop import Stop
from trainables.config import UserPath
from trainables.datasets import Absent, load
from trainables.files import whole
from trainables.locks import is_held, locked
from trainables.metrics import needs_inception
from trainables.metrics.inception import WEIGHTS

ENOUGH_BYTES = 10e9
TOKEN = Path("~/.ray/auth_token")
DASHBOARD_PORT = 8265
COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Finding:
    """`bad` would break the sweep, `warn` might."""

    verdict: Literal["ok", "warn", "bad"]
    where: str
    words: str


class DoctorFlags(SweepConfig):
    """What `doctor` understands besides the configuration itself."""

    cluster: UserPath | None = Field(None, description="a cluster file, to be looked at as well")


def act(flags: DoctorFlags) -> None:
    """Prints what it finds; exit code 2 if anything would break the sweep. Raises ValueError for wrong flags."""
    config = SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields)))
    console, bad = Console(highlight=False, soft_wrap=True), 0
    for found in examine(anywhere(config), flags.cluster):
        console.print(
            Text.assemble((f"{found.verdict:<5}", COLOURS[found.verdict]), f"{found.where:<16} {found.words}")
        )
        bad += found.verdict == "bad"
    if bad:
        console.print(f"{bad} of these would break the sweep")
        raise SystemExit(2)


main = from_flags(DoctorFlags, act, positional=["cluster"])


def examine(config: SweepConfig, cluster: Path | None) -> Iterator[Finding]:
    """All findings, each as soon as it is known."""
    if cluster is not None:
        yield from cluster_file(cluster)
    if cluster is None or config.address is not None:  # otherwise the head will drive, not this machine
        yield from this_machine(config)
    if config.address is not None:
        yield from every_node(config)


def attempt(where: str, check: Callable[[], str]) -> Finding:
    """ok with what `check` returns, bad with the ValueError that it raises."""
    try:
        return Finding("ok", where, check())
    except ValueError as error:
        return Finding("bad", where, " ".join(str(error).split()))


# The cluster file


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
        yield Finding("bad", where, f"what shall travel is not here: {', '.join(absent)}; call ray up in the clone")
    if "RAY_AUTH_MODE=token" not in str(cluster):
        yield Finding("bad", where, "no RAY_AUTH_MODE=token: whoever reaches Ray's ports could run anything")
    if cluster["provider"]["type"] == "aws":
        yield from amazon(cluster, where)
    if cluster["provider"]["type"] == "local" and shutil.which("ssh"):
        yield from own_machines(cluster)


def token_file(path: Path) -> Finding:
    """Ray's secret, which whoever joins the cluster must know."""
    if not path.exists():
        return Finding("bad", "this machine", f"no token in {path}; make it: ray get-auth-token --generate")
    if path.stat().st_mode & 0o077:
        return Finding("bad", "this machine", f"others may read the token; chmod 600 {path}")
    return Finding("ok", "this machine", f"token in {path}")


def amazon(cluster: dict[str, Any], where: str) -> Iterator[Finding]:
    if importlib.util.find_spec("boto3") is None:
        yield Finding("bad", "this machine", "boto3 is missing, which ray up needs for AWS; pip install boto3")
    for example in ("ami-0123456789abcdef0", "fs-0123456789abcdef0", "sg-0123456789abcdef0"):
        if example in str(cluster):
            yield Finding("bad", where, f"{example} is an example; fill in your own")
    types = cluster["available_node_types"].items()
    if exposed := [name for name, node in types if "SecurityGroupIds" not in node["node_config"]]:
        words = "names no SecurityGroupIds: Ray would make a group with ssh open to the whole world"
        yield Finding("bad", where, f"{', '.join(exposed)} {words}")


def own_machines(cluster: dict[str, Any]) -> Iterator[Finding]:
    """Can we log in to the head, can the head's key log in to the workers, and is there what Ray calls there?"""
    provider, auth = cluster["provider"], cluster.get("auth", {})
    ssh = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=10", "-oStrictHostKeyChecking=no"]
    ssh += ["-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR"]  # as Ray calls it
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


# The machine that drives the sweep


def this_machine(config: SweepConfig) -> Iterator[Finding]:
    where = "this machine"
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    yield Finding("ok", where, f"code {provenance.code_hash()}; {versions}")
    yield attempt(where, lambda: writable(config.out))
    yield room(where, config.out)
    if config.address is None:
        yield attempt(where, own_ray)
        yield from other_ray(where)
        gpus = torch.cuda.device_count()
        yield graphics(where, gpus, gpus, graphics_cards())
        yield from weights(where, config, weights_here(config))
    for name in config.datasets:
        yield data_set(where, name, config)
    yield attempt(where, lambda: tracked(default_tracking(config)))


def writable(folder: Path) -> str:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder} cannot be written; choose another")
    with held(existing) as sign:
        fault = storage_fault(sign)
    if fault:
        raise ValueError(f"--out {folder}: {fault}; choose another")
    return f"sweeps go to {folder}, where locks, renames and syncs work"


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """A file in the folder that is locked while in here. Raises ValueError."""
    sign = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        with locked(sign, wait=False):
            yield sign
    except OSError as error:
        raise ValueError(f"--out {folder}: files cannot be locked ({error}); choose another") from None
    finally:
        sign.unlink(missing_ok=True)


def storage_fault(sign: Path) -> str:
    """What a sweep needs of its storage and does not get beside `sign`, a file that another process or machine has
    locked; empty where all works."""
    if not is_held(sign):
        return "a lock that is held is not seen, and two drivers could write one record"
    file = sign.with_name(f"{sign.name}-{uuid.uuid4().hex}")
    try:
        for text in ("first", "second"):
            with whole(file, durable=True) as part:
                part.write_text(text)
        if file.read_text() != "second":
            return "a file that takes another one's place is not seen"
    except OSError as error:
        return f"a file cannot be written, synced and renamed ({error})"
    finally:
        file.unlink(missing_ok=True)
    return ""


def own_ray() -> str:
    local_ray.check()
    return f"the sweep starts a Ray of its own, with its sockets in {local_ray.folder()}"


def other_ray(where: str) -> Iterator[Finding]:
    """A cluster that Ray's own programs would join here."""
    if (address := local_ray.last_head()) is None:
        return
    try:
        local_ray.knock(address)
    except (OSError, OverflowError) as error:
        words = f"the Ray last started here, {address}, does not answer ({error}); `ray stop` removes its address"
        yield Finding("warn", where, f"{words}, and this sweep does not use it")
    else:
        yield Finding("ok", where, f"this sweep does not use the Ray at {address}; give --address {address} to use it")


def room(where: str, folder: Path) -> Finding:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    return Finding("ok" if free >= ENOUGH_BYTES else "warn", where, f"{free / 1e9:.1f} GB free for {folder}")


def data_set(where: str, name: str, config: SweepConfig) -> Finding:
    options = {"size": config.image_size, "channels": config.channels, "download": False}
    try:
        splits = load(name, config.data_root, **options)
    except Absent as error:
        if config.present_only:
            return Finding("warn", where, f"{name} is absent and will be left out")
        return Finding("bad", where, f"{error}; or bring it with python -m sweep prefetch")
    except ValueError as error:
        return Finding("bad", where, str(error))
    sizes = " + ".join(str(len(part)) for part in (splits.train, splits.valid, splits.test))
    return Finding("ok", where, f"data set {splits.name}: {sizes} of {' x '.join(map(str, splits.shape))}")


def tracked(uri: str) -> str:
    tracking.check(uri)
    return f"tracking at {tracking.redact(uri)}"


def weights_here(config: SweepConfig) -> Path | None:
    """The file of the Inception network where this process would find it, None where it would not."""
    file = config.fid_weights or Path(torch.hub.get_dir(), "checkpoints", WEIGHTS)
    return file if file.is_file() else None


def weights(where: str, config: SweepConfig, file: Path | None) -> Iterator[Finding]:
    if needs_inception(config.metric):
        if file is None:
            yield Finding("bad", where, "no Inception weights; python -m sweep prefetch --metric fid brings them")
        else:
            yield Finding("ok", where, f"Inception weights in {file}")


def graphics_cards() -> int:
    """NVIDIA's devices, whether or not their driver suits our torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def graphics(where: str, expected: int, seen: int, cards: int) -> Finding:
    if seen < expected or (cards and not seen):
        return Finding(
            "bad", where, f"torch sees {seen} of {max(expected, cards)} GPUs; does its CUDA suit the driver?"
        )
    if seen > expected:
        return Finding("warn", where, f"Ray was told of {expected} GPUs, torch sees {seen}")
    return Finding("ok", where, f"{seen} GPUs" if seen else "no GPU, and none expected")


# The nodes of a running cluster


def every_node(config: SweepConfig) -> Iterator[Finding]:
    from sweep.driver.executor import cluster
    from sweep.driver.nodes import ask_all

    config.out.mkdir(parents=True, exist_ok=True)
    try:
        with held(config.out) as sign, cluster(config.address, None, Stop()):
            nodes = ask_all(look_around, config, sign)
            here = look_around(config, sign)
    except ValueError as error:
        yield Finding("bad", config.address, str(error))
        return
    yield Finding("ok", config.address, f"{len(nodes)} nodes: {', '.join(node.name for node in nodes)}")
    for node in nodes:
        if isinstance(node.answer, Exception):
            yield Finding("bad", node.name, f"does not answer ({' '.join(str(node.answer).split())[-300:]})")
        else:
            yield from one_node(node.name, node.address, node.gpus, node.answer, here, config)


def look_around(config: SweepConfig, sign: Path) -> dict[str, Any]:
    """What a machine says of itself; runs there."""
    from sweep.driver.nodes import gpus_seen

    cards = graphics_cards()
    shared = sign.exists() and os.access(sign.parent, os.W_OK)
    return {
        "code": provenance.code_hash(),
        "versions": provenance.versions(),
        "shared": shared,
        "storage": storage_fault(sign) if shared else "",
        "free": shutil.disk_usage("/tmp").free,
        "cards": cards,
        "gpus": gpus_seen() if cards else 0,
        "weights": weights_here(config),
        "open": open_ports(),
        "token": os.environ.get("RAY_AUTH_MODE") == "token",
    }


def open_ports(tables: Iterable[Path] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> set[int]:
    """The ports on which somebody listens on more than the loopback interface."""
    found = set()
    for table in tables:
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A" and not _loopback(address):  # 0A: listening
                found.add(int(port, 16))
    return found


def _loopback(address: str) -> bool:
    """An address as the kernel prints it: words of 32 bits, each in the machine's own order."""
    words = [bytes.fromhex(address[i : i + 8]) for i in range(0, len(address), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    found = ipaddress.ip_address(packed)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def one_node(
    name: str, address: str, gpus: int, there: dict[str, Any], here: dict[str, Any], config: SweepConfig
) -> Iterator[Finding]:
    """What a node said of itself, beside what the driver says of its own machine."""
    if there["code"] == here["code"]:
        yield Finding("ok", name, f"code {there['code']}")
    else:
        yield Finding("bad", name, f"code {there['code']}, but the driver's is {here['code']}; call ray up again")
    versions = there["versions"]
    other = {package: version for package, version in here["versions"].items() if versions[package] != version}
    if other:
        words = ", ".join(f"{package} {versions[package]} (driver: {version})" for package, version in other.items())
        yield Finding("bad" if {"python", "ray", "torch"} & set(other) else "warn", name, words)
    else:
        yield Finding("ok", name, "the driver's versions of Python and packages")
    if there["storage"]:
        yield Finding("bad", name, f"{config.out}: {there['storage']}; mount another folder")
    elif there["shared"]:
        yield Finding("ok", name, f"shares {config.out}, where locks, renames and syncs work")
    else:
        yield Finding("bad", name, f"does not see or may not write the driver's {config.out}; mount a shared folder")
    free = there["free"]
    yield Finding("ok" if free >= ENOUGH_BYTES else "warn", name, f"{free / 1e9:.1f} GB free in /tmp, for Ray")
    if gpus or there["cards"]:
        yield graphics(name, gpus, there["gpus"], there["cards"])
    yield from weights(name, config, there["weights"])
    yield ports(name, address, there, config)


def ports(name: str, address: str, there: dict[str, Any], config: SweepConfig) -> Finding:
    """Whom Ray, its dashboard and MLflow would let in. Firewalls are not seen from here."""
    if not there["token"]:
        return Finding("bad", name, "RAY_AUTH_MODE=token is not set there: who reaches Ray's ports can run anything")
    tracker = urlsplit(config.tracking_uri or "")
    bare = {DASHBOARD_PORT, tracker.port or 5000} & there["open"]
    public = ipaddress.ip_address(socket.gethostbyname(address)).is_global
    listed = ", ".join(map(str, sorted(bare)))
    if public:
        return Finding("bad" if bare else "warn", name, f"ports listen on the public address {address}; use a firewall")
    if bare:
        return Finding("warn", name, f"dashboard or MLflow (port {listed}) ask for no password; bind them to 127.0.0.1")
    return Finding("ok", name, "Ray asks for the token; dashboard and MLflow are closed")
