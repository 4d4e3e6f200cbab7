"""No learning rate makes a method report nonsense: it stays finite, or it says that it diverged."""

import math

import pytest
import torch

from trainables import Config, Diverged, Evaluator, fit
from trainables.datasets import load

SMALL = {"latent_dim": 3, "batch_size": 32, "network": "mlp_32_16"}
METHODS = {
    "info_vae": {"likelihood": "bce", "alpha": 0.5, "lambda_": 10.0},
    "vade": {"likelihood": "bce", "beta": 1.0, "pretrain": 2, "components": 4},
    "gmvae": {
        "likelihood": "bce",
        "w_dim": 2,
        "threshold": 0.5,
        "beta_h": 1.0,
        "beta_w": 1.0,
        "components": 4,
    },
    "vamp_vae": {"likelihood": "bce", "beta": 1.0, "warm_up": 0, "components": 4},
    "vae_gan": {"feature_weight": 0.1, "layer": 2, "margin": 0.35},
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return load("digits", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def evaluator(digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Evaluator(digits, samples=100)


@pytest.mark.slow
@pytest.mark.parametrize("learning_rate", [pytest.param(0.3, marks=pytest.mark.slow), 30.0, 1e6, 1e30])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_learning_rates(method, learning_rate, digits, evaluator):
    values = {**SMALL, **METHODS[method], "learning_rate": learning_rate}
    config = Config(method=method, dataset="digits", values=values, epochs=4)
    images = torch.tensor(digits.train.images)
    try:
        for report in fit(config, images, evaluator):
            last = report
    except Diverged as divergence:
        assert divergence.reason
    else:
        assert all(p.isfinite().all() for p in last.method.parameters())
        assert all(math.isfinite(value) for name, value in last.metrics.items() if name.startswith("valid/"))
