"""Discrepancies against scikit-learn's kernels; of methods.md 12 the check 4, by noise floor, shift and bounds."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from trainables.metrics import kernels
from trainables.metrics.kernels import (
    cmmd,
    imq,
    kid,
    kid_of_subsets,
    mmd,
    noise_floor,
    polynomial,
    prior_discrepancy,
    rbf,
)


def unbiased(kxx, kyy, kxy):
    n, m = kxy.shape
    within = (kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy)) / (m * (m - 1))
    return within - 2 * kxy.mean()


@pytest.fixture
def pair(generator):
    x, y = torch.randn(23, 6, generator=generator), torch.randn(31, 6, generator=generator) + 0.5
    return x.double(), y.double()


def test_kid_agrees_with_scikit_learns_polynomial_kernel(pair):
    x, y = pair

    def kernel(a, b):
        return polynomial_kernel(a, b, degree=3, gamma=1 / 6, coef0=1)

    assert kid(x, y) == pytest.approx(unbiased(kernel(x, x), kernel(y, y), kernel(x, y)), rel=1e-10)


def test_rbf_agrees_with_scikit_learns(pair):
    x, y = pair
    kernels = (rbf_kernel(a, b, gamma=1 / 6) for a, b in ((x, x), (y, y), (x, y)))
    assert mmd(x, y, rbf) == pytest.approx(unbiased(*kernels), rel=1e-9)


def test_cmmd_agrees_with_scikit_learns_rbf_over_all_pairs(pair):
    x, y = pair
    within, other, across = (rbf_kernel(a, b, gamma=1 / 200).mean() for a, b in ((x, x), (y, y), (x, y)))
    assert cmmd(x, y) == pytest.approx(1000 * (within + other - 2 * across), rel=1e-9)


@pytest.mark.parametrize("kernel", [polynomial, imq, rbf])
def test_blocks_change_nothing(pair, kernel):
    assert mmd(*pair, kernel, block_size=7) == pytest.approx(mmd(*pair, kernel), rel=1e-10)


def test_imq_is_the_sum_of_seven_scales():
    x, y = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert imq(x, x).item() == pytest.approx(7)
    expected = sum(4 * s / (4 * s + 25) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))
    assert imq(x, y).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["mmd_imq", "mmd_rbf"])
def test_the_prior_is_at_the_noise_floor_and_a_shift_is_far_above(name, generator):
    z = torch.randn(400, 8, generator=generator)
    same, shifted = prior_discrepancy(z), prior_discrepancy(z + 1)
    floor = same[f"{name}_floor"]
    assert abs(same[name]) < 4 * floor
    assert shifted[name] > 10 * max(abs(same[name]), floor)
    assert -1 <= shifted[name] <= 14


def test_the_noise_floor_is_computed_once_for_all_processes(monkeypatch):
    first = noise_floor(rbf, 30, 3)
    noise_floor.cache_clear()  # as in another process
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "mmd", lambda *_: pytest.fail("computed again"))
        assert noise_floor(rbf, 30, 3) == first > 0

    def changed(x, y):
        return 2 * rbf(x, y)

    changed.__name__ = "rbf"
    assert noise_floor(changed, 30, 3) == pytest.approx(2 * first)


def test_subsets_estimate_the_kid_of_everything(pair):
    x, y = pair
    estimate = kid_of_subsets(x, y, subsets=400, size=10)
    assert estimate.mean == pytest.approx(kid(x, y), abs=4 * estimate.std / 400**0.5)
    assert estimate.std > 0
    assert estimate == kid_of_subsets(x, y, subsets=400, size=10)


def test_what_has_no_discrepancy_is_refused(pair):
    x, y = pair
    with pytest.raises(ValueError, match=r"got \(1, 6\) and \(31, 6\)"):
        kid(x[:1], y)
    with pytest.raises(ValueError, match=r"got \(23, 5\) and \(31, 6\)"):
        kid(x[:, :5], y)
    with pytest.raises(ValueError, match="subsets of 1000 need at least 1000 features, got 23 and 31"):
        kid_of_subsets(x, y)
