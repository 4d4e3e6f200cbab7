"""How like two images are, pixel by pixel and window by window: PSNR and SSIM.

B batch, C H W image.
"""

from __future__ import annotations

from torch import Tensor

SMALLEST = 11  # pixels of a side: the window of the SSIM


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each pair of images (B, C, H, W) in [0, 1], in dB: (B,).

    Two equal images count as if they differed by a thousandth of one of 255 levels, for a mean over images.
    """
    mse = (x - y).double().square().flatten(1).mean(1)
    return -10 * mse.clamp_min((1e-3 / 255) ** 2).log10()


def ssim(x: Tensor, y: Tensor) -> float:
    """The structural similarity (Wang et al., 2004) of images (B, C, H, W) in [0, 1], averaged over all of them.

    With their Gaussian window of 11 pixels, sigma 1.5, over the places where it lies inside; of colour images the mean
    over channels. ValueError: images of fewer than 11 pixels.
    """
    from skimage.metrics import structural_similarity

    if min(x.shape[2:]) < SMALLEST:
        raise ValueError(f"SSIM needs images of {SMALLEST} pixels or more, got {tuple(x.shape[2:])}")
    flat = [images.detach().cpu().double().flatten(0, 1).numpy() for images in (x, y)]  # (B C, H, W)
    return float(
        structural_similarity(
            *flat, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )
