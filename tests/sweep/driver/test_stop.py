"""Work that is asked to stop, by signals or because it cannot go on."""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Event, Thread
from types import SimpleNamespace

import pytest
from test_conductor import Tune

from sweep.driver import executor, job
from sweep.driver import stop as stopping
from sweep.driver.launch import Search
from sweep.driver.stop import Stop, Stopped, stopped_by_signals
from sweep.record import read_trials


def test_work_comes_to_its_end_or_raises_what_it_raises(monkeypatch):
    monkeypatch.setattr("sweep.driver.stop.SECONDS_TO_HEAR", 0)
    done = []
    Stop().attend(lambda: done.append(1))
    assert done == [1]

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Stop().attend(fails)


@pytest.fixture(autouse=True)
def no_signal_is_ignored() -> Iterator[None]:
    """Tests that run in the background or under nohup inherit ignored signals, which a sweep leaves ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_an_error_of_a_step_is_raised_as_it_is(monkeypatch):
    """Tune raises its own error, whose text is a traceback."""
    monkeypatch.setattr("sweep.driver.stop.SECONDS_TO_HEAR", 0.2)
    stop = Stop()

    def work():
        try:
            with stop.going_on():
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("Tune failed") from error

    with pytest.raises(OSError, match="No space left"):
        stop.attend(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_a_step_be_completed_and_no_other_begin(number):
    stop, steps = Stop(), []

    def work() -> None:
        while True:
            with stop.going_on():
                steps.append("begun")
                if len(steps) == 3:
                    os.kill(os.getpid(), number)
                steps.append("completed")

    with stopped_by_signals(stop, print), pytest.raises(Stopped):
        stop.attend(work)
    assert stop.reason == "" and steps and steps == ["begun", "completed"] * (len(steps) // 2)
    with pytest.raises(Stopped), stop.going_on():
        steps.append("too late")
    assert "too late" not in steps


def test_a_signal_before_the_work_is_answered_at_once_and_not_forgotten():
    stop, said = Stop(), SimpleQueue()
    with stopped_by_signals(stop, said.put):
        os.kill(os.getpid(), signal.SIGTERM)
        assert said.get() == stopping.STOPPING
        with pytest.raises(Stopped):
            stop.attend(lambda: endless(stop))


def endless(stop: Stop) -> None:
    while True:
        with stop.going_on():
            pass


def test_work_that_was_done_when_it_was_asked_to_stop_is_done():
    stop, last = Stop(), Event()
    stop.ask()
    last.set()
    stop.attend(last.wait)


def test_the_sweep_does_not_wait_for_work_that_cannot_continue(monkeypatch):
    """It hangs in a call that no signal reaches."""
    monkeypatch.setattr(stopping, "SECONDS_TO_HEAR", 0.01)
    stop, never = Stop(), Event()
    stop.ask("the server has died")
    with pytest.raises(Stopped):
        stop.attend(never.wait)
    assert stop.reason == "the server has died"
    never.set()


@pytest.mark.parametrize("before", ["the server has died", "the work fails"])
def test_a_signal_counts_more_than_what_it_did_to_others_before(before, monkeypatch):
    """It reaches all processes of a sweep, in any order."""
    monkeypatch.setattr(stopping, "SECONDS_TO_END_TRIALS", 0.01)
    stop, never, failed = Stop(), Event(), Event()

    def work() -> None:
        if before == "the work fails":
            failed.set()
            raise ZeroDivisionError
        stop.ask(before)
        failed.set()
        never.wait()

    def signalled() -> None:
        failed.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=signalled).start()
    with stopped_by_signals(stop, print), pytest.raises(Stopped):
        stop.attend(work)
    assert stop.reason == ""
    never.set()


def test_work_that_fails_after_it_was_asked_to_stop_was_stopped():
    """A signal to all processes of a sweep ends Ray's servers, too, and calls to them fail."""
    stop = Stop()

    def work() -> None:
        stop.ask()
        raise ZeroDivisionError

    with pytest.raises(Stopped):
        stop.attend(work)


def test_work_that_does_not_stop_is_abandoned(monkeypatch):
    monkeypatch.setattr(stopping, "SECONDS_TO_END_TRIALS", 0.01)
    stop, never = Stop(), Event()
    stop.ask()
    with pytest.raises(Stopped):
        stop.attend(never.wait)
    never.set()


def test_a_second_ctrl_c_does_not_wait():
    stop, never = Stop(), Event()

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            pass
        os.kill(os.getpid(), signal.SIGINT)
        never.wait()

    with stopped_by_signals(stop, print), pytest.raises(KeyboardInterrupt):
        stop.attend(work)
    never.set()


def test_a_signal_while_the_results_are_written_stops_what_would_follow(make_plan, tmp_path, monkeypatch):
    """The command would go on to the confirmation."""
    monkeypatch.setattr(executor, "cluster", lambda *_: nullcontext([(1, 0)]))
    monkeypatch.setattr(executor, "run", lambda conductor, *_: Tune(conductor).run())
    monkeypatch.setattr(job, "prepare_metrics", lambda *_: {})
    tracker = SimpleNamespace(close=lambda seconds: None)
    monkeypatch.setattr(job, "tracking", SimpleNamespace(check=lambda uri: None, Tracker=lambda *_: tracker))
    monkeypatch.setattr(Search, "conclude", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    said, plan = SimpleQueue(), make_plan(out=tmp_path, name="s")
    with pytest.raises(KeyboardInterrupt):
        job.drive(Search(plan, tmp_path / "s", resumed=False), said.put)
    assert read_trials(tmp_path / "s").outcome == "done"


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals(Stop(), print):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
