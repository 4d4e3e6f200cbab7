"""Finds a method by name: "beta_vae" is a file of ours, "my_lab.ladder:LadderVAE" anything importable."""

import importlib
import inspect
import pkgutil

from trainables import methods
from trainables.method import Method
from trainables.words import did_you_mean


def names() -> list[str]:
    """The methods of the house, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def find(name: str) -> type[Method]:
    """The class of a method. Raises ValueError when there is none; an error inside the module is not hidden."""
    if ":" in name:
        module_name, _, class_name = name.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the user's module exists and misses something of its own
            raise ValueError(f"method {name!r}: there is no module {module_name!r} to import") from error
        found = getattr(module, class_name, None)
        if not (inspect.isclass(found) and issubclass(found, Method)):
            raise ValueError(f"method {name!r}: {module_name} has no class {class_name} that is a Method")
        return found
    if name not in names():
        hint = did_you_mean(name, names())
        raise ValueError(f"method {name!r} is not known{hint} (known: {', '.join(names())}, or package.module:Class)")
    module = importlib.import_module(f"trainables.methods.{name}")
    return next(
        c for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Method) and c.__module__ == module.__name__
    )  # fmt: skip


def label(name: str) -> str:
    """What tables call a method: the file's name, also for one from outside."""
    return name.partition(":")[0].rpartition(".")[2]
