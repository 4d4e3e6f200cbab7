"""Networks by name, the same ones for every method, so that a comparison compares methods.

A kind is a name such as "mlp_500_500_2000"; each family is one file of this package.

B batch, C H W image.
"""

import torch
from torch import Tensor, nn

from trainables.networks import conv_rae, mlp, mlp_aae, mlp_vg, residual_mlp, resnet

FAMILIES = {
    "mlp": mlp,
    "mlp_aae": mlp_aae,
    "mlp_vg": mlp_vg,
    "residual_mlp": residual_mlp,
    "resnet": resnet,
    "conv_rae": conv_rae,
}


class Networks:
    """Builds encoder, decoder and critic of one kind for images of one shape (C, H, W).

    Raises ValueError for a kind that is not known.
    """

    def __init__(self, shape: tuple[int, ...], kind: str):
        family = next((f for name, f in FAMILIES.items() if f.accepts(kind)), None)
        if family is None:
            known = "; ".join(f.KINDS for f in FAMILIES.values())
            raise ValueError(f"network = {kind!r} is not known; allowed: {known}")
        self.shape, self.kind, self._family = shape, kind, family

    def encoder(self, out: int) -> nn.Module:
        """Images (B, C, H, W) -> (B, out), no activation on the head."""
        return self._family.encoder(self.shape, self.kind, out)

    def decoder(self, latent: int) -> nn.Module:
        """Latents (B, latent) -> logits (B, C, H, W); the method applies its own output activation."""
        return self._family.decoder(self.shape, self.kind, latent)

    def critic(self, out: int = 1) -> nn.Module:
        """Images (B, C, H, W) -> logits (B, out): the family's own critic, or its encoder with other weights."""
        make = getattr(self._family, "critic", self._family.encoder)
        return make(self.shape, self.kind, out)


def train_in_bfloat16(network: nn.Module) -> None:
    """Has a network multiply in bfloat16 whenever it is in training mode.

    Weights, gradients and what comes out, and so every loss, stay float32, as does all of evaluation: a metric speaks
    of the weights, whatever they were trained with.
    """
    forward = network.forward

    def mixed(x: Tensor) -> Tensor:
        if not network.training:
            return forward(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return forward(x).float()

    network.forward = mixed
