"""What each rung of a sweep did, and how well it ranked the trials: rungs.csv and `Sweep.rungs`."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from sweep.record import Trials, by_study, record_of, salvage
from sweep.search.study import Spec, Study
from trainables.files import whole

RUNGS = "rungs.csv"
COLUMNS = ("study", "epoch", "came", "paused", "promoted", "ended", "spared", "correlation", "low", "high")


def rung_table(folder: Path) -> pd.DataFrame:
    """A row per study and rung: its epoch; how many trials came to it; how many it paused, how many of these were
    promoted later, and how many ended there (in a running sweep, or are still paused); and how many more it would have
    stopped, had they not been spared. In a sweep without promotion, trials end at a rung without a pause.

    `correlation` is Spearman's between the values there and at the end, `low` and `high` its 95 % interval, as
    `Rungs.ranking` estimates them; NaN where they are not known. Raises ValueError if the folder holds no record.
    """
    events, _ = salvage(record_of(folder))
    trials = Trials.from_events(events, strict=False)
    rows, grouped = [], by_study(events)
    for name, entry in trials.studies.items():
        if not entry.rungs:
            continue
        spec = replace(Spec.from_record(entry), first_rung=entry.rungs[0])  # older records do not name it
        rungs = Study(spec, int(trials.first.config.get("seed", 0))).replay(grouped[name]).rungs
        for level in rungs.levels:
            ranking = rungs.ranking(level) or (None, None, None)
            came, ended, promoted = len(rungs.judged[level]), rungs.stopped(level), rungs.promoted(level)
            paused = ended + promoted if spec.promotes else 0
            rows.append((name, level, came, paused, promoted, ended, rungs.spared_of(level), *ranking))
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("correlation", "low", "high"), float))


def write_rungs(folder: Path) -> None:
    """Writes rungs.csv into a sweep's folder."""
    with whole(folder / RUNGS) as part:
        rung_table(folder).to_csv(part, index=False)
