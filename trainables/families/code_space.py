"""VAEs over the codes of a plain autoencoder, with their error in pixels: the Regularization paper's Tables 3 and 4.

    stage 1:  |x - g'(g(x))|^2                          an autoencoder without penalty, then frozen
    stage 2:  SSE(x, g'(f(z))) / (2 gamma) + P/2 log(2 pi gamma) + kl_weight KL(q(z|g(x)) || N(0, I))

With `frozen` off, stage 2 also trains the autoencoder by the same loss (the second reading, end to end); with
`pretrain_share` 0, it does so from the first epoch.

The input of the small VAE of stage 2 is codes, standardised per dimension, and its error is in pixels, through the
frozen decoder g' (methods.md 6.5). `error_in` = "codes" uses its error in codes, which is much cheaper and not in the
paper.

B batch, C H W image, P pixels, D latent, E code (d~ in the paper).
"""

import math
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from trainables.families.gaussian import DecoderVariance
from trainables.feed import in_order
from trainables.losses import kl_to_standard_normal, squared_error
from trainables.method import (
    Gaussian,
    Loss,
    Method,
    NonNegative,
    Optimiser,
    Player,
    Positive,
    PositiveInt,
    Stage,
    as_images,
)
from trainables.networks import Networks, latent_width


class PixelAutoencoder(nn.Module):
    """Maps images to standardised codes and back: (B, C, H, W) -> (B, E) -> (B, C, H, W) in [0, 1]."""

    mean: Tensor  # (E,) of the trained encoder's output
    std: Tensor  # (E,)

    def __init__(self, nets: Networks, code_dim: int):
        super().__init__()
        self.encoder, self.decoder = nets.encoder(code_dim), nets.decoder(code_dim)
        self.register_buffer("mean", torch.zeros(code_dim))
        self.register_buffer("std", torch.ones(code_dim))

    def encode(self, x: Tensor) -> Tensor:
        return (self.encoder(x) - self.mean) / self.std

    def decode(self, code: Tensor) -> Tensor:
        return self.decoder(code * self.std + self.mean).sigmoid()

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Fits the scaler to the codes of a data set, uint8 (N, C, H, W). Constant dimensions are not scaled."""
        raw = torch.cat([self.encoder(as_images(some)) for some in in_order(images, self.mean.device)])  # (N, E)
        if not raw.isfinite().all():
            raise FloatingPointError("codes are not finite")
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0).where(raw.std(0) > 1e-6, 1.0))


class CodeSpaceMethod(Method):
    """The first stage, and the mapping between images and latents, shared by all systems of this structure."""

    class Hyper(Method.Hyper):
        code_dim: PositiveInt  # d~
        latent_network: str  # of the small network on codes, a kind for points
        pretrain_share: Annotated[float, Field(ge=0, lt=1)]  # of the epochs, for the autoencoder

    hyper: Hyper
    head = 1  # outputs of the small encoder per latent

    @classmethod
    def on_network(cls, kind: str) -> dict[str, Any]:
        width = latent_width(kind)
        return super().on_network(kind) | ({"latent_network": f"residual_mlp_{width}_3_affine"} if width else {})

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.autoencoder = PixelAutoencoder(nets, h.code_dim)
        small = Networks((h.code_dim,), h.latent_network)
        self.encoder, self.decoder = small.encoder(self.head * h.latent_dim), small.decoder(h.latent_dim)

    def decode(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(self.decoder(z))

    def frozen_code(self, x: Tensor) -> Tensor:
        """Returns g(x), always in eval mode and without gradients: (B, C, H, W) -> (B, E)."""
        self.autoencoder.eval()
        with torch.no_grad():
            return self.autoencoder.encode(x)

    def autoencoding_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        sse = squared_error(self.autoencoder.decode(self.autoencoder.encode(x)), x)  # ()
        return Loss(sse, {"reconstruction": sse})

    def pretraining(self, epochs: int) -> Stage:
        networks = (self.autoencoder.encoder, self.autoencoder.decoder)
        player = Player(networks, self.autoencoding_loss, Optimiser(self.hyper.learning_rate), "autoencoder")
        return Stage("autoencoder", epochs, (player,), judged=False)

    def shares(self, epochs: int, later: float = 0.0) -> tuple[int, int, int]:
        """Returns the epochs of the autoencoder, of the small network (at least one), and of a stage with `later`."""
        first = min(round(self.hyper.pretrain_share * epochs), epochs - 1)
        third = min(round(later * epochs), epochs - first - 1)
        return first, epochs - first - third, third


class CodeSpaceVAE(CodeSpaceMethod):
    """Stages 1 and 2."""

    class Hyper(CodeSpaceMethod.Hyper):
        kl_weight: NonNegative = 1.0
        gamma: Positive = 1.0  # initial value; it is learned
        gamma_rate: Positive = 1.0  # learning rate of gamma over that of the networks
        error_in: Literal["pixels", "codes"] = "pixels"
        frozen: bool = True  # whether stage 2 leaves the autoencoder unchanged

        @model_validator(mode="after")
        def error_of_moving_codes(self) -> Self:
            if not self.frozen and self.error_in == "codes":
                raise ValueError(
                    "frozen = false is not allowed with error_in = 'codes': trainable codes could shrink to reduce the "
                    "error; set error_in = 'pixels' or frozen = true"
                )
            return self

    hyper: Hyper
    head = 2

    def build(self, nets: Networks) -> None:
        super().build(nets)
        h = self.hyper
        measured = math.prod(self.shape) if h.error_in == "pixels" else h.code_dim
        self.variance = DecoderVariance(measured, "learned", h.gamma, h.gamma_rate)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(self.autoencoder.encode(x)))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        code = self.frozen_code(x) if self.hyper.frozen else self.autoencoder.encode(x)  # (B, E)
        q = Gaussian.from_head(self.encoder(code))
        z = q.draw()  # (B, D)
        in_pixels = self.hyper.error_in == "pixels"
        sse = squared_error(self.decode(z), x) if in_pixels else squared_error(self.decoder(z), code)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        total = self.variance.nll(sse) + self.hyper.kl_weight * kl
        return Loss(total, {"reconstruction": sse, "kl": kl, "gamma": self.variance.value, "clamped": q.clamped})

    def small_stage(self, epochs: int, judged: bool = True) -> Stage:
        outer = () if self.hyper.frozen else (self.autoencoder.encoder, self.autoencoder.decoder)
        modules = (self.encoder, self.decoder, *outer)
        network = Player(modules, self.loss, Optimiser(self.hyper.learning_rate), "network")
        prepare = self.autoencoder.standardise
        return self.variance.stage(
            "vae", epochs, (network,), self.loss, "reconstruction", prepare=prepare, judged=judged
        )

    def decoder_variance(self) -> float | None:
        return self.variance.value.item() if self.hyper.error_in == "pixels" else None

    def beta_equiv(self) -> float | None:
        gamma = self.decoder_variance()
        return None if gamma is None else self.hyper.kl_weight * gamma
