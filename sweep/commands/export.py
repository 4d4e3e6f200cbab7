"""Pack a sweep into one file, to carry it to another machine."""

from collections.abc import Sequence
from shlex import quote

from sweep.commands._arguments import SWEEP, argument, parse
from sweep.commands._ending import say
from sweep.driver import archive
from trainables.datasets import expanded

FILE = argument("file", type=expanded, help="a .tar.gz")


def main(argv: Sequence[str]) -> None:
    flags = parse("export", __doc__, argv, SWEEP, FILE)
    size = archive.pack(flags.sweep, flags.file)
    how = f"python -m sweep import {quote(flags.file.name)}"
    say(f"{size / 1e6:.1f} MB in {flags.file}; bring it in elsewhere with:  {how}")
