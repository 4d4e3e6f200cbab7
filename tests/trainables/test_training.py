"""The engine: turns, gates, guards, schedules and state, each against what can be worked out by hand."""

import copy
import errno
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_contract import arguments
from torch import Tensor, nn

from trainables import Config, Diverged, Evaluation, fit
from trainables.fit import gpu_utilization, peak_memory, saved_state
from trainables.method import Loss, Method, Optimiser, Player, Posterior, Stage
from trainables.methods.vae import VAE
from trainables.outside import Mistake
from trainables.testing import Subject, glance, made_up, reproducible
from trainables.training import MAX_SKIPPED_STEPS, Training, Turn, as_images, parameters_of

VAE_VALUES = {
    "latent_dim": 4,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "network": "mlp_32_16",
    "likelihood": "bce",
}


def read_state(checkpoint: Path) -> dict:
    return saved_state(checkpoint.read_bytes())


class Dial(nn.Module):
    """One number that can be learnt."""

    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self) -> Tensor:
        return self.value


class Duel(Method):
    """Two numbers, a and b: player a descends a * b * mean(x), player b its opposite. No images at all.

    What the engine did is kept in `batches`, `modes` and `played`.
    """

    class Hyper(Method.Hyper):
        joint: bool = False
        turns: int = 1
        gate: float = 1.0
        optimiser: str = "sgd"
        momentum: float = 0.0
        pretraining: int = 0
        halve_after: int = 1000
        nan_from: int = 10**9  # the step from which b's second term is not a number
        explode: bool = False
        unused: bool = False

    hyper: Hyper

    def build(self, nets) -> None:
        self.a, self.b, self.c = Dial(1.0), Dial(2.0), Dial(0.0)
        self.batches: list[Tensor] = []
        self.modes: list[tuple[str, bool]] = []
        self.played: list[str] = []
        self.seen_after: list[float] = []
        self.steps = 0

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(x)

    def decode(self, z: Tensor) -> Tensor:
        return z * self.a()

    def loss_a(self, x: Tensor) -> Loss:
        self.batches.append(x)
        self.played.append("a")
        product = self.a() * self.b() * x.mean()
        return Loss(1e10 * product if self.hyper.explode else product, {"product": product})

    def loss_b(self, x: Tensor) -> Loss:
        self.played.append("b")
        self.steps += 1
        odd = math.nan if self.steps > self.hyper.nan_from else 0.0
        product = self.a() * self.b() * x.mean()
        return Loss(odd - product, {"product": product, "odd": torch.tensor(odd)})

    def losses(self, x: Tensor) -> dict[str, Loss]:
        return {"a": self.loss_a(x), "b": self.loss_b(x)}

    def look_around(self, name: str) -> None:
        self.modes.append((name, self.training))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        h = self.hyper
        how = Optimiser(
            h.learning_rate,
            h.optimiser,
            momentum=h.momentum,
            schedule=lambda e: 0.5 if e >= h.halve_after else 1.0,
        )
        a = Player((self.a, self.c) if h.unused else (self.a,), self.loss_a, how, "a")
        b = Player(
            (self.b,), self.loss_b, how, "b", turns=h.turns,
            gate=(lambda loss: torch.tensor(h.gate)) if h.gate != 1.0 else None,
            after=lambda loss: self.seen_after.append(loss.total.item()),
        )  # fmt: skip
        return (
            Stage("warm", h.pretraining, (a,), judged=False),
            Stage(
                "duel", epochs - h.pretraining, (a, b), joint=self.losses if h.joint else None,
                prepare=lambda images: self.look_around("prepare"),
                inputs=lambda images: (self.look_around("inputs"), images)[1],
            ),
        )  # fmt: skip


def duel(epochs: int = 1, n: int = 1, batch_size: int = 1, images: Tensor | None = None, **values) -> Training:
    """A training of Duel on n points, all 1 unless given."""
    base = {"latent_dim": 1, "learning_rate": 0.1, "batch_size": batch_size, "network": "mlp_4"}
    config = Config(method=f"{__name__}:Duel", dataset="points", values=base | values, epochs=epochs)
    return Training(config, torch.ones(n, 1) if images is None else images)


def vae_config(epochs: int = 2, **values) -> Config:
    return Config(method="vae", dataset="made-up", values=VAE_VALUES | values, epochs=epochs)


def state_of(turn: Turn) -> dict:
    return copy.deepcopy({"weights": turn.parameters, "optimiser": turn.optimiser.state_dict()})


def assert_same(one, other) -> None:
    """Nested containers of tensors and numbers, equal bit for bit."""
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


# One step


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("likelihood", ["bce", "sse"])
def test_training_equals_a_plain_loop_with_torchs_own_adam(fused, likelihood):
    config, images = vae_config(epochs=2, likelihood=likelihood), made_up((1, 8, 8), 35)
    *_, last = fit(config, images)

    torch.manual_seed(0)
    vae = VAE(config.hyper, (1, 8, 8)).train()
    adam = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=fused)
    for _ in range(2):
        order = torch.randperm(35)
        for step in range(4):
            x = images[order[8 * step : 8 * step + 8]].float() / 255
            adam.zero_grad()
            vae.loss(x).total.backward()
            adam.step()

    tolerance = {"rtol": 0, "atol": 0} if fused else {"rtol": 1e-5, "atol": 1e-6}
    for (name, mine), plain in zip(last.method.named_parameters(), vae.parameters(), strict=True):
        torch.testing.assert_close(mine, plain, **tolerance, msg=lambda m, name=name: f"{name}: {m}")


class Odd(nn.Module):
    """Parameters whose gradients autograd lays out otherwise than them: broadcast, transposed, shared."""

    def __init__(self):
        super().__init__()
        self.broadcast = nn.Parameter(torch.ones(3, 4))
        self.transposed = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        self.shared = nn.ParameterList([torch.ones(3), torch.ones(3)])


STOCK = {
    "adam": (torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 0.1}),
    "adamw": (torch.optim.AdamW, {"betas": (0.5, 0.9), "eps": 0.1}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
}


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("name", STOCK)
def test_steps_are_torchs_own_however_gradients_lie_in_memory(name, clip):
    odd = Odd()
    method = duel(clip=clip).method
    method.odd = odd
    kind, more = STOCK[name]
    wanted = Optimiser(0.1, name, weight_decay=0.01, **more)
    turn = Turn(Player((odd,), None, wanted), method)
    plain = copy.deepcopy(odd)
    stock = kind(plain.parameters(), lr=0.1, weight_decay=0.01, **more)

    def total(m: Odd) -> Tensor:
        across = torch.arange(12.0).view(4, 3)
        return m.broadcast.sum() + (m.transposed.t() * across).sum() + (m.shared[0] + m.shared[1]).square().sum()

    for _ in range(3):
        turn.step(Loss(total(odd), {}), torch.autograd.grad(total(odd), turn.parameters))
        stock.zero_grad()
        total(plain).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), clip)
        stock.step()
    for mine, theirs in zip(odd.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("what", ["gradient", "loss"])
@pytest.mark.parametrize("good_before", [0, 2])
def test_a_step_that_is_not_finite_leaves_weights_and_moments_untouched(name, what, good_before):
    method = VAE(vae_config().hyper, (1, 8, 8))
    turn = Turn(Player((method.encoder, method.decoder), None, Optimiser(0.1, name, momentum=0.9)), method)

    def step(total: float, first: float) -> None:
        gradients = [torch.full_like(p, 0.5) for p in turn.parameters]
        gradients[0].view(-1)[0] = first
        turn.step(Loss(torch.tensor(total), {}), tuple(gradients))

    for _ in range(good_before):
        step(1.0, 0.5)
    twin = copy.deepcopy(turn)
    before = state_of(turn)["weights"]
    step(*((1.0, math.nan) if what == "gradient" else (math.inf, 0.5)))
    assert_same(turn.parameters, before)
    assert turn.skipped == 1
    for t in (turn, twin):
        for p in t.parameters:
            p.grad = None
    # Whatever the moments look like inside: the next steps must be those of a twin that saw nothing odd.
    step(1.0, 0.5)
    step(1.0, 0.5)
    for _ in range(2):
        twin.step(Loss(torch.tensor(1.0), {}), tuple(torch.full_like(p, 0.5) for p in twin.parameters))
    assert_same(turn.parameters, twin.parameters)
    assert_same(turn.optimiser.state_dict(), twin.optimiser.state_dict())


def test_clip_bounds_the_step_and_keeps_its_direction():
    free, clipped = duel(learning_rate=1.0), duel(learning_rate=1.0, clip=0.5)
    free.run_epoch(), clipped.run_epoch()
    assert free.method.a().item() == pytest.approx(1.0 - 2.0)  # da = -b
    assert clipped.method.a().item() == pytest.approx(1.0 - 0.5, abs=1e-5)
    loose = duel(learning_rate=1.0, clip=10.0)
    loose.run_epoch()
    assert loose.method.a().item() == free.method.a().item()


def test_the_logged_gradient_norm_is_the_one_before_the_clip():
    assert duel(clip=0.5).run_epoch()["gradient_norm_a"] == pytest.approx(2.0)


def test_a_parameter_that_no_loss_uses_is_an_error():
    with pytest.raises(RuntimeError, match="not have been used"):
        duel(unused=True).run_epoch()


def test_parameters_of_a_player_are_counted_once_and_frozen_ones_not():
    a, frozen = Dial(1.0), Dial(2.0)
    frozen.requires_grad_(False)
    assert parameters_of(Player((a, nn.ModuleList([a, frozen])), None, Optimiser(0.1))) == [a.value]


# Turns


def test_players_alternate_each_with_a_forward_pass_of_its_own():
    training = duel(learning_rate=0.1)
    training.run_epoch()
    a = 1.0 - 0.1 * 2.0
    assert training.method.a().item() == pytest.approx(a)
    assert training.method.b().item() == pytest.approx(2.0 + 0.1 * a)  # b answers to a's move


def test_joint_players_move_from_one_forward_pass():
    training = duel(learning_rate=0.1, joint=True)
    training.run_epoch()
    assert training.method.a().item() == pytest.approx(1.0 - 0.1 * 2.0)
    assert training.method.b().item() == pytest.approx(2.0 + 0.1 * 1.0)  # b answers to where a was
    assert training.method.played == ["a", "b"]


def test_turns_are_turns_per_mini_batch():
    training = duel(n=6, batch_size=2, turns=3)
    training.run_epoch()
    assert training.method.played == ["a", "b", "b", "b"] * 3


def test_a_closed_gate_stops_one_player_and_counts_as_no_fault():
    training = duel(n=5, gate=0.0)
    training.run_epoch()
    assert training.method.b().item() == 2.0
    assert training.method.a().item() == pytest.approx(1.0 - 5 * 0.1 * 2.0, abs=1e-6)
    assert training.turns[1].skipped == 0


def test_a_gate_reads_the_loss():
    method = duel().method
    gate = lambda loss: (loss.total > 0).float()  # noqa: E731
    turn = Turn(Player((method.a,), None, Optimiser(0.1, "sgd"), gate=gate), method)
    turn.step(Loss(torch.tensor(-1.0), {}), (torch.tensor(1.0),))
    assert method.a().item() == 1.0
    turn.step(Loss(torch.tensor(1.0), {}), (torch.tensor(1.0),))
    assert method.a().item() == pytest.approx(0.9)


def test_after_is_called_with_the_loss_of_every_turn():
    training = duel(n=2, turns=2, learning_rate=0.0001)
    training.run_epoch()
    assert training.method.seen_after == pytest.approx([-2.0] * 4, abs=1e-2)


def test_the_schedule_counts_the_epochs_of_the_stage():
    training = duel(epochs=5, pretraining=2, halve_after=1, learning_rate=0.1)
    rates = []
    while not training.finished:
        training.run_epoch()
        rates.append(training.turns[0].optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.05, 0.1, 0.05, 0.05])


class Normed(Method):
    """An encoder with BatchNorm, used by its own player and by another; `inputs` and `prepare` use it too."""

    class Hyper(Method.Hyper):
        momentum: float = 0.1

    hyper: Hyper

    def build(self, nets) -> None:
        momentum = self.hyper.momentum or None
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=momentum), nn.Dropout(0.5))
        self.decoder = nn.Linear(3, 2)
        self.register_buffer("prepared", torch.zeros(3))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid()

    def loss(self, x: Tensor) -> Loss:
        return Loss((self.decoder(self.encoder(x)) - x).square().mean(), {})

    def of_codes(self, z: Tensor) -> Loss:
        return Loss(self.decoder(z).square().mean(), {"code": z.square().mean()})

    def prepare(self, images: Tensor) -> None:
        self.prepared.copy_(self.encoder(images).mean(0).detach())

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        how = Optimiser(self.hyper.learning_rate)
        players = (
            Player((self.decoder,), self.loss, how, "decoder"),
            Player((self.encoder,), self.loss, how, "encoder"),
        )
        codes = Player((self.decoder,), self.of_codes, how)
        return (
            Stage("first", epochs // 2, players),
            Stage("second", epochs - epochs // 2, (codes,), prepare=self.prepare, inputs=self.encoder),
        )


def normed(epochs: int = 4, **values) -> Config:
    base = {"latent_dim": 3, "learning_rate": 1e-2, "batch_size": 8, "network": "mlp_4"}
    return Config(method=f"{__name__}:Normed", dataset="points", values=base | values, epochs=epochs)


POINTS = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0]) + 2


@pytest.mark.parametrize("momentum", [0.1, 0.0])  # 0 stands for torch's None, the cumulative average
def test_running_statistics_move_on_the_owners_turn_only(momentum):
    training = Training(normed(momentum=momentum), POINTS)
    norm = training.method.encoder[1]
    training.method.train()
    decoder, encoder = training.turns
    before = copy.deepcopy(dict(norm.named_buffers()))
    for x in (POINTS[:8], torch.full((8, 2), math.nan)):
        decoder.loss(x)
        assert_same(dict(norm.named_buffers()), before)
    encoder.loss(POINTS[:8])
    moved = dict(norm.named_buffers())
    assert all(not torch.equal(moved[name], before[name]) for name in before)
    twin = nn.BatchNorm1d(3, momentum=momentum or None)
    twin(training.method.encoder[0](POINTS[:8]))
    torch.testing.assert_close(norm.running_mean, twin.running_mean)
    assert norm.num_batches_tracked == 1


def test_foreign_batchnorm_still_normalises_by_the_batch():
    training = Training(normed(), POINTS)
    training.method.train()
    encoder = training.method.encoder[:2]
    decoder_turn = training.turns[0]
    decoder_turn.player = Player(
        (training.method.decoder,),
        lambda x: Loss(encoder(x).mean(), {"spread": encoder(x).var(0, False)}),
        Optimiser(1),
    )
    assert decoder_turn.loss(POINTS).terms["spread"].tolist() == pytest.approx([1.0] * 3, abs=1e-3)


# Epochs and batches


def test_an_epoch_passes_over_the_images_once_and_drops_the_last_incomplete_batch():
    images = torch.arange(1.0, 12.0)[:, None]
    training = duel(epochs=2, images=images, batch_size=4, learning_rate=1e-9)
    for _ in range(2):
        training.method.batches.clear()
        training.run_epoch()
        batches = training.method.batches
        assert [len(x) for x in batches] == [4, 4]
        assert len(torch.cat(batches).unique()) == 8
    assert training.steps == 4


def test_every_epoch_has_an_order_of_its_own():
    training = duel(epochs=2, images=torch.arange(8.0)[:, None], batch_size=8, learning_rate=1e-9)
    training.run_epoch(), training.run_epoch()
    first, second = training.method.batches
    assert first.tolist() != second.tolist() and sorted(first.tolist()) == sorted(second.tolist())


def test_pixels_become_floats_and_points_are_copied():
    assert as_images(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    points = torch.tensor([-3.0, 7.0])
    as_images(points).add_(1)  # as a method that works in place does
    assert points.tolist() == [-3, 7]


def test_a_batch_larger_than_the_data_is_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"^batch_size = 4 is larger than the 3 training images of points; allowed: 1\.\.3$"
    ):
        duel(n=3, batch_size=4)


def test_the_epoch_of_a_stage_is_known_to_the_method_in_fractions():
    training = duel(epochs=3, n=4, batch_size=2, pretraining=1)
    seen = []
    loss_a = training.method.loss_a
    for turn in training.turns:
        object.__setattr__(turn.player, "loss", lambda x: (seen.append(training.method.epoch.item()), loss_a(x))[1])
    training.run_epoch()
    assert seen == pytest.approx([0.0, 0.5])
    training.run_epoch()
    assert training.method.epoch.item() == pytest.approx(1.0)  # of the second stage


def test_terms_are_means_over_the_epoch():
    images = torch.tensor([[1.0], [2.0], [6.0]])
    terms = duel(images=images, learning_rate=1e-12).run_epoch()
    assert terms["loss_a"] == pytest.approx(2 * 3.0)
    assert terms["loss_b"] == pytest.approx(-2 * 3.0)
    assert terms["product"] == pytest.approx(6.0)


# Stages


def test_stages_without_epochs_are_left_out():
    assert [stage.name for stage in duel().stages] == ["duel"]
    assert [stage.name for stage in duel(epochs=2, pretraining=1).stages] == ["warm", "duel"]


def test_stages_that_do_not_use_up_the_budget_are_an_error():
    class Short(Duel):
        def stages(self, epochs):
            return super().stages(epochs - 1)

    globals()["Short"] = Short
    config = Config(method=f"{__name__}:Short", dataset="d", values=duel().config.values, epochs=3)
    with pytest.raises(Mistake, match=r"stages\(3\) takes 2 epochs"):
        Training(config, torch.ones(2, 1))


def test_a_last_stage_without_epochs_is_an_error():
    class Late(Duel):
        def stages(self, epochs):
            return (*super().stages(epochs), Stage("late", prepare=lambda images: None))

    globals()["Late"] = Late
    config = Config(method=f"{__name__}:Late", dataset="d", values=duel().config.values, epochs=3)
    with pytest.raises(Mistake, match="late"):
        Training(config, torch.ones(2, 1))


def test_a_stage_is_prepared_and_its_inputs_computed_once_in_eval_mode():
    training = duel(epochs=3, pretraining=1)
    while not training.finished:
        training.run_epoch()
    assert training.method.modes == [("prepare", False), ("inputs", False)]
    first = duel(epochs=1)
    first.run_epoch()
    assert first.method.modes == [("prepare", False), ("inputs", False)]


# Divergence


def test_twenty_odd_steps_are_forgiven_and_one_more_is_divergence():
    good = duel(n=MAX_SKIPPED_STEPS + 5, nan_from=5)
    good.run_epoch()
    assert good.turns[1].skipped == MAX_SKIPPED_STEPS
    assert good.method.b().isfinite()
    bad = duel(epochs=3, n=MAX_SKIPPED_STEPS + 5, nan_from=4, pretraining=1)
    bad.run_epoch()
    with pytest.raises(Diverged) as caught:
        bad.run_epoch()
    verdict = caught.value
    assert (verdict.stage, verdict.epoch, verdict.term) == ("duel", 2, "odd")
    assert str(verdict) == "stage duel, epoch 2, odd: 21 non-finite steps"
    assert bad.method.b().isfinite() and bad.method.b().item() != 2.0


def test_odd_steps_are_counted_over_the_epochs_of_a_stage():
    training = duel(epochs=3, n=10, nan_from=0)
    training.run_epoch(), training.run_epoch()
    with pytest.raises(Diverged, match="30 non-finite steps"):
        training.run_epoch()


def test_exploding_weights_are_divergence():
    with pytest.raises(Diverged, match="stage duel, epoch 1, weights: their norm is"):
        duel(explode=True).run_epoch()


def test_a_verdict_survives_the_way_between_processes():
    verdict = Diverged("train", 3, "kl", "21 non-finite steps")
    again = pickle.loads(pickle.dumps(verdict))
    assert (str(again), again.stage, again.epoch, again.term) == (str(verdict), "train", 3, "kl")


# State


def test_a_checkpoint_holds_no_pickled_code_and_replaces_the_former_as_a_whole(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for report in fit(vae_config(), made_up((1, 8, 8), 16)):
        report.save(path)
    state = torch.load(path, weights_only=True)
    assert state["position"] == {"stage": 0, "stage_epoch": 2, "epoch": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_full_disk_is_an_os_error_and_leaves_the_former_checkpoint(tmp_path, most_bytes, share):
    path = tmp_path / "checkpoint.pt"
    report = next(fit(vae_config(), made_up((1, 8, 8), 16)))
    report.save(path)
    kept = path.read_bytes()
    with most_bytes(int(share * len(kept))), pytest.raises(OSError) as full:
        report.save(path)
    assert full.value.errno == errno.EFBIG
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "changed, named",
    [
        ({"seed": 1}, "seed"),
        ({"epochs": 3}, "epochs"),
        ({"values": VAE_VALUES | {"learning_rate": 1.0}}, "values"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, changed, named):
    images, config = made_up((1, 8, 8), 16), vae_config()
    next(fit(config, images)).save(tmp_path / "c.pt")
    other = config.model_copy(update=changed)
    with pytest.raises(ValueError, match=f"^the checkpoint was written with a different {named}; start a new run$"):
        next(fit(other, images, resume=read_state(tmp_path / "c.pt")))


def test_a_checkpoint_moves_with_the_data(tmp_path):
    images, config = made_up((1, 8, 8), 16), vae_config()
    next(fit(config, images)).save(tmp_path / "c.pt")
    moved = config.model_copy(update={"data_root": tmp_path})
    assert next(fit(moved, images, resume=read_state(tmp_path / "c.pt"))).epoch == 2


def test_odd_steps_and_moments_survive_a_checkpoint(tmp_path):
    training = duel(epochs=2, n=10, nan_from=3, optimiser="adam")
    training.run_epoch()
    torch.save(training.state_dict(), tmp_path / "c.pt")
    again = duel(epochs=2, n=10, nan_from=3, optimiser="adam")
    again.load_state_dict(torch.load(tmp_path / "c.pt", weights_only=True))
    assert again.turns[1].skipped == 7
    assert_same([state_of(turn) for turn in again.turns], [state_of(turn) for turn in training.turns])


def test_resuming_within_a_stage_computes_its_inputs_as_they_were(tmp_path):
    whole = []
    for report in fit(normed(epochs=6), POINTS):
        whole.append(report.metrics)
        report.save(tmp_path / f"{report.epoch}.pt")
    for epoch in range(1, 6):
        state = read_state(tmp_path / f"{epoch}.pt")
        rest = [report.metrics for report in fit(normed(epochs=6), POINTS, resume=state)]
        assert rest == whole[epoch:], f"resumed after epoch {epoch}"


# Reports


def noisy(method: Method, images: Tensor, final: bool = False, *, seed: int = 0) -> Evaluation:
    torch.manual_seed(99)
    torch.rand(7)
    return Evaluation({"valid/fcd": 1.0}, seconds=0.25, density_fit_seconds=0.5)


def test_evaluations_fall_on_the_epochs_asked_for_that_can_be_judged_and_on_the_last():
    training = duel(epochs=6, pretraining=3)
    reports = list(fit(training.config, training.images, noisy, evaluate_at=(1, 2, 4)))
    assert [r.epoch for r in reports if r.evaluation] == [4, 6]
    assert [r.epoch for r in reports] == [1, 2, 3, 4, 5, 6]
    assert [r.stage for r in reports] == ["warm"] * 3 + ["duel"] * 3
    assert all("valid/fcd" in r.metrics for r in reports if r.evaluation)


def test_clocks_add_up_over_evaluations():
    config, images = vae_config(epochs=3), made_up((1, 8, 8), 16)
    *_, last = fit(config, images, noisy, evaluate_at=(1, 2))
    assert last.metrics["time/evaluate_seconds"] == pytest.approx(0.75)
    assert last.metrics["time/density_fit_seconds"] == pytest.approx(1.5)
    assert last.metrics["time/train_seconds"] > 0
    speed = 3 * 16 / last.metrics["time/train_seconds"]
    assert last.metrics["speed/images_per_second"] == pytest.approx(speed)
    assert last.metrics["model/parameters"] == sum(p.numel() for p in last.method.parameters())
    assert last.metrics["memory/peak_mb"] > 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak of a process")
@pytest.mark.slow
def test_the_peak_of_memory_is_that_of_this_training():
    block = np.ones(40_000_000)  # 320 MB of an earlier trial in the same process
    before = peak_memory(torch.device("cpu")) / 2**20
    del block
    (report,) = fit(vae_config(epochs=1), made_up((1, 8, 8), 16), noisy)
    assert report.metrics["memory/peak_mb"] < before - 200


def test_the_utilization_of_a_gpu_is_that_of_its_driver_if_it_tells(monkeypatch):
    def refuse(device):
        raise ModuleNotFoundError("pynvml does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 87)
    assert gpu_utilization(torch.device("cpu")) == {}
    assert gpu_utilization(torch.device("cuda")) == {"speed/gpu_utilization_percent": 87.0}
    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert gpu_utilization(torch.device("cuda")) == {}


def test_without_an_evaluator_reports_tell_of_the_training_only():
    for report in fit(vae_config(), made_up((1, 8, 8), 16)):
        assert report.evaluation is None
        assert all(name.startswith("train/") for name in report.metrics)


def test_what_breaks_at_evaluation_is_divergence():
    reports = fit(vae_config(), made_up((1, 8, 8), 16), lambda *_, **__: Evaluation(broken="codes"), evaluate_at=(1,))
    with pytest.raises(Diverged, match="stage train, epoch 1, codes: not finite at evaluation"):
        next(reports)


def test_what_callers_and_evaluators_draw_reaches_neither_training_nor_checkpoint(tmp_path):
    images = made_up((1, 8, 8), 16)
    calm = [report.metrics for report in fit(vae_config(epochs=3), images)]
    for report in fit(vae_config(epochs=3), images, noisy, evaluate_at=(1, 2)):
        torch.rand(3)
        report.save(tmp_path / f"{report.epoch}.pt")
        trained = {name: value for name, value in report.metrics.items() if name.startswith("train/")}
        assert trained == calm[report.epoch - 1]
    resumed = [report.metrics for report in fit(vae_config(epochs=3), images, resume=read_state(tmp_path / "1.pt"))]
    assert resumed == calm[1:]


def test_two_trainings_may_take_turns_in_one_process():
    images = made_up((1, 8, 8), 16)
    alone = [report.metrics for report in fit(vae_config(epochs=3), images)]
    pairs = zip(fit(vae_config(epochs=3), images), fit(vae_config(epochs=3), images), strict=True)
    for epoch, (one, other) in enumerate(pairs):
        assert one.metrics == other.metrics == alone[epoch]


# In the middle of an epoch


class Stopped(Exception):
    """Somebody ends the training after a step."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [0, pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["vae", "aae", "two_stage_vae", "vade", "geco", "vae_gan", "rae_sn"])
def test_a_training_stopped_within_an_epoch_goes_on_bit_for_bit(name, step, tmp_path):
    """Alternating players, a second stage's first epoch, warm-ups, multipliers, and meters half full."""
    images, config = made_up((1, 8, 8), 28), Subject(name, **arguments(name)).config(epochs=4)
    undisturbed = [reproducible(report) for report in fit(config, images, glance, evaluate_at=(2,))]
    for epoch in range(4):

        def stop(training, epoch=epoch):
            if training.epoch == epoch and training.within.step == step:
                training.save(tmp_path / "c.pt")
                raise Stopped

        before = []
        with pytest.raises(Stopped):
            for report in fit(config, images, glance, evaluate_at=(2,), between=stop):
                before.append(reproducible(report))
        torch.rand(3)  # draws of the caller do not matter
        state = read_state(tmp_path / "c.pt")
        after = [reproducible(report) for report in fit(config, images, glance, evaluate_at=(2,), resume=state)]
        assert before + after == undisturbed


def test_looking_between_steps_changes_nothing():
    images, config, seen = made_up((1, 8, 8), 28), vae_config(), []
    alone = [reproducible(report) for report in fit(config, images)]
    assert [
        reproducible(report) for report in fit(config, images, between=lambda t: seen.append(t.within.step))
    ] == alone
    assert seen == [*range(max(seen) + 1)] * 2
