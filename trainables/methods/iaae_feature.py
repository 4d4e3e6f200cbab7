"""feature-IAAE: AAE with an additional reconstruction loss in features (AAE paper; methods.md 4.5).

    autoencoder:  (1 - w) mean_p |x_p - x_hat_p| + w mean_j |phi_j(x_hat) - phi_j(x)|     phi(x) held fixed

latent:     phi = mu, the encoder's mean, as in the paper's text and figure. Reconstructions do not update its running
            statistics.
inception:  phi = 64 early features of the FID's network, averaged over the picture, as in the released code, which
            however pairs images with features of other images. Needs the weights of that network.

w = 0 is AAE.

B batch, C H W image, D latent, F features.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from trainables.families.aae import AdversarialAutoencoder
from trainables.losses import absolute_error
from trainables.method import Loss
from trainables.networks import Networks


def early(device: torch.device | str) -> nn.Module:
    """Returns the FID's network up to its third convolution. Raises ValueError if its weights are unavailable."""
    from trainables.metrics.inception import early_features  # takes seconds to import, and only `inception` needs it

    return early_features(device)


class FeatureIAAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        features: Literal["latent", "inception"]
        feature_weight: Annotated[float, Field(ge=0, le=1)]  # w

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        super().build(nets)
        if self.hyper.features == "inception":
            early("cpu")  # reports missing weights before training

    def phi(self, images: Tensor) -> Tensor:
        """Returns the features of images, (B, C, H, W) -> (B, F)."""
        if self.hyper.features == "inception":
            return early(images.device)(images)
        buffers = {name: buffer.clone() for name, buffer in self.encoder.named_buffers()}  # copies, which may change
        return functional_call(self.encoder, buffers, (self.seen(images),)).chunk(2, dim=1)[0]

    def autoencoder_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        x_hat = self.painted(q.draw())  # (B, C, H, W)
        with torch.no_grad():
            target = q.mean if self.hyper.features == "latent" else self.phi(x)  # (B, F)
        l1, features = absolute_error(x_hat, x), absolute_error(self.phi(x_hat), target.detach())  # () each
        log_sigma = 0.5 * q.log_var  # (B, D)
        terms = {"l1": l1, "features": features, "sigma": log_sigma.exp().mean(), "log_sigma": log_sigma.mean()}
        w, pixels = self.hyper.feature_weight, x[0].numel()
        return Loss((1 - w) * self.scale * l1 / pixels + w * features / target.shape[1], terms)
