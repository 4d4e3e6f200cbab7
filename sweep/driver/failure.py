"""Where a trial failed: the line to name in one sentence, and the traceback kept beside the trial."""

import traceback
from contextlib import suppress
from pathlib import Path

from sweep.record import TRACEBACK
from trainables import outside
from trainables.files import whole

MOST = 64_000  # characters of a traceback; its end names the error


def place(error: BaseException) -> str:
    """`file.py:line` of what its author can mend."""
    file, line = outside.place(error)
    return f"{Path(file).name}:{line}"


def keep(error: BaseException, folder: Path) -> None:
    """Writes the traceback, or its last `MOST` characters, into the folder of a trial. A disk that cannot be written
    costs the file alone: the trial fails for its own reason."""
    text = "".join(traceback.format_exception(error))
    with suppress(OSError), whole(folder / TRACEBACK) as part:
        part.write_text(text[-MOST:], encoding="utf-8", errors="replace")
