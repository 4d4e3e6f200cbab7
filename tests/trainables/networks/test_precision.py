"""Training in bfloat16: products only, and only while training."""

import torch
from torch import nn

from trainables.networks import train_in_bfloat16


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))


def test_products_in_bfloat16_all_else_in_float32():
    x, plain, mixed, seen = torch.rand(5, 64), network(), network(), []
    train_in_bfloat16(mixed)
    mixed[0].register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
    out = mixed(x)
    out.sum().backward()
    assert seen == [torch.bfloat16] and out.dtype == torch.float32
    assert {p.grad.dtype for p in mixed.parameters()} == {p.dtype for p in mixed.parameters()} == {torch.float32}
    assert not torch.equal(out, plain(x))
    torch.testing.assert_close(out, plain(x), rtol=0.02, atol=0.01)  # 8 bits of mantissa


def test_evaluation_stays_in_float32():
    x, plain, mixed = torch.rand(5, 64), network(), network()
    train_in_bfloat16(mixed)
    assert torch.equal(mixed.eval()(x), plain(x))
