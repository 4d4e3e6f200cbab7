"""Importances: the knob that decides gets the share, and of too few trials nothing is said."""

import csv

import numpy as np
import pytest
from made_up import event

from sweep.record import Event, Trials
from sweep.search.importance import FEWEST, importances, write_importances


def events(make_plan, count: int) -> list[Event]:
    """A study of random trials whose value at the first rung depends on the learning rate alone; most stop there."""
    spec = make_plan(methods=["beta_vae"], epochs=9, trials=count).studies[0].spec
    chance = np.random.default_rng(0)
    found = [event("sweep", sweep="s", studies=[spec.to_record()])]
    for number in range(count):
        values = dict(spec.space.paper[0].values)
        values |= {"learning_rate": float(10 ** chance.uniform(-4, -2.4)), "beta": float(10 ** chance.uniform(-3, 1))}
        name = f"{spec.study}-{number:04d}"
        found.append(event("start", trial=name, study=spec.study, number=number, values=values))
        value = abs(np.log10(values["learning_rate"]) + 3)
        rows = [{"epoch": 1, "metrics": {"valid/fcd": value}}]
        if number % 3 == 0:
            rows.append({"epoch": 9, "metrics": {"valid/fcd": float(chance.uniform())}})
        found.append(event("report", trial=name, rows=rows))
    return found


def test_the_knob_that_decides_gets_the_share(make_plan):
    trials = Trials.from_events(events(make_plan, 60))
    epoch, compared, found = importances(trials, "beta_vae-digits")
    assert (epoch, compared) == (1, 60)  # also those that went on, by what they had shown there
    assert found["learning_rate"].share > max(0.6, found["learning_rate"].chance)
    assert sum(share for share, _ in found.values()) == pytest.approx(1)
    assert found["beta"].share < found["beta"].chance
    assert "network" not in found


@pytest.mark.slow
def test_one_knob_in_twenty_is_above_chance_if_none_decides(make_plan):
    """15 studies of values without a relation to the 2 knobs: 1.5 are expected, and more than 5 come in 3 of 1000 such
    tests. A share of more than one half comes in each study."""
    found, chance = events(make_plan, 22), np.random.default_rng(1)
    above = 0
    for _ in range(15):
        for report in (one for one in found if one.event == "report"):
            report.rows[0].metrics["valid/fcd"] = float(chance.uniform())
        _, _, by_knob = importances(Trials.from_events(found), "beta_vae-digits")
        above += sum(share > limit for share, limit in by_knob.values())
    assert above <= 5


def test_the_same_trials_have_the_same_chance(make_plan):
    once, again = (importances(Trials.from_events(events(make_plan, 22)), "beta_vae-digits") for _ in range(2))
    assert once == again


def test_of_few_trials_nothing_is_said(make_plan):
    trials = Trials.from_events(events(make_plan, FEWEST - 1))
    assert importances(trials, "beta_vae-digits") == (1, FEWEST - 1, {})


def test_the_file_holds_them(make_plan, tmp_path):
    lines = "".join(event.model_dump_json() + "\n" for event in events(make_plan, 30))
    (tmp_path / "record.jsonl").write_text(lines)
    write_importances(tmp_path)
    rows = list(csv.DictReader((tmp_path / "importances.csv").open()))
    assert {row["knob"] for row in rows} == {"learning_rate", "beta"}
    assert {(row["study"], row["epoch"], row["trials"]) for row in rows} == {("beta_vae-digits", "1", "30")}
    assert all(float(row["chance"]) > 0 for row in rows)
