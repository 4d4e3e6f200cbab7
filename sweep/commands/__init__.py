"""The commands of `aesweep` (`python -m sweep`), one module each: its docstring is the help, `main` the command.

Modules whose names begin with an underscore are shared by commands. To add a command, add its module.
"""

import ast
import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from cyclopts import App

from sweep.driver.screen import steady_output
from trainables import flags as command_line

PROGRAM = "python -m sweep"


def names() -> dict[str, str]:
    """Return the commands and their modules; a module named like a Python keyword has a trailing underscore."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name.rstrip("_").replace("_", "-"): f"{__name__}.{name}" for name in modules}


def main(argv: Sequence[str] | None = None) -> None:
    """Run `python -m sweep COMMAND ...`. User errors are one line with exit code 2."""
    with steady_output():
        command_line.run(PROGRAM, lambda argv: command_line.call(program(), argv), argv)


def program() -> App:
    """Return the app with all commands; a command is imported when it is called or its help is shown."""
    about, release = "Run, watch, continue and compare sweeps.", f"autoencoder-sweep {version('autoencoder-sweep')}"
    found = command_line.app(PROGRAM, about, version=release, version_flags=["--version"])
    for name, module in names().items():
        found.command(f"{module}:main", name=name, help=_about(module))
    found.register_install_completion_command(name="--install-completion")
    return found


@cache
def _about(module: str) -> str:
    """Return a command's docstring without importing it, which takes seconds."""
    file = files(__name__) / f"{module.rpartition('.')[2]}.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
