"""Where a trial failed: the line to name in one sentence, and the traceback kept beside the trial."""

import sysconfig
import traceback
from contextlib import suppress
from pathlib import Path

import sweep
import trainables
from sweep.record import TRACEBACK
from trainables.files import whole

MOST = 64_000  # characters of a traceback; its end names the error
OURS = tuple(Path(package.__path__[0]).resolve() for package in (trainables, sweep))
LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def place(error: BaseException) -> str:
    """`file.py:line` of the innermost frame that its author can mend: of code that is neither ours nor a library's;
    else of ours; else the innermost of all."""
    files = [(Path(frame.filename).resolve(), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [(file, line) for file, line in files if _below(file, OURS)]
    theirs = [(file, line) for file, line in files if file.is_file() and not _below(file, OURS + LIBRARIES)]
    file, line = (theirs or ours or files)[-1]
    return f"{file.name}:{line}"


def keep(error: BaseException, folder: Path) -> None:
    """Writes the traceback, or its last `MOST` characters, into the folder of a trial. A disk that cannot be written
    costs the file alone: the trial fails for its own reason."""
    text = "".join(traceback.format_exception(error))
    with suppress(OSError), whole(folder / TRACEBACK) as part:
        part.write_text(text[-MOST:], encoding="utf-8", errors="replace")


def _below(file: Path, folders: tuple[Path, ...]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)
