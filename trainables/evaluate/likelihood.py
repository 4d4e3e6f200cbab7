"""How likely a saved model holds images to be: the bounds that are too costly for a trial's end (methods.md 7.8).

N images, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.evaluate.findings import finite
from trainables.method import Method, as_images
from trainables.metrics.likelihood import DRAWS, importance_weighted
from trainables.metrics.references import Watch

BATCH = 10  # each image is decoded DRAWS times


def likelihood(method: Method, images: Tensor, seed: int, watch: Watch) -> dict[str, float]:
    """nll_bound and nll_500, nats per image of uint8 (N, C, H, W), and gamma, the variance they hold for.

    gamma is the decoder's own, or else the mse of one reconstruction of each of these images; `watch` sees the
    batches go by. ValueError: an encoder without a posterior, a prior without a density, or no finite bound.
    """
    own, prior = next(iter(method.densities.items()))
    if not hasattr(prior, "log_prob"):
        raise ValueError(f"nll needs a density of the codes, and none is known of this model's {own}; leave nll out")
    if tuple(images.shape[1:]) != tuple(method.shape):
        raise ValueError(f"images of shape {tuple(images.shape[1:])}; the model is of {tuple(method.shape)}")
    torch.manual_seed(seed)
    with torch.no_grad():
        posteriors = method.encode(as_images(images))
        if posteriors.log_var is None:
            raise ValueError("nll needs an encoder with a posterior, and this model's codes are points; leave nll out")
        gamma = method.decoder_variance()
        if gamma is None:
            x = as_images(images)
            gamma = (method.decode(posteriors.draw()) - x).double().square().mean().item()
        found = []
        for index in watch(iter(torch.arange(len(images)).split(BATCH)), -(-len(images) // BATCH)):
            index = index.to(images.device)
            x, mean, log_var = as_images(images[index]), posteriors.mean[index], posteriors.log_var[index]
            found.append(torch.stack(importance_weighted(x, mean, log_var, method.decode, prior.log_prob, gamma)))
    try:
        tight, loose = finite(torch.cat(found, 1), "likelihoods").mean(1).tolist()  # of (2, N)
    except FloatingPointError:
        raise ValueError("the model's likelihoods are not finite; leave nll out") from None
    return {"nll_bound": loose, f"nll_{DRAWS}": tight, "gamma": gamma}
