"""Gaussian decoders and the rules for their variance, which sets the balance in the Balancing and the Regularization
paper.

    SSE / (2 gamma) + P/2 log(2 pi gamma) + kl_weight KL(q(z|x) || N(0, I))           (methods.md 1.2)

gamma is the variance; the Balancing paper calls its root gamma. The loss is that of a beta-VAE with beta = gamma
relative to SSE/2, so a variance that follows the error anneals beta from 1 to the final mse. Three rules:

    learned   its logarithm is a parameter, trained by the same kind of optimiser (Dai and Wipf, 2019; methods.md 3.1)
    computed  m <- min(m, 0.99 m + 0.01 mse) after each step, gamma = m, no gradient (Asperti and Trentin, 2020; 3.2)
    fixed     a constant, such as the final value of a run with a learned gamma (Regularization, Table 2; 6.4)

B batch, C H W image, P pixels, D latent.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.losses import gaussian_nll, kl_to_standard_normal, squared_error
from trainables.method import Gaussian, Loss, Method, NonNegative, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

Rule = Literal["learned", "computed", "fixed"]
Decay = Annotated[float, Field(ge=0, lt=1)]
FLOOR = 1e-7  # methods.md 1.5


class DecoderVariance(nn.Module):
    """gamma of a decoder of `pixels` numbers, by one of the three rules. The state_dict contains its whole state.

    start: initial gamma, and the value of a fixed one. rate: learning rate of a learned gamma, relative to that of the
    networks. decay: of the running mean of a computed gamma; ratchet: whether that mean can only decrease.
    """

    running: Tensor  # (), a fixed or computed gamma

    def __init__(
        self, pixels: int, rule: Rule, start: float = 1.0, rate: float = 1.0, decay: float = 0.99, ratchet: bool = True
    ):
        super().__init__()
        self.pixels, self.rule, self.rate, self.decay, self.ratchet = pixels, rule, rate, decay, ratchet
        if rule == "learned":
            self.log_sd = nn.Parameter(torch.tensor(0.5 * math.log(start)))  # () as in the two-stage code
        else:
            self.register_buffer("running", torch.tensor(float(start)))

    @property
    def value(self) -> Tensor:
        """gamma, ()."""
        if self.rule == "learned":
            return (2 * self.log_sd).clamp(min=math.log(FLOOR)).exp()
        return self.running.clamp(min=FLOOR)

    def nll(self, sse: Tensor) -> Tensor:
        """Returns the negative log-likelihood for a squared error per image, () -> () nats per image."""
        return gaussian_nll(sse, self.value, self.pixels)

    def follow(self, sse: Tensor) -> None:
        """Updates a computed gamma from the squared error per image of the last step."""
        mse = sse / self.pixels
        seen = self.decay * self.running + (1 - self.decay) * mse
        if self.ratchet:
            self.running.copy_(torch.fmin(self.running, seen))  # fmin ignores NaN
        else:
            self.running.copy_(torch.where(mse.isfinite(), seen, self.running))

    def stage(
        self,
        name: str,
        epochs: int,
        networks: tuple[Player, ...],
        loss: Callable[[Tensor], Loss],
        error: str,
        **more: Any,
    ) -> Stage:
        """Returns a stage that trains networks and this variance with one shared forward pass.

        error: name of the loss term that is the squared error. more: further fields of the Stage.
        """
        if self.rule == "computed":
            first, *others = networks
            networks = (replace(first, after=lambda seen: self.follow(seen.terms[error])), *others)
        if self.rule == "learned":
            own = Optimiser(self.rate * networks[0].optimiser.learning_rate, schedule=networks[0].optimiser.schedule)
            networks = (*networks, Player((self,), loss, own, "gamma"))
        if len(networks) == 1:
            return Stage(name, epochs, networks, **more)

        def joint(x: Tensor) -> Mapping[str, Loss]:
            return dict.fromkeys((player.name for player in networks), loss(x))

        return Stage(name, epochs, networks, joint, **more)


def halving(share: float, epochs: int) -> Callable[[int], float] | None:
    """Returns a schedule that halves the rate after each `share` of the epochs, as in both papers; None for 0."""
    if share == 0:
        return None
    period = max(1, round(share * epochs))
    return lambda epoch: 0.5 ** (epoch // period)


class GaussianDecoderVAE(Method):
    """A VAE with a Gaussian decoder, the base of the papers' systems."""

    class Hyper(Method.Hyper):
        gamma_rule: Rule
        gamma: Positive = 1.0  # initial variance, and the value of a fixed one
        gamma_rate: Positive = 1.0  # learning rate of a learned gamma over that of the networks
        gamma_decay: Decay = 0.99  # of the running mean of a computed gamma
        gamma_ratchet: bool = True  # whether a computed gamma can only decrease
        kl_weight: NonNegative = 1.0
        halve_every: NonNegative = 0.0  # share of the stage's epochs after which the rate halves; 0: never
        output: Literal["sigmoid", "linear"] = "sigmoid"

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim, heads=2)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.variance = self.variance_of(math.prod(self.shape))

    def variance_of(self, pixels: int) -> DecoderVariance:
        h = self.hyper
        return DecoderVariance(pixels, h.gamma_rule, h.gamma, h.gamma_rate, h.gamma_decay, h.gamma_ratchet)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def mean_of(self, z: Tensor) -> Tensor:
        """Returns the mean of p(x|z), (B, D) -> (B, C, H, W); it is in [0, 1] only with a sigmoid."""
        mean = self.decoder(z)
        return mean.sigmoid() if self.hyper.output == "sigmoid" else mean

    def decode(self, z: Tensor) -> Tensor:
        return self.mean_of(z).clamp(0, 1)

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        sse = squared_error(self.mean_of(q.draw()), x)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        total = self.variance.nll(sse) + self.hyper.kl_weight * kl
        gamma = self.variance.value  # ()
        return Loss(total, {"reconstruction": sse, "kl": kl, "gamma": gamma, "clamped": q.clamped})

    def optimiser(self, epochs: int) -> Optimiser:
        return Optimiser(self.hyper.learning_rate, schedule=halving(self.hyper.halve_every, epochs))

    def decoder_variance(self) -> float:
        return self.variance.value.item()

    def beta_equiv(self) -> float:
        return self.hyper.kl_weight * self.decoder_variance()
