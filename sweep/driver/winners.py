"""The trained models worth keeping: each study's best and its hand-tuned point."""

import math
import shutil
from pathlib import Path

from sweep.driver.checkpoints import clear
from sweep.record import WEIGHTS, Trials
from trainables import Method, load


def collect(folder: Path, trials: Trials, keep: int = 1, budget: float = math.inf) -> None:
    """Copies models and grids of the best and the hand-tuned trial of each study to where people look for them,
    and deletes what is superfluous beside the best `keep` within `budget` bytes."""
    for study in trials.studies:
        for place, trial in (("winners", trials.best(study)), ("hand_tuned", trials.hand_tuned(study))):
            if trial is not None and (folder / "trials" / trial.name / WEIGHTS).exists():
                _copy(folder / "trials" / trial.name, folder / place / study)
    clear(folder, trials, keep, budget)


def _copy(source: Path, target: Path) -> None:
    fresh = target.with_name(f".{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def find(folder: Path, method: str, dataset: str | None = None) -> Path:
    """The folder of a method's winner. Raises ValueError naming what there is."""
    found = sorted(path.name for path in (folder / "winners").glob("*") if (path / WEIGHTS).exists())
    wanted = f"{method}-{dataset}" if dataset else method
    matches = [name for name in found if name == wanted or (dataset is None and name.startswith(f"{method}-"))]
    if len(matches) != 1:
        which = "more than one winner fits" if matches else "there is no winner"
        raise ValueError(f"{folder}: {which} for {wanted!r}; winners: {', '.join(found) or 'none yet'}")
    return folder / "winners" / matches[0]


def load_winner(folder: str | Path, method: str, dataset: str | None = None, device: str = "cpu") -> Method:
    """The best trained model of a study, ready to `sample(n)` and `reconstruct(x)`."""
    return load(find(Path(folder), method, dataset), device)
