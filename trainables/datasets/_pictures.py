"""The reader of pictures: converts what Pillow opens to uint8, upright, in range, on a white background.

Pictures of more than 8 bits are scaled by the range of their whole set, because scanners, microscopes and depth cameras
store 10, 12 or 14 bits in files of 16. Transparent pixels have an invisible colour, so they are blended with white.

H W C height, width and channels of a picture.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # none starts another program
Image.init()
SUFFIXES = tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in (*FORMATS, "MPO")))
BACKGROUND = "white"
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
ORIENTED = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # keys of `info` with orientations
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's names of the grey modes
FOLLOWING = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # byte order -> the other one

Open = Callable[[], Image.Image]


@dataclass(frozen=True)
class Look:
    """Properties of a picture that are needed before any picture of the set is read."""

    size: tuple[int, int]  # width, height, after rotation
    grey: bool
    largest: float | None  # value, if the picture has more than 8 bits
    pages: int


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """Opens a picture from a path or a stream without decoding it. Raises errors of Pillow."""
    return Image.open(file, formats=FORMATS)


def look(opened: Open) -> Look:
    """Reads a picture's header, and its pixels if they have more than 8 bits."""
    with opened() as image:
        grey = image.mode in GREY or _raw_mode(image) == "LA;16B" or _has_grey_palette(image)
        oriented = image.format != "TIFF" and image.info.keys() & ORIENTED  # of a TIFF, Pillow gives the rotated size
        turned = oriented and image.getexif().get(ExifTags.Base.Orientation) in TURNED
        size = image.size[::-1] if turned else image.size
        pages = getattr(image, "n_frames", 1)
        deep = _is_deep(image)
    largest = None
    if deep:
        values = _deep_values(opened)
        largest = float((values if values.ndim == 2 else values[..., :3]).max())  # without alpha
    return Look(size, grey, largest, pages)


def range_of(largest: float) -> float:
    """Returns the value of white for a set whose largest value is `largest`: 2^bits - 1, and 1 for fractions."""
    return float(2 ** max(1, math.ceil(largest).bit_length()) - 1)


def read(opened: Open, channels: int, white: float | None) -> tuple[Image.Image, bool]:
    """Reads a picture upright, in mode L or RGB by `channels`; also returns whether it has transparent pixels.

    white: for pictures with more than 8 bits, the value that becomes 255, from `range_of`.
    Raises a `ValueError` for pictures that cannot be scaled, and errors of Pillow for damaged ones.
    """
    image = opened()
    if _is_deep(image):
        # Pillow rotates TIFFs when it decodes them, and exif_transpose rotates other pictures by `info`.
        info = {} if image.format == "TIFF" else {key: image.info[key] for key in image.info.keys() & ORIENTED}
        image.close()
        assert white is not None  # `look` found a picture of more than 8 bits
        image = _scaled(opened, white)
        image.info |= info
    with image:
        ImageOps.exif_transpose(image, in_place=True)  # cameras store the picture in the sensor's orientation
        transparent = False
        if image.has_transparency_data:
            image = image.convert("RGBA")
            transparent = bool((np.asarray(image.getchannel("A")) < 255).any())
            image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")
        return image.convert("L" if channels == 1 else "RGB"), transparent


def _raw_mode(image: Image.Image) -> str:
    """Returns Pillow's raw mode of a picture that is not yet decoded."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:  # not from a file
        return image.mode
    arguments = image.tile[0][3]
    return str(arguments if isinstance(arguments, str) else arguments[0] if arguments else image.mode)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F")) or ";16" in _raw_mode(image)


def _has_grey_palette(image: Image.Image) -> bool:
    if image.mode != "P" or image.palette is None:
        return False
    colours = np.frombuffer(bytes(image.palette.palette), np.uint8)
    entry = len(image.palette.rawmode or image.palette.mode)  # bytes of a colour
    colours = colours[: len(colours) // entry * entry].reshape(-1, entry)[:, :3]
    return bool((colours == colours[:, :1]).all())


def _deep_values(opened: Open) -> np.ndarray:
    """Returns the stored values of a picture of more than 8 bits, (H, W) or (H, W, C), not negative."""
    with opened() as image:
        raw, mode = _raw_mode(image), image.mode
        if mode.startswith(("I", "F")):
            values = np.asarray(image)
            if getattr(image, "tag_v2", {}).get(262) == 0 and mode.startswith("I;16"):  # TIFF's WhiteIsZero
                values = np.iinfo(values.dtype).max - values
        elif raw == "LA;16B":  # four bytes per pixel, which Pillow can return unchanged
            grey_alpha = _decoded(opened, "RGBA").astype(np.uint16)
            values = grey_alpha[..., [0, 0, 0, 2]] << 8 | grey_alpha[..., [1, 1, 1, 3]]
        elif raw[:-1] in ("RGB;16", "RGBA;16"):  # Pillow keeps the high bytes; with swapped byte order, the low ones
            other = raw[:-1] + FOLLOWING[raw[-1]]
            values = _decoded(opened, raw).astype(np.uint16) << 8 | _decoded(opened, other)
        else:
            raise ValueError(f"mode {mode} of 16 bits ({raw}) cannot be scaled; store it with 8 bits or as RGB")
    if not values.min() >= 0:  # NaN fails too
        raise ValueError(f"mode {mode} holds negative values or NaN; store values from 0 to 1, or whole numbers from 0")
    if not np.isfinite(values).all():
        raise ValueError(f"mode {mode} holds infinite values; store values from 0 to 1, or whole numbers from 0")
    return values


def _decoded(opened: Open, raw: str) -> np.ndarray:
    """Decodes the pixels of a picture as if its file had the raw mode `raw`."""
    with opened() as image:
        assert isinstance(image, ImageFile.ImageFile)  # `_raw_mode` checked this
        image.tile = [tile._replace(args=_named(tile.args, raw)) for tile in image.tile]
        return np.asarray(image)


def _named(arguments: str | tuple[Any, ...] | None, raw: str) -> str | tuple[Any, ...]:
    return (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw


def _scaled(opened: Open, white: float) -> Image.Image:
    """Scales a picture of more than 8 bits to 8 bits, mode L, RGB or RGBA."""
    values = _deep_values(opened)
    with opened() as image:
        key = image.info.get("transparency")  # the one value, (g) or (r, g, b), that a PNG declares transparent
    levels = (values * (255 / white)).round().clip(0, 255).astype(np.uint8)
    channels = 1 if values.ndim == 2 else values.shape[2]
    if channels == 4:  # alpha uses the range of the file
        levels[..., 3] = (values[..., 3] / 257).round()
    elif key is not None:
        seen = (values.reshape(*values.shape[:2], channels) != np.array(key)).any(-1)
        colour = np.broadcast_to(levels.reshape(*levels.shape[:2], channels), (*levels.shape[:2], 3))
        levels = np.dstack([colour, np.where(seen, 255, 0).astype(np.uint8)])
    return Image.fromarray(levels)
