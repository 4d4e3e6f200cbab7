"""Decodes, crops and resizes pictures once, into a file that later trials map into memory.

Decoding 60,000 JPEGs takes many seconds; mapping is immediate, and the processes of a machine share the pages. The key
of the file includes everything that determines its content (stamps and order of the pictures, options), so it is never
stale and can be deleted at any time.

A .json file next to it contains properties of the pictures.

N pictures, C H W channels, height and width of a picture.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
from PIL import Image

from trainables.locks import locked
from trainables.progress import shown

from ._errors import reason
from ._paths import expanded
from ._pictures import Open, look, range_of, read
from ._reading import Pixels
from ._source import Pictures, digest

RULES = b"2"  # increment it if the same pictures and options produce other bytes
RUN = 32  # pictures per task of a thread: passing a small one takes as long as decoding it
AHEAD = 32  # runs decoded ahead of the writer; limits the memory
NAMED = 3  # damaged files listed in an error
MOST_CHOSEN = 64  # pixels of a side that is chosen for pictures of different sizes

Result = TypeVar("Result")


class Unreadable(ValueError):
    """Some pictures cannot be decoded."""


def places(root: Path | None) -> list[Path]:
    """Returns the folders for prepared files of the data below `root`: in `root`, else in the user's cache.

    The environment variable `SWEEP_CACHE` overrides the user's cache.
    """
    users = expanded(os.environ.get("SWEEP_CACHE") or "~/.cache/autoencoder-sweep/prepared")
    return [users] if root is None else [root / "prepared", users]


def prepare(
    name: str, parts: Sequence[Pictures], size: int | None, channels: int | None, folders: Sequence[Path]
) -> tuple[list[np.ndarray], Pixels]:
    """Returns the pictures of each part, uint8 (N, C, H, W), as a read-only map of a file in one of `folders`.

    Writes the file to the first writable folder. If sizes differ without a `size`, one is chosen, see `_common_side`.
    Raises a `ValueError` if pictures are damaged, or if no folder is writable.
    """
    key = digest(RULES, *(part.stamp for part in parts), repr((size, channels)).encode()).hex()
    readable = "".join(letter if letter.isascii() else "_" for letter in name[:50])
    files = [folder / f"{readable}-{key}.npy" for folder in folders]
    prepared = next((prepared for prepared in map(_open, files) if prepared is not None), None)
    images, pixels = prepared or _make(name, files, parts, size, channels)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return np.split(images, ends), pixels


def decode(pictures: Pictures, channels: int | None = None) -> tuple[np.ndarray, Pixels]:
    """Returns the pictures, uint8 (N, C, H, W), in memory. Raises a `ValueError` if pictures are damaged or differ in
    size."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        shape, pixels = _shape([pictures], None, channels, pool)
        if pixels.sizes:
            raise ValueError(f"{pixels.sizes}; resize all pictures to one size")
        decoded = list(_each([pictures], _reader(shape, None, pixels.white), pool))
    return np.stack([one.array for one in decoded]), _counted(pixels, [pictures], [one.seen for one in decoded])


def _open(file: Path) -> tuple[np.ndarray, Pixels] | None:
    try:
        pixels = Pixels(**json.loads(file.with_suffix(".json").read_text()))
        return np.load(file, mmap_mode="r"), pixels
    except (OSError, EOFError, ValueError, TypeError):  # missing or truncated
        return None


def _make(
    name: str, files: Sequence[Path], parts: Sequence[Pictures], size: int | None, channels: int | None
) -> tuple[np.ndarray, Pixels]:
    failures = []
    for file in files:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with locked(file.parent / ".lock"):
                prepared = _open(file)
                if prepared is None:  # no other process wrote it meanwhile
                    _write(file, parts, size, channels)
                    prepared = _open(file)
                    if prepared is None:
                        raise OSError("the written file cannot be read back")
                return prepared
        except OSError as error:  # full disk, or read-only data root
            failures.append(f"{file.parent} ({reason(error)})")
    raise ValueError(
        f"{name}: cannot write its prepared pictures to {' or '.join(failures)}; free space, or set SWEEP_CACHE to a "
        "writable folder"
    )


def _write(file: Path, parts: Sequence[Pictures], size: int | None, channels: int | None) -> None:
    partial = file.with_name(f"{file.name}.{uuid4().hex}.partial")
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        shape, pixels = _shape(parts, size, channels, pool)
        size = size or (shape[1] if pixels.sizes else None)
        header = {"descr": "|u1", "fortran_order": False, "shape": (sum(map(len, parts)), *shape)}
        try:
            seen = []
            with open(partial, "xb") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                decoded = _each(parts, _reader(shape, size, pixels.white), pool)
                for one in shown(decoded, "decoding", sum(map(len, parts))):
                    stream.write(one.array.data)
                    seen.append(one.seen)
            os.replace(partial, file)  # atomic
            partial.write_text(json.dumps(asdict(_counted(pixels, parts, seen))))
            os.replace(partial, file.with_suffix(".json"))
        finally:
            partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Seen:
    digest: bytes
    transparent: bool


@dataclass(frozen=True)
class _Decoded:
    array: np.ndarray  # uint8 (C, H, W)
    seen: _Seen


def _reader(shape: tuple[int, int, int], size: int | None, white: float | None) -> Callable[[Open], _Decoded]:
    """Returns a function that reads a picture as uint8 of `shape`, (C, H, W), cropped and resized if `size` is set."""
    channels, height, width = shape

    def decoded(opened: Open) -> _Decoded:
        image, transparent = read(opened, channels, white)
        if size is not None:
            side = min(image.size)
            left, upper = (image.width - side) // 2, (image.height - side) // 2
            box = (left, upper, left + side, upper + side)
            image = image.crop(box).resize((size, size), Image.Resampling.BILINEAR)
        array = np.ascontiguousarray(np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1))
        return _Decoded(array, _Seen(digest(array), transparent))

    return decoded


def _counted(pixels: Pixels, parts: Sequence[Pictures], seen: Sequence[_Seen]) -> Pixels:
    """Adds the counts that need decoded pictures to `pixels`."""
    digests = [one.digest for one in seen]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    repeated = _repeated(digests[first:end] for first, end in pairwise([0, *ends]))
    return replace(pixels, transparent=sum(one.transparent for one in seen), repeated=repeated)


def counted(arrays: Iterable[np.ndarray]) -> Pixels:
    """Returns the counts for arrays of pictures, one array per split."""
    return Pixels(repeated=_repeated([digest(image) for image in images] for images in arrays))


def _repeated(splits: Iterable[Sequence[bytes]]) -> int:
    """Counts the pictures that are also in an earlier split, by the digests of each split."""
    earlier: set[bytes] = set()
    repeated = 0
    for digests in splits:
        repeated += sum(one in earlier for one in digests)
        earlier.update(digests)
    return repeated


def _shape(
    parts: Sequence[Pictures], size: int | None, channels: int | None, pool: ThreadPoolExecutor
) -> tuple[tuple[int, int, int], Pixels]:
    """Returns (C, H, W) of all pictures, from their headers, and the range of those of more than 8 bits.

    Without a `size`, pictures of different sizes get a common one.
    """
    if (shape := parts[0].shape) is not None and all(part.shape == shape for part in parts):
        return (channels or shape[0], size or shape[1], size or shape[2]), Pixels()
    names = [name for part in parts for name in part.names]
    try:
        looks = list(_each(parts, look, pool))
    except Unreadable:
        deque(_each(parts, _decode, pool), maxlen=0)  # so that the error also counts pictures with intact headers
        raise
    width, height = looks[0].size
    sizes = ""
    if size is not None:
        width = height = size
    elif odd := [(name, one.size) for name, one in zip(names, looks, strict=True) if one.size != looks[0].size]:
        other, (across, down) = odd[0]
        sizes = f"{names[0]} is {width}x{height} and {other} is {across}x{down}"
        width = height = _common_side([one.size for one in looks])
    deep = [one.largest for one in looks if one.largest is not None]
    pixels = Pixels(
        deep=len(deep),
        white=range_of(max(deep)) if deep else None,
        paged=sum(one.pages > 1 for one in looks),
        sizes=sizes,
        side=height if sizes else 0,
    )
    return (channels or (1 if all(one.grey for one in looks) else 3), height, width), pixels


def _common_side(sizes: Sequence[tuple[int, int]]) -> int:
    """Returns the largest power of two that is at most the median of the shorter sides and at most MOST_CHOSEN."""
    median = int(np.median([min(size) for size in sizes]))
    return min(MOST_CHOSEN, 1 << (max(1, median).bit_length() - 1))


def _each(parts: Sequence[Pictures], function: Callable[[Open], Result], pool: ThreadPoolExecutor) -> Iterator[Result]:
    """Yields `function` of each readable picture in order; raises `Unreadable` at the end if some were not."""
    total, bad = sum(map(len, parts)), []

    def attempt(part: Pictures, i: int) -> Result | _Damage:
        try:
            return function(lambda: part.open(i))
        except Exception as error:  # Pillow's decoders may raise anything for a damaged file
            return _Damage(f"{part.names[i]} ({reason(error)})")

    def attempt_run(run: list[tuple[Pictures, int]]) -> list[Result | _Damage]:
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


def _decode(opened: Open) -> None:
    with opened() as image:
        image.load()
