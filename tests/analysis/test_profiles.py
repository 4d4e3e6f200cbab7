"""Profiles against studies whose profile is known in closed form, and rules beside numbers worked out by hand."""

import math

import numpy as np
import pytest

from analysis.join import read_sweeps
from analysis.load import read_sweep
from analysis.profiles import SIDE, balances, profile, rules, surface
from analysis.tables import leaderboard, write_tables

BETA = {"low": 1e-3, "high": 1e1, "log": True}
SPACE = {
    "beta": BETA,
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "latent_dim": {"choices": [2, 4, 8, 16, 32]},
    "kind": {"choices": ["full", "diag"]},
}
STUDY = {"study": "vae-digits", "method": "vae", "dataset": "digits", "trials": 99, "epochs": 2, "metric": "valid/fcd"}


@pytest.fixture
def shown(tmp_path, write_record):
    """Makes a sweep of studies and trials; a trial is (study, values, distance), those of number 0 the paper's. In the
    place of the distance, a list of the distances at epochs 1, 2, ...: a rung stopped the trial if the last is None."""

    def tell(studies, trials, name="told"):
        events = [{"time": 0.0, "event": "sweep", "sweep": "id", "studies": studies}]
        counts: dict[str, int] = {}
        for study, values, distance, *more in trials:
            number = counts[study] = counts.get(study, -1) + 1
            trial, origin = f"{study}-{number:04d}", (more or ["search" if number else "paper"])[0]
            start = {"time": 1.0, "event": "start", "trial": trial, "study": study, "number": number, "seed": 0}
            course = dict(enumerate(distance, 1)) if isinstance(distance, list) else {2: distance}
            rows = [
                {"epoch": e, "stage": "train", "metrics": {"valid/fcd": d}} for e, d in course.items() if d is not None
            ]
            state = "pruned" if None in course.values() else "complete"
            events += [
                start | {"values": values, "origin": origin, "attempt": 1},
                {"time": 2.0, "event": "report", "trial": trial, "rows": rows},
                {"time": 3.0, "event": "end", "trial": trial, "state": state, "epoch": rows[-1]["epoch"]},
            ]
        write_record(tmp_path / name, events)
        return read_sweep(tmp_path / name)

    return tell


def bowl(values, optimum, width=3.0):
    """10 at the optimum, and times exp(a quarter of the squared decades) away from it, whatever the others' best is."""
    decades = math.log10(values["beta"] / optimum)
    rate = math.log10(values["learning_rate"] / 1e-3) - 0.2 * decades
    steps = [2, 4, 8, 16, 32].index(values["latent_dim"]) - 2
    return 10 * math.exp(decades**2 / width + rate**2 + 0.1 * steps**2 + 0.3 * (values["kind"] == "diag"))


def drawn(chance, count, optimum, noise=0.05):
    """Points at random and their distances, the first by hand at beta = 4."""
    for number in range(count):
        values = {"beta": 10 ** chance.uniform(-3, 1), "learning_rate": 10 ** chance.uniform(-4, -2)}
        values |= {"latent_dim": int(chance.choice([2, 4, 8, 16, 32])), "kind": str(chance.choice(["full", "diag"]))}
        values |= {"beta": 4.0} if number == 0 else {}
        yield "vae-digits", values, bowl(values, optimum) * math.exp(noise * chance.standard_normal())


def halved(chance, trials, noise, rungs=1):
    """The same trials with rungs before their end, each of which stops all but the best half."""
    alive = [(*trial, []) for trial in trials]
    for _ in range(rungs):
        for *_, end, course in alive:
            course.append(3 * end**0.8 * math.exp(noise * chance.standard_normal()))
        cut = np.median([course[-1] for *_, course in alive])
        for name, values, _, course in alive:
            if course[-1] > cut:
                yield name, values, [*course, None]
        alive = [trial for trial in alive if trial[-1][-1] <= cut]
    for name, values, end, course in alive:
        yield name, values, [*course, end]


def study(**more):
    hand = {"beta": 4.0, "learning_rate": 1e-3, "latent_dim": 8, "kind": "full"}
    return STUDY | {"space": SPACE, "hand_tuned": hand, "balance": {"beta": {}}} | more


def test_a_profile_is_the_closed_form_within_its_interval(shown):
    sweep = shown([study()], drawn(np.random.default_rng(3), 40, optimum=0.1))
    found = profile(sweep, "vae-digits", "beta")
    true = 10 * np.exp(np.log10(found.at / 0.1) ** 2 / 3)
    assert np.mean((found.low <= true) & (true <= found.high)) >= 0.9
    assert found.determined
    assert found.optimum_interval[0] <= 0.1 <= found.optimum_interval[1]
    cost = math.exp(math.log10(4.0 / 0.1) ** 2 / 3) - 1
    assert found.cost_interval[0] <= cost <= found.cost_interval[1]
    assert cost / 2 < found.cost < 2 * cost
    edge = 10 ** math.sqrt(3 * math.log(1.05))  # where the closed form is 5 % above its lowest
    assert np.log10(found.flat) == pytest.approx(np.log10([0.1 / edge, 0.1 * edge]), abs=0.5)
    assert found.hand_tuned == 4.0 and 4.0 in found.at.round(9)


@pytest.mark.parametrize("rungs", [1, 2])
def test_a_stopped_trial_counts_with_the_end_that_its_rung_predicts(shown, rungs):
    """Rungs that predict the end without error: the profile is that of all trials at their end."""
    trials = list(drawn(np.random.default_rng(3), 48, optimum=0.1))
    whole = profile(shown([study()], trials, "whole"), "vae-digits", "beta")
    found = profile(
        shown([study()], halved(np.random.default_rng(0), trials, noise=0.0, rungs=rungs)), "vae-digits", "beta"
    )
    assert found.trials == 48 / 2**rungs
    np.testing.assert_allclose(found.middle, whole.middle, rtol=0.02)
    assert found.cost == pytest.approx(whole.cost, rel=0.05)
    assert found.optimum == whole.optimum


def test_the_cost_has_a_wider_interval_where_rungs_predict_the_end_badly(shown):
    trials, widths = list(drawn(np.random.default_rng(3), 48, optimum=0.1)), []
    for noise in (0.0, 0.5):
        sweep = shown([study()], halved(np.random.default_rng(0), trials, noise), f"noise-{noise}")
        low, high = profile(sweep, "vae-digits", "beta").cost_interval
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_many_trials_are_a_fair_sample_of_all(shown, monkeypatch):
    """The lowest alone would have their noise in common."""
    monkeypatch.setattr("analysis.profiles.MOST", 40)
    sweep = shown([study()], drawn(np.random.default_rng(0), 160, optimum=0.1, noise=0.3))
    cost = math.exp(math.log10(4.0 / 0.1) ** 2 / 3) - 1
    assert cost / 2 < profile(sweep, "vae-digits", "beta").cost < 2 * cost


@pytest.mark.slow
@pytest.mark.parametrize("count, rungs", [(20, 0), (60, 2)])
def test_nineteen_of_twenty_intervals_hold_the_truth(shown, count, rungs):
    """20 studies; of 19 expected at least 16 are there by chance in 99.7 of 100 such tests."""
    chance, hits = np.random.default_rng(0), np.zeros(3)
    for number in range(20):
        optimum = 10 ** chance.uniform(-2.5, 0.5)
        trials = drawn(chance, count, optimum)
        sweep = shown([study()], halved(chance, trials, 0.1, rungs) if rungs else trials, f"told-{number}")
        found = profile(sweep, "vae-digits", "beta")
        true = 10 * np.exp(np.log10(found.at / optimum) ** 2 / 3)
        cost = math.exp(math.log10(4.0 / optimum) ** 2 / 3) - 1
        hits += [
            np.mean((found.low <= true) & (true <= found.high)),
            found.optimum_interval[0] <= optimum <= found.optimum_interval[1],
            found.cost_interval[0] <= cost <= found.cost_interval[1],
        ]
    assert hits.min() >= 16, hits


def test_a_surface_is_the_closed_form_with_the_other_knobs_at_their_best(shown):
    sweep = shown([study()], drawn(np.random.default_rng(3), 60, optimum=0.1))
    found = surface(sweep, "vae-digits", "beta", "latent_dim")
    assert (len(found.across), found.up) == (SIDE, [2, 4, 8, 16, 32])
    beta, steps = np.log10(np.array(found.across) / 0.1), np.arange(5)[:, None] - 2
    true = 10 * np.exp(beta**2 / 3 + 0.1 * steps**2)  # at the best learning rate and kind
    assert found.distance.shape == true.shape
    assert np.median(np.abs(np.log(found.distance / true))) < 0.1
    up, across = np.unravel_index(found.distance.argmin(), true.shape)
    assert up in (1, 2, 3) and abs(beta[across]) < 0.6


def test_no_surface_of_few_trials_or_of_a_knob_without_an_order(shown):
    trials = list(drawn(np.random.default_rng(0), 12, 1.0))
    assert surface(shown([study()], trials[:7], "few"), "vae-digits", "beta", "latent_dim") is None
    assert surface(shown([study()], trials, "unordered"), "vae-digits", "beta", "kind") is None


@pytest.mark.parametrize("noise", [0.1, 0.0])
def test_a_knob_that_changes_nothing_has_no_optimum(shown, noise):
    chance = np.random.default_rng(1)
    trials = [
        (name, values, 10 * math.exp(noise * chance.standard_normal())) for name, values, _ in drawn(chance, 20, 1.0)
    ]
    row = balances(shown([study()], trials)).iloc[0]
    assert row["optimum_is"] == "not determined"
    assert row["cost_low"] < 5


def test_an_optimum_beyond_the_range_is_at_its_end(shown):
    """The closed form is lowest at 1e-6, three decades below the range, and falls all the way there."""
    row = balances(shown([study()], drawn(np.random.default_rng(4), 40, optimum=1e-6))).iloc[0]
    assert row["optimum_is"] == "at an end of its range"
    assert row["optimum"] == pytest.approx(1e-3)


def test_few_trials_estimate_nothing_and_say_so(shown):
    row = balances(shown([study()], drawn(np.random.default_rng(0), 7, 1.0))).iloc[0]
    assert (row["optimum_is"], row["trials"], row["knob_hand_tuned"]) == ("too few trials", 7, 4.0)
    assert math.isnan(row["optimum"])


def test_a_distance_of_zero_has_no_logarithm_and_the_table_says_so(shown):
    trials = list(drawn(np.random.default_rng(0), 9, 1.0))
    trials[3] = (*trials[3][:2], 0.0)
    sweep = shown([study()], trials)
    assert profile(sweep, "vae-digits", "beta") is None
    assert balances(sweep)["optimum_is"].tolist() == ["not all distances are positive"]
    few = balances(shown([study()], trials[:7], "few"))
    assert few["optimum_is"].tolist() == ["too few trials"]


def test_a_choice_is_found_whatever_the_type_of_its_column(shown):
    """A column of trials has one type, so a method with 2.5 latents turns the 8 of another into 8.0."""
    trials = list(drawn(np.random.default_rng(0), 12, 0.1))
    alone = profile(shown([study()], trials, "alone"), "vae-digits", "beta")
    hand = study()["hand_tuned"] | {"latent_dim": 2.5}
    other = study(study="gae-digits", method="gae", hand_tuned=hand, space={"latent_dim": {"value": 2.5}}, balance={})
    beside = shown(
        [study(balance={"beta": {"latent_dim": [2, 4, 8, 16, 32]}}), other], [*trials, ("gae-digits", hand, 9.0)]
    )
    found = profile(beside, "vae-digits", "beta")
    assert found is not None and (found.trials, found.cost) == (12, alone.cost)


def test_only_trials_count_in_which_the_knob_weighs_something(shown):
    """Half of the trials learn the weight: their beta is a starting value, and the closed form is not theirs."""
    chance, trials = np.random.default_rng(2), []
    for number, (name, values, distance) in enumerate(drawn(chance, 60, optimum=0.1)):
        rule = "fixed" if number % 2 else "learned"
        trials.append((name, values | {"rule": rule}, distance if number % 2 else 5.0))
    space = SPACE | {"rule": {"choices": ["fixed", "learned"]}}
    hand = study()["hand_tuned"] | {"rule": "learned"}
    sweep = shown([study(space=space, balance={"beta": {"rule": ["fixed"]}}, hand_tuned=hand)], trials)
    found = profile(sweep, "vae-digits", "beta")
    assert found.trials == 30
    assert found.optimum_interval[0] <= 0.1 <= found.optimum_interval[1]
    assert found.hand_tuned is None and math.isnan(found.cost)
    assert balances(sweep)["knob_hand_tuned"].isna().all()


def test_the_same_trials_give_the_same_profile(shown):
    once, again = (
        profile(shown([study()], drawn(np.random.default_rng(0), 12, 1.0), name), "vae-digits", "beta") for name in "ab"
    )
    assert (once.middle == again.middle).all() and once.optimum_interval == again.optimum_interval


def test_the_leaderboard_and_a_file_hold_the_main_knob_and_all(shown):
    more = {"study": "gae-digits", "method": "gae", "balance": {}}
    trials = [*drawn(np.random.default_rng(0), 20, 0.1), ("gae-digits", study()["hand_tuned"], 9.0)]
    two = {"beta": {}, "learning_rate": {}}
    sweep = shown([study(balance=two), study(**more)], trials)
    write_tables(sweep.folder)
    board = leaderboard(sweep).set_index("study")
    assert board.loc["vae-digits", "knob"] == "beta"
    assert board.loc["vae-digits", "cost_percent"] == balances(sweep)["cost_percent"][0]
    assert board.loc["gae-digits", ["knob", "optimum_is"]].isna().all()
    assert (sweep.folder / "balances.csv").read_text().count("vae-digits") == 2


def test_rules_stand_beside_the_number_that_they_set(shown):
    """Worked out by hand: the lowest of each kind, and of the paper's points of each kind."""
    gaussian = STUDY | {
        "study": "gaussian_vae-digits",
        "method": "gaussian_vae",
        "space": {"rule": {"choices": ["fixed", "learned"]}, "gamma": {"low": 1e-4, "high": 1.0, "log": True}},
        "rules": {"learned": {"rule": ["learned"]}, "geco": {"method": ["geco"]}},
    }
    geco = STUDY | {"study": "geco-digits", "method": "geco"}
    trials = [
        ("gaussian_vae-digits", {"rule": "learned", "gamma": 1.0}, 30.0),
        ("gaussian_vae-digits", {"rule": "fixed", "gamma": 0.1}, 40.0, "paper"),
        ("gaussian_vae-digits", {"rule": "learned", "gamma": 0.2}, 25.0),
        ("gaussian_vae-digits", {"rule": "fixed", "gamma": 0.02}, 20.0),
        ("geco-digits", {"tau": 0.1}, 28.0),
        ("geco-digits", {"tau": 0.2}, 27.0),
    ]
    table = rules(shown([gaussian, geco], trials)).set_index("set_by")
    assert set(table["study"]) == {"gaussian_vae-digits"}
    assert table["hand_tuned"].to_dict() == {"a number": 40.0, "learned": 30.0, "geco": 28.0}
    assert table["tuned"].to_dict() == {"a number": 20.0, "learned": 25.0, "geco": 27.0}
    assert table["trials"].to_dict() == {"a number": 2, "learned": 2, "geco": 2}


def test_a_rule_of_another_method_is_that_of_the_same_sweep(shown, tmp_path):
    """A joined sweep labels methods that several sweeps ran, as geco@one."""
    ruled = study(rules={"geco": {"method": ["geco"]}})
    for name, value in (("one", 28.0), ("two", 27.0)):
        trials = [("vae-digits", ruled["hand_tuned"], 40.0), ("geco-digits", {"tau": 0.1}, value)]
        shown([ruled, STUDY | {"study": "geco-digits", "method": "geco"}], trials, name)
    shown([ruled], [("vae-digits", ruled["hand_tuned"], 40.0)], "alone")
    joined = rules(read_sweeps([tmp_path / "one", tmp_path / "two"])).set_index(["method", "set_by"])["tuned"]
    assert (joined["vae@one", "geco"], joined["vae@two", "geco"]) == (28.0, 27.0)
    of_both = rules(read_sweeps([tmp_path / "alone", tmp_path / "one"])).set_index(["method", "set_by"])["tuned"]
    assert (of_both["vae@alone", "geco"], of_both["vae@one", "geco"]) == (28.0, 28.0)


def test_a_rule_whose_method_did_not_run_has_no_value(shown):
    alone = study(rules={"geco": {"method": ["geco"]}})
    table = rules(shown([alone], drawn(np.random.default_rng(0), 2, 1.0))).set_index("set_by")
    assert table.loc["geco", "trials"] == 0 and math.isnan(table.loc["geco", "tuned"])
