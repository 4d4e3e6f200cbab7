"""One real sweep, started as `ray submit` starts it: a lone copy of run.py in some other folder."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from sweep.driver.winners import load_winner
from sweep.record import read

ROOT = Path(__file__).parents[2]
BETA = 0.37

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a finished sweep, and what the screen showed."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / "sweep" / "run.py", home / "run.py")
    (home / "sweep.yaml").write_text("trials: 3\nepochs: 3\nset: {beta: 5.0, latent_dim: 4}\n")
    command = [sys.executable, "run.py", "--config", "sweep.yaml", "--methods", "beta_vae", "--samples", "300"]
    command += ["--set", f"beta={BETA}", "network=mlp_64_32", "--name", "small"]
    command += ["--at-end", 'echo "$SWEEP_OUTCOME $SWEEP_FOLDER" > at_end.txt']
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home / "sweeps" / "small", done.stdout


def test_it_ends_with_the_leaderboard_and_where_to_look(run):
    folder, screen = run
    assert "BetaVAE" in screen and "report.html" in screen and "python -m sweep compare" in screen
    for name in ("record.jsonl", "config.yaml", "trials.parquet", "curves.parquet", "leaderboard.csv", "report.html"):
        assert (folder / name).stat().st_size > 0, name
    winner = folder / "winners" / "beta_vae-digits"
    assert {"model.safetensors", "config.json", "samples.png", "reconstructions.png"} <= set(os.listdir(winner))
    assert not (folder / "ray").exists()
    assert (folder.parents[1] / "at_end.txt").read_text().split() == ["done", str(folder)]


def test_beta_walks_from_the_command_line_to_every_place(run):
    folder, _ = run
    starts = [event for event in read(folder / "record.jsonl") if event.event == "start"]
    assert len(starts) >= 3
    assert {event.values["beta"] for event in starts} == {BETA}
    assert set(pd.read_parquet(folder / "trials.parquet")["hyper/beta"]) == {BETA}
    assert load_winner(folder, "beta_vae").hyper.beta == BETA
    with sqlite3.connect(folder.parent / "mlflow.db") as store:
        logged = [float(value) for (value,) in store.execute("select value from params where key = 'beta'")]
    assert logged == [BETA] * len(starts)


def test_every_trial_is_one_ended_run_with_its_outcome(run):
    folder, _ = run
    trials = pd.read_parquet(folder / "trials.parquet").set_index("trial")
    with sqlite3.connect(folder.parent / "mlflow.db") as store:
        tags = dict(
            store.execute(
                "select trial.value, outcome.value from tags trial join tags outcome using (run_uuid) "
                "where trial.key = 'trial_id' and outcome.key = 'outcome'"
            )
        )
        assert store.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)
        assert store.execute("select count(*) from metrics where is_nan").fetchone() == (0,)
    assert tags == trials["state"].to_dict()


def test_a_winner_draws(run, tmp_path):
    folder, _ = run
    command = [sys.executable, "-m", "sweep", "sample", str(folder), "beta_vae", "-n", "9"]
    subprocess.run([*command, "--out", str(tmp_path / "grid.png")], check=True, capture_output=True)
    assert Image.open(tmp_path / "grid.png").getextrema() != (0, 0)


def test_the_notebook_shows_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_FOLDER", str(run[0]))
    notebook = nbformat.read(ROOT / "analysis" / "sweep.ipynb", as_version=4)
    NotebookClient(notebook, startup_timeout=900, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert any("text/html" in output.get("data", {}) for output in outputs)
