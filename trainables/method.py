"""What a method says about itself: networks, stages, players and the loss each player descends.

A method only describes; `trainables.fit` is the one loop that trains every method, so that in a comparison the
loop is never what differs. There is no inheritance between methods: shared maths lives in `losses`, `networks`
and `densities`, and what the systems of one paper have in common in `families`.

B batch, C H W image, D latent, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from trainables.densities import Density, StandardNormal
from trainables.feed import in_order
from trainables.losses import gaussian_log_prob, kl_to_standard_normal_per_dim, output
from trainables.networks import Networks, train_in_bfloat16

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Likelihood = Literal["bce", "sse", "gaussian"]

LOG_VAR_MIN, LOG_VAR_MAX = -14.0, 8.0  # methods.md 1.5; an active clamp is logged, it is a finding


def as_images(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float in [0, 1]; floats (point data sets, latents) pass unchanged."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


@dataclass(frozen=True)
class Posterior:
    """q(z|x): a diagonal Gaussian, or a point when `log_var` is None (deterministic encoders).

    mean (B, D); log_var (B, D) = log sigma^2; clamped (), the share of log-variances that hit the guard.
    """

    mean: Tensor
    log_var: Tensor | None = None
    clamped: Tensor | None = None

    @classmethod
    def from_head(cls, head: Tensor, low: float = LOG_VAR_MIN, high: float = LOG_VAR_MAX) -> Posterior:
        """Splits an encoder's output (B, 2D) into mean and log-variance, the latter guarded to [low, high]."""
        mean, raw = head.chunk(2, dim=1)  # (B, D) each
        log_var = raw.clamp(low, high)  # (B, D)
        return cls(mean, log_var, (log_var != raw).float().mean())

    def draw(self) -> Tensor:
        """One z = mean + sigma * eps per image, (B, D); the mean itself where the encoder is deterministic."""
        if self.log_var is None:
            return self.mean
        return self.mean + (0.5 * self.log_var).exp() * torch.randn_like(self.mean)

    def kl_per_dim(self) -> Tensor | None:
        """KL to N(0, 1) of every latent, averaged over the batch, (D,) in nats; None for a point."""
        if self.log_var is None:
            return None
        return kl_to_standard_normal_per_dim(self.mean, self.log_var).mean(0)


@dataclass(frozen=True)
class Loss:
    total: Tensor  # () what the player descends
    terms: Mapping[str, Tensor]  # () each, unweighted: kl means the same in every method's log


@dataclass(frozen=True)
class Optimiser:
    """How a player steps. `schedule` maps the epoch of the stage (0, 1, ...) to a factor on the rate."""

    learning_rate: float
    name: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Callable[[int], float] | None = None


@dataclass(frozen=True)
class Player:
    """Some modules and the loss they descend; on their turn no other parameter moves.

    gate: () tensor of 0 or 1, read after the loss: 0 lets this turn's update pass (VAE-GAN's margin).
    after: called with the loss after the step, without gradients (computed gamma, multipliers).
    """

    modules: tuple[nn.Module, ...]
    loss: Callable[[Tensor], Loss]
    optimiser: Optimiser
    name: str = "model"
    turns: int = 1  # turns per mini-batch
    gate: Callable[[Loss], Tensor] | None = None
    after: Callable[[Loss], None] | None = None


@dataclass(frozen=True)
class Stage:
    """One phase of training. Players alternate, in order, each with its own forward pass; `joint` instead
    computes every player's loss from one shared forward pass and takes the gradients by owner.

    prepare: a closed-form fit on entering, given the training images (N, C, H, W) uint8, e.g. EM. They may lie on the
        host: `feed.in_order` brings them to the networks.
    inputs: what the stage trains on, computed once on entering (default: the images themselves).
    judged: False for pretraining, whose samples say nothing yet: no evaluation, so no rung, falls in it.
    sampler: of a stage that is not judged, the density that is trained already and may be looked at.
    """

    name: str = "train"
    epochs: int = 0
    players: tuple[Player, ...] = ()
    joint: Callable[[Tensor], Mapping[str, Loss]] | None = None  # player name -> its loss
    prepare: Callable[[Tensor], None] | None = None
    inputs: Callable[[Tensor], Tensor] | None = None
    judged: bool = True
    sampler: str | None = None


class Method(nn.Module):
    """The only base class. A subclass gives `build`, `loss`, `encode` and `decode_logits` (or `decode`)."""

    class Hyper(BaseModel):
        """Everything a trial may vary. What a paper sets has no default: a forgotten value is an error."""

        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

        latent_dim: PositiveInt
        learning_rate: Positive
        batch_size: PositiveInt
        network: str
        clip: NonNegative = 0.0  # gradient-norm clip; 0 is off (methods.md 1.5)
        precision: Literal["float32", "bfloat16"] = "float32"  # of the networks' products in training

    per_pixel: ClassVar[tuple[str, ...]] = ()  # weights whose paper sets them in proportion to an image's numbers
    hyper: Hyper
    densities: nn.ModuleDict  # the first one is the method's own sampler
    epoch: Tensor  # () fractional epochs into the stage, for warm-ups; moved by fit

    def __init__(self, hyper: Hyper, shape: tuple[int, ...]):
        super().__init__()
        self.hyper = hyper
        self.shape = shape
        self.densities = nn.ModuleDict({"prior": StandardNormal(hyper.latent_dim)})
        self.register_buffer("epoch", torch.zeros(()))
        self.build(Networks(shape, hyper.network))
        for network in self.children() if hyper.precision == "bfloat16" else ():
            if network is not self.densities:
                train_in_bfloat16(network)

    @classmethod
    def on_network(cls, kind: str) -> dict[str, Any]:
        """The hyperparameters that put the method on networks of one kind, those over latents by that kind's rule."""
        return {"network": kind}

    def build(self, nets: Networks) -> None:
        """Creates the networks; may replace `self.densities`."""
        raise NotImplementedError

    def loss(self, x: Tensor) -> Loss:
        """The loss of the default player; x (B, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Posterior:
        """(B, C, H, W) in [0, 1] -> q(z|x) over (B, D)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """(B, D) -> images (B, C, H, W) in [0, 1], or points (B, P)."""
        return output(self.decoder(z))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """How the budget of epochs is spent; their sum must be `epochs`. Default: one stage, one player."""
        modules = tuple(self.children())
        player = Player(modules, self.loss, Optimiser(self.hyper.learning_rate))
        return (Stage(epochs=epochs, players=(player,)),)

    def after_epoch(self, terms: Mapping[str, float]) -> Mapping[str, float]:
        """Sees the epoch's mean terms and returns further metrics for the log."""
        return {}

    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        """Numbers that only this method has (cluster usage, ...), at each evaluation, from some images."""
        return {}

    def decoder_variance(self) -> float | None:
        """gamma_v of a Gaussian decoder that learns or computes it; None: what its error implies, the mse."""
        return None

    def beta_equiv(self) -> float | None:
        """The beta of SSE/2 + beta KL that the loss amounts to once training is over (methods.md 1.2).

        None: the loss has no KL or no squared error in pixels, or the method does not say.
        """
        return None

    @property
    def prior(self) -> Density:
        """What codes are compared with: the density "prior", or else the first one, which is fitted to them."""
        return self.densities["prior"] if "prior" in self.densities else next(iter(self.densities.values()))

    def rate(self, x: Tensor, q: Posterior, z: Tensor) -> Tensor | None:
        """log q(z|x) - log p(z) under the method's own prior, (B,) in nats; its mean is the KL of the bound.

        x (B, C, H, W), their posteriors q, and z (B, D) drawn from these. In closed form where the prior is N(0, I),
        else at z. None: the encoder is deterministic, or the prior has no density.
        """
        if q.log_var is None:
            return None
        if isinstance(self.prior, StandardNormal):
            return kl_to_standard_normal_per_dim(q.mean.double(), q.log_var.double()).sum(1)
        if not hasattr(self.prior, "log_prob"):
            return None
        return gaussian_log_prob(z, q.mean, q.log_var) - self.prior.log_prob(z)

    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        """Images that only this method has (pseudo-inputs, ...), each (N, C, H, W) in [0, 1]; x: held-out images."""
        return {}

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Posterior means of a whole data set, uint8 (N, C, H, W) or points (N, P) -> (N, D)."""
        return torch.cat([self.encode(as_images(batch)).mean for batch in in_order(images, self.epoch.device)])

    @torch.no_grad()
    def sample(self, n: int, density: str | None = None) -> Tensor:
        """n images (n, C, H, W) in [0, 1] from one of the densities, by default the method's own."""
        source: Density = self.densities[density or next(iter(self.densities))]
        return self.decode(source.sample(n))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """decode(z) with one z ~ q(z|x): (B, C, H, W) -> (B, C, H, W) in [0, 1] (methods.md 7.2)."""
        return self.decode(self.encode(x).draw())
