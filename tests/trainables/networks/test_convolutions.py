"""The convolutional networks: the papers' widths, any size of image, statistics of batches, every method on them."""

import pytest
import torch
from torch import nn

from trainables import find
from trainables.networks import Networks, resnet
from trainables.testing import Subject, check_samples, check_turns

SIZES = [(1, 8, 8), (3, 12, 12), (1, 28, 28), (3, 9, 13), (3, 32, 32), (1, 3, 3)]


@pytest.mark.parametrize("kind", ["resnet_3_1_4", "resnet_2_2_3", "conv_rae_4", "conv_rae_2_5"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_any_size_of_image(kind, shape):
    nets, x, z = Networks(shape, kind), torch.rand(2, *shape), torch.randn(2, 5)
    assert nets.encoder(7)(x).shape == (2, 7)
    assert nets.decoder(5)(z).shape == (2, *shape)


def channels(network: nn.Module, kind: type[nn.Module]) -> list[int]:
    return [m.out_channels for m in network if isinstance(m, kind)]


@pytest.mark.parametrize(
    ("side", "scales", "encoder", "decoder"),
    [
        (32, 3, [32, 64, 128], [512, 256, 128, 64, 32]),
        (64, 4, [32, 64, 128, 256], [1024, 512, 256, 128, 64, 32]),
        (128, 5, [32, 64, 128, 256, 512], [1024, 1024, 512, 256, 128, 64, 32]),
    ],
)
def test_widths_of_the_two_stage_resnet(side, scales, encoder, decoder, monkeypatch):
    """Built at a 32nd of the width of resnet_N_1_32, whose initialisation alone takes seconds."""
    assert resnet.MOST_CHANNELS == 1024
    monkeypatch.setattr(resnet, "MOST_CHANNELS", 32)
    nets = Networks((3, side, side), f"resnet_{scales}_1_1")
    encoding, decoding = nets.encoder(128), nets.decoder(64)
    assert [32 * n for n in channels(encoding, nn.Conv2d)] == encoder
    assert 32 * decoding[0].out_features == decoder[0] * 2 * 2
    assert [32 * n for n in channels(decoding, nn.ConvTranspose2d)] == decoder[1:]
    assert [m.out_features for m in encoding[-2].branch if isinstance(m, nn.Linear)] == [512, 512]
    assert encoding[-1].out_features == 128


@pytest.mark.parametrize(
    ("side", "kind", "up"), [(32, "conv_rae_4", [512, 256]), (64, "conv_rae_4_5", [512, 256, 128])]
)
def test_widths_of_the_rae_network(side, kind, up):
    nets = Networks((3, side, side), kind)  # a 32nd of conv_rae_128
    encoder, decoder = nets.encoder(64), nets.decoder(64)
    assert [32 * n for n in channels(encoder, nn.Conv2d)] == [128, 256, 512, 1024]
    assert 32 * decoder[0].out_features == 8 * 8 * 1024
    assert [32 * n for n in channels(decoder, nn.ConvTranspose2d)] == up
    assert {m.kernel_size for m in encoder if isinstance(m, nn.Conv2d)} == {(5, 5) if kind[-2:] == "_5" else (4, 4)}


@pytest.mark.parametrize(("kind", "seen"), [("conv_rae_4", -1.0), ("conv_rae_4_5", 0.0)])
def test_what_the_rae_encoder_sees_of_black(kind, seen):
    encoder, inputs = Networks((1, 32, 32), kind).encoder(3), []
    next(m for m in encoder if isinstance(m, nn.Conv2d)).register_forward_hook(lambda m, x, y: inputs.append(x[0]))
    encoder(torch.zeros(2, 1, 32, 32))
    assert inputs[0][0, 0, 16, 16] == seen  # 2x - 1 on MNIST and CIFAR-10, x on CelebA


def test_the_rae_decoder_goes_straight_from_dense_to_transposed_convolution():
    kinds = [type(m) for m in Networks((3, 32, 32), "conv_rae_4").decoder(8)]
    assert kinds[:5] == [nn.Linear, nn.Unflatten, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize("kind", ["resnet_2_1_8", "conv_rae_4"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_weights_start_by_glorots_rule_and_biases_at_0(kind, part):
    torch.manual_seed(0)
    network = getattr(Networks((3, 16, 16), kind), part)(64)
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            fans = layer.weight[0].numel() + layer.weight[:, 0].numel()  # of inputs and outputs
            assert layer.weight.abs().max() <= (6 / fans) ** 0.5 and not layer.bias.any()
            assert layer.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.2)


def two_stage():
    cls = find("two_stage_vae")
    given = {"learning_rate": 1e-3, "batch_size": 2, "gamma_rule": "learned", "second_share": 0.5, "noise": True}
    return cls(cls.Hyper(latent_dim=64, network="resnet_1_1_2", second_width=32, **given), (3, 8, 8))


@pytest.mark.parametrize(
    ("head", "inputs"),
    [(lambda m: m.encoder[-1], 512), (lambda m: m.densities["second"].encoder.head, 64 + 32)],
    ids=["first stage", "second stage"],
)
def test_mean_and_log_variance_start_as_two_layers_of_the_balancing_papers_code(head, inputs):
    """TensorFlow has a Dense(64) for each, with Glorot's bound .1021 of the first stage; one of 128 has .0968."""
    torch.manual_seed(0)
    layer = head(two_stage())
    assert layer.weight.shape == (128, inputs) and not layer.bias.any()
    bound = (6 / (inputs + 64)) ** 0.5
    for half in layer.weight.chunk(2):
        assert 0.99 * bound < half.abs().max() <= bound


def test_blocks_per_scale():
    one, two = (Networks((3, 32, 32), f"resnet_3_{n}_4").encoder(4) for n in (1, 2))
    count = [sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) for network in (one, two)]
    assert count == [6, 12]  # two in each block


@pytest.mark.parametrize(("kind", "momentum"), [("resnet_2_1_4", 0.001), ("resnet_2_1_4_bn99", 0.01)])
def test_running_statistics_of_the_resnet(kind, momentum):
    network = Networks((1, 8, 8), kind).encoder(3)
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(torch.rand(5, 1, 8, 8))
    torch.testing.assert_close(norm.running_mean, momentum * seen[0].mean((0, 2, 3)))


@pytest.mark.parametrize("kind", ["resnet_2_1_4", "conv_rae_4"])
def test_points_are_refused(kind):
    with pytest.raises(ValueError, match="needs images, got points of 2 numbers"):
        Networks((2,), kind).encoder(1)


VALUES = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "likelihood": "bce"}
METHODS = {
    "vae": {},
    "wae": {"weight": 1.0},
    "vae_gan": {"feature_weight": 0.5, "layer": 1, "margin": 10.0},
    "vamp_vae": {"beta": 1.0, "warm_up": 0, "components": 3},
}


@pytest.mark.parametrize("check", [check_turns, check_samples])
@pytest.mark.parametrize("kind", ["conv_rae_2", "resnet_2_1_4_bn9", "residual_mlp_16_1"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_train_on_them(method, kind, check):
    values = VALUES | METHODS[method] | {"network": kind}
    if method == "vae_gan":
        del values["likelihood"]
    check(Subject(method, values))
