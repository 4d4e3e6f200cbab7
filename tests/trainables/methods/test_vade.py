"""VaDE: its bound, its mixture, and what pretraining hands over."""

import math
from unittest.mock import patch

import pytest
import torch
from sklearn.mixture import GaussianMixture as ScikitMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from trainables.config import Config
from trainables.densities import LearnedMixture, component_usage
from trainables.methods.vade import VaDE
from trainables.methods.vae import VAE
from trainables.testing import made_up
from trainables.training import Diverged, Training

SMALL = {"latent_dim": 3, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "likelihood": "bce"}
VALUES = {**SMALL, "beta": 1.0, "pretrain": 2, "components": 4}
SHAPE = (1, 8, 8)


def vade(**changed) -> VaDE:
    torch.manual_seed(0)
    return VaDE(VaDE.Hyper(**{**VALUES, **changed}), SHAPE).double()


def spread_out(mixture: LearnedMixture) -> None:
    """Gives every parameter of a mixture a value of its own."""
    with torch.no_grad():
        mixture.logits.copy_(torch.linspace(-1, 1, mixture.components))
        mixture.raw_log_vars.copy_(torch.linspace(-1, 1, mixture.raw_log_vars.numel()).view_as(mixture.means))


def as_distribution(mixture: LearnedMixture) -> MixtureSameFamily:
    parts = Independent(Normal(mixture.means, (0.5 * mixture.raw_log_vars).exp()), 1)
    return MixtureSameFamily(Categorical(logits=mixture.logits), parts)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def loss_of(method, x, seed=2):
    torch.manual_seed(seed)
    return method.loss(x)


def training(epochs: int, **changed) -> Training:
    config = Config(method="vade", dataset="made-up", values={**VALUES, **changed}, epochs=epochs)
    return Training(config, made_up(SHAPE, 35))


def test_one_standard_component_is_the_vae(x):
    one = vade(components=1)
    with torch.no_grad():
        one.mixture.means.zero_()
    vae = VAE(VAE.Hyper(**SMALL), SHAPE).double()
    vae.encoder.load_state_dict(one.encoder.state_dict())
    vae.decoder.load_state_dict(one.decoder.state_dict())
    torch.testing.assert_close(loss_of(one, x).total, loss_of(vae, x).total, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss_of(one, x).terms["kl"], loss_of(vae, x).terms["kl"], rtol=1e-12, atol=0)


def test_kl_agrees_with_torch_distributions(x):
    method = vade()
    spread_out(method.mixture)
    prior = as_distribution(method.mixture)
    torch.manual_seed(2)
    q = method.encode(x)
    z = q.draw()
    parts = prior.component_distribution
    r = Categorical(logits=prior.mixture_distribution.logits + parts.log_prob(z[:, None]) - prior.log_prob(z)[:, None])
    posterior = Independent(Normal(q.mean[:, None], (0.5 * q.log_var[:, None]).exp()), 1)
    kl_c = kl_divergence(r, prior.mixture_distribution)
    kl = (r.probs * kl_divergence(posterior, parts)).sum(1) + kl_c
    terms = loss_of(method, x).terms
    torch.testing.assert_close(terms["kl"], kl.mean())
    torch.testing.assert_close(terms["kl_c"], kl_c.mean())


def test_loss_is_the_published_sum(x):
    """The bound as the paper writes it out term by term (without the constants that cancel)."""
    method = vade()
    spread_out(method.mixture)
    pi = method.mixture.logits.softmax(0)
    m, v = method.mixture.means, method.mixture.raw_log_vars.exp()
    torch.manual_seed(2)
    q = method.encode(x)
    z = q.draw()
    sigma2 = q.log_var.exp()
    joint = pi * (-0.5 * ((z[:, None] - m) ** 2 / v + (2 * math.pi * v).log()).sum(2)).exp()
    r = joint / joint.sum(1, keepdim=True)
    y = method.decode(z)
    bce = -(x * y.log() + (1 - x) * (1 - y).log()).flatten(1).sum(1)
    fit = 0.5 * (r * (v.log() + sigma2[:, None] / v + (q.mean[:, None] - m) ** 2 / v).sum(2)).sum(1)
    total = bce + fit - 0.5 * (1 + q.log_var).sum(1) - (r * pi.log()).sum(1) + (r * r.log()).sum(1)
    torch.testing.assert_close(loss_of(method, x).total, total.mean())


def test_warm_up_and_weight(x):
    method = vade(beta=3.0, warm_up=4)
    for epoch, weight in ((0.0, 0.0), (1.0, 0.75), (4.0, 3.0), (9.0, 3.0)):
        method.epoch.fill_(epoch)
        loss = loss_of(method, x)
        torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + weight * loss.terms["kl"])


# The mixture


def test_density_agrees_with_torch_distributions():
    torch.manual_seed(0)
    mixture = LearnedMixture(2, 3).double()
    spread_out(mixture)
    z = 2 * torch.randn(50, 2).double()
    prior = as_distribution(mixture)
    torch.testing.assert_close(mixture.log_prob(z), prior.log_prob(z))
    drawn = mixture.sample(200_000)
    torch.testing.assert_close(drawn.mean(0), prior.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(0), prior.variance, atol=0.05, rtol=0.02)


def test_components_are_drawn_by_number():
    mixture = LearnedMixture(2, 3)
    with torch.no_grad():
        mixture.means.copy_(torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]]))
    rows = mixture.rows(each=4)
    nearest = torch.cdist(rows, mixture.means).argmin(1)
    assert nearest.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(LearnedMixture(2, 40).rows(each=4, most=16)) == 64


@pytest.mark.parametrize("extreme", [-80.0, 80.0])
def test_no_variance_leaves_its_bounds(x, extreme):
    method = vade()
    with torch.no_grad():
        method.mixture.raw_log_vars.fill_(extreme)
    assert method.mixture.log_vars.min() >= -10
    assert method.mixture.log_vars.max() <= 6
    assert loss_of(method, x).total.isfinite()


def test_gradients_survive_a_component_that_takes_all(x):
    """Responsibilities that underflow to 0 are where q log q turns NaN."""
    method = vade().float()
    with torch.no_grad():
        method.mixture.means[1:] += 1e4
    loss = loss_of(method, x.float())
    gradients = torch.autograd.grad(loss.total, list(method.parameters()))
    assert all(g.isfinite().all() for g in gradients)


def test_start_from_finds_the_clusters():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    spread = torch.tensor([[1.0, 0.1], [0.3, 0.3], [0.5, 2.0]])
    torch.manual_seed(0)
    which = torch.tensor([0] * 1000 + [1] * 600 + [2] * 400)
    mixture = LearnedMixture(2, 3)
    mixture.start_from(centres[which] + spread[which] * torch.randn(2000, 2), seed=0)
    order = torch.cdist(centres, mixture.means).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2]
    torch.testing.assert_close(mixture.means[order], centres, atol=0.3, rtol=0)
    torch.testing.assert_close((0.5 * mixture.log_vars[order]).exp(), spread, atol=0.03, rtol=0.1)
    torch.testing.assert_close(mixture.log_weights.exp()[order], torch.tensor([0.5, 0.3, 0.2]), atol=0.01, rtol=0)


def test_fewer_codes_than_components():
    mixture = LearnedMixture(2, 5)
    mixture.start_from(torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]), seed=0)
    assert all(p.isfinite().all() for p in mixture.parameters())


def test_usage_of_components():
    assert component_usage(torch.eye(4)) == pytest.approx(
        {"usage_entropy": math.log(4), "effective_components": 4, "assignment_entropy": 0}
    )
    assert component_usage(torch.eye(4)[[1, 1, 1]]) == pytest.approx(
        {"usage_entropy": 0, "effective_components": 1, "assignment_entropy": 0}
    )
    alike = component_usage(torch.full((3, 4), 0.25))
    assert alike["assignment_entropy"] == pytest.approx(math.log(4)), "nobody belongs anywhere"


# Stages


@pytest.mark.parametrize(
    "epochs, pretrain, spent",
    [
        (30, 30, [15, 15]),
        (30, 10, [10, 20]),
        (30, 2.6, [3, 27]),
        (30, 0, [30]),
        (5, 30, [2, 3]),
        (2, 30, [1, 1]),
        (1, 30, [1]),
    ],
)
def test_pretraining_takes_half_of_the_budget_at_most(epochs, pretrain, spent):
    stages = vade(pretrain=pretrain).stages(epochs)
    assert [stage.epochs for stage in stages] == spent
    assert [stage.judged for stage in stages] == [False, True][-len(spent) :]
    assert (stages[-1].prepare is not None) == (len(spent) == 2), "EM follows pretraining and nothing else"


def test_pretraining_is_plain_autoencoding_and_leaves_prior_and_variance_alone():
    run = training(4)
    method = run.method
    mixture = {name: p.clone() for name, p in method.mixture.state_dict().items()}
    head = method.encoder[-1].weight.clone()
    terms = run.run_epoch()
    assert terms["loss"] == terms["reconstruction"]
    assert all(torch.equal(p, mixture[name]) for name, p in method.mixture.state_dict().items())
    assert torch.equal(method.encoder[-1].weight[3:], head[3:]), "the log-variance starts fresh"
    assert not torch.equal(method.encoder[-1].weight[:3], head[:3])


def test_the_mixture_starts_as_em_of_the_pretrained_codes():
    seen = {}

    def spy(method, images):
        find(method, images)
        seen["codes"] = method.codes(images)
        seen["mixture"] = {name: p.detach().clone() for name, p in method.mixture.named_parameters()}

    find = VaDE.find_clusters
    with patch.object(VaDE, "find_clusters", spy):
        run = training(4)
        while not run.finished:
            run.run_epoch()
    codes = seen["codes"].double().numpy()
    start = LearnedMixture(3, 4)
    start.load_state_dict(seen["mixture"])
    ours = start.log_prob(seen["codes"]).mean().item()
    best = max(
        ScikitMixture(4, covariance_type="diag", init_params="k-means++", random_state=seed).fit(codes).score(codes)
        for seed in range(5)
    )
    one = ScikitMixture(1, covariance_type="diag").fit(codes).score(codes)
    assert one < ours <= best + 1.0
    assert ours > best - 0.25 * (best - one), "close to the best of five fits"


def test_network_and_mixture_step_at_rates_of_their_own():
    """Adam's first step has the length of the rate, whatever the gradient."""
    run = training(1, mixture_rate=0.1, learning_rate=1e-2)
    run.images = run.images[:8]  # one batch
    before = {name: p.clone() for name, p in run.method.state_dict().items()}
    run.run_epoch()
    moved = {name: (p - before[name]).abs().max().item() for name, p in run.method.state_dict().items()}
    assert moved["densities.prior.means"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["encoder.1.weight"] == pytest.approx(1e-2, rel=1e-3)


def test_codes_that_em_cannot_take_are_a_divergence():
    run = training(4)
    while run.stage_epoch < run.stage.epochs:
        run.run_epoch()
    with torch.no_grad():
        run.method.encoder[-1].bias.fill_(math.nan)
    with pytest.raises(Diverged, match="stage cluster, epoch 2, prepare: codes are not finite"):
        run.run_epoch()
