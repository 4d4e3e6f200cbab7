"""A file as a data set, `file:PATH`: arrays, tables with pictures in them, and archives of pictures.

    .npy .npz .pt           arrays of images, and labels if the file contains any
    .parquet .arrow         a table with a column of pictures, as written by Hugging Face's hub and `save_to_disk`;
                            or a folder of such files, with train, test and validation in their names
    .zip .tar .tar.gz ...   an archive of a folder of pictures, unpacked once

Arrays are uint8, or floats in [0, 1], (N, H, W), (N, C, H, W) or (N, H, W, C) with C of 1 or 3.
Points are float32 (N, P).
"""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any
from uuid import uuid4

import numpy as np

from trainables.files import untar

from . import _folder
from ._errors import reason
from ._pictures import open_picture
from ._prepare import places
from ._reading import SET_ASIDE, Reading
from ._source import LARGE, Part, Pictures, Source, digest, pieces

ARRAYS = (".npy", ".npz", ".pt", ".pth")
TABLES = (".parquet", ".arrow")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
SPLITS = {"train": "train|training", "valid": "valid|val|validation|dev", "test": "test|testing"}
SMALLEST_FLAT = 8  # side of images that may have been flattened to points; fewer numbers are coordinates
IMAGES, LABELS = ("images", "image", "x", "data", "imgs"), ("labels", "label", "y", "targets")


def read(path: Path) -> Source:
    """Reads a data set from a file or a folder of tables. Without a test split, a tenth of the pictures is set aside.

    Raises a one-line `ValueError` for unsupported or damaged files, and arrays of other shapes or values.
    """
    if not path.exists():
        raise ValueError(f"{path}: there is no such file; give the path of a file of images")
    suffix = "".join(path.suffixes[-2:]) if path.name.lower().endswith(ARCHIVES) else path.suffix
    name, suffix = path.name.removesuffix(suffix) or path.name, suffix.lower()
    try:
        if path.is_dir() or suffix in TABLES:
            return _source(name, *_of_tables(path))
        if suffix in ARRAYS:
            return _source(name, *_of_arrays(path, suffix))
        if path.name.lower().endswith(ARCHIVES):
            return _folder.read(_unpacked(path), name=name)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({reason(error)})") from error
    raise ValueError(f"{path}: a file of images ends in {' '.join((*ARRAYS, *TABLES, *ARCHIVES))}")


def checked(images: np.ndarray, labels: np.ndarray | None, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns images as uint8 (N, C, H, W) and labels as `classified` does; points, float32 (N, P), are not changed."""
    with _reading(where):
        images = np.asarray(images)  # fails for a list of arrays of different shapes
    if images.ndim == 2 and images.dtype == np.float32:
        if odd := np.count_nonzero(~np.isfinite(images).all(axis=1)):
            raise ValueError(f"{where}: {odd} of {len(images)} points are not finite; remove or correct them")
        return images, classified(labels, len(images), where)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(
            f"{where}: images are of shape {images.shape}; allowed are (N, H, W), (N, C, H, W) and (N, H, W, C) with C "
            "of 1 or 3, and for points float32 (N, P)"
        )
    if images.dtype.kind == "f":
        if not (images.min() >= 0 and images.max() <= 1):  # NaN fails both
            raise ValueError(
                f"{where}: floats go from 0 to 1, got {images.min():g} to {images.max():g}; scale them, or give uint8"
            )
        images = np.concatenate([np.round(piece * 255).astype(np.uint8) for piece in pieces(images)])
    if images.dtype != np.uint8:
        raise ValueError(f"{where}: images are {images.dtype}; give uint8, or floats in [0, 1]")
    return images, classified(labels, len(images), where)


def classified(labels: Any, images: int, where: str) -> np.ndarray | None:
    """Returns the labels of so many images as int64 or text (N,). Raises a `ValueError` if they do not name classes."""
    if labels is None:
        return None
    with _reading(where):
        labels = np.asarray(labels)  # fails for lists of different lengths
    if labels.shape[:1] != (images,) or labels.size != images:
        raise ValueError(f"{where}: {images} images and labels of shape {labels.shape}; give one label each")
    labels = labels.reshape(images)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "U":
        return labels
    with np.errstate(invalid="ignore"):
        odd = labels[labels % 1 != 0] if labels.dtype.kind in "biuf" else labels  # infinity and NaN are odd, too
    if len(odd):
        such = f"labels are {labels.dtype}, such as {odd[0]!s:.50}"
        raise ValueError(f"{where}: {such}; give each image a class, a whole number or text")
    return labels.astype(np.int64)


def numbered(parts: Mapping[str, Part]) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Returns the parts with labels 0, 1, ... by sorted class over all parts, and the names of the classes.

    If any part has no labels, or all have the same one, which no classifier can learn from, none has labels.
    """
    labels = {split: part.labels for split, part in parts.items() if part.labels is not None}
    unlabelled = {split: Part(part.images) for split, part in parts.items()}
    if not labels or len(labels) < len(parts):
        return unlabelled, ()
    kinds = {"text" if own.dtype.kind == "U" else "numbers": split for split, own in labels.items()}
    if len(kinds) > 1:
        raise ValueError(f"labels of {kinds['numbers']} are numbers and those of {kinds['text']} text; give one kind")
    classes = np.unique(np.concatenate(list(labels.values())))
    if len(classes) < 2:
        return unlabelled, ()
    found = {
        split: Part(parts[split].images, np.searchsorted(classes, own).astype(np.int64))
        for split, own in labels.items()
    }
    return found, tuple(map(str, classes))


def _source(name: str, parts: dict[str, Part], origins: dict[str, str], left_out: dict[str, int]) -> Source:
    """origins: the array or the files of each split; left_out: the number of items not read, by reason."""
    without = [split for split, part in parts.items() if part.labels is None]
    doubts: tuple[str, ...] = ()
    if 0 < len(without) < len(parts):
        doubts = (f"no labels, because {', '.join(without)} has none",)
    parts, classes = numbered(parts)
    if "train" not in parts:
        raise ValueError(
            f"{name} contains {', '.join(parts) or 'nothing'}, but no training images; name one split train"
        )
    for split, part in parts.items():
        if len(part) < (fewest := _folder.FEWEST[split]):
            raise ValueError(f"{name} has {len(part)} {split} images; at least {fewest} are needed")
    images = parts["train"].images
    numbers = images.shape[1] if isinstance(images, np.ndarray) and images.ndim == 2 else None
    if isinstance(images, np.ndarray):
        doubts = (*doubts, *_other_layout(images))
    parts = {split: part.unopened() for split, part in parts.items()}
    if "test" not in parts:
        order = np.random.default_rng(0).permutation(len(parts["train"]))
        held_out = max(_folder.FEWEST["test"], len(order) // 10)
        parts |= {"train": parts["train"].take(order[:-held_out]), "test": parts["train"].take(order[-held_out:])}
    reading = Reading(
        {split: len(part) for split, part in parts.items()},
        {split: origins.get(split, SET_ASIDE) for split in SPLITS},
        classes,
        left_out,
        doubts,
        numbers=numbers,
    )
    return Source(name, parts["train"], parts["test"], parts.get("valid"), reading=reading)


def _other_layout(images: np.ndarray) -> tuple[str, ...]:
    """Returns a warning if points, float32 (N, P), may be the pixels of square images, or if the last axis of square
    images may be N, after `checked`."""
    if images.ndim == 4:
        n, _, height, width = images.shape
        doubt = f"read as {n} images of {width}x{height}; if N is the last axis, store them as (N, H, W)"
        return (doubt,) if n == height != width else ()
    pixels, rest = divmod(images.shape[1], 3)
    layouts = {images.shape[1]: "(N, {0}, {0})"} | ({} if rest else {pixels: "(N, 3, {0}, {0}) or (N, {0}, {0}, 3)"})
    for numbers, layout in layouts.items():
        side = math.isqrt(numbers)
        if side**2 == numbers and side >= SMALLEST_FLAT and images.min() >= 0:
            stored = layout.format(side)
            return (f"points are not images; if these numbers are the pixels of images, store them as {stored}",)
    return ()


def _of_arrays(path: Path, suffix: str) -> tuple[dict[str, Part], dict[str, str], dict[str, int]]:
    found = _torch(path) if suffix in (".pt", ".pth") else _numpy(path)
    if not isinstance(found, Mapping):
        pair = found if isinstance(found, (tuple, list)) else (found,)
        found = dict(zip(("images", "labels"), pair, strict=False))
    parts, origins, taken = {}, {}, set()
    for split, words in SPLITS.items():
        pictures, labels = (_of_split(found, names, words, split) for names in (IMAGES, LABELS))
        if pictures is not None:
            own = found[labels] if labels else None
            parts[split] = Part(*checked(found[pictures], own, f"{path}, {split}"))
            origins[split] = pictures
            taken |= {pictures, labels}
    if not parts:
        raise ValueError(f"{path} contains {', '.join(map(str, found))}; name the arrays images and labels")
    return parts, origins, {f"array called {key}": 1 for key in found if key not in taken}


def _of_split(found: Iterable[str], names: Iterable[str], words: str, split: str) -> str | None:
    """Returns the name of a split's array: train_images, x_train, ...; for train also a name without a split."""
    for key in found:
        pieces = re.split(r"[ _.-]", str(key).lower())
        named = [piece for piece in pieces if any(re.fullmatch(each, piece) for each in SPLITS.values())]
        if any(piece in names for piece in pieces) and (
            any(re.fullmatch(words, piece) for piece in named) or (not named and split == "train")
        ):
            return key
    return None


def _numpy(path: Path) -> Any:
    try:
        mapped = path.suffix.lower() == ".npy" and path.stat().st_size >= LARGE
        loaded = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # np.load passes on errors of zipfile and zlib
        why = "objects are not read" if "pickle" in str(error) else reason(error)  # NumPy would recommend allow_pickle
        raise ValueError(f"{path} cannot be read as an array of numbers ({why})") from error


def _torch(path: Path) -> Any:
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [plain(each) for each in value]
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach().to_dense()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # NumPy has no bfloat16

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return {name: plain(value) for name, value in loaded.items()} if isinstance(loaded, Mapping) else plain(loaded)
    except Exception as error:  # torch.load passes on errors of zip and pickle
        why = "it holds other objects or is damaged" if isinstance(error, UnpicklingError) else reason(error)
        raise ValueError(f"{path} must contain only tensors ({why})") from error


def _of_tables(path: Path) -> tuple[dict[str, Part], dict[str, str], dict[str, int]]:
    files = [path] if path.is_file() else sorted(file for kind in TABLES for file in path.rglob(f"*{kind}"))
    files = [file for file in files if not file.name.startswith("cache-")]  # caches of Hugging Face's map
    if not files:
        raise ValueError(f"{path} contains no file that ends in {' or '.join(TABLES)}")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        pieces = re.split(r"[\W_]+", str(file.relative_to(path.parent)).lower())
        split = next((s for s, words in SPLITS.items() if any(re.fullmatch(words, p) for p in pieces)), "train")
        by_split.setdefault(split, []).append(file)
    origins = {split: ", ".join(file.name for file in group) for split, group in by_split.items()}
    read = {split: _of_table(group) for split, group in by_split.items()}
    left_out = {f"column called {name}": 1 for _, others in read.values() for name in others}
    return {split: part for split, (part, _) in read.items()}, origins, left_out


def _of_table(files: list[Path]) -> tuple[Part, list[str]]:
    """Returns the pictures and labels of a split, and the names of the other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(files[0]):
        table = pa.concat_tables([pq.read_table(f) if f.suffix == ".parquet" else _arrow(pa, f) for f in files])
    columns = [name for name in table.column_names if _is_picture(pa, table.schema.field(name).type)]
    column = next((name for name in columns if name.lower() in IMAGES), columns[0] if columns else None)
    if column is None:
        raise ValueError(f"{files[0]} has no column of pictures; its columns are {', '.join(table.column_names)}")
    cells = table[column]
    if pa.types.is_struct(cells.type):
        cells = pa.chunked_array([chunk.field("bytes") for chunk in cells.chunks], type=pa.binary())
    if cells.null_count:
        raise ValueError(f"{files[0]}: {cells.null_count} pictures of {column} are paths without bytes; embed them")
    labelled = next((name for name in table.column_names if name.lower() in LABELS), None)
    labels = None
    if labelled is not None:
        values, where = table[labelled], f"{files[0]}, {labelled}"
        if values.null_count:
            raise ValueError(f"{where}: {values.null_count} of {len(values)} labels are missing; remove their rows")
        if pa.types.is_nested(values.type):
            raise ValueError(f"{where}: labels are {values.type}; give each image a class, a whole number or text")
        labels = classified(values.to_pylist(), len(cells), where)
    status = "\n".join(f"{f.absolute()}\n{f.stat().st_size}\n{f.stat().st_mtime_ns}" for f in files)
    names = [f"{files[0]}, row {i}" for i in range(len(cells))]
    pictures = Pictures(names, digest(status.encode()), lambda i: open_picture(io.BytesIO(cells[i].as_py())))
    return Part(pictures, labels), [name for name in table.column_names if name not in (column, labelled)]


def _arrow(pa: ModuleType, file: Path) -> Any:
    with pa.memory_map(str(file)) as source:
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).read_all()


def _is_picture(pa: ModuleType, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and pa.types.is_binary(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _unpacked(path: Path) -> Path:
    """Returns the folder of the unpacked archive in the user's cache, keyed by the archive's path, size and time."""
    status = path.stat()
    key = digest(f"{path.absolute()}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hex()
    folder = places(None)[0] / f"unpacked-{key}"
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.{uuid4().hex}.part")
        part.mkdir(parents=True)
        try:
            with _reading(path):
                _unpack(path, part)
            try:
                os.replace(part, folder)
            except OSError:
                if not folder.is_dir():  # else another process has unpacked it
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _unpack(path: Path, folder: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # the library corrects names that point outside
        return
    with tarfile.open(path) as archive:
        untar(archive, folder)


@contextmanager
def _reading(what: Path | str) -> Iterator[None]:
    """Context manager that converts errors of libraries to ValueError: for a damaged file, they pass on those of zlib,
    lzma, zip and others."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} cannot be read ({reason(error)})") from error
