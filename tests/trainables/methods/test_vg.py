"""The VG family: its losses transcribed, where its BatchNorm layers are and when they move, what its noise does."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy

from trainables.catalog import find
from trainables.config import Config
from trainables.families.vg import spoiled
from trainables.networks import Networks
from trainables.testing import made_up
from trainables.training import Training

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_vg_16"}
NOISE = {"noise": "gaussian", "noise_level": 0.5}
OWN = {
    "vg": {},
    "vg_bn": {"batch_norm": "hidden_latent"},
    "vg_denoise": NOISE,
    "vg_denoise_bn": {"batch_norm": "hidden_latent", **NOISE},
}


def values(name: str, **changed) -> dict:
    return {**SMALL, "beta": 1.0, "adversarial_weight": 1.0, **OWN[name], **changed}


def made(name: str, **changed):
    torch.manual_seed(0)
    return find(name)(find(name).Hyper(**values(name, **changed)), SHAPE).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", OWN)
def test_losses_agree_with_a_transcription(name, x):
    method = made(name, beta=0.7, adversarial_weight=3.0)
    torch.manual_seed(2)
    got = method.losses(x)
    torch.manual_seed(2)
    noisy = (x + 0.5 * torch.randn_like(x)).clamp(0, 1) if "denoise" in name else x
    mean, log_var = method.encoder(noisy).split(3, dim=1)
    q = Independent(Normal(mean, (log_var / 2).exp()), 1)
    z = mean + (log_var / 2).exp() * torch.randn_like(mean)
    x_hat = method.decoder(z).sigmoid()
    rec = binary_cross_entropy(x_hat, x, reduction="sum") / 6
    kl = kl_divergence(q, Independent(Normal(torch.zeros(3).double(), 1.0), 1)).mean()
    says = lambda images, real: -Bernoulli(logits=method.critic(images)).log_prob(torch.full((6, 1), real)).mean()  # noqa: E731
    torch.testing.assert_close(got["vae"].total, rec + 0.7 * kl + 3 * says(x_hat, 1.0).double())
    torch.testing.assert_close(got["critic"].total, (says(x, 1.0) + says(x_hat, 0.0)).double())


def test_each_player_takes_its_own_gradients(x):
    """With a = 0 the VAE is none but a VAE, whatever the critic thinks."""
    method = made("vg", adversarial_weight=0.0)
    gradients = []
    for scale in (1.0, -4.0):
        torch.manual_seed(2)
        with torch.no_grad():
            for parameter in method.critic.parameters():
                parameter.mul_(scale)
        own = [*method.encoder.parameters(), *method.decoder.parameters()]
        gradients.append(torch.autograd.grad(method.losses(x)["vae"].total, own))
    for before, after in zip(*gradients, strict=True):
        torch.testing.assert_close(before, after)


@pytest.mark.parametrize(
    "name, changed, norms",
    [
        ("vg", {}, (0, 0, 0)),
        ("vg_denoise", {}, (0, 0, 0)),
        ("vg_bn", {"batch_norm": "hidden"}, (1, 1, 1)),
        ("vg_bn", {}, (2, 1, 1)),
        ("vg_denoise_bn", {"batch_norm": "hidden"}, (1, 1, 1)),
        ("vg_denoise_bn", {}, (2, 1, 1)),
    ],
)
def test_where_batch_norm_is(name, changed, norms):
    method = made(name, **changed)
    found = [[type(m).__name__ for m in network] for network in (method.encoder, method.decoder, method.critic)]
    assert tuple(layers.count("BatchNorm1d") for layers in found) == norms
    for layers in found:
        hidden = layers.index("ReLU")
        assert layers[hidden - 1] == ("BatchNorm1d" if any(norms) else "Linear")
    assert (found[0][-1] == "BatchNorm1d") == (norms[0] == 2)


def test_batch_norm_needs_a_plain_mlp():
    with pytest.raises(ValueError, match="plain networks only; choose network = shared, mlp_vg"):
        find("vg_bn")(find("vg_bn").Hyper(**values("vg_bn", network="resnet_2_1_8")), (1, 32, 32))


def test_running_statistics_move_once_for_every_look():
    """One look at each batch for encoder and decoder, two for the critic: at the real images and at the made ones."""
    run = Training(Config(method="vg_bn", dataset="made-up", values=values("vg_bn"), epochs=1), made_up(SHAPE, 5 * 8))
    run.run_epoch()
    seen = {
        name: {int(m.num_batches_tracked) for m in getattr(run.method, name) if isinstance(m, nn.BatchNorm1d)}
        for name in ("encoder", "decoder", "critic")
    }
    assert seen == {"encoder": {5}, "decoder": {5}, "critic": {10}}


def test_the_network_is_the_papers():
    nets = Networks((1, 28, 28), "mlp_vg")
    sizes = lambda network: [(m.in_features, m.out_features) for m in network if isinstance(m, nn.Linear)]  # noqa: E731
    assert sizes(nets.encoder(2 * 20)) == [(784, 400), (400, 40)]
    assert sizes(nets.decoder(20)) == [(20, 400), (400, 784)]
    assert sizes(nets.critic()) == [(784, 256), (256, 1)]
    assert sizes(nets.decoder(101))[0] == (101, 10_000)
    assert sizes(Networks((1, 28, 28), "mlp_vg_64").encoder(2 * 20)) == [(784, 64), (64, 40)]


def test_gaussian_noise_is_cut(x):
    torch.manual_seed(3)
    noisy = spoiled(x, "gaussian", 0.5)
    torch.manual_seed(3)
    torch.testing.assert_close(noisy, (x + 0.5 * torch.randn_like(x)).clamp(0, 1))
    assert torch.equal(spoiled(x, "gaussian", 0.0), x)


def test_masking_blackens_a_share_of_the_pixels():
    x = torch.ones(10, 1, 100, 100)
    noisy = spoiled(x, "masking", 0.3)
    assert set(noisy.unique().tolist()) == {0.0, 1.0}
    assert (noisy == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(spoiled(x, "masking", 0.0), x)


@pytest.mark.parametrize("name", ["vg", "vg_denoise"])
def test_the_test_loss_is_taken_at_the_mean(name, x):
    method = made(name).eval()
    mean, log_var = method.encoder(x).chunk(2, dim=1)
    rec = binary_cross_entropy(method.decode(mean), x, reduction="sum")
    kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum()
    diagnostics = method.diagnostics(x)
    assert diagnostics["loss_at_mean_clean"] == pytest.approx((rec + kl).item() / 6)
    assert (diagnostics["loss_at_mean"] == diagnostics["loss_at_mean_clean"]) == (name == "vg")


@pytest.mark.parametrize("name", ["vg", "vg_denoise", "vg_denoise_bn"])
def test_a_denoising_system_shows_noisy_images_beside_what_becomes_of_them(name, x):
    method = made(name).eval()
    torch.manual_seed(3)
    pictures = method.pictures(x)
    if name == "vg":
        assert pictures == {}
        return
    pairs = pictures["denoised"].unflatten(0, (6, 2))
    torch.manual_seed(3)
    noisy = spoiled(x, "gaussian", 0.5)
    assert torch.equal(pairs[:, 0], noisy)
    assert torch.equal(pairs[:, 1], method.reconstruct(noisy))
