"""Likelihood bounds of a saved model, too expensive for the end of a trial (methods.md 7.8).

N images, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.densities import Evaluable
from trainables.evaluate.findings import finite
from trainables.method import Gaussian, Method, as_images
from trainables.metrics.likelihood import DRAWS, importance_weighted
from trainables.metrics.references import Watch

BATCH = 10  # each image is decoded DRAWS times


def likelihood(method: Method, images: Tensor, seed: int, watch: Watch) -> dict[str, float]:
    """Returns nll_bound and nll_500, nats per image of uint8 (N, C, H, W), and gamma, the variance they assume.

    They are relative to the prior of the method, also if its sampler is another density, as a second stage. gamma is
    that of the decoder, or else the mse of one reconstruction of each image. `watch` wraps the iterator of batches.
    Raises ValueError for an encoder without a posterior, a prior without a density, or a non-finite bound.
    """
    prior = method.prior
    if not isinstance(prior, Evaluable):
        own = next(name for name, density in method.densities.items() if density is prior)
        raise ValueError(f"nll needs a prior with a density, which this model's {own} lacks; omit nll")
    if tuple(images.shape[1:]) != tuple(method.shape):
        raise ValueError(f"the model needs images of shape {tuple(method.shape)}, got {tuple(images.shape[1:])}")
    torch.manual_seed(seed)
    with torch.no_grad():
        posteriors = method.encode(as_images(images))
        if not isinstance(posteriors, Gaussian):
            raise ValueError("nll needs an encoder with a posterior, and this model is deterministic; omit nll")
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
        raise ValueError("the model's likelihoods are not finite; omit nll") from None
    return {"nll_bound": loose, f"nll_{DRAWS}": tight, "gamma": gamma}
