"""The one reader of pictures: from what Pillow opens to uint8 levels, upright, in range, on a white background.

A picture of more than 8 bits is scaled by the range of its whole set, because scanners, microscopes and depth cameras
store 10, 12 or 14 bits in files of 16. Transparent pixels hide a colour that nobody sees, so they are laid on white.

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

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # none runs a program
Image.init()
SUFFIXES = tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in (*FORMATS, "MPO")))
BACKGROUND = "white"
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
ORIENTED = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where Pillow keeps orientations
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's names of the grey modes
FOLLOWING = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # byte order -> the other one

Open = Callable[[], Image.Image]


@dataclass(frozen=True)
class Look:
    """What the set has to know of a picture before any is read."""

    size: tuple[int, int]  # width, height, upright
    grey: bool
    largest: float | None  # value, where the picture has more than 8 bits
    pages: int


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """The picture in a file, a path or a stream, not yet decoded. Raises what Pillow raises."""
    return Image.open(file, formats=FORMATS)


def look(opened: Open) -> Look:
    """Reads a picture's header, and its pixels if they have more than 8 bits."""
    with opened() as image:
        grey = image.mode in GREY or _raw_mode(image) == "LA;16B" or _has_grey_palette(image)
        oriented = image.format != "TIFF" and image.info.keys() & ORIENTED  # of a TIFF, Pillow gives the upright size
        turned = oriented and image.getexif().get(ExifTags.Base.Orientation) in TURNED
        size = image.size[::-1] if turned else image.size
        pages = getattr(image, "n_frames", 1)
        deep = _is_deep(image)
    largest = None
    if deep:
        values = _deep_values(opened)
        largest = float((values if values.ndim == 2 else values[..., :3]).max())  # alpha is no colour
    return Look(size, grey, largest, pages)


def range_of(largest: float) -> float:
    """The value that is white where `largest` is the largest of a set: 2^bits - 1, so 1 for fractions."""
    return float(2 ** max(1, math.ceil(largest).bit_length()) - 1)


def read(opened: Open, channels: int, white: float | None) -> tuple[Image.Image, bool]:
    """An upright picture of mode L or RGB, by `channels`, and whether it has transparent pixels.

    white: the value of pictures with more than 8 bits that becomes 255, by `range_of`.
    Raises a `ValueError` for pictures that cannot be scaled, and whatever Pillow raises for damaged ones.
    """
    image = opened()
    if _is_deep(image):
        # Pillow turns TIFFs upright when it decodes them, and other pictures by what is said in `info`.
        info = {} if image.format == "TIFF" else {key: image.info[key] for key in image.info.keys() & ORIENTED}
        image.close()
        assert white is not None  # `look` saw a picture of more than 8 bits
        image = _scaled(opened, white)
        image.info |= info
    with image:
        ImageOps.exif_transpose(image, in_place=True)  # cameras store the picture as the sensor lay
        transparent = False
        if image.has_transparency_data:
            image = image.convert("RGBA")
            transparent = bool((np.asarray(image.getchannel("A")) < 255).any())
            image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
        if image.mode not in ("1", "L"):
            image = image.convert("RGB")
        return image.convert("L" if channels == 1 else "RGB"), transparent


def _raw_mode(image: Image.Image) -> str:
    """How the file stores the pixels of a picture that is not yet decoded, in Pillow's words."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:  # it is from no file
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
    """The values of a picture of more than 8 bits as they are stored, (H, W) or (H, W, C), not negative."""
    with opened() as image:
        raw, mode = _raw_mode(image), image.mode
        if mode.startswith(("I", "F")):
            values = np.asarray(image)
            if getattr(image, "tag_v2", {}).get(262) == 0 and mode.startswith("I;16"):  # TIFF's WhiteIsZero
                values = np.iinfo(values.dtype).max - values
        elif raw == "LA;16B":  # four bytes a pixel, which Pillow can hand over as they are
            grey_alpha = _decoded(opened, "RGBA").astype(np.uint16)
            values = grey_alpha[..., [0, 0, 0, 2]] << 8 | grey_alpha[..., [1, 1, 1, 3]]
        elif raw[:-1] in ("RGB;16", "RGBA;16"):  # Pillow keeps the high bytes, in the other order the low ones
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
    """The pixels of a picture whose file is taken to store them as `raw`."""
    with opened() as image:
        assert isinstance(image, ImageFile.ImageFile)  # `_raw_mode` read the file's tiles
        image.tile = [tile._replace(args=_named(tile.args, raw)) for tile in image.tile]
        return np.asarray(image)


def _named(arguments: str | tuple[Any, ...] | None, raw: str) -> str | tuple[Any, ...]:
    return (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw


def _scaled(opened: Open, white: float) -> Image.Image:
    """A picture of more than 8 bits with 8, mode L, RGB or RGBA."""
    values = _deep_values(opened)
    with opened() as image:
        key = image.info.get("transparency")  # the one value, (g) or (r, g, b), that a PNG declares transparent
    levels = (values * (255 / white)).round().clip(0, 255).astype(np.uint8)
    channels = 1 if values.ndim == 2 else values.shape[2]
    if channels == 4:  # alpha has the file's own range
        levels[..., 3] = (values[..., 3] / 257).round()
    elif key is not None:
        seen = (values.reshape(*values.shape[:2], channels) != np.array(key)).any(-1)
        colour = np.broadcast_to(levels.reshape(*levels.shape[:2], channels), (*levels.shape[:2], 3))
        levels = np.dstack([colour, np.where(seen, 255, 0).astype(np.uint8)])
    return Image.fromarray(levels)
