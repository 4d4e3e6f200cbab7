"""The sweep on the screen: one calm table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweep.driver.resources import Resources
from sweep.record import Event, Trial, Trials
from sweep.record.events import EndEvent, LostEvent
from sweep.search.plan import Plan, expected_epochs

BAD = ("diverged", "failed", "out_of_memory")


class Screen:
    """Hears every event of the record and shows where the sweep stands."""

    def __init__(self, plan: Plan, resources: Resources, folder: Path, console: Console):
        self.plan, self.resources, self.folder, self.console = plan, resources, folder, console
        self.trials, self.started = Trials(), time.monotonic()
        self.epochs_before: int | None = None  # spent in earlier sittings of a resumed sweep
        self.live: Live | None = None

    def hear(self, event: Event, trials: Trials) -> None:
        self.trials = trials
        if self.epochs_before is None:
            self.epochs_before = self._spent()
        if isinstance(event, LostEvent):
            why = f"{event.state} at epoch {event.epoch} ({event.reason}), runs again"
            self._print(f"{'':>{len(self._count())}}  {event.trial:<28} {why}")
        elif self.live is None and isinstance(event, EndEvent):
            self._print(self._line(trials.trials[event.trial]))

    def _print(self, line: str) -> None:
        """One line; above the table where there is one."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __rich__(self) -> Group:
        metrics = {study.spec.metric.partition("/")[2] for study in self.plan.studies}
        metric = metrics.pop() if len(metrics) == 1 else "value"
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("study")
        for name in ("done", "running", "pruned", "failed"):
            table.add_column(name, justify="right")
        for name in (f"best {metric}", "hand-tuned"):
            table.add_column(name, justify="right")
        for study in self.plan.studies:
            states = (
                Counter(trial.state for trial in self.trials.of(study.name))
                if study.name in self.trials.studies
                else {}
            )
            ended = sum(n for state, n in states.items() if state != "running")
            best, hand = self._scores(study.name)
            table.add_row(
                Text(study.name),
                f"{ended}/{study.spec.trials}",
                str(states.get("running", 0) or ""),
                str(states.get("pruned", 0) or ""),
                Text(str(sum(states.get(state, 0) for state in BAD) or ""), style="red"),
                Text(best, style="bold green"),
                hand,
            )
        return Group(Text(self._headline(), style="dim"), table)

    def _scores(self, study: str) -> tuple[str, str]:
        best, hand = self.trials.best(study), self.trials.hand_tuned(study)
        if hand is None or hand.state == "running":
            shown = ""
        else:
            shown = _number(hand.value) if hand.state == "complete" and hand.value is not None else hand.state
        return (_number(best.value) if best else ""), shown

    def _headline(self) -> str:
        ended = self.trials.ended
        total = sum(study.spec.trials for study in self.plan.studies)
        passed = duration(time.monotonic() - self.started)
        return f"{self.folder.name}: {ended} of {total} trials, {passed}, {self._left()}"

    def _left(self) -> str:
        """Time to go, by the epochs that successive halving is expected to leave."""
        spent = self._spent() - (self.epochs_before or 0)
        elapsed = time.monotonic() - self.started
        total = sum(study.spec.trials for study in self.plan.studies)
        ended = [trial for trial in self.trials.trials.values() if trial.state != "running"]
        if not spent or len(ended) < self.resources.slots:
            return "estimating the time left"
        running = sum(trial.epoch for trial in self.trials.trials.values() if trial.state == "running")
        per_trial = max(expected_epochs(self.plan), sum(trial.epoch for trial in ended) / len(ended))
        left = max(0.0, (total - len(ended)) * per_trial - running)
        return f"about {duration(left * elapsed / spent)} left"

    def _spent(self) -> int:
        return sum(trial.epoch for trial in self.trials.trials.values())

    def _count(self) -> str:
        return f"{self.trials.ended:>4}/{sum(study.spec.trials for study in self.plan.studies)}"

    def _line(self, trial: Trial) -> str:
        value = f"{trial.metric.partition('/')[2]} {_number(trial.value)}" if trial.value is not None else ""
        best, hand = self._scores(trial.study)
        reason = f" ({trial.reason})" if trial.state in BAD else ""
        return (
            f"{self._count()}  {trial.name:<28} {trial.state:<9} epoch {trial.epoch:<4} {value:<14} "
            f"best {best or '-'}, hand-tuned {hand or '-'}{reason}"
        )


@contextmanager
def screen(plan: Plan, resources: Resources, folder: Path) -> Iterator[Screen]:
    """Shows a sweep while it runs."""
    console = Console(stderr=False)
    shown = Screen(plan, resources, folder, console)
    if not console.is_terminal:
        yield shown
        return
    with Live(shown, console=console, refresh_per_second=2, transient=True) as live:
        shown.live = live
        yield shown


class _Steady:
    """A stream that takes all text, also when what is behind it does not: a closed pipe, a full disk under a log."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def steady_output() -> Iterator[None]:
    """Whatever fails of the screen, the program goes on."""
    stream = sys.stdout
    sys.stdout = _Steady(stream)
    try:
        yield
    finally:
        try:
            stream.flush()
        except OSError:
            pass  # ours stays: at its end Python flushes what is there, and an error would change the exit code
        else:
            sys.stdout = stream


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """3725 -> "1 h 02 min"."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
