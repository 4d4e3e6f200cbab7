"""The real files, where SWEEP_TEST_DATA says they lie."""

import numpy as np
import pytest

from trainables.datasets import load

# Shape, pictures in train and valid together, and the mean of the training pictures on a scale of 0 to 1
# as commonly quoted (that of CIFAR-10, which JPEG keeps).
SETS = {
    "mnist": ((1, 28, 28), 60_000, [0.1307]),
    "fashion_mnist": ((1, 28, 28), 60_000, [0.2860]),
    "cifar10-jpeg": ((3, 32, 32), 50_000, [0.4914, 0.4822, 0.4465]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_real_data(name, data_root):
    shape, n, mean = SETS[name]
    splits = load(name, data_root, download=False)
    assert splits.shape == shape
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (n * 9 // 10, n // 10, 10_000)
    np.testing.assert_allclose(splits.train.images.mean(axis=(0, 2, 3)) / 255, mean, atol=2e-3)
    assert set(splits.test.labels) == set(range(10))
