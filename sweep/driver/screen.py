"""Display of a running sweep: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.page.names import counted
from sweep.driver.resources import Resources
from sweep.record import Event, Trial, Trials
from sweep.record.events import EndEvent, LostEvent
from sweep.search.plan import Plan, Planned
from sweep.search.study import Study

BAD = ("diverged", "failed", "out_of_memory")


class Screen:
    """Listens to the events of the record and shows the progress of the sweep."""

    def __init__(self, plan: Plan, studies: Mapping[str, Study], resources: Resources, folder: Path, console: Console):
        self.plan, self.studies, self.resources, self.folder, self.console = plan, studies, resources, folder, console
        self.budgets = {name: study.most_epochs for name, study in studies.items()}
        self.trials, self.started = Trials(), time.monotonic()
        self.live: Live | None = None

    def hear(self, event: Event, trials: Trials) -> None:
        self.trials = trials
        if isinstance(event, LostEvent):
            why = f"{event.state} at epoch {event.epoch} ({event.reason}), will run again"
            if event.state == "out_of_memory" and (event.worker or {}).get("gpus", 1) < 1:
                why += " on a whole GPU, as further trials of its study will"
            self._print(f"{'':>4}  {event.trial:<28} {why}")
        elif isinstance(event, EndEvent):
            if self.live is None:
                self._print(self._line(trials.trials[event.trial]))
            self._show_growth(trials.trials[event.trial].study)

    def _show_growth(self, name: str) -> None:
        """Say that a confirmation trains a study's points with further seeds."""
        before, study = self.budgets[name], self.studies[name]
        self.budgets[name] = study.most_epochs
        if study.most_epochs > before:
            number = counted(study.most_epochs // study.spec.epochs, "training")
            self._print(f"{'':>4}  {name:<28} its points cannot be told apart yet, so it goes on to {number}")

    def _print(self, line: str) -> None:
        """Print one line, above the table if there is one."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Fit the height of the terminal: studies with running trials first, then running trials."""
        under_way = self.trials.under_way(self.resources.slots)
        room = options.size.height - 5  # minus headline, header, a blank line, the line of hidden studies, the cursor
        trials = under_way[: max(1, room - len(self.plan.studies), room // 3)]
        shown = self._studies(room - len(trials), {trial.study for trial in under_way})
        yield Text(self._headline(), style="dim", no_wrap=True, overflow="ellipsis")
        yield self._board(shown, Counter(trial.study for trial in under_way))
        if left := [study for study in self.plan.studies if study not in shown]:
            done = sum(self._done(study) for study in left)
            words = f"and {counted(len(left), 'more study')}, {done} of them done"
            yield Text(words, style="dim", no_wrap=True, overflow="ellipsis")
        if trials:
            yield Text()
            yield self._progress(trials)

    def _studies(self, room: int, busy: Container[str]) -> list[Planned]:
        """Return the studies to show on `room` lines, in their order."""
        studies = self.plan.studies
        weight = {study.name: (study.name not in busy, self._done(study), i) for i, study in enumerate(studies)}
        kept = sorted(studies, key=lambda study: weight[study.name])[: max(1, room)]
        return [study for study in studies if study in kept]

    def _board(self, studies: Iterable[Planned], under_way: Mapping[str, int]) -> Table:
        metrics = {study.spec.metric.partition("/")[2] for study in self.plan.studies}
        metric = metrics.pop() if len(metrics) == 1 else "value"
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("study", no_wrap=True, overflow="ellipsis")
        for name in ("spent", "ended", "running", "pruned", "failed", f"best {metric}", "hand-tuned"):
            table.add_column(name, justify="right", no_wrap=True)
        for study in studies:
            states = self._states(study)
            best, hand = self._scores(study.name)
            table.add_row(
                Text(f"{study.name}{self._held(study.name)}"),
                _share(self.trials.epochs[study.name], self.studies[study.name].most_epochs),
                str(states.total() - states["running"]),
                str(under_way.get(study.name, 0) or ""),
                str(states["paused"] + states["pruned"] or ""),  # a paused trial ends as pruned unless it is promoted
                Text(str(sum(states[state] for state in BAD) or ""), style="red"),
                Text(best, style="bold green"),
                hand,
            )
        return table

    def _held(self, study: str) -> str:
        """Return the suffix of a study that a user has stopped or paused."""
        if study in self.trials.stopped:
            return " (stopped)"
        return " (paused)" if study in self.trials.paused else ""

    def _progress(self, trials: Iterable[Trial]) -> Table:
        """Show the epoch of each trial, and its latest metric or else its latest loss."""
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "left", "left"):
            table.add_column(justify=justify, no_wrap=True, overflow="ellipsis")
        epochs = self.plan.config.epochs
        for trial in trials:
            last = trial.rows[max(trial.rows)].metrics if trial.rows else {}
            value = f"{trial.metric.partition('/')[2]} {_number(trial.value)}" if trial.value is not None else ""
            if not value and "train/loss" in last:
                value = f"loss {_number(last['train/loss'])}"
            bar = ProgressBar(total=epochs, completed=trial.epoch, width=20)
            table.add_row(Text(trial.name), f"epoch {trial.epoch}/{epochs}", bar, value or "not evaluated yet")
        return table

    def _states(self, study: Planned) -> Counter[str]:
        return Counter(trial.state for trial in self.trials.of(study.name))

    def _done(self, study: Planned) -> bool:
        """Return whether no trial of the study runs or will start."""
        spent = study.name in self.trials.stopped or self.studies[study.name].share >= 1
        return spent and not self._states(study)["running"]

    def _scores(self, study: str) -> tuple[str, str]:
        best, hand = self.trials.best(study), self.trials.hand_tuned_trial(study)
        if hand is None or hand.state == "running":
            shown = ""
        else:
            shown = _number(hand.value) if hand.state == "complete" and hand.value is not None else hand.state
        return (_number(best.value) if best and best.value is not None else ""), shown

    def _headline(self) -> str:
        trials = f"{self.trials.ended} trial{'s' * (self.trials.ended != 1)}"
        spent = f"{_share(self._spent, self._budget)} of the epochs, {trials}"
        return f"{self.folder.name}: {spent}, {duration(self._elapsed())}, {self._left()}"

    def _elapsed(self) -> float:
        """Seconds of this run and of earlier ones."""
        return self.trials.earlier + time.monotonic() - self.started

    def _left(self) -> str:
        """Estimate the remaining time from the remaining epochs and the mean pace so far."""
        if not self._spent or self.trials.ended < self.resources.slots:
            return "estimating the time left"
        return f"about {duration(max(0, self._budget - self._spent) * self._elapsed() / self._spent)} left"

    @property
    def _budget(self) -> int:
        """The epochs that all studies may train, as far as it is known now."""
        return sum(study.most_epochs for study in self.studies.values())

    @property
    def _spent(self) -> int:
        """The epochs that all studies have trained."""
        return self.trials.epochs.total()

    def _line(self, trial: Trial) -> str:
        value = f"{trial.metric.partition('/')[2]} {_number(trial.value)}" if trial.value is not None else ""
        best, hand = self._scores(trial.study)
        reason = f" ({trial.reason})" if trial.state in BAD else ""
        spent = _share(self._spent, self._budget)
        return (
            f"{spent:>4}  {trial.name:<28} {trial.state:<9} epoch {trial.epoch:<4} {value:<14} "
            f"best {best or '-'}, hand-tuned {hand or '-'}{reason}"
        )


@contextmanager
def screen(plan: Plan, studies: Mapping[str, Study], resources: Resources, folder: Path) -> Iterator[Screen]:
    """Context manager that shows a sweep while it runs."""
    console = Console(stderr=False)
    shown = Screen(plan, studies, resources, folder, console)
    if not console.is_terminal:
        yield shown
        return
    with Live(shown, console=console, refresh_per_second=2, transient=True) as live:
        shown.live = live
        yield shown


class _Steady:
    """A stream that ignores write errors, e.g. of a closed pipe or a full disk."""

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
    """Context manager in which errors of stdout do not end the program."""
    stream = sys.stdout
    sys.stdout = _Steady(stream)
    try:
        yield
    finally:
        try:
            stream.flush()
        except OSError:
            pass  # keep ours: Python flushes stdout at exit, and an error would change the exit code
        else:
            sys.stdout = stream


def _share(spent: int, budget: int) -> str:
    """The share of a budget in epochs that is trained, at most 100 %: the last trial of a study may exceed its budget
    by half a training."""
    return f"{min(1, spent / budget):.0%}"


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """3725 -> "1 h 02 min"."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
