"""GMVAE: its bound, its threshold, and what it is when nothing hangs on w."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from trainables.config import Config
from trainables.densities import HierarchicalMixture
from trainables.methods.gmvae import GMVAE
from trainables.methods.vae import VAE
from trainables.testing import made_up
from trainables.training import Training

SMALL = {"latent_dim": 3, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "likelihood": "bce"}
VALUES = {**SMALL, "w_dim": 2, "threshold": 0.5, "beta_h": 1.0, "beta_w": 1.0, "components": 4}
SHAPE = (1, 8, 8)


def gmvae(**changed) -> GMVAE:
    torch.manual_seed(0)
    method = GMVAE(GMVAE.Hyper(**{**VALUES, **changed}), SHAPE).double()
    with torch.no_grad():
        method.prior.heads.bias.normal_()  # components that differ
    return method


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def loss_of(method, x, seed=2):
    torch.manual_seed(seed)
    return method.loss(x)


def gradients(method, loss) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(method.parameters()))])


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_one_standard_component_without_w_is_the_vae(x):
    one = gmvae(components=1, w_dim=0, threshold=0.0)
    with torch.no_grad():
        one.prior.heads.weight.zero_()
        one.prior.heads.bias.zero_()
    vae = VAE(VAE.Hyper(**SMALL), SHAPE).double()
    vae.encoder.load_state_dict(one.encoder.state_dict())
    vae.decoder.load_state_dict(one.decoder.state_dict())
    torch.testing.assert_close(loss_of(one, x).total, loss_of(vae, x).total, rtol=1e-12, atol=0)
    assert loss_of(one, x).terms["kl_w"] == 0


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_trains_and_samples_without_w():
    values = {**VALUES, "w_dim": 0}
    run = Training(Config(method="gmvae", dataset="made-up", values=values, epochs=1), made_up(SHAPE, 35))
    terms = run.run_epoch()
    assert terms["kl_w"] == 0
    assert math.isfinite(terms["loss"])
    assert run.method.sample(5).shape == (5, *SHAPE)


def test_terms_agree_with_torch_distributions(x):
    method = gmvae(beta_h=0.5, beta_w=2.0, threshold=0.0)
    torch.manual_seed(2)
    q = method.encode_both(x)
    h, w = method.split(q.draw())
    means, log_vars = method.prior.conditionals(w)
    parts = Independent(Normal(means, (0.5 * log_vars).exp()), 1)
    uniform = Categorical(logits=torch.zeros(len(x), 4).double())
    prior = MixtureSameFamily(uniform, parts)
    r = Categorical(logits=uniform.logits + parts.log_prob(h[:, None]) - prior.log_prob(h)[:, None])
    sd = (0.5 * q.log_var).exp()
    q_h = Independent(Normal(q.mean[:, None, :3], sd[:, None, :3]), 1)
    q_w = Independent(Normal(q.mean[:, 3:], sd[:, 3:]), 1)
    n_w = Independent(Normal(torch.zeros_like(w), 1.0), 1)
    expected = {
        "kl_h": (r.probs * kl_divergence(q_h, parts)).sum(1).mean(),
        "kl_w": kl_divergence(q_w, n_w).mean(),
        "kl_c": kl_divergence(r, uniform).mean(),
    }
    loss = loss_of(method, x)
    for name, value in expected.items():
        torch.testing.assert_close(loss.terms[name], value)
    total = loss.terms["reconstruction"] + 0.5 * expected["kl_h"] + 2 * expected["kl_w"] + expected["kl_c"]
    torch.testing.assert_close(loss.total, total)


def test_below_the_threshold_the_clusters_cost_nothing(x):
    """max(t, KL): a constant below t, the KL itself above; in between nothing is blended."""
    kl_c = loss_of(gmvae(), x).terms["kl_c"].item()
    assert 0.01 < kl_c < math.log(4)
    free, paid, none = gmvae(threshold=kl_c + 0.1), gmvae(threshold=kl_c - 0.001), gmvae(threshold=0.0)
    others = loss_of(free, x)
    without = others.total - (kl_c + 0.1)
    terms = others.terms
    torch.testing.assert_close(without, terms["reconstruction"] + terms["kl_h"] + terms["kl_w"])
    bare = sum(loss_of(free, x).terms[name] for name in ("reconstruction", "kl_h", "kl_w"))
    bare = gradients(free, bare)
    torch.testing.assert_close(gradients(free, loss_of(free, x).total), bare)
    full = gradients(none, loss_of(none, x).total)
    torch.testing.assert_close(gradients(paid, loss_of(paid, x).total), full)
    assert not torch.allclose(full, bare)


def test_gradients_survive_a_component_that_takes_all(x):
    method = gmvae(threshold=0.0).float()
    with torch.no_grad():
        method.prior.heads.bias[6:] = 1e4  # the means of all but the first component, their variances too
    loss = loss_of(method, x.float())
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss.total, list(method.parameters())))


def test_encode_gives_h():
    method = gmvae()
    x = torch.rand(5, *SHAPE).double()
    head = method.encoder(x)
    q = method.encode(x)
    torch.testing.assert_close(q.mean, head[:, :3])
    torch.testing.assert_close(q.log_var, head[:, 5:8])


# The prior


def test_prior_draws_w_then_component_then_h():
    torch.manual_seed(0)
    prior = HierarchicalMixture(dim=2, w_dim=3, components=3).requires_grad_(False)
    means = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    log_vars = torch.tensor([[0.0, 0.0], [2.0, -2.0], [1.0, 1.0]])
    prior.heads.bias.copy_(torch.cat([means, log_vars], 1).flatten())
    component = torch.arange(3).repeat_interleave(20_000)
    h = prior.draw(component)
    assert torch.equal(torch.cdist(h, means).argmin(1), component)
    w = torch.randn(20_000, 3)
    m, log_v = prior.conditionals(w)  # law of total variance: what w moves and what is left at each w
    for k in range(3):
        ours = h[component == k]
        torch.testing.assert_close(ours.mean(0), m[:, k].mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(ours.var(0), m[:, k].var(0) + log_v[:, k].exp().mean(0), atol=0, rtol=0.05)
    shares = torch.cdist(prior.sample(30_000), means).argmin(1).bincount() / 30_000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_diagnostics_tell_equal_components_from_distinct_ones(x):
    method = gmvae()
    with torch.no_grad():
        method.prior.heads.weight.zero_()
        method.prior.heads.bias.zero_()
    assert method.diagnostics(x)["assignment_entropy"] == pytest.approx(math.log(4))
    with torch.no_grad():
        method.prior.heads.bias.view(4, 6)[:, :3] = torch.tensor([0.0, 30.0, 60.0, 90.0])[:, None]
    usage = method.diagnostics(x)
    assert usage["assignment_entropy"] == pytest.approx(0, abs=1e-6)
    assert usage["effective_components"] == pytest.approx(1), "all codes are near the first one"
