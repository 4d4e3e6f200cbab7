"""Look-up of methods by name: "beta_vae" is a file in `methods`, "my_lab.ladder:LadderVAE" an importable class."""

import fnmatch
import importlib
import inspect
import pkgutil
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from trainables import methods, outside
from trainables.method import Method
from trainables.words import did_you_mean


def names() -> list[str]:
    """Returns the names of the built-in methods, which are their file names."""
    return list(_names())


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(methods.__path__)))


def matching(pattern: str) -> list[str]:
    """Returns the methods that match `all` or a pattern such as `iaae_*`; any other name is returned unchanged.

    Raises ValueError if no name matches the pattern.
    """
    if pattern == "all":
        return names()
    if not set("*?[") & set(pattern):
        return [pattern]
    known = [*names(), *outside.installed("methods")]
    if found := fnmatch.filter(known, pattern):
        return found
    raise ValueError(f"no method matches {pattern!r} (known: {', '.join(known)})")


def find(name: str) -> type[Method]:
    """Returns the class of a method. Raises ValueError if it does not exist or its module cannot be imported."""
    if path := place(name):
        found = outside.part(path, f"method {name!r}")
        if not (inspect.isclass(found) and issubclass(found, Method)):
            raise ValueError(f"method {name!r}: {path} is not a subclass of Method")
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
    """Raises Mistake for a class without a required function, or with names of hyperparameters that it lacks."""
    needed = {"build(nets)": "build", "encode(x)": "encode"}
    if method.stages is Method.stages:
        needed["loss(x)"] = "loss"
    lacking = [words for words, part in needed.items() if getattr(method, part) is getattr(Method, part)]
    if lacking:
        raise outside.Mistake(method, f"{method.__name__} lacks {' and '.join(lacking)}; implement it, see Method")
    if not issubclass(method.Hyper, Method.Hyper):
        raise outside.Mistake(method, f"{method.__name__}.Hyper is not a subclass of Method.Hyper; derive it from that")
    if unknown := [name for name in method.per_pixel if name not in method.Hyper.model_fields]:
        words = f"per_pixel names {unknown[0]!r}, which Hyper does not have; it is a tuple of names of hyperparameters"
        raise outside.Mistake(method, f"{method.__name__}: {words}")


def space_file(name: str) -> Path | Traversable:
    """Returns the TOML file of a method's hand-tuned points and ranges; an external method's is next to its module."""
    if path := place(name):
        return Path(inspect.getfile(outside.module(path.partition(":")[0], f"method {name!r}"))).with_suffix(".toml")
    return files("search_spaces") / f"{name}.toml"


def place(name: str) -> str:
    """Returns the path of an external method, `package.module:Class`, given that path or the name of its entry point;
    "" for built-in methods and unknown names."""
    return name if ":" in name else "" if name in names() else outside.installed("methods").get(name, "")


def label(name: str) -> str:
    """Returns the name of a method in tables: of its file, of its entry point, or of the class at an external path."""
    return name.rpartition(":")[2]
