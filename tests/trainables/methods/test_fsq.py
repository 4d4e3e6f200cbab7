"""FSQ: which levels codes can take, by hand; its straight-through gradient; its histogram."""

import pytest
import torch

from trainables.catalog import find
from trainables.methods.fsq import Levels

SHAPE = (1, 4, 4)
VALUES = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_8", "likelihood": "sse"}


def made(levels: int):
    torch.manual_seed(0)
    return find("fsq")(find("fsq").Hyper(**VALUES, levels=levels), SHAPE)


@pytest.mark.parametrize(
    ("levels", "values"),
    [(2, [-1, 0]), (3, [-1, 0, 1]), (5, [-1, -0.5, 0, 0.5, 1]), (4, [-1, -0.5, 0, 0.5])],
)
def test_codes_take_every_level_and_no_other(levels, values):
    raw = torch.linspace(-20, 20, 4001).repeat(3, 1).T
    assert made(levels).quantised(raw)[:, 0].unique().tolist() == values


def test_zero_stays_zero():
    for levels in (3, 4, 5, 8):
        assert made(levels).quantised(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_gradients_pass_the_rounding():
    raw = torch.randn(6, 3, requires_grad=True)
    made(5).quantised(raw).sum().backward()
    torch.testing.assert_close(raw.grad, 2 * (1 + 1e-3) / 2 * (1 - raw.detach().tanh().square()))


def test_what_is_decoded_is_rounded_first():
    method = made(5)
    z = torch.tensor([[0.3, -0.1, 0.9], [0.5, 0.0, 7.0]])
    torch.testing.assert_close(method.decode(z)[0], method.decode(torch.tensor([[0.5, 0.0, 1.0]]))[0])
    torch.testing.assert_close(method.decode(z)[1], method.decode(torch.tensor([[0.5, 0.0, 1.0]]))[0])


def test_the_histogram_draws_levels_as_often_as_they_occur():
    density = Levels(2, 3)
    density.fit(torch.tensor([[-1.0, 1.0], [-1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), seed=0)
    torch.testing.assert_close(density.shares, torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.75, 0.25]]))
    torch.manual_seed(0)
    drawn = density.sample(4000)
    assert (drawn[:, 0] == -1).float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert set(drawn[:, 1].tolist()) == {0.0, 1.0}
    assert density.flags()["levels_used"] == pytest.approx(1.7548, abs=1e-3)  # exp(entropy of 3/4 and 1/4)
