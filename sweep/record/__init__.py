"""The record of a sweep: its events (`events`), their file (`log`), what they add up to (`trials`), and the names of
the files beside it (`layout`). Nothing here needs torch, Ray, Optuna or MLflow: the analysis reads sweeps with it."""

from sweep.record.events import SETBACKS, STATES, Event, Progress, Row, State, StudyEntry, SweepEvent
from sweep.record.layout import CHECKPOINT, CONFIG, HUNG, RECORD, TRACEBACK, WEIGHTS
from sweep.record.log import Record, began, follow, parse, read, salvage
from sweep.record.trials import Trial, Trials, read_trials

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "HUNG",
    "RECORD",
    "SETBACKS",
    "STATES",
    "TRACEBACK",
    "WEIGHTS",
    "Event",
    "Progress",
    "Record",
    "Row",
    "State",
    "StudyEntry",
    "SweepEvent",
    "Trial",
    "Trials",
    "began",
    "follow",
    "parse",
    "read",
    "read_trials",
    "salvage",
]
