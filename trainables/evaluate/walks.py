"""Walks through a latent space, as pictures: between images, and along one latent at a time.

N images, C H W image, D latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.method import Method, as_images

STEPS = 8
ROWS = 8
REACH = (0.05, 0.95)  # quantiles of a latent over images, between which it is moved


def interpolations(method: Method, images: Tensor) -> Tensor:
    """From one image to the next in 8 steps of equal length between their codes, a row for each of 8 pairs.

    images: uint8 (N, C, H, W), 16 or more for all rows. -> (8 rows, C, H, W) in [0, 1].
    """
    pairs = min(ROWS, len(images) // 2)
    codes = method.encode(as_images(images[: 2 * pairs])).mean
    start, end = codes[::2], codes[1::2]  # (P, D)
    rows = [torch.lerp(start, end, step / (STEPS - 1)) for step in range(STEPS)]
    return method.decode(torch.stack(rows, 1).flatten(0, 1))


def traversals(method: Method, images: Tensor) -> Tensor | None:
    """One image's code with one latent moved from its 5 % to its 95 % quantile, a row for each latent.

    The rows are the up to 8 latents that vary most over images, uint8 (N, C, H, W). None where codes have more axes
    than one. -> (8 rows, C, H, W) in [0, 1].
    """
    codes = method.codes(images)  # (N, D)
    if codes.ndim != 2:
        return None
    busiest = codes.var(0, correction=0).argsort(descending=True)[:ROWS]
    low, high = torch.quantile(codes[:, busiest].float(), torch.tensor(REACH, device=codes.device), dim=0)  # (R,) each
    moved = codes[:1].repeat(len(busiest), STEPS, 1)  # (R, STEPS, D)
    share = torch.linspace(0, 1, STEPS, device=codes.device)
    for row, latent in enumerate(busiest.tolist()):
        moved[row, :, latent] = torch.lerp(low[row], high[row], share)
    return method.decode(moved.flatten(0, 1))
