"""Pack a sweep into one file, to move it to another machine."""

from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import say
from sweep.driver import archive
from trainables.flags import Place


def main(folder: SweepFolder, file: Annotated[Place, Parameter(help="a .tar.gz")], /) -> None:
    size = archive.pack(folder, file)
    how = f"python -m sweep import {quote(file.name)}"
    say(f"{size / 1e6:.1f} MB in {file}; import it elsewhere with:  {how}")
