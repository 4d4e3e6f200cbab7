"""Reads images for the metrics from a folder of pictures or an array in a file.

N images, C H W image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.datasets import read_pictures, refuse_black


def read_images(path: Path, channels: int) -> tuple[np.ndarray, str]:
    """Reads a folder (`read_pictures`) or an .npy file (`read_array`); returns the images and a description.

    Images of three equal channels become grey if `channels` is 1, and grey ones are replicated if it is 3.
    """
    images, how = (read_array(path), "") if path.suffix == ".npy" else _of_folder(path)
    if channels == 3 and images.shape[1] == 1:
        images = images.repeat(3, 1)
    if channels == 1 and (images == images[:, :1]).all():
        images = images[:, :1].copy()
    return images, how


def _of_folder(folder: Path) -> tuple[np.ndarray, str]:
    if folder.is_file():
        raise ValueError(f"{folder} is neither a folder of pictures nor an .npy of images")
    images, how = read_pictures(folder)
    if len(images) < 2:
        raise ValueError(f"{folder} must hold at least 2 pictures, got {len(images)}")
    return images, how


def read_array(path: Path) -> np.ndarray:
    """Reads images from an .npy file, uint8 or floats in [0, 1], (N, C, H, W), as uint8: metrics use 8 bits.

    Raises ValueError for another file, shape or type, fewer than 2 images, NaN, values outside [0, 1], or bytes that
    are all 0 or 1.
    """
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error})") from error
    if not isinstance(images, np.ndarray):  # an .npz under another name
        raise ValueError(f"{path} contains several arrays; give an .npy of images")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        got = f"{images.dtype} {images.shape}"
        raise ValueError(f"{path}: expected uint8 or floats (N, C, H, W) of 1 or 3 channels, got {got}")
    if len(images) < 2:
        raise ValueError(f"{path} holds {len(images)} images; at least 2 are needed")
    if images.dtype == np.uint8:
        refuse_black(images, str(path))
        return images
    if not (images.min() >= 0 and images.max() <= 1):  # NaN fails both
        bounds = f"{images.min():g} to {images.max():g}"
        raise ValueError(f"{path}: expected floats in [0, 1] without NaN, got values from {bounds}")
    return (images * 255).round().astype(np.uint8)
