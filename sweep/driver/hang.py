"""The timer that ends this process if its work hangs, and writes where it does."""

import faulthandler
import time
from typing import Self, TextIO

STEP_SECONDS, FACTOR = 600.0, 100.0  # a training step hangs after so long, and so many times the longest
EVALUATION_SECONDS = 3600.0  # so does an evaluation after the first; a trial's last measures more than the others
FIRST_SECONDS = 12 * 3600.0  # of work of unknown length: loading, a closed-form fit, the first evaluation
SECONDS_BETWEEN_SIGNS = 1.0
STDERR = 2


class HangTimer:
    """Context manager in which the work of one trial is timed, to be used repeatedly.

    It needs no lock of Python, so it also ends a call that holds it for ever.
    """

    def __init__(self) -> None:
        self.file: TextIO | int = STDERR
        self.in_steps = False
        self._alive_at: float | None = None
        self._longest = 0.0
        self._longest_evaluation: float | None = None

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._alive_at, self.in_steps = None, False

    def begin(self) -> None:
        """Restart for work of unknown length."""
        self._alive_at = None
        self._restart(FIRST_SECONDS)

    def step(self) -> None:
        """Restart for a training step."""
        now = time.monotonic()
        self.in_steps = True
        if self._alive_at is None or now - self._alive_at > SECONDS_BETWEEN_SIGNS:
            if self._alive_at is not None:
                self._longest = max(self._longest, now - self._alive_at)
            self._restart(STEP_SECONDS, self._longest)
            self._alive_at = now

    def evaluation(self) -> None:
        """Restart for an evaluation. How long the first takes depends on the method, which may fit a density."""
        self.begin()
        self.in_steps = False
        if self._longest_evaluation is not None:
            self._restart(EVALUATION_SECONDS, self._longest_evaluation)

    def evaluated(self, seconds: float) -> None:
        """Note how long an evaluation that measured the metric took."""
        self._longest_evaluation = max(self._longest_evaluation or 0.0, seconds)

    def _restart(self, least: float, longest: float = 0.0) -> None:
        faulthandler.dump_traceback_later(max(least, FACTOR * longest), exit=True, file=self.file)
