"""The MLPs of Regularization's Table 1: their depth, their shortcuts, and what an affine skip adds."""

import pytest
import torch
from torch import nn

from trainables.networks import Networks
from trainables.networks.residual_mlp import Block


def linears(network: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


def test_depths_of_the_paper():
    nets = Networks((1, 28, 28), "residual_mlp_512_3")
    assert linears(nets.encoder(20)) == [(784, 512), *[(512, 512)] * 4, (512, 20)]  # six linear layers
    assert linears(nets.decoder(10)) == [(10, 512), *[(512, 512)] * 6, (512, 784)]  # three blocks of two


def test_the_plain_network_differs_by_its_shortcuts_only():
    residual, plain = (Networks((1, 8, 8), f"{form}_mlp_16_3").decoder(4) for form in ("residual", "plain"))
    assert linears(residual) == linears(plain)
    assert [isinstance(m, Block) for m in residual.modules()].count(True) == 3
    assert not any(isinstance(m, Block) for m in plain.modules())


def test_a_block_without_weights_is_the_identity():
    block, h = Block(5), torch.randn(3, 5)
    assert not torch.equal(block(h), h)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(h), h)


def test_shortcuts_carry_the_gradient_through_dead_layers():
    """A block whose ReLUs are all off passes a gradient on; the plain layers pass nothing."""
    for form, passes in (("residual", True), ("plain", False)):
        decoder = Networks((1, 8, 8), f"{form}_mlp_16_2").decoder(4)
        for module in decoder.modules():
            if isinstance(module, nn.Linear) and (module.in_features, module.out_features) == (16, 16):
                nn.init.constant_(module.bias, -100.0)
        z = torch.randn(6, 4, requires_grad=True)
        decoder(z).square().sum().backward()
        assert bool(z.grad.any()) is passes


@pytest.mark.parametrize("form", ["residual", "plain"])
def test_an_affine_skip_adds_an_affine_map_of_the_latents(form):
    decoder = Networks((1, 8, 8), f"{form}_mlp_16_2_affine").decoder(4).double()
    skip, unflatten = decoder
    z = torch.randn(6, 4).double()
    expected = skip.f(z) + z @ skip.affine.weight.T + skip.affine.bias
    torch.testing.assert_close(decoder(z), unflatten(expected), rtol=1e-12, atol=1e-12)
    assert skip.affine.weight.shape == (64, 4)


@pytest.mark.parametrize("kind", ["residual_mlp_512", "residual_mlp_0_3", "plain_mlp_512_3_skip", "mlp_512_affine"])
def test_unknown_kinds(kind):
    with pytest.raises(ValueError, match=r"is not known; allowed: .*residual_mlp_WIDTH_BLOCKS"):
        Networks((1, 8, 8), kind)
