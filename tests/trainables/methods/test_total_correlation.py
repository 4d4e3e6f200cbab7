"""FactorVAE and beta-TCVAE: their total correlation against closed form and torch.distributions.

B batch, D latent.
"""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from trainables.catalog import find
from trainables.method import Gaussian
from trainables.methods.beta_tcvae import total_correlation
from trainables.methods.factor_vae import permuted
from trainables.networks.mlp_aae import latent_critic
from trainables.training import parameters_of

SHAPE = (1, 4, 4)
VALUES = {"latent_dim": 2, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_8", "likelihood": "bce"}


def test_the_total_correlation_is_that_of_the_batch_s_mixture():
    torch.manual_seed(0)
    q = Gaussian(torch.randn(7, 3).double(), torch.randn(7, 3).double())
    z = q.draw()
    scale, even = (0.5 * q.log_var).exp(), Categorical(torch.ones(7).double())
    joint = MixtureSameFamily(even, Independent(Normal(q.mean, scale), 1)).log_prob(z)
    apart = sum(MixtureSameFamily(even, Normal(q.mean[:, j], scale[:, j])).log_prob(z[:, j]) for j in range(3))
    torch.testing.assert_close(total_correlation(q, z), (joint - apart).mean(), check_dtype=False)


@pytest.mark.slow
def test_the_total_correlation_of_a_gaussian():
    """Codes of correlation r with some noise: -1/2 log(1 - r^2), by the estimate of many posteriors."""
    torch.manual_seed(0)
    r, noise = 0.8, 0.2
    factor = torch.linalg.cholesky(torch.tensor([[1.0, r], [r, 1.0]]).double())
    mean = torch.randn(3000, 2).double() @ factor.T
    q = Gaussian(mean, torch.full_like(mean, math.log(noise)))
    observed = r / (1 + noise)
    assert total_correlation(q, q.draw()).item() == pytest.approx(-0.5 * math.log(1 - observed**2), abs=0.05)


def test_permuting_keeps_every_latent_and_breaks_their_pairs():
    torch.manual_seed(0)
    z = torch.randn(2000, 1).expand(-1, 2) + torch.tensor([0.0, 5.0])  # two latents that say the same
    mixed = permuted(z)
    torch.testing.assert_close(mixed.sort(0).values, z.sort(0).values)
    assert abs(torch.corrcoef(mixed.T)[0, 1].item()) < 0.1


def factor_vae(**changed):
    torch.manual_seed(0)
    return find("factor_vae")(find("factor_vae").Hyper(**VALUES | {"gamma": 3.0} | changed), SHAPE)


def test_the_best_critic_says_the_total_correlation():
    """log D - log(1 - D) of the critic that the loss leads to is log q(z) - sum_j log q(z_j)."""
    torch.manual_seed(0)
    critic = latent_critic(2, (64, 64), dropout=0.0)  # smaller than the method's, and as good here
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(150):
        z, other = (torch.randn(256, 2) @ factor.T for _ in range(2))
        on_q, on_product = critic(z), critic(permuted(other))
        loss = 0.5 * (torch.nn.functional.softplus(-on_q) + torch.nn.functional.softplus(on_product)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tc = critic(torch.randn(4000, 2) @ factor.T).mean().item()
    assert tc == pytest.approx(-0.5 * math.log(1 - 0.8**2), abs=0.15)


def test_losses_of_both_players():
    method, x = factor_vae(), torch.rand(8, *SHAPE)
    losses = method.losses(x)
    terms = losses["vae"].terms
    torch.testing.assert_close(losses["vae"].total, terms["reconstruction"] + terms["kl"] + 3.0 * terms["tc"])
    vae, critic = method.stages(3)[0].players
    assert {id(p) for p in parameters_of(vae)}.isdisjoint({id(p) for p in parameters_of(critic)})
    assert [m.out_features for m in method.critic if isinstance(m, torch.nn.Linear)] == [*6 * [1000], 1]


def test_beta_one_is_the_vae():
    x = torch.rand(8, *SHAPE)
    losses = []
    for name, more in (("vae", {}), ("beta_tcvae", {"beta": 1.0})):
        torch.manual_seed(0)
        method = find(name)(find(name).Hyper(**VALUES | more), SHAPE)
        losses.append(method.loss(x).total)
    torch.testing.assert_close(*losses)
