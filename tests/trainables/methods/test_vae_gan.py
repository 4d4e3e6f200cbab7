"""VAE-GAN: whose gradient is whose, and when the gate stops whom."""

import tomllib
from importlib.resources import files
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli
from torch.nn.functional import binary_cross_entropy

from trainables.config import Config
from trainables.losses import kl_to_standard_normal
from trainables.methods.vae_gan import VAEGAN
from trainables.testing import made_up
from trainables.training import Training, Turn

SMALL = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_32_16"}
VALUES = {**SMALL, "feature_weight": 0.3, "layer": 1, "margin": 0.35}
SHAPE = (1, 8, 8)


def vae_gan(**changed) -> VAEGAN:
    torch.manual_seed(0)
    return VAEGAN(VAEGAN.Hyper(**{**VALUES, **changed}), SHAPE).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def losses_of(method, x, seed=2):
    torch.manual_seed(seed)
    return method.losses(x)


def gradient(method: VAEGAN, name: str, x) -> torch.Tensor:
    """The gradient that a player is handed, (parameters of its module,)."""
    own = list(getattr(method, name).parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(losses_of(method, x)[name].total, own)])


def backward(module: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    """The gradient of an isolated loss at the parameters of one module, flat."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])


# Losses


def test_terms_agree_with_a_transcription(x):
    method = vae_gan(layer=2, pixel_weight=0.5)
    torch.manual_seed(2)
    q = method.encode(x)
    z = q.draw()
    x_hat, x_p = method.decode(z), method.decode(torch.randn_like(z))
    inner = lambda images: method.critic[:5](images)  # noqa: E731 -- flatten, linear, relu, linear, relu
    features = 0.5 * (inner(x) - inner(x_hat)).square().sum(1).mean()
    says = [Bernoulli(logits=method.critic(images)) for images in (x, x_hat, x_p)]
    real, *fakes = (s.log_prob(torch.full((6, 1), float(i == 0)).double()).mean() for i, s in enumerate(says))
    gan = -(real + sum(fakes))
    rec = binary_cross_entropy(x_hat, x, reduction="sum") / 6
    kl = kl_to_standard_normal(q.mean, q.log_var)
    losses = losses_of(method, x)
    torch.testing.assert_close(losses["encoder"].total, kl + features + 0.5 * rec)
    torch.testing.assert_close(losses["decoder"].total, 0.3 * features - 0.7 * gan + 0.5 * rec)
    torch.testing.assert_close(losses["critic"].total, gan)
    terms = losses["critic"].terms
    torch.testing.assert_close(terms["gan_real"], -real)
    torch.testing.assert_close(terms["gan_fake"], -0.5 * sum(fakes))
    torch.testing.assert_close(terms["reconstruction"], rec)


@pytest.mark.parametrize("layer, features", [(1, 32), (2, 16)])
def test_layers_are_counted_from_the_image(x, layer, features):
    method = vae_gan(layer=layer)
    assert method.critic[: method.cut](x).shape == (6, features)


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match=r"layer must be 1..2 for critic mlp_32_16, got 3"):
        vae_gan(layer=3)


# The balance g


def test_the_balanced_point_has_decoder_gradients_of_like_length_and_the_official_one_has_not():
    """By g at the shipped network on random images: what L_feat and L_gan do to the decoder at the first step."""
    space = tomllib.loads((files("search_spaces") / "vae_gan.toml").read_text(encoding="utf-8"))
    points = {p.get("name", "paper"): p["values"] for p in space["paper"] if "digits" in p["datasets"]}
    images = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    shares = {}
    for name in ("balanced", "paper"):
        g = points[name]["feature_weight"]
        lengths = [
            gradient(vae_gan(**points[name] | {"feature_weight": end}), "decoder", images).norm() for end in (0, 1)
        ]
        shares[name] = (g * lengths[1] / ((1 - g) * lengths[0])).item()
    assert 0.1 < shares["balanced"] < 10
    assert shares["paper"] < 1e-3


def test_the_search_reaches_a_decoder_with_a_small_critic_weight():
    space = tomllib.loads((files("search_spaces") / "vae_gan.toml").read_text(encoding="utf-8"))
    assert space["space"]["feature_weight"] == {"low": 1e-7, "high": 0.9, "log": True}
    for datasets, g in {("mnist", "fashion_mnist"): 1e-6, ("cifar10", "svhn"): 5e-6, ("digits",): 1e-6}.items():
        points = {p.get("name", "paper"): p["values"] for p in space["paper"] if tuple(p["datasets"]) == datasets}
        assert {name: values["feature_weight"] for name, values in points.items()} == {
            "paper": g, "vaegan_bce": g, "balanced": 0.1,
        }  # fmt: skip


# Gradients by owner


def test_gan_gradients_never_reach_the_encoder(x):
    """They would come through the part of the critic behind the layer, on which nothing else depends."""
    method = vae_gan()
    before = gradient(method, "encoder", x)
    with torch.no_grad():
        for parameter in method.critic[method.cut :].parameters():
            parameter.mul_(-5.0)
    assert torch.equal(gradient(method, "encoder", x), before)
    terms = losses_of(method, x)["encoder"].terms
    expected = backward(method.encoder, terms["kl"] + terms["features"])
    torch.testing.assert_close(before, expected)


def test_feature_gradients_never_reach_the_critic(x):
    expected = None
    for feature_weight in (0.0, 0.3, 1.0):
        method = vae_gan(feature_weight=feature_weight)
        got = gradient(method, "critic", x)
        expected = got if expected is None else expected
        assert torch.equal(got, expected)
    terms = losses_of(method, x)["critic"].terms
    torch.testing.assert_close(got, backward(method.critic, terms["gan_real"] + 2 * terms["gan_fake"]))


def test_decoder_weighs_features_against_the_critic(x):
    ends = {g: gradient(vae_gan(feature_weight=g), "decoder", x) for g in (0.0, 0.3, 1.0)}
    torch.testing.assert_close(ends[0.3], 0.3 * ends[1.0] + 0.7 * ends[0.0])
    method = vae_gan()
    terms = losses_of(method, x)["decoder"].terms
    torch.testing.assert_close(ends[1.0], backward(method.decoder, terms["features"]))
    terms = losses_of(method, x)["decoder"].terms
    fooled = backward(method.decoder, 2 * terms["gan_fake"])
    torch.testing.assert_close(ends[0.0], -fooled)  # what helps the decoder hurts the critic


def test_the_engine_hands_out_the_same_gradients():
    """All of one forward pass, taken before anybody moves."""
    config = Config(method="vae_gan", dataset="made-up", values=VALUES, epochs=1)
    run = Training(config, made_up(SHAPE, 8))
    order = torch.get_rng_state(), torch.randperm(8)
    x = run.images[order[1]].float() / 255  # the one batch, in the order of its epoch
    state = torch.get_rng_state()
    expected = {}
    for name in ("encoder", "decoder", "critic"):
        torch.set_rng_state(state)
        own = list(getattr(run.method, name).parameters())
        expected[name] = torch.autograd.grad(run.method.losses(x)[name].total, own)
    handed = {}
    step = Turn.step

    def spy(turn, loss, gradients):
        handed[turn.player.name] = gradients
        return step(turn, loss, gradients)

    torch.set_rng_state(order[0])
    with patch.object(Turn, "step", spy):
        run.run_epoch()
    torch.testing.assert_close(handed, expected, rtol=0, atol=0)


# The gate


@pytest.mark.parametrize(
    "real, fake, critic, decoder",
    [
        (0.68, 0.68, 1, 1),  # even: both
        (0.30, 0.68, 0, 1),  # the critic is ahead on real images: it pauses
        (0.68, 0.30, 0, 1),  # or on made ones
        (0.68, 1.10, 1, 0),  # the decoder is ahead: it pauses
        (1.10, 0.68, 1, 0),
        (0.30, 1.10, 1, 1),  # both would pause: both play
        (0.34, 1.02, 1, 1),  # just inside
    ],
)
def test_gate(real, fake, critic, decoder):
    got = vae_gan(margin=0.35).gates(torch.tensor(real), torch.tensor(fake))
    assert [g.item() for g in got] == [critic, decoder]


def test_a_wide_margin_never_stops_anyone():
    for costs in ((0.0, 0.0), (9.0, 9.0), (0.0, 9.0)):
        got = vae_gan(margin=10.0).gates(*map(torch.tensor, costs))
        assert [g.item() for g in got] == [1, 1]


@pytest.mark.parametrize("stopped, costs", [("critic", (0.1, 0.1)), ("decoder", (2.0, 2.0))])
def test_a_stopped_player_stands_still(stopped, costs):
    config = Config(method="vae_gan", dataset="made-up", values=VALUES, epochs=1)
    run = Training(config, made_up(SHAPE, 35))
    gates = run.method.gates
    with patch.object(run.method, "gates", lambda *_: gates(*map(torch.tensor, costs))):
        before = {name: p.clone() for name, p in run.method.named_parameters()}
        terms = run.run_epoch()
    moved = {name.split(".")[0] for name, p in run.method.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"encoder", "decoder", "critic"} - {stopped}
    assert terms[f"{stopped}_plays"] == 0
    assert sum(terms[f"{name}_plays"] for name in ("critic", "decoder")) == 1


def test_the_critic_steps_at_a_rate_of_its_own():
    """Adam's first step has the length of the rate, whatever the gradient."""
    values = {**VALUES, "critic_rate": 0.1, "learning_rate": 1e-2, "margin": 9.0}
    run = Training(Config(method="vae_gan", dataset="made-up", values=values, epochs=1), made_up(SHAPE, 8))
    before = {name: p.clone() for name, p in run.method.named_parameters()}
    run.run_epoch()
    moved = {name: (p - before[name]).abs().max().item() for name, p in run.method.named_parameters()}
    assert moved["critic.1.weight"] == pytest.approx(1e-3, rel=1e-2)
    assert moved["encoder.1.weight"] == pytest.approx(1e-2, rel=1e-2)
    assert moved["decoder.0.weight"] == pytest.approx(1e-2, rel=1e-2)
