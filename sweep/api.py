"""Python API of a sweep: run it, continue it, read its results."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.confirm import confirmed
from analysis.load import read_sweep
from analysis.profiles import balances
from analysis.tables import cautions, headline, leaderboard
from sweep.config import SweepConfig, scaled
from sweep.driver import confirm as confirmation
from sweep.driver import launch
from sweep.driver.winners import load_winner
from sweep.search.rung_table import rung_table
from trainables.config import checked
from trainables.method import Method


class Sweep:
    """The sweep in a folder. A notebook displays it as its leaderboard.

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
        """Run a new sweep until it is done or interrupted, and return it.

        `fields` are the fields of `sweep.config.SweepConfig`, that is, the flags of `sweep/run.py` with underscores
        (`epochs=27`, `data_root="data"`), except those that read files or replace a run, as `--preset`. With
        `confirm=True`, this call and every call that continues the sweep confirm its best points at its end. Raises
        ValueError, before anything is written, if the fields are invalid.
        """
        return cls(launch.start(scaled(checked(SweepConfig, fields, "Sweep.run"))))._concluded()

    def resume(self, *, tracking_uri: str | None = None, address: str | None = None) -> "Sweep":
        """Continue the sweep where it was interrupted. Raises ValueError while it runs elsewhere."""
        launch.resume(self.folder, tracking_uri=tracking_uri, address=address)
        return self._concluded()

    def retry(self) -> "Sweep":
        """Run the trials again that failed, ran out of memory or were preempted. Raises ValueError if there are
        none."""
        launch.retry(self.folder)
        return self._concluded()

    def extend(self, trials: int) -> "Sweep":
        """Add the epochs of `trials` full trainings to each study. Raises ValueError if nothing would be added."""
        launch.extend(self.folder, trials)
        self.config = launch.config_of(self.folder)
        return self._concluded()

    def _concluded(self) -> "Sweep":
        """Confirm the sweep if it is done and a confirmation is due; return it."""
        if self.outcome == "done" and confirmation.is_due(self.folder, self.config):
            self.confirm()
        return self

    def confirm(
        self,
        *,
        top: int | None = None,
        seeds: int | Sequence[int] | None = None,
        folds: int | None = None,
        again: bool = False,
    ) -> pd.DataFrame:
        """Train the hand-tuned point of each study and its best `top` others again with fresh seeds, or once on each of
        `folds` folds, score them on the test split and return `confirmed`.

        seeds: trainings of each point, or several increasing numbers; a study goes on with the next while its points
        cannot be told apart. Raises ValueError if the sweep was confirmed before, unless `again`.
        """
        confirmation.confirm(self.folder, top=top, seeds=seeds, folds=folds, again=again)
        return self.confirmed

    @property
    def outcome(self) -> str:
        """`done`, `interrupted`, or `running` (also after its driver was killed)."""
        return str(read_sweep(self.folder).meta["outcome"])

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial; the columns are those of `analysis.load.Sweep.trials`."""
        return read_sweep(self.folder).trials

    @property
    def curves(self) -> pd.DataFrame:
        """One row per reported value: trial, epoch, stage, metric, value."""
        return read_sweep(self.folder).curves

    @property
    def leaderboard(self) -> pd.DataFrame:
        """One row per study, the best tuned value of each data set first; see `analysis.tables.leaderboard`."""
        return leaderboard(read_sweep(self.folder))

    @property
    def balances(self) -> pd.DataFrame:
        """One row per study and balance hyperparameter: how far its hand-tuned value is from the optimum; see
        `analysis.profiles.balances`."""
        return balances(read_sweep(self.folder))

    @property
    def rungs(self) -> pd.DataFrame:
        """One row per study and rung: how many trials it paused, promoted and ended, and how well it
        ranked them; see `sweep.search.rung_table.rung_table`."""
        return rung_table(self.folder)

    @property
    def confirmed(self) -> pd.DataFrame:
        """The comparisons of the latest confirmation, on the test split. Raises ValueError if there is none."""
        looks = confirmation.looks_at_test(self.folder)
        if not looks:
            raise ValueError(f"{self.folder} has no confirmation yet; call confirm() first")
        return confirmed(read_sweep(looks[-1]))

    def winner(self, method: str, dataset: str | None = None, device: str = "cpu") -> Method:
        """Load the best trained model of a study. `dataset` may be omitted if the sweep has one. Raises ValueError."""
        return load_winner(self.folder, method, dataset, device)

    def report(self) -> Path:
        """Rewrite the tables and report.html from the record alone, and return the path of the page."""
        return confirmation.write_pages(self.folder)

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        board = self.leaderboard
        shown = board[["dataset", "method", "metric", "hand_tuned", "tuned", "improvement_percent", "changed"]]
        words = "".join(f"<p>{escape(sentence)}</p>" for sentence in (headline(board), *cautions(board)))
        return f"{words}{shown.round(2).to_html(index=False, na_rep='')}"
