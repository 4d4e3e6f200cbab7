"""What is kept of the trained models, and how it is found again."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from made_up import ENTRY, event

from sweep import tracking
from sweep.driver import hub
from sweep.driver.winners import collect, find, load_winner
from sweep.record import RECORD, WEIGHTS, Record, Trials
from trainables import Config, load, save
from trainables.catalog import find as find_method

STUDY = ENTRY | {"study": "vae-digits", "dataset": "digits"}
VALUES = {"latent_dim": 2, "learning_rate": 1e-3, "batch_size": 20, "network": "mlp_8", "likelihood": "bce"}


def trial(number, state, value=None, study="vae-digits"):
    name = f"{study}-{number:04d}"
    yield event("start", trial=name, study=study, number=number, values=VALUES)
    if value is not None:
        rows = [{"epoch": 9, "metrics": {"valid/fcd": value}}]
        yield event("report", trial=name, rows=rows)
    if state != "running":
        yield event("end", trial=name, state=state, epoch=9)


def trials_of(*stories):
    studies = [STUDY, STUDY | {"study": "beta_vae-digits", "method": "beta_vae"}]
    opening = event("sweep", sweep="s", studies=studies)
    return Trials.from_events([opening, *(event for story in stories for event in story)])


@pytest.fixture
def folder(tmp_path):
    """A sweep whose first four trials have left their files."""
    for number in range(4):
        place = tmp_path / "trials" / f"vae-digits-{number:04d}"
        place.mkdir(parents=True)
        (place / WEIGHTS).write_text(f"weights {number}")
        (place / "samples.png").write_text(f"samples {number}")
    return tmp_path


def weights_in(folder, place):
    return (folder / place / WEIGHTS).read_text()


def test_the_best_and_the_hand_tuned_are_kept(folder):
    collect(folder, trials_of(trial(0, "complete", 5.0), trial(1, "complete", 3.0), trial(2, "complete", 4.0)))
    assert weights_in(folder, "winners/vae-digits") == "weights 1"
    assert weights_in(folder, "hand_tuned/vae-digits") == "weights 0"
    assert (folder / "winners/vae-digits/samples.png").read_text() == "samples 1"
    assert weights_in(folder, "trials/vae-digits-0001") == "weights 1"
    assert not (folder / "trials/vae-digits-0002" / WEIGHTS).exists()
    assert (folder / "trials/vae-digits-0002" / "samples.png").exists()


def test_the_weights_of_what_still_runs_stay(folder):
    collect(folder, trials_of(trial(0, "complete", 5.0), trial(3, "running", 1.0)))
    assert (folder / "trials/vae-digits-0003" / WEIGHTS).exists()


def test_only_complete_trials_win(folder):
    collect(folder, trials_of(trial(0, "complete", 5.0), trial(1, "pruned", 3.0), trial(2, "diverged", 1.0)))
    assert weights_in(folder, "winners/vae-digits") == "weights 0"


def test_a_later_winner_takes_the_place_of_an_earlier_one(folder):
    collect(folder, trials_of(trial(0, "complete", 5.0), trial(1, "complete", 3.0)))
    (folder / "winners/vae-digits/by-hand.txt").touch()
    collect(folder, trials_of(trial(0, "complete", 5.0), trial(1, "complete", 3.0), trial(2, "complete", 2.0)))
    assert weights_in(folder, "winners/vae-digits") == "weights 2"
    assert not (folder / "winners/vae-digits/by-hand.txt").exists()
    assert [path.name for path in (folder / "winners").iterdir()] == ["vae-digits"]


def test_a_best_trial_without_its_model_is_named_and_no_other_model_is_shown_for_it(folder):
    for number in range(3):
        config = {"config": {"values": VALUES | {"batch_size": 20 + number}, "seed": 0}}
        (folder / "trials" / f"vae-digits-{number:04d}" / "config.json").write_text(json.dumps(config))
    first = trial(0, "complete", 5.0), trial(1, "complete", 3.0)
    told = trials_of(*first)
    told.trials["vae-digits-0001"].values |= {"batch_size": 21}
    assert collect(folder, told) == []
    shutil.rmtree(folder / "trials/vae-digits-0001")
    assert collect(folder, told) == [], "the copy is that of the best trial"
    assert weights_in(folder, "winners/vae-digits") == "weights 1"

    better = trials_of(trial(0, "complete", 5.0), trial(2, "complete", 2.0))
    better.trials["vae-digits-0002"].values |= {"batch_size": 22}
    (folder / "trials/vae-digits-0002" / WEIGHTS).unlink()
    (line,) = collect(folder, better)
    assert line.startswith(f"{folder}/winners/vae-digits is left out: ") and "vae-digits-0002" in line
    assert not (folder / "winners/vae-digits").exists()
    assert weights_in(folder, "hand_tuned/vae-digits") == "weights 0"


def test_a_winner_whose_storage_cannot_be_read_for_the_moment_stays(folder):
    told = trials_of(trial(0, "complete", 5.0), trial(1, "complete", 3.0))
    collect(folder, told)
    shutil.rmtree(folder / "trials/vae-digits-0001")
    (folder / "winners/vae-digits/config.json").symlink_to("/proc/self/mem")  # EIO
    with pytest.raises(OSError, match="Input/output error"):
        collect(folder, told)
    assert weights_in(folder, "winners/vae-digits") == "weights 1"


def test_a_full_disk_keeps_the_earlier_winner_and_is_named(folder, monkeypatch):
    collect(folder, trials_of(trial(0, "complete", 5.0), trial(1, "complete", 3.0)))
    copy = shutil.copy2

    def full(source, target, **more):
        if str(source).endswith(WEIGHTS):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return copy(source, target, **more)

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError) as raised:
        collect(folder, trials_of(trial(0, "complete", 5.0), trial(2, "complete", 1.0)))
    assert raised.value.errno == errno.ENOSPC
    assert weights_in(folder, "winners/vae-digits") == "weights 1"
    assert not list(folder.glob("winners/.*"))


def test_a_study_without_a_complete_trial_has_no_winner(folder):
    (folder / "trials/vae-digits-0000" / WEIGHTS).unlink()  # only complete trials leave weights
    collect(folder, trials_of(trial(0, "diverged"), trial(1, "pruned", 3.0)))
    assert not (folder / "winners").exists() and not (folder / "hand_tuned").exists()
    with pytest.raises(ValueError, match="no winner matches 'vae'; winners: none yet"):
        find(folder, "vae")


def test_a_winner_is_found_by_its_method(tmp_path):
    for study in ("vae-digits", "vae-mnist", "beta_vae-mnist"):
        (tmp_path / "winners" / study).mkdir(parents=True)
        (tmp_path / "winners" / study / WEIGHTS).touch()
    assert find(tmp_path, "beta_vae").name == "beta_vae-mnist"
    assert find(tmp_path, "vae", "mnist").name == "vae-mnist"
    with pytest.raises(ValueError, match="more than one winner matches 'vae'; winners: beta_vae-mnist, vae-digits"):
        find(tmp_path, "vae")
    with pytest.raises(ValueError, match="no winner matches 'gae'"):
        find(tmp_path, "gae")
    with pytest.raises(ValueError, match="no winner matches 'vae-svhn'"):
        find(tmp_path, "vae", "svhn")


def test_three_lines_to_a_winner_that_samples_and_reconstructs(tmp_path):
    config = Config(method="vae", dataset="digits", values=VALUES, epochs=1)
    trained = find_method("vae")(config.hyper, (1, 8, 8)).eval()
    save(trained, config, tmp_path / "winners" / "vae-digits")
    winner = load_winner(tmp_path, "vae")
    assert winner.sample(3).shape == (3, 1, 8, 8) and not winner.training
    assert winner.reconstruct(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(winner.parameters(), trained.parameters(), strict=True))


@pytest.fixture
def sweep(tmp_path):
    """A sweep of one complete trial, whose model is the winner."""
    folder = tmp_path / "sweep"
    with Record(folder / RECORD) as record:
        record.append("sweep", sweep="s", studies=[STUDY])
        for story in trial(0, "complete", 20.0):
            record.append(story.event, **story.model_dump(exclude={"time", "event"}))
    torch.manual_seed(0)
    config = Config(method="vae", dataset="digits", values=VALUES, epochs=9, seed=3, data_root="/home/ada/data")
    save(find_method("vae")(config.hyper, (1, 8, 8)), config, folder / "winners" / "vae-digits")
    for name in ("samples", "nearest_training_images"):
        (folder / "winners" / "vae-digits" / f"{name}.png").touch()
    return folder


def test_a_pushed_winner_loads_and_tells_nothing_of_the_machine_or_the_data(sweep, tmp_path):
    out = tmp_path / "model"
    hub.write(sweep, "vae", None, out)
    assert {file.name for file in out.iterdir()} == {"README.md", "config.json", "model.safetensors", "samples.png"}
    torch.manual_seed(1)
    drawn = load(out).sample(2)
    torch.manual_seed(1)
    assert torch.equal(drawn, load_winner(sweep, "vae").sample(2))
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "# VAE on digits" in card and "**20.0**" in card and "| learning_rate | 0.001 |" in card
    assert "/home/ada" not in card + (out / "config.json").read_text()


@pytest.mark.slow
def test_a_winner_in_mlflow_samples_without_a_pickle(sweep, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    uri, out = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "model"
    study = hub.write(sweep, "vae", None, out)
    with pytest.raises(ValueError, match="has no run of the winner of vae-digits; add it with: python -m sweep track"):
        tracking.log_model(sweep, study, out, uri, "e")
    tracking.track(sweep, uri, "e")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    address = tracking.log_model(sweep, study, out, uri, "e")
    assert "MLFLOW_TRACKING_URI" not in os.environ  # the next sweep of this process would use it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model(address)
    drawn = model.predict({"n": [2]}, params={"seed": 1})
    winner = load_winner(sweep, "vae")
    torch.manual_seed(1)
    assert np.array_equal(drawn, winner.sample(2).numpy())
    assert np.array_equal(drawn, model.predict({"n": [2]}, params={"seed": 1}))
    (run,) = mlflow.search_runs(search_all_experiments=True, filter_string="tags.trial_id = 'vae-digits-0000'",
                                output_format="list")  # fmt: skip
    assert run.info.status == "FINISHED" and run.outputs.model_outputs
    assert {file.suffix for file in tmp_path.rglob("*")}.isdisjoint({".pkl", ".pickle", ".pt", ".pth"})


def test_a_winner_is_not_pushed_over_files(sweep, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        hub.write(sweep, "vae", None, tmp_path)
