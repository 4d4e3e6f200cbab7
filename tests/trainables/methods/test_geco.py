"""GECO: the multiplier's rule by hand, its memory, and the constraint it is there to meet."""

import math

import pytest
import torch

from trainables.method import Loss
from trainables.methods.geco import GECO, LEAST, MOST
from trainables.testing import Subject, made_up
from trainables.training import Training

VALUES = {"latent_dim": 4, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "tau": 0.2, "eta": 0.1}


def geco(**changed) -> GECO:
    torch.manual_seed(0)
    return GECO(GECO.Hyper(**{**VALUES, **changed}), (1, 8, 8))


def stepped(method: GECO, *errors: float) -> list[float]:
    found = []
    for error in errors:
        method.follow(Loss(torch.zeros(()), {"reconstruction": torch.tensor(64 * error)}))
        found.append(method.multiplier.item())
    return found


def test_the_multiplier_follows_the_running_constraint():
    method = geco(decay=0.9)
    first = 0.24 - 0.04  # C / P, of an error of 0.24 a pixel where tau^2 is 0.04
    second = 0.9 * first + 0.1 * (0.01 - 0.04)
    expected = [math.exp(0.1 * first), math.exp(0.1 * (first + second))]
    assert stepped(method, 0.24, 0.01) == pytest.approx(expected, rel=1e-5)


def test_an_error_that_is_not_a_number_is_not_observed():
    method = geco()
    stepped(method, math.nan)
    assert method.multiplier == 1 and method.begun == 0
    stepped(method, 0.24)
    before = method.constraint.clone()
    stepped(method, math.nan, math.inf)
    assert torch.equal(method.constraint, before) and method.multiplier.isfinite()


def test_the_multiplier_is_bounded():
    assert stepped(geco(eta=1e6), 5.0)[0] == pytest.approx(MOST)
    assert stepped(geco(eta=1e6, tau=2.0), 0.0)[0] == pytest.approx(LEAST)


def test_the_loss_is_the_lagrangian():
    method, x = geco(tau=0.3), torch.rand(6, 1, 8, 8)
    method.multiplier.fill_(2.5)
    loss = method.loss(x)
    constraint = loss.terms["reconstruction"] - 0.09 * 64
    torch.testing.assert_close(loss.total, loss.terms["kl"] + 2.5 * constraint)
    assert method.decoder_variance() == pytest.approx(0.2)  # SSE / (2 gamma)


def trained(tau: float) -> dict[str, float]:
    config = Subject("geco", VALUES | {"tau": tau, "eta": 1.0}).config(epochs=5)
    run = Training(config, made_up((1, 8, 8), 160))
    while not run.finished:
        terms = run.run_epoch()
    return terms


def test_tolerance_sets_the_balance():
    tight, loose = trained(0.1), trained(0.4)
    assert tight["multiplier"] > 1 > loose["multiplier"]
    assert tight["reconstruction"] < loose["reconstruction"] and tight["kl"] > loose["kl"]
