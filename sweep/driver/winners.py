"""The trained models of each study's best trial and hand-tuned point."""

import json
import math
import shutil
from pathlib import Path

from sweep.driver.checkpoints import clear
from sweep.record import WEIGHTS, Trial, Trials
from trainables import Method, load


def collect(folder: Path, trials: Trials, keep: int = 1, budget: float = math.inf) -> list[str]:
    """Copy models and grids of the best and the hand-tuned trial of each study to `winners/` and `hand_tuned/`, and
    delete all other models except the best `keep` within `budget` bytes.

    Return a line for each complete trial of these whose model is missing. The copy of another trial is then deleted,
    because it would be shown as the best.
    """
    missing = []
    for study in trials.studies:
        for place, trial in (("winners", trials.best(study)), ("hand_tuned", trials.hand_tuned_trial(study))):
            if trial is None:
                continue
            source, target = folder / "trials" / trial.name, folder / place / study
            if (source / WEIGHTS).exists():
                _copy(source, target)
            elif trial.state == "complete" and not _is_of(target, trial):
                shutil.rmtree(target, ignore_errors=True)
                why = "deleted, or written by a node that does not share this folder"
                missing.append(f"{target} is left out: {source / WEIGHTS} does not exist ({why})")
    clear(folder, trials, keep, budget)
    return missing


def _is_of(copy: Path, trial: Trial) -> bool:
    """Return whether a copied model is that of the trial, by its configuration. Raises OSError if it cannot be read."""
    try:
        config = json.loads((copy / "config.json").read_text())["config"]
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return (copy / WEIGHTS).exists() and (config["values"], config["seed"]) == (trial.values, trial.seed)


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
