"""The interface carries what methods are known to need: adversaries, pretraining, second stages, gates.

The methods are test-only (`small_methods`); each keeps the whole contract and does what it is there to show.
"""

import math

import pytest
import small_methods
import torch

from trainables import Config, Evaluator, fit
from trainables.datasets import Splits, load
from trainables.testing import CHECKS, Subject, check_method, made_up, moves
from trainables.training import Training

SMALL = {"latent_dim": 4, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16"}
OWN = {
    "Adversarial": {"critic_turns": 2, "critic_rate": 1e-3},
    "Pretrained": {"components": 3, "pretrain": 3},
    "TwoStage": {"noise": 0.1},
    "Gated": {"feature_weight": 0.1, "margin": 0.3},
}


def subject(name: str) -> Subject:
    return Subject(f"small_methods:{name}", SMALL | OWN[name])


def training(name: str, epochs: int = 6, **values) -> Training:
    config = Config(method=f"small_methods:{name}", dataset="made-up", values=SMALL | OWN[name] | values, epochs=epochs)
    return Training(config, made_up((1, 8, 8), 40))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OWN)
def test_contract(name, check):
    check(subject(name))


def test_a_class_can_be_checked_by_itself(monkeypatch):
    seen = []
    monkeypatch.setattr("trainables.testing.CHECKS", (seen.append,))
    check_method(small_methods.TwoStage, SMALL | OWN["TwoStage"], shape=(3, 12, 12), changes={"noise": 2.0})
    (it,) = seen
    assert it == Subject("small_methods:TwoStage", SMALL | OWN["TwoStage"], (3, 12, 12), changes={"noise": 2.0})


def test_the_critic_has_its_turns_between_the_others():
    played = [move.player.name for move in moves(subject("Adversarial"))]
    assert played[:8] == ["autoencoder", "critic", "critic", "generator"] * 2


def test_the_generator_moves_the_encoder_alone_and_the_critic_leaves_it():
    for move in moves(subject("Adversarial")):
        whose = {name.split(".")[0] for name in move.moved}
        assert (
            whose
            == {"autoencoder": {"encoder", "decoder"}, "critic": {"critic"}, "generator": {"encoder"}}[move.player.name]
        )


def test_the_mixture_starts_where_em_found_the_codes():
    pretrained = training("Pretrained")
    mixture = pretrained.method.densities["mixture"]
    for _ in range(3):
        pretrained.run_epoch()
    assert pretrained.stage.name == "pretrain" and not mixture.logits.any()
    with torch.no_grad():
        codes = pretrained.method.encode(pretrained.images.float() / 255).mean
        before = mixture.log_prob(codes).mean()
        pretrained._enter(1)
        assert mixture.log_prob(codes).mean() > before + 1
    assert mixture.log_vars.exp().mean() < codes.var()


def test_the_first_stage_stands_still_in_the_second():
    twice = training("TwoStage")
    for _ in range(3):
        twice.run_epoch()
    first = {name: value.clone() for name, value in twice.method.state_dict().items() if "second" not in name}
    terms = [twice.run_epoch() for _ in range(3)]
    for name, value in first.items():
        assert torch.equal(twice.method.state_dict()[name], value) or name == "epoch", f"{name} moved"
    assert terms[2]["second_error"] < terms[0]["second_error"]


def test_codes_are_computed_once_for_the_second_stage():
    twice = training("TwoStage")
    for _ in range(4):
        twice.run_epoch()
    codes = twice.inputs
    with torch.no_grad():
        assert torch.equal(codes, twice.method.posteriors(twice.images))
    twice.run_epoch()
    assert twice.inputs is codes


def test_both_densities_are_scored():
    digits = load("digits", "unused")
    few = Splits("digits", "mnist", digits.train, digits.valid, digits.test)
    config = Config(
        method="small_methods:TwoStage",
        dataset="digits",
        values=SMALL | OWN["TwoStage"] | {"batch_size": 50},
        epochs=2,
    )
    *_, last = fit(config, torch.tensor(few.train.images[:500]), Evaluator(few, samples=100))
    prior, second = last.metrics["valid/fcd"], last.metrics["valid/fcd_second"]
    assert prior > 0 and second > 0 and prior != second
    assert [last.evaluation.recipes[f"valid/fcd{tail}"].sampler for tail in ("", "_second")] == [
        "prior",
        "second",
    ]


def test_a_gate_holds_the_critic_back_while_it_leads():
    free, held = training("Gated", margin=10.0), training("Gated", margin=0.0)
    for run, margin in ((free, 10.0), (held, 0.0)):
        weight = run.method.verdict.weight.detach().clone()
        terms = run.run_epoch()
        assert not torch.equal(run.method.encoder[1].weight, weight)
        moved = not torch.equal(run.method.verdict.weight, weight)
        assert moved == (terms["on_real"] > math.log(2) - margin or margin == 10.0)
