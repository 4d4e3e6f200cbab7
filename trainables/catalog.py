"""Finds a method by name: "beta_vae" is a file of ours, "my_lab.ladder:LadderVAE" anything importable."""

import fnmatch
import importlib
import inspect
import pkgutil
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from trainables import methods, outside
from trainables.method import Method
from trainables.words import did_you_mean


def names() -> list[str]:
    """The methods of the house, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def matching(pattern: str) -> list[str]:
    """The methods that `all` or a pattern such as `iaae_*` stands for; another name stands for itself.

    Raises ValueError for a pattern that no name fits.
    """
    if pattern == "all":
        return names()
    if not set("*?[") & set(pattern):
        return [pattern]
    known = [*names(), *outside.installed("methods")]
    if found := fnmatch.filter(known, pattern):
        return found
    raise ValueError(f"no method's name fits {pattern!r} (known: {', '.join(known)})")


def find(name: str) -> type[Method]:
    """The class of a method. Raises ValueError when there is none, or its module cannot be imported."""
    if path := place(name):
        found = outside.part(path, f"method {name!r}")
        if not (inspect.isclass(found) and issubclass(found, Method)):
            raise ValueError(f"method {name!r}: {path} is no class that is a Method")
        try:
            _require_parts(found)
        except outside.Mistake as mistake:
            raise ValueError(f"method {name!r}: {outside.fault(mistake)}") from None
        return found
    if name not in names():
        known = [*names(), *outside.installed("methods")]
        hint = did_you_mean(name, known)
        raise ValueError(f"method {name!r} is not known{hint} (known: {', '.join(known)}, or package.module:Class)")
    module = importlib.import_module(f"trainables.methods.{name}")
    return next(
        c for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Method) and c.__module__ == module.__name__
    )  # fmt: skip


def _require_parts(method: type[Method]) -> None:
    """Raises Mistake for a class that leaves out what only it can say."""
    needed = {"build(nets)": "build", "encode(x)": "encode"}
    if method.stages is Method.stages:
        needed["loss(x)"] = "loss"
    lacking = [words for words, part in needed.items() if getattr(method, part) is getattr(Method, part)]
    if lacking:
        raise outside.Mistake(method, f"{method.__name__} lacks {' and '.join(lacking)}; write it as Method says")


def space_file(name: str) -> Path | Traversable:
    """The TOML file of a method's hand-tuned points and ranges: beside the module of one from outside."""
    if path := place(name):
        return Path(inspect.getfile(outside.module(path.partition(":")[0], f"method {name!r}"))).with_suffix(".toml")
    return files("search_spaces") / f"{name}.toml"


def place(name: str) -> str:
    """Where a method from outside is, `package.module:Class`, by that name or its entry point's; "" for the house's."""
    return name if ":" in name else "" if name in names() else outside.installed("methods").get(name, "")


def label(name: str) -> str:
    """What tables call a method: the file's name, also for one from outside; an entry point's own name."""
    return name.partition(":")[0].rpartition(".")[2]
