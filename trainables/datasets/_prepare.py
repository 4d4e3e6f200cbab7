"""Decodes, crops and resizes pictures once, into a file that all later trials map into memory.

Sixty thousand JPEGs take many seconds, a map takes none, and the processes of a machine share its pages. The
file is keyed by everything that shapes its content (the pictures' stamps, their order, the options), so it is
never stale and may be deleted at any time.

N pictures, C H W channels, height and width of a picture.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from ._errors import reason
from ._lock import locked
from ._source import Pictures, digest

RULES = b"1"  # to be counted up when the same pictures and options shall give other bytes
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")  # Pillow's names of the grey modes
RUN = 32  # pictures decoded in one go by one thread: handing over a small one takes as long as decoding it
AHEAD = 32  # runs decoded ahead of the writer, which bounds the memory
NAMED = 3  # damaged files that an error names


class Unreadable(ValueError):
    """Some pictures cannot be decoded."""


def places(root: Path | None) -> list[Path]:
    """Where prepared files of the data below `root` may lie: beside it, else in the user's cache.

    The environment variable `SWEEP_CACHE` overrides the place of the user's cache.
    """
    users = Path(os.environ.get("SWEEP_CACHE") or "~/.cache/autoencoder-sweep/prepared").expanduser()
    return [users] if root is None else [root / "prepared", users]


def prepare(
    name: str, parts: Sequence[Pictures], size: int | None, channels: int | None, folders: Sequence[Path]
) -> list[np.ndarray]:
    """Each part's pictures, uint8 (N, C, H, W), as a read-only map of a file in one of `folders`.

    It is written into the first folder that lets it. Raises a `ValueError` where pictures are damaged or
    of several sizes without a `size`, and where no folder can be written.
    """
    key = digest(RULES, *(part.stamp for part in parts), repr((size, channels)).encode()).hex()
    files = [folder / f"{name[:50]}-{key}.npy" for folder in folders]
    images = next((images for images in map(_open, files) if images is not None), None)
    if images is None:
        images = _make(name, files, parts, size, channels)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return np.split(images, ends)


def _open(file: Path) -> np.ndarray | None:
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, EOFError, ValueError):  # not there, or cut short: to be made
        return None


def _make(
    name: str, files: Sequence[Path], parts: Sequence[Pictures], size: int | None, channels: int | None
) -> np.ndarray:
    failures = []
    for file in files:
        try:
            with locked(file.parent):
                images = _open(file)
                if images is None:  # no other process has made it while we waited
                    _write(file, parts, size, channels)
                    images = np.load(file, mmap_mode="r")
                return images
        except OSError as error:  # a full disk, or a data root that may only be read
            failures.append(f"{file.parent} ({reason(error)})")
    raise ValueError(
        f"{name}: cannot keep its prepared pictures in {' or '.join(failures)}; free space, or name a folder "
        "that can be written in SWEEP_CACHE"
    )


def _write(file: Path, parts: Sequence[Pictures], size: int | None, channels: int | None) -> None:
    partial = file.with_name(f"{file.name}.{uuid4().hex}.partial")
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        shape = _shape(parts, size, channels, pool)  # (C, H, W)
        header = {"descr": "|u1", "fortran_order": False, "shape": (sum(map(len, parts)), *shape)}
        try:
            with open(partial, "xb") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for array in _each(parts, lambda image: _array(image, shape, size), pool):
                    stream.write(array.data)
            os.replace(partial, file)  # whole or not at all
        finally:
            partial.unlink(missing_ok=True)


def _shape(
    parts: Sequence[Pictures], size: int | None, channels: int | None, pool: ThreadPoolExecutor
) -> tuple[int, int, int]:
    """(C, H, W) of all pictures, from their headers; they must agree in what the options leave open."""
    if size is not None and channels is not None:
        return channels, size, size
    if (shape := parts[0].shape) is not None and all(part.shape == shape for part in parts):
        return channels or shape[0], size or shape[1], size or shape[2]
    names = [name for part in parts for name in part.names]
    try:
        headers = list(_each(parts, lambda image: (image.size, image.mode in GREY), pool))
    except Unreadable:
        deque(_each(parts, _decode, pool), maxlen=0)  # the error shall count those with whole headers too
        raise
    (width, height), _ = headers[0]
    if size is None:
        for name, (other, _) in zip(names, headers, strict=True):
            if other != (width, height):
                raise ValueError(
                    f"{names[0]} is {width}x{height} and {name} is {other[0]}x{other[1]}; give a size, to "
                    "which all pictures are cropped and resized"
                )
    else:
        width = height = size
    return channels or (1 if all(grey for _, grey in headers) else 3), height, width


def _each(parts: Sequence[Pictures], function: Callable[[Image.Image], object], pool: ThreadPoolExecutor) -> Iterator:
    """`function` of each readable picture in order; raises `Unreadable` at the end if some were not."""
    total, bad = sum(map(len, parts)), []

    def attempt(part: Pictures, i: int) -> object:
        try:
            with part.open(i) as image:
                return function(image)
        except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
            return _Damage(f"{part.names[i]} ({reason(error)})")

    def attempt_run(run: list[tuple[Pictures, int]]) -> list[object]:
        return [attempt(part, i) for part, i in run]

    everything = ((part, i) for part in parts for i in range(len(part)))
    runs = iter(lambda: list(islice(everything, RUN)), [])
    while ahead := list(islice(runs, AHEAD)):
        for result in chain.from_iterable(pool.map(attempt_run, ahead)):
            if isinstance(result, _Damage):
                bad.append(result.what)
            else:
                yield result
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise Unreadable(
            f"{len(bad)} of {total} pictures cannot be read: {', '.join(bad[:NAMED])}{more}; repair or remove them"
        )


@dataclass(frozen=True)
class _Damage:
    what: str


def _decode(image: Image.Image) -> None:
    image.load()


def _array(image: Image.Image, shape: tuple[int, int, int], size: int | None) -> np.ndarray:
    """The picture as uint8 of `shape`, (C, H, W), cropped and resized if a `size` is asked for."""
    channels, height, width = shape
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow itself would clip at 255
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed range; store it with 8 or 16 bits")
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        side = min(image.size)
        left, upper = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, upper, left + side, upper + side)).resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1))
