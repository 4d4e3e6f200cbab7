"""Pictures of walks through a latent space: between images, and along single latents.

N images, C H W image, D latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.method import Method, as_images

STEPS = 8
ROWS = 8
REACH = (0.05, 0.95)  # quantiles over images: the range of a traversal


def interpolations(method: Method, images: Tensor) -> Tensor:
    """Interpolates between the codes of two images in 8 equal steps, one row for each of 8 pairs.

    images: uint8 (N, C, H, W), at least 16 for all rows. -> (8 rows, C, H, W) in [0, 1].
    """
    pairs = min(ROWS, len(images) // 2)
    codes = method.encode(as_images(images[: 2 * pairs])).mean
    start, end = codes[::2], codes[1::2]  # (P, D)
    rows = [torch.lerp(start, end, step / (STEPS - 1)) for step in range(STEPS)]
    return method.decode(torch.stack(rows, 1).flatten(0, 1))


def traversals(method: Method, images: Tensor) -> Tensor | None:
    """Decodes the code of one image with one latent moved from its 5 % to its 95 % quantile, one row per latent.

    The rows are the latents, at most 8, that vary most over images, uint8 (N, C, H, W). -> (8 rows, C, H, W) in
    [0, 1], or None if codes have more than one axis.
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
