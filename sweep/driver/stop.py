"""Graceful stop of a sweep on Ctrl-C, SIGTERM and SIGHUP, and when a server of Ray dies."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

SECONDS_TO_END_TRIALS = 10.0
SECONDS_TO_HEAR = 2.0
STOPPING = "Stopping: running trials save their checkpoints. Press Ctrl-C again to exit immediately."


class Stopped(Exception):
    """The sweep was stopped before it was done."""


class Stop:
    """Runs work that can be asked to stop. `reason` is why it had to stop; empty if the user asked. `asked`: whether
    the user did, also after the work was done."""

    def __init__(self) -> None:
        self.reason, self.asked = "", False
        self._stopped, self._lock = False, threading.Lock()
        self._news: SimpleQueue[str | BaseException | None] = SimpleQueue()

    def ask(self, reason: str = "") -> None:
        """Ask present or future work to stop. Can be called from signal handlers and any thread."""
        self.asked = self.asked or not reason
        self._news.put(reason)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Context manager for a step of the work, which completes before the work stops. Raises Stopped once asked.

        An error of the step ends the work; `attend` raises it as it is, whatever its callers convert it to.
        """
        with self._lock:
            if self._stopped:
                raise Stopped
            try:
                yield
            except Exception as error:
                self._news.put(error)
                raise

    def attend(self, work: Callable[[], None]) -> None:
        """Run `work` in a separate thread, because calls into Ray may block for a minute once its servers are gone.

        Raises the exceptions of the work, and Stopped if it was asked to stop before them. If Ray is running, the work
        gets some seconds to end its trials; afterwards it may still be running, but takes no further step.
        """

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._news.put(error)
            else:
                self._news.put(None)

        worker = threading.Thread(target=run, name="work", daemon=True)
        worker.start()
        try:
            news = self._heard()
            if isinstance(news, str):
                self.reason = news
                self._end()
                if not news:
                    with suppress(Empty):
                        news = self._news.get(timeout=SECONDS_TO_END_TRIALS if worker.is_alive() else 0)
                    if news is not None:  # not done; an error may be the effect of the signal on Ray's servers
                        news = ""
        finally:
            self._end()
        if news is not None:
            raise Stopped if isinstance(news, str) else news

    def _heard(self) -> str | BaseException | None:
        """Wait for news and return the most important. A signal to all processes of a sweep also ends Ray's servers and
        fails the work, in any order: the signal counts most, then the death of a server."""
        news, until = [self._news.get()], time.monotonic() + SECONDS_TO_HEAR
        while news[-1] is not None and news[-1] != "" and (time.monotonic() < until or not self._news.empty()):
            with suppress(Empty):  # in short steps, between which Python calls the handlers of signals
                news.append(self._news.get(timeout=0.1))
        return min(news, key=lambda one: (one != "", not isinstance(one, str), one is None))

    def _end(self) -> None:
        with self._lock:
            self._stopped = True


@contextmanager
def stopped_by_signals(stop: Stop, announce: Callable[[str], None]) -> Iterator[None]:
    """Context manager in which Ctrl-C, SIGTERM (preemption, `docker stop`) and SIGHUP (a closed terminal) announce and
    stop the work. A second Ctrl-C raises KeyboardInterrupt. Ignored signals, e.g. under `nohup`, stay ignored."""

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.ask()
        # In a thread, because this one may be in the middle of a write to the same stream.
        threading.Thread(target=announce, args=(STOPPING,), daemon=True).start()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
