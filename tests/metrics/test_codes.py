"""Classes read off codes, clusters, memorisation and likeness, on codes whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.neighbors import NearestNeighbors

from trainables.metrics.codes import class_errors, cluster_agreement
from trainables.metrics.memorisation import copies, memorisation, most_by_chance, near_training, nearest
from trainables.metrics.similarity import psnr, ssim


def clouds(n, classes, apart, generator):
    labels = np.arange(n) % classes
    centres = apart * torch.eye(classes)[torch.tensor(labels)]
    return centres + torch.randn(n, classes, generator=generator), labels


def test_far_clouds_are_read_without_error_and_noise_by_chance(generator):
    shown = class_errors(*clouds(200, 4, 20, generator), *clouds(100, 4, 20, generator))
    assert shown == {"probe_error": 0, "knn_error": 0}
    shown = class_errors(*clouds(400, 4, 0, generator), *clouds(400, 4, 0, generator))
    assert all(value == pytest.approx(0.75, abs=0.08) for value in shown.values())


def test_a_probe_reads_along_lines_and_neighbours_around_points(generator):
    """A class inside the other one has no line around it, and has neighbours of its own."""

    def rings(n):
        angle = 2 * torch.pi * torch.rand(n, generator=generator)
        labels = np.arange(n) % 2
        radius = 1 + 4 * torch.tensor(labels)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), labels

    shown = class_errors(*rings(300), *rings(300))
    assert shown["knn_error"] == 0 and shown["probe_error"] > 0.3


def test_clusters_are_the_classes_only_where_codes_lie_apart(generator):
    expected = {"nmi": 1, "ari": 1, "nmi_error": 0, "ari_error": 0}
    assert cluster_agreement(*clouds(200, 4, 20, generator)) == pytest.approx(expected)
    shown = cluster_agreement(*clouds(400, 4, 0, generator))
    assert shown["nmi"] < 0.05 and abs(shown["ari"]) < 0.05


def test_the_two_nearest_are_scikit_learns(generator):
    x, y = torch.randn(30, 5, generator=generator), torch.randn(40, 5, generator=generator)
    distances, places = NearestNeighbors(n_neighbors=2).fit(y.numpy()).kneighbors(x.numpy())
    found = nearest(x, y, block_size=7)
    assert found[0].numpy() == pytest.approx(distances, rel=1e-5) and (found[1].numpy() == places).all()


def test_memorisation_is_the_statistic_of_mann_and_whitney(generator):
    samples, held_out = torch.randint(9, (50,), generator=generator), torch.randint(2, 12, (70,), generator=generator)
    expected = 1 - mannwhitneyu(samples, held_out).statistic / (50 * 70)
    assert memorisation(samples, held_out) == pytest.approx(expected)
    assert memorisation(torch.zeros(5), torch.ones(7)) == 1  # copies
    assert memorisation(torch.full((5,), 2.0), torch.ones(7)) == 0
    assert memorisation(torch.ones(5), torch.ones(7)) == 0.5


def test_what_chance_allows_has_the_spread_of_new_images():
    """Over 400 draws of two samples of one distribution, 3 standard deviations are those of the statistic."""
    generator = torch.Generator().manual_seed(1)
    n, m = 40, 15
    draws = [torch.rand(n + m, generator=generator).split([n, m]) for _ in range(400)]
    values = np.array([memorisation(*draw) for draw in draws])
    assert 3 * values.std() == pytest.approx(most_by_chance(n, m) - 0.5, rel=0.1)


def test_copies_are_flagged_and_samples_that_crowd_are_not(generator):
    train, held_out, new = torch.randn(3, 200, 64, generator=generator).unbind()
    held = nearest(held_out, train)[0]
    noisy = train + 0.05 * torch.randn(train.shape, generator=generator)
    assert copies(nearest(noisy, train)[0]) == 1 and copies(held) == 0
    assert "100% of samples are copies" in near_training(nearest(noisy, train)[0], held)["memorised"]
    for share, flagged in ((0, False), (10, False), (60, True)):  # of 200
        samples = nearest(torch.cat([train[:share], new[share:]]), train)[0]
        assert copies(samples) == share / 200 and bool(near_training(samples, held)) == flagged
    crowd = nearest(0.1 * new, train)[0]  # near the mean, as blurred samples are
    assert memorisation(crowd[:, 0], held[:, 0]) == 1 and near_training(crowd, held) == {}


def test_a_data_set_with_duplicates_is_not_flagged(generator):
    train = torch.randn(200, 64, generator=generator)
    held_out, samples = (train[part] + 0.01 for part in (slice(0, 100), slice(100, 200)))
    assert near_training(nearest(samples, train)[0], nearest(held_out, train)[0]) == {}


@pytest.mark.parametrize("channels", [1, 3])
def test_likeness_is_scikit_images(channels, generator):
    x = torch.rand(4, channels, 16, 13, generator=generator)
    y = (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    pairs = list(zip(x.double().numpy(), y.double().numpy(), strict=True))
    ratios = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
    assert psnr(x, y).tolist() == pytest.approx(ratios, rel=1e-6)
    options = {"channel_axis": 0, "data_range": 1, "gaussian_weights": True, "use_sample_covariance": False}
    assert ssim(x, y) == pytest.approx(np.mean([structural_similarity(a, b, **options) for a, b in pairs]), rel=1e-6)
    assert ssim(x, x) == pytest.approx(1) and psnr(x, x).isfinite().all()


def test_ssim_needs_room_for_its_window():
    with pytest.raises(ValueError, match=r"at least 11 x 11 pixels, got \(8, 8\)"):
        ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
