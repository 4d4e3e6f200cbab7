"""Gaussian decoders and what sets their variance: the balance of the Balancing and the Regularization paper.

    SSE / (2 gamma) + P/2 log(2 pi gamma) + kl_weight KL(q(z|x) || N(0, I))           (methods.md 1.2)

gamma is the variance; the Balancing paper writes gamma for its root. Minimising this is beta-VAE with beta = gamma
beside SSE/2, so a variance that follows the error anneals beta from 1 to the final mse. Three rules:

    learned   its logarithm is a parameter, moved by the same kind of optimiser (Dai and Wipf, 2019; methods.md 3.1)
    computed  m <- min(m, 0.99 m + 0.01 mse) after each step, gamma = m, no gradient (Asperti and Trentin, 2020; 3.2)
    fixed     a number, such as the one that a learned run ended with (Regularization, Table 2; 6.4)

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
    """gamma of a decoder of `pixels` numbers, by one of the three rules. All its state is in the state_dict.

    start: gamma at first, and for good where it is fixed. rate: learning rate of a learned gamma over that of the
    networks. decay: of the running mean of a computed one; ratchet: whether that may only fall.
    """

    running: Tensor  # () of a gamma that is fixed or computed

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
        """Nats per image of the squared error per image, () -> ()."""
        return gaussian_nll(sse, self.value, self.pixels)

    def follow(self, sse: Tensor) -> None:
        """Lets a computed gamma see the squared error per image of the step just done."""
        mse = sse / self.pixels
        seen = self.decay * self.running + (1 - self.decay) * mse
        if self.ratchet:
            self.running.copy_(torch.fmin(self.running, seen))  # fmin: an error that is not a number is not seen
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
        """The stage in which networks learn together with this variance, by one forward pass for all.

        error: the term of the loss that is the squared error. more: further fields of the Stage.
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
    """A schedule that halves the rate after each such share of a stage's epochs, as both papers do; 0 is none."""
    if share == 0:
        return None
    period = max(1, round(share * epochs))
    return lambda epoch: 0.5 ** (epoch // period)


class GaussianDecoderVAE(Method):
    """A VAE with a Gaussian decoder; what the papers' systems share."""

    class Hyper(Method.Hyper):
        gamma_rule: Rule
        gamma: Positive = 1.0  # the variance at first, and for good where it is fixed
        gamma_rate: Positive = 1.0  # learning rate of a learned gamma over that of the networks
        gamma_decay: Decay = 0.99  # of the running mean of a computed gamma
        gamma_ratchet: bool = True  # a computed gamma may only fall
        kl_weight: NonNegative = 1.0
        halve_every: NonNegative = 0.0  # share of the stage's epochs after which the rate halves; 0 is never
        output: Literal["sigmoid", "linear"] = "sigmoid"

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.variance = self.variance_of(math.prod(self.shape))

    def variance_of(self, pixels: int) -> DecoderVariance:
        h = self.hyper
        return DecoderVariance(pixels, h.gamma_rule, h.gamma, h.gamma_rate, h.gamma_decay, h.gamma_ratchet)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def mean_of(self, z: Tensor) -> Tensor:
        """The mean of p(x|z); only a sigmoid keeps it in [0, 1]. (B, D) -> (B, C, H, W)."""
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
