"""The training engine of all methods: stages, turns of players, gradients by owner, divergence checks, state.

A turn never reads a value back to Python: data, order, gates and meters are on the device, so training needs one
synchronisation per epoch.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from trainables.catalog import find
from trainables.config import Config
from trainables.feed import batches
from trainables.files import whole
from trainables.method import Loss, Method, Optimiser, Player, Posterior, Stage, as_images
from trainables.outside import Mistake

MAX_SKIPPED_STEPS = 20  # non-finite steps before a trial counts as diverged (methods.md 1.5)
MAX_WEIGHT_NORM = 1e8
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class Diverged(Exception):
    """Training produced non-finite values. Names the stage, epoch and loss term. A result of a trial, not a crash."""

    def __init__(self, stage: str, epoch: int, term: str, reason: str):
        self.stage, self.epoch, self.term, self.reason = stage, int(epoch), term, reason  # a method's epoch is a tensor
        super().__init__(f"stage {stage}, epoch {self.epoch}, {term}: {reason}")

    def __reduce__(self) -> tuple[type["Diverged"], tuple[str, int, str, str]]:
        return Diverged, (self.stage, self.epoch, self.term, self.reason)


def parameters_of(player: Player) -> list[nn.Parameter]:
    """Returns the trainable parameters of a player, without duplicates."""
    found = {p: None for module in player.modules for p in module.parameters() if p.requires_grad}
    return list(found)


def optimiser_for(parameters: list[nn.Parameter], wanted: Optimiser) -> torch.optim.Optimizer:
    """Returns PyTorch's fused optimiser, which makes one pass over the weights and skips a step without a
    synchronisation."""
    options: dict[str, Any] = {"lr": wanted.learning_rate, "weight_decay": wanted.weight_decay, "fused": True}
    if wanted.name == "sgd":
        options["momentum"] = wanted.momentum
    else:
        options |= {"betas": wanted.betas, "eps": wanted.eps}
    optimiser = OPTIMISERS[wanted.name](parameters, **options)
    if wanted.name == "sgd" and wanted.momentum > 0:
        for parameter in parameters:  # PyTorch leaves it uninitialised if the first step is skipped
            optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimiser


class Turn:
    """A player and its optimiser. Applies only the gradients of the player; skips non-finite and gated updates."""

    def __init__(self, player: Player, method: Method):
        self.player = player
        self.parameters = parameters_of(player)
        self.optimiser = optimiser_for(self.parameters, player.optimiser)
        self.clip = method.hyper.clip
        own = {m for module in player.modules for m in module.modules()}
        self.foreign_norms = [m for m in method.modules() if isinstance(m, BatchNorm) and m not in own]
        self.skipped = torch.zeros((), device=self.parameters[0].device)

    def loss(self, x: Tensor) -> Loss:
        """Computes the loss in a forward pass that does not update the running statistics of other players."""
        with statistics_frozen(self.foreign_norms):
            return as_loss(self.player.loss(x), self.player.loss)

    def step(self, loss: Loss, gradients: tuple[Tensor, ...]) -> Tensor:
        """Applies the gradients of the player's parameters and returns their norm, ()."""
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip > 0:
            scale = (self.clip / (norm + 1e-6)).clamp(max=1)
            gradients = tuple(g * scale for g in gradients)  # not in place: parameters may share a gradient
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = laid_out_as(parameter, gradient)
        broken = ~(norm.isfinite() & loss.total.detach().isfinite())
        self.skipped += broken
        if self.player.gate is not None:
            broken = broken | (self.player.gate(loss) == 0)
        # Torch declares neither attribute. found_inf is 1: a fused step changes neither weights nor moments.
        self.optimiser.grad_scale = None  # type: ignore[attr-defined]
        self.optimiser.found_inf = broken.float()  # type: ignore[attr-defined]
        self.optimiser.step()
        if self.player.after is not None:
            with torch.no_grad():
                self.player.after(loss)
        return norm

    def set_epoch(self, epoch: int) -> None:
        """Sets the learning rate from the player's schedule."""
        schedule = self.player.optimiser.schedule
        if schedule is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = self.player.optimiser.learning_rate * schedule(epoch)


def as_loss(value: object, by: Callable[..., Any]) -> Loss:
    """Returns `value`, the result of the function `by`. Raises Mistake unless it is a Loss of tensors."""
    if not isinstance(value, Loss):
        raise Mistake(by, f"a loss must be a Loss(total, terms), got {type(value).__name__}")
    for name, term in {"total": value.total, **value.terms}.items():
        if not isinstance(term, Tensor):
            raise Mistake(by, f"{name} of a Loss must be a tensor, got {type(term).__name__}; do not call item()")
    return value


def unowned(method: Method, stages: Iterable[Stage]) -> list[str]:
    """Returns the parameters that neither a player of any stage nor an ex-post density trains."""
    owned = {p for stage in stages for player in stage.players for p in parameters_of(player)}
    owned |= {p for density in method.densities.values() if density.ex_post for p in density.parameters()}
    return [name for name, p in method.named_parameters() if p.requires_grad and p not in owned]


def require_contract(method: Method, stages: Iterable[Stage], x: Tensor) -> None:
    """Raises Mistake if training would fail silently, or with an error that does not name the faulty function.

    x: some images (B, C, H, W) in [0, 1], or points.
    """
    kind = type(method)
    idle = {name.partition(".")[0] for name in unowned(method, stages)} & {"encoder", "decoder"}
    if idle:  # other untrained parameters may be intended, such as a moving average
        modules = " and ".join(sorted(idle))
        raise Mistake(kind.stages, f"no player of any stage owns {modules}; add it to a player, or register buffers")
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), torch.no_grad():
        q = method.encode(x)
        if not isinstance(q, Posterior):
            raise Mistake(kind.encode, f"encode must return a Posterior, got {type(q).__name__}")
        images = method.decode(q.mean)
        if images.shape != x.shape:
            shapes = f"{tuple(images.shape)} for codes {tuple(q.mean.shape)} of images {tuple(x.shape)}"
            raise Mistake(kind.decode, f"decode must return images of the input's shape, got {shapes}")


def laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient with the strides of the parameter. A fused step reads both as plain memory, but autograd
    may return transposed and broadcast gradients."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


@contextmanager
def statistics_frozen(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """Keeps BatchNorm layers from updating their running statistics; they still normalise by the batch."""
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.track_running_stats = tracked


class Meter:
    """Running means of scalars on the device; read once per epoch."""

    def __init__(self, sums: Mapping[str, Tensor] | None = None, counts: Mapping[str, int] | None = None) -> None:
        self.sums: dict[str, Tensor] = dict(sums or {})
        self.counts: dict[str, int] = dict(counts or {})

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        if not self.sums:
            return {}
        values = torch.stack([s.float() for s in self.sums.values()]).tolist()  # the only synchronisation of the epoch
        return {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}


@dataclass
class Within:
    """The position within an epoch: random state when its order was drawn, steps, meter, and seconds so far."""

    begun: dict[str, Tensor]
    step: int = 0
    meter: Meter = field(default_factory=Meter)
    seconds: float = 0.0


class Training:
    """Trains a method through its stages. Holds all state that a resumed run needs."""

    def __init__(self, config: Config, images: Tensor, device: torch.device | str | None = None):
        """images: the training split, uint8 (N, C, H, W) or float32 points (N, P), on the device or on the host.

        device: the device to train on; by default that of the images.
        """
        hyper = config.hyper
        if hyper.batch_size > len(images):
            raise ValueError(
                f"batch_size = {hyper.batch_size} is larger than the {len(images)} training images of "
                f"{config.dataset}; allowed: 1..{len(images)}"
            )
        torch.manual_seed(config.seed)
        self.config, self.images = config, images
        self.device = images.device if device is None else torch.empty(0, device=device).device  # with its index
        self.method = find(config.method)(hyper, tuple(images.shape[1:])).to(self.device)
        self.stages = tuple(s for s in self.method.stages(config.epochs) if s.epochs or s.prepare)
        if (total := sum(stage.epochs for stage in self.stages)) != config.epochs:
            raise Mistake(type(self.method).stages, f"stages({config.epochs}) takes {total} epochs")
        if not (last := self.stages[-1]).epochs:
            raise Mistake(type(self.method).stages, f"stage {last.name} starts after the last epoch; it never runs")
        self.method.eval()
        require_contract(self.method, self.stages, as_images(images[:2].to(self.device)))
        self.stage_index, self.stage_epoch, self.epoch = -1, 0, 0
        self.steps = 0
        self.within: Within | None = None  # in the middle of an epoch
        self.seconds = {"train": 0.0, "density_fit": 0.0, "evaluate": 0.0}
        self._enter(0)
        self.random = random_state(self.device)  # not the global state, which may change between epochs

    @property
    def stage(self) -> Stage:
        return self.stages[self.stage_index]

    @property
    def finished(self) -> bool:
        return self.epoch == self.config.epochs

    def _enter(self, index: int, prepared: bool = False) -> None:
        start = time.perf_counter()
        self.stage_index, self.stage_epoch = index, 0
        self.method.epoch.zero_()
        self.method.eval()  # for `prepare` and `inputs`
        if self.stage.prepare is not None and not prepared:
            try:
                self.stage.prepare(self.images)
            except FloatingPointError as error:
                raise Diverged(self.stage.name, self.epoch, "prepare", str(error)) from error
        self.turns = [Turn(player, self.method) for player in self.stage.players]
        self.inputs: Tensor | None = None  # computed at the first epoch, after a resumed state is loaded
        self.seconds["train"] += time.perf_counter() - start

    def run_epoch(self, between: Callable[["Training"], None] | None = None) -> dict[str, float]:
        """Trains one epoch, or the rest of a resumed one, and returns its mean loss terms. Raises Diverged.

        between: called before the first step and after each one; a state saved there resumes at the next step.
        """
        set_random_state(self.random, self.device)
        while self.stage_epoch == self.stage.epochs:
            self._enter(self.stage_index + 1)  # timed separately
        start = time.perf_counter()
        if self.inputs is None:
            with torch.no_grad():
                self.inputs = self.stage.inputs(self.images) if self.stage.inputs else self.images
        self.method.train()
        for turn in self.turns:
            turn.set_epoch(self.stage_epoch)
        batch = self.method.hyper.batch_size
        steps = len(self.inputs) // batch  # the last incomplete batch is dropped
        resumed = self.within
        self.within = within = resumed or Within(random_state(self.device))
        set_random_state(within.begun, self.device)
        order = torch.randperm(len(self.inputs), device=self.device)
        if resumed:
            set_random_state(self.random, self.device)
        start, meter = start - within.seconds, within.meter
        if between is not None:
            between(self)
        for x in batches(self.inputs, order[within.step * batch : steps * batch], batch, self.device):
            self._round(as_images(x), meter)  # (B, C, H, W)
            self.method.epoch += 1 / steps
            within.step += 1
            within.seconds = time.perf_counter() - start
            if between is not None:
                between(self)
        self.within = None
        self.stage_epoch += 1
        self.epoch += 1
        self.steps += steps
        terms = meter.read()
        self._guard(terms)
        terms |= {name: _number(name, value) for name, value in self.method.after_epoch(terms).items()}
        self.method.eval()
        self.random = random_state(self.device)
        self.seconds["train"] += time.perf_counter() - start
        return terms

    def _round(self, x: Tensor, meter: Meter) -> None:
        """Runs the turns of all players on one mini-batch."""
        if self.stage.joint is not None:
            losses = self.stage.joint(x)
            players = [turn.player.name for turn in self.turns]
            if set(losses) != set(players):
                found = f"got {', '.join(losses) or 'none'} for {', '.join(players)}"
                raise Mistake(self.stage.joint, f"joint must return a Loss for each player of its stage, {found}")
            for loss in losses.values():
                as_loss(loss, self.stage.joint)
            owned = [(turn, losses[turn.player.name]) for turn in self.turns]
            # All gradients are computed before any update: they belong to the same forward pass.
            gradients = [torch.autograd.grad(loss.total, t.parameters, retain_graph=True) for t, loss in owned]
            for (turn, loss), own in zip(owned, gradients, strict=True):
                self._log(meter, turn.player, loss, turn.step(loss, own))
            return
        for turn in self.turns:
            for _ in range(turn.player.turns):
                loss = turn.loss(x)
                norm = turn.step(loss, torch.autograd.grad(loss.total, turn.parameters))
                self._log(meter, turn.player, loss, norm)

    def _log(self, meter: Meter, player: Player, loss: Loss, norm: Tensor) -> None:
        suffix = "" if len(self.turns) == 1 else f"_{player.name}"
        for name, term in loss.terms.items():  # before the total: _guard reports the first non-finite value
            meter.add(name, term)
        meter.add(f"loss{suffix}", loss.total)
        meter.add(f"gradient_norm{suffix}", norm)

    def _guard(self, terms: Mapping[str, float]) -> None:
        skipped = sum(int(turn.skipped.item()) for turn in self.turns)
        if skipped > MAX_SKIPPED_STEPS:
            term = next((name for name, value in terms.items() if not math.isfinite(value)), "loss")
            raise Diverged(self.stage.name, self.epoch, term, f"{skipped} non-finite steps")
        norm = torch.nn.utils.get_total_norm([p.detach() for p in self.method.parameters()]).item()
        if not norm <= MAX_WEIGHT_NORM:
            raise Diverged(self.stage.name, self.epoch, "weights", f"their norm is {norm:g}")

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a bit-exact resume: position, weights, optimisers, random state, seconds."""
        within = self.within and {
            "begun": self.within.begun,
            "step": self.within.step,
            "sums": self.within.meter.sums,
            "counts": self.within.meter.counts,
            "seconds": self.within.seconds,
        }
        return {
            "config": self.config.model_dump(mode="json"),
            "position": {"stage": self.stage_index, "stage_epoch": self.stage_epoch, "epoch": self.epoch},
            "steps": self.steps,
            "seconds": self.seconds,
            "method": self.method.state_dict(),
            "optimisers": [turn.optimiser.state_dict() for turn in self.turns],
            "skipped": [turn.skipped for turn in self.turns],
            "random": random_state(self.device) if self.within else self.random,
            "within": within,
        }

    def save(self, path: Path) -> None:
        """Writes the state atomically. Raises OSError if the disk is full or fails."""
        with whole(path, durable=True) as part, part.open("wb") as file:
            try:
                torch.save(self.state_dict(), file)
            except RuntimeError as error:  # PyTorch closes its archive after a failed write, and that fails, too
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state. Raises ValueError if it belongs to another configuration."""
        mine = self.config.model_dump(mode="json")
        differing = [key for key in mine if key != "data_root" and mine[key] != state["config"].get(key)]
        if differing:
            raise ValueError(f"the checkpoint was written with a different {', '.join(differing)}; start a new run")
        position = state["position"]
        self._enter(position["stage"], prepared=True)
        self.stage_epoch, self.epoch = position["stage_epoch"], position["epoch"]
        self.steps, self.seconds = state["steps"], dict(state["seconds"])
        self.method.load_state_dict(state["method"])
        for turn, optimiser, skipped in zip(self.turns, state["optimisers"], state["skipped"], strict=True):
            turn.optimiser.load_state_dict(optimiser)
            turn.skipped.copy_(skipped)
        self.random = state["random"]
        if within := state.get("within"):
            meter = Meter(within["sums"], within["counts"])
            self.within = Within(within["begun"], within["step"], meter, within["seconds"])


def _number(name: str, value: Any) -> float:
    """Converts a metric to float. Accepts tensors and NumPy arrays of one element."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"after_epoch: {name} is {value!r:.60}; return one number per name") from error


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Returns the state of the random number generators that training uses."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
