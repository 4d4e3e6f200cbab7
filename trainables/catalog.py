"""Finds a method by name: "beta_vae" is a file of ours, "my_lab.ladder:LadderVAE" anything importable."""

import importlib
import inspect
import pkgutil

from trainables import methods, outside
from trainables.method import Method
from trainables.words import did_you_mean


def names() -> list[str]:
    """The methods of the house, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def find(name: str) -> type[Method]:
    """The class of a method. Raises ValueError when there is none, or its module cannot be imported."""
    if path := place(name):
        found = outside.part(path, f"method {name!r}")
        if not (inspect.isclass(found) and issubclass(found, Method)):
            raise ValueError(f"method {name!r}: {path} is no class that is a Method")
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


def place(name: str) -> str:
    """Where a method from outside is, `package.module:Class`, by that name or its entry point's; "" for the house's."""
    return name if ":" in name else "" if name in names() else outside.installed("methods").get(name, "")


def label(name: str) -> str:
    """What tables call a method: the file's name, also for one from outside; an entry point's own name."""
    return name.partition(":")[0].rpartition(".")[2]
