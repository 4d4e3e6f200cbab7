"""Any folder of pictures as a data set, with or without class subfolders and official splits.

The data set starts at the first folder with more than one subfolder, because archives often add outer folders. Official
splits are subfolders there such as `train` with `test` or `val`, `training_set` with `test_set`, `seg_train` with
`seg_test`, `trainA` with `testA`, or subfolders of these names in each class. Classes are the first level of folders
below that. `Reading` describes what was read and what was left out.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._errors import reason
from ._pictures import SUFFIXES, open_picture
from ._reading import SET_ASIDE, Reading
from ._source import Part, Pictures, Source, digest

OFFICIAL = {
    part: re.compile(
        rf"(?P<before>.*[ _.-])?(?i:(?:{names})(?:[ _-]?(?:set|images|imgs|data|split))?(?:20\d\d)?)"
        r"(?:[ _-]?(?P<domain>[A-Z]))?(?P<after>[ _.-].*)?"
    )
    for part, names in {
        "train": "train|training|trn",
        "valid": "valid|val|validation|dev|development",
        "test": "test|testing|tst",
    }.items()
}
IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pictures")
ANNOTATIONS = re.compile(r"(?i:.*(?:mask|label|annotation|segmentation|ground.?truth|target).*|gt)")
# Recycle bins, snapshots and the like; and .name, and @name on a NAS.
SYSTEM = ("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", "#recycle", "#snapshot")
FEWEST = {"train": 10, "valid": 2, "test": 2}  # pictures, at least; a distance needs a covariance, which needs two
LONGEST_NAME = 100  # bytes: file names contain the name of the data set


@dataclass(frozen=True, order=True)
class File:
    """A picture's path below its folder, and its size in bytes and time in ns, which detect changes."""

    path: str
    bytes: int
    modified: int


@dataclass(frozen=True)
class Found:
    """The content of a folder: pictures and folders, `a/b/`, both sorted by path, and numbers of ignored items."""

    files: list[File]
    folders: list[str]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Place:
    """The split of a picture, and its class if it has one."""

    part: str
    kind: str | None


def read(folder: Path, name: str | None = None, like: str | None = None) -> Source:
    """Reads the data set in `folder`; its name is `name`, by default that of the folder.

    Without an official test split, a tenth of the pictures is set aside, the same for all split seeds.
    Raises a `ValueError` for a missing folder, ambiguous splits, or too few pictures.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the path of a folder of pictures")
    folder = folder.resolve()
    name = name or folder.name
    if len(name.encode(errors="surrogateescape")) > LONGEST_NAME:
        raise ValueError(f"{folder}: the folder's name is longer than {LONGEST_NAME} bytes; rename it")
    found = find(folder)
    origins, places, beside = _arrange(folder, found)
    chosen: dict[str, list[File]] = {part: [] for part in origins}
    for file in found.files:
        if file.path in places:
            chosen[places[file.path].part].append(file)
    for part, files in chosen.items():
        if len(files) < FEWEST[part]:
            raise ValueError(
                f"{folder / origins[part]} holds {len(files)} pictures, but at least {FEWEST[part]} are needed; "
                f"pictures are files that end in {' '.join(SUFFIXES)}"
            )
    names = sorted({place.kind for place in places.values() if place.kind is not None})
    classes = {kind: label for label, kind in enumerate(names)} if len(names) > 1 else {}
    parts = {part: _part(folder, files, places, classes) for part, files in chosen.items()}
    warnings = _warnings(classes, parts)
    if "test" not in parts:
        whole, held_out = parts["train"], max(FEWEST["test"], len(parts["train"]) // 10)
        everything = np.arange(len(whole))
        parts |= {"train": whole.take(everything[:-held_out]), "test": whole.take(everything[-held_out:])}
    labelled = all(part.labels is not None for part in parts.values())
    reading = Reading(
        {part: len(pictures) for part, pictures in parts.items()},
        {part: origins.get(part, SET_ASIDE) for part in ("train", "valid", "test")},
        tuple(classes) if labelled else (),
        found.left_out | beside,
        warnings,
    )
    return Source(name, parts["train"], parts["test"], parts.get("valid"), like, reading=reading)


def read_files(folder: Path, files: Sequence[File]) -> Pictures:
    """Returns the pictures of `files` below `folder`, in that order."""
    lines = [f"{file.path}\n{file.bytes}\n{file.modified}" for file in files]
    stamp = digest("\n".join([str(folder), *lines]).encode(errors="surrogateescape"))
    return Pictures([f"{folder}/{file.path}" for file in files], stamp, lambda i: open_picture(folder / files[i].path))


def find(folder: Path) -> Found:
    """Finds all pictures below `folder` without duplicates: links to pictures that are found directly are left out.

    Raises a `ValueError` if a folder cannot be read.
    """
    files: list[File] = []
    folders: list[str] = []
    left_out: Counter[str] = Counter()
    links: list[str] = []
    seen: set[str] = set()  # real paths

    def walk(prefix: str) -> None:
        real = os.path.realpath(folder / prefix)
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name)
        except OSError as error:
            raise ValueError(
                f"{folder / prefix} cannot be listed ({reason(error)}); correct its permissions"
            ) from error
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith((".", "@")) or entry.name in SYSTEM:
                left_out["hidden"] += 1
            elif entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                folders.append(f"{path}/")
                walk(f"{path}/")
            elif add(path):
                seen.add(f"{real}/{entry.name}")

    def add(path: str) -> bool:
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in SUFFIXES:
            left_out[suffix or "without a suffix"] += 1
            return False
        try:
            status = os.stat(folder / path)
        except OSError:  # a broken link: decoding fails on it, and names it
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            left_out["irregular files"] += 1
            return False
        files.append(File(path, status.st_size, status.st_mtime_ns) if status else File(path, 0, 0))
        return True

    walk("")
    own = os.path.realpath(folder)
    while links:  # after everything else, so that a picture is found at its own path
        path = links.pop(0)
        real = os.path.realpath(folder / path)
        if real in seen or own.startswith(f"{real.rstrip('/')}/"):
            left_out["links to files already read"] += 1
        elif os.path.isdir(real):
            folders.append(f"{path}/")
            walk(f"{path}/")
        elif add(path):
            seen.add(real)
    return Found(sorted(files), sorted(folders), dict(left_out))


def _arrange(folder: Path, found: Found) -> tuple[dict[str, str], dict[str, Place], dict[str, int]]:
    """Returns the folder of each split, the place of each picture by path, and numbers of ignored items by location."""
    base, beside = _base(folder, found)
    here, names = _below(found, base), _names_in(found, base)
    within = {"": _official(folder / base, names)}  # class, or none, -> its folders of splits
    if not within[""] and here and names:
        within = {f"{name}/": _official(folder / base / name, _names_in(found, f"{base}{name}/")) for name in names}
        within = {kind: splits for kind, splits in within.items() if splits or _below(found, base + kind)}
        if not all(within.values()) or any("/" not in path for path in here):
            kinds = {path: path.partition("/")[0] if "/" in path else None for path in here}
            return (
                {"train": base.rstrip("/") or "."},
                {base + path: Place("train", kind) for path, kind in kinds.items()},
                beside,
            )
    elif not within[""]:
        return {"train": base.rstrip("/") or "."}, {base + path: Place("train", None) for path in here}, beside
    origins: dict[str, list[str]] = {part: [] for part in OFFICIAL}
    places: dict[str, Place] = {}
    domains = {domain for splits in within.values() for _, domain in splits.values()}
    for kind, splits in within.items():
        for name, (part, domain) in splits.items():
            origins[part].append(f"{base}{'*/' if kind else ''}{name}")
            for path in _below(found, f"{base}{kind}{name}/"):
                own = kind.rstrip("/") or (
                    domain if len(domains) > 1 else path.partition("/")[0] if "/" in path else ""
                )
                places[f"{base}{kind}{name}/{path}"] = Place(part, own or None)
    for path in here:
        if base + path not in places:
            where = f"in {base}{path.partition('/')[0]}/" if "/" in path else "next to the folders of the splits"
            beside[where] = beside.get(where, 0) + 1
    return {part: ", ".join(sorted(set(names))) for part, names in origins.items() if names}, places, beside


def _base(folder: Path, found: Found) -> tuple[str, dict[str, int]]:
    """Returns the folder where the data set starts, `a/b/`, and the numbers of annotation pictures next to it."""
    base = ""
    beside: dict[str, int] = {}
    while True:
        paths = _below(found, base)
        filled = Counter(path.partition("/")[0] for path in paths)
        if any("/" not in path for path in paths) or _official(folder / base, _names_in(found, base)):
            return base, beside
        images = [name for name in filled if name.lower() in IMAGES]
        others = {name: n for name, n in filled.items() if name not in images}
        if len(images) == 1 and all(map(ANNOTATIONS.fullmatch, others)):
            base, beside = f"{base}{images[0]}/", beside | {f"in {base}{name}/": n for name, n in others.items()}
        elif len(filled) == 1:
            base = f"{base}{next(iter(filled))}/"
        else:
            return base, beside


def _names_in(found: Found, base: str) -> list[str]:
    """Returns the names of the folders directly below `base`."""
    names = [path[len(base) : -1] for path in found.folders if path.startswith(base)]
    return [name for name in names if name and "/" not in name]


def _below(found: Found, base: str) -> list[str]:
    """Returns the paths of the pictures below `base`, relative to it."""
    return [file.path[len(base) :] for file in found.files if file.path.startswith(base)]


def _official(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """Returns the split and the domain (A in trainA) of each subfolder that is a split. A lone `train` may be a class.

    Names may have a common prefix and suffix, such as `seg_train` and `seg_test`.
    """
    found: dict[tuple[str, str], dict[str, tuple[str, str | None]]] = {}  # prefix and suffix -> the splits
    for name in names:
        for part, pattern in OFFICIAL.items():
            if match := pattern.fullmatch(name):
                around = (match["before"] or "").casefold(), (match["after"] or "").casefold()
                found.setdefault(around, {})[name] = (part, match["domain"])
    bare = found.pop(("", ""), {})
    if len(parts := {part for part, _ in bare.values()}) > 1:
        if "train" not in parts:
            raise ValueError(f"{folder} holds {' and '.join(bare)}, but no folder of training pictures; name one train")
        return _distinct(folder, bare)
    pictures = [splits for splits in found.values() if not all(map(ANNOTATIONS.fullmatch, splits))]
    split = [splits for splits in pictures if {"train"} < {part for part, _ in splits.values()}]
    if len(split) > 1:
        named = " and of ".join(", ".join(splits) for splits in split)
        raise ValueError(f"{folder} holds the splits of {named}; move all but one elsewhere")
    return _distinct(folder, split[0]) if split else {}


def _distinct(folder: Path, found: dict[str, tuple[str, str | None]]) -> dict[str, tuple[str, str | None]]:
    if len(set(found.values())) < len(found):
        raise ValueError(f"{folder} holds {', '.join(found)}, of which two are the same split; rename or move one")
    return found


def _part(folder: Path, files: list[File], places: dict[str, Place], classes: dict[str, int]) -> Part:
    # Class folders are consecutive; shuffled, the first few pictures include all classes.
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    kinds = [kind for file in files if (kind := places[file.path].kind) is not None]
    labelled = bool(classes) and len(kinds) == len(files)
    labels = np.array([classes[kind] for kind in kinds], np.int64) if labelled else None
    return Part(read_files(folder, files), labels)


def _warnings(classes: dict[str, int], parts: dict[str, Part]) -> tuple[str, ...]:
    doubts = []
    alike = Counter(name.casefold() for name in classes)
    if same := [name for name in classes if alike[name.casefold()] > 1]:
        doubts.append(f"the classes {', '.join(same)} differ only in case")
    if classes and (without := [part for part, pictures in parts.items() if pictures.labels is None]):
        doubts.append(f"no labels, because some pictures of {', '.join(without)} are outside the class folders")
    return tuple(doubts)
