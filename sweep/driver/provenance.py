"""Where numbers come from: versions, machine, and a hash of the code that makes them."""

import hashlib
import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

PACKAGES = ("ray", "optuna", "mlflow", "torch", "torchvision", "scikit-learn", "numpy", "pytorch-fid")


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
        root = Path(find_spec(package).submodule_search_locations[0])
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
            sha.update(path.relative_to(root).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:12]
