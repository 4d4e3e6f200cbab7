"""Successive halving: who is stopped, and that nothing but the reports decides it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sweep.search.rungs import Rungs


@pytest.mark.parametrize(
    "epochs, first, factor, levels",
    [
        (30, 3, 3, [3, 9]),
        (27, 3, 3, [3, 9]),
        (26, 3, 3, [3]),
        (243, 1, 3, [1, 3, 9, 27, 81]),  # a ladder built with float logarithms loses one here
        (1000, 1, 10, [1, 10, 100]),  # and here
        (5, 3, 3, []),
        (1, 1, 2, []),
        (16, 1, 2, [1, 2, 4, 8]),
    ],
)
def test_levels(epochs, first, factor, levels):
    assert Rungs(epochs, first, factor).levels == levels


def test_more_epochs_only_add_rungs_on_top():
    for epochs in range(1, 200):
        shorter, longer = Rungs(epochs, 2, 3).levels, Rungs(epochs + 1, 2, 3).levels
        assert longer[: len(shorter)] == shorter


@pytest.mark.parametrize("epochs, first, factor", [(0, 1, 3), (9, 0, 3), (9, 1, 1)])
def test_senseless_rungs_are_refused(epochs, first, factor):
    with pytest.raises(ValueError, match=r"rungs require .* got epochs = \d+, first = \d+, factor = \d+"):
        Rungs(epochs, first, factor)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, math.inf]), min_size=1, max_size=30))
def test_the_next_to_be_promoted_is_the_best_of_those_stopped_and_of_equal_ones_the_first(values):
    rungs = Rungs(9, 1, 3, promotes=True)
    for trial, value in enumerate(values):
        rungs.report(trial, 1, value)
    ranked = sorted(range(len(values)), key=lambda trial: (not math.isfinite(values[trial]), values[trial], trial))
    passing, stopped = ranked[: len(values) // 3], {trial for trial in ranked if not rungs.goes_on(trial)}
    expected = next((t for t in passing if t in stopped and math.isfinite(values[t])), None)
    assert rungs.promotable(stopped) == expected


def test_no_trial_stops_before_there_are_factor_values():
    rungs = Rungs(9, 1, 3)
    assert rungs.report("a", 1, 1.0)
    assert rungs.report("b", 1, 1000.0)
    assert not rungs.report("c", 1, 2.0), "the third of three is not the best of three"
    assert rungs.report("d", 1, 0.5)


def test_the_best_third_of_six_goes_on():
    rungs = Rungs(9, 1, 3)
    for trial, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0]):
        rungs.report(trial, 1, value)
    assert rungs.report("second of six", 1, 1.5)
    rungs = Rungs(9, 1, 3)
    for trial, value in enumerate([1.0, 2.0, 3.0, 4.0]):
        rungs.report(trial, 1, value)
    assert not rungs.report("second of five", 1, 1.5)


def test_no_judgement_below_the_first_level_nor_at_the_end():
    rungs = Rungs(9, 3, 3)
    assert rungs.levels == [3]
    for trial in range(4):
        assert rungs.report(trial, 2, float(trial))
    assert rungs.judged == {3: {}}
    rungs = Rungs(9, 1, 3)
    verdicts = [rungs.report(trial, 1, 1.0) and rungs.report(trial, 9, float(trial)) for trial in range(5)]
    assert 9 not in rungs.judged and all(verdicts[:2])
    rungs = Rungs(9, 1, 3, promotes=True)  # of a method whose first stage has no values
    assert all(rungs.report(trial, 9, float(trial)) for trial in range(6))
    assert rungs.judged == {1: {}, 3: {}} and rungs.ranking(3) is None


def test_exempt_trials_are_never_stopped_but_count():
    rungs = Rungs(9, 1, 2, exempt={"paper"})
    rungs.report("a", 1, 1.0)
    assert rungs.report("paper", 1, 50.0)
    assert not rungs.report("b", 1, 2.0)
    assert not rungs.report("c", 1, 3.0), "two of four may pass; a and b are better"
    assert rungs.report("d", 1, 1.5), "two of five may pass, and only a is better"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_the_worst(value):
    rungs = Rungs(9, 1, 2)
    rungs.report("broken", 1, value)
    assert rungs.report("a", 1, 1e300)
    assert not rungs.report("broken too", 1, value)
    only_broken = Rungs(9, 1, 2)
    assert [only_broken.report(trial, 1, value) for trial in range(3)] == [True, False, False]


def test_the_first_value_and_the_first_verdict_stay():
    rungs = Rungs(9, 1, 2)
    assert rungs.report("a", 1, 5.0)
    for trial, value in enumerate([1.0, 2.0, 3.0]):
        rungs.report(trial, 1, value)
    assert rungs.report("a", 1, 1000.0) and rungs.judged[1]["a"].value == 5.0
    assert not rungs.report("z", 1, 9.0)
    assert not rungs.report("z", 1, 0.0)
    assert not rungs.report("z", 2, 0.0) and not rungs.judged[2], "it is on no further rung"
    assert rungs.goes_on("a") and not rungs.goes_on("z") and rungs.goes_on("never seen")


def test_a_trial_is_judged_by_its_first_report_at_or_past_a_level():
    rungs = Rungs(27, 1, 3)
    rungs.report("a", 5, 7.0)  # evaluated every five epochs: 1 is skipped, 3 is judged by 5
    assert [list(rungs.judged[level]) for level in rungs.levels] == [[], ["a"], []]
    rungs.report("a", 10, 6.0)
    assert [list(rungs.judged[level]) for level in rungs.levels] == [[], ["a"], ["a"]]


def test_a_stopped_trial_is_promoted_once_enough_worse_ones_have_come():
    rungs = Rungs(4, 1, 2, promotes=True)
    values = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "broken": math.inf}
    assert not any(rungs.report(trial, 1, value) for trial, value in values.items()), "nor does the first one pass"
    assert rungs.promotable({"d", "c", "b", "a"}) == "a"
    assert rungs.promotable({"b", "c", "d"}) == "b", "the second of five, of which two may pass"
    assert rungs.promotable({"c", "d"}) is None and rungs.promotable(()) is None
    rungs.promote("b")
    assert rungs.goes_on("b") and not rungs.judged[1]["b"].behind
    assert rungs.stopped(1) == 4 and rungs.promoted(1) == 1
    assert not rungs.report("b", 2, 5.0) and not rungs.goes_on("b"), "the next rung judges it anew"
    rungs.promote("b")
    assert rungs.report("b", 4, 5.0) and rungs.ended == {"b": 5.0}


def test_the_highest_rung_promotes_first_and_never_what_is_not_finite():
    rungs = Rungs(4, 1, 2, exempt=range(4), promotes=True)
    for trial in range(4):
        rungs.report(trial, 1, 10.0 + trial)
    assert not rungs.report("low", 1, 11.5) and not rungs.report("high", 1, 11.7)
    for trial in range(4):
        rungs.report(trial, 2, 10.0 + trial)
    rungs.promote("high")
    assert not rungs.report("high", 2, 11.5)
    rungs.report("worse", 1, 99.0), rungs.report("worst", 1, math.nan)
    rungs.report("another", 2, 99.0)
    assert rungs.promotable({"low", "high", "worst"}) == "high"
    assert rungs.promotable({"low", "worst"}) == "low"
    assert rungs.promotable({"worst"}) is None


VALUES = st.one_of(st.floats(allow_nan=True), st.integers(0, 3).map(float))
REPORTS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 27), VALUES), max_size=60)


@settings(deadline=None)
@given(REPORTS, st.integers(2, 4), st.integers(1, 3))
def test_verdicts_are_those_of_the_rule_read_aloud(reports, factor, first):
    rungs = Rungs(27, first, factor, exempt={0})
    stands: dict[int, dict[int, float]] = {}
    stopped = set()
    for trial, epoch, value in reports:
        goes_on = rungs.report(trial, epoch, value)
        passed = [level for level in rungs.levels if level <= epoch]
        if trial in stopped:
            assert not goes_on
            continue
        if not passed or epoch >= 27:
            assert goes_on
            continue
        rung = stands.setdefault(passed[-1], {})
        if trial in rung:
            continue
        rung[trial] = value if math.isfinite(value) else math.inf
        best = sorted(rung.values())[: max(1, len(rung) // factor)]
        allowed = trial == 0 or len(rung) < factor or (rung[trial] in best and rung[trial] < math.inf)
        assert goes_on == allowed
        stopped |= set() if allowed else {trial}


@settings(deadline=None)
@given(REPORTS)
def test_a_replay_with_repeats_rebuilds_the_same_state(reports):
    lived, replayed = Rungs(27, 1, 3, exempt={0}), Rungs(27, 1, 3, exempt={0})
    verdicts = [lived.report(*report) for report in reports]
    for report, verdict in zip(reports, verdicts, strict=True):
        assert replayed.report(*report) == verdict
        trial, epoch, value = report
        assert replayed.report(trial, epoch, value + 1.0) == verdict, "a repeat changes nothing"
    assert lived == replayed
    for report in reports:
        assert lived.report(*report) <= lived.goes_on(report[0]), "once stopped, stopped"
    assert lived == replayed


def ended(order: list[float], adaptive: bool = True) -> Rungs:
    """A rung at epoch 1 of 3 that saw 0, 1, 2, ..., whose trials, all exempt, ended in the given order."""
    rungs = Rungs(3, 1, 3, exempt=range(len(order)), promotes=True, adaptive=adaptive)
    for trial, last in enumerate(order):
        rungs.report(trial, 1, float(trial))
        rungs.report(trial, 3, last)
    return rungs


@pytest.mark.parametrize("order", [[0.0, 1.0, 2.0, 3.0], [3.0, 1.0, 0.0, 2.0], [3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 2.0]])
def test_an_adaptive_rung_counts_the_pairs_that_it_ranked_as_they_ended(order):
    pairs = [np.sign(order[j] - order[i]) for i, j in itertools.combinations(range(len(order)), 2)]
    assert ended(order).ranked == {1: (pairs.count(1), pairs.count(-1))}


def test_an_adaptive_rung_stops_only_as_far_as_it_has_ranked():
    assert Rungs(3, 1, 3, adaptive=True).passing(1, 100) == 33, "without evidence as many as any rung"
    assert ended([float(i) for i in range(20)]).passing(1, 100) == 33
    assert ended([float(-i) for i in range(10)]).passing(1, 100) == 100, "all, if it ranks in reverse"
    assert ended([float(-i) for i in range(10)], adaptive=False).passing(1, 100) == 33
    some = ended([2.0, 3.0, 0.0, 1.0])  # 2 pairs as they ended, 4 in reverse: tau is (20 + 2 - 4) / (20 + 2 + 4)
    assert some.passing(1, 100) == int(100 / (1 + 2 * 18 / 26))


def test_a_paused_trial_is_promoted_when_its_rung_turns_out_to_mislead():
    rungs = Rungs(3, 1, 3, exempt=range(6), promotes=True, adaptive=True)
    for trial in range(6):
        rungs.report(trial, 1, float(trial))
    assert not rungs.report("late", 1, 2.5) and rungs.promotable({"late"}) is None
    for trial in range(6):
        rungs.report(trial, 3, float(-trial))
    assert rungs.promotable({"late"}) == "late"


@settings(deadline=None)
@given(st.lists(st.integers(0, 3).map(float), max_size=40), st.integers(2, 4))
def test_promotion_passes_in_the_end_those_that_a_rung_that_waits_would_pass(values, factor):
    """Once all have come and all promotions are made, the best 1/factor have passed, whatever their order was."""
    rungs = Rungs(factor, 1, factor, promotes=True)
    paused = {trial for trial, value in enumerate(values) if not rungs.report(trial, 1, value)}
    while (trial := rungs.promotable(paused)) is not None:
        rungs.promote(trial)
        paused.remove(trial)
    best = sorted(range(len(values)), key=values.__getitem__)[: len(values) // factor]
    assert not paused & set(best)
    assert all(rungs.goes_on(trial) == (trial not in paused) for trial in range(len(values)))


def run(rungs: Rungs, at: np.ndarray, end: np.ndarray) -> None:
    """Trials one after the other, with their values at epoch 1 and at the last."""
    for trial, (early, late) in enumerate(zip(at, end, strict=True)):
        if rungs.report(trial, 1, early):
            rungs.report(trial, rungs.epochs, late)


def test_a_spared_trial_runs_on_and_is_counted_apart():
    rungs = Rungs(2, 1, 2, exempt={0}, spared={1, 3}.__contains__)
    run(rungs, np.array([9.0, 8.0, 7.0, 10.0, 11.0]), np.zeros(5))
    assert [rungs.judged[1][t].behind for t in range(5)] == [False, False, False, True, True]
    assert [rungs.goes_on(trial) for trial in range(5)] == [True, True, True, True, False]
    assert (rungs.stopped(1), rungs.spared_of(1), sorted(rungs.ended)) == (1, 1, [0, 1, 2, 3])


def test_ranking_without_a_stop_is_spearmans_correlation():
    chance = np.random.default_rng(0)
    at = chance.integers(0, 6, 40).astype(float)  # with ties
    end = at + chance.normal(size=40) * 2
    rungs = Rungs(2, 1, 2, spared=lambda trial: True)
    run(rungs, np.sort(at)[::-1], end[np.argsort(at)[::-1]])
    everyone = Rungs(2, 1, 2, exempt=range(40))
    run(everyone, at, end)
    found = everyone.ranking(1)
    assert found.correlation == pytest.approx(spearmanr(at, end).statistic)
    half = 1.96 * math.sqrt(1.06 / 37)
    assert math.atanh(found.high) - math.atanh(found.low) == pytest.approx(2 * half)
    assert rungs.ranking(1).correlation == pytest.approx(spearmanr(at, end).statistic)


def test_ranking_is_not_biased_by_what_was_stopped():
    chance = np.random.default_rng(0)
    found, among_the_passed, truth = [], [], []
    for _ in range(60):
        at = chance.normal(size=150)
        end = -at + chance.normal(size=150)  # the rung is worse than none
        lucky = set(np.flatnonzero(chance.random(150) < 0.2))
        rungs = Rungs(3, 1, 3, spared=lucky.__contains__)
        run(rungs, at, end)
        found.append(rungs.ranking(1))
        passed = [trial for trial in rungs.ended if not rungs.judged[1][trial].behind]
        among_the_passed.append(spearmanr(at[passed], end[passed]).statistic)
        truth.append(spearmanr(at, end).statistic)
    assert np.mean([f.correlation for f in found]) == pytest.approx(np.mean(truth), abs=0.03)
    assert np.mean(among_the_passed) > np.mean(truth) + 0.1
    covered = [f.low <= -0.69 <= f.high for f in found]  # 6 / pi * asin(-sqrt(1 / 8)), of normal values
    assert np.mean(covered) > 0.85


def test_ranking_is_not_biased_by_what_was_promoted():
    chance = np.random.default_rng(0)
    found, truth = [], []
    for _ in range(60):
        at = -np.sort(-chance.normal(size=150)) + 0.3 * chance.normal(size=150)  # better and better: few promotions
        at = at if chance.random() < 0.5 else at[::-1]  # or worse and worse: many
        end = -at + chance.normal(size=150)
        lucky = set(np.flatnonzero(chance.random(150) < 0.2))
        rungs = Rungs(3, 1, 3, spared=lucky.__contains__, promotes=True)
        run(rungs, at, end)
        paused = {trial for trial in range(150) if not rungs.goes_on(trial)}
        while (trial := rungs.promotable(paused)) is not None:
            rungs.promote(trial)
            rungs.report(trial, 3, end[trial])
            paused.remove(trial)
        found.append(rungs.ranking(1).correlation)
        truth.append(spearmanr(at, end).statistic)
    assert np.mean(found) == pytest.approx(np.mean(truth), abs=0.03)


def test_ranking_of_few_trials_or_without_spared_ones_is_not_known():
    rungs = Rungs(2, 1, 2, exempt=range(4))
    run(rungs, np.arange(4.0), np.arange(4.0))
    assert rungs.ranking(1) is None
    rungs = Rungs(2, 1, 2, exempt=range(10))
    run(rungs, np.arange(12.0), np.arange(12.0))
    assert rungs.stopped(1) == 2 and rungs.ranking(1) is None
    level = Rungs(2, 1, 2, exempt=range(10))
    run(level, np.zeros(10), np.arange(10.0))
    assert level.ranking(1) is None, "equal values rank nothing"
