"""A day with the tool, in the order of the documentation, on one sweep.

Installation is CI's own first step; the user interface of MLflow behind `compare` is in tests/sweep/tracking.
"""

import json
import shutil
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from analysis.load import read_published, read_sweep
from analysis.page.live import served
from analysis.papers.gae import table3
from sweep import Sweep
from sweep.commands import main
from sweep.config import PRESET_FILES
from sweep.record import read, read_trials
from sweep.tracking.compare import WINNERS, groups
from trainables.flags import read_preset

ROOT = Path(__file__).parents[1]
MISTAKEN = """from trainables.methods.beta_vae import BetaVAE


class Ladder(BetaVAE):
    def loss(self, x):
        return self.encode(x).mean.sum()
"""
METHOD = MISTAKEN.partition("    def loss")[0] + "    pass\n"
JUDGE = """from torch import nn


class Judge(nn.Module):
    def forward(self, images):
        return nn.functional.avg_pool2d(images, 7).flatten(1)
"""


def write_mnist(raw: Path) -> None:
    """200 training and 50 test pictures of noise in the layout of MNIST."""
    raw.mkdir(parents=True)
    for part, n in (("train", 200), ("t10k", 50)):
        for name, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
            values = np.random.default_rng(0).integers(0, 10, shape, np.uint8)
            (raw / f"{part}-{name}-ubyte").write_bytes(header + values.tobytes())


@pytest.mark.slow
def test_a_day(programs, capsys, monkeypatch):
    lab, folder = programs.folder / "my_lab.py", programs.folder / "sweeps" / "quick"
    shutil.copy(ROOT / "search_spaces" / "beta_vae.toml", lab.with_suffix(".toml"))
    flags = ["--methods", "vae", "my_lab:Ladder", "--trials", "2", "--epochs", "9"]

    # One's own method, first with a mistake: one line names the author's file.
    monkeypatch.chdir(programs.folder)
    lab.write_text(MISTAKEN)
    with pytest.raises(SystemExit) as refused:
        main(["check", "my_lab:Ladder"])
    said = "".join(capsys.readouterr())
    assert refused.value.code and "my_lab.py" in said and "Loss" in said and "Traceback" not in said
    sys.modules.pop("my_lab", None)
    lab.write_text(METHOD)

    # The sweep is watched while it runs, and stopped from another terminal.
    running = programs.sweep(*flags)
    record = folder / "record.jsonl"
    running.until(lambda: record.exists() and any(event.event == "report" for event in read(record)))
    with served([folder]) as address:
        state, page = (urllib.request.urlopen(address + path).read().decode() for path in ("state", "report/0/"))
    assert json.loads(state)[0]["name"] == "quick" and "Ladder" in page
    main(["stop", str(folder)])
    assert running.wait() == 130, running.output
    assert read_trials(folder).outcome == "interrupted" and "python -m sweep resume" in running.output

    # It continues where it stopped, and ends with its leaderboard.
    output = programs.resume().ends_well()
    assert "digits · fcd, lower is better" in output and "Ladder" in output

    # Its results are compared and read from Python; a winner is given away.
    trials = read_trials(folder)
    assert len(groups(trials)["digits"][WINNERS]) == 2
    assert len(programs.runs(trials.sweep.sweep)) == 1 + len(trials.trials)
    sweep = Sweep(folder)
    assert set(sweep.leaderboard["method"]) == {"vae", "Ladder"} and "<table" in sweep._repr_html_()
    assert sweep.winner("vae").sample(4).shape == (4, 1, 8, 8)
    capsys.readouterr()
    main(["push", str(folder), "vae", "--out", str(programs.folder / "model")])
    assert "contains the winner" in capsys.readouterr().out

    # A paper's table is a preset: one of its cells is trained for an epoch, and shown beside the print.
    assert {"vae", "gae"} <= set(read_preset(PRESET_FILES, "gae-table3")["methods"])
    lab.with_name("my_judge.py").write_text(JUDGE)
    write_mnist(programs.folder / "data" / "MNIST" / "raw")
    cell = ["--methods", "vae", "--datasets", "mnist", "--points", "paper", "--scale", "0.03", "--seeds", "1"]
    cheap = [
        "--metric",
        "my_judge:Judge",
        "--samples",
        "50",
        "--cpus-per-trial",
        "1",
        "--tracking-uri",
        programs.tracking,
    ]
    where = ["--data-root", programs.folder / "data", "--name", "table"]
    programs.start(ROOT / "sweep" / "run.py", "--preset", "gae-table3", *cell, *cheap, *where).ends_well()
    printed = read_published("gae", 3).set_index(["method", "dataset"])["value"]
    (row,) = table3(read_sweep(folder.with_name("table"))).to_dict("records")
    (trial,) = read_trials(folder.with_name("table")).trials.values()
    assert (row["printed"], row["hand_tuned"], row["runs"]) == (printed["VAE", "MNIST"], trial.value, 1)
    assert row["same_recipe"].startswith("no: metric fd_judge, printed fid")
