"""The KL autoencoder: its losses against torch's own, the adaptive weight by hand, and who learns from whom."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from trainables.catalog import find
from trainables.families.flow import Flow

SHAPE = (1, 8, 8)
VALUES = {"latent_dim": 2, "learning_rate": 1e-3, "batch_size": 8, "network": "shared_4"}
OWN = {"kl_weight": 0.3, "critic_weight": 0.5}


@pytest.fixture
def method():
    torch.manual_seed(0)
    return find("kl_ae")(find("kl_ae").Hyper(**VALUES | OWN), SHAPE)


@pytest.fixture
def x():
    return torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))


def gradients(loss, modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)])


def test_stage_one_is_absolute_error_and_kl(method, x):
    torch.manual_seed(2)
    losses = method.losses_without_critic(x)
    q = method.encode(x)
    torch.manual_seed(2)
    rec = F.l1_loss(method.decode(q.draw()), x, reduction="none").flatten(1).sum(1).mean()
    kl = kl_divergence(Normal(q.mean, (0.5 * q.log_var).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert set(losses) == {"autoencoder", "prior"} and method.code_dim == 2 * 2 * 2
    assert losses["autoencoder"].total.item() == pytest.approx((rec + 0.3 * kl).item(), rel=1e-5)


def test_the_critic_learns_by_the_hinge_and_the_decoder_by_its_score(method, x):
    torch.manual_seed(2)
    terms = method.losses(x)["critic"].terms
    torch.manual_seed(2)
    x_hat = method.decode(method.encode(x).draw())
    on_x, on_x_hat = method.critic(x), method.critic(x_hat)
    hinge = 0.5 * (F.relu(1 - on_x).mean() + F.relu(1 + on_x_hat).mean())
    assert terms["critic"].item() == pytest.approx(hinge.item(), rel=1e-5)
    assert terms["fooled"].item() == pytest.approx(-on_x_hat.mean().item(), rel=1e-4)


def test_the_adaptive_weight_makes_both_gradients_of_the_last_layer_equal(method, x):
    torch.manual_seed(2)
    losses = method.losses(x)
    torch.manual_seed(2)
    without = method.losses_without_critic(x)
    last = method.decoder[-1].weight
    terms = losses["autoencoder"].terms
    both = torch.autograd.grad(losses["autoencoder"].total, last, retain_graph=True)[0]
    plain = torch.autograd.grad(without["autoencoder"].total, last)[0]
    of_critic = torch.autograd.grad(terms["fooled"], last, retain_graph=True)[0]
    torch.testing.assert_close(both - plain, 0.5 * terms["adaptive_weight"] * of_critic, rtol=1e-3, atol=1e-4)
    assert (terms["adaptive_weight"] * of_critic.norm()).item() == pytest.approx(plain.norm().item(), rel=0.05)


def test_the_flow_learns_the_codes_and_moves_nothing_else(method, x):
    prior = method.losses(x)["prior"].total
    others = [*method.encoder.parameters(), *method.decoder.parameters()]
    assert all(g is None for g in torch.autograd.grad(prior, others, allow_unused=True, retain_graph=True))
    assert gradients(prior, [method.densities]).norm() > 0


def test_the_standardisation_follows_the_codes():
    flow = Flow(3)
    codes = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 7
    for _ in range(300):
        flow.follow(codes, 0.05)
    torch.testing.assert_close(flow.mean, codes.mean(0))
    torch.testing.assert_close(flow.std, codes.std(0, correction=0), rtol=1e-3, atol=1e-5)


def test_the_share_of_epochs_with_a_critic(method):
    assert [(stage.name, stage.epochs) for stage in method.stages(27)] == [("autoencoder", 13), ("adversarial", 14)]
