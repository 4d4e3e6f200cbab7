"""Command lines from a pydantic model: one typed configuration, a YAML file and flags that override it.

Every field of the model is a flag (`data_root` is `--data-root`) and a key of the YAML file. Whatever is unknown
or does not validate ends the program with one line and exit code 2, before anything is written.
"""

import argparse
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
    """An argument parser whose errors are ValueErrors, told as all others are."""

    def error(self, message: str):
        raise ValueError(message)


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
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with any of these as keys; flags win")
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
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"--config {path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"--config {path}: is not YAML ({error})") from None
    if not isinstance(settings, Mapping):
        raise ValueError(f"--config {path}: holds no keys; write `key: value` lines")
    return {str(key).replace("-", "_"): value for key, value in settings.items()}


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
        options["action"] = argparse.BooleanOptionalAction
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
        pairs = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, sign, value = text.partition("=")
            if not sign or not key:
                raise ValueError(f"{option_string} {text!r}: write KEY=VALUE")
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


def run(prog: str, main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> None:
    """A program's frame: user errors are one line, Ctrl-C is no traceback."""
    with user_errors(prog):
        try:
            main(sys.argv[1:] if argv is None else argv)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
