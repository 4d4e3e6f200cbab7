"""Any folder of pictures as a data set: with or without class subfolders, with or without official splits.

Official splits are subfolders `train` (`training`) beside `test` (`testing`) or `valid` (`val`, `validation`)
in small or capital letters; other subfolders beside them are not read. Classes are the first level of folders
below that. Hidden files and files that are no pictures (by their suffix) are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ._errors import reason
from ._source import Part, Pictures, Source, digest

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
OFFICIAL = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
FEWEST = 10  # pictures to train on; a tenth of them must be at least one


@dataclass(frozen=True, order=True)
class File:
    """A picture's path below its part's folder, and what changes with it: size in bytes, time in ns."""

    path: str
    bytes: int
    modified: int


def read(folder: Path, name: str | None = None, like: str | None = None) -> Source:
    """The data set in `folder`, called by the folder's own name unless `name` is given.

    Without an official test split a tenth of the pictures is set aside, the same for every seed of the split.
    Raises a `ValueError` for a missing folder or too few pictures.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give the path of a folder of pictures")
    folder = folder.resolve()
    places = _places(folder)
    found = {part: find(place) for part, place in places.items()}
    for part, files in found.items():
        fewest = FEWEST if part == "train" else 1
        if len(files) < fewest:
            raise ValueError(
                f"{places[part]} holds {len(files)} pictures, but at least {fewest} are needed; pictures are "
                f"files that end in {' '.join(SUFFIXES)}"
            )
    classes = _classes(found.values())
    parts = {part: _part(places[part], files, classes) for part, files in found.items()}
    if "test" not in parts:
        whole, held_out = parts["train"], max(1, len(parts["train"]) // 10)
        everything = np.arange(len(whole))
        parts |= {"train": whole.take(everything[:-held_out]), "test": whole.take(everything[-held_out:])}
    return Source(name or folder.name, parts["train"], parts["test"], parts.get("valid"), like)


def read_files(folder: Path, files: Sequence[File]) -> Pictures:
    """The pictures of `files` below `folder`, in that order."""

    def picture(i: int) -> Image.Image:
        image = Image.open(folder / files[i].path)
        if "exif" in image.info:
            ImageOps.exif_transpose(image, in_place=True)  # cameras store the picture as the sensor lay
        return image

    lines = [f"{file.path}\n{file.bytes}\n{file.modified}" for file in files]
    stamp = digest("\n".join([str(folder), *lines]).encode(errors="surrogateescape"))
    return Pictures([f"{folder}/{file.path}" for file in files], stamp, picture)


def find(folder: Path) -> list[File]:
    """All pictures below `folder`, sorted by path. Raises a `ValueError` where a folder may not be read."""
    return sorted(_walk(folder, "", frozenset()))


def _walk(folder: Path, prefix: str, ancestors: frozenset[str]) -> Iterator[File]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise ValueError(f"{folder} cannot be listed ({reason(error)}); correct its permissions") from error
    ancestors |= {os.path.realpath(folder)}
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if os.path.realpath(entry) not in ancestors:  # a link to a folder around it would never end
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", ancestors)
        elif entry.name.lower().endswith(SUFFIXES):
            try:
                status = entry.stat()
            except OSError:  # a broken link: decoding fails on it, and names it
                yield File(prefix + entry.name, 0, 0)
            else:
                yield File(prefix + entry.name, status.st_size, status.st_mtime_ns)


def _places(folder: Path) -> dict[str, Path]:
    """Where each part lies. A lone folder named "train" may be a class, so it is official in company only."""
    inside = {entry.name.lower(): folder / entry.name for entry in os.scandir(folder) if entry.is_dir()}
    places = {part: inside[name] for part, names in OFFICIAL.items() for name in names if name in inside}
    return places if "train" in places and len(places) > 1 else {"train": folder}


def _classes(parts: Iterable[Sequence[File]]) -> dict[str, int] | None:
    """The label of each class subfolder, in sorted order over all parts; one class alone is none."""
    names = sorted({file.path.partition("/")[0] for files in parts for file in files if "/" in file.path})
    return {name: label for label, name in enumerate(names)} if len(names) > 1 else None


def _part(folder: Path, files: list[File], classes: dict[str, int] | None) -> Part:
    # Class folders come one after the other; shuffled, the first few pictures show them all.
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    labels = None
    if classes is not None and all("/" in file.path for file in files):
        labels = np.array([classes[file.path.partition("/")[0]] for file in files], np.int64)
    return Part(read_files(folder, files), labels)
