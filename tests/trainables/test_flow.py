"""The normalising flow behind codes: a density that integrates to one, and finds the one its codes are from."""

import math

import pytest
import torch

from trainables.densities import GaussianMixture
from trainables.families import flow
from trainables.families.flow import Flow


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(flow, "STEPS", 100)
    monkeypatch.setattr(flow, "TRANSFORMS", 2)
    monkeypatch.setattr(flow, "HIDDEN", (32, 32))
    monkeypatch.setattr(flow, "RATE", 5e-3)
    torch.manual_seed(0)


def banana(n: int) -> torch.Tensor:
    """u ~ N(0, I) bent: (3 u_1, u_2 / 5 + u_1^2), (n, 2); its log density is that of u less log(3 / 5)."""
    u = torch.randn(n, 2)
    return torch.stack([3 * u[:, 0], 0.2 * u[:, 1] + u[:, 0].square()], 1)


def banana_log_prob(z: torch.Tensor) -> torch.Tensor:
    u_1 = z[:, 0] / 3
    u_2 = 5 * (z[:, 1] - u_1.square())
    return -0.5 * (u_1.square() + u_2.square()) - math.log(2 * math.pi) - math.log(3 / 5)


@pytest.mark.slow
def test_a_bent_density_is_found():
    density, held_out = Flow(2), banana(2000)
    density.fit(banana(4000), seed=0)
    gaussian = GaussianMixture(2, 1)
    gaussian.fit(banana(4000), seed=0)
    normal = torch.distributions.MultivariateNormal(gaussian.means[0], scale_tril=gaussian.factors[0])
    with torch.no_grad():
        lost = (banana_log_prob(held_out) - density.log_prob(held_out)).mean().item()  # KL, estimated
        drawn = density.sample(4000)
    assert lost < 0.3 < (banana_log_prob(held_out) - normal.log_prob(held_out)).mean().item()
    assert (drawn[:, 1] - (drawn[:, 0] / 3).square()).std().item() < 0.5  # 1.4 without the bend


@pytest.mark.slow
def test_it_integrates_to_one():
    density = Flow(2)
    density.fit(banana(500), seed=0)
    side = torch.linspace(-40, 40, 321)
    with torch.no_grad():
        mass = density.log_prob(torch.cartesian_prod(side, side)).exp().sum().item() * 0.25**2
    assert mass == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 3])
def test_dead_and_single_latents(dim):
    codes = torch.randn(300, dim)
    codes[:, -1] = 2.0  # says nothing
    density = Flow(dim)
    density.fit(codes, seed=0)
    with torch.no_grad():
        assert density.sample(5).shape == (5, dim) and density.sample(50).isfinite().all()


def test_codes_that_are_not_finite_are_refused():
    with pytest.raises(FloatingPointError, match="codes are not finite"):
        Flow(2).fit(torch.tensor([[0.0, math.nan]]), seed=0)
