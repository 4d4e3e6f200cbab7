"""Losses against closed forms, torch.distributions, Monte Carlo, brute force and, where at hand, real images.

Acceptance checks 1-4, 7 and 8 of the reference, the latter as far as the GAE paper's simple methods go.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from trainables import Config, find, fit
from trainables.datasets import load
from trainables.losses import (
    IMQ_SCALES,
    bce,
    fake,
    gaussian_log_prob,
    gaussian_nll,
    imq_kernel,
    kl_between_categoricals,
    kl_between_gaussians,
    kl_to_standard_normal,
    kl_to_standard_normal_per_dim,
    kl_to_uniform,
    mmd,
    rbf_kernel,
    real,
    reconstruction,
    squared_error,
    squared_norm,
)
from trainables.method import LOG_VAR_MAX, LOG_VAR_MIN, Gaussian, Loss, Method, Posterior
from trainables.testing import made_up


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gaussian(mean: Tensor, log_var: Tensor) -> Independent:
    return Independent(Normal(mean, (0.5 * log_var).exp()), 1)


# Check 1: the KL terms


def test_kl_agrees_with_torch_distributions():
    mean, log_var = torch.randn(2, 64, 8)  # (B, D) each
    prior = gaussian(torch.zeros(64, 8), torch.zeros(64, 8))
    wanted = kl_divergence(gaussian(mean, log_var), prior)  # (B,)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_var), wanted.mean())
    torch.testing.assert_close(kl_to_standard_normal_per_dim(mean, log_var).sum(1), wanted)


@pytest.mark.parametrize("case", range(3))
def test_kl_agrees_with_monte_carlo(case):
    torch.manual_seed(case)
    mean, log_var = torch.randn(1), torch.randn(1)  # of one latent
    z = mean + (0.5 * log_var).exp() * torch.randn(1_000_000)
    log_ratio = gaussian_log_prob(z[:, None], mean, log_var) - gaussian_log_prob(
        z[:, None], torch.zeros(1), torch.zeros(1)
    )
    error = log_ratio.std().item() / 1000
    assert kl_to_standard_normal(mean[None], log_var[None]).item() == pytest.approx(
        log_ratio.mean().item(), abs=5 * error + 1e-5
    )


def test_kl_is_zero_at_the_prior_and_positive_elsewhere():
    zero = torch.zeros(5, 3)
    assert kl_to_standard_normal(zero, zero) == 0
    assert (kl_to_standard_normal_per_dim(*torch.randn(2, 1000, 3)) > 0).all()


def test_kl_between_gaussians_agrees_with_torch_distributions_and_broadcasts():
    mean, log_var = torch.randn(2, 6, 1, 4)  # (B, 1, D)
    to_mean, to_log_var = torch.randn(2, 5, 4)  # (K, D)
    got = kl_between_gaussians(mean, log_var, to_mean, to_log_var)
    wanted = kl_divergence(
        gaussian(mean.expand(6, 5, 4), log_var.expand(6, 5, 4)),
        gaussian(to_mean.expand(6, 5, 4), to_log_var.expand(6, 5, 4)),
    )
    assert got.shape == (6, 5)
    torch.testing.assert_close(got, wanted)
    zero = torch.zeros(6, 1, 4)
    torch.testing.assert_close(
        kl_between_gaussians(mean, log_var, zero, zero)[:, 0],
        kl_to_standard_normal_per_dim(mean, log_var).sum((1, 2)),
    )


def test_gaussian_log_prob_agrees_with_torch_distributions():
    z, mean, log_var = torch.randn(3, 7, 4)
    torch.testing.assert_close(gaussian_log_prob(z, mean, log_var), gaussian(mean, log_var).log_prob(z))


def test_kl_of_categoricals():
    log_q, log_p = torch.randn(2, 9, 5).log_softmax(2)
    torch.testing.assert_close(
        kl_between_categoricals(log_q, log_p),
        kl_divergence(Categorical(logits=log_q), Categorical(logits=log_p)),
    )
    uniform = Categorical(logits=torch.zeros(9, 5))
    torch.testing.assert_close(kl_to_uniform(log_q), kl_divergence(Categorical(logits=log_q), uniform))
    assert kl_to_uniform(torch.zeros(1, 7).log_softmax(1)).item() == pytest.approx(0, abs=1e-6)
    sure = torch.tensor([[100.0, 0, 0, 0]]).log_softmax(1)
    assert kl_to_uniform(sure).item() == pytest.approx(math.log(4))


def test_a_posterior_guards_its_log_variance_and_says_how_often():
    head = torch.tensor([[1.0, 2.0, -100.0, 0.5], [3.0, 4.0, 100.0, LOG_VAR_MAX]])
    q = Gaussian.from_head(head)
    assert q.mean.tolist() == [[1, 2], [3, 4]]
    assert q.log_var.tolist() == [[LOG_VAR_MIN, 0.5], [LOG_VAR_MAX, LOG_VAR_MAX]]
    assert q.clamped.item() == pytest.approx(0.5)


def test_a_posterior_draws_from_itself():
    mean, log_var = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, -2.0]])
    z = Gaussian(mean.expand(100_000, 2), log_var.expand(100_000, 2)).draw()
    torch.testing.assert_close(z.mean(0, keepdim=True), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0, keepdim=True), log_var.exp(), atol=0, rtol=0.02)
    point = Posterior(mean)
    assert point.draw() is mean and point.kl_per_dim() is None
    assert Gaussian(mean, log_var).kl_per_dim().sum() == kl_to_standard_normal(mean, log_var)


# Check 2: reconstruction terms


def test_reconstruction_terms_are_sums_per_image_and_means_over_the_batch():
    logits, x = torch.randn(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    y = logits.double().sigmoid()
    by_hand = -(x * y.log() + (1 - x) * (1 - y).log()).sum((1, 2, 3)).mean()
    torch.testing.assert_close(bce(logits, x).double(), by_hand)
    assert reconstruction(logits, x, "bce") == bce(logits, x)
    by_hand = (y - x).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(squared_error(logits.sigmoid(), x).double(), by_hand)
    assert reconstruction(logits, x, "sse") == squared_error(logits.sigmoid(), x)


def test_the_gaussian_likelihood_is_that_of_unit_variance_up_to_its_constant():
    raw, pixels, points = torch.randn(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.randn(5, 2)
    for mean, x in ((raw.sigmoid(), pixels), (raw[:, 0, 0, :2], points)):  # points have no bounds and no sigmoid
        p = Independent(Normal(mean, 1.0), x.ndim - 1)
        constant = 0.5 * x[0].numel() * math.log(2 * math.pi)
        given = raw if x.ndim == 4 else mean
        torch.testing.assert_close(reconstruction(given, x, "gaussian"), -p.log_prob(x).mean() - constant)
    with pytest.raises(ValueError, match=r"'bce' needs pixels in .*, got points; set it to 'sse' or 'gaussian'"):
        reconstruction(points, points, "bce")


def test_bce_stays_finite_where_the_sigmoid_is_saturated():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = bce(logits, torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4) and logits.grad.tolist() == [[1.0, -1.0]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, of_mean, floor, sse",
    [("mnist", 206.0, 45.8, 52.9), ("fashion_mnist", 384.3, 188.3, 67.9)],
)
def test_the_mean_image_of_real_data_costs_what_the_reference_says(data_root, name, of_mean, floor, sse):
    """A collapsed model lands on these numbers: nats of BCE on the training set, SSE on the test set."""
    splits = load(name, data_root, download=False)
    training = [torch.from_numpy(split.images.copy()) for split in (splits.train, splits.valid)]
    n = sum(map(len, training))
    assert n == 60_000
    mean = sum(part.double().sum(0) for part in training) / n / 255  # (1, 28, 28)
    logits = mean.float().clamp(1e-6, 1 - 1e-6).logit()
    cost = entropy = 0.0
    for batch in itertools.chain.from_iterable(part.split(5000) for part in training):
        x = batch.float() / 255
        cost += bce(logits.expand_as(x), x).item() * len(x) / n
        entropy += bce(x.clamp(1e-6, 1 - 1e-6).logit(), x).item() * len(x) / n
    assert cost == pytest.approx(of_mean, abs=0.06)
    assert entropy == pytest.approx(floor, abs=0.06)
    x = torch.from_numpy(splits.test.images.copy()).float() / 255
    assert squared_error(mean.float().expand_as(x), x).item() == pytest.approx(sse, abs=0.06)


# Check 3: the Gaussian decoder


def test_gaussian_nll_agrees_with_torch_distributions():
    x, x_hat = torch.rand(2, 6, 10)
    variance = torch.tensor(0.3)
    wanted = -Independent(Normal(x_hat, variance.sqrt()), 1).log_prob(x).mean()
    torch.testing.assert_close(gaussian_nll(squared_error(x_hat, x), variance, 10), wanted)
    torch.testing.assert_close(gaussian_nll(squared_error(x_hat, x), 0.3, 10), wanted)


def test_gaussian_nll_is_least_where_the_variance_is_the_mse():
    pixels, mse = 50, 0.07
    variance = torch.tensor(mse, dtype=torch.float64, requires_grad=True)
    nll = gaussian_nll(torch.tensor(pixels * mse, dtype=torch.float64), variance, pixels)
    (slope,) = torch.autograd.grad(nll, variance)
    assert slope.item() == pytest.approx(0, abs=1e-9)
    assert nll.item() == pytest.approx(pixels / 2 * (1 + math.log(2 * math.pi * mse)))
    for other in (0.9 * mse, 1.1 * mse):
        assert gaussian_nll(torch.tensor(pixels * mse, dtype=torch.float64), other, pixels) > nll


# Check 4: MMD


def mmd_by_hand(z: Tensor, e: Tensor, kernel: str) -> float:
    n, dim = z.shape

    def k(a: Tensor, b: Tensor) -> float:
        d2 = (a - b).square().sum().item()
        if kernel == "rbf":
            return math.exp(-d2 / dim**2)
        return sum(2 * dim * s / (2 * dim * s + d2) for s in IMQ_SCALES)

    pairs = [(i, j) for i in range(n) for j in range(n)]
    within = [(i, j) for i, j in pairs if kernel == "rbf" or i != j]
    same = sum(k(z[i], z[j]) + k(e[i], e[j]) for i, j in within) / len(within)
    return same - 2 * sum(k(z[i], e[j]) for i, j in pairs) / n**2


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_agrees_with_a_double_loop(kernel):
    z, e = torch.randn(7, 3).double() + 0.5, torch.randn(7, 3).double()
    assert mmd(z, e, kernel).item() == pytest.approx(mmd_by_hand(z, e, kernel), abs=1e-12)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_tells_a_shifted_sample_from_the_prior(kernel):
    null = torch.stack([mmd(*torch.randn(2, 100, 8), kernel) for _ in range(200)])
    shifted = torch.stack([mmd(torch.randn(100, 8) + 1, torch.randn(100, 8), kernel) for _ in range(20)])
    if kernel == "imq":  # unbiased: 0 on average, sometimes below it
        assert abs(null.mean()) < 3 * null.std() / math.sqrt(200)
        assert null.min() < 0
    else:  # biased: never negative
        assert null.min() >= -1e-6
    assert shifted.min() > 10 * null.abs().mean()


def test_one_code_has_no_mmd_without_its_diagonal():
    with pytest.raises(ValueError, match="set batch_size to 2 or more"):
        mmd(torch.zeros(1, 8), torch.ones(1, 8))
    assert mmd(torch.zeros(1, 8), torch.ones(1, 8), "rbf").isfinite()


def test_mmd_is_bounded():
    for scale in (1e-3, 1.0, 1e3):
        assert -1 <= mmd(scale * torch.randn(50, 8), torch.randn(50, 8)) <= 14
    far_away = torch.full((50, 8), 1e3)
    assert 7 < mmd(far_away, torch.randn(50, 8)) < 14  # seven kernels agree that all codes are one


def test_mmd_of_equal_samples_and_its_symmetry():
    z, e = torch.randn(2, 20, 4)
    torch.testing.assert_close(mmd(z, e), mmd(e, z))
    assert mmd(z, z, "rbf").item() == pytest.approx(0, abs=1e-6)


def test_mmd_pulls_codes_towards_the_prior():
    z = (torch.randn(100, 4) + 2).requires_grad_()
    (gradient,) = torch.autograd.grad(mmd(z, torch.randn(100, 4)), z)
    assert gradient.isfinite().all() and (gradient.mean(0) > 0).all()


def test_kernels_at_distance_zero():
    zero = torch.zeros(())
    assert imq_kernel(zero, 5).item() == pytest.approx(7) and rbf_kernel(zero, 5).item() == 1


# Critics, norms


def test_a_critics_costs_are_cross_entropies():
    logits = torch.randn(9, 1)
    probability = logits.double().sigmoid()
    torch.testing.assert_close(real(logits).double(), -probability.log().mean())
    torch.testing.assert_close(fake(logits).double(), -(1 - probability).log().mean())
    assert real(torch.zeros(1)).item() == pytest.approx(math.log(2))
    assert fake(torch.tensor([1e4])).item() == pytest.approx(1e4)


def test_squared_norm_has_no_half():
    assert squared_norm(torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])).item() == 14


# Checks 7 and 8: methods that are one another at some weight, bit for bit

COMMON = {"latent_dim": 4, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_32_16"}
WEIGHTLESS = {
    "wae": {"weight": 0.0},
    "rae_l2": {"code_weight": 0.0, "decoder_weight": 0.0},
    "gae": {},
}
X = made_up((1, 8, 8), 8).float() / 255  # (B, C, H, W)


def built(name: str, likelihood: str = "bce", **own) -> Method:
    """A method at the initial weights that all methods of its networks share."""
    cls = find(name)
    torch.manual_seed(1)
    return cls(cls.Hyper(**COMMON, likelihood=likelihood, **own), (1, 8, 8))


def loss_and_gradients(method: Method, total=None) -> list[Tensor]:
    """The loss's total (or `total(loss)`) on X and its gradients, chance being the same for all."""
    torch.manual_seed(2)
    loss = method.loss(X)
    value = loss.total if total is None else total(loss)
    return [value, *torch.autograd.grad(value, list(method.parameters()))]


def assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("likelihood", ["bce", "sse"])
@pytest.mark.parametrize("name", WEIGHTLESS)
def test_without_its_penalty_a_method_is_the_plain_autoencoder(name, likelihood):
    method = built(name, likelihood, **WEIGHTLESS[name])
    plain = built("gae", likelihood)
    rec = reconstruction(plain.decoder(plain.encoder(X)), X, likelihood)
    by_hand = [rec, *torch.autograd.grad(rec, list(plain.parameters()))]
    assert_equal(loss_and_gradients(method), by_hand)


def trained(name: str, epochs: int, **own) -> list[Tensor]:
    config = Config(method=name, dataset="d", values=COMMON | {"likelihood": "bce"} | own, epochs=epochs)
    *_, last = fit(config, made_up((1, 8, 8), 40))
    return list(last.method.parameters())


def test_trained_without_penalties_rae_is_gae_and_wae_begins_like_it():
    assert_equal(trained("rae_l2", 3, **WEIGHTLESS["rae_l2"]), trained("gae", 3))
    assert_equal(trained("wae", 1, **WEIGHTLESS["wae"]), trained("gae", 1))  # its prior draws change later orders


def test_trained_at_beta_1_beta_vae_is_vae():
    assert_equal(trained("beta_vae", 3, beta=1.0), trained("vae", 3))


@pytest.mark.parametrize("likelihood", ["bce", "sse"])
@pytest.mark.parametrize(
    "name, own",
    [
        ("beta_vae", {"beta": 1.0}),
        ("info_vae", {"alpha": 0.0, "lambda_": 1.0}),
        ("info_vae", {"alpha": 0.0, "lambda_": 1.0, "kernel": "rbf"}),
    ],
)
def test_at_unit_weights_a_method_is_the_vae(name, own, likelihood):
    assert_equal(loss_and_gradients(built(name, likelihood, **own)), loss_and_gradients(built("vae", likelihood)))


def test_at_alpha_1_info_vae_does_not_depend_on_the_kl():
    method = built("info_vae", alpha=1.0, lambda_=7.0)

    def without(loss: Loss) -> Tensor:
        return loss.terms["reconstruction"] + 7.0 * loss.terms["mmd"]

    assert_equal(loss_and_gradients(method), loss_and_gradients(method, without))


TERMS = [
    ("vae", {}, lambda t: t["reconstruction"] + t["kl"]),
    ("beta_vae", {"beta": 3.0}, lambda t: t["reconstruction"] + 3 * t["kl"]),
    (
        "info_vae",
        {"alpha": 0.25, "lambda_": 5.0},
        lambda t: t["reconstruction"] + 0.75 * t["kl"] + 4.25 * t["mmd"],
    ),
    ("wae", {"weight": 9.0}, lambda t: t["reconstruction"] + 9 * t["mmd"]),
    (
        "rae_l2",
        {"code_weight": 0.5, "decoder_weight": 0.1},
        lambda t: t["reconstruction"] + 0.5 * t["code_norm"] + 0.1 * t["decoder_norm"],
    ),
    ("gae", {}, lambda t: t["reconstruction"]),
]


@pytest.mark.parametrize("name, own, total", TERMS, ids=[name for name, *_ in TERMS])
def test_a_loss_is_its_weighted_terms(name, own, total):
    loss = built(name, **own).loss(X)
    torch.testing.assert_close(loss.total, total(loss.terms))


@pytest.mark.parametrize("epoch, share", [(0.0, 0.0), (1.0, 0.25), (4.0, 1.0), (9.0, 1.0)])
def test_beta_warms_up_linearly(epoch, share):
    method = built("beta_vae", beta=3.0, warm_up=4.0)
    method.epoch.fill_(epoch)
    loss = method.loss(X)
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + 3 * share * loss.terms["kl"])


def test_the_terms_of_a_vae_are_those_of_its_posterior():
    method = built("vae")
    torch.manual_seed(2)
    loss = method.loss(X)
    q = method.encode(X)
    torch.manual_seed(2)
    z = q.mean + (0.5 * q.log_var).exp() * torch.randn(8, 4)
    torch.testing.assert_close(loss.terms["kl"], kl_to_standard_normal(q.mean, q.log_var))
    torch.testing.assert_close(loss.terms["reconstruction"], bce(method.decoder(z), X))


def test_rae_penalises_kernels_not_biases():
    method = built("rae_l2", code_weight=1.0, decoder_weight=1.0)
    kernels = sum(m.weight.square().sum() for m in method.decoder if hasattr(m, "weight"))
    codes = method.encoder(X).square().sum(1).mean()
    terms = method.loss(X).terms
    torch.testing.assert_close(terms["decoder_norm"], kernels)
    torch.testing.assert_close(terms["code_norm"], codes)


def test_rae_of_the_released_code_penalises_no_dense_kernel():
    cls = find("rae_l2")
    values = COMMON | {"network": "conv_rae_2", "likelihood": "sse", "code_weight": 0.0, "decoder_weight": 1.0}
    method = cls(cls.Hyper(**values, penalised="convolutions"), (1, 8, 8))
    kernels = [p for p in method.decoder.parameters() if p.ndim == 4]
    assert len(kernels) == 1 + sum(isinstance(m, nn.ConvTranspose2d) for m in method.decoder)
    torch.testing.assert_close(method.loss(X).terms["decoder_norm"], sum(p.square().sum() for p in kernels))


def test_gae_records_the_epochs_above_delta_by_both_readings():
    method = built("gae", delta=0.1)
    pixels = 64
    for per_pixel, mse in [(0.5, 0.04), (0.05, 0.04), (0.05, 0.0025)]:
        found = method.after_epoch({"reconstruction": per_pixel * pixels, "sse": mse * pixels})
    assert found == {"epochs_above_delta_loss": 1.0, "epochs_above_delta_rmse": 2.0}


def test_info_vae_refuses_to_push_codes_away_from_the_prior():
    values = COMMON | {"likelihood": "bce", "alpha": 0.0, "lambda_": 1e-3}
    config = Config(method="info_vae", dataset="d", values=values, epochs=1)
    with pytest.raises(ValueError, match=r"^info_vae: alpha \+ lambda_ must be at least 1, got 0\.001.*lambda_$"):
        config.hyper  # noqa: B018
