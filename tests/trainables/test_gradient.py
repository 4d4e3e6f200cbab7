"""|dL/dz| against gradients that are known."""

import pytest
import torch
from torch import Tensor, nn

from trainables.evaluate.gradient import gradient_at_codes
from trainables.losses import squared_error
from trainables.method import Loss, Method, Player, Posterior, Stage


class Linear(Method):
    """x_hat = W z, z = the first pixels: dL_i/dz_i = 2 W^T (W z_i - x_i)."""

    class Hyper(Method.Hyper):
        pass

    def build(self, nets) -> None:
        self.scale = nn.Parameter(torch.ones(()))
        self.decoder = nn.Linear(self.hyper.latent_dim, 4, bias=False)

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.scale * x.flatten(1)[:, : self.hyper.latent_dim])

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).unflatten(1, self.shape)

    def loss(self, x: Tensor) -> Loss:
        return Loss(squared_error(self.decode(self.encode(x).draw()), x), {})


@pytest.fixture
def method() -> Linear:
    torch.manual_seed(0)
    return Linear(Linear.Hyper(latent_dim=2, learning_rate=1, batch_size=1, network="mlp_4"), (1, 2, 2))


def expected(method: Linear, x: Tensor) -> Tensor:
    w, z = method.decoder.weight.detach(), x.flatten(1)[:, :2]
    return 2 * (z @ w.T - x.flatten(1)) @ w  # (B, D)


def test_it_is_the_gradient_of_every_images_own_loss(method):
    x = torch.rand(7, 1, 2, 2)
    found = gradient_at_codes(method, x)
    known = expected(method, x)
    assert found["gradient_at_codes"] == pytest.approx(known.norm(dim=1).mean().item(), rel=1e-5)
    assert found["gradient_at_codes_batch"] == pytest.approx(known.norm().item(), rel=1e-5)
    half = gradient_at_codes(method, x[:3])  # does not depend on how many images are looked at
    assert half["gradient_at_codes"] == pytest.approx(known[:3].norm(dim=1).mean().item(), rel=1e-5)


def test_it_leaves_no_trace(method):
    with torch.no_grad():
        gradient_at_codes(method, torch.rand(3, 1, 2, 2))
        assert not torch.is_grad_enabled()
    assert all(p.grad is None for p in method.parameters())
    assert not method.decoder._forward_pre_hooks


def test_images_that_are_decoded_beside_others_are_counted_alone(method):
    x = torch.rand(5, 1, 2, 2)

    def loss(x: Tensor) -> Loss:  # as VAE-GAN decodes codes and draws from the prior in one call
        z = method.encode(x).draw()
        x_hat = method.decode(torch.cat([z, torch.randn_like(z)]))
        return Loss(squared_error(x_hat[: len(x)], x), {})

    method.loss = loss
    found = gradient_at_codes(method, x)["gradient_at_codes"]
    assert found == pytest.approx(expected(method, x).norm(dim=1).mean().item(), rel=1e-5)


def test_the_last_stage_on_images_says_whose_loss_it_is(method):
    def stages(epochs: int) -> tuple[Stage, ...]:
        far = lambda x: Loss(100 * method.loss(x).total, {})  # noqa: E731
        pretrain, train, on_codes = (Player((method,), loss, None) for loss in (far, method.loss, far))
        return (
            Stage("pretrain", 1, (pretrain,), judged=False),
            Stage("train", 1, (train,), judged=False),
            Stage("codes", epochs - 2, (on_codes,), inputs=method.codes),
        )

    method.stages = stages
    x = torch.rand(5, 1, 2, 2)
    known = expected(method, x).norm(dim=1).mean().item()
    assert gradient_at_codes(method, x)["gradient_at_codes"] == pytest.approx(known, rel=1e-5)


def test_where_no_code_is_decoded_there_is_none(method):
    x = torch.rand(5, 1, 2, 2)
    method.loss = lambda x: Loss(method.scale.square(), {})
    assert gradient_at_codes(method, x) == {}
    method.loss = lambda x: Loss(squared_error(method.decode(method.encode(x).mean.detach()), x), {})
    assert gradient_at_codes(method, x) == {}
    method.decoder = None
    assert gradient_at_codes(method, x) == {}
