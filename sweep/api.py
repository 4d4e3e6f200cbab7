"""Sweeps from Python: run one, go on with it, read what came out."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.confirm import confirmed
from analysis.load import read_sweep
from analysis.profiles import balances
from analysis.tables import headline, leaderboard
from sweep.config import SweepConfig
from sweep.driver import confirm as confirmation
from sweep.driver import launch
from sweep.driver.winners import load_winner
from trainables.config import checked
from trainables.method import Method


class Sweep:
    """The sweep in a folder; in a notebook it shows itself as its leaderboard.

    ```python
    from sweep import Sweep

    sweep = Sweep.run(methods=["vae", "gae"], datasets=["digits"], trials=8)
    sweep.leaderboard
    sweep.winner("gae").sample(64)  # images (64, C, H, W) in 0..1
    ```

    Raises ValueError if the folder holds no sweep.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config = launch.config_of(self.folder)

    @classmethod
    def run(cls, **fields: Any) -> "Sweep":
        """Runs a new sweep to its end, or until it is interrupted, and returns it.

        `fields` are those of `sweep.config.SweepConfig`, which are the flags of `sweep/run.py` with underscores
        (`epochs=27`, `data_root="data"`). With `confirm=True` this and the calls that go on with the sweep confirm its
        best points at its end. Raises ValueError, before anything is written, for whatever can be known to be wrong.
        """
        return cls(launch.start(checked(SweepConfig, fields, "Sweep.run")))._concluded()

    def resume(self, *, tracking_uri: str | None = None, address: str | None = None) -> "Sweep":
        """Goes on with the sweep where it was interrupted. Raises ValueError while it runs elsewhere."""
        launch.resume(self.folder, tracking_uri=tracking_uri, address=address)
        return self._concluded()

    def retry(self) -> "Sweep":
        """Runs again the trials that failed, ran out of memory or were preempted. Raises ValueError if there are
        none."""
        launch.retry(self.folder)
        return self._concluded()

    def extend(self, trials: int) -> "Sweep":
        """Adds the epochs of `trials` full trainings to each study. Raises ValueError if nothing would be added."""
        launch.extend(self.folder, trials)
        self.config = launch.config_of(self.folder)
        return self._concluded()

    def _concluded(self) -> "Sweep":
        """The sweep, confirmed if it was configured so, is at its end and has no confirmation."""
        if self.config.confirm and self.outcome == "done" and not confirmation.is_confirmed(self.folder):
            self.confirm()
        return self

    def confirm(self, *, top: int | None = None, seeds: int | None = None, again: bool = False) -> pd.DataFrame:
        """Trains the best `top` points of each study and its hand-tuned one anew with `seeds` seeds, scores them on
        the test split and returns `confirmed`. Raises ValueError where that has been done, unless `again`."""
        confirmation.confirm(self.folder, top=top, seeds=seeds, again=again)
        return self.confirmed

    @property
    def outcome(self) -> str:
        """`done`, `interrupted`, or `running` (also after its driver was killed)."""
        return read_sweep(self.folder).meta["outcome"]

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial; the columns are those of `analysis.load.Sweep.trials`."""
        return read_sweep(self.folder).trials

    @property
    def curves(self) -> pd.DataFrame:
        """One row per number reported: trial, epoch, stage, metric, value."""
        return read_sweep(self.folder).curves

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One row per study, the best tuned value of each data set first; see `analysis.tables.leaderboard`."""
        return leaderboard(read_sweep(self.folder))

    @property
    def balances(self) -> pd.DataFrame:
        """One row per study and balance knob: by how much its hand-tuned value was off; see
        `analysis.profiles.balances`."""
        return balances(read_sweep(self.folder))

    @property
    def confirmed(self) -> pd.DataFrame:
        """The comparisons of the latest confirmation, on the test split. Raises ValueError if there is none."""
        looks = confirmation.looks_at_test(self.folder)
        if not looks:
            raise ValueError(f"{self.folder} has no confirmation yet; make one with confirm()")
        return confirmed(read_sweep(looks[-1]))

    def winner(self, method: str, dataset: str | None = None, device: str = "cpu") -> Method:
        """The best trained model of a study. `dataset` may be left out where the sweep has one. Raises ValueError."""
        return load_winner(self.folder, method, dataset, device)

    def report(self) -> Path:
        """Writes the tables and report.html anew, from the record alone, and returns the page."""
        return confirmation.write_pages(self.folder)

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        board = self.leaderboard
        shown = board[["dataset", "method", "metric", "hand_tuned", "tuned", "improvement_percent", "changed"]]
        return f"<p>{headline(board)}</p>{shown.round(2).to_html(index=False, na_rep='')}"
