"""Events of records that nobody wrote, for tests."""

from typing import Any

from sweep.record import Event, Trials
from sweep.record.events import ANY_EVENT

ENTRY = {"method": "vae", "dataset": "mnist", "trials": 8, "epochs": 9, "metric": "valid/fcd"}  # of a study


def event(kind: str, **fields: Any) -> Event:
    """One event, at time 0 unless said otherwise."""
    return ANY_EVENT.validate_python({"time": 0.0, "event": kind, **fields})


def fold(*events: Event) -> Trials:
    return Trials.from_events(events)
