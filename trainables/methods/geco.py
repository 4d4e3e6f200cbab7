"""GECO: the smallest KL for which the error stays within a tolerance (Rezende and Viola, 2018; methods.md 3.7).

    min KL(q(z|x) || N(0, I))  subject to  E[C] <= 0,   C = SSE - tau^2 P
    loss:  KL + lambda C;  after each step  C_ma <- a C_ma + (1 - a) C,  lambda <- lambda exp(eta C_ma / P)

lambda is clamped to [1e-4, 1e6]; the gradient uses the C of the batch. tau is a root-mean-square error per pixel on
[0, 1]. For a fixed lambda this is a Gaussian decoder of variance 1 / (2 lambda), which is reported as gamma.

B batch, C H W image, P pixels.
"""

import math

import torch
from torch import Tensor

from trainables.families.gaussian import Decay, halving
from trainables.losses import kl_to_standard_normal, squared_error
from trainables.method import Gaussian, Loss, Method, NonNegative, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

LEAST, MOST = 1e-4, 1e6


class GECO(Method):
    class Hyper(Method.Hyper):
        tau: Positive
        eta: Positive  # step size of the multiplier
        decay: Decay = 0.99  # a
        halve_every: NonNegative = 0.0  # share of the epochs after which the rate halves; 0: never

    hyper: Hyper
    multiplier: Tensor  # ()
    constraint: Tensor  # (), C_ma
    begun: Tensor  # (), 0 until the first C initialises C_ma

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.pixels = math.prod(self.shape)
        self.register_buffer("multiplier", torch.ones(()))
        self.register_buffer("constraint", torch.zeros(()))
        self.register_buffer("begun", torch.zeros(()))

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        sse = squared_error(self.decode(q.draw()), x)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        constraint = sse - self.hyper.tau**2 * self.pixels  # ()
        multiplier = self.multiplier.clone()  # () a copy: `follow` changes it in place before it is logged
        terms = {"reconstruction": sse, "kl": kl, "multiplier": multiplier, "clamped": q.clamped}
        return Loss(kl + multiplier * constraint, terms)

    def follow(self, loss: Loss) -> None:
        """Updates the multiplier after a step, unless its error was NaN."""
        now = loss.terms["reconstruction"] - self.hyper.tau**2 * self.pixels  # ()
        a = self.hyper.decay * self.begun  # 0 at the first step
        mean = torch.where(now.isfinite(), a * self.constraint + (1 - a) * now, self.constraint)
        self.begun.copy_(torch.where(now.isfinite(), 1.0, self.begun))
        self.constraint.copy_(mean)
        self.multiplier.mul_((self.hyper.eta * mean / self.pixels).exp()).clamp_(LEAST, MOST)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        optimiser = Optimiser(self.hyper.learning_rate, schedule=halving(self.hyper.halve_every, epochs))
        player = Player((self.encoder, self.decoder), self.loss, optimiser, after=self.follow)
        return (Stage(epochs=epochs, players=(player,)),)

    def decoder_variance(self) -> float:
        return 0.5 / self.multiplier.item()

    def beta_equiv(self) -> float:
        return self.decoder_variance()
