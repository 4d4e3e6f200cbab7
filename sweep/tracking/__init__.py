"""Tracking in MLflow that never blocks the sweep and never loses an event.

The record is the spool. A `Tracker` follows it in a separate thread and updates the server, so the sweep never waits
for the server. `track` sends missed events again at any time.
"""

from sweep.tracking.address import check
from sweep.tracking.follow import Tracker, is_sent, reconcile, track
from sweep.tracking.models import log_model

__all__ = ["Tracker", "check", "is_sent", "log_model", "reconcile", "track"]
