"""The network that all methods share: any size of image, the same body for every method."""

import pytest
import torch
from torch import nn

from trainables.networks import Networks, latent_width
from trainables.networks.mlp_aae import equalised
from trainables.networks.mlp_vg import with_batch_norm

TINY = "shared_4"


def count(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


@pytest.mark.parametrize("side", [8, 28, 30, 50, 100, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_of_image(side, channels):
    nets = Networks((channels, side, side), TINY)
    x, z = torch.rand(2, channels, side, side), torch.randn(2, 5)
    assert nets.encoder(7)(x).shape == (2, 7)
    assert nets.critic()(x).shape == (2, 1)
    assert nets.decoder(5)(z).shape == x.shape


@pytest.mark.parametrize("shape", [(3, 9, 13), (1, 3, 3), (1, 2, 2)])
def test_odd_and_tiny_images(shape):
    nets = Networks(shape, TINY)
    assert nets.encoder(7)(torch.rand(2, *shape)).shape == (2, 7)
    assert nets.decoder(5)(torch.randn(2, 5)).shape == (2, *shape)


def test_widths_by_hand():
    encoder = Networks((3, 64, 64), "shared").encoder(20)
    convolutions = [m for m in encoder if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 64, 128, 256, 256]  # 32, 16, 8, 4, 2 pixels
    assert [(m.in_features, m.out_features) for m in encoder if isinstance(m, nn.Linear)] == [(1024, 256), (256, 20)]
    assert latent_width("shared") == latent_width("shared_32") == 512
    assert latent_width("mlp_500_500_2000") is None


@pytest.mark.parametrize("side", [8, 28, 32, 50, 64, 100])
def test_encoder_and_decoder_are_of_one_size(side):
    nets = Networks((3, side, side), "shared_16")
    assert count(nets.decoder(32)) == pytest.approx(count(nets.encoder(32)), rel=0.05)


def test_only_the_heads_differ_between_methods():
    """Codes of twice as many numbers, and the network up to the head and behind the first layer is the same."""
    few, many = (Networks((1, 28, 28), TINY) for _ in range(2))
    shapes = [[p.shape for p in n.parameters()] for n in (few.encoder(10), many.encoder(20))]
    assert shapes[0][:-2] == shapes[1][:-2]
    shapes = [[p.shape for p in n.parameters()] for n in (few.decoder(10), many.decoder(20))]
    assert shapes[0][1:] == shapes[1][1:]


def test_every_image_is_treated_alone():
    network, x = Networks((1, 28, 28), TINY).encoder(3), torch.rand(6, 1, 28, 28)
    torch.testing.assert_close(network(x)[:2], network(x[:2]))
    torch.testing.assert_close(network.eval()(x), network.train()(x))


def test_latent_critics_have_the_width_of_the_family():
    sizes = [m.out_features for m in Networks((1, 28, 28), "shared").latent_critic(10) if isinstance(m, nn.Linear)]
    assert sizes == [512, 512, 512, 512, 1]
    sizes = [m.out_features for m in Networks((1, 28, 28), "mlp_aae").latent_critic(10) if isinstance(m, nn.Linear)]
    assert sizes == [64, 128, 128, 64, 1]


def test_batch_norm_takes_the_place_of_group_norm():
    nets = Networks((3, 32, 32), TINY)
    for network, linear in ((nets.encoder(4), 1), (nets.decoder(4), 2)):
        weighted = sum(isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)) for m in network)
        changed = with_batch_norm(network)
        assert not any(isinstance(m, nn.GroupNorm) for m in changed)
        assert sum(isinstance(m, nn.BatchNorm1d) for m in changed) == linear
        assert sum(isinstance(m, nn.BatchNorm2d) for m in changed) == weighted - 1 - linear


def test_equalised_convolutions_keep_unit_variance():
    torch.manual_seed(0)
    for layer in (nn.Conv2d(16, 200, 4), nn.ConvTranspose2d(16, 200, 4, 2)):
        equal = equalised(nn.Sequential(layer), lr_mul=0.1)
        with torch.no_grad():
            y = equal(torch.randn(8, 16, 12, 12))[:, :, 3:-3, 3:-3]  # away from the edges, where fewer products add up
        assert y.var().item() == pytest.approx(1.0, abs=0.1)
    assert isinstance(equalised(nn.Sequential(nn.GroupNorm(1, 4)))[0], nn.Identity)


def test_points_have_no_picture_to_convolve():
    with pytest.raises(ValueError, match="needs images, got points of 3 numbers"):
        Networks((3,), "shared").encoder(2)


@pytest.mark.parametrize("side, positions", [(8, 2), (28, 7), (32, 8), (50, 7), (64, 8), (256, 8)])
def test_a_picture_of_codes_has_at_most_eight_by_eight_positions(side, positions):
    nets = Networks((3, side, side), TINY)
    x = torch.rand(2, 3, side, side)
    assert nets.code_shape(5) == (5, positions, positions)
    assert nets.spatial_encoder(5)(x).shape == (2, 5, positions, positions)
    assert nets.spatial_decoder(5)(torch.randn(2, 5, positions, positions)).shape == x.shape
    assert nets.patch_critic()(x).shape[:2] == (2, 1)


def test_a_patch_is_scored_by_its_surroundings_alone():
    critic = Networks((1, 64, 64), TINY).patch_critic()
    (norm,) = (i for i, m in enumerate(critic) if isinstance(m, nn.GroupNorm))
    critic[norm] = nn.Identity()  # the normalisation sees the whole image
    x = torch.rand(1, 1, 64, 64)
    changed = x.clone()
    changed[..., :8, :8] += 1
    differs = (critic(changed) - critic(x)).abs()[0, 0] > 1e-6
    assert differs[:2, :2].all() and not differs[5:].any() and not differs[:, 5:].any()
