"""Tracking in MLflow that costs the sweep nothing and loses nothing.

The record is the spool: a `Tracker` follows it from a thread of its own and brings the server up to date, so
the sweep never waits for the server, and what the server has missed can be told again at any time (`track`).
"""

from sweep.tracking.address import check, redact
from sweep.tracking.follow import Tracker, is_told, reconcile, track

__all__ = ["Tracker", "check", "is_told", "reconcile", "redact", "track"]
