"""The AAE family: losses against transcriptions, improvements switched off, equal linear layers (checks 9 and 10 of
methods.md 12)."""

from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from trainables.catalog import find
from trainables.config import Config
from trainables.method import Gaussian
from trainables.methods.iaae_kld import literal
from trainables.metrics import inception
from trainables.networks.mlp_aae import EqualLinear, encoder, equalised, latent_critic
from trainables.testing import made_up
from trainables.training import Training, Turn

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_aae_16_8"}
RATES = {"critic_rate": 1.0, "generator_rate": 1.0}
OWN = {
    "aae": {"sigma": "raw"},
    "iaae_mapping": {"depth": 2},
    "iaae_niter": {"n": 3},
    "iaae_kld": {"reading": "none", "kld_weight": 0.1},
    "iaae_feature": {"features": "latent", "feature_weight": 0.1},
    "iaae_equal": {},
}


def made(name: str, **changed) -> nn.Module:
    """A method in double precision and train mode, without dropout: its critic's chance would blur a comparison."""
    torch.manual_seed(0)
    method = find(name)(find(name).Hyper(**{**SMALL, **RATES, **OWN[name], **changed}), SHAPE).double()
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method


def trained(name: str, epochs: int = 2, **changed) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """The state and the terms of a short training, names of the state without the index of the decoder's layers."""
    values = {**SMALL, **RATES, **OWN[name], **changed}
    run = Training(Config(method=name, dataset="made-up", values=values, epochs=epochs), made_up(SHAPE, 35))
    terms = [run.run_epoch() for _ in range(epochs)]
    return list(run.method.state_dict().values()), terms


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def seeded(function, *arguments):
    torch.manual_seed(2)
    return function(*arguments)


# Losses


def heads(method, x):
    return method.encoder(2 * x - 1).split(method.hyper.latent_dim, dim=1)


def test_autoencoder_descends_the_mean_absolute_error_between_minus_one_and_one(x):
    method = made("aae")
    got = seeded(method.autoencoder_loss, x)
    mean, sigma = heads(method, x)
    assert (sigma < 0).any() and (sigma > 0).any()  # raw: of either sign
    torch.manual_seed(2)
    z = mean + sigma.abs() * torch.randn_like(mean)
    expected = (method.decoder(z).tanh() - (2 * x - 1)).abs().mean()
    torch.testing.assert_close(got.total, expected)
    torch.testing.assert_close(got.terms["sigma"], sigma.abs().mean())


@pytest.mark.parametrize("name", ["aae", "iaae_feature"])
def test_unit_pixels_are_seen_as_they_are_and_wasted_below_zero(name, x):
    method = made(name, pixels="unit", **({"feature_weight": 0.0} if name == "iaae_feature" else {}))
    got = seeded(method.autoencoder_loss, x)
    mean, sigma = method.encoder(x).split(method.hyper.latent_dim, dim=1)
    torch.manual_seed(2)
    z = mean + sigma.abs() * torch.randn_like(mean)
    painted = method.decoder(z).tanh()
    assert (painted < 0).any()
    torch.testing.assert_close(got.total, (painted - x).abs().mean())
    torch.testing.assert_close(method.decode(z), painted.clamp(min=0))


def test_gradients_of_sigma_are_those_of_the_raw_head(x):
    """z = mu + sigma eps and mu + |sigma| eps are one law, and so are their gradients, with the noise's sign turned."""
    method = made("aae")
    mean, sigma = (t.detach().requires_grad_() for t in heads(method, x))
    noise = torch.randn_like(mean)
    (printed,) = torch.autograd.grad(method.decoder(mean + sigma * noise).square().sum(), sigma)
    torch.manual_seed(3)
    with patch("torch.randn_like", lambda _: noise * sigma.sign()):
        z = Gaussian(mean, (sigma.square() + 1e-12).log()).draw()
    (ours,) = torch.autograd.grad(method.decoder(z).square().sum(), sigma)
    torch.testing.assert_close(ours, printed, rtol=1e-6, atol=1e-9)


def test_critic_and_generator_losses(x):
    method = made("aae")
    critic, generator = seeded(method.critic_loss, x), seeded(method.generator_loss, x)
    torch.manual_seed(2)
    z = method.encode(x).draw()
    e = torch.randn_like(z)
    d = lambda codes: method.critic(codes).sigmoid()  # noqa: E731
    torch.testing.assert_close(critic.total, -(d(e).log() + (1 - d(z)).log()).mean())
    torch.testing.assert_close(generator.total, -d(z).log().mean())


def test_the_critic_is_the_papers():
    sizes = [(m.in_features, m.out_features) for m in latent_critic(10) if isinstance(m, nn.Linear)]
    assert sizes == [(10, 64), (64, 128), (128, 128), (128, 64), (64, 1)]
    assert [m.p for m in latent_critic(10) if isinstance(m, nn.Dropout)] == [0.3] * 4


def test_the_network_is_the_papers():
    kinds = [type(m).__name__ for m in encoder((3, 32, 32), "mlp_aae", 20)]
    assert kinds == ["Flatten", "Linear", "LeakyReLU", "Linear", "BatchNorm1d", "LeakyReLU", "Linear"]
    sizes = [(m.in_features, m.out_features) for m in encoder((3, 32, 32), "mlp_aae", 20) if isinstance(m, nn.Linear)]
    assert sizes == [(3072, 128), (128, 64), (64, 20)]


def test_who_moves_when():
    played = []
    step = Turn.step

    def spy(turn, loss, gradients):
        played.append((turn.player.name, turn.optimiser.param_groups[0]["lr"]))
        return step(turn, loss, gradients)

    values = {**SMALL, **OWN["iaae_niter"], "critic_rate": 0.5, "generator_rate": 0.1}
    run = Training(Config(method="iaae_niter", dataset="made-up", values=values, epochs=1), made_up(SHAPE, 8))
    with patch.object(Turn, "step", spy):
        run.run_epoch()
    assert played == [("autoencoder", 1e-3), *[("critic", 5e-4)] * 3, ("generator", 1e-4)]


# Ablations of sigma


def test_sigma_as_an_exponential(x):
    method = made("aae", sigma="exp")
    torch.testing.assert_close(method.encode(x).log_var, 2 * heads(method, x)[1], rtol=1e-6, atol=1e-6)


def test_a_floor_under_sigma(x):
    sigma = (0.5 * made("aae", sigma_floor=0.25).encode(x).log_var).exp()
    raw = heads(made("aae"), x)[1]
    torch.testing.assert_close(sigma, (raw.square() + 0.0625).sqrt())
    assert sigma.min() >= 0.25


def test_the_entropy_bonus_pays_for_wide_posteriors(x):
    plain, paid = (seeded(made("aae", entropy_weight=c).autoencoder_loss, x) for c in (0.0, 0.5))
    log_sigma = heads(made("aae"), x)[1].abs().log().mean()
    torch.testing.assert_close(paid.total, plain.total - 0.5 * log_sigma)


# Check 9: what an improvement is when it is off


@pytest.mark.parametrize(
    "name, off",
    [
        ("iaae_mapping", {"depth": 0}),
        ("iaae_niter", {"n": 1}),
        ("iaae_kld", {"reading": "none"}),
        ("iaae_kld", {"reading": "encoder", "kld_weight": 0.0}),
        ("iaae_feature", {"feature_weight": 0.0}),
    ],
    ids=str,
)
def test_switched_off_it_is_aae_bit_for_bit(name, off):
    ours, aae = trained(name, **off)[0], trained("aae")[0]
    assert len(ours) == len(aae)
    assert all(torch.equal(a, b) for a, b in zip(ours, aae, strict=True))


@pytest.mark.parametrize("name", ["iaae_mapping", "iaae_niter", "iaae_feature", "iaae_equal"])
def test_switched_on_it_is_not(name):
    """The generator's loss, which all have."""
    assert trained(name)[1][-1]["loss_generator"] != trained("aae")[1][-1]["loss_generator"]


def test_the_literal_divergence_gives_the_critic_no_gradient(x):
    losses, gradients = [], []
    for method in (made("iaae_kld", kld_weight=7.0), made("aae")):
        losses.append(seeded(method.critic_loss, x).total)
        gradients.append(torch.autograd.grad(losses[-1], list(method.critic.parameters())))
    assert losses[0] != losses[1]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# The improvements' own terms


def test_the_literal_divergence_counts_positive_noise_only():
    z, e = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -3.0]])
    log_q = z.log_softmax(1)
    expected = 0.5 * (torch.tensor(0.5).log() - log_q[0, 0]) + 2 * (torch.tensor(2.0).log() - log_q[0, 2]) - log_q[1, 0]
    torch.testing.assert_close(literal(z, e), expected / 6)  # a mean over all entries


@pytest.mark.parametrize("reading", ["encoder", "marginal"])
def test_effective_divergences(x, reading):
    method = made("iaae_kld", reading=reading, kld_weight=0.3)
    got = seeded(method.generator_loss, x)
    mean, sigma = heads(method, x)
    z = seeded(method.encode(x).draw)
    if reading == "encoder":
        q = Independent(Normal(mean, sigma.abs()), 1)
    else:
        q = Independent(Normal(z.mean(0), z.std(0, correction=0)), 1)
    kld = kl_divergence(q, Independent(Normal(torch.zeros(3).double(), 1.0), 1)).mean()
    torch.testing.assert_close(got.terms["kld"], kld, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.total, got.terms["generator"] + 0.3 * kld, rtol=1e-5, atol=1e-6)


def test_latent_features_are_held_fixed_on_the_real_side(x):
    method = made("iaae_feature", feature_weight=1.0)
    got = seeded(method.autoencoder_loss, x)
    torch.manual_seed(2)
    q = method.encode(x)
    target = q.mean.detach().clone()
    x_hat = method.decode(q.draw())
    expected = (method.encoder(2 * x_hat - 1)[:, :3] - target).abs().mean()
    torch.testing.assert_close(got.total, expected)
    own = [*method.encoder.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad(t, own) for t in (got.total, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_features_of_reconstructions_leave_the_running_statistics_alone(x):
    method, aae = made("iaae_feature", feature_weight=0.5), made("aae")
    for one in (method, aae):
        seeded(one.autoencoder_loss, x)
    norms = [next(m for m in one.encoder if isinstance(m, nn.BatchNorm1d)) for one in (method, aae)]
    assert torch.equal(norms[0].running_mean, norms[1].running_mean) and norms[0].running_mean.any()


def test_inception_features_pair_an_image_with_its_own(x, monkeypatch):
    chosen = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)).double()
    monkeypatch.setattr("trainables.methods.iaae_feature.early", lambda _: lambda a: a.flatten(1) @ chosen)
    method = made("iaae_feature", features="inception", feature_weight=0.25)
    got = seeded(method.autoencoder_loss, x)
    torch.manual_seed(2)
    x_hat = method.decode(method.encode(x).draw())
    expected = 0.75 * 2 * (x_hat - x).abs().mean() + 0.25 * ((x_hat - x).flatten(1) @ chosen).abs().mean()
    torch.testing.assert_close(got.total, expected)


def test_without_inception_weights_it_says_so_before_training(monkeypatch):
    def nothing():
        raise ValueError("the FID's weights could not be downloaded")

    inception.early_features.cache_clear()
    monkeypatch.setattr(inception, "_from_hub", nothing)
    with pytest.raises(ValueError, match="weights could not be downloaded"):
        made("iaae_feature", features="inception")


# Check 10: equal linear layers


@pytest.mark.parametrize("lr_mul", [0.01, 1.0])
@pytest.mark.parametrize("fan_in", [8, 300, 3000])
def test_equal_linear_keeps_unit_variance(fan_in, lr_mul):
    torch.manual_seed(0)
    with torch.no_grad():
        y = EqualLinear(fan_in, 400, lr_mul)(torch.randn(400, fan_in))
    assert y.var().item() == pytest.approx(1.0, abs=0.1)


def test_equal_linear_scales_weight_and_bias():
    layer = EqualLinear(4, 2, lr_mul=0.5)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, -2.0]))
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), 0.25 * (x @ layer.weight.T + layer.bias))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_equalised_networks_have_no_other_linear_layer(batch_norm):
    method = made("iaae_equal", batch_norm=batch_norm)
    both = [*method.encoder.modules(), *method.decoder.modules()]
    assert not any(isinstance(m, nn.Linear) for m in both)
    assert sum(isinstance(m, EqualLinear) for m in both) == 6
    assert any(isinstance(m, nn.BatchNorm1d) for m in both) == batch_norm
    assert any(isinstance(m, nn.Linear) for m in method.critic)
    nested = equalised(nn.Sequential(nn.Sequential(nn.Linear(2, 3))))
    assert isinstance(nested[0][0], EqualLinear)


def test_the_mapping_belongs_to_the_decoder_alone(x):
    method = made("iaae_mapping", depth=3, width=7)
    linear = [(m.in_features, m.out_features) for m in method.decoder.modules() if isinstance(m, nn.Linear)]
    assert linear[:4] == [(3, 7), (7, 7), (7, 7), (7, 8)]
    assert method.critic[0].in_features == 3
    assert method.decode(torch.zeros(2, 3).double()).shape == (2, *SHAPE)
