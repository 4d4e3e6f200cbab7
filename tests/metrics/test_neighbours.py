"""Precision, recall, density and coverage against scikit-learn's neighbours."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from trainables.metrics.neighbours import neighbourhoods


def by_scikit_learn(fake, real, k):
    def radius(x):
        return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, -1]

    distance = torch.cdist(torch.tensor(real), torch.tensor(fake)).numpy()
    in_real, in_fake = distance < radius(real)[:, None], distance < radius(fake)[None]
    return (
        in_real.any(0).mean(),
        in_fake.any(1).mean(),
        in_real.sum(0).mean() / k,
        in_real.any(1).mean(),
    )


@pytest.mark.parametrize("k", [3, 5])
def test_the_four_figures_agree_with_scikit_learns_neighbours(k, generator):
    real = torch.randn(61, 4, generator=generator).double()
    fake = torch.randn(47, 4, generator=generator).double() * 1.5 + 0.3
    expected = by_scikit_learn(fake.numpy(), real.numpy(), k)
    assert neighbourhoods(fake, real, k, block_size=10) == pytest.approx(expected, rel=1e-12)
    assert min(expected) > 0.1 and expected[0] < 1


def test_each_figure_sees_its_own_failure(generator):
    real = torch.randn(300, 3, generator=generator)
    same = neighbourhoods(torch.randn(300, 3, generator=generator), real)
    assert min(same) > 0.8 and same.density == pytest.approx(1, abs=0.15)
    collapsed = neighbourhoods(real[:1] + 1e-3 * torch.randn(300, 3, generator=generator), real)
    assert collapsed.precision == 1 and collapsed.recall < 0.1 and collapsed.coverage < 0.1
    away = neighbourhoods(real + 100, real)
    assert away == (0, 0, 0, 0)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="k = 5 neighbours need more features than k, got 5 and 9"):
        neighbourhoods(torch.rand(5, 2), torch.rand(9, 2))
