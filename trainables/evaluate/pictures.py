"""Images that somebody else made, from a folder of pictures or an array in a file, as the metrics take them.

N images, C H W image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_images(path: Path) -> np.ndarray:
    """The images of a folder (`read_pictures`) or of an .npy file (`read_array`)."""
    return read_array(path) if path.suffix == ".npy" else read_pictures(path)


def read_pictures(folder: Path) -> np.ndarray:
    """All pictures of a folder, in order of their names, uint8 (N, C, H, W), grey where all of them are.

    ValueError: fewer than 2, one that cannot be read (named), or sizes or colours that differ.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is neither a folder of pictures nor an .npy of images")
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise ValueError(f"{folder} holds {len(files)} pictures; at least 2 are needed ({' '.join(SUFFIXES)})")
    pictures: list[np.ndarray] = []
    for path in files:
        picture = _read(path)
        if pictures and picture.shape != pictures[0].shape:
            raise ValueError(
                f"{path} is of {_shape(picture)} and {files[0].name} of {_shape(pictures[0])}; make all alike"
            )
        pictures.append(picture)
    return np.stack(pictures).transpose(0, 3, 1, 2).copy()


def read_array(path: Path) -> np.ndarray:
    """The images of an .npy file, uint8 or floats in [0, 1], (N, C, H, W), as uint8: a metric sees 8 bits.

    ValueError: not such a file, another shape or type, fewer than 2 images, NaN, values beyond [0, 1].
    """
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error})") from error
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        got = f"{images.dtype} {images.shape}"
        raise ValueError(f"{path}: expected uint8 or floats (N, C, H, W) of 1 or 3 channels, got {got}")
    if len(images) < 2:
        raise ValueError(f"{path} holds {len(images)} images; at least 2 are needed")
    if images.dtype == np.uint8:
        return images
    if not (images.min() >= 0 and images.max() <= 1):  # NaN fails both
        bounds = f"{images.min():g} to {images.max():g}"
        raise ValueError(f"{path}: expected floats in [0, 1] without NaN, got values from {bounds}")
    return (images * 255).round().astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    """One picture as uint8 (H, W, C)."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path} does not hold 8-bit values (mode {image.mode}); save it with 8 bits")
            return np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB")).reshape(
                image.height, image.width, -1
            )
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error})") from error


def _shape(picture: np.ndarray) -> str:
    height, width, channels = picture.shape
    return f"{width} x {height} pixels of {channels} channel{'s' if channels > 1 else ''}"
