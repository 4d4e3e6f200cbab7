"""What is said of a confirmation: means, intervals, the gap, who is better, and how often the test split was seen."""

import math

import numpy as np
import pytest

from analysis.confirm import (
    confirmation_of,
    confirmed,
    confirmed_text,
    interval,
    looks_words,
    points,
    verdict,
    write_confirmed,
)
from analysis.load import read_sweep


@pytest.fixture
def home(tmp_path, write_record, confirm_events):
    write_record(tmp_path / "s" / "confirm", confirm_events())
    return tmp_path / "s"


def test_every_training_is_kept(home):
    table = points(read_sweep(home / "confirm"))
    assert len(table) == 6 + 3 + 6
    tuned = table[(table["study"] == "wae-digits") & (table["point"] == "tuned 1")]
    assert list(tuned["seed"]) == [1, 2, 3] and list(tuned["value"]) == [100.0, 110.0, 120.0]
    assert set(tuned["searched"]) == {80.0}
    assert table["state"].value_counts().to_dict() == {"complete": 14, "diverged": 1}


def test_means_gaps_and_roles(home):
    table = confirmed(read_sweep(home / "confirm")).set_index(["study", "point"])
    tuned = table.loc["wae-digits", "tuned 1"]
    assert (tuned["mean"], tuned["gap"], tuned["better"]) == (110.0, -30.0, 200.0)
    assert 100 <= tuned["low"] < 110 < tuned["high"] <= 120
    assert table.loc[("vae-digits", "hand-tuned"), "role"] == "both"
    lost = table.loc["gae-digits", "tuned 1"]
    assert (lost["seeds"], lost["failed"], lost["mean"]) == (2, 1, 14.5)
    assert math.isnan(lost["low"])  # of two values


def test_the_best_study_comes_first_and_its_points_stay_together(home):
    table = confirmed(read_sweep(home / "confirm"))
    assert list(table["study"]) == ["gae-digits"] * 2 + ["wae-digits"] * 2 + ["vae-digits"]


def test_verdicts(home):
    table = confirmed(read_sweep(home / "confirm"))
    said = {(row.study, row.point): verdict(row) for row in table.itertuples()}
    assert said["wae-digits", "tuned 1"] == "tuned is better"
    assert said["vae-digits", "hand-tuned"] == "hand-tuned point kept"
    assert said["gae-digits", "tuned 1"] == "too few seeds"
    text = confirmed_text(table)
    assert "110 [100, 120]" in text and "−30.0 (−27 %)" in text and "2, 1 failed" in text


def test_seeds_are_compared_in_pairs():
    hand, tuned = np.array([10.0, 20.0, 30.0, 40.0]), np.array([9.0, 19.0, 29.0, 38.0])
    low, high = interval(hand - tuned)
    assert low > 0  # though the two overlap almost wholly
    assert low == 1.0 and high == 1.75


def test_an_interval_is_that_of_many_means():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.05) and high == pytest.approx(
        values.mean() + half, abs=0.05
    )
    assert interval([1.0, 1.0, 1.0]) == (1.0, 1.0)


def test_the_latest_look_is_shown_and_all_are_counted(home, write_record, confirm_events):
    assert looks_words(home) == "14 trained models were scored on the test split, once"
    write_record(home / "confirm-2", confirm_events(look=2))
    assert confirmation_of(home).name == "confirm-2"
    assert looks_words(home) == "28 trained models were scored on the test split, in 2 looks"


def test_a_sweep_without_confirmation_has_none(tmp_path):
    (tmp_path / "confirm").mkdir()
    (tmp_path / "confirm" / "record.jsonl").touch()
    assert confirmation_of(tmp_path) is None


def test_the_tables_are_files(home):
    table = write_confirmed(home / "confirm")
    lines = (home / "confirm" / "confirmed.csv").read_text().splitlines()
    assert len(lines) == 1 + len(table)
    assert len((home / "confirm" / "points.csv").read_text().splitlines()) == 16
