"""The Python API, on a real sweep."""

import json

import pytest

import sweep
from sweep import Sweep
from sweep.driver import confirm as confirmation
from sweep.driver import launch

TINY = {
    "methods": ["vae"], "trials": 2, "epochs": 2, "first_rung": 2, "samples": 100, "name": "quick",
    "set": {"network": "mlp_32_16", "latent_dim": 4}, "cpus_per_trial": 1,
}  # fmt: skip
DAY = """
import json, sys
from sweep import Sweep
from sweep.driver import launch

sweep = Sweep.run(**json.loads(sys.argv[1]))
assert sweep.outcome == "done" and len(sweep.trials) == 2
sweep = Sweep(sweep.folder).extend(1)
shown = {
    "trials": sorted(sweep.trials.trial), "epochs": sorted(set(sweep.curves.epoch)), "config": sweep.config.trials,
    "methods": list(sweep.leaderboard.method), "shape": list(sweep.winner("vae").sample(3).shape),
    "report": sweep.report().name, "shown": sweep._repr_html_(),
}
print("SHOWN", json.dumps(shown))
"""


@pytest.mark.slow
def test_a_sweep_is_run_extended_and_read_from_python(programs):
    fields = TINY | {"out": str(programs.folder / "sweeps"), "tracking_uri": programs.tracking}
    output = programs.start("-c", DAY, json.dumps(fields)).ends_well()
    found = json.loads(output.partition("SHOWN ")[2].splitlines()[0])
    assert found["trials"] == [f"vae-digits-{number:04d}" for number in range(3)] and found["config"] == 3
    assert found["epochs"] == [1, 2] and found["methods"] == ["vae"] and found["shape"] == [3, 1, 8, 8]
    assert found["report"] == "report.html" and "<table" in found["shown"] and "vae" in found["shown"]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"trails": 3}, "Sweep.run: unknown key 'trails'; did you mean 'trials'"),
        ({"trials": 0}, "Sweep.run: trials = 0: "),
        ({"methods": ["vea"]}, "vea"),
    ],
)
def test_wrong_fields_are_named_before_anything_is_written(fields, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        Sweep.run(**fields)
    assert words in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_confirmation_gets_its_fields_and_gives_the_comparisons(monkeypatch):
    given = []
    monkeypatch.setattr(confirmation, "confirm", lambda folder, **fields: given.append((folder, fields)))
    monkeypatch.setattr(Sweep, "__init__", lambda self: setattr(self, "folder", "s"))
    monkeypatch.setattr(Sweep, "confirmed", "the comparisons")
    assert Sweep().confirm(seeds=2, again=True) == "the comparisons"
    assert given == [("s", {"top": None, "seeds": 2, "folds": None, "again": True})]


def test_epochs_are_scaled_as_by_the_flag(monkeypatch):
    started = []
    monkeypatch.setattr(launch, "start", lambda config: started.append(config) or "s")
    monkeypatch.setattr(Sweep, "__init__", lambda *_: None)
    monkeypatch.setattr(Sweep, "_concluded", lambda _: None)
    Sweep.run(epochs=30, first_rung=10, scale=0.1)
    assert [(config.epochs, config.first_rung, config.scale) for config in started] == [(3, 1, 1.0)]


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give the folder of a sweep"):
        Sweep(tmp_path)


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'Sweeps'"):
        sweep.Sweeps  # noqa: B018
