"""The commands of `aesweep` (`python -m sweep`), a module each: its docstring is the help, `main(argv)` the command.

A module whose name begins with an underscore is shared by commands. A command is added by adding its module.
"""

import ast
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sweep.driver.screen import steady_output
from trainables import flags as command_line
from trainables.words import did_you_mean

PROGRAM = "python -m sweep"


def names() -> dict[str, str]:
    """The commands and their modules; a word that Python reserves has an underscore behind it as a module."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name.rstrip("_").replace("_", "-"): f"{__name__}.{name}" for name in modules}


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m sweep COMMAND ...`. User errors are one line and exit code 2."""
    with steady_output():
        command_line.run(PROGRAM, _dispatch, argv)


def _dispatch(argv: Sequence[str]) -> None:
    known = names()
    if not argv:
        raise ValueError(f"no command given; choose one of {', '.join(known)}, or --help")
    if argv[0] == "--version":
        print(f"autoencoder-sweep {version('autoencoder-sweep')}")
        raise SystemExit
    if argv[0] in ("-h", "--help"):
        print(_help(known))
        raise SystemExit
    command, *rest = argv
    if command not in known:
        hint = did_you_mean(command, known)
        raise ValueError(f"unknown command {command!r}{hint} (known: {', '.join(known)})")
    import_module(known[command]).main(rest)


def _help(known: dict[str, str]) -> str:
    width = max(map(len, known))
    lines = [f"usage: {PROGRAM} COMMAND ...", "", "commands (COMMAND --help shows the flags of one):"]
    return "\n".join([*lines, *(f"  {name:<{width}}  {_about(module)}" for name, module in known.items())])


def _about(module: str) -> str:
    """The first line of a command's docstring, read without the seconds that its imports take."""
    source = Path(find_spec(module).origin).read_text(encoding="utf-8")
    first = ast.get_docstring(ast.parse(source)).splitlines()[0]
    return first[0].lower() + first[1:].rstrip(".")
