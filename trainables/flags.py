"""Command lines from a pydantic model: one typed configuration, a YAML file and flags that override it.

Every field of the model is a flag (`data_root` is `--data-root`) and a key of the YAML file. Whatever is unknown
or does not validate ends the program with one line and exit code 2, before anything is written.
"""

import argparse
import errno
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainables.config import checked
from trainables.datasets import expanded
from trainables.words import did_you_mean

Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def user_errors(prog: str):
    """Turns the ValueErrors that are meant for people into one line on stderr and exit code 2."""
    try:
        yield
    except ValueError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ValueErrors, told as all others are, and that takes each flag once."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.given: set[str] = set()
        for kind in (None, "store"):
            self.register("action", kind, _Once)

    def error(self, message: str):
        raise ValueError(message)

    def take(self, action: argparse.Action, option: str | None) -> None:
        """Notes that a flag was given. Raises ValueError if it was before: one of the two would be lost."""
        if option is not None and action.dest in self.given:
            raise ValueError(f"{option} is given twice; give it once, with all its values")
        self.given.add(action.dest)


class _Once(argparse.Action):
    """A flag with one value or several."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        parser.take(self, option_string)
        setattr(namespace, self.dest, values)


class _Switch(argparse.BooleanOptionalAction):
    """--flag and --no-flag."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        parser.take(self, option_string)
        super().__call__(parser, namespace, values, option_string)


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Settings of which `above` wins over `below`, of KEY=VALUE pairs each by itself."""
    both = (name for name in above if isinstance(above[name], dict) and isinstance(below.get(name), dict))
    return {**below, **above, **{name: {**below[name], **above[name]} for name in both}}


def read_flags(
    model: type[Model],
    argv: Sequence[str],
    prog: str,
    about: str,
    positional: Sequence[str] = (),
    presets: Traversable | None = None,
    over: Callable[[dict, dict], dict] = laid_over,
) -> Model:
    """The configuration that `--preset NAME`, `--config FILE` and the flags of `argv` describe, validated.

    Flags win over the file, and the file over the preset, a NAME.yaml in the folder `presets` where there is one;
    `over(below, above)` puts one over the other. Raises ValueError in one line; prints help and exits on --help.
    `positional` fields need no flag.
    """
    parser = Parser(prog=prog, description=about, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument(
        "--config", type=expanded, metavar="FILE", help="YAML file with any of these as keys; flags win"
    )
    if presets is not None:
        known = ", ".join(preset_names(presets))
        parser.add_argument("--preset", metavar="NAME", help=f"a configuration to start from: {known}")
    for name, field in model.model_fields.items():
        _add(parser, name, field, name in positional)
    given, unknown = parser.parse_known_args(list(argv))
    if unknown:
        flags = [option for action in parser._actions for option in action.option_strings]
        raise ValueError(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], flags) or '; see --help'}")
    values = vars(given)
    file, preset = values.pop("config", None), values.pop("preset", None)
    layers = [values]
    if file:
        layers.insert(0, read_yaml(file))
    if preset:
        layers.insert(0, read_preset(presets, preset))
    settings = reduce(over, layers)
    return checked(model, settings, str(file) if file and not values else "")


def preset_names(folder: Traversable) -> list[str]:
    """The configurations in a folder, by the names of their files."""
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_preset(folder: Traversable, name: str) -> dict[str, Any]:
    """The configuration of that name; raises ValueError naming those there are."""
    if name not in preset_names(folder):
        known = preset_names(folder)
        raise ValueError(f"--preset {name!r} is not known{did_you_mean(name, known)} (known: {', '.join(known)})")
    with as_file(folder / f"{name}.yaml") as path:
        return read_yaml(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ValueError when there is none."""
    try:
        settings = yaml.load(path.read_bytes(), _UniqueKeys)
    except OSError as error:
        raise ValueError(f"--config {path}: cannot be read ({error.strerror})") from None
    except KeyTwice as error:
        raise ValueError(f"--config {path}: {error}; write it once, with all its values") from None
    except yaml.YAMLError as error:
        raise ValueError(f"--config {path}: is not YAML in UTF-8 ({error})") from None
    if not isinstance(settings, Mapping):
        raise ValueError(f"--config {path}: holds no keys; write `key: value` lines")
    return {str(key).replace("-", "_"): value for key, value in settings.items()}


class KeyTwice(ValueError):
    """A mapping in a YAML file has a key twice."""


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, that refuses a mapping with a key written twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = key.value.replace("-", "_")  # as a flag
                if name in seen:
                    raise KeyTwice(f"line {key.start_mark.line + 1}: the key {name!r} is written twice")
                seen.add(name)
        return super().construct_mapping(node, deep)


def scalar(text: Any) -> Any:
    """A hyperparameter as typed on a command line: whole number, number, or text. (YAML reads 1e-3 as text.)"""
    if not isinstance(text, str):
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _add(parser: argparse.ArgumentParser, name: str, field: FieldInfo, positional: bool) -> None:
    kind = _plain(field.annotation)
    default = "" if field.is_required() else f" (default: {_shown(field)})"
    options: dict[str, Any] = {"help": f"{field.description or ''}{default}".replace("%", "%%")}
    if kind is bool:
        options["action"] = _Switch
    elif kind is dict:
        options |= {"nargs": "+", "action": _Pairs, "metavar": "KEY=VALUE"}
    elif kind is list:
        options |= {"nargs": "+", "metavar": name.upper().rstrip("S")}
    else:
        options["metavar"] = name.upper()
    if kind is Literal:  # of numbers, as pydantic matches 1 to the literal 1 alone, never to "1"
        options["type"] = scalar
    if positional:
        parser.add_argument(name, **options)
    else:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, **options)


class _Pairs(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None) -> None:
        parser.take(self, option_string)
        pairs: dict[str, Any] = {}
        for text in values:
            key, sign, value = text.partition("=")
            if not sign or not key:
                raise ValueError(f"{option_string} {text!r}: write KEY=VALUE")
            if key in pairs:
                raise ValueError(f"{option_string} {text!r}: {key} is given twice; give it once")
            pairs[key] = scalar(value)
        setattr(namespace, self.dest, pairs)


def _plain(annotation: Any) -> Any:
    """list[str] -> list, `Path | None` -> Path."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    return get_origin(annotation) or annotation


def _shown(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def output_folder(folder: Path, flag: str) -> None:
    """Raises ValueError, naming the flag, if `folder` is no folder, or cannot be made or written."""
    existing = next(parent for parent in [folder, *folder.absolute().parents] if os.path.lexists(parent))
    if not existing.is_dir():
        raise ValueError(f"{folder} cannot be written ({existing} is not a folder); choose another {flag}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written (we may not write {existing}); choose another {flag}")


def output_file(file: Path, flag: str) -> None:
    """Raises ValueError, naming the flag, if `file` cannot be written: it or its folder is not what it should be."""
    if file.is_dir():
        raise ValueError(f"{flag} {file}: cannot be written (it is a folder); name a file")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"{flag} {file}: cannot be written (there is no folder {file.absolute().parent}); make it")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise ValueError(f"{flag} {file}: cannot be written (we may not write it); choose another")


def run(prog: str, main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> None:
    """A program's frame: user errors are one line, Ctrl-C is no traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a screen that knows ASCII only shows ? for the rest
    with user_errors(prog):
        try:
            main(sys.argv[1:] if argv is None else argv)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ValueError(f"the disk is full ({error}); free space and go on") from None
