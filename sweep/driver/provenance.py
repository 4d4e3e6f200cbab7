"""Where numbers come from: versions, machine, user, data, the commit and a hash of the code that makes them."""

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
DIGESTED = 10_000  # pictures of each split, as many rows as mlflow.data digests


def versions() -> dict[str, str]:
    """Of Python and of every package that a result may depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def machine() -> dict[str, str | int]:
    """The driver's machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"host": platform.node(), "system": platform.system(), "cpus": os.cpu_count() or 1, "gpus": ", ".join(gpus)}


def code_hash() -> str:
    """A short sha256 over the sources that training and search depend on: same hash, same behaviour."""
    sha = hashlib.sha256()
    for package in ("trainables", "search_spaces", "sweep"):
        spec = find_spec(package)
        assert spec and spec.submodule_search_locations, package  # it is a package beside this one
        root = Path(spec.submodule_search_locations[0])
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
            sha.update(path.relative_to(root).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def commit() -> str:
    """The commit of the working copy that runs, with "-dirty" behind it if tracked files differ from it; empty where
    the package was installed without git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    with suppress(OSError, subprocess.SubprocessError):
        for question in ("ls-files --error-unmatch provenance.py", "describe --always --abbrev=40 --dirty --exclude=*"):
            told = subprocess.run([*git, *question.split()], capture_output=True, text=True, timeout=10, check=True)
        return told.stdout.strip()
    return ""


def user() -> str:
    """Name of whose process this is, empty where the system knows none."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return ""


def data(splits: Splits, source: str) -> dict[str, Any]:
    """What a data set is: a digest of its first pictures, their shape and number, and `source`, where they are from."""
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    return {
        "digest": digest(*(part.images[:DIGESTED] for part in parts.values())),
        "shape": list(splits.shape),
        **{name: len(part.images) for name, part in parts.items()},
        "source": source,
    }
