"""The record of a sweep: its file of events (`log`), and the trials that they add up to (`trials`)."""

from sweep.record.log import EVENTS, Event, Record, follow, read
from sweep.record.trials import SETBACKS, STATES, Trial, Trials

__all__ = ["EVENTS", "SETBACKS", "STATES", "Event", "Record", "Trial", "Trials", "follow", "read"]
