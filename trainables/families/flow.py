"""A normalising flow as a density over z, for any encoder: a neural spline flow (Durkan et al., 2019), from zuko.

    log p(z) = log N(u; 0, I) + log |det du/dz|,   u = f(z), rational-quadratic splines of 8 bins in coupling layers

B batch, D latent, N codes.
"""

import torch
from torch import Tensor

from trainables.densities import Density

TRANSFORMS, HIDDEN = 4, (128, 128)  # coupling layers, and hidden layers of each: our choice, as all below
STEPS, BATCH, RATE = 2000, 256, 1e-3


class Flow(Density):
    """A spline flow of standardised codes, fitted by maximum likelihood.

    The splines cover five standard deviations; outside, the density has the tails of N(0, I).
    """

    mean: Tensor  # (D,) of the codes
    std: Tensor  # (D,)

    def __init__(self, dim: int):
        super().__init__()
        from zuko.flows import NSF  # takes a second to import, and few runs need it

        passes = 2 if dim > 1 else None  # 2: coupling, which samples as fast as it evaluates and needs two latents
        self.flow = NSF(dim, transforms=TRANSFORMS, hidden_features=HIDDEN, passes=passes)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    @torch.no_grad()
    def follow(self, codes: Tensor, share: float) -> None:
        """Moves the standardisation towards codes (B, D) by this share, if the flow is trained beside an encoder."""
        self.mean.lerp_(codes.mean(0), share)
        self.std.lerp_(codes.std(0, correction=0).clamp_min(1e-6), share)

    @torch.enable_grad()
    def fit(self, codes: Tensor, seed: int) -> None:
        """Fits the flow to codes (N, D) by Adam, with a rate that decays to 0. Raises FloatingPointError for NaN or
        infinity."""
        if not codes.isfinite().all():
            raise FloatingPointError("codes are not finite")
        self.mean.copy_(codes.mean(0))
        self.std.copy_(codes.std(0).where(codes.std(0) > 1e-6, 1.0))
        chance = torch.Generator(codes.device).manual_seed(seed)
        optimiser = torch.optim.Adam(self.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            some = torch.randint(len(codes), (BATCH,), generator=chance, device=codes.device)
            loss = -self.log_prob(codes[some]).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters(), 10.0)
            optimiser.step()
            schedule.step()

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (B, D) -> (B,)."""
        return self.flow().log_prob((z - self.mean) / self.std) - self.std.log().sum()

    def sample(self, n: int) -> Tensor:
        return self.mean + self.std * self.flow().sample((n,))
