"""`python -m sweep logs`: what is known of one trial."""

import pytest

from sweep import commands
from sweep.record import Record


@pytest.fixture
def folder(tmp_path):
    """A sweep with a trial that failed after it had been evaluated once."""
    study = {
        "study": "vae-digits",
        "method": "vae",
        "dataset": "digits",
        "metric": "valid/fcd",
        "trials": 2,
        "epochs": 9,
    }
    (tmp_path / "config.yaml").write_text("methods: [vae]\n")
    with Record(tmp_path / "record.jsonl") as record:
        record.append("sweep", sweep="s", studies=[study])
        about = {"trial": "vae-digits-0000", "study": "vae-digits", "number": 0}
        record.append("start", **about, values={"beta": 4.0}, origin="paper", seed=7)
        record.append("report", trial="vae-digits-0000", rows=[{"epoch": 1, "metrics": {"valid/fcd": 12.345}}])
        record.append(
            "end",
            trial="vae-digits-0000",
            state="failed",
            epoch=2,
            reason="TypeError: no (mine.py:7)",
            worker={"host": "a", "gpus": 0.25},
        )
    (tmp_path / "trials" / "vae-digits-0000").mkdir(parents=True)
    (tmp_path / "trials" / "vae-digits-0000" / "traceback.txt").write_text("Traceback\n  mine.py\nTypeError: no\n")
    return tmp_path


def test_a_failed_trial_is_shown_with_its_values_reason_and_traceback(folder, capsys):
    commands.main(["logs", str(folder), "vae-digits-0000"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "vae-digits-0000: failed at epoch 2, attempt 1"
    assert "reason    TypeError: no (mine.py:7)" in lines
    assert "worker    host a, gpus 0.25" in lines
    assert "values    beta = 4.0" in lines and "origin    paper, seed 7" in lines
    assert any(line.startswith("epoch 1 ") and line.endswith("valid/fcd 12.35") for line in lines)
    assert lines[-3:] == ["Traceback", "  mine.py", "TypeError: no"]


def test_a_trial_that_is_not_there_is_one_line(folder, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(["logs", str(folder), "vae-digits-0001"])
    assert end.value.code == 2
    assert "has no trial 'vae-digits-0001'; did you mean 'vae-digits-0000'?" in capsys.readouterr().err
