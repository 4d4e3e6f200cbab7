"""Data sets: `load` returns any data set as uint8 arrays, split into train, valid and test.

A data set is one short file in this folder, found by its file name (files that start with `_` are internal). It defines
`read(root, download) -> Source`, and `NAME` if the name of the data set is not a Python name; no other file changes.
Any folder of pictures is also a data set, under the name `folder:PATH`.

N pictures, C H W channels, height and width of a picture, P coordinates of a point.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from trainables import outside
from trainables.words import did_you_mean

from . import _files, _folder
from ._errors import Absent
from ._paths import expanded
from ._pictures import SUFFIXES
from ._prepare import counted, decode, places, prepare
from ._reading import Pixels, Reading, left_out_words
from ._source import Part, Pictures, Source

__all__ = [
    "LARGEST_SIDE",
    "SMALLEST_SIDE",
    "Absent",
    "Part",
    "Reading",
    "Source",
    "Split",
    "Splits",
    "expanded",
    "load",
    "names",
    "read_pictures",
    "refuse_black",
    "refuse_identical",
]

SMALLEST_SIDE, LARGEST_SIDE = 4, 4096  # pixels of a picture: the smallest network halves it twice


@dataclass(frozen=True)
class Split:
    """The images of one split, uint8 (N, C, H, W), C-contiguous, and their labels, int64 (N,), if known.

    The images may be a read-only memory map. A data set of points has float32 (N, P) instead.
    """

    images: np.ndarray
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Splits:
    """A data set, or a fold of it: its name, the data set whose hand-tuned values it uses, three splits, and how a
    user's was read."""

    name: str
    like: str
    train: Split
    valid: Split
    test: Split
    reading: Reading | None = None
    is_fold: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one picture, (C, H, W), or of one point, (P,)."""
        return self.train.images.shape[1:]

    def fold_size(self, count: int) -> int:
        """Returns the number of test images in each of `count` folds. Raises ValueError for fewer than 2."""
        images = len(self.train) + len(self.test)
        if images < 2 * count:
            raise ValueError(f"{self.name} has {images} training and test images; {count} folds need {2 * count}")
        return images // count

    def folds(self, count: int, seed: int) -> list[Splits]:
        """Returns the data set `count` times, each with another part of its training and test images as test split.

        The parts are equal and disjoint, by a permutation that `seed` determines; fewer than `count` images are in
        none. The validation split stays, because its images have chosen what is compared.
        Raises ValueError for fewer than 2 images in a part.
        """
        size = self.fold_size(count)
        train, test = (Part(split.images, split.labels).unopened() for split in (self.train, self.test))
        whole = train.and_then(test)
        order = np.random.default_rng(seed).permutation(len(whole))
        folds = []
        for start in range(0, count * size, size):
            chosen = np.zeros(len(whole), bool)
            chosen[order[start : start + size]] = True
            parts = [whole.take(np.flatnonzero(part)) for part in (~chosen, chosen)]
            arrays, _ = _arrays(self.name, parts, None, None, places(None))
            train_split, test_split = (Split(array, part.labels) for array, part in zip(arrays, parts, strict=True))
            folds.append(replace(self, train=train_split, test=test_split, is_fold=True))
        return folds


def names() -> list[str]:
    """Returns the names that `load` accepts, sorted, in addition to `folder:PATH`."""
    return sorted(_readers())


def load(
    name: str,
    root: str | Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    split_seed: int = 0,
    download: bool = True,
) -> Splits:
    """Loads the data set `name` from the folder `root`.

    The validation split is the official one, else the last tenth of a permutation of the official training split,
    seeded by `split_seed`. The test split is the official one, else a fixed part. Pictures that must be decoded or
    resized are stored in a file that is memory-mapped from then on (see `_prepare`).

    size: side in pixels; pictures are cropped to the central square and resized, bilinear with antialiasing.
    channels: 1 (luma) or 3 (grey is replicated).
    download: download missing files to `root`, if the data set allows it.

    Raises a one-line `ValueError` for an unknown name, an invalid option, and missing or damaged files.
    """
    if size is not None and not SMALLEST_SIDE <= size <= LARGEST_SIDE:
        allowed = f"{SMALLEST_SIDE} to {LARGEST_SIDE}"
        raise ValueError(f"size must be a whole number of pixels from {allowed}, or None, got {size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (colour) or None, got {channels}")
    root = expanded(root)
    source = _read(name, root, download)
    parts = _split(source, split_seed)
    arrays, pixels = _arrays(source.name, parts, size, channels, places(None if ":" in name else root))
    if pixels is None:
        pixels = counted(arrays) if source.reading is not None else Pixels()
    train, valid, test = (Split(array, part.labels) for array, part in zip(arrays, parts, strict=True))
    sides = train.images.shape[2:]
    if sides and not SMALLEST_SIDE <= min(sides) <= max(sides) <= LARGEST_SIDE:
        given, allowed = f"{sides[1]}x{sides[0]}", f"from {SMALLEST_SIDE} to {LARGEST_SIDE}"
        raise ValueError(f"{source.name}: its pictures are {given}; give --image-size {allowed}")
    refuse_black(train.images, source.name)
    reading = source.reading and replace(
        source.reading,
        pictures={"train": len(train), "valid": len(valid), "test": len(test)},
        pixels=pixels,
    )
    return Splits(source.name, source.like or _likeness(train.images), train, valid, test, reading)


def _arrays(
    name: str, parts: Sequence[Part], size: int | None, channels: int | None, folders: Sequence[Path]
) -> tuple[list[np.ndarray], Pixels | None]:
    """Returns the images of each part, C-contiguous: in memory, with None, if they are arrays of the size and channels;
    else mapped from a file in one of `folders`, with what was seen of the pictures. Raises a `ValueError` for arrays of
    different shapes."""
    fitting = {part.shape for part in parts if part.shape is not None and _fits(part.shape, size, channels)}
    if len(fitting) > 1:
        given = " and ".join("x".join(map(str, shape)) for shape in sorted(fitting))
        raise ValueError(
            f"{name}: its splits are of different shapes, {given} (channels first); store all in one shape, or give "
            "--image-size and --channels"
        )
    if all(isinstance(part.images, np.ndarray) and part.shape in fitting for part in parts):
        return [np.ascontiguousarray(part.images) for part in parts], None
    if any(isinstance(part.images, np.ndarray) and part.images.ndim == 2 for part in parts):
        raise ValueError(f"{name}: size and channels need pictures, and this data set has points; omit them")
    return prepare(name, [Pictures.of(part.images) for part in parts], size, channels, folders)


def read_pictures(folder: Path) -> tuple[np.ndarray, str]:
    """Reads all pictures below a folder, in the order of their paths; returns uint8 (N, C, H, W) and a description.

    The result is grey if all pictures are; folders named train or test have no meaning. Raises a `ValueError` for a
    missing or empty folder, damaged pictures, and different sizes.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the path of a folder of pictures")
    found = _folder.find(folder)
    if not found.files:
        raise ValueError(f"{folder} contains no pictures; pictures are files that end in {' '.join(SUFFIXES)}")
    images, pixels = decode(_folder.read_files(folder, found.files))
    refuse_black(images, str(folder))
    words = [f"{len(images)} pictures of {folder}", *pixels.words(), *left_out_words(found.left_out)]
    return images, "; ".join(words)


def _readers() -> dict[str, Callable[[Path, bool], Source]]:
    stems = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    modules = {stem: import_module(f"{__name__}.{stem}") for stem in stems}
    return {getattr(module, "NAME", stem): module.read for stem, module in modules.items()}


def _read(name: str, root: Path, download: bool) -> Source:
    kind, colon, path = name.partition(":")
    if kind in ("folder", "file"):
        if not path:
            raise ValueError(f"data set '{name}' lacks a path; write {kind}:PATH")
        return (_folder if kind == "folder" else _files).read(expanded(path))
    readers, installed = _readers(), outside.installed("datasets")
    if (colon and not expanded(name).is_dir()) or name in installed:
        return _from_outside(installed.get(name, name), root, download)
    if name not in readers:
        known = sorted([*readers, *installed])
        hint, others = did_you_mean(name.lower(), known), "folder:PATH, file:PATH, package.module:read"
        if expanded(name).is_dir():
            hint = f"; did you mean 'folder:{name}'?"
        raise ValueError(f"data set {name!r} is not known{hint} (known: {', '.join(known)}, {others})")
    return readers[name](root, download)


def _from_outside(name: str, root: Path, download: bool) -> Source:
    """Returns the Source of an external `read(root, download)` after checking its arrays."""
    what = f"data set '{name}'"
    function = outside.part(name, what)
    try:
        source = function(root, download)
    except ValueError:
        raise  # already one line
    except Exception as error:  # external code may raise anything
        raise ValueError(f"{what}: {outside.fault(error)}") from error
    if not isinstance(source, Source):
        raise ValueError(f"{what} must return a trainables.datasets.Source, got {type(source).__name__}")

    parts = {split: part for split in ("train", "valid", "test") if (part := getattr(source, split)) is not None}
    for split, part in parts.items():
        where = f"{what}, {split}"
        if isinstance(part.images, Pictures):
            parts[split] = Part(part.images, _files.classified(part.labels, len(part.images), where))
        else:
            parts[split] = Part(*_files.checked(part.images, part.labels, where))
    parts, _ = _files.numbered(parts)
    parts = {split: part.unopened() for split, part in parts.items()}
    return replace(source, train=parts["train"], valid=parts.get("valid"), test=parts["test"])


def _split(source: Source, seed: int) -> tuple[Part, Part, Part]:
    if source.valid is not None:
        return source.train, source.valid, source.test
    n = len(source.train)
    held_out = source.held_out or max(2, n // 10)  # a covariance needs two pictures
    order = np.random.default_rng(seed).permutation(n)
    return source.train.take(order[:-held_out]), source.train.take(order[-held_out:]), source.test


def _fits(shape: tuple[int, ...], size: int | None, channels: int | None) -> bool:
    if size is None and channels is None:
        return True
    return len(shape) == 3 and shape == (channels or shape[0], size or shape[1], size or shape[2])


def _some(images: np.ndarray) -> np.ndarray:
    """Returns about a thousand images, evenly spaced."""
    return images[:: max(1, len(images) // 1000)]


def refuse_black(images: np.ndarray, where: str) -> None:
    """Raises ValueError for images of bytes 0 and 1 only: masks, or floats in [0, 1] cast to bytes."""
    if images.dtype == np.uint8 and _some(images).max() == 1:
        words = "pictures contain only the values 0 and 1 of 0 to 255, which is black; scale them to 0 to 255"
        raise ValueError(f"{where}: its {words}")


def refuse_identical(splits: Splits, names: Iterable[str]) -> None:
    """Raises ValueError if all images of one of the named splits are the same picture; points are not looked at."""
    for name in names:
        images = getattr(splits, name).images
        if images.ndim == 4 and not any((image != images[0]).any() for image in images):
            raise ValueError(f"{splits.name}: all {len(images)} images of its {name} split are the same picture")


def _likeness(images: np.ndarray) -> str:
    """Returns "mnist" for grey pictures, in one channel or three equal ones, else "cifar10"."""
    some = _some(images)  # (n, C, H, W)
    return "mnist" if (some == some[:, :1]).all() else "cifar10"
