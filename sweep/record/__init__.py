"""The record of a sweep: its events (`events`), its file (`log`), the state folded from it (`trials`), and the names of
files in the sweep's folder (`layout`). The analysis reads sweeps with it, so nothing here imports torch, Ray, Optuna or
MLflow."""

from sweep.record.events import SETBACKS, STATES, Event, Progress, Request, Row, State, StudyEntry, SweepEvent
from sweep.record.layout import CHECKPOINT, CONFIG, HUNG, RECORD, REPORTED, REQUESTS, TRACEBACK, WEIGHTS
from sweep.record.log import (
    Record,
    began,
    first_event,
    follow,
    holder_of,
    parse,
    read,
    record_of,
    salvage,
    uncollected,
)
from sweep.record.trials import Trial, Trials, by_study, read_trials

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "HUNG",
    "RECORD",
    "REPORTED",
    "REQUESTS",
    "SETBACKS",
    "STATES",
    "TRACEBACK",
    "WEIGHTS",
    "Event",
    "Progress",
    "Record",
    "Request",
    "Row",
    "State",
    "StudyEntry",
    "SweepEvent",
    "Trial",
    "Trials",
    "began",
    "by_study",
    "first_event",
    "follow",
    "holder_of",
    "parse",
    "read",
    "read_trials",
    "record_of",
    "salvage",
    "uncollected",
]
