"""The contract can fail: for every promise, a method that breaks it, and what the check says."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trainables import testing
from trainables.method import Gaussian, Loss, NonNegative, Optimiser, Player, Stage
from trainables.methods.vae import VAE
from trainables.testing import Subject, check_method

VALUES = {
    "latent_dim": 4,
    "learning_rate": 5e-3,
    "batch_size": 8,
    "network": "mlp_32_16",
    "likelihood": "bce",
}


class OverBudget(VAE):
    def stages(self, epochs):
        first = min(epochs, 3)  # fits into six epochs, but not into every budget
        return (
            replace(super().stages(epochs)[0], name="first", epochs=first),
            replace(super().stages(epochs)[0], name="second", epochs=max(3, epochs - first)),
        )


class SameNames(VAE):
    def stages(self, epochs):
        (stage,) = super().stages(epochs)
        return (replace(stage, epochs=epochs // 2), replace(stage, epochs=epochs - epochs // 2))


class NobodyPlays(VAE):
    def stages(self, epochs):
        return (replace(super().stages(epochs)[0], epochs=epochs - 1), Stage("rest", 1))


class NeverJudged(VAE):
    def stages(self, epochs):
        return tuple(replace(stage, judged=False) for stage in super().stages(epochs))


class NoSampler(VAE):
    def build(self, nets):
        super().build(nets)
        self.densities = nn.ModuleDict()


class Orphan(VAE):
    def build(self, nets):
        super().build(nets)
        self.log_gamma = nn.Parameter(torch.zeros(()))


class Meddler(VAE):
    """Its `after` moves the decoder on the encoder's turn."""

    def stages(self, epochs):
        how = Optimiser(self.hyper.learning_rate)
        players = (
            Player((self.encoder,), self.loss, how, "encoder", after=self.meddle),
            Player((self.decoder,), self.loss, how, "decoder"),
        )
        return (Stage(epochs=epochs, players=players),)

    def meddle(self, loss: Loss) -> None:
        self.decoder[0].bias += 0.01


class Restless(VAE):
    def loss(self, x: Tensor) -> Loss:
        with torch.no_grad():
            self.decoder[0].bias.mul_(0.99).add_(0.001)
        return super().loss(x)


class Idler(VAE):
    def stages(self, epochs):
        player = Player((self.encoder, self.decoder), self.loss, Optimiser(0.0))
        return (Stage(epochs=epochs, players=(player,)),)


class TermsPerImage(VAE):
    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        return Loss(loss.total, {**loss.terms, "per_image": x.flatten(1).sum(1)})


class Infinite(VAE):
    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        return Loss(loss.total, {**loss.terms, "log": (x.mean() * 0).log()})


class Summed(VAE):
    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        return Loss(loss.total, {**loss.terms, "kl": loss.terms["kl"] * len(x)})


class Deaf(VAE):
    """Learns the mean image only: the decoder never hears of x."""

    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x.mean(0, keepdim=True).expand_as(x))
        return Loss(loss.total, loss.terms)


class Unbounded(VAE):
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


class Sociable(VAE):
    """Encodes an image by the batch around it."""

    def encode(self, x: Tensor) -> Gaussian:
        q = super().encode(x)
        return Gaussian(q.mean - q.mean.mean(0), q.log_var, q.clamped)


class OneSigma(VAE):
    def encode(self, x: Tensor) -> Gaussian:
        q = super().encode(x)
        return Gaussian(q.mean, q.log_var[:, :1], q.clamped)


class Forgetful(VAE):
    """Its scale is not a buffer, so it is lost on the way to disk, and in a checkpoint."""

    def build(self, nets):
        super().build(nets)
        self.scale = torch.ones(())

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.scale * z)

    def after_epoch(self, terms):
        self.scale = self.scale * 0.9
        return {"scale": self.scale.item()}


class Tied(VAE):
    def build(self, nets):
        super().build(nets)
        self.alias = nn.Linear(1, 1, bias=False)
        self.alias.weight = self.decoder[0].weight


class OtherDice(VAE):
    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        return Loss(loss.total + random.random(), loss.terms)


class Fated(VAE):
    def loss(self, x: Tensor) -> Loss:
        return super().loss(x)


class Vandal(VAE):
    """Makes its inputs in place, in the caller's images."""

    def stages(self, epochs):
        return (replace(super().stages(epochs)[0], inputs=lambda images: images.div_(2, rounding_mode="floor")),)


class Counting(VAE):
    """Warms up by a counter that no checkpoint holds."""

    def build(self, nets):
        super().build(nets)
        self.count = 0

    def loss(self, x: Tensor) -> Loss:
        self.count += 1
        loss = super().loss(x)
        return Loss(loss.total * min(1.0, self.count / 20), loss.terms)


class Watched(VAE):
    """Learns otherwise once it has been looked at."""

    def build(self, nets):
        super().build(nets)
        self.register_buffer("looks", torch.zeros(()))

    def diagnostics(self, x: Tensor):
        self.looks += 1
        return {}

    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        return Loss(loss.total * (1 + self.looks), loss.terms)


class DeadKnob(VAE):
    class Hyper(VAE.Hyper):
        beta: NonNegative


class DeadText(VAE):
    class Hyper(VAE.Hyper):
        text: str = "nothing to guess from"


class WordyDiagnostics(VAE):
    def diagnostics(self, x: Tensor):
        return {"share": torch.ones(())}


class BrightPictures(VAE):
    def pictures(self, x):
        return {"means": torch.full((2, *self.shape), 3.0)}


BROKEN = [
    (OverBudget, "check_stages", r"stages\(1\): the stages take \[1, 3\], together 4 epochs"),
    (SameNames, "check_stages", "stages share a name: train, train"),
    (NobodyPlays, "check_stages", "stage rest has no players"),
    (NeverJudged, "check_stages", "the last stage, train, must be judged"),
    (NoSampler, "check_stages", "nothing to sample from"),
    (Orphan, "check_owners", "no player of any stage owns log_gamma"),
    (
        Meddler,
        "check_turns",
        r"player encoder: the turn moved decoder\.0\.bias, which its player does not own",
    ),
    (Restless, "check_turns", r"computing the loss moved decoder\.0\.bias"),
    (Idler, "check_turns", "no turn moved anything"),
    (TermsPerImage, "check_losses", r"per_image has shape \(8,\); a loss term is a scalar"),
    (Infinite, "check_losses", "log is -inf"),
    (Summed, "check_reduction", "kl is .* on a batch and .* on the same batch twice"),
    (Deaf, "check_overfit", "it does not learn"),
    (Unbounded, "check_samples", r"lies in -.* expected 0\.\.1"),
    (WordyDiagnostics, "check_samples", "diagnostic share is tensor"),
    (BrightPictures, "check_samples", r"picture means lies in 3\.\.3"),
    (Sociable, "check_posterior", "mean of an image depends on the other images of the batch"),
    (OneSigma, "check_posterior", r"log_var has shape \(7, 1\), expected \(B, D\) = \(7, 4\)"),
    (Forgetful, "check_saved", r"reconstruct\(x\) differs after load\(\)"),
    (Tied, "check_saved", "cannot be saved"),
    (OtherDice, "check_repeats", "two runs of one seed differ in epoch 1: train/loss"),
    (Vandal, "check_repeats", "training wrote into the images|two runs of one seed differ"),
    (
        Counting,
        "check_resume",
        r"stopped after epoch 1 \(stage train\) and resumed, epoch 2 differs in .*loss",
    ),
    (Forgetful, "check_resume", "stopped after epoch 1"),
    (Watched, "check_looking", "evaluation changed epoch 2 of the training"),
    (DeadKnob, "check_hyper", r"beta has no effect: 2\.0, 0\.5, 100\.0, 0\.01 all give the same reports"),
    (DeadText, "check_hyper", "no other legal value of text was found; pass one in changes"),
]


def subject(method: type, **more) -> Subject:
    values = VALUES | ({"beta": 1.0} if method is DeadKnob else {})
    return Subject(f"{__name__}:{method.__name__}", values, **more)


@pytest.mark.parametrize("method, check, words", BROKEN, ids=lambda part: getattr(part, "__name__", None))
def test_a_broken_promise_is_named(method, check, words):
    with pytest.raises(AssertionError, match=words):
        getattr(testing, check)(subject(method))


class Undefined(VAE):
    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        return Loss(loss.total * float("nan"), loss.terms)


@pytest.mark.parametrize("check", ["check_repeats", "check_resume", "check_looking"])
def test_equal_reports_of_nan_are_equal(check):
    """Only `check_losses` names the NaN: the seed, the stop and the evaluation are not its cause."""
    getattr(testing, check)(subject(Undefined))


@pytest.mark.parametrize("shape", [(), (2,)])
def test_nan_differs_from_numbers(shape):
    numbers, nan = torch.zeros(shape), torch.full(shape, torch.nan)
    assert testing.differing({"a": numbers, "b": 0.0}, {"a": nan, "b": torch.nan}) == ["a", "b"]


def test_every_check_is_shown_to_fail():
    assert {check.__name__ for check in testing.CHECKS} == {check for _, check, _ in BROKEN}


def test_a_seed_that_does_nothing_is_named(monkeypatch):
    monkeypatch.setattr(
        Subject, "config", lambda self, epochs=6, seed=0, c=Subject.config, **v: c(self, epochs, 0, **v)
    )
    with pytest.raises(AssertionError, match="seeds 0 and 1 give the same reports"):
        testing.check_repeats(subject(Fated))


def test_a_misspelt_change_is_named():
    with pytest.raises(AssertionError, match="changes or where name betta, which Hyper does not have"):
        testing.check_hyper(subject(Fated, changes={"betta": 1.0}))


class Kernel(VAE):
    """Its width matters for one of its kernels only."""

    class Hyper(VAE.Hyper):
        kernel: str = "none"
        width: float | None = None

    def loss(self, x: Tensor) -> Loss:
        loss = super().loss(x)
        wide = self.hyper.kernel == "wide"
        return Loss(loss.total * (1 + wide + wide * (self.hyper.width or 0.0)), loss.terms)


def test_a_hyperparameter_may_need_others_beside_it():
    changes = {"kernel": "wide"}
    with pytest.raises(AssertionError, match="width has no effect"):
        testing.check_hyper(subject(Kernel, changes=changes))
    testing.check_hyper(subject(Kernel, changes=changes, where={"width": {"kernel": "wide"}}))


def test_the_caller_may_know_better_values():
    it = subject(DeadKnob, changes={"beta": 77.0})
    assert list(testing.others(it, "beta")) == [77.0]


def test_guesses_are_legal_and_new():
    it = subject(VAE, changes={})
    assert list(testing.others(it, "likelihood")) == ["sse", "gaussian"]
    assert list(testing.others(it, "batch_size")) == [9, 1, 16, 4, 7]
    assert list(testing.others(it, "clip")) == [1.0, 0.5]
    assert list(testing.others(it, "network")) == ["mlp_24", "mlp_24_12", "shared_6"]


def test_check_method_takes_a_class_and_stops_at_the_first_broken_promise():
    with pytest.raises(AssertionError, match=f"{__name__}:Orphan: no player of any stage owns log_gamma"):
        check_method(Orphan, VALUES)


def test_check_method_says_which_values_do_not_fit():
    with pytest.raises(ValueError, match="beta is missing; give it a value"):
        check_method(DeadKnob, VALUES)


def test_the_contract_needs_no_pytest():
    assert "pytest" not in Path(testing.__file__).read_text()
