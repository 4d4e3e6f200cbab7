"""The memory of a training step is counted before the sweep."""

import pytest
import torch
from torch import nn

from sweep.config import SweepConfig
from sweep.search.plan import plan
from trainables.memory import Activations


def test_activations_are_those_that_a_backward_pass_needs():
    linear, x = nn.Linear(10, 8), torch.randn(32, 10)
    with Activations(linear.parameters()) as kept:
        for _ in range(3):  # freed by each backward pass
            linear(x).relu().sum().backward()
    assert kept.peak == 4 * (32 * 10 + 32 * 8) and kept.now == 0  # the input, and the result of ReLU


def planned(tmp_path, **values):
    fixed = {"latent_dim": 2, "network": "mlp_8", "batch_size": 100, **values}
    return plan(SweepConfig(methods=["vae"], out=tmp_path, set=fixed, epochs=1))


def test_a_step_of_adam_takes_four_times_the_parameters_and_activations_grow_with_the_batch(tmp_path):
    (small,), (large,) = (planned(tmp_path, batch_size=size).footprints.values() for size in (100, 400))
    parameters = small.network
    assert 3 * parameters <= small.optimiser <= 3.1 * parameters  # gradient and two moments, and steps
    assert large.activations == pytest.approx(4 * small.activations, rel=0.05)
    assert small.images == large.images == 1197 * 64
    assert (small.network, small.optimiser) == (large.network, large.optimiser)
