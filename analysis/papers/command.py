"""The command line that the programs of this package share."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def inputs(module: str, about: str | None, kinds: str, argv: Sequence[str] | None) -> Iterator[list[str]]:
    """Context manager that yields the folders and files on a command line, in which an invalid one ends the program
    with one line and exit code 2.

    about: the module's documentation, which the help shows. kinds: what may be given, e.g. "SWEEP". argv: arguments;
    default: those of the process.
    """
    parser = argparse.ArgumentParser(
        f"python -m analysis.papers.{module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar=kinds)
    given = parser.parse_args(argv).inputs
    try:
        yield given
    except (OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
