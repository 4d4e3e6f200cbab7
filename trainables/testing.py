"""The contract of all methods, built-in or external. One line in a test suite checks all of it:

    def test_ladder_vae():
        values = {"latent_dim": 4, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16"}
        check_method(LadderVAE, values)

The training engine trains the method on a few dozen synthetic images, so small values and a few seconds are enough. A
failure raises an AssertionError that names the violated requirement. Each check is also a function of a `Subject`, for
suites that run them separately; `CHECKS` lists them.

B batch, C H W image, D latent, N images.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from torch import Tensor

from trainables.catalog import find
from trainables.config import Config
from trainables.evaluate import Evaluation, fit_densities
from trainables.fit import Report, fit, saved_state
from trainables.method import Gaussian, Loss, Method, Player, Stage, as_images
from trainables.replaced import replaced
from trainables.saved import load, save
from trainables.training import Training, Turn, unowned

BUDGETS = (1, 2, 3, 5, 6, 9, 27, 100)
CLOCKS = ("time/", "speed/", "memory/")  # metrics that are not reproducible


def check_method(
    method: type[Method] | str,
    values: Mapping[str, Any],
    shape: tuple[int, ...] = (1, 8, 8),
    *,
    changes: Mapping[str, Any] | None = None,
    where: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "cpu",
) -> None:
    """Runs every check on a method: a class at the top level of a module, or a name as on the command line.

    values: its hyperparameters; choose small ones. shape: of one image (C, H, W), or of one point (P,).
    changes: another legal value of a hyperparameter, if none can be guessed.
    where: the values of other hyperparameters that one needs to take effect: {"bandwidth": {"kernel": "rbf"}}.

    Raises AssertionError for the first violated requirement, ValueError if the values do not fit the method.
    """
    name = method if isinstance(method, str) else f"{method.__module__}:{method.__name__}"
    subject = Subject(name, dict(values), tuple(shape), dict(changes or {}), dict(where or {}), device)
    for check in CHECKS:
        check(subject)


@dataclass(frozen=True)
class Subject:
    """A method under test: its name, small values, and the shape of the synthetic images it is trained on.

    The fields are the arguments of `check_method`, and the epochs of its trainings: enough for several stages.
    """

    method: str
    values: Mapping[str, Any]
    shape: tuple[int, ...] = (1, 8, 8)
    changes: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    device: str = "cpu"
    epochs: int = 6

    def config(self, epochs: int | None = None, seed: int = 0, **changed: Any) -> Config:
        """Returns the configuration of the subject with some values changed."""
        values = {**self.values, **changed}
        return Config(method=self.method, dataset="made-up", values=values, epochs=epochs or self.epochs, seed=seed)

    def images(self) -> Tensor:
        """Returns two batches plus three images, uint8 (N, C, H, W), so the last batch is incomplete."""
        return made_up(self.shape, 2 * self.config().hyper.batch_size + 3).to(self.device)

    def training(self) -> Training:
        """Returns a new training of the subject."""
        return Training(self.config(), self.images())

    @cached_property
    def trained(self) -> Method:
        """The method after a short training with fitted ex-post densities, in eval mode. Checks do not change it."""
        training = self.training()
        while not training.finished:
            training.run_epoch()
        fit_densities(training.method, training.images, seed=0)
        return training.method


def made_up(shape: tuple[int, ...], n: int) -> Tensor:
    """Returns n images (n, C, H, W) uint8, variations of four patterns; or n points (n, P), floats."""
    chance = torch.Generator().manual_seed(0)
    patterns = torch.rand(4, *shape, generator=chance).round()  # (4, C, H, W) black and white
    images = 0.1 + 0.8 * patterns[torch.arange(n) % 4] + 0.05 * torch.rand(n, *shape, generator=chance)
    return images if len(shape) == 1 else (255 * images).byte()


def glance(method: Method, images: Tensor, final: bool = False, *, seed: int = 0) -> Evaluation:
    """A quick evaluation that calls the same functions as an Evaluator and also changes the random state."""
    method.eval()
    torch.manual_seed(17)
    with torch.no_grad():
        fit_densities(method, images, seed=0)
        x = as_images(images[:8])
        metrics = {f"valid/{name}": method.sample(4, name).double().std().item() for name in method.densities}
        metrics["valid/mse"] = (method.reconstruct(x) - x).double().square().mean().item()
        metrics |= {f"valid/{name}": value for name, value in method.diagnostics(x).items()}
        method.pictures(x)
    return Evaluation(metrics)


def reproducible(report: Report) -> dict[str, Any]:
    """Returns the reproducible content of a report, without times."""
    metrics = {name: value for name, value in report.metrics.items() if not name.startswith(CLOCKS)}
    return {"epoch": report.epoch, "stage": report.stage, **metrics}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns the names whose numbers or tensors differ between two mappings, bit for bit; NaN equals NaN."""
    return sorted(
        name for name in {**one, **other} if name not in one or name not in other or not _equal(one[name], other[name])
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    return bool(one == other or (one != one and other != other))


def parameters(method: Method) -> dict[str, Tensor]:
    """Returns a copy of each parameter, by name."""
    return {name: parameter.detach().clone() for name, parameter in method.named_parameters()}


# Declarations of a method


def check_stages(subject: Subject) -> None:
    """For any budget, the stages use it up, have names and players, and the last one has judged=True."""
    method = subject.training().method
    for epochs in BUDGETS:
        stages = method.stages(epochs)
        spent = [stage.epochs for stage in stages]
        where = f"{subject.method}, stages({epochs})"
        assert all(isinstance(n, int) and n >= 0 for n in spent), (
            f"{where}: epochs must be whole numbers >= 0, got {spent}"
        )
        assert sum(spent) == epochs, f"{where}: the stages take {spent}, together {sum(spent)} epochs"
        _distinct(where, "stages", [stage.name for stage in stages])
        trained = [stage for stage in stages if stage.epochs]
        for stage in trained:
            assert stage.players, f"{where}: stage {stage.name} has no players"
            _distinct(f"{where}, stage {stage.name}", "players", [player.name for player in stage.players])
        assert trained[-1].judged, f"{where}: the last stage, {trained[-1].name}, must be judged"
    assert len(method.densities), f"{subject.method}: densities are empty; nothing to sample from"


def _distinct(where: str, what: str, names: list[str]) -> None:
    assert len(set(names)) == len(names), f"{where}: {what} share a name: {', '.join(names)}"


def check_owners(subject: Subject) -> None:
    """Every parameter is owned by some player of some stage, or fitted by an ex-post density."""
    config = subject.config()
    method = find(subject.method)(config.hyper, subject.shape)
    idle = unowned(method, method.stages(subject.epochs))
    assert not idle, (
        f"{subject.method}: no player of any stage owns {', '.join(idle)}; they are never trained. "
        "Add their module to a player, or register them as buffers"
    )


# Turns


@dataclass(frozen=True)
class Move:
    """One observed turn, with names of parameters: those of the player, those that moved during its step, and those
    that had moved since the previous step."""

    stage: Stage
    player: Player
    loss: Loss
    own: frozenset[str]
    moved: frozenset[str]
    strayed: frozenset[str]

    def __str__(self) -> str:
        return f"stage {self.stage.name}, player {self.player.name}"


def moves(subject: Subject, look: Callable[[Move], None] | None = None) -> list[Move]:
    """Returns every turn of a short training; calls `look` after each."""
    training = subject.training()
    method = training.method
    seen: list[Move] = []
    rest = parameters(method)
    step = Turn.step

    def watched(turn: Turn, loss: Loss, gradients: tuple[Tensor, ...]) -> Tensor:
        nonlocal rest
        before = parameters(method)
        entered = not seen or seen[-1].stage is not training.stage  # `prepare` may move any parameter
        strayed = [] if entered else differing(rest, before)
        norm = step(turn, loss, gradients)
        rest = parameters(method)
        mine = set(turn.parameters)
        own = [name for name, p in method.named_parameters(remove_duplicate=False) if p in mine]
        seen.append(
            Move(
                training.stage, turn.player, loss,
                frozenset(own), frozenset(differing(before, rest)), frozenset(strayed),
            )
        )  # fmt: skip
        if look is not None:
            look(seen[-1])
        return norm

    with replaced(Turn, "step", watched):
        while not training.finished:
            training.run_epoch()
    return seen


def check_turns(subject: Subject) -> None:
    """A turn moves only parameters of its player, and nothing moves between turns."""
    stayed: dict[str, bool] = {}
    for move in moves(subject):
        where = f"{subject.method}, {move}"
        foreign = sorted(move.moved - move.own)
        assert not foreign, f"{where}: the turn moved {', '.join(foreign)}, which its player does not own"
        assert not move.strayed, f"{where}: computing the loss moved {', '.join(sorted(move.strayed))}"
        stayed[where] = stayed.get(where, True) and not move.moved and move.player.gate is None
    idle = [where for where, still in stayed.items() if still]
    assert not idle, f"{'; '.join(idle)}: no turn moved anything"


def check_losses(subject: Subject) -> None:
    """Losses and their terms are finite scalars in all stages and for all players."""

    def look(move: Move) -> None:
        for name, value in {"total": move.loss.total, **move.loss.terms}.items():
            where = f"{subject.method}, {move}: {name}"
            assert isinstance(value, Tensor), f"{where} is {value!r}, not a tensor"
            assert value.shape == (), f"{where} has shape {tuple(value.shape)}; a loss term is a scalar, ()"
            assert value.isfinite(), f"{where} is {value.item()}"

    moves(subject, look)


def check_reduction(subject: Subject) -> None:
    """Terms are means over the batch: a batch and the same batch repeated twice give equal terms.

    z is replaced by the posterior mean; terms that are still random are skipped.
    """
    training = subject.training()
    checked = set()
    with replaced(Gaussian, "draw", lambda q: q.mean):
        while not training.finished:
            training.run_epoch()
            training.method.train()
            assert training.inputs is not None
            x = as_images(training.inputs[: training.method.hyper.batch_size])  # (B, C, H, W)
            once, again = (_terms(training.stage, x, seed) for seed in (0, 1))
            twice = _terms(training.stage, torch.cat([x, x]), 0)
            for name in set(once) - set(differing(once, again)):
                checked.add(name)
                a, b = once[name], twice[name]
                assert abs(a - b) <= 1e-3 * max(abs(a), 1e-3), (
                    f"{subject.method}, stage {training.stage.name}: {name} is {a:g} on a batch and {b:g} on "
                    "the same batch twice; sum over pixels or latents, then average over the batch"
                )
    assert checked, f"{subject.method}: every term is random, even with z at the posterior mean"


def _terms(stage: Stage, x: Tensor, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    alone = {player.name: player.loss for player in stage.players}
    losses = stage.joint(x) if stage.joint is not None else {name: loss(x) for name, loss in alone.items()}
    return {f"{who}: {name}": value.item() for who, loss in losses.items() for name, value in loss.terms.items()}


def check_overfit(subject: Subject) -> None:
    """The method overfits eight images: the reconstruction error halves.

    A method that learns too slowly for so few steps is trained again with a larger learning rate. If that fails, too,
    the weights may be too large for small images: an MMD weight for 784 pixels dominates 64.
    """
    few = made_up(subject.shape, 8).to(subject.device)
    images = few.repeat(4 * subject.config().hyper.batch_size, *(1 for _ in subject.shape))
    x = as_images(few)  # (B, C, H, W)
    rate = max(subject.config().hyper.learning_rate, 3e-3)
    for config in (subject.config(epochs=12), subject.config(epochs=24, learning_rate=rate)):
        training = Training(config, images)
        untrained = trained = _error(training.method, x)
        while trained > 0.5 * untrained and not training.finished:
            training.run_epoch()
            trained = _error(training.method, x)
        if trained <= 0.5 * untrained:
            return
    raise AssertionError(
        f"{subject.method}: after {training.steps} steps on eight images their squared error per pixel is "
        f"{trained:.4f}, from {untrained:.4f} untrained; it does not learn, or its weights are too large"
    )


def _error(method: Method, x: Tensor) -> float:
    method.eval()
    torch.manual_seed(0)
    return (method.reconstruct(x) - x).square().mean().item()


# Outputs of a trained method


def check_samples(subject: Subject) -> None:
    """Samples of every density, reconstructions and pictures are finite images in [0, 1] of the right shape."""
    method = subject.trained
    for name in method.densities:
        for n in (1, 5):
            _image(method.sample(n, name), (n, *subject.shape), f"{subject.method}: sample({n}, {name!r})")
    _image(method.sample(3), (3, *subject.shape), f"{subject.method}: sample(3)")
    x = as_images(subject.images()[:7])  # (B, C, H, W)
    _image(method.reconstruct(x), tuple(x.shape), f"{subject.method}: reconstruct(x)")
    for name, picture in method.pictures(x).items():
        _image(picture, (len(picture), *subject.shape), f"{subject.method}: picture {name}")
    for name, value in method.diagnostics(x).items():
        assert isinstance(value, float), f"{subject.method}: diagnostic {name} is {value!r}, not a float"


def _image(images: Tensor, shape: tuple[int, ...], what: str) -> None:
    assert tuple(images.shape) == shape, f"{what} has shape {tuple(images.shape)}, expected {shape}"
    assert images.is_floating_point(), f"{what} is {images.dtype}, expected floats"
    assert images.isfinite().all(), f"{what} is not finite"
    if len(shape) == 4:  # points may lie anywhere
        low, high = images.min().item(), images.max().item()
        assert low >= 0 and high <= 1, f"{what} lies in {low:g}..{high:g}, expected 0..1"


def check_posterior(subject: Subject) -> None:
    """encode returns q(z|x) over (B, D), in eval mode independently for each image; decode accepts its means."""
    method = subject.trained
    x = as_images(subject.images()[:7])  # (B, C, H, W)
    with torch.no_grad():
        q, first = method.encode(x), method.encode(x[:2])
        wanted = (len(x), method.code_dim)
        for name in ("mean", "log_var") if isinstance(q, Gaussian) else ("mean",):
            value, alone = getattr(q, name), getattr(first, name)
            what = f"{subject.method}: encode(x).{name}"
            assert tuple(value.shape) == wanted, f"{what} has shape {tuple(value.shape)}, expected (B, D) = {wanted}"
            assert value.isfinite().all(), f"{what} is not finite"
            assert torch.allclose(value[:2], alone, rtol=1e-3, atol=1e-4), (
                f"{what} of an image depends on the other images of the batch, in eval mode"
            )
        _image(method.decode(q.mean), tuple(x.shape), f"{subject.method}: decode(z)")


def check_saved(subject: Subject) -> None:
    """A trained method that is saved without pickle and loaded encodes and samples the same."""
    method = subject.trained
    x = as_images(subject.images()[:7])
    with TemporaryDirectory() as folder:
        try:
            save(method, subject.config(), Path(folder))
        except RuntimeError as error:  # tensors that share memory
            raise AssertionError(f"{subject.method}: its state_dict cannot be saved: {error}") from error
        loaded = load(folder, subject.device)
    lost = differing(method.state_dict(), loaded.state_dict())
    assert not lost, f"{subject.method}: {', '.join(lost)} changed by saving and loading"
    looks: dict[str, Callable[[Method], Tensor]] = {
        "encode(x)": lambda m: m.encode(x).mean,
        "reconstruct(x)": lambda m: m.reconstruct(x),
        **{f"sample(5, {name!r})": methodcaller("sample", 5, name) for name in method.densities},
    }
    for name, look in looks.items():
        torch.manual_seed(0)
        with torch.no_grad():
            kept = look(method)
        torch.manual_seed(0)
        with torch.no_grad():
            assert torch.equal(look(loaded), kept), (
                f"{subject.method}: {name} differs after load(); keep its state in the state_dict"
            )


# Reproducibility, resuming, evaluation


def check_repeats(subject: Subject) -> None:
    """The same seed gives the same reports bit for bit, another seed different ones; the images do not change."""
    images = subject.images()
    before = images.clone()

    def reports(seed: int, earlier: int) -> Iterator[dict[str, Any]]:
        torch.manual_seed(earlier)  # earlier draws of the process must not matter
        return map(reproducible, fit(subject.config(seed=seed), images, glance, evaluate_at=(2, 4)))

    whole = list(reports(0, 1000))
    for first, again in zip(whole, reports(0, 1001), strict=True):
        off = differing(first, again)
        assert not off, f"{subject.method}: two runs of one seed differ in epoch {first['epoch']}: {', '.join(off)}"
    other = _differ(whole, reports(1, 1002))
    assert other, f"{subject.method}: seeds 0 and 1 give the same reports; the seed has no effect"
    assert torch.equal(images, before), f"{subject.method}: training wrote into the images"


def check_resume(subject: Subject) -> None:
    """A training that is stopped after any epoch and resumed from disk continues bit for bit."""
    images, config, looks = subject.images(), subject.config(), (2, 3, 5)
    with TemporaryDirectory() as folder:
        whole = []
        for report in fit(config, images, glance, looks):
            whole.append(reproducible(report))
            torch.rand(report.epoch)  # a caller may draw before it saves
            report.save(Path(folder, f"{report.epoch}.pt"))
        end = report.method.state_dict()
        for stop in range(1, subject.epochs):
            torch.manual_seed(2000 + stop)  # a new process has another random state
            where = f"{subject.method}: stopped after epoch {stop} (stage {whole[stop - 1]['stage']}) and resumed"
            rest = []
            state = saved_state(Path(folder, f"{stop}.pt").read_bytes())
            for report in fit(config, images, glance, looks, resume=state):
                rest.append(reproducible(report))
            left = subject.epochs - stop
            assert len(rest) == left, f"{where}, {len(rest)} of {left} epochs follow"
            for never_stopped, resumed in zip(whole[stop:], rest, strict=True):
                off = differing(never_stopped, resumed)
                assert not off, f"{where}, epoch {never_stopped['epoch']} differs in {', '.join(off)}"
            off = differing(end, report.method.state_dict())
            assert not off, f"{where}, the trained {', '.join(off)} differ"


def check_looking(subject: Subject) -> None:
    """The number of evaluations does not change the training."""
    images, config = subject.images(), subject.config()
    runs = []
    for evaluate_at in ((), range(subject.epochs)):
        for report in fit(config, images, glance, evaluate_at):
            runs.append({k: v for k, v in reproducible(report).items() if k.startswith("train/")})
        runs.append(parameters(report.method))
    half = len(runs) // 2
    for epoch, (unseen, seen) in enumerate(zip(runs[:half], runs[half:], strict=True), 1):
        off = differing(unseen, seen)
        what = f"epoch {epoch} of the training" if epoch <= subject.epochs else "the trained method"
        assert not off, f"{subject.method}: evaluation changed {what}: {', '.join(off)}"


# Hyperparameters


def check_hyper(subject: Subject) -> None:
    """Every hyperparameter has an effect: another value changes the reports."""
    fields = subject.config().hyper.__class__.model_fields
    unknown = sorted({*subject.changes, *subject.where} - set(fields))
    assert not unknown, f"{subject.method}: changes or where name {', '.join(unknown)}, which Hyper does not have"
    bases: dict[str, list[dict[str, Any]]] = {}
    for name in fields:
        beside = subject.where.get(name, {})
        base = bases.get(repr(beside)) or bases.setdefault(repr(beside), list(_reports(subject, **beside)))
        tried: list[Any] = []
        for value in others(subject, name):
            tried.append(value)
            if _differ(base, _reports(subject, **{**beside, name: value})):
                break
        else:
            assert tried, f"{subject.method}: no other legal value of {name} was found; pass one in changes"
            raise AssertionError(
                f"{subject.method}: {name} has no effect: {', '.join(map(repr, tried))} all give the same reports. "
                "Pass an effective value in changes, or other values that it needs in where"
            )


def _reports(subject: Subject, **changed: Any) -> Iterator[dict[str, Any]]:
    return map(reproducible, fit(subject.config(epochs=4, **changed), subject.images(), glance))


def _differ(base: list[dict[str, Any]], reports: Iterator[dict[str, Any]]) -> bool:
    """Stops the training at the first epoch that differs."""
    return any(one != other for one, other in zip(base, reports, strict=True))


def others(subject: Subject, name: str) -> Iterator[Any]:
    """Yields other legal values of a hyperparameter: the caller's, or guesses from its type and present value."""
    if name in subject.changes:
        yield subject.changes[name]
        return
    beside = subject.where.get(name, {})
    hyper = subject.config(**beside).hyper
    now = getattr(hyper, name)
    guesses: tuple[Any, ...]
    if name == "network":
        guesses = ("mlp_24", "mlp_24_12", "shared_6")
    elif isinstance(now, bool):
        guesses = (not now,)
    elif isinstance(now, int):
        guesses = (now + 1, 1, 2 * now, now // 2, now - 1, 0)
    elif isinstance(now, float) or now is None:
        start = now or 0.0
        guesses = (2 * start, start / 2, start + 1.0, 100 * start, start / 100, 0.5, 1.0)
    else:
        guesses = _literals(type(hyper).model_fields[name].annotation)
    tried = []
    for value in guesses:
        if value != now and value not in tried and _legal(subject, {**beside, name: value}):
            tried.append(value)
            yield value


def _literals(annotation: Any) -> tuple[Any, ...]:
    """Literal["a", "b"] -> ("a", "b"), also inside a union."""
    found: list[Any] = []
    for part in get_args(annotation):
        found += [part] if isinstance(part, str) else _literals(part)
    return tuple(found)


def _legal(subject: Subject, changed: Mapping[str, Any]) -> bool:
    try:
        find(subject.method)(subject.config(**changed).hyper, subject.shape)
    except ValueError:
        return False
    return True


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_stages,
    check_owners,
    check_turns,
    check_losses,
    check_reduction,
    check_overfit,
    check_samples,
    check_posterior,
    check_saved,
    check_repeats,
    check_resume,
    check_looking,
    check_hyper,
)
