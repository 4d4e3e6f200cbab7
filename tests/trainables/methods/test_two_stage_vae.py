"""Two-stage VAE: what each stage moves, what the second learns from, the normalisation, and the three penalties."""

import math
import tomllib
from importlib.resources import files

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from trainables.families.gaussian import DecoderVariance
from trainables.families.second_stage import LatentVAE, Rescaled, drawn, law_of
from trainables.method import Gaussian
from trainables.testing import Subject, made_up, moves
from trainables.training import Training

VALUES = {
    "latent_dim": 4, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "gamma_rule": "computed",
    "second_width": 16, "second_share": 0.5, "noise": False,
}  # fmt: skip


def training(epochs: int = 4, **changed) -> Training:
    config = Subject("two_stage_vae", VALUES | changed).config(epochs=epochs)
    return Training(config, made_up((1, 8, 8), 40))


def after(epochs: int, **changed) -> Training:
    run = training(**changed)
    for _ in range(epochs):
        run.run_epoch()
    return run


def test_the_second_loss_is_the_bound_by_torch_distributions():
    torch.manual_seed(0)
    second = LatentVAE(3, 16, DecoderVariance(3, "fixed", 0.2), kl_weight=1.3).double()
    z = torch.randn(6, 3).double()
    torch.manual_seed(1)
    loss = second.loss(z)
    torch.manual_seed(1)
    q = Gaussian.from_head(second.encoder(z))
    p = Normal(second.decoder(q.draw()), math.sqrt(0.2))
    posterior = Independent(Normal(q.mean, (0.5 * q.log_var).exp()), 1)
    kl = kl_divergence(posterior, Independent(Normal(torch.zeros(6, 3).double(), 1.0), 1)).mean()
    torch.testing.assert_close(loss.total, -p.log_prob(z).sum(1).mean() + 1.3 * kl, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rule", ["learned", "computed"])
def test_each_stage_moves_its_own(rule):
    for move in moves(Subject("two_stage_vae", VALUES | {"gamma_rule": rule})):
        first = [name for name in move.own if not name.startswith("densities.second.")]
        assert bool(first) is (move.stage.name == "first")
        assert all(name.startswith("densities.second.") for name in move.own) is (move.stage.name == "second")
    run = after(2, gamma_rule=rule)
    before = {n: v.clone() for n, v in run.method.state_dict().items() if not n.startswith(("densities", "epoch"))}
    run.run_epoch()
    assert run.stage.name == "second"
    for name, value in before.items():
        assert torch.equal(run.method.state_dict()[name], value), f"{name} moved in the second stage"


def test_gammas_of_both_stages_are_computed_and_kept():
    run = after(4)
    state = run.method.state_dict()
    assert 0 < state["variance.running"] < 1 and 0 < state["densities.second.variance.running"] < 1
    assert state["variance.running"] != state["densities.second.variance.running"]


def test_latents_are_drawn_anew_from_stored_posteriors():
    run = after(3)
    stored = run.inputs
    q = run.method.encode(run.images.float() / 255)
    torch.testing.assert_close(stored, torch.stack([q.mean, q.log_var], 1))
    first, again = drawn(stored), drawn(stored)
    assert not torch.equal(first, again)
    sigma = (0.5 * q.log_var).exp()
    assert ((first - q.mean) / sigma).std().item() == pytest.approx(1, abs=0.15)


def test_the_law_is_what_the_evaluation_calls_so():
    from trainables.metrics.latent import variance_law

    moments = torch.randn(50, 2, 4).double()
    assert law_of(moments).item() == pytest.approx(variance_law(moments[:, 0], moments[:, 1]).text)


def test_normalised_latents_have_the_variance_of_the_law():
    rescaled = Rescaled(lambda n: 0.8 * torch.randn(n, 4))
    rescaled.law.fill_(1.21)
    torch.manual_seed(0)
    rescaled.fit(torch.zeros(1, 4), seed=0)
    assert rescaled.scale.item() == pytest.approx(1.1 / 0.8, rel=0.02)
    assert rescaled.sample(20_000).std(0).mean().item() == pytest.approx(1.1, rel=0.03)
    by_hand = Rescaled(lambda n: torch.ones(n, 4), scale=1.2)
    by_hand.fit(torch.zeros(1, 4), seed=0)
    assert torch.equal(by_hand.sample(2), torch.full((2, 4), 1.2))


def test_noise_of_the_second_decoder():
    torch.manual_seed(0)
    still, noisy = (LatentVAE(3, 8, DecoderVariance(3, "fixed", 4.0), noise) for noise in (False, True))
    noisy.load_state_dict(still.state_dict())
    for stage in (still, noisy):
        for parameter in stage.parameters():
            torch.nn.init.zeros_(parameter)
    assert not still.sample(5000).any()
    assert noisy.sample(5000).std().item() == pytest.approx(2.0, rel=0.05)


@pytest.mark.slow
def test_it_can_be_fitted_to_the_codes_of_any_encoder(monkeypatch):
    """A ring, which neither a Gaussian nor its own prior resembles."""
    monkeypatch.setattr("trainables.families.second_stage.STEPS", 400)
    angle = 2 * math.pi * torch.rand(1000, generator=torch.Generator().manual_seed(0))
    ring = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    torch.manual_seed(0)
    second = LatentVAE(2, 32, DecoderVariance(2, "learned", 0.1))
    with torch.no_grad():  # as an evaluation calls it
        before = (second.sample(1000).norm(dim=1) - 2).abs().mean()
        second.fit(ring, seed=0)
        after = (second.sample(1000).norm(dim=1) - 2).abs().mean()
    assert after < 0.5 * before and after < 0.6
    with pytest.raises(FloatingPointError, match="codes are not finite"):
        second.fit(ring.log(), seed=0)


def test_own_samplers():
    assert next(iter(training().method.densities)) == "second"
    assert next(iter(training(normalised=True).method.densities)) == "second_normalised"
    assert set(training().method.densities) == {"second", "prior", "second_normalised"}


def test_the_three_penalties():
    method, x = training(l2="on", l2_weight=0.5, l2_of="decoder").method, torch.rand(6, 1, 8, 8)
    free = training().method
    free.load_state_dict(method.state_dict())
    torch.manual_seed(0)
    penalised = method.loss(x).total
    torch.manual_seed(0)
    kernels = sum(p.square().sum() for name, p in method.decoder.named_parameters() if name.endswith("weight"))
    torch.testing.assert_close(penalised, free.loss(x).total + 0.5 * kernels)

    (first, _) = training(l2="decoupled", l2_weight=0.5, l2_of="decoder").method.stages(4)
    kinds = {player.name: (player.optimiser.name, player.optimiser.weight_decay) for player in first.players}
    assert kinds == {"encoder": ("adam", 0.0), "decoder": ("adamw", 0.5)}


@pytest.mark.parametrize(
    ("dataset", "point", "epochs", "halved"),
    [
        ("cifar10", "paper", (700, 1400), (200, 100)),
        ("cifar10", "computed_code", (700, 1400), (250, 400)),
        ("cifar10", "learned", (1000, 2000), (300, 600)),
        ("celeba64", "paper", (70, 140), (60, 120)),
        ("celeba64", "learned", (120, 300), (48, 120)),
        ("celeba64_nn", "paper", (120, 300), (48, 120)),
    ],
)
def test_papers_budget_and_halvings(dataset, point, epochs, halved):
    """The printed epochs of both stages and of their halvings follow from the shares in the search space."""
    space = tomllib.loads((files("search_spaces") / "two_stage_vae.toml").read_text(encoding="utf-8"))
    values = next(p["values"] for p in space["paper"] if dataset in p["datasets"] and p.get("name", "paper") == point)
    shares = {name: values[name] for name in ("second_share", "halve_every", "second_halve_every")}
    first, second = training(**shares).method.stages(sum(epochs))
    assert (first.epochs, second.epochs) == epochs
    for stage, every in zip((first, second), halved, strict=True):
        rates = [stage.players[0].optimiser.schedule(epoch) for epoch in range(stage.epochs)]
        assert rates.index(0.5) == every
    assert not first.judged and second.judged
