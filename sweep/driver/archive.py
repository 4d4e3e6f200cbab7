"""Export of a sweep as one file, to resume, extend, inspect or track it on another machine.

The folder of a sweep holds its complete state. The archive contains that folder without files specific to the machine.
To copy a sweep only to another MLflow server, use `tracking.track`.
"""

import shutil
import tarfile
import zlib
from pathlib import Path

from sweep.driver.launch import config_of
from sweep.record import CONFIG, RECORD, Record, read_trials
from sweep.record.layout import belongs
from trainables.files import untar, whole


def pack(folder: Path, file: Path) -> int:
    """Write the sweep in `folder` atomically to `file`, a .tar.gz, and return its size in bytes.

    Raises ValueError if there is no sweep, if it is running, or if the file exists already.
    """
    config_of(folder)  # raises for a folder without a sweep
    if file.exists():
        raise ValueError(f"{file} exists; choose another file")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"{file.absolute().parent} is not a folder; choose another file")
    with whole(file) as part, Record(folder / RECORD), tarfile.open(part, "w:gz") as archive:  # holds the record's lock
        archive.add(folder, folder.absolute().name, filter=_belongs)
    return file.stat().st_size


def _belongs(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name)
    return member if belongs(name.name) or len(name.parts) == 1 else None


def unpack(file: Path, out: Path) -> Path:
    """Unpack an exported sweep into the folder `out` and return the folder of the sweep.

    Raises ValueError if the file is not an exported sweep, or if a sweep of that name exists already.
    """
    if not file.is_file():
        raise ValueError(f"{file} is not a file; give a file written by `python -m sweep export`")
    try:
        with tarfile.open(file, "r:gz") as archive:
            names = {Path(member.name).parts[0] for member in archive.getmembers() if Path(member.name).parts}
            if len(names) != 1:
                raise ValueError(f"{file} must contain one folder, got {len(names)}")
            (name,) = names
            if (out / name).exists():
                raise ValueError(f"{out / name} exists; choose another --out")
            part = out / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            try:
                untar(archive, part)
                for needed in (RECORD, CONFIG):
                    if not (part / name / needed).is_file():
                        raise ValueError(f"{file} does not contain a sweep (no {needed})")
                read_trials(part / name)
                (part / name).rename(out / name)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} cannot be unpacked into {out} ({error})") from None
    return out / name
