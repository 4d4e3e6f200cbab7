"""Which files of trials are worth their bytes: a sweep of thousands of trials would fill any disk with models.

A trial's checkpoint lives as long as the trial: what runs, or may run again, goes on from it. Of trained models a
study keeps its best, its hand-tuned point whenever that is complete, and the next best as far as `keep` and a
budget of bytes for the whole sweep allow. So neither a resume nor a winner ever misses a file.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sweep.record import CHECKPOINT, HUNG, WEIGHTS, Event, Trial, Trials
from sweep.record.events import EndEvent

FINAL = ("complete", "pruned", "diverged")  # no attempt follows


def epochs_saved(checkpoint: Path) -> int:
    """The epochs that a checkpoint spares; 0 where there is none, and for one that cannot be read, too many."""
    if not checkpoint.exists():
        return 0
    try:
        return torch.load(checkpoint, mmap=True, weights_only=True)["position"]["epoch"]
    except Exception:  # torch.load lets those of zip and pickle through
        return sys.maxsize


def dispensable(held: Mapping[str, int], trials: Trials, keep: int, budget: float) -> list[str]:
    """The trials whose models can go, of those in `held`, which maps names to bytes.

    Of trials that are complete the best `keep` of each study stay. If all that stay have more bytes than `budget`
    together, the lowest ranks of all studies go first, but never a best or a hand-tuned one. Trials that have not
    ended are left alone; models of those that ended otherwise go.
    """
    going, ranked, left = [], [], 0
    mine = [trials.trials[name] for name in held]
    for study in trials.studies:
        here = [trial for trial in mine if trial.study == study and trial.state != "running"]
        going += [trial.name for trial in here if not _is_complete(trial)]
        complete = sorted(filter(_is_complete, here), key=lambda trial: (trial.value, trial.number))
        for rank, trial in enumerate(complete):
            stays = trial in (trials.best(study), trials.hand_tuned(study))
            if not stays and rank >= keep:
                going.append(trial.name)
                continue
            left += held[trial.name]
            if not stays:
                ranked.append((rank, trial.name))
    for _, name in sorted(ranked, reverse=True):
        if left <= budget:
            break
        going.append(name)
        left -= held[name]
    return going


def superfluous(folder: Path, trials: Trials, keep: int, budget: float) -> Iterator[Path]:
    """The files under `folder` that neither a resume nor anybody who looks at the best models will miss."""
    held = {}
    for trial in trials.trials.values():
        place = folder / "trials" / trial.name
        if (model := place / WEIGHTS).exists():
            held[trial.name] = model.stat().st_size
        if trial.state in FINAL:  # left behind by a driver or a worker that was killed
            yield from (path for path in [place / CHECKPOINT, place / HUNG, *place.glob("*.part")] if path.is_file())
    for name in dispensable(held, trials, keep, budget):
        yield folder / "trials" / name / WEIGHTS


def clear(folder: Path, trials: Trials, keep: int, budget: float) -> None:
    """Deletes what is superfluous."""
    for path in list(superfluous(folder, trials, keep, budget)):
        path.unlink(missing_ok=True)


@dataclass
class Keeper:
    """Hears every event of a search and deletes a model as soon as better ones are there."""

    folder: Path
    keep: int
    budget: float  # bytes
    held: dict[str, int] = field(default_factory=dict)  # trial -> bytes of its model

    def hear(self, event: Event, trials: Trials) -> None:
        if not isinstance(event, EndEvent) or event.state != "complete":
            return
        model = self._model(event.trial)
        if model.exists():
            self.held[event.trial] = model.stat().st_size
        for name in dispensable(self.held, trials, self.keep, self.budget):
            self._model(name).unlink(missing_ok=True)
            del self.held[name]

    def _model(self, trial: str) -> Path:
        return self.folder / "trials" / trial / WEIGHTS


def _is_complete(trial: Trial) -> bool:
    return trial.state == "complete" and trial.value is not None
