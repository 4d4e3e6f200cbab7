"""Samplers independent of the method: any autoencoder can be sampled in several ways (methods.md 1.4, 7.2).

N images, D latent.
"""

import time

import torch
from torch import Tensor

from trainables.densities import FITTED_CODES, Density, GaussianMixture
from trainables.evaluate.findings import finite
from trainables.families.flow import Flow
from trainables.families.gaussian import DecoderVariance
from trainables.families.second_stage import LatentVAE, drawn, posteriors
from trainables.feed import ENCODE_BATCH
from trainables.method import Gaussian, Method, as_images

COMMON = {"gaussian": 1, "gmm_10": 10}  # components of the mixtures fitted to the codes of every method
COMMON_CODES = 5000  # codes for the fit: they determine ten full covariances well, and EM stays cheap
SECOND = "second_stage"
SECOND_WIDTH = 512  # of its hidden layers: half of the two-stage code's, which runs on a GPU
FLOW = "flow"
BEHIND_ANY = (*COMMON, SECOND, FLOW)


@torch.no_grad()
def fit_densities(method: Method, images: Tensor, seed: int) -> float:
    """Fits the ex-post densities to the codes (posterior means) of images (N, C, H, W), at most FITTED_CODES of them.
    Returns the seconds taken."""
    start = time.perf_counter()
    wanting: list[Density] = [density for density in method.densities.values() if density.ex_post]
    if wanting:
        codes = finite(method.codes(images, FITTED_CODES, seed), "codes")  # (n, D)
        for density in wanting:
            density.fit(codes, seed)
    return time.perf_counter() - start


@torch.no_grad()
def common_densities(method: Method, images: Tensor, seed: int) -> dict[str, Density | str]:
    """Fits a Gaussian and a mixture of ten to the codes of at most 5000 of the images (N, C, H, W).

    They allow a comparison of methods under one sampler. If EM fails, its message replaces the density.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:COMMON_CODES]
    parts = order.to(images.device).split(ENCODE_BATCH)
    codes = finite(torch.cat([method.codes(images[part]) for part in parts]), "codes")  # (n, D)
    found: dict[str, Density | str] = {}
    for name, components in COMMON.items():
        density = GaussianMixture(codes.shape[1], components).to(codes.device)
        try:
            density.fit(codes, seed)
            found[name] = density
        except FloatingPointError as error:
            found[name] = str(error)
    return found


@torch.no_grad()
def behind(method: Method, images: Tensor, name: str, seed: int) -> Density:
    """Fits one of BEHIND_ANY to the codes of images, uint8 (N, C, H, W), for any method.

    The second stage is that of the two-stage VAE, with a learned gamma, decoder noise and a fixed number of steps on
    one draw from each posterior; the flow is trained on the same codes. Raises FloatingPointError if codes are not
    finite or EM fails.
    """
    if name in COMMON:
        found = common_densities(method, images, seed)[name]
        if isinstance(found, str):
            raise FloatingPointError(found)
        return found
    torch.manual_seed(seed)
    method.eval()
    stochastic = isinstance(method.encode(as_images(images[:1].to(method.epoch.device))), Gaussian)
    codes = finite(drawn(posteriors(method, images)) if stochastic else method.codes(images), "codes")  # (N, D)
    dim = codes.shape[1]
    density = Flow(dim) if name == FLOW else LatentVAE(dim, SECOND_WIDTH, DecoderVariance(dim, "learned"))
    density.to(codes.device).fit(codes, seed)
    return density.eval()
