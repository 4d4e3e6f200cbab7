"""Provenance of results: versions, machine, user, data, commit and a hash of the code."""

import getpass
import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from trainables.datasets import Splits
from trainables.metrics.cache import digest

PACKAGES = ("ray", "optuna", "mlflow", "torch", "torchvision", "scikit-learn", "numpy", "pytorch-fid")
DIGESTED = 10_000  # images of each split in the digest, as many rows as mlflow.data digests


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that a result may depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def machine() -> dict[str, str | int]:
    """Return host, system, CPUs and GPUs of the driver's machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"host": platform.node(), "system": platform.system(), "cpus": os.cpu_count() or 1, "gpus": ", ".join(gpus)}


def code_hash() -> str:
    """Return a short sha256 over the sources that training and search depend on."""
    sha = hashlib.sha256()
    for package in ("trainables", "search_spaces", "sweep"):
        spec = find_spec(package)
        assert spec and spec.submodule_search_locations, package  # a package next to this one
        root = Path(spec.submodule_search_locations[0])
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
            sha.update(path.relative_to(root).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def commit() -> str:
    """Return the commit of the running working copy, with the suffix "-dirty" if tracked files differ from it; empty
    if the package was installed without git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    with suppress(OSError, subprocess.SubprocessError):
        for question in ("ls-files --error-unmatch provenance.py", "describe --always --abbrev=40 --dirty --exclude=*"):
            answer = subprocess.run([*git, *question.split()], capture_output=True, text=True, timeout=10, check=True)
        return answer.stdout.strip()
    return ""


def user() -> str:
    """Return the name of the user who runs this process, empty if unknown."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return ""


def data(splits: Splits, source: str) -> dict[str, Any]:
    """Describe a data set: a digest of its first images, their shape, the size of each split, and `source`."""
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    return {
        "digest": digest(*(part.images[:DIGESTED] for part in parts.values())),
        "shape": list(splits.shape),
        **{name: len(part.images) for name, part in parts.items()},
        "source": source,
    }
