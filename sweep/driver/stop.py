"""Ends a sweep in order before it is done: at Ctrl-C, SIGTERM and SIGHUP, and when Ray's own servers die."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

SECONDS_TO_END_TRIALS = 10.0
STOPPING = "Stopping: running trials save their checkpoints. Ctrl-C again ends at once."


class Stopped(Exception):
    """The sweep ends before it is done."""


class Stop:
    """Runs work that can be asked to stop. `reason` says why it had to, and is empty where somebody wished so."""

    def __init__(self) -> None:
        self.reason = ""
        self._stopped, self._lock = False, threading.Lock()
        self._news: SimpleQueue[str | BaseException | None] = SimpleQueue()

    def ask(self, reason: str = "") -> None:
        """Work that is attended, now or later, is to stop. For signal handlers and any thread."""
        self._news.put(reason)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """A step of the work, which is completed before the work stops. Raises Stopped where it has to."""
        with self._lock:
            if self._stopped:
                raise Stopped
            yield

    def attend(self, work: Callable[[], None]) -> None:
        """Does the work, in a thread of its own: calls into Ray may block for a minute once its servers are gone.

        Raises what the work raises, and Stopped if it was asked to stop. Where Ray is well, the work has some seconds
        to end its trials; after that it may not have returned, but takes no further step.
        """

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._news.put(error)
            else:
                self._news.put(None)

        threading.Thread(target=run, name="work", daemon=True).start()
        try:
            news = self._news.get()
            if isinstance(news, str):
                self.reason = news
                self._end()
                if not news:
                    with suppress(Empty):
                        news = self._news.get(timeout=SECONDS_TO_END_TRIALS)
        finally:
            self._end()
        if news is not None:
            raise Stopped if isinstance(news, str) else news

    def _end(self) -> None:
        with self._lock:
            self._stopped = True


@contextmanager
def stopped_by_signals(stop: Stop, announce: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM (preemption, `docker stop`) and SIGHUP (a closed terminal) stop the work, which is announced; a
    second Ctrl-C raises KeyboardInterrupt at once. A signal that is ignored, as under `nohup`, stays so."""

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.ask()
        # By a thread: this one may be in the middle of a write to the same stream.
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
