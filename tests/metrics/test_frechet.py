"""The Fréchet distance against pytorch_fid's and against closed forms."""

import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import calculate_frechet_distance

from trainables.metrics import Moments, frechet_distance


def features(n, dims, generator, shift=0.0):
    mixing = torch.randn(dims, dims, generator=generator, dtype=torch.float64)
    return torch.randn(n, dims, generator=generator, dtype=torch.float64) @ mixing + shift


def exact(mean, covariance):
    """Moments that state a Gaussian instead of having seen one."""
    moments = Moments(len(mean))
    moments.n, moments.mean, moments.scatter = 11, mean.double(), covariance.double() * 10
    return moments


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize("dims", [3, 40])
def test_distance_is_pytorch_fids(dims, generator):
    a, b = features(200, dims, generator), features(150, dims, generator, shift=0.5)
    theirs = calculate_frechet_distance(
        a.mean(0).numpy(), np.cov(a.numpy(), rowvar=False), b.mean(0).numpy(), np.cov(b.numpy(), rowvar=False)
    )
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(theirs, rel=1e-6)


def test_distance_of_diagonal_gaussians(generator):
    mean_a, mean_b, sigma_a, sigma_b = torch.rand(4, 7, generator=generator, dtype=torch.float64)
    expected = ((mean_a - mean_b).square() + (sigma_a - sigma_b).square()).sum().item()
    a, b = exact(mean_a, torch.diag(sigma_a**2)), exact(mean_b, torch.diag(sigma_b**2))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_distance_of_diagonal_gaussians_with_dead_dimensions():
    sigma_a, sigma_b = torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([3.0, 0.0, 0.5, 0.0])
    a, b = (exact(torch.zeros(4), torch.diag(sigma**2)) for sigma in (sigma_a, sigma_b))
    assert frechet_distance(a, b) == pytest.approx(4 + 4 + 0.25, rel=1e-10)


def test_distance_to_itself_is_zero(generator):
    x = Moments.of(features(300, 30, generator))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_fewer_features_than_dimensions_give_a_finite_and_symmetric_distance(n, generator):
    a, b = Moments.of(features(n, 50, generator)), Moments.of(features(500, 50, generator))
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert np.isfinite(there) and there > 0
    assert there == pytest.approx(back, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5 * a.covariance.trace().item())


def test_constant_features_are_a_point(generator):
    point, cloud = Moments.of(torch.ones(5, 4)), Moments.of(features(90, 4, generator))
    expected = (cloud.mean - 1).square().sum() + cloud.covariance.trace()
    assert frechet_distance(point, cloud) == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(cloud, point) == pytest.approx(expected.item(), rel=1e-9)


def test_a_stream_gives_what_one_batch_gives(generator):
    x = features(101, 6, generator, shift=1e4)
    stream = Moments(6)
    for batch in x.split(7):
        stream.update(batch)
    halves = Moments.of(x[:33])
    halves.merge(Moments.of(x[33:]))
    for moments in (stream, halves):
        assert moments.n == 101
        torch.testing.assert_close(moments.mean, x.mean(0), rtol=1e-12, atol=0)
        torch.testing.assert_close(moments.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-9)


def test_merging_nothing_changes_nothing(generator):
    x = Moments.of(features(9, 3, generator))
    before = x.covariance
    x.merge(Moments(3))
    x.update(torch.empty(0, 3))
    assert x.n == 9 and torch.equal(x.covariance, before)


def test_moments_survive_a_file(tmp_path, generator):
    x = Moments.of(features(9, 3, generator))
    x.save(tmp_path / "x.safetensors")
    y = Moments.load(tmp_path / "x.safetensors")
    assert (y.n, y.dims) == (9, 3)
    assert torch.equal(x.mean, y.mean) and torch.equal(x.scatter, y.scatter)


@pytest.mark.parametrize(
    ("features_a", "message"),
    [
        (torch.ones(1, 3), "at least 2 features, got 1"),
        (torch.ones(9, 4), "4 and 3 dimensions"),
        (torch.tensor([[0.0, 1.0, float("nan")]] * 9), "NaN or infinite"),
        (torch.tensor([[0.0, 1.0, float("inf")]] * 9), "NaN or infinite"),
    ],
)
def test_what_has_no_distance_is_refused_in_one_line(features_a, message, generator):
    a, b = Moments.of(features_a), Moments.of(features(9, 3, generator))
    for pair in ((a, b), (b, a)):
        with pytest.raises(ValueError) as error:
            frechet_distance(*pair)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def test_a_batch_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(N, 3\), got \(2, 4\)"):
        Moments(3).update(torch.ones(2, 4))
