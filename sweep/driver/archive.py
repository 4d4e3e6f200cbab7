"""A sweep as one file, to be carried to another machine: there it is resumed, extended, looked at, or told to MLflow.

Everything that a sweep knows is in its folder; the file is that folder without what belongs to the machine it ran on
(locks, how far MLflow was told, Ray's notes, half-written files). Into another MLflow alone, `tracking.track` carries
it without any file.
"""

import shutil
import tarfile
from pathlib import Path

from sweep.driver.launch import config_of
from sweep.record import CONFIG, RECORD, Record, read_trials
from trainables.files import whole

LEFT_BEHIND = ("*.lock", "*.holder", "tracking-*", "ray", ".*", "*.part")


def pack(folder: Path, file: Path) -> int:
    """Writes the sweep in `folder` into `file`, a .tar.gz, whole or not at all, and returns its bytes.

    Raises ValueError if there is no sweep, if it is running, or if the file exists already.
    """
    config_of(folder)  # raises for a folder without a sweep
    if file.exists():
        raise ValueError(f"{file} exists; choose another file")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"{file.absolute().parent} is no folder; choose another file")
    with whole(file) as part, Record(folder / RECORD), tarfile.open(part, "w:gz") as archive:  # nobody writes meanwhile
        archive.add(folder, folder.absolute().name, filter=_belongs)
    return file.stat().st_size


def _belongs(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name)
    return None if any(name.match(pattern) for pattern in LEFT_BEHIND) and len(name.parts) > 1 else member


def unpack(file: Path, out: Path) -> Path:
    """Brings a packed sweep into the folder `out` and returns the sweep's own folder there.

    Raises ValueError if the file is no packed sweep, or a sweep of that name is there already.
    """
    if not file.is_file():
        raise ValueError(f"{file} is no file; name one that `python -m sweep export` has written")
    try:
        with tarfile.open(file, "r:gz") as archive:
            names = {Path(member.name).parts[0] for member in archive.getmembers() if Path(member.name).parts}
            if len(names) != 1:
                raise ValueError(f"{file} holds {len(names)} folders instead of one sweep")
            (name,) = names
            if (out / name).exists():
                raise ValueError(f"{out / name} exists; choose another --out")
            part = out / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            try:
                archive.extractall(part, filter="data")  # nothing outside, no links that lead there, no devices
                for needed in (RECORD, CONFIG):
                    if not (part / name / needed).is_file():
                        raise ValueError(f"{file} holds no sweep (no {needed})")
                read_trials(part / name)
                (part / name).rename(out / name)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{file} cannot be unpacked into {out} ({error})") from None
    return out / name
