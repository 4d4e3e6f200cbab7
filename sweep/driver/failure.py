"""The place where a trial failed, and its traceback, stored in the trial's folder."""

import traceback
from contextlib import suppress
from pathlib import Path

from sweep.record import TRACEBACK
from trainables import outside
from trainables.files import whole

MOST = 64_000  # characters of a traceback to keep, from its end, which names the error


def place(error: BaseException) -> str:
    """Return `file.py:line` of the innermost code of the user, not of a library."""
    file, line = outside.place(error)
    return f"{Path(file).name}:{line}"


def keep(error: BaseException, folder: Path) -> None:
    """Write the traceback, or its last `MOST` characters, into the folder of a trial. Ignores errors of the disk, so
    that the trial keeps its own reason."""
    text = "".join(traceback.format_exception(error))
    with suppress(OSError), whole(folder / TRACEBACK) as part:
        part.write_text(text[-MOST:], encoding="utf-8", errors="replace")
