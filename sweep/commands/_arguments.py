"""Flags that several commands share, and how a command reads its own."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from trainables.datasets import expanded
from trainables.flags import Parser
from trainables.words import did_you_mean

Argument = Callable[[argparse.ArgumentParser], object]


def argument(*names: str, **options: Any) -> Argument:
    """An argument, described as argparse does it."""
    return lambda parser: parser.add_argument(*names, **options)


SWEEP = argument("sweep", type=expanded, help="folder of the sweep")
TRACKING_URI = argument("--tracking-uri", help="MLflow; the sweep's own unless given")
ADDRESS = argument("--address", help="a running Ray cluster, e.g. auto")


def parse(command: str, about: str, argv: Sequence[str], *arguments: Argument) -> argparse.Namespace:
    """The arguments of a command. Raises ValueError for what it does not know."""
    parser = Parser(prog=f"python -m sweep {command}", description=about, allow_abbrev=False)
    for add in arguments:
        add(parser)
    flags, unknown = parser.parse_known_args(list(argv))
    if unknown:
        options = [word for action in parser._actions for word in action.option_strings]
        raise ValueError(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], options) or '; see --help'}")
    return flags
