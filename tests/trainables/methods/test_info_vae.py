"""InfoVAE: at its two ends it is what the paper says it is, and a repelling weight is refused."""

import pytest
import torch

from trainables.losses import mmd
from trainables.methods.info_vae import InfoVAE
from trainables.methods.vae import VAE

SMALL = {"latent_dim": 3, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "likelihood": "bce"}
SHAPE = (1, 8, 8)


def info_vae(alpha: float, lambda_: float, **changed) -> InfoVAE:
    torch.manual_seed(0)
    return InfoVAE(InfoVAE.Hyper(**{**SMALL, **changed}, alpha=alpha, lambda_=lambda_), SHAPE).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def loss_of(method, x, seed=2):
    torch.manual_seed(seed)
    return method.loss(x)


def gradient(method, loss) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(method.encoder.parameters()))])


def test_alpha_0_and_lambda_1_is_the_vae(x):
    info = info_vae(0.0, 1.0)
    vae = VAE(VAE.Hyper(**SMALL), SHAPE).double()
    vae.load_state_dict(info.state_dict())
    torch.testing.assert_close(loss_of(info, x).total, loss_of(vae, x).total, rtol=1e-12, atol=0)


def test_alpha_1_has_no_gradient_of_the_kl(x):
    """The KL stands in the log; the gradient is that of a loss that never heard of it."""
    info = info_vae(1.0, 5.0)
    loss = loss_of(info, x)
    assert loss.terms["kl"] > 0
    without = loss.terms["reconstruction"] + 5.0 * loss.terms["mmd"]
    torch.testing.assert_close(loss.total, without, rtol=0, atol=0)
    twice = loss_of(info, x), loss_of(info, x)
    bare = twice[1].terms["reconstruction"] + 5.0 * twice[1].terms["mmd"]
    assert torch.equal(gradient(info, twice[0].total), gradient(info, bare))


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_weights_of_the_terms(x, kernel):
    info = info_vae(0.25, 7.0, kernel=kernel)
    loss = loss_of(info, x)
    kl, distance = loss.terms["kl"], loss.terms["mmd"]
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + 0.75 * kl + 6.25 * distance)
    torch.manual_seed(2)
    z = info.encode(x).draw()
    torch.testing.assert_close(distance, mmd(z, torch.randn_like(z), kernel))  # of drawn codes, not of means


def test_a_repelling_mmd_is_refused():
    with pytest.raises(ValueError, match=r"alpha \+ lambda_ must be at least 1, got 0.75"):
        info_vae(0.25, 0.5)
    info_vae(0.25, 0.75)
