"""Parts from outside this package: things named by a dotted path, and those that installed packages bring.

A package makes its parts known by plain names through entry points, in its pyproject.toml:

    [project.entry-points."autoencoder_sweep.methods"]      # or .datasets, .networks, .metrics
    ladder_vae = "my_lab.ladder:LadderVAE"
"""

from __future__ import annotations

import traceback
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from sysconfig import get_path
from types import ModuleType
from typing import Any

from trainables.words import did_you_mean

GROUP = "autoencoder_sweep"
LIBRARIES = ("PIL", "numpy", "pydantic", "sklearn", "torch", "torchvision")


@cache
def installed(kind: str) -> dict[str, str]:
    """The parts of a kind (methods, datasets, networks, metrics) of installed packages: their names and places."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=f"{GROUP}.{kind}"))}


def installed_words(kind: str) -> str:
    """The names of `installed` parts for a help text, each followed by a comma."""
    return "".join(f"{name}, " for name in installed(kind))


def module(path: str, what: str) -> ModuleType:
    """The module at a dotted path; `what` begins an error, such as "method 'my_lab.ladder:LadderVAE'".

    ValueError: there is none, or it fails while it is imported; then the file and line are named.
    """
    try:
        return import_module(path)
    except Exception as error:  # whatever a stranger's module raises is that module's fault, and said in one line
        if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
            raise ValueError(f"{what}: there is no module {path!r} to import") from None
        if not path:
            raise ValueError(f"{what}: there is no module '' to import") from None
        raise ValueError(f"{what}: {fault(error)}") from error


def part(path: str, what: str) -> Any:
    """What `package.module:Name` names. ValueError: as `module`, or it has no such name."""
    place, _, name = path.partition(":")
    found = module(place, what)
    if not hasattr(found, name):
        raise ValueError(f"{what}: {place} has no {name!r}{did_you_mean(name, dir(found))}")
    return getattr(found, name)


def fault(error: BaseException) -> str:
    """An error in one line, with the file and line it came from: `ladder.py:12: NameError: ...`."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
        return f"{where}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_known(frame.filename)]
    text = " ".join(str(error).split())
    last = (theirs or frames)[-1]
    return f"{last.filename}:{last.lineno}: {type(error).__name__}{text and f': {text}'}"


def _is_known(file: str) -> bool:
    """Whether a file is ours, Python's or a well-known library's, so not where a stranger's mistake is."""
    path = Path(file)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1] in LIBRARIES
    known = (Path(__file__).parents[1] / "trainables", Path(__file__).parents[1] / "sweep", Path(get_path("stdlib")))
    return file.startswith("<") or any(place in path.parents for place in known)
