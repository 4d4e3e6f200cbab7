"""Extensions from other packages, named by a dotted path or registered as entry points.

A package registers its extensions under plain names with entry points in its pyproject.toml:

    [project.entry-points."autoencoder_sweep.methods"]      # or .datasets, .networks, .metrics
    ladder_vae = "my_lab.ladder:LadderVAE"
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from sysconfig import get_path
from types import ModuleType
from typing import Any

from trainables.words import did_you_mean, message

GROUP = "autoencoder_sweep"
LIBRARIES = ("PIL", "numpy", "pydantic", "sklearn", "torch", "torchvision")


@cache
def installed(kind: str) -> dict[str, str]:
    """Returns the registered extensions of a kind (methods, datasets, networks, metrics): names and dotted paths."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=f"{GROUP}.{kind}"))}


def installed_words(kind: str) -> str:
    """Returns the names of `installed` extensions for a help text, each followed by a comma."""
    return "".join(f"{name}, " for name in installed(kind))


def module(path: str, what: str) -> ModuleType:
    """Imports the module at a dotted path. The current folder is searched last.

    what: the beginning of an error message, such as "method 'my_lab.ladder:LadderVAE'".

    Raises ValueError if the module does not exist, or with the file and line if its import fails.
    """
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return import_module(path)
    except Exception as error:  # an external module may raise anything; it is reported in one line
        if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
            raise ValueError(f"{what}: there is no module {path!r} to import") from None
        if not path:
            raise ValueError(f"{what}: there is no module '' to import") from None
        raise ValueError(f"{what}: {fault(error)}") from error


def part(path: str, what: str) -> Any:
    """Returns the object at `package.module:Name`. Raises ValueError as `module`, or if the name does not exist."""
    place, _, name = path.partition(":")
    found = module(place, what)
    if not hasattr(found, name):
        raise ValueError(f"{what}: {place} has no {name!r}{did_you_mean(name, dir(found))}")
    return getattr(found, name)


class Mistake(Exception):
    """A method violates its contract without raising an error itself; `place` is the file and line to fix.

    thing: the class or function at fault.
    """

    def __init__(self, thing: type | Callable[..., Any], text: str) -> None:
        super().__init__(text)
        self.place = _definition(thing)


def _definition(thing: type | Callable[..., Any]) -> tuple[str, int]:
    while isinstance(thing, partial):
        thing = thing.func
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        thing = type(thing)
    try:
        thing = inspect.unwrap(thing)
        return inspect.getsourcefile(thing) or "", inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):  # defined without a file
        return getattr(thing, "__qualname__", str(thing)), 0


def fault(error: BaseException) -> str:
    """Returns an error in one line, with its file and line: `ladder.py:12: NameError: ...`."""
    file, line = place(error)
    text = " ".join((error.msg if isinstance(error, SyntaxError) else message(error)).split())
    kind = "" if isinstance(error, Mistake) else type(error).__name__
    return ": ".join(part for part in (f"{file}:{line}", kind, text) if part)


def place(error: BaseException) -> tuple[str, int]:
    """Returns file and line of the innermost frame of external code that is not a well-known library; without one, of
    this project's code; else the innermost of all."""
    if isinstance(error, Mistake):
        return error.place
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_known(frame.filename)]
    last = (theirs or [frame for frame in frames if _is_ours(frame.filename)] or frames)[-1]
    return last.filename, last.lineno or 0


@contextmanager
def mistakes(what: str, *results: type[Exception]) -> Iterator[None]:
    """Turns an error from external code into a one-line ValueError that begins with `what`, except for `results`."""
    try:
        yield
    except results:
        raise
    except Exception as error:
        if isinstance(error, Mistake) or not _is_known(place(error)[0]):
            raise ValueError(f"{what}: {fault(error)}") from error
        raise


def _is_known(file: str) -> bool:
    """Whether a file belongs to this project, Python or a well-known library, and not to external code."""
    path = Path(file)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1] in LIBRARIES
    return file.startswith("<") or _is_ours(file) or Path(get_path("stdlib")) in path.parents


def _is_ours(file: str) -> bool:
    root = Path(__file__).parents[1]
    return any(root / package in Path(file).parents for package in ("trainables", "sweep"))
