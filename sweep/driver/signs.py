"""Signs of life of the processes that train, in Ray's key-value store.

A process that is stopped (SIGSTOP, a frozen container), or stuck in a driver of the system, neither ends nor notices:
its own timer is stopped, too. So the driver listens.
"""

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

SECONDS_BETWEEN_SIGNS = 5.0
SILENT_SECONDS = 1800.0  # without a sign until a process is ended; a thread gives them, so work may take longer
LOOKS = 30  # in these seconds; all must find the same sign, so a driver that was itself stopped ends no process
SPACE = "sweep-signs"  # of Ray's store


def give(process: str) -> None:
    """Give a sign of life. Raises an error of Ray if its head does not answer."""
    _internal_kv_put(process, str(time.monotonic()), namespace=SPACE)


def last(process: str) -> bytes | None:
    """Return the last sign of a process, None before its first. Raises an error of Ray if its head does not answer."""
    return _internal_kv_get(process, namespace=SPACE)


@contextmanager
def giving(process: str) -> Iterator[None]:
    """Context manager in which a thread gives signs of life."""
    done = threading.Event()

    def go_on() -> None:
        while True:
            with suppress(Exception):  # of Ray; the next sign may reach it
                give(process)
            if done.wait(SECONDS_BETWEEN_SIGNS):
                return

    threading.Thread(target=go_on, name="signs", daemon=True).start()
    try:
        yield
    finally:
        done.set()


@dataclass
class _Silence:
    sign: bytes | None
    looks: int = 0


class Signs:
    """What the driver hears of processes, named by Ray's ids of their actors or tasks."""

    def __init__(self) -> None:
        self._silences: dict[str, _Silence] = {}
        self._looked_at = time.monotonic()

    def silent(self, processes: Collection[str], started: bool = True) -> set[str]:
        """Return which of the processes have given no sign for `SILENT_SECONDS`. Call it repeatedly; it looks only now
        and then.

        started: whether they run. If not, the seconds count from their first sign.
        """
        if time.monotonic() - self._looked_at < SILENT_SECONDS / LOOKS:
            return set()
        self._looked_at = time.monotonic()
        try:
            signs = {process: last(process) for process in processes}
        except Exception:  # of Ray: nothing can be heard
            return set()
        before = self._silences
        self._silences = {process: _Silence(sign) for process, sign in signs.items()}
        for process, silence in self._silences.items():
            if process in before and before[process].sign == silence.sign:
                silence.looks = before[process].looks + 1
        counted = {process: silence for process, silence in self._silences.items() if started or silence.sign}
        return {process for process, silence in counted.items() if silence.looks >= LOOKS}
