"""The base class of all methods. A method defines its networks, stages and players, and the loss of each player.

A method does not train itself: the loop in `trainables.fit` trains every method, so a comparison never includes a
difference between training loops. Methods do not inherit from each other: shared mathematics is in `losses`,
`networks` and `densities`, and the parts that the systems of one paper share are in `families`.

B batch, C H W image, D latent, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from trainables.densities import Densities, Density, Evaluable, StandardNormal
from trainables.feed import ENCODE_BATCH, batches, in_order
from trainables.losses import gaussian_log_prob, kl_to_standard_normal_per_dim, output
from trainables.networks import Networks, train_in_bfloat16
from trainables.strict import StrictModel

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Likelihood = Literal["bce", "sse", "gaussian"]

LOG_VAR_MIN, LOG_VAR_MAX = -14.0, 8.0  # methods.md 1.5; the share of clamped values is logged


def as_images(pixels: Tensor) -> Tensor:
    """Converts uint8 0..255 to float in [0, 1]; copies floats (point data sets, latents), which a method may change."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.clone()


@dataclass(frozen=True)
class Posterior:
    """q(z|x) of a deterministic encoder, a point; that of a stochastic encoder is a `Gaussian`. mean (B, D)."""

    mean: Tensor

    def draw(self) -> Tensor:
        """Returns one z per image, (B, D): the mean."""
        return self.mean

    def kl_per_dim(self) -> Tensor | None:
        """Returns None: a point has no KL to N(0, 1)."""
        return None


@dataclass(frozen=True)
class Gaussian(Posterior):
    """q(z|x), a diagonal Gaussian: log_var (B, D) = log sigma^2.

    clamped: the share of log-variances that were clamped, ().
    """

    log_var: Tensor
    clamped: Tensor = field(default=torch.zeros(()))

    @classmethod
    def from_head(cls, head: Tensor, low: float = LOG_VAR_MIN, high: float = LOG_VAR_MAX) -> Gaussian:
        """Splits an encoder's output (B, 2D) into mean and log-variance and clamps the latter to [low, high]."""
        mean, raw = head.chunk(2, dim=1)  # (B, D) each
        log_var = raw.clamp(low, high)  # (B, D)
        return cls(mean, log_var, (log_var != raw).float().mean())

    def draw(self) -> Tensor:
        """Draws one z = mean + sigma * eps per image, (B, D)."""
        return self.mean + (0.5 * self.log_var).exp() * torch.randn_like(self.mean)

    def kl_per_dim(self) -> Tensor:
        """Returns the KL of each latent to N(0, 1), averaged over the batch, (D,) in nats."""
        return kl_to_standard_normal_per_dim(self.mean, self.log_var).mean(0)


@dataclass(frozen=True)
class Loss:
    total: Tensor  # () the objective that the player minimises
    terms: Mapping[str, Tensor]  # () each, unweighted, so kl has the same meaning in the log of every method


@dataclass(frozen=True)
class Optimiser:
    """The optimiser of a player. `schedule` maps the epoch of the stage (0, 1, ...) to a learning rate factor."""

    learning_rate: float
    name: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Callable[[int], float] | None = None


@dataclass(frozen=True)
class Player:
    """A group of modules and the loss that trains them. A turn of a player updates no other parameters.

    gate: returns a () tensor of 0 or 1 for the loss; 0 skips the update of this turn (VAE-GAN's margin).
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
    """One phase of training. Players alternate in order, each with its own forward pass. With `joint`, all losses
    come from one shared forward pass, and each player takes the gradients of its own parameters.

    prepare: called once when the stage starts, for a closed-form fit such as EM, with the training images
        (N, C, H, W) uint8. These may be in host memory: `feed.in_order` copies them to the device.
    inputs: computes the training inputs of the stage, once when it starts (default: the images).
    judged: False for pretraining, whose samples are not yet meaningful: the stage has no evaluation and no rung.
    sampler: the name of a density that is already trained and can be scored during a stage with judged=False.
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
    """The base class of all methods. A subclass implements `build`, `loss` and `encode`; `decode` uses `decoder`."""

    class Hyper(StrictModel):
        """The hyperparameters of a trial. Values that a paper sets have no default, so a missing one is an error."""

        model_config = ConfigDict(frozen=True, validate_default=True)

        latent_dim: PositiveInt
        learning_rate: Positive
        batch_size: PositiveInt
        network: str
        clip: NonNegative = 0.0  # gradient-norm clip; 0 is off (methods.md 1.5)
        precision: Literal["float32", "bfloat16"] = "float32"  # of the networks' matrix products in training

    per_pixel: ClassVar[tuple[str, ...]] = ()  # weights that their paper scales with the number of values per image
    hyper: Hyper
    encoder: nn.Module
    decoder: nn.Module
    densities: Densities  # the first one is the method's own sampler
    epoch: Tensor  # () fractional epochs since the stage started, for warm-ups; updated by fit

    def __init__(self, hyper: Hyper, shape: tuple[int, ...]):
        super().__init__()
        self.hyper = hyper
        self.shape = shape
        self.densities = Densities(prior=StandardNormal(hyper.latent_dim))
        self.register_buffer("epoch", torch.zeros(()))
        self.build(Networks(shape, hyper.network))
        for network in self.children() if hyper.precision == "bfloat16" else ():
            if network is not self.densities:
                train_in_bfloat16(network)

    @classmethod
    def on_network(cls, kind: str) -> dict[str, Any]:
        """Returns the hyperparameters that select networks of one kind, including the networks over latents."""
        return {"network": kind}

    def build(self, nets: Networks) -> None:
        """Creates the networks. May replace `self.densities`."""
        raise NotImplementedError

    def loss(self, x: Tensor) -> Loss:
        """Returns the loss of the default player; x (B, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Posterior:
        """(B, C, H, W) in [0, 1] -> q(z|x) over (B, D)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """(B, D) -> images (B, C, H, W) in [0, 1], or points (B, P)."""
        return output(self.decoder(z))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """Divides `epochs` among the stages, whose epochs must sum to it. Default: one stage with one player."""
        modules = tuple(self.children())
        player = Player(modules, self.loss, Optimiser(self.hyper.learning_rate))
        return (Stage(epochs=epochs, players=(player,)),)

    def after_epoch(self, terms: Mapping[str, float]) -> Mapping[str, float]:
        """Called with the mean loss terms of an epoch; returns additional metrics for the log.

        In a sweep, more than ten minutes here count as a hang, unless a training step takes over six seconds.
        """
        return {}

    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        """Returns metrics specific to the method (cluster usage, ...) on the images x. Called at each evaluation."""
        return {}

    def decoder_variance(self) -> float | None:
        """Returns gamma_v if the Gaussian decoder learns or computes it; None if the mse of the decoder implies it."""
        return None

    def beta_equiv(self) -> float | None:
        """Returns the beta for which the loss at the end of training equals SSE/2 + beta KL (methods.md 1.2).

        None if the loss has no KL or no squared error in pixels, or if the method does not define it.
        """
        return None

    @property
    def code_dim(self) -> int:
        """D, the length of a code: latent_dim, times the number of positions if codes form a picture."""
        return self.hyper.latent_dim

    @property
    def prior(self) -> Density:
        """The density that codes are compared with: "prior" if present, else the first one, which is fitted to them."""
        return self.densities["prior"] if "prior" in self.densities else next(iter(self.densities.values()))

    def rate(self, x: Tensor, q: Posterior, z: Tensor) -> Tensor | None:
        """Returns log q(z|x) - log p(z) under the prior of the method, (B,) in nats; its mean is the KL of the bound.

        x (B, C, H, W), their posteriors q, and z (B, D) drawn from q. In closed form if the prior is N(0, I), else
        evaluated at z. None if the encoder is deterministic or the prior has no density.
        """
        if not isinstance(q, Gaussian):
            return None
        if isinstance(self.prior, StandardNormal):
            return kl_to_standard_normal_per_dim(q.mean.double(), q.log_var.double()).sum(1)
        if not isinstance(self.prior, Evaluable):
            return None
        return gaussian_log_prob(z, q.mean, q.log_var) - self.prior.log_prob(z)

    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns images specific to the method (pseudo-inputs, ...), (N, C, H, W) in [0, 1]; x: held-out images.

        A name becomes that of a file: letters, digits, _ and -.
        """
        return {}

    @torch.no_grad()
    def codes(self, images: Tensor, most: int | None = None, seed: int = 0) -> Tensor:
        """Returns the posterior means of a whole data set, uint8 (N, C, H, W) or points (N, P) -> (N, D).

        most: if there are more images than this, only of so many, which `seed` chooses: (most, D).
        """
        device = self.epoch.device
        chunks = in_order(images, device)
        if most is not None and len(images) > most:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:most]
            chunks = batches(images, order.to(images.device), ENCODE_BATCH, device)
        return torch.cat([self.encode(as_images(batch)).mean for batch in chunks])

    @torch.no_grad()
    def sample(self, n: int, density: str | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [0, 1] from a density, by default the first one.

        Raises ValueError for an unknown density, or n that is not a positive integer.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"the number of images must be an integer of at least 1, got {n!r}")
        name = next(iter(self.densities)) if density is None else density
        if name not in self.densities:
            raise ValueError(f"density {name!r} is not known; choose from {', '.join(self.densities)}")
        source: Density = self.densities[name]
        return self.decode(source.sample(n))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Returns decode(z) for one z ~ q(z|x): (B, C, H, W) -> (B, C, H, W) in [0, 1] (methods.md 7.2)."""
        return self.decode(self.encode(x).draw())
