"""Densities over z: fitted mixtures against scikit-learn and against what they were drawn from."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as ScikitMixture
from torch import Tensor

from trainables.densities import GaussianMixture, StandardNormal

TRUE_MEANS = torch.tensor([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]])  # (K, D)
TRUE_SHARES = torch.tensor([0.5, 0.3, 0.2])
TRUE_FACTORS = torch.tensor([[[1.0, 0.0], [0.8, 0.6]], [[0.5, 0.0], [0.0, 0.5]], [[1.0, 0.0], [-0.5, 0.5]]])


def clustered(n: int, seed: int = 0) -> Tensor:
    """Codes (n, 2) of three clusters, two of them slanted."""
    chance = torch.Generator().manual_seed(seed)
    k = torch.multinomial(TRUE_SHARES, n, replacement=True, generator=chance)
    noise = torch.randn(n, 2, 1, generator=chance)
    return TRUE_MEANS[k] + (TRUE_FACTORS[k] @ noise).squeeze(-1)


def fitted(codes: Tensor, components: int, covariance: str = "full", seed: int = 0) -> GaussianMixture:
    density = GaussianMixture(codes.shape[1], components, covariance)
    density.fit(codes, seed)
    return density


def covariance(x: Tensor) -> Tensor:
    return torch.cov(x.double().T)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_samples_have_the_moments_of_scikits(kind):
    codes = clustered(3000)
    density = fitted(codes, 3, kind)
    scikit = ScikitMixture(3, covariance_type=kind, init_params="k-means++", random_state=0).fit(codes.double().numpy())
    theirs = torch.from_numpy(scikit.sample(100_000)[0])
    torch.manual_seed(0)
    ours = density.sample(100_000)
    assert ours.shape == (100_000, 2) and ours.dtype == torch.float32
    torch.testing.assert_close(ours.double().mean(0), theirs.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(covariance(ours), covariance(theirs), atol=0.12, rtol=0.02)
    likelihood = [scikit.score(z[::10].double().numpy()) for z in (ours, theirs)]
    assert likelihood[0] == pytest.approx(likelihood[1], abs=0.06)


def test_full_components_are_found_with_their_slant():
    density = fitted(clustered(6000), 3)
    order = torch.cdist(TRUE_MEANS, density.means).argmin(1)
    torch.testing.assert_close(density.means[order], TRUE_MEANS, atol=0.1, rtol=0)
    torch.testing.assert_close(density.weights[order], TRUE_SHARES, atol=0.03, rtol=0)
    found = density.factors @ density.factors.mT
    torch.testing.assert_close(found[order], TRUE_FACTORS @ TRUE_FACTORS.mT, atol=0.1, rtol=0)


def test_diagonal_components_have_no_slant():
    factors = fitted(clustered(1000), 3, "diag").factors
    torch.testing.assert_close(factors, torch.diag_embed(factors.diagonal(dim1=1, dim2=2)))


def test_one_component_is_the_gaussian_of_mean_and_covariance():
    codes = clustered(2000)
    density = fitted(codes, 1)
    assert density.weights.tolist() == [1.0]
    torch.testing.assert_close(density.means[0], codes.mean(0), atol=1e-4, rtol=1e-4)
    wanted = torch.cov(codes.T, correction=0)
    torch.testing.assert_close((density.factors @ density.factors.mT)[0], wanted, atol=1e-4, rtol=1e-4)
    assert density.flags() == {"converged": 1.0, "degraded": 0.0}


@pytest.mark.parametrize("components", [1, 4])
def test_a_dead_dimension_is_survived_and_regularised(components):
    codes = torch.cat([clustered(500), torch.full((500, 1), 3.0)], 1)
    density = fitted(codes, components)
    z = density.sample(1000)
    assert z.isfinite().all()
    torch.testing.assert_close(z[:, 2], torch.full((1000,), 3.0), atol=0.02, rtol=0)


def test_codes_on_a_line_of_huge_scale_degrade_the_fit_and_say_so():
    line = torch.randn(500, 1, generator=torch.Generator().manual_seed(0)) * 1e6
    density = fitted(torch.cat([line, line, line], 1), 3)  # rounding makes the covariance indefinite
    assert density.flags()["degraded"] == 2.0
    assert density.sample(100).isfinite().all()


def test_codes_that_are_all_the_same_are_survived():
    density = fitted(torch.full((200, 3), 0.25), 10)
    torch.testing.assert_close(density.sample(50), torch.full((50, 3), 0.25), atol=0.05, rtol=0)


def test_fewer_codes_than_components():
    density = fitted(clustered(4), 10)
    assert density.weights.sum().item() == pytest.approx(1) and (density.weights[4:] == 0).all()
    assert density.sample(20).isfinite().all()


def test_codes_that_are_not_finite_are_an_arithmetic_error():
    codes = clustered(50)
    codes[3, 1] = torch.nan
    with pytest.raises(FloatingPointError, match="codes are not finite"):
        fitted(codes, 2)


def test_a_fit_follows_its_seed_alone():
    codes = clustered(300)
    torch.manual_seed(1), np.random.seed(1)
    one = fitted(codes, 8, seed=5)
    torch.manual_seed(2), np.random.seed(2)
    two = fitted(codes, 8, seed=5)
    assert torch.equal(one.means, two.means) and torch.equal(one.factors, two.factors)
    assert not torch.equal(one.means, fitted(codes, 8, seed=6).means)


def test_a_second_fit_leaves_nothing_of_the_first():
    density = fitted(clustered(500), 5)
    density.fit(clustered(3) + 100, 0)
    torch.manual_seed(0)
    assert (density.sample(200) > 50).all()


def test_a_fit_that_runs_out_of_iterations_says_so(monkeypatch, recwarn):
    monkeypatch.setattr(
        "sklearn.mixture.GaussianMixture.fit",
        lambda self, points, fit=ScikitMixture.fit: fit(self.set_params(max_iter=1, tol=1e-12), points),
    )
    assert fitted(clustered(500), 5).flags()["converged"] == 0.0
    assert not recwarn.list


def test_a_fitted_mixture_is_all_in_its_state_dict():
    one, two = fitted(clustered(300), 4), GaussianMixture(2, 4)
    two.load_state_dict(one.state_dict())
    torch.manual_seed(0)
    z = one.sample(10)
    torch.manual_seed(0)
    assert torch.equal(two.sample(10), z)


def test_the_standard_normal_is_one():
    torch.manual_seed(0)
    z = StandardNormal(3).sample(50_000)
    assert z.shape == (50_000, 3)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(3), atol=0.03, rtol=0)
    assert StandardNormal(3).state_dict() == {}  # nothing to save


def test_rows_of_a_fitted_mixture_are_draws_from_one_component_each():
    codes = torch.cat([torch.randn(200, 2) * 0.1 + centre for centre in (-5.0, 0.0, 5.0)])
    mixture = GaussianMixture(2, 3)
    mixture.fit(codes, seed=0)
    rows = mixture.rows(each=4).unflatten(0, (3, 4))
    assert (rows - mixture.means[:, None]).abs().max() < 1.0  # ten standard deviations
    assert sorted(rows.mean((1, 2)).round().tolist()) == [-5.0, 0.0, 5.0]
