"""The sliced distance against closed forms and a transport computed by matching."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from trainables.metrics.sliced import sliced_wasserstein


def test_a_shift_costs_its_squared_length_whatever_the_dimension(generator):
    for dims in (1, 5, 64):
        x = torch.randn(40, dims, generator=generator, dtype=torch.float64)
        shift = torch.randn(dims, generator=generator, dtype=torch.float64)
        value = sliced_wasserstein(x, x + shift, lines=20_000)
        assert value == pytest.approx(shift.square().sum().item(), rel=0.05), dims
    assert sliced_wasserstein(x, x) == 0


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 6), (3, 7)])
def test_on_one_line_it_is_the_cost_of_the_best_matching(n, m, generator):
    x, y = torch.randn(n, 1, generator=generator), 1 + 2 * torch.randn(m, 1, generator=generator)
    # Each point as often as makes the two sides equally many.
    a, b = x.double().repeat(m, 1).numpy(), y.double().repeat(n, 1).numpy()
    cost = np.square(a - b.T)
    matched = cost[linear_sum_assignment(cost)].mean()
    assert sliced_wasserstein(x, y, lines=3) == pytest.approx(matched, rel=1e-9)


def test_it_is_symmetric_and_repeats_itself(generator):
    x, y = torch.randn(30, 8, generator=generator), torch.rand(17, 8, generator=generator)
    state = torch.get_rng_state()
    assert sliced_wasserstein(x, y) == pytest.approx(sliced_wasserstein(y, x), rel=1e-12)
    assert sliced_wasserstein(x, y) == sliced_wasserstein(x, y)
    assert sliced_wasserstein(x, y, block_size=7) == pytest.approx(sliced_wasserstein(x, y), rel=1e-12)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"equal dimension, got \(3, 4\) and \(3, 5\)"):
        sliced_wasserstein(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"got \(0, 4\)"):
        sliced_wasserstein(torch.zeros(0, 4), torch.zeros(3, 4))
