"""Equal budgets: what a study was given, and the two curves of what it bought."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.budget import (
    best_by_seconds,
    budgets,
    drawn_at_random,
    expected_best,
    random_draws,
    space_words,
)
from analysis.load import read_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, write_sweep):
    folder = tmp_path_factory.mktemp("sweeps") / "s"
    return read_sweep(write_sweep(folder, methods=("vae", "rae_l2"), datasets=("digits",), trials=30))


def test_the_expected_best_is_the_mean_over_all_subsets():
    values = [7.0, 3.0, 9.0, 4.0, 4.0, 1.0]
    for k, found in enumerate(expected_best(values), start=1):
        assert found == pytest.approx(np.mean([min(subset) for subset in itertools.combinations(values, k)]))


def test_the_expected_best_is_unbiased():
    chance = np.random.default_rng(0)
    curves = [expected_best(chance.uniform(size=6)) for _ in range(4000)]
    for k, mean in enumerate(np.mean(curves, 0), start=1):  # the lowest of k uniform draws is 1 / (k + 1) on average
        assert mean == pytest.approx(1 / (k + 1), abs=0.012)


def test_the_best_of_thousands_of_draws():
    found = expected_best(np.arange(1.0, 5001))  # the lowest k of 1..N is (N + 1) / (k + 1) on average
    np.testing.assert_allclose(found, 5001 / np.arange(2, 5002), rtol=1e-9)


def test_without_draws_there_is_no_curve():
    assert len(expected_best(np.array([]))) == 0


def test_a_budget_is_reported_in_full(sweep):
    table = budgets(sweep).set_index("study")
    trials = sweep.trials_of("vae-digits")
    row = table.loc["vae-digits"]
    assert row["trials"] == 30 and row["device_seconds"] == pytest.approx(trials["device_seconds"].sum())
    assert row["epochs"] == trials["epochs"].sum()
    assert math.isnan(row["budget_epochs"]), "its budget is in trials"
    study = replace(sweep.studies["vae-digits"], budget_epochs=900)
    spending = budgets(replace(sweep, studies={"vae-digits": study}))
    assert spending["budget_epochs"].tolist() == [900] and study.budget == "900 epochs in trials of up to 30 epochs"
    diverged = (trials["state"] == "diverged").sum()
    assert diverged > 0 and row["divergence_rate"] == diverged / 30
    assert (row["knobs"], row["choices"], row["decades"]) == (3, 32, pytest.approx(2.0))
    assert table.loc["rae_l2-digits", "decades"] == pytest.approx(2 + 5 + 6)
    said = {row.study: space_words(row) for row in budgets(sweep).itertuples()}
    assert said["vae-digits"] == "3 knobs: 32 choices × 2.0 decades"


def test_random_draws_leave_the_papers_point_out_and_count_what_came_to_nothing(sweep):
    trials = sweep.trials_of("vae-digits")
    searched = trials[trials["origin"] == "search"]
    draws = random_draws(sweep, "vae-digits")
    assert len(draws) == len(searched) and not np.isnan(draws).any()
    judged = searched["value"].where(searched["state"].isin(["complete", "pruned"]))
    assert (draws == judged.max()).sum() >= judged.isna().sum() + 1
    assert not drawn_at_random(sweep)


def test_best_by_seconds_falls_and_spends_all(sweep):
    curve = best_by_seconds(sweep, "vae-digits")
    trials = sweep.trials_of("vae-digits")
    assert (curve["best"].diff().dropna() <= 0).all() and (curve["seconds"].diff().dropna() >= 0).all()
    assert curve["seconds"].iloc[-1] == pytest.approx(trials["device_seconds"].sum())
    assert curve["best"].iloc[-1] == sweep.best("vae-digits")["value"]
    assert math.isfinite(curve["best"].iloc[0])
