"""Gaussian decoders: the variance by its three rules, and Regularization's theory (checks 3, 5, 8, 11 and 12)."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from trainables.families.gaussian import FLOOR, DecoderVariance, halving
from trainables.losses import gaussian_nll
from trainables.method import Gaussian
from trainables.methods.gaussian_vae import GaussianVAE
from trainables.metrics.latent import variance_law
from trainables.testing import Subject, made_up
from trainables.training import Training

SHAPE = (1, 8, 8)
VALUES = {"latent_dim": 4, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "gamma_rule": "learned"}


def vae(shape=SHAPE, **changed) -> GaussianVAE:
    torch.manual_seed(0)
    return GaussianVAE(GaussianVAE.Hyper(**{**VALUES, **changed}), shape)


def images(n: int = 6) -> torch.Tensor:
    return made_up(SHAPE, n).float() / 255


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_the_loss_is_the_bound_by_torch_distributions(output):
    method, x = vae(gamma=0.3, kl_weight=1.7, output=output).double(), images().double()
    torch.manual_seed(1)
    loss = method.loss(x)
    torch.manual_seed(1)
    q = method.encode(x)
    decoded = method.decoder(q.draw())
    p = Normal(decoded.sigmoid() if output == "sigmoid" else decoded, math.sqrt(0.3))
    posterior = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    kl = kl_divergence(posterior, Independent(Normal(torch.zeros_like(q.mean), 1.0), 1)).mean()
    expected = -p.log_prob(x).flatten(1).sum(1).mean() + 1.7 * kl
    torch.testing.assert_close(loss.total, expected, rtol=1e-6, atol=0)


def test_gamma_1_is_half_the_squared_error_and_the_kl():
    """Check 8: up to the constant of a Gaussian of variance 1."""
    loss = vae(gamma_rule="fixed").double().loss(images().double())
    constant = 32 * math.log(2 * math.pi)
    torch.testing.assert_close(loss.total, 0.5 * loss.terms["reconstruction"] + loss.terms["kl"] + constant)


def test_the_optimal_gamma_is_the_mse():
    """Check 3: no gradient at the mse, where the value is P/2 (1 + log 2 pi mse)."""
    variance = DecoderVariance(64, "learned", start=0.02).double()
    at_optimum = variance.nll(torch.tensor(64 * 0.02).double())
    (gradient,) = torch.autograd.grad(at_optimum, variance.log_sd)
    assert abs(gradient) < 1e-5
    assert at_optimum.item() == pytest.approx(32 * (1 + math.log(2 * math.pi * 0.02)), rel=1e-6)
    (gradient,) = torch.autograd.grad(variance.nll(torch.tensor(64 * 0.01).double()), variance.log_sd)
    assert gradient > 1  # gamma is too large for a smaller error


def test_a_learned_gamma_arrives_at_the_mse():
    run = Training(Subject("gaussian_vae", VALUES | {"gamma_rate": 20.0}).config(epochs=15), made_up(SHAPE, 80))
    while not run.finished:
        terms = run.run_epoch()
    assert terms["gamma"] == pytest.approx(terms["reconstruction"] / 64, rel=0.25)


def test_the_sequence_of_a_computed_gamma():
    """Check 5: it never rises, and an error that is not a number leaves it alone."""
    variance = DecoderVariance(10, "computed")
    seen = []
    for mse in (1.0, 0.5, 0.9, 0.1, math.nan, math.inf, 5.0):
        variance.follow(torch.tensor(10 * mse))
        seen.append(variance.value.item())
    assert seen[:4] == pytest.approx([1.0, 0.995, 0.99405, 0.98510950], rel=1e-6)
    assert seen[4:] == [seen[3]] * 3


def test_a_computed_gamma_without_its_ratchet_rises_again():
    variance = DecoderVariance(10, "computed", start=0.1, decay=0.9, ratchet=False)
    for mse in (1.0, math.nan, math.inf):
        variance.follow(torch.tensor(10 * mse))
    assert variance.value.item() == pytest.approx(0.19)


def test_no_gradient_goes_through_a_computed_gamma():
    method, x = vae(gamma_rule="computed", gamma=0.5), images()
    parameters = list(method.parameters())
    torch.manual_seed(0)
    computed = torch.autograd.grad(method.loss(x).total, parameters)
    fixed = vae(gamma_rule="fixed", gamma=0.5)
    fixed.load_state_dict(method.state_dict())
    torch.manual_seed(0)
    for mine, others in zip(computed, torch.autograd.grad(fixed.loss(x).total, list(fixed.parameters())), strict=True):
        assert torch.equal(mine, others)


def test_a_computed_gamma_sees_every_step_and_is_in_the_state():
    run = Training(Subject("gaussian_vae", VALUES | {"gamma_rule": "computed"}).config(), made_up(SHAPE, 19))
    expected, follow = 1.0, run.method.variance.follow

    def watched(sse):
        nonlocal expected
        expected = min(expected, 0.99 * expected + 0.01 * sse.item() / 64)
        follow(sse)

    run.method.variance.follow = watched
    run.run_epoch()
    assert expected < 1
    assert run.method.state_dict()["variance.running"].item() == pytest.approx(expected, rel=1e-5)


def test_gamma_has_a_floor():
    assert DecoderVariance(4, "learned", start=1e-12).value.item() == pytest.approx(FLOOR)
    assert DecoderVariance(4, "fixed", start=1e-12).value.item() == pytest.approx(FLOOR)


def test_halving():
    schedule = halving(0.4, 120)  # the papers' 48 of 120 epochs
    assert [schedule(epoch) for epoch in (0, 47, 48, 96, 119)] == [1, 1, 0.5, 0.25, 0.25]
    assert halving(0.0, 10) is None


def test_a_linear_output_is_cut_for_evaluation_only():
    method = vae(output="linear")
    nn.init.constant_(method.decoder[-2].bias, 3.0)
    z = torch.randn(2, 4)
    assert (method.mean_of(z) > 1).all() and torch.equal(method.decode(z), torch.ones(2, *SHAPE))


# Theory: an affine VAE on data of rank r (Regularization, Theorems 1 and 2)


class Affine(nn.Module):
    """Mean A x + a and a log-variance that is the same for all x: the optimal encoder of an affine decoder."""

    def __init__(self, pixels: int, latent: int):
        super().__init__()
        self.mean, self.log_var = nn.Linear(pixels, latent), nn.Parameter(torch.zeros(latent))

    def forward(self, x):
        return torch.cat([self.mean(x), self.log_var.expand(len(x), -1)], 1)


def affine_vae(gamma: float, pixels: int = 12, latent: int = 10) -> GaussianVAE:
    method = vae((pixels,), latent_dim=latent, gamma_rule="fixed", gamma=gamma, output="linear")
    method.encoder, method.decoder = Affine(pixels, latent), nn.Linear(latent, pixels)
    return method.double()


def rank_3(n: int = 40, pixels: int = 12) -> torch.Tensor:
    chance = torch.Generator().manual_seed(3)
    return torch.randn(n, 3, generator=chance).double() @ torch.randn(3, pixels, generator=chance).double()


def exact_bound(method: GaussianVAE, x: torch.Tensor) -> torch.Tensor:
    """The loss with its expectation over z in closed form: E|x - Wz - b|^2 = |x - W mu - b|^2 + sum_j s_j |w_j|^2."""
    q = method.encode(x)
    spread = (method.decoder.weight.square().sum(0) * q.log_var.exp()).sum(1)  # (N,)
    sse = ((method.decoder(q.mean) - x).square().sum(1) + spread).mean()
    kl = 0.5 * (q.mean.square() + q.log_var.exp() - q.log_var - 1).sum(1).mean()
    return gaussian_nll(sse, method.variance.value, x.shape[1]) + kl


@pytest.mark.slow
def test_theorem_1_an_affine_vae_keeps_the_rank_of_the_data():
    """Check 11: rank 3, kappa 10, gamma down to 1e-4: 3 latents with sigma^2 near 0, 7 with sigma^2 = 1."""
    x = rank_3()
    method = affine_vae(1.0)
    for gamma in (1.0, 1e-2, 1e-4):  # annealed, as a learned gamma is
        method.variance.running.fill_(gamma)
        optimiser = torch.optim.LBFGS(
            [*method.encoder.parameters(), *method.decoder.parameters()], max_iter=1000, line_search_fn="strong_wolfe"
        )

        def closure(optimiser=optimiser):
            optimiser.zero_grad()
            bound = exact_bound(method, x)
            bound.backward()
            return bound

        optimiser.step(closure)
    q = method.encode(x)
    variances = q.log_var[0].exp().sort().values
    assert (variances[:3] < 0.01).all() and (variances[3:] > 0.99).all()
    assert int((q.mean.var(0, correction=0) > 0.01).sum()) == 3
    assert (method.decoder(q.mean) - x).square().mean() < 1e-3


def test_theorem_2_an_unused_latent_stays_unused(monkeypatch):
    """Check 11: zero columns of the decoder and zero rows of the encoder are a point where no gradient is left.

    The theorem is about the expectation over z; each noise is met by its mirror image in the unused latent, which
    cancels all that chance adds.
    """
    method, x, dead = vae().double(), images().double(), 2
    first, last = method.decoder[0], method.encoder[-1]
    with torch.no_grad():
        first.weight[:, dead] = 0
        for row in (dead, 4 + dead):  # of the mean and of the log-variance, whose bias 0 is sigma = 1
            last.weight[row], last.bias[row] = 0, 0
    noise = torch.randn(6, 4).double()
    mirrored = noise.clone()
    mirrored[:, dead] *= -1
    both = torch.cat([noise, mirrored])
    monkeypatch.setattr(Gaussian, "draw", lambda q: q.mean + (0.5 * q.log_var).exp() * both)
    loss = method.loss(torch.cat([x, x])).total
    column, row, bias = torch.autograd.grad(loss, [first.weight, last.weight, last.bias])
    assert column[:, dead].abs().max() < 1e-15
    assert not row[[dead, 4 + dead]].any() and not bias[[dead, 4 + dead]].any()
    assert column[:, 0].abs().max() > 1e-6 and row[0].any()


def test_variance_law_of_an_exact_linear_gaussian_vae():
    """Check 12: with the posterior known, Var_x mu_j + E sigma_j^2 is 1 within 1 %."""
    chance = torch.Generator().manual_seed(5)
    loading, gamma = torch.randn(20, 4, generator=chance).double(), 0.3
    z = torch.randn(100_000, 4, generator=chance).double()
    x = z @ loading.T + math.sqrt(gamma) * torch.randn(100_000, 20, generator=chance).double()
    covariance = torch.linalg.inv(torch.eye(4).double() + loading.T @ loading / gamma)
    mean = x @ loading @ covariance / gamma
    log_var = covariance.diagonal().log().expand_as(mean)
    assert variance_law(mean, log_var).text == pytest.approx(1, rel=0.01)
    assert Gaussian(mean, log_var).draw().var(0).mean().item() == pytest.approx(1, rel=0.01)
