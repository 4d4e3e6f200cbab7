"""VampVAE: its prior is the encoder's own, at pseudo-inputs that learn."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from trainables.config import Config
from trainables.losses import gaussian_log_prob
from trainables.methods.vae import VAE
from trainables.methods.vamp_vae import VampVAE
from trainables.paper import paper_point
from trainables.testing import made_up
from trainables.training import Training

SMALL = {"latent_dim": 3, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "likelihood": "bce"}
VALUES = {**SMALL, "beta": 1.0, "warm_up": 2.0, "components": 4}
SHAPE = (1, 8, 8)


def vamp_vae(**changed) -> VampVAE:
    torch.manual_seed(0)
    method = VampVAE(VampVAE.Hyper(**{**VALUES, **changed}), SHAPE).double()
    with torch.no_grad():
        method.prior.raw.uniform_(0, 1)  # pseudo-inputs that differ
    return method


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def loss_of(method, x, seed=2):
    torch.manual_seed(seed)
    return method.loss(x)


def as_distribution(method) -> MixtureSameFamily:
    q = method.encode(method.prior.pseudo_inputs)
    parts = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(q.mean)).double()), parts)


def test_one_standard_posterior_is_the_vae(x):
    """An encoder that says (0, 1) of everything, the pseudo-input too, has no KL under either prior."""
    one = vamp_vae(components=1, warm_up=0)
    with torch.no_grad():
        one.encoder[-1].weight.zero_()
        one.encoder[-1].bias.zero_()
    vae = VAE(VAE.Hyper(**SMALL), SHAPE).double()
    vae.encoder.load_state_dict(one.encoder.state_dict())
    vae.decoder.load_state_dict(one.decoder.state_dict())
    assert torch.equal(loss_of(one, x).total, loss_of(vae, x).total)
    assert loss_of(one, x).terms["kl"] == 0


def test_kl_agrees_with_torch_distributions(x):
    method = vamp_vae()
    loss = loss_of(method, x)
    torch.manual_seed(2)
    q = method.encode(x)
    z = q.draw()
    posterior = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    kl = (posterior.log_prob(z) - as_distribution(method).log_prob(z)).mean()
    torch.testing.assert_close(loss.terms["kl"], kl)


def test_kl_estimate_is_right_on_average(x):
    """With a single pseudo-input the KL is one between two Gaussians, which is known."""
    method = vamp_vae(components=1)
    with torch.no_grad():
        method.encoder[-1].bias.copy_(torch.linspace(-1, 1, 6))
        q, u = method.encode(x), method.encode(method.prior.pseudo_inputs)
        gaussians = [Independent(Normal(p.mean, (0.5 * p.log_var).exp()), 1) for p in (q, u)]
        z = gaussians[0].sample((20_000,))  # (S, B, D)
        ours = gaussian_log_prob(z, q.mean, q.log_var).mean() - method.prior.log_prob(z.flatten(0, 1)).mean()
        torch.testing.assert_close(ours, kl_divergence(*gaussians).mean(), atol=0.01, rtol=0)


def test_warm_up_and_weight(x):
    method = vamp_vae(beta=3.0, warm_up=4)
    for epoch, weight in ((0.0, 0.0), (1.0, 0.75), (4.0, 3.0), (9.0, 3.0)):
        method.epoch.fill_(epoch)
        loss = loss_of(method, x)
        torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + weight * loss.terms["kl"])


def test_log_variance_is_cut_as_in_the_official_code(x):
    method = vamp_vae()
    with torch.no_grad():
        method.encoder[-1].weight.zero_()
        method.encoder[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 50.0, -50.0, 1.0]))
    q = method.encode(x)
    assert q.log_var[0].tolist() == [2.0, -6.0, 1.0]
    assert loss_of(method, x).terms["clamped"].item() == pytest.approx(2 / 3)


# The prior


def test_prior_follows_the_encoder():
    method = vamp_vae()
    z = torch.randn(5, 3).double()
    before = method.prior.log_prob(z)
    with torch.no_grad():
        method.encoder[-1].bias += 1.0
    assert not torch.allclose(method.prior.log_prob(z), before)
    assert [name for name in method.state_dict() if name.startswith("densities")] == ["densities.prior.raw"]


def test_prior_draws_every_pseudo_input_alike():
    method = vamp_vae(components=3)
    with torch.no_grad():
        method.encoder[-1].weight *= 1000
        method.encoder[-1].weight[3:] = 0  # sigma near 1
    means = method.encode(method.prior.pseudo_inputs).mean
    assert torch.pdist(means).min() > 10, "far enough apart to tell"
    drawn = method.prior.sample(3000)
    shares = torch.cdist(drawn, means).argmin(1).bincount(minlength=3) / 3000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.04, rtol=0)
    rows = torch.cdist(method.prior.rows(each=5), means).argmin(1)
    assert torch.equal(rows, torch.arange(3).repeat_interleave(5))


@pytest.mark.parametrize("init", ["noise", "data"])
def test_pseudo_inputs_learn_from_the_first_step(init):
    """Where the cut to [0, 1] swallows all gradients they would stay one black image for ever."""
    config = Config(method="vamp_vae", dataset="made-up", values={**VALUES, "init": init}, epochs=2)
    run = Training(config, made_up(SHAPE, 35))
    run.run_epoch()  # without a KL in its first step, so with one in its second
    before = run.method.prior.pseudo_inputs.clone()
    run.run_epoch()
    moved = (run.method.prior.pseudo_inputs != before).float().mean()
    assert moved > 0.9 if init == "noise" else moved > 0.5
    assert run.method.pictures(torch.rand(2, *SHAPE))["pseudo_inputs"].shape == (4, *SHAPE)


@pytest.mark.parametrize("components", [4, 50])
def test_pseudo_inputs_can_start_as_training_images(components):
    images = made_up(SHAPE, 35)
    values = {**VALUES, "init": "data", "components": components}
    run = Training(Config(method="vamp_vae", dataset="made-up", values=values, epochs=1), images)
    distance = torch.cdist(run.method.prior.raw.flatten(1), images.flatten(1) / 255)  # (K, N)
    nearest = distance.argmin(1)
    assert len(nearest.unique()) == min(components, 35), "different images, as long as there are any"
    assert (distance.min(1).values / math.sqrt(64) < 0.02).all(), "up to noise of 0.01"


@pytest.mark.parametrize(("dataset", "mean", "std"), [("mnist", 0.05, 0.01), ("cifar10", 0.4, 0.05)])
def test_noise_starts_where_the_official_loader_puts_it(dataset, mean, std):
    values = {**paper_point("vamp_vae", SimpleNamespace(name=dataset, like=None), None), "network": "mlp_16"}
    raw = VampVAE(VampVAE.Hyper(**values), (3, 32, 32)).prior.raw
    assert raw.mean().item() == pytest.approx(mean, rel=0.01) and raw.std().item() == pytest.approx(std, rel=0.02)


def test_noise_starts_inside_the_cut():
    torch.manual_seed(0)
    raw = VampVAE(VampVAE.Hyper(**VALUES), SHAPE).prior.raw
    assert raw.mean().item() == pytest.approx(0.05, abs=0.003)
    assert raw.std().item() == pytest.approx(0.01, rel=0.2)
    assert (raw > 0).all()
