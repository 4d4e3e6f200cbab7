"""Checks of the nodes of a running cluster."""

import ipaddress
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweep.checks.finding import Finding
from sweep.checks.machine import graphics, graphics_cards, memory, weights, weights_here
from sweep.checks.storage import ENOUGH_BYTES, held, kind_of_locks, storage_fault
from sweep.config import SweepConfig
from sweep.driver import provenance
from sweep.driver.stop import Stop
from trainables.credentials import redact

DASHBOARD_PORT = 8265


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
        if not storage:
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
