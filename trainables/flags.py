"""Command lines from a pydantic model: one typed configuration, a YAML file and flags that override it.

Every field of the model is a flag (`data_root` is `--data-root`) and a key of the YAML file. Unknown or invalid
values end the program with a one-line message and exit code 2 before it writes anything.
"""

import errno
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, Token, UnusedCliTokensError, convert
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainables.config import checked
from trainables.credentials import redact
from trainables.datasets import expanded
from trainables.files import write_fault
from trainables.training import Diverged
from trainables.words import did_you_mean

Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def user_errors(prog: str) -> Iterator[None]:
    """Turns a ValueError into one line on stderr, without credentials, and exit code 2."""
    try:
        yield
    except ValueError as error:
        print(f"{prog}: error: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        raise SystemExit(2) from None


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merges settings: `above` overrides `below`; KEY=VALUE pairs are merged key by key."""
    both = (name for name in above if isinstance(above[name], dict) and isinstance(below.get(name), dict))
    return {**below, **above, **{name: {**below[name], **above[name]} for name in both}}


def app(name: str, about: str, **settings: Any) -> App:
    """Returns a program or a command whose help begins with `about`."""
    about = "\n\n".join(" ".join(paragraph.split()) for paragraph in about.split("\n\n"))
    usual: dict[str, Any] = {"help_format": "plaintext", "version_flags": (), "suppress_keyboard_interrupt": False}
    return App(name, about, **usual | settings)


def call(program: App, argv: Sequence[str]) -> Any:
    """Runs the command in `argv` and returns its result. Raises a one-line ValueError for unknown arguments."""
    try:
        return program(list(argv), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        command = " ".join([*program.name, *(error.command_chain or ())])
        reason = _reason(error).rstrip("., ")
        raise ValueError(f"{reason}{' See' if reason.endswith('?') else '; see'} {command} --help") from None


def _reason(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected argument {' '.join(map(repr, error.unused_tokens or ()))}"
    if isinstance(error, MissingArgumentError) and error.argument:
        given = [error.keyword, *(token.keyword for token in error.argument.tokens)]
        flag = next((keyword for keyword in given if keyword), None)
        name = error.argument.parameter.metavar or error.argument.name
        return f"{flag} requires a value" if flag else f"{name} is missing"
    return str(error)


def configured(
    model: type[Model],
    command: Callable[[Model], Any],
    positional: Sequence[str] = (),
    presets: Traversable | None = None,
    over: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = laid_over,
) -> Callable[..., Any]:
    """Wraps `command(configuration)` for an App; the parameters are the fields of the model, --config and --preset.

    The configuration merges `--preset NAME`, `--config FILE` and the flags, and is validated. Flags override the file,
    and the file overrides the preset, NAME.yaml in the folder `presets`; `over(below, above)` merges two of them.
    `positional` fields need no flag. `model.groups`, a mapping of titles to names of fields, orders the help. Raises a
    one-line ValueError.
    """
    own = [_FILE] if presets is None else [_FILE, _preset(presets)]
    parameters = [_parameter(model, name, field, name in positional) for name, field in model.model_fields.items()]
    signature = inspect.Signature(sorted([*own, *parameters], key=lambda parameter: parameter.kind))

    def configured_command(*args: Any, **flags: Any) -> Any:
        given = signature.bind_partial(*args, **flags).arguments
        file, preset = given.pop("config", None), given.pop("preset", None)
        layers = [given]
        if file:
            layers.insert(0, read_yaml(file))
        if preset and presets:
            layers.insert(0, read_preset(presets, preset))
        return command(checked(model, reduce(over, layers), str(file) if file and not given else ""))

    configured_command.__signature__ = signature  # type: ignore[attr-defined]  # which `inspect.signature` reads
    configured_command.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    return configured_command


def read_flags(model: type[Model], argv: Sequence[str], prog: str, about: str, **how: Any) -> Model:
    """Returns the configuration in `argv`, see `configured`. Prints the help and exits on --help."""
    found = call(app(prog, about, default_command=configured(model, lambda settings: settings, **how)), argv)
    if found is None:
        raise SystemExit
    return found


def preset_names(folder: Traversable) -> list[str]:
    """Returns the names of the configurations in a folder."""
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_preset(folder: Traversable, name: str) -> dict[str, Any]:
    """Returns the configuration of that name. Raises ValueError with the known names."""
    if name not in preset_names(folder):
        known = preset_names(folder)
        raise ValueError(f"--preset {name!r} is not known{did_you_mean(name, known)} (known: {', '.join(known)})")
    with as_file(folder / f"{name}.yaml") as path:
        return read_yaml(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file. Raises ValueError if it has none."""
    try:
        settings = yaml.load(path.read_bytes(), _UniqueKeys)
    except OSError as error:
        raise ValueError(f"--config {path}: cannot be read ({error.strerror})") from None
    except KeyTwice as error:
        raise ValueError(f"--config {path}: {error}; write it once, with all its values") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a tag such as !!int before another text
        raise ValueError(f"--config {path}: is not YAML in UTF-8 ({error})") from None
    if not isinstance(settings, Mapping):
        raise ValueError(f"--config {path}: contains no keys; write `key: value` lines")
    return {str(key).replace("-", "_"): value for key, value in settings.items()}


class KeyTwice(ValueError):
    """A mapping in a YAML file has a duplicate key."""


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that raises KeyTwice for duplicate keys, of which PyYAML would keep the last, and reads dates as
    text: no setting is a date, and a text such as 2024-13-45 would fail without its key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name = key.value.replace("-", "_")  # as a flag
                if name in seen:
                    raise KeyTwice(f"line {key.start_mark.line + 1}: the key {name!r} is written twice")
                seen.add(name)
        return super().construct_mapping(node, deep)


_UniqueKeys.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def scalar(text: Any) -> Any:
    """Parses a hyperparameter of a command line as int, float or str. (YAML reads 1e-3 as text.)"""
    if not isinstance(text, str):
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _word(kind: Any, tokens: Sequence[Token]) -> str:
    return tokens[0].value


def _path(kind: Any, tokens: Sequence[Token]) -> Path:
    return expanded(tokens[0].value)


def _whole(kind: Any, tokens: Sequence[Token]) -> Any:
    for token in tokens:
        if "." in token.value and not token.value.rstrip("0").endswith("."):  # Cyclopts rounds
            raise ValueError(f"{token.value!r} is not a whole number")
    return convert(kind, tokens)


def _mapping(kind: Any, tokens: Sequence[Token]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for token in tokens:
        key, sign, value = token.value.partition("=")
        if not sign or not key:
            raise ValueError(f"{_said(token)}: write KEY=VALUE")
        if key in pairs:
            raise ValueError(f"{_said(token)}: {key} is given twice; give it once")
        pairs[key] = scalar(value)
    return pairs


def _said(token: Token) -> str:
    return f"{token.keyword} {token.value!r}" if token.keyword else repr(token.value)


SEVERAL = Parameter(consume_multiple=(1, None), allow_repeating=False, negative="")  # --flag a b c
WHOLE = Parameter(converter=_whole)  # of int; Cyclopts takes 2.5 for 2
Place = Annotated[Path, Parameter(converter=_path)]  # as typed, with ~ expanded
Word = Annotated[Path, Parameter(converter=_word)]  # completed as a path, and converted by the model
Pairs = Annotated[
    dict[str, Any], SEVERAL, Parameter(converter=_mapping, accepts_keys=False, n_tokens=-1, metavar="KEY=VALUE...")
]
_FILE = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None, Parameter(converter=_path, help="YAML file with any of these as keys; flags win", metavar="FILE")
    ],
)


def _preset(folder: Traversable) -> inspect.Parameter:
    shown = Parameter(help=f"a configuration to start from: {', '.join(preset_names(folder))}", metavar="NAME")
    return inspect.Parameter(
        "preset", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, shown]
    )


def _parameter(model: type[BaseModel], name: str, field: FieldInfo, positional: bool) -> inspect.Parameter:
    """Returns the parameter of a command for a field. Values stay strings: the model converts and validates them."""
    kind = _plain(field.annotation)
    kinds = {bool: bool, dict: Pairs, Literal: field.annotation, Path: Word}
    annotation: Any
    if kind is list:
        annotation = Annotated[list[str], SEVERAL, Parameter(metavar=f"{name.upper().rstrip('S')}...")]
    elif kind in kinds:
        annotation = kinds[kind]
    else:
        annotation = Annotated[str, Parameter(metavar={int: "INT", float: "NUMBER"}.get(kind, name.upper()))]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shown = False if default in (None, False) or default in ([], {}) else lambda _: _shown(field)
    titles = getattr(model, "groups", {})
    groups = [Group(title, sort_key=place) for place, title in enumerate(titles) if name in titles[title].split()]
    about = Parameter(help=field.description, show_default=shown)
    if groups:  # with a group that is None, help would leave the parameter out
        about = Parameter.combine(about, Parameter(group=groups[0]))
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_ONLY if positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.is_required() else None,
        annotation=Annotated[annotation if field.is_required() else annotation | None, about],
    )


def _plain(annotation: Any) -> Any:
    """Returns the type without its arguments, None and annotations: list[str] -> list, `Path | None` -> Path."""
    while get_origin(annotation) in (Union, types.UnionType, Annotated):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return get_origin(annotation) or annotation


def _shown(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def output_folder(folder: Path, flag: str) -> None:
    """Raises ValueError naming the flag if `folder` is not a folder or cannot be created or written."""
    existing = next(parent for parent in [folder, *folder.absolute().parents] if os.path.lexists(parent))
    if not existing.is_dir():
        raise ValueError(f"{folder} cannot be written ({existing} is not a folder); choose another {flag}")
    if fault := write_fault(existing):
        raise ValueError(f"{folder} cannot be written ({fault}); choose another {flag}")


def output_file(file: Path, flag: str) -> None:
    """Raises ValueError naming the flag if `file` cannot be written."""
    failure, folder = f"{flag} {file}: cannot be written", file.absolute().parent
    if file.is_dir():
        raise ValueError(f"{failure} (it is a folder); name a file")
    if not folder.is_dir():
        raise ValueError(f"{failure} (there is no folder {folder}); create it")
    if fault := write_fault(file if file.exists() else folder):
        raise ValueError(f"{failure} ({fault}); choose another")


def run(prog: str, main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> None:
    """Runs a program. User errors print one line, and Ctrl-C exits without a traceback.

    A training that diverged is a result, with one line on stdout, but its exit code is 1, so that scripts can see it.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows ? for other characters
    with user_errors(prog):
        try:
            main(sys.argv[1:] if argv is None else argv)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Diverged as divergence:
            print(f"diverged: {divergence}", flush=True)
            raise SystemExit(1) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ValueError(f"the disk is full ({error}); free space and continue") from None
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise ValueError(f"access is denied ({error}); correct the permissions or use another folder") from None
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise ValueError(f"files cannot be locked there ({error}); use another folder") from None
            if error.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT):
                raise ValueError(f"the storage failed ({error}); continue when it works again") from None
            raise
