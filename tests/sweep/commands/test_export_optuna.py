"""`python -m sweep export-optuna`, read back by Optuna."""

from datetime import datetime

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from sweep import commands
from sweep.record import Record

STUDY = {"method": "vae", "dataset": "digits", "metric": "valid/fcd", "trials": 8, "epochs": 9}
SPACE = {
    "beta": {"low": 0.01, "high": 10.0, "log": True},
    "latent_dim": {"choices": [2, 8, 32]},
    "network": {"value": "mlp_8"},
}
ENDS = {0: "complete", 1: "pruned", 2: "diverged", 3: "failed", 4: "out_of_memory", 5: "cancelled", 6: None}


@pytest.fixture
def folder(tmp_path):
    """A sweep with two studies; one has a trial of each kind of end and one that runs, the other two objectives."""
    ticks = iter(range(1_000_000, 2_000_000))
    with Record(tmp_path / "record.jsonl", clock=lambda: float(next(ticks))) as record:
        one = STUDY | {"study": "vae-digits", "space": SPACE}
        two = STUDY | {"study": "two", "objectives": ["valid/mse"], "space": {"beta": {"value": 1.0}}}
        record.append("sweep", sweep="s", studies=[one, two])
        for number, state in ENDS.items():
            name = f"vae-digits-{number:04d}"
            values = {"beta": 0.02 * (number + 1), "latent_dim": 8, "network": "mlp_8"}
            record.append("start", trial=name, study="vae-digits", number=number, values=values, seed=number)
            for epoch in (1, 3):
                metrics = {"valid/fcd": 100.0 * number + epoch, "train/loss": 1.0}
                record.append("report", trial=name, rows=[{"epoch": epoch, "metrics": metrics}])
            record.append("report", trial=name, rows=[{"epoch": 4, "metrics": {"train/loss": 1.0}}])
            if state:
                record.append("end", trial=name, state=state, epoch=4, reason=f"because {number}")
        for number, metrics in enumerate([{"valid/fcd": 5.0, "valid/mse": 0.1}, {"valid/fcd": 6.0}]):
            about = {"trial": f"two-{number:04d}", "study": "two", "number": number, "origin": "paper"}
            record.append("start", **about, values={"beta": 1.0 + number})
            record.append("report", trial=f"two-{number:04d}", rows=[{"epoch": 9, "metrics": metrics}])
            record.append("end", trial=f"two-{number:04d}", state="complete", epoch=9)
    return tmp_path


def load(folder, study):
    return optuna.load_study(study_name=study, storage=f"sqlite:///{folder}/optuna.db")


def test_optuna_reads_states_values_parameters_and_times_as_the_record_has_them(folder, capsys, recwarn):
    commands.main(["export-optuna", str(folder)])
    assert capsys.readouterr().out.startswith("2 studies, 9 trials; view with:  optuna-dashboard sqlite:///")
    assert not [str(w.message) for w in recwarn if "optuna" in w.filename]
    assert optuna.get_all_study_names(f"sqlite:///{folder}/optuna.db") == ["vae-digits", "two"]
    study = load(folder, "vae-digits")
    assert study.direction == optuna.study.StudyDirection.MINIMIZE and study.metric_names == ["valid/fcd"]
    assert study.user_attrs["network"] == "mlp_8" and study.user_attrs["method"] == "vae"
    trials = study.trials
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE, TrialState.PRUNED, *[TrialState.FAIL] * 4, TrialState.RUNNING
    ]  # fmt: skip
    assert [trial.user_attrs["state"] for trial in trials] == ["complete", "pruned", "diverged", "failed",
                                                               "out_of_memory", "cancelled", "running"]  # fmt: skip
    assert [trial.values for trial in trials] == [[3.0], [103.0], *[None] * 5]
    assert [trial.intermediate_values for trial in trials] == [{1: 100.0 * n + 1, 3: 100.0 * n + 3} for n in range(7)]
    assert (
        "reason" not in trials[6].user_attrs and trials[2].user_attrs["reason"] == "because 2" and trials[2].number == 2
    )
    assert [trial.params for trial in trials] == [
        {"beta": pytest.approx(0.02 * (n + 1)), "latent_dim": 8} for n in range(7)
    ]
    assert trials[0].distributions == {
        "beta": FloatDistribution(0.01, 10.0, log=True),
        "latent_dim": CategoricalDistribution((2, 8, 32)),
    }
    assert trials[0].datetime_start == datetime.fromtimestamp(1_000_001)  # the sweep event had the first tick
    assert trials[0].datetime_complete == datetime.fromtimestamp(1_000_005) and trials[6].datetime_complete is None
    assert study.best_trial.number == 0


def test_points_that_differ_in_what_is_fixed_and_several_objectives_are_shown(folder, capsys):
    commands.main(["export-optuna", str(folder)])
    study = load(folder, "two")
    assert study.metric_names == ["valid/fcd", "valid/mse"]
    assert [(trial.state, trial.values) for trial in study.trials] == [
        (TrialState.COMPLETE, [5.0, 0.1]),
        (TrialState.FAIL, None),  # lacks an objective
    ]
    assert [trial.params for trial in study.trials] == [{"beta": 1.0}, {"beta": 2.0}]
    assert [trial.number for trial in study.best_trials] == [0]


@pytest.mark.slow
def test_an_export_is_written_anew_but_never_over_a_file_of_the_user(folder, tmp_path, capsys):
    commands.main(["export-optuna", str(folder)])
    commands.main(["export-optuna", str(folder)])
    assert len(load(folder, "two").trials) == 2
    other = tmp_path / "mine.db"
    other.write_text("mine")
    for argv, message in (
        ([str(folder), "--out", str(other)], "exists; choose another file"),
        ([str(tmp_path / "none")], "give the folder of a sweep"),
    ):
        with pytest.raises(SystemExit) as ended:
            commands.main(["export-optuna", *argv])
        assert ended.value.code == 2 and message in capsys.readouterr().err
    assert other.read_text() == "mine"
