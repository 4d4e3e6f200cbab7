"""The similarity of two images, by pixel and by window: PSNR and SSIM.

B batch, C H W image.
"""

from __future__ import annotations

from torch import Tensor

SMALLEST = 11  # pixels of a side: the window of the SSIM


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of each pair of images (B, C, H, W) in [0, 1], in dB: (B,).

    The error is at least a thousandth of one of 255 levels, so that equal images have a finite value in a mean.
    """
    mse = (x - y).double().square().flatten(1).mean(1)
    return -10 * mse.clamp_min((1e-3 / 255) ** 2).log10()


def rmse_of(psnr: float) -> float:
    """Returns the root mean squared error that corresponds to a PSNR in dB; lower is better."""
    return 10.0 ** (-psnr / 20)


def ssim(x: Tensor, y: Tensor) -> float:
    """Returns the structural similarity (Wang et al., 2004) of images (B, C, H, W) in [0, 1], averaged over images.

    Uses their Gaussian window of 11 pixels, sigma 1.5, at all positions inside the image, and the mean over channels.
    Raises ValueError for images smaller than 11 pixels.
    """
    from skimage.metrics import structural_similarity

    if min(x.shape[2:]) < SMALLEST:
        raise ValueError(f"SSIM needs images of at least {SMALLEST} x {SMALLEST} pixels, got {tuple(x.shape[2:])}")
    flat = [images.detach().cpu().double().flatten(0, 1).numpy() for images in (x, y)]  # (B C, H, W)
    return float(
        structural_similarity(
            *flat, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )
