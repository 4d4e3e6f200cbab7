"""RAE-SN: every kernel has norm one, and nothing else sets it apart from a plain autoencoder with small codes."""

import pytest
import torch
from torch import nn

from trainables.losses import squared_error
from trainables.methods.rae_sn import NORMALISED, RAESN

VALUES = {"latent_dim": 4, "learning_rate": 1e-3, "batch_size": 8, "likelihood": "sse", "code_weight": 0.3}


def rae(network: str) -> RAESN:
    torch.manual_seed(0)
    return RAESN(RAESN.Hyper(**VALUES, network=network), (1, 8, 8))


@pytest.mark.parametrize("network", ["mlp_32_16", "conv_rae_2", "residual_mlp_16_2"])
def test_kernels_have_spectral_norm_one(network):
    method = rae(network)
    with torch.no_grad():
        for _ in range(100):  # a power iteration each
            method.iterate(method.loss(torch.rand(4, 1, 8, 8)))
    layers = [m for net in (method.encoder, method.decoder) for m in net.modules() if isinstance(m, NORMALISED)]
    assert layers
    method.eval()
    for layer in layers:
        kernel = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        assert torch.linalg.matrix_norm(kernel.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_the_loss():
    method, x = rae("mlp_32_16").eval(), torch.rand(6, 1, 8, 8)
    z = method.encode(x).mean
    expected = squared_error(method.decode(z), x) + 0.3 * z.square().sum(1).mean()
    torch.testing.assert_close(method.loss(x).total, expected)


def test_the_two_samplers_of_the_quoted_rows():
    densities = rae("mlp_32_16").densities
    assert [(name, density.components) for name, density in densities.items()] == [("gmm", 10), ("gaussian", 1)]
