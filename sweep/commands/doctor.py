"""Check this machine, a cluster file and the nodes of a cluster before a sweep.

`python -m sweep doctor [cluster.yaml] [flags of sweep/run.py]`.

Prints one line per check. With a cluster file, it checks the requirements of `ray up` on the machine that runs it. With
`--address`, it checks every node of a running cluster and this machine as the driver. Otherwise it checks this machine,
which would run the sweep that the flags describe.
"""

import importlib.util
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from sweep.driver.mirror import require_usable
from sweep.driver.shares import choose_share, needs_of, own_gpus
from sweep.driver.stop import Stop
from sweep.search.plan import plan
from trainables.config import UserPath
from trainables.credentials import redact
from trainables.datasets import Absent, load
from trainables.files import whole
from trainables.locks import is_held, locked
from trainables.memory import readable
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
    """The flags of `doctor` in addition to the configuration."""

    cluster: UserPath | None = Field(None, description="a cluster file to check, too")


def act(flags: DoctorFlags) -> None:
    """Print all findings; exit code 2 if any would break the sweep. Raises ValueError for invalid flags."""
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
    """Yield all findings, each as soon as it is known."""
    if cluster is not None:
        yield from cluster_file(cluster)
    if cluster is None or config.address is not None:  # otherwise the head, not this machine, runs the driver
        yield from this_machine(config)
    if config.address is not None:
        yield from every_node(config, config.address)


def attempt(where: str, check: Callable[[], str]) -> Finding:
    """Return an ok finding with the result of `check`, or a bad one with the ValueError that it raises."""
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
    if (address := config.mirror) is not None:
        yield attempt(where, lambda: mirrored(address))
    if config.address is None:
        yield from memory(where, config, own_gpus())


def memory(where: str, config: SweepConfig, gpus: Sequence[int]) -> Iterator[Finding]:
    """Check the memory of a trial of each study against the bytes of the smallest GPU of each node; yields nothing if
    the sweep cannot be planned."""
    try:
        planned = plan(config.model_copy(update={"present_only": True}))  # without a download
    except ValueError:  # the other findings, or the sweep, give the reason
        return
    for need in needs_of(planned):
        yield Finding("ok", where, f"{need.study}: {need}")
    warnings: list[str] = []
    try:
        share = choose_share(planned, gpus, warnings.append)
    except ValueError as error:
        yield Finding("bad", where, str(error))
        return
    for line in warnings:
        yield Finding("warn", where, line)
    if gpus and config.gpus_per_trial != 0:
        sizes = ", ".join(map(readable, sorted(set(gpus))))
        yield Finding("ok", where, f"a trial gets {share:g} of a GPU; the smallest GPU of each node has {sizes}")
        step = max(need.step for need in planned.footprints.values())
        if small := [readable(size) for size in sorted(set(gpus)) if size < step]:
            words = f"nodes whose smallest GPU has {', '.join(small)} will be excluded: a training step takes"
            yield Finding("warn", where, f"{words} {readable(step)}")


def writable(folder: Path) -> str:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder} is not writable; choose another")
    with held(existing) as sign:
        fault, locks = storage_fault(sign), kind_of_locks(sign)
    if fault:
        raise ValueError(f"--out {folder}: {fault}; choose another")
    return f"sweeps go to {folder}, where {locks}, renames and syncs work"


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Context manager that yields a locked file in the folder. Raises ValueError."""
    sign = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        with locked(sign, wait=False):
            yield sign
    except OSError as error:
        raise ValueError(f"--out {folder}: files cannot be locked ({error}); choose another") from None
    finally:
        sign.unlink(missing_ok=True)


def kind_of_locks(sign: Path) -> str:
    """Name the locks of the storage of `sign`, a file locked by this process."""
    return "locks as files (if a driver's machine dies, delete its record.lock)" if sign.stat().st_size else "locks"


def storage_fault(sign: Path) -> str:
    """Return what does not work on the storage of `sign`, a file locked by another process or machine; empty if all
    requirements of a sweep are met."""
    if not is_held(sign):
        return "locks of other processes are not visible, so two drivers could write one record"
    file = sign.with_name(f"{sign.name}-{uuid.uuid4().hex}")
    try:
        for text in ("first", "second"):
            with whole(file, durable=True) as part:
                part.write_text(text)
        if file.read_text() != "second":
            return "a renamed file does not replace another"
    except OSError as error:
        return f"a file cannot be written, synced and renamed ({error})"
    finally:
        file.unlink(missing_ok=True)
    return ""


def own_ray() -> str:
    local_ray.check()
    return f"the sweep starts a local Ray with sockets in {local_ray.folder()}"


def other_ray(where: str) -> Iterator[Finding]:
    """Check the cluster that Ray's own programs would join here."""
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
    try:
        splits = load(name, config.data_root, size=config.image_size, channels=config.channels, download=False)
    except Absent as error:
        if config.present_only:
            return Finding("warn", where, f"{name} is absent and will be skipped")
        return Finding("bad", where, f"{error}; or download it with python -m sweep prefetch")
    except ValueError as error:
        return Finding("bad", where, str(error))
    sizes = " + ".join(str(len(part)) for part in (splits.train, splits.valid, splits.test))
    return Finding("ok", where, f"data set {splits.name}: {sizes} of {' x '.join(map(str, splits.shape))}")


def mirrored(address: str) -> str:
    require_usable(address)
    return f"sweeps are copied to {address}, where objects can be created only once"


def tracked(uri: str) -> str:
    tracking.check(uri)
    return f"tracking at {redact(uri)}"


def weights_here(config: SweepConfig) -> Path | None:
    """Return the file of the Inception weights that this process would use, None if there is none."""
    file = config.fid_weights or Path(torch.hub.get_dir(), "checkpoints", WEIGHTS)
    return file if file.is_file() else None


def weights(where: str, config: SweepConfig, file: Path | None) -> Iterator[Finding]:
    if needs_inception(config.metric):
        if file is None:
            yield Finding("bad", where, "no Inception weights; download them: python -m sweep prefetch --metric fid")
        else:
            yield Finding("ok", where, f"Inception weights in {file}")


def graphics_cards() -> int:
    """Return the number of NVIDIA devices, regardless of their driver."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def graphics(where: str, expected: int, seen: int, cards: int) -> Finding:
    if seen < expected or (cards and not seen):
        return Finding(
            "bad", where, f"torch sees {seen} of {max(expected, cards)} GPUs; check that its CUDA matches the driver"
        )
    if seen > expected:
        return Finding("warn", where, f"Ray has {expected} GPUs, but torch sees {seen}")
    return Finding("ok", where, f"{seen} GPUs" if seen else "no GPU expected or found")


# The nodes of a running cluster


def every_node(config: SweepConfig, address: str) -> Iterator[Finding]:
    from sweep.driver.executor import cluster
    from sweep.driver.nodes import ask_all

    config.out.mkdir(parents=True, exist_ok=True)
    try:
        with held(config.out) as sign, cluster(address, None, Stop()):
            nodes = ask_all(look_around, config, sign)
            here = look_around(config, sign)
    except ValueError as error:
        yield Finding("bad", redact(address), redact(str(error)))
        return
    yield Finding("ok", redact(address), f"{len(nodes)} nodes: {', '.join(node.name for node in nodes)}")
    for node in nodes:
        if isinstance(node.answer, Exception):
            yield Finding("bad", node.name, f"does not answer ({' '.join(str(node.answer).split())[-300:]})")
        else:
            yield from one_node(node.name, node.address, node.gpus, node.answer, here, config)
    seen = [node.answer["gpus"] for node in nodes if node.gpus and isinstance(node.answer, dict)]
    yield from memory(redact(address), config, [min(sizes) for sizes in seen if sizes])


def look_around(config: SweepConfig, sign: Path) -> dict[str, Any]:
    """Collect the facts about a machine; runs on that machine."""
    from sweep.driver.nodes import gpus_seen

    cards = graphics_cards()
    storage, locks = "", ""
    if shared := sign.exists() and os.access(sign.parent, os.W_OK):
        storage = storage_fault(sign)
        with held(sign.parent) as own:  # `sign` has the kind of the driver's machine
            locks = kind_of_locks(own)
    return {
        "code": provenance.code_hash(),
        "versions": provenance.versions(),
        "shared": shared,
        "storage": storage,
        "locks": locks,
        "free": shutil.disk_usage("/tmp").free,
        "cards": cards,
        "gpus": gpus_seen() if cards else [],
        "weights": weights_here(config),
        "open": open_ports(),
        "token": os.environ.get("RAY_AUTH_MODE") == "token",
    }


def open_ports(tables: Iterable[Path] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> set[int]:
    """Return the ports with listeners on more than the loopback interface."""
    found = set()
    for table in tables:
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A" and not _loopback(address):  # 0A: listening
                found.add(int(port, 16))
    return found


def _loopback(address: str) -> bool:
    """Return whether an address, printed by the kernel as 32-bit words in native byte order, is a loopback address."""
    words = [bytes.fromhex(address[i : i + 8]) for i in range(0, len(address), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    found = ipaddress.ip_address(packed)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def one_node(
    name: str, address: str, gpus: int, there: dict[str, Any], here: dict[str, Any], config: SweepConfig
) -> Iterator[Finding]:
    """Compare the facts about a node with those about the driver's machine."""
    if there["code"] == here["code"]:
        yield Finding("ok", name, f"code {there['code']}")
    else:
        yield Finding("bad", name, f"code {there['code']}, but the driver's is {here['code']}; run ray up again")
    versions = there["versions"]
    other = {package: version for package, version in here["versions"].items() if versions[package] != version}
    if other:
        words = ", ".join(f"{package} {versions[package]} (driver: {version})" for package, version in other.items())
        yield Finding("bad" if {"python", "ray", "torch"} & set(other) else "warn", name, words)
    else:
        yield Finding("ok", name, "same versions of Python and packages as the driver")
    if there["storage"]:
        yield Finding("bad", name, f"{config.out}: {there['storage']}; mount another folder")
    elif there["shared"]:
        yield Finding("ok", name, f"shares {config.out}, where {there['locks']}, renames and syncs work")
    else:
        yield Finding("bad", name, f"cannot read or write the driver's {config.out}; mount a shared folder")
    free = there["free"]
    yield Finding("ok" if free >= ENOUGH_BYTES else "warn", name, f"{free / 1e9:.1f} GB free in /tmp, for Ray")
    if gpus or there["cards"]:
        yield graphics(name, gpus, len(there["gpus"]), there["cards"])
    yield from weights(name, config, there["weights"])
    yield ports(name, address, there, config)


def ports(name: str, address: str, there: dict[str, Any], config: SweepConfig) -> Finding:
    """Check the access to Ray, its dashboard and MLflow, without regard to firewalls."""
    if not there["token"]:
        return Finding(
            "bad", name, "RAY_AUTH_MODE=token is not set: any client that reaches Ray's ports can execute code"
        )
    tracker = urlsplit(config.tracking_uri or "")
    bare = {DASHBOARD_PORT, tracker.port or 5000} & there["open"]
    public = ipaddress.ip_address(socket.gethostbyname(address)).is_global
    listed = ", ".join(map(str, sorted(bare)))
    if public:
        return Finding("bad" if bare else "warn", name, f"ports listen on the public address {address}; use a firewall")
    if bare:
        return Finding("warn", name, f"dashboard or MLflow (port {listed}) need no password; bind them to 127.0.0.1")
    return Finding("ok", name, "Ray requires the token; dashboard and MLflow are not exposed")
