"""Sweeps that ran apart are compared as one, and what makes that unfair is said."""

import json
import re
import shutil

import pandas as pd
import pytest

from analysis.confirm import confirmed
from analysis.join import confirmation, differences, read_sweeps
from analysis.load import read_sweep
from analysis.page import plots
from analysis.page.labels import label_trials
from analysis.page.names import method_name
from analysis.page.palette import method_style
from analysis.page.report import COMPARISON, render, write_report
from analysis.recipes import comparisons
from analysis.tables import leaderboard

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_sweep):
    root = tmp_path_factory.mktemp("sweeps")
    first = write_sweep(root / "first", methods=("vae", "gae"), datasets=("digits",), trials=2, pictures=True)
    rest = write_sweep(root / "rest", methods=("wae", "rae_l2"), datasets=("digits",), trials=2, seed=1)
    again = write_sweep(root / "again", methods=("vae", "wae"), trials=4, epochs=9, rungs=(), seed=2)
    return first, rest, again


def change(folder, edit):
    """Rewrites the record of a sweep line by line."""
    record = folder / "record.jsonl"
    events = [json.loads(line) for line in record.read_text().splitlines()]
    for event in events:
        edit(event)
    record.write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_one_folder_is_the_sweep_itself(folders):
    alone = read_sweeps(folders[:1])
    assert alone.name == "first" and not alone.parts
    pd.testing.assert_frame_equal(alone.trials, read_sweep(folders[0]).trials)


def test_methods_of_two_sweeps_stand_in_one_leaderboard_with_their_own_values(folders):
    sweep = read_sweeps(folders[:2])
    assert sweep.name == "first + rest" and sweep.methods == ("vae", "gae", "wae", "rae_l2")
    board = leaderboard(sweep).set_index("method")
    assert board["tuned"].is_monotonic_increasing and len(board) == 4
    for folder in folders[:2]:
        own = leaderboard(read_sweep(folder)).set_index("method")
        for column in ("hand_tuned", "tuned", "changed", "trials", "worker_seconds", "knobs_searched"):
            assert board.loc[own.index, column].to_dict() == own[column].to_dict()
    assert differences(sweep) == []
    assert len(sweep.trials) == 8 and sweep.trials["trial"].is_unique
    assert len(sweep.curves) == sum(len(part.curves) for part in sweep.parts.values())
    assert set(sweep.curves["trial"]) <= set(sweep.trials["trial"])


def test_a_method_of_two_sweeps_carries_their_names(folders):
    first, _, again = folders
    sweep = read_sweeps([first, again])
    assert sweep.methods == ("vae@first", "gae", "vae@again", "wae")
    assert [method_name(method) for method in sweep.methods[:3]] == ["VAE (first)", "GAE", "VAE (again)"]
    assert sweep.datasets == ("digits", "mnist")
    styles = {method_style(method, sweep.methods) for method in sweep.methods}
    assert len(styles) == 4
    assert sweep.home("again/vae-mnist") == (again, "vae-mnist")


def test_a_study_without_a_result_does_not_double_that_of_another_sweep(folders, tmp_path):
    """As when a sweep was stopped and its missing methods were trained in another one."""
    first, _, again = folders

    def unend(event):
        if event["event"] == "end" and event["trial"].startswith("vae-"):
            event["state"] = "cancelled"

    stopped = change(shutil.copytree(first, tmp_path / "stopped"), unend)
    sweep = read_sweeps([stopped, again])
    assert sweep.methods == ("gae", "vae", "wae") and len(sweep.trials_of("again/vae-digits")) == 4
    assert set(sweep.parts["stopped"].studies) == {"gae-digits"}
    page = re.sub(r"\s+", " ", render(sweep))
    assert re.search(r"<td[^>]*>GAE</td>", page) and not re.search(r"<td[^>]*>VAE, GAE</td>", page)
    alone = read_sweeps([stopped, folders[1]])  # which has no VAE
    assert alone.methods == ("vae", "gae", "wae", "rae_l2")


def test_a_sweep_without_a_report_yet_is_joined(folders, tmp_path):
    young = shutil.copytree(folders[1], tmp_path / "young")
    lines = (young / "record.jsonl").read_text().splitlines(keepends=True)
    (young / "record.jsonl").write_text("".join(lines[:2]))  # the sweep and one start
    sweep = read_sweeps([folders[0], young])
    assert sweep.methods == ("vae", "gae", "wae", "rae_l2") and len(sweep.trials) == 5
    assert len(render(sweep)) > 1000


def test_hyperparameters_keep_a_type_that_holds_all_their_values(folders, tmp_path, write_sweep):
    def as_text(event):
        if event["event"] == "start":
            event["values"]["latent_dim"] = str(event["values"]["latent_dim"])

    words = change(write_sweep(tmp_path / "words", methods=("beta_vae",), datasets=("digits",), trials=2), as_text)
    trials = read_sweeps([folders[0], words]).trials
    assert trials["hyper/latent_dim"].tolist()[0] == "10" and trials["hyper/latent_dim"].notna().all()
    assert trials["hyper/batch_size"].dtype == "Int64" and trials["hyper/beta"].notna().sum() == 2


def test_labels_of_joined_sweeps_hold_a_trial_against_equal_epochs_only(folders):
    sweep = read_sweeps(folders)
    joined = label_trials(sweep.trials, sweep.studies)["balance_error"]
    again = sweep.trials["sweep"] == "again"
    alone = read_sweep(folders[2])
    own = label_trials(alone.trials, alone.studies)["balance_error"]
    assert joined[again].tolist() == pytest.approx(own.tolist(), nan_ok=True)


@pytest.mark.slow
def test_unequal_budgets_searchers_and_machines_are_said(folders, tmp_path, write_sweep):
    _, rest, _ = folders
    said = differences(read_sweeps(folders))
    assert len(said) == 1  # mnist was given one budget
    assert (
        "Budgets on digits are not equal (2 trials of up to 30 epochs: first, rest; 4 trials of up to 9 ep" in said[0]
    )

    def elsewhere(event):
        if event["event"] == "sweep":
            event["config"]["searcher"] = "random"
            event["config"]["seconds_per_study"] = 90.0
            event["machine"]["gpu"] = "one"

    other = change(write_sweep(tmp_path / "other", methods=("gae",), datasets=("mnist",), trials=2), elsewhere)
    searchers, seconds, machines = differences(read_sweeps([rest, other]))
    assert "limited differently (rest: –; other: 90.0)" in seconds
    assert "different ways (rest: tpe; other: random)" in searchers and "gpu one" in machines
    assert plots.expected_best_by_trials(read_sweeps([rest, other]), "mnist") is None
    page = render(read_sweeps([*folders, other]))
    assert "Budgets on digits are not equal" in page and "at most 1 min 30 s of training and evaluation" in page


@pytest.mark.slow
def test_sweeps_measured_by_different_recipes_are_not_ranked_together(folders, tmp_path, write_sweep):
    def fewer(event):
        for row in event.get("rows", ()):
            for recipe in row.get("recipes", {}).values():
                recipe["n"] = 1000

    few = change(write_sweep(tmp_path / "few", methods=("wae", "gae"), datasets=("digits",), trials=2), fewer)
    sweep = read_sweeps([folders[0], few])
    assert [(part.apart, len(part.studies)) for part in comparisons(sweep)] == [("n 5000", 2), ("n 1000", 2)]
    page = render(sweep)
    assert page.count("<h2>digits</h2>") == 2 and "so the methods are not ranked" in page


def test_images_of_another_size_are_another_data_set(folders, tmp_path, write_sweep):
    def larger(event):
        if event["event"] == "sweep":
            event["config"]["image_size"] = 32

    large = change(write_sweep(tmp_path / "large", methods=("wae",), datasets=("digits",), trials=1), larger)
    parts = comparisons(read_sweeps([folders[0], large]))
    assert [part.apart for part in parts] == ["image_size None", "image_size 32"]


@pytest.mark.parametrize(
    ("given", "words"), [([], "no folder of a sweep is given"), ("sweeps/a", r"a list of folders, got 'sweeps/a'")]
)
def test_what_is_no_list_of_folders_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        read_sweeps(given)


def test_the_same_folder_twice_and_equal_names(folders, tmp_path, write_sweep):
    with pytest.raises(ValueError, match="is given 2 times"):
        read_sweeps([folders[0], f"{folders[0]}/../first"])
    twin = write_sweep(tmp_path / "first", methods=("vae",), datasets=("digits",), trials=1)
    labels = list(read_sweeps([folders[0], twin]).parts)
    assert labels == [f"{folders[0].parent.name}/first", f"{tmp_path.name}/first"]
    study = f"{tmp_path.name}/first/vae-digits"
    assert read_sweeps([folders[0], twin]).home(study) == (twin, "vae-digits")


@pytest.mark.slow
def test_the_page_of_several_sweeps_leaves_their_own_pages_alone(folders, tmp_path, monkeypatch):
    first, rest, _ = folders
    own = write_report(first).read_text()
    monkeypatch.chdir(tmp_path)
    path = write_report(first, rest)
    assert path == tmp_path / COMPARISON and not (rest / "report.html").exists()
    assert (first / "report.html").read_text() == own
    page = re.sub(r"\s+", " ", path.read_text())
    assert "The sweeps in this page" in page and "The sweeps in this page" not in own
    for words in (
        "first + rest",
        "2 trials of up to 30 epochs per study",
        "fcd of 5000 images",
        f"report {first} {rest}",
    ):
        assert words in page, words
    # the pictures of the first sweep are found in its folder: real, the best's in the hero, three grids for each of two
    assert page.count('src="data:image/png') == own.count('src="data:image/png')
    with pytest.raises(ValueError, match="is the page of first"):
        write_report(first, rest, out=first / "report.html")
    with pytest.raises(ValueError, match="does not exist; create it"):
        write_report(first, rest, out=tmp_path / "none" / "page.html")


@pytest.mark.slow
def test_confirmations_are_joined_as_their_sweeps_are(tmp_path, write_sweep, write_record, confirm_events):
    a = write_sweep(tmp_path / "a", methods=("vae", "wae", "gae"), datasets=("digits",), trials=1)
    b = write_sweep(tmp_path / "b", methods=("vae",), datasets=("digits",), trials=1)
    write_record(a / "confirm", confirm_events())
    found = confirmation(read_sweeps([a, b]))
    assert set(found.studies) == {"a/vae-digits", "a/wae-digits", "a/gae-digits"} and "vae@a" in found.methods
    alone, joined = confirmed(confirmation(read_sweep(a))), confirmed(found)
    assert joined["mean"].tolist() == alone["mean"].tolist() and joined["gap"].tolist() == alone["gap"].tolist()
    page = render(read_sweeps([a, b]))
    assert "Confirmed with fresh seeds" in page and "VAE (a)" in page
    assert confirmation(read_sweeps([b])) is None


def test_each_part_keeps_the_folds_of_its_confirmation(tmp_path, write_record, confirm_events):
    for label, folds in (("seeds", False), ("folds", True)):
        events = confirm_events()
        events[0]["confirms"]["folds"] = folds
        write_record(tmp_path / "of" / label, confirm_events())
        write_record(tmp_path / "of" / label / "confirm", events)
    joined = confirmed(confirmation(read_sweeps([tmp_path / "of" / "seeds", tmp_path / "of" / "folds"])))
    alone = confirmed(confirmation(read_sweep(tmp_path / "of" / "folds")))
    folds = joined["study"].str.startswith("folds/")
    assert set(joined["overlap"][folds]) == {0.5} and set(joined["overlap"][~folds]) == {0.0}
    assert joined["low"][folds].dropna().tolist() == alone["low"].dropna().tolist()


def test_the_noise_of_a_sweep_is_found_also_if_its_label_has_several_parts(tmp_path, write_record):
    """Two folders of one name are labelled by their paths."""
    for place, spread in (("a", 3.0), ("b", 4.0)):
        study = {"study": "vae-digits", "method": "vae", "dataset": "digits", "trials": 1, "epochs": 9}
        study |= {"metric": "valid/fcd", "rungs": [], "hand_tuned": {}, "space": {}}
        opening = {"time": 0.0, "event": "sweep", "sweep": place, "studies": [study]}
        opening["resolutions"] = {"digits": {"n": 54, "spread": spread, "floor": 2.0}}
        write_record(tmp_path / place / "s", [opening])
    board = leaderboard(read_sweeps([tmp_path / "a" / "s", tmp_path / "b" / "s"]))
    assert board["study"].tolist() == ["a/s/vae-digits", "b/s/vae-digits"] and board["noise"].tolist() == [3.0, 4.0]
