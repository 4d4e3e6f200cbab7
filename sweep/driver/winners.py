"""The trained models of each study's best trial and hand-tuned point."""

import math
import shutil
from pathlib import Path

from sweep.driver.checkpoints import clear
from sweep.record import WEIGHTS, Trials
from trainables import Method, load


def collect(folder: Path, trials: Trials, keep: int = 1, budget: float = math.inf) -> None:
    """Copy models and grids of the best and the hand-tuned trial of each study to `winners/` and `hand_tuned/`, and
    delete all other models except the best `keep` within `budget` bytes."""
    for study in trials.studies:
        for place, trial in (("winners", trials.best(study)), ("hand_tuned", trials.hand_tuned_trial(study))):
            if trial is not None and (folder / "trials" / trial.name / WEIGHTS).exists():
                _copy(folder / "trials" / trial.name, folder / place / study)
    clear(folder, trials, keep, budget)


def _copy(source: Path, target: Path) -> None:
    fresh = target.with_name(f".{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        for file in filter(Path.is_file, source.iterdir()):
            shutil.copy2(file, fresh)  # copytree would raise an error without the number of a full disk's
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def find(folder: Path, method: str, dataset: str | None = None) -> Path:
    """Return the folder of a method's winner. Raises ValueError, which lists the winners."""
    found = sorted(path.name for path in (folder / "winners").glob("*") if (path / WEIGHTS).exists())
    wanted = f"{method}-{dataset}" if dataset else method
    matches = [name for name in found if name == wanted or (dataset is None and name.startswith(f"{method}-"))]
    if len(matches) != 1:
        which = "more than one winner matches" if matches else "no winner matches"
        raise ValueError(f"{folder}: {which} {wanted!r}; winners: {', '.join(found) or 'none yet'}")
    return folder / "winners" / matches[0]


def load_winner(folder: str | Path, method: str, dataset: str | None = None, device: str = "cpu") -> Method:
    """Load the best trained model of a study, ready for `sample(n)` and `reconstruct(x)`."""
    return load(find(Path(folder), method, dataset), device)
