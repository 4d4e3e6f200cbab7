"""The memory of a training step is counted before the sweep, and a GPU that is too small is refused."""

import pytest
import torch
from torch import nn

from sweep.config import SweepConfig
from sweep.driver.job import check_gpus
from sweep.driver.resources import Resources
from sweep.search.plan import footprints, plan
from trainables.memory import Activations

ON_GPU = Resources(cpus=1, gpus=0.25, slots=4, ahead=5, total_gpus=1)


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
    (small,), (large,) = (footprints(planned(tmp_path, batch_size=size)).values() for size in (100, 400))
    parameters = small.network
    assert 3 * parameters <= small.optimiser <= 3.1 * parameters  # gradient and two moments, and steps
    assert large.activations == pytest.approx(4 * small.activations, rel=0.05)
    assert small.images == large.images == 1197 * 64
    assert (small.network, small.optimiser) == (large.network, large.optimiser)


def test_a_gpu_that_is_too_small_is_refused_with_figures(tmp_path):
    study = planned(tmp_path)
    (need,) = footprints(study).values()
    found = []
    check_gpus(study, ON_GPU, 5 * need.step, found.append)
    assert found == []
    check_gpus(study, ON_GPU, 3 * need.step, found.append)
    assert len(found) == 1 and "more than 0.25 of a GPU of" in found[0] and "a larger --gpus-per-trial" in found[0]
    with pytest.raises(ValueError, match=r"vae-digits: a training step takes .* MB .*and the GPU has .*; choose a s"):
        check_gpus(study, ON_GPU, need.step - 1, found.append)
