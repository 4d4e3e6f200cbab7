"""The KL to a method's own prior, and the weight that its loss gives it, as the method declares them."""

import pytest
import torch
from test_contract import arguments
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from trainables import Evaluator, find, names
from trainables.datasets import load
from trainables.densities import LearnedMixture
from trainables.losses import kl_to_standard_normal
from trainables.method import Method
from trainables.testing import made_up

SHAPE = (1, 8, 8)
WITH_A_KL = (
    "vae",
    "beta_vae",
    "info_vae",
    "gmvae",
    "vade",
    "vamp_vae",
    "gaussian_vae",
    "two_stage_vae",
    "ae_vae",
    "geco",
)
WEIGHTS = {"beta": 3.0, "beta_h": 3.0, "beta_w": 3.0, "kl_weight": 3.0, "alpha": 0.25, "warm_up": 0.0}


def built(name: str, **values) -> Method:
    cls = find(name)
    torch.manual_seed(0)
    given = arguments(name)["values"]
    known = {key: value for key, value in WEIGHTS.items() if key in cls.Hyper.model_fields}
    return cls(cls.Hyper(**(given | known | values)), SHAPE).double()


@pytest.fixture
def x() -> torch.Tensor:
    return made_up(SHAPE, 16).double() / 255


def weight_of_the_kl(method: Method, x: torch.Tensor) -> float:
    """By differentiating the loss with respect to its own terms: beta of SSE/2 + beta KL."""
    torch.manual_seed(1)
    loss = method.loss(x)
    kl = loss.terms["kl_h"] if "kl_h" in loss.terms else loss.terms["kl"]
    of_rec, of_kl = torch.autograd.grad(loss.total, [loss.terms["reconstruction"], kl])
    halves = 1.0 if getattr(method.hyper, "likelihood", "") == "gaussian" else 2.0  # what the term is in SSE/2
    return (of_kl / (halves * of_rec)).item()


@pytest.mark.parametrize("name", WITH_A_KL)
@pytest.mark.parametrize("likelihood", ["sse", "gaussian", "bce"])
def test_the_declared_beta_is_the_one_in_the_loss(name, likelihood, x):
    has = "likelihood" in find(name).Hyper.model_fields
    if not has and likelihood != "sse":
        pytest.skip("its likelihood is fixed")
    method = built(name, **({"likelihood": likelihood} if has else {}))
    declared = method.beta_equiv()
    if likelihood == "bce":
        assert declared is None
    else:
        assert declared == pytest.approx(weight_of_the_kl(method, x), rel=1e-6)


@pytest.mark.parametrize("name", sorted(set(names()) - {*WITH_A_KL, "vae_plus"}))  # which is ae_vae and a stage more
def test_no_beta_is_declared_where_the_loss_has_no_kl_beside_a_squared_error(name):
    values = {"likelihood": "sse"} if "likelihood" in find(name).Hyper.model_fields else {}
    assert built(name, **values).beta_equiv() is None


def test_a_method_that_declares_no_beta_is_given_none(x):
    class Stranger(find("beta_vae")):
        beta_equiv = Method.beta_equiv

    values = arguments("beta_vae")["values"] | {"likelihood": "sse", "beta": 7.0}
    evaluator = Evaluator(load("digits", "unused"), samples=50, scores=())
    shown = evaluator(Stranger(Stranger.Hyper(**values), SHAPE), evaluator.images[:50]).metrics
    assert "valid/beta_equiv" not in shown and "valid/kl" in shown


def rate(method: Method, x: torch.Tensor) -> torch.Tensor:
    q = method.encode(x)
    torch.manual_seed(2)
    return method.rate(x, q, q.draw())


def test_the_rate_of_a_standard_normal_prior_is_its_closed_form(x):
    vae = built("vae")
    q = vae.encode(x)
    torch.testing.assert_close(rate(vae, x).mean(), kl_to_standard_normal(q.mean, q.log_var))


def test_the_rate_of_vade_is_that_of_its_mixture(x):
    vade = built("vade", components=3)
    mixture = vade.prior
    with torch.no_grad():
        mixture.means.mul_(3)
        mixture.raw_log_vars.copy_(torch.linspace(-1, 1, mixture.raw_log_vars.numel()).view_as(mixture.means))
    q = vade.encode(x)
    torch.manual_seed(2)
    z = q.draw()
    parts = Independent(Normal(mixture.means, (0.5 * mixture.raw_log_vars).exp()), 1)
    prior = MixtureSameFamily(Categorical(logits=mixture.logits), parts)
    posterior = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    torch.testing.assert_close(rate(vade, x), posterior.log_prob(z) - prior.log_prob(z))


def test_the_rate_of_vampprior_is_the_kl_of_its_loss(x):
    method = built("vamp_vae")
    found = rate(method, x).mean()
    torch.manual_seed(2)  # the same draw
    torch.testing.assert_close(found, method.loss(x).terms["kl"])


def test_the_rate_of_gmvae_is_to_its_own_component(x):
    method = built("gmvae", components=1, w_dim=0)  # one component that stays where it is
    means, log_vars = method.prior.conditionals(torch.zeros(1, 0).double())
    prior = Independent(Normal(means[:, 0], (0.5 * log_vars[:, 0]).exp()), 1)
    q = method.encode(x)
    posterior = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    torch.testing.assert_close(rate(method, x), kl_divergence(posterior, prior.expand((16,))))


def test_a_deterministic_encoder_has_no_rate(x):
    assert rate(built("gae"), x) is None


def test_kl_and_mmd_are_held_against_the_own_prior():
    digits = load("digits", "unused")
    evaluator, method = Evaluator(digits, samples=50, scores=()), built("vae").float()
    with torch.no_grad():  # q(z|x) = N((5, ..., 5), I) for every image
        for parameter in method.encoder[-1].parameters():
            parameter.zero_()
        method.encoder[-1].bias[:4] = 5
    images = torch.tensor(digits.train.images[:50])
    far = evaluator(method, images, final=True).metrics
    assert far["valid/kl"] == pytest.approx(4 * 25 / 2) and far["valid/mmd_imq"] > 10 * far["valid/mmd_imq_floor"]
    mixture = LearnedMixture(4, 2)
    with torch.no_grad():
        mixture.means.fill_(5)
    method.densities["prior"] = mixture
    own = evaluator(method, images, final=True).metrics
    assert own["valid/kl"] == pytest.approx(0, abs=1e-4)
    assert abs(own["valid/mmd_imq"]) < 4 * own["valid/mmd_imq_floor"]
