"""What a Gaussian decoder promises: a bound of its negative log-likelihood, in nats.

N images.
"""

from __future__ import annotations

from torch import Tensor

from trainables.losses import gaussian_nll


def gaussian_bound(squared_error: Tensor, kl: Tensor, variance: float, pixels: int) -> float:
    """E_q[SSE] / (2 γ) + P/2 log(2πγ) + KL, averaged over the images: the bound of -log p(x).

    squared_error: of one reconstruction per image, decoded from one z ~ q(z|x), (N,); kl: (N,); variance: the
    decoder's γ; pixels: P.  A density of pixels in [0, 1] that were not dequantised: it can be very negative,
    and cannot be compared with bits per dimension of discrete models.
    ValueError: a variance that is not positive.
    """
    if not variance > 0:
        raise ValueError(f"the decoder's variance must be positive, got {variance}")
    return (gaussian_nll(squared_error.double(), variance, pixels) + kl.double()).mean().item()
