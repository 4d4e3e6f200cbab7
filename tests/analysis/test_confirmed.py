"""What is said of a confirmation: means, intervals, the gap, who is better, and how often the test split was seen."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t, ttest_1samp, ttest_rel

from analysis.confirm import (
    confirmation_of,
    confirmed,
    confirmed_text,
    gains_words,
    gap_words,
    holm,
    interval,
    log_ratios,
    looks_words,
    others_words,
    p_value,
    paired_p,
    points,
    race_p,
    verdict,
    write_confirmed,
)
from analysis.load import read_sweep
from sweep import commands


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
    assert tuned["low"] == pytest.approx(110 - 4.303 * 10 / 3**0.5, abs=0.01)  # t of 2 degrees of freedom, by a table
    ratios = np.array([100, 110, 120]) / np.array([300, 310, 320])
    assert tuned["ratio"] == pytest.approx(ratios.prod() ** (1 / 3)) and tuned["ratio_low"] < ratios.min()
    assert math.isnan(table.loc[("wae-digits", "hand-tuned"), "ratio"])
    assert table.loc[("vae-digits", "hand-tuned"), "role"] == "both"
    lost = table.loc["gae-digits", "tuned 1"]
    assert (lost["seeds"], lost["failed"], lost["mean"]) == (2, 1, 14.5)
    assert math.isnan(lost["low"])  # of two values


def test_the_best_study_comes_first_and_its_points_stay_together(home):
    table = confirmed(read_sweep(home / "confirm"))
    assert list(table["study"]) == ["gae-digits"] * 2 + ["wae-digits"] * 2 + ["vae-digits"]


def test_a_study_is_placed_by_its_lowest_mean_also_if_that_is_hand_tuned(tmp_path, write_record, confirm_events):
    """GAE has 15.0 hand-tuned; its tuned point is moved from 14.5 to 214.5, above WAE-MMD's 110."""
    events = confirm_events()
    for event in events:
        if event["event"] == "report" and event["trial"] in ("gae-digits-0001", "gae-digits-0003"):
            event["rows"][0]["metrics"]["test/fcd"] += 200
    table = confirmed(read_sweep(write_record(tmp_path / "confirm", events)))
    assert list(table["study"])[:2] == ["gae-digits"] * 2


def test_verdicts(home):
    table = confirmed(read_sweep(home / "confirm"))
    said = {(row.study, row.point): verdict(row) for row in table.itertuples()}
    assert said["wae-digits", "tuned 1"] == "tuned point is better"
    assert said["vae-digits", "hand-tuned"] == "hand-tuned point kept"
    assert said["gae-digits", "tuned 1"] == "too few seeds, 1 of 3 seeds failed"
    text = confirmed_text(table)
    assert "110 [85.2, 135]" in text and "−30.0 (−27 %)" in text and "2, 1 failed" in text


def test_seeds_are_compared_in_pairs():
    hand, tuned = np.array([10.0, 20.0, 30.0, 40.0]), np.array([9.0, 19.0, 29.0, 38.5])
    low, high = interval(hand - tuned)
    assert low > 0  # though the two overlap almost wholly
    assert (low, high) == pytest.approx((1.125 - 3.1824 * 0.125, 1.125 + 3.1824 * 0.125), abs=1e-4)
    assert p_value(hand - tuned) < 0.01


def test_the_test_uses_ratios_because_the_spread_grows_with_the_distance():
    """WAE-MMD on digits: five seeds of the hand-tuned and of a tuned point, fcd."""
    hand = pd.Series([122.9, 142.7, 185.6, 141.7, 316.8])
    tuned = pd.Series([71.2, 31.1, 38.2, 48.4, 29.7])
    p = paired_p(hand - tuned, log_ratios(hand, tuned))
    assert p == pytest.approx(ttest_rel(np.log(hand), np.log(tuned)).pvalue)
    assert p < 0.01 < p_value(hand - tuned)
    assert paired_p(hand - tuned, log_ratios(10 * hand, 10 * tuned)) == pytest.approx(p)  # whatever the unit


def test_values_that_are_not_positive_are_compared_by_differences():
    hand, tuned = pd.Series([0.3, 0.2, 0.4, 0.3]), pd.Series([0.1, -0.1, 0.2, 0.0])  # a kernel distance
    assert log_ratios(hand, tuned).empty
    assert paired_p(hand - tuned, log_ratios(hand, tuned)) == p_value(hand - tuned)


def test_a_ratio_and_a_difference_that_disagree_show_nothing():
    hand, tuned = pd.Series([1.0, 1.0, 1.0, 100.0]), pd.Series([1.1, 1.1, 1.1, 90.0])
    assert (hand - tuned).mean() > 0 and log_ratios(hand, tuned).mean() > 0
    assert paired_p(hand - tuned, log_ratios(hand, tuned)) == 1.0


def test_trainings_on_folds_are_not_independent(tmp_path, write_record, confirm_events):
    """With 3 folds a test split is half as large as the training images: 1 / 3 + 1 / 2 instead of 1 / 3."""
    events = confirm_events()
    events[0]["confirms"]["folds"] = True
    write_record(tmp_path / "s" / "confirm", events)
    table = confirmed(read_sweep(tmp_path / "s" / "confirm"))
    tuned = table.set_index(["study", "point"]).loc["wae-digits", "tuned 1"]
    assert tuned["low"] == pytest.approx(110 - 4.303 * 10 * (1 / 3 + 1 / 2) ** 0.5, abs=0.01)
    values = [3.0, 1.0, 2.0, 2.5]
    ours, theirs = p_value(values, 1 / 3), ttest_1samp(values, 0.0).pvalue
    assert p_value(values) == pytest.approx(theirs) and ours > theirs
    low, _ = interval(values, 1 / 3)
    assert (low > 0) == (ours < 0.05)
    assert "fcd on folds of training and test images, lower" in confirmed_text(table)
    assert looks_words(tmp_path / "s").endswith("scored on folds that contain the test images, once")


@pytest.mark.parametrize("count", [3, 5, 10])
def test_an_interval_covers_the_mean_as_often_as_it_says(count):
    draws = np.random.default_rng(count).normal(7, 2, (2000, count))
    hits = [low <= 7 <= high for low, high in map(interval, draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def test_an_interval_that_holds_zero_is_a_large_p():
    for values in ([1.0, 2.0, -1.0, 3.0, 0.5], [4.0, 5.0, 6.0], [-2.0, -2.5, -1.0, -3.0]):
        low, high = interval(values)
        assert (low <= 0 <= high) == (p_value(values) >= 0.05)
    assert p_value([0.0, 0.0, 0.0]) == 1.0 and p_value([2.0, 2.0, 2.0]) == 0.0
    assert math.isnan(p_value([1.0, 2.0]))


def test_many_tests_are_corrected_for():
    found = holm(pd.Series([0.01, math.nan, 0.04, 0.03], index=list("abcd")))
    assert found.to_dict() == pytest.approx({"a": 0.03, "b": math.nan, "c": 0.06, "d": 0.06}, nan_ok=True)


def test_only_what_the_seeds_show_is_called_a_gain(home):
    table = confirmed(read_sweep(home / "confirm"))
    tuned = table["point"] == "tuned 1"
    assert (
        gains_words(table)
        == "Over fresh seeds tuning beats the hand-tuned point in 1 of 2 studies, that of WAE-MMD: 310 → 110."
    )
    by_chance = table.assign(p_holm=table["p_holm"].where(~tuned, 0.06))
    assert (
        gains_words(by_chance) == "Over fresh seeds no tuned point beats the hand-tuned one significantly in 3 studies."
    )
    worse = table.assign(better=table["better"].where(~tuned, -5.0))
    assert gains_words(worse) == "Over fresh seeds no tuned point beats the hand-tuned one significantly in 2 studies."
    assert gains_words(table[table["study"] == "gae-digits"]) == ""


def test_a_point_that_the_search_did_not_find_is_not_a_gain_of_tuning(home):
    table = confirmed(read_sweep(home / "confirm"))
    wae = table["study"] == "wae-digits"
    other = table.assign(role=table["role"].mask(wae & (table["point"] == "tuned 1"), "another hand-tuned"))
    none = "Over fresh seeds no tuned point beats the hand-tuned one significantly in 2 studies."
    assert gains_words(other) == none
    assert others_words(other) == "A point that the search did not find beats the hand-tuned one for WAE-MMD."
    assert others_words(table) == ""
    assert [verdict(row) for row in other[wae].itertuples()] == ["", "another hand-tuned point is better"]
    # A tuned point beside it gains what it is better than both hand-tuned points.
    found = other[wae & (other["point"] == "tuned 1")].assign(point="tuned 2", role="tuned")
    assert gains_words(pd.concat([other, found.assign(mean=120.0)])) == none
    assert gains_words(pd.concat([other, found.assign(mean=100.0)])).startswith("Over fresh seeds tuning beats")


def failing(events: list[dict], *trials: str) -> list[dict]:
    """Events in which these trials diverged."""
    kept = [event for event in events if event["event"] != "report" or event["trial"] not in trials]
    ended = [event for event in kept if event["event"] == "end" and event["trial"] in trials]
    for event in ended:
        event["state"] = "diverged"
    assert len(ended) == len(trials)
    return kept


@pytest.mark.parametrize("alone", [9.0, 2000.0])
def test_both_means_of_a_gain_are_of_the_seeds_that_both_points_completed(
    alone, tmp_path, write_record, confirm_events
):
    """Four seeds of WAE-MMD: 300 → 100, 310 → 110, 320 → 120, and one that only the tuned point completed."""
    events = confirm_events()
    events[0]["confirms"]["seeds"] = [1, 2, 3, 4]
    for number, value in ((6, 900.0), (7, alone)):
        trial = f"wae-digits-000{number}"
        events[-1:-1] = [
            {"time": 1.0, "event": "start", "trial": trial, "study": "wae-digits", "number": number, "seed": 4}
            | {"values": {}, "origin": "paper", "attempt": 1},
            {"time": 2.0, "event": "report", "trial": trial, "rows": [{"epoch": 9, "metrics": {"test/fcd": value}}]},
            {"time": 3.0, "event": "end", "trial": trial, "state": "complete", "epoch": 9},
        ]
    table = confirmed(read_sweep(write_record(tmp_path / "confirm", failing(events, "wae-digits-0006"))))
    row = next(row for row in table.itertuples() if (row.study, row.point) == ("wae-digits", "tuned 1"))
    assert (row.seeds, row.mean, row.paired, row.better) == (4, (330 + alone) / 4, 110.0, 200.0)
    assert verdict(row) == "tuned point is better, 1 of 4 hand-tuned seeds failed"
    assert gains_words(table).endswith("WAE-MMD: 310 → 110 (1 of 4 hand-tuned seeds failed).")


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        ((1,), "too few seeds, 1 of 3 seeds failed"),
        ((0, 1), "too few seeds, 1 of 3 seeds failed, 1 of 3 hand-tuned seeds failed"),
        ((1, 3, 5), "3 of 3 seeds failed"),
        ((0, 2, 4), "3 of 3 hand-tuned seeds failed"),
    ],
)
def test_a_verdict_counts_the_seeds_that_failed(failed, said, tmp_path, write_record, confirm_events):
    events = failing(confirm_events(), *(f"wae-digits-000{number}" for number in failed))
    table = confirmed(read_sweep(write_record(tmp_path / "confirm", events)))
    row = next(row for row in table.itertuples() if (row.study, row.point) == ("wae-digits", "tuned 1"))
    assert verdict(row) == said and "beats the hand-tuned point in" not in gains_words(table)
    counted = 2 if failed == (1, 3, 5) else 1  # with VAE, of which the hand-tuned point was kept
    assert f"{counted} stud" in gains_words(table)


def test_without_a_tuned_point_none_was_confirmed(home):
    table = confirmed(read_sweep(home / "confirm"))
    kept = table[table["study"] == "vae-digits"]
    assert gains_words(kept) == "The search found no tuned point to confirm in 1 study."
    assert gains_words(table[table["study"] == "wae-digits"]).startswith(
        "Over fresh seeds tuning beats the hand-tuned point in 1 study, that of WAE-MMD: "
    )


def test_the_largest_gain_is_relative_where_hand_tuned_means_are_positive(home):
    table = confirmed(read_sweep(home / "confirm"))
    wae = table[table["study"] == "wae-digits"]
    gae = wae.assign(study="gae-digits", method="gae", paired=-0.5, better=0.4, mean=[-0.1, -0.5])  # a kernel distance
    assert "2 studies, most for WAE-MMD: 310 → 110" in gains_words(pd.concat([gae, wae]))
    assert gains_words(gae).endswith("in 1 study, that of GAE: -0.100 → -0.500.")


@pytest.mark.parametrize(
    ("searched", "mean", "said"),
    [(8.0, 10.0, "−2.00 (−20 %)"), (0.1, 0.0, "+0.100"), (-0.003, -0.001, "−0.00200"), (10.0, 10.0, "±0.00 (±0 %)")],
)
def test_a_gap_has_no_percentage_of_a_mean_that_is_not_positive(searched, mean, said):
    assert gap_words(SimpleNamespace(mean=mean, gap=searched - mean)) == said


def test_the_role_of_a_point_is_that_of_its_trial_in_the_search(tmp_path, write_record, confirm_events):
    events = confirm_events()
    events[0]["confirms"]["points"]["wae-digits"][1]["origin"] = "paper"
    table = confirmed(read_sweep(write_record(tmp_path / "s" / "confirm", events)))
    roles = table.set_index(["study", "point"])["role"]
    assert roles["wae-digits", "tuned 1"] == "another hand-tuned" and roles["gae-digits", "tuned 1"] == "tuned"


def test_a_gain_in_one_of_many_tests_is_not_reported(write_record, confirm_events, tmp_path):
    write_record(tmp_path / "confirm", confirm_events())
    table = confirmed(read_sweep(tmp_path / "confirm"))
    row = next(row for row in table.itertuples() if row.point == "tuned 1" and row.study == "wae-digits")
    assert row.better_low > 0 and verdict(row) == "tuned point is better"
    assert verdict(row._replace(p=0.03, p_holm=0.06)) == "cannot be told apart"
    assert verdict(row._replace(better=-5.0)) == "hand-tuned point is better"


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
    assert looks_words(home, home) == "56 trained models were scored on the test split, in 4 looks"


def test_a_sweep_without_confirmation_has_none(tmp_path):
    (tmp_path / "confirm").mkdir()
    (tmp_path / "confirm" / "record.jsonl").touch()
    assert confirmation_of(tmp_path) is None


def test_commands_take_the_folder_of_a_confirmation(home, capsys):
    commands.main(["board", str(home / "confirm")])
    shown = capsys.readouterr().out
    assert confirmed_text(confirmed(read_sweep(home / "confirm"))) in shown
    assert "14 trained models were scored on the test split, once.\n\nreport" in shown
    with pytest.raises(SystemExit, match="2"):
        commands.main(["pause", str(home / "confirm")])
    assert "is a confirmation that is done, so nothing will follow a request" in capsys.readouterr().err
    assert not (home / "confirm" / "requests").exists()


def test_the_tables_are_files(home):
    table = write_confirmed(home / "confirm")
    lines = (home / "confirm" / "confirmed.csv").read_text().splitlines()
    assert len(lines) == 1 + len(table)
    assert len((home / "confirm" / "points.csv").read_text().splitlines()) == 16


def test_further_rounds_do_not_make_an_error_more_likely():
    """Identical points, compared after 5, 10 and 20 seeds: at most 5 % of confirmations may find a difference."""
    rng, rounds, runs = np.random.default_rng(0), (5, 10, 20), 300
    found = {"all": 0, "unadjusted": 0, "real": 0, "first": 0}
    for _ in range(runs):
        hand, same = pd.Series(np.exp(rng.normal(0, 0.3, 20))), pd.Series(np.exp(rng.normal(0, 0.3, 20)))
        found["all"] += race_p(hand, same, rounds, 3) <= 0.05
        found["unadjusted"] += race_p(hand, same, rounds, 1) <= 0.05
        found["real"] += race_p(hand, same * 0.7, rounds, 3) <= 0.05
        found["first"] += race_p(hand, same * 0.7, rounds[:1], 1) <= 0.05
    assert found["all"] / runs < 0.05 < 0.08 < found["unadjusted"] / runs
    assert found["first"] / runs < 0.5 and found["real"] / runs > 0.75


def test_the_p_value_of_several_rounds_is_the_lowest_times_their_number():
    rng = np.random.default_rng(1)
    hand, values = (pd.Series(np.exp(rng.normal(m, 0.3, 10))) for m in (0.5, 0.0))
    hand[3] = math.nan  # this seed failed, so its pair is missing
    single = [ttest_rel(np.log(hand[:n]), np.log(values[:n]), nan_policy="omit").pvalue for n in (5, 10)]
    assert single[1] < single[0] and race_p(hand, values, (5, 10), 3) == pytest.approx(3 * single[1])
    assert race_p(hand, values, (5,), 1) == pytest.approx(single[0])
    assert race_p(hand, values, (1, 5), 2) == pytest.approx(2 * single[0])  # one pair has no p-value
    assert math.isnan(race_p(hand, values, (1, 2), 2)) and race_p(hand, hand, (5, 10), 2) == 1.0


def test_a_round_is_no_evidence_for_the_point_that_was_worse_in_it():
    """In the first five seeds the hand-tuned point is better; later ones, with outliers, turn the mean around."""
    hand = pd.Series([90, 94, 87, 92, 89, 101, 104, 97, 140, 300.0])
    tuned = pd.Series([100, 104, 97, 101, 99, 100, 103, 98, 102, 96.0])
    assert race_p(hand[:5], tuned[:5], (5,), 2) < 1e-4 and (hand - tuned).mean() > 0
    assert race_p(hand, tuned, (5, 10), 2) > 0.2


def test_intervals_of_differences_hold_over_all_rounds(tmp_path, write_record, confirm_events):
    events = confirm_events()
    one = confirmed(read_sweep(write_record(tmp_path / "one", events))).set_index(["study", "point"])
    events[0]["confirms"] |= {"rounds": [3, 5, 10], "seeds": list(range(1, 11))}
    three = confirmed(read_sweep(write_record(tmp_path / "three", events))).set_index(["study", "point"])
    at = ("wae-digits", "tuned 1")
    assert three.loc[at, "p"] == pytest.approx(3 * one.loc[at, "p"])
    assert (three.loc[at, "low"], three.loc[at, "high"]) == (one.loc[at, "low"], one.loc[at, "high"])
    width, wider = (math.log(table.loc[at, "ratio_high"] / table.loc[at, "ratio_low"]) for table in (one, three))
    assert wider / width == pytest.approx(t.ppf(1 - 0.025 / 3, 2) / t.ppf(0.975, 2))
    assert set(three["planned"]) == {3}


def test_a_round_counts_once_all_its_trainings_have_ended(tmp_path, write_record, confirm_events):
    """The sixth seed of a second round is trained: verdicts are those of the first round, means those of all seeds."""
    events = confirm_events(finished=False)
    events[0]["confirms"] |= {"rounds": [3, 5], "seeds": [1, 2, 3, 4, 5]}
    before = confirmed(read_sweep(write_record(tmp_path / "before", events))).set_index(["study", "point"])
    for number, value in ((6, 900.0), (7, 5.0)):
        name = f"wae-digits-{number:04d}"
        start = {"time": 5.0, "event": "start", "trial": name, "study": "wae-digits", "number": number, "seed": 4}
        rows = [{"epoch": 9, "metrics": {"test/fcd": value}}]
        events += [
            start | {"values": {}, "origin": "paper", "attempt": 1},
            {"time": 6.0, "event": "report", "trial": name, "rows": rows},
            {"time": 7.0, "event": "end", "trial": name, "state": "complete", "epoch": 9},
        ]
    after = confirmed(read_sweep(write_record(tmp_path / "after", events))).set_index(["study", "point"])
    at = ("wae-digits", "tuned 1")
    assert after.loc[at, "p"] == before.loc[at, "p"] and after.loc[at, "planned"] == 5
    assert after.loc[at, "seeds"] == 4 and after.loc[at, "mean"] == pytest.approx((100 + 110 + 120 + 5) / 4)
