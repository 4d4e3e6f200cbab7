"""Densities as an axis of their own: any autoencoder can be sampled in several ways (methods.md 1.4, 7.2).

N images, D latent.
"""

import time

import torch
from torch import Tensor

from trainables.densities import Density, GaussianMixture
from trainables.evaluate.findings import finite
from trainables.method import Method

COMMON = {"gaussian": 1, "gmm_10": 10}  # components of the mixtures that every method is sampled from
COMMON_CODES = 5000  # they are fitted to: ten full covariances are well determined, and EM stays cheap


@torch.no_grad()
def fit_densities(method: Method, images: Tensor, seed: int) -> float:
    """Fits the ex-post densities to the codes (posterior means) of images (N, C, H, W); returns the seconds."""
    start = time.perf_counter()
    wanting: list[Density] = [density for density in method.densities.values() if density.ex_post]
    if wanting:
        codes = finite(method.codes(images), "codes")  # (N, D)
        for density in wanting:
            density.fit(codes, seed)
    return time.perf_counter() - start


@torch.no_grad()
def common_densities(method: Method, images: Tensor, seed: int) -> dict[str, Density | str]:
    """A Gaussian and a mixture of ten, fitted to the codes of up to 5000 of the images (N, C, H, W).

    Beside what the method brings, so that methods can be compared under one sampler. Where EM finds no fit
    its reason stands in the place of the density.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:COMMON_CODES]
    codes = finite(method.codes(images[order.to(images.device)]), "codes")  # (n, D)
    found: dict[str, Density | str] = {}
    for name, components in COMMON.items():
        density = GaussianMixture(codes.shape[1], components).to(codes.device)
        try:
            density.fit(codes, seed)
            found[name] = density
        except FloatingPointError as error:
            found[name] = str(error)
    return found
