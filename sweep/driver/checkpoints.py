"""Retention of checkpoints and models, so that a sweep of thousands of trials does not fill the disk.

A trial's checkpoint is kept until the trial ends, because the trial may continue from it; a paused trial ends with its
study. A study keeps the models of its best trial, of its hand-tuned point if complete, and of the next best trials
within `keep` and a budget of bytes for the whole sweep. No resume and no winner ever misses a file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep.record import CHECKPOINT, HUNG, REPORTED, WEIGHTS, Event, Trial, Trials
from sweep.record.events import EndEvent

FINAL = ("complete", "pruned", "diverged")  # states without another attempt


def dispensable(held: Mapping[str, int], trials: Trials, keep: int, budget: float) -> list[str]:
    """Return the trials whose models can be deleted, of those in `held`, which maps names to bytes.

    The best `keep` complete trials of each study are kept. If their total size exceeds `budget`, the lowest ranks of
    all studies are deleted first, but never a best or a hand-tuned trial. Running trials are not touched; models of
    trials that ended in any other state are deleted.
    """
    going, ranked, left = [], [], 0
    mine = [trials.trials[name] for name in held]
    for study in trials.studies:
        here = [trial for trial in mine if trial.study == study and trial.state != "running"]
        going += [trial.name for trial in here if not _is_complete(trial)]
        complete = sorted(filter(_is_complete, here), key=lambda trial: (trial.value, trial.number))
        for rank, trial in enumerate(complete):
            stays = trial in (trials.best(study), trials.hand_tuned_trial(study))
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
    """Yield the files under `folder` that neither a resume nor the best models need."""
    held = {}
    for trial in trials.trials.values():
        place = folder / "trials" / trial.name
        if (model := place / WEIGHTS).exists():
            held[trial.name] = model.stat().st_size
        if trial.state in FINAL:  # files left by a killed driver or worker
            files = [place / name for name in (CHECKPOINT, REPORTED, HUNG)]
            yield from (path for path in [*files, *place.glob("*.part")] if path.is_file())
    for name in dispensable(held, trials, keep, budget):
        yield folder / "trials" / name / WEIGHTS


def clear(folder: Path, trials: Trials, keep: int, budget: float) -> None:
    """Delete the superfluous files."""
    for path in list(superfluous(folder, trials, keep, budget)):
        path.unlink(missing_ok=True)


@dataclass
class Keeper:
    """Listens to the events of a search and deletes models as soon as better ones exist."""

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
