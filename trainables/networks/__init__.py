"""Networks by name, shared by all methods so that comparisons use equal architectures.

A kind is a name such as "mlp_500_500_2000"; each family of kinds is one file of this package.

B batch, C H W image.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from trainables import outside
from trainables.networks import conv_rae, mlp, mlp_aae, mlp_vg, residual_mlp, resnet, shared

FAMILIES = {
    "shared": shared,
    "mlp": mlp,
    "mlp_aae": mlp_aae,
    "mlp_vg": mlp_vg,
    "residual_mlp": residual_mlp,
    "resnet": resnet,
    "conv_rae": conv_rae,
}


def family_of(kind: str) -> tuple[ModuleType, str]:
    """Returns the module that builds networks of a kind, and the name of the kind in that module.

    External kinds: `my_lab.nets:small` is the kind `small` of the module my_lab.nets, `my_lab.nets` is its kind "", and
    the name of an entry point refers to its module. Raises ValueError for an unknown kind, or a module that cannot be
    imported or lacks a function.
    """
    place, colon, bare = kind.partition(":")
    installed = outside.installed("networks")
    if colon or "." in place or place in installed:
        place = installed.get(place, place)
        family = outside.module(place, f"network = {kind!r}")
        if lacking := [name for name in ("KINDS", "accepts", "encoder", "decoder") if not hasattr(family, name)]:
            raise ValueError(f"network = {kind!r}: {place} lacks {', '.join(lacking)}; see CONTRIBUTING.md")
        if not family.accepts(bare):
            raise ValueError(f"network = {kind!r} is not known; allowed: {place}: {family.KINDS}")
        return family, bare
    ours = next((f for f in FAMILIES.values() if f.accepts(kind)), None)
    if ours is None:
        known = "; ".join([*(f.KINDS for f in FAMILIES.values()), *installed, "package.module:KIND"])
        raise ValueError(f"network = {kind!r} is not known; allowed: {known}")
    return ours, kind


def latent_width(kind: str) -> int | None:
    """Returns the width of hidden layers over latents in the kind's family; None: as in the paper of the method.

    Raises ValueError for an unknown kind.
    """
    family, bare = family_of(kind)
    rule = getattr(family, "latent_width", None)
    return rule and rule(bare)


class Networks:
    """Builds encoder, decoder and critic of one kind for images of one shape (C, H, W).

    Raises ValueError for an unknown kind.
    """

    def __init__(self, shape: tuple[int, ...], kind: str):
        self.shape, self.kind = shape, kind
        self._family, self._bare = family_of(kind)

    def encoder(self, out: int, heads: int = 1) -> nn.Module:
        """Images (B, C, H, W) -> (B, out), without an activation on the head.

        heads: number of equal parts of `out`, such as 2 for mean and log-variance, which a family with the function
        `separate_heads(encoder, heads)` initialises separately.
        """
        encoder: nn.Module = self._family.encoder(self.shape, self._bare, out)
        separate: Callable[..., nn.Module] | None = getattr(self._family, "separate_heads", None)
        return separate(encoder, heads) if separate and heads > 1 else encoder

    def decoder(self, latent: int) -> nn.Module:
        """Latents (B, latent) -> logits (B, C, H, W); the method applies its own output activation."""
        return self._family.decoder(self.shape, self._bare, latent)

    def critic(self, out: int = 1) -> nn.Module:
        """Images (B, C, H, W) -> logits (B, out): the critic of the family, by default another encoder."""
        make = getattr(self._family, "critic", self._family.encoder)
        return make(self.shape, self._bare, out)

    def code_shape(self, channels: int) -> tuple[int, int, int]:
        """Returns the shape (channels, h, w) of a picture of codes."""
        return (channels, *self._spatial("code_sides")(self.shape, self._bare))

    def spatial_encoder(self, out: int) -> nn.Module:
        """Images (B, C, H, W) -> a picture of codes (B, out, h, w)."""
        return self._spatial("spatial_encoder")(self.shape, self._bare, out)

    def spatial_decoder(self, latent: int) -> nn.Module:
        """A picture of codes (B, latent, h, w) -> logits (B, C, H, W)."""
        return self._spatial("spatial_decoder")(self.shape, self._bare, latent)

    def patch_critic(self) -> nn.Module:
        """Images (B, C, H, W) -> a logit for each patch, (B, 1, h, w)."""
        return self._spatial("patch_critic")(self.shape, self._bare)

    def _spatial(self, function: str) -> Callable[..., Any]:
        found: Callable[..., Any] | None = getattr(self._family, function, None)
        if found is None:
            raise ValueError(f"network = {self.kind!r} has no {function}; use shared or shared_WIDTH")
        return found

    def latent_critic(
        self, latent: int, widths: Sequence[int] = mlp_aae.CRITIC_WIDTHS, dropout: float = mlp_aae.DROPOUT
    ) -> nn.Module:
        """Codes (B, D) -> logits (B, 1), with these widths, or as many layers of the family's `latent_width`."""
        width = latent_width(self.kind)
        return mlp_aae.latent_critic(latent, len(widths) * [width] if width else widths, dropout)


def train_in_bfloat16(network: nn.Module) -> None:
    """Makes a network compute in bfloat16 in training mode.

    Weights, gradients, outputs and losses stay float32, and so does evaluation, so metrics depend only on the weights.
    """
    forward = network.forward

    def mixed(x: Tensor) -> Tensor:
        if not network.training:
            return forward(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return forward(x).float()

    network.forward = mixed
