"""Statistics that travel: pytorch_fid reads ours and we read its own."""

import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import compute_statistics_of_path
from torch import nn

from trainables.metrics import Extractor, Moments
from trainables.metrics.statistics import load_statistics, save_statistics


def extractor(metric="fid", resize="none"):
    return Extractor("flat", metric, 4, 1, resize, "f00d", nn.Flatten(), torch.device("cpu"))


@pytest.fixture
def moments(generator):
    return Moments.of(torch.rand(50, 4, generator=generator))


def test_pytorch_fid_reads_ours(moments, tmp_path):
    path = tmp_path / "ours.npz"
    save_statistics(path, moments, extractor())
    mean, covariance = compute_statistics_of_path(str(path), None, 50, 4, "cpu")
    assert np.array_equal(mean, moments.mean.numpy()) and np.array_equal(covariance, moments.covariance.numpy())


def test_we_read_ours_with_all_that_was_known(moments, tmp_path):
    path = tmp_path / "ours"  # the name is kept as it was given
    save_statistics(path, moments, extractor())
    again, n = load_statistics(path, extractor())
    assert n == again.n == 50
    torch.testing.assert_close(again.covariance, moments.covariance, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="resize none instead of bilinear 32"):
        load_statistics(path, extractor(resize="bilinear 32"))


def test_we_read_pytorch_fids_for_the_fid_alone(moments, tmp_path):
    path = tmp_path / "theirs.npz"
    np.savez_compressed(path, mu=moments.mean.numpy(), sigma=moments.covariance.numpy())  # as its --save-stats does
    again, n = load_statistics(path, extractor())
    assert n is None and again.n > again.dims  # nobody knows of how many images
    torch.testing.assert_close(again.mean, moments.mean, rtol=0, atol=0)
    torch.testing.assert_close(again.covariance, moments.covariance, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="only --metric fid accepts such a file"):
        load_statistics(path, extractor(metric="fcd"))


def test_one_image_has_no_statistics(tmp_path):
    with pytest.raises(ValueError, match="at least 2 features, got 1"):
        save_statistics(tmp_path / "one.npz", Moments.of(torch.ones(1, 4)), extractor())
    assert not (tmp_path / "one.npz").exists()
