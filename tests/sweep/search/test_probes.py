"""Probes: which hyperparameter they change, by how much, and when a study tries them."""

import dataclasses

import pytest

from sweep.record import StudyEntry
from sweep.search.probes import probe, probes
from sweep.search.space import Choice, Point, Range, Space
from sweep.search.study import Spec, Study

VALUES = {"learning_rate": 1e-3, "beta": 4.0, "weight": 10, "kernel": "rbf", "latent_dim": 8}
DIMENSIONS = {
    "learning_rate": Range(1e-4, 5e-3, log=True),
    "beta": Range(0.1, 10.0, log=True),
    "weight": Range(1, 100, log=True, integer=True),
    "kernel": Choice(("rbf", "imq")),
    "latent_dim": Choice((2, 4, 8)),
}
BALANCE = {"weight": {"kernel": ["imq"]}, "beta": {}}
SPACE = Space((Point("a table", ("mnist",), VALUES),), DIMENSIONS, dict.fromkeys(DIMENSIONS, True), balance=BALANCE)


FEW = probes(SPACE, 500)


def probed(name, factor, **values) -> dict | None:
    """What a probe changes."""
    before = VALUES | values
    found = probe(SPACE, name, factor, before)
    return found and {name: value for name, value in found.items() if value != before[name]}


@pytest.mark.parametrize(
    "steps, factor",
    [(100, 5.0), (400, 5.0), (500, 4.0), (540, 3.7), (1000, 2.0), (1333, 1.5), (1340, None), (1e5, None)],
)
def test_the_learning_rate_is_probed_if_trials_are_short(steps, factor):
    rate = [("learning_rate", factor)] if factor else []
    assert probes(SPACE, steps) == (*rate, ("beta", 0.2), ("beta", 5.0))


def test_only_what_is_searched_is_probed():
    assert probes(SPACE.with_fixed({"learning_rate": 1e-3}), 500) == (("beta", 0.2), ("beta", 5.0))
    listed = dataclasses.replace(SPACE, dimensions={**DIMENSIONS, "learning_rate": Choice((1e-3, 4e-3))})
    assert probes(listed, 500) == FEW[1:]
    for balance in (None, {}, {"weight": {"kernel": ["imq"]}}):
        assert probes(dataclasses.replace(SPACE, balance=balance), 500) == FEW[:1]
    imq = dataclasses.replace(SPACE, paper=(Point("a table", ("mnist",), VALUES | {"kernel": "imq"}),))
    assert probes(imq, 500)[1:] == (("weight", 0.2), ("weight", 5.0))
    assert probes(imq.with_fixed({"weight": 5}), 500) == FEW
    assert probes(SPACE.points_only(), 500) == ()


def test_a_probe_is_a_multiple_within_the_range():
    assert probed("learning_rate", 4.0) == {"learning_rate": pytest.approx(4e-3)}
    assert probed("beta", 0.2) == {"beta": pytest.approx(0.8)} and probed("beta", 5.0) == {"beta": 10.0}
    assert probed("weight", 0.25) == {"weight": 2}, "an integer"


@pytest.mark.parametrize(
    "name, factor, values",
    [
        ("learning_rate", 4.0, {"learning_rate": 5e-3}),  # at the end of the range
        ("learning_rate", 4.0, {"learning_rate": 1.0}),  # a hand-tuned point outside the range
        ("beta", 0.2, {"beta": 0.1}),
        ("kernel", 0.2, {}),
        ("absent", 0.2, {}),
    ],
)
def test_without_a_change_there_is_no_probe(name, factor, values):
    assert probed(name, factor, **values) is None


def study(trials=8, **more) -> Study:
    options = {"budget_epochs": trials * 9, "promotes": True, "probes": FEW} | more
    return Study(Spec("s", "m", "mnist", trials, 9, "valid/fcd", SPACE, 3, **options), seed=0)


def test_probes_follow_the_hand_tuned_point_and_start_from_the_best_trial():
    searched = study()
    for value in (100.0, 50.0):
        asked = searched.ask()
        assert searched.report(asked.number, 3, value) and searched.report(asked.number, 9, value)
        searched.end(asked.number, "complete", 9)
    assert asked.values == VALUES | {"learning_rate": pytest.approx(4e-3)} and asked.origin == "search"
    assert searched.ask().values == asked.values | {"beta": pytest.approx(0.8)}


def test_only_the_probe_of_the_learning_rate_is_not_stopped():
    searched = study()
    asked = [searched.ask() for _ in range(5)]
    assert [searched.report(a.number, 3, 100.0 + a.number) for a in asked[:3]] == [True, True, False]
    assert asked[2].values == VALUES | {"beta": pytest.approx(0.8)}
    assert [a.origin for a in asked] == ["paper"] + ["search"] * 4


def test_a_study_whose_rate_cannot_grow_has_the_sampler_s_point_and_may_stop_it():
    point = Point("a table", ("mnist",), VALUES | {"learning_rate": 5e-3})
    searched = study(trials=30)
    searched = Study(dataclasses.replace(searched.spec, space=dataclasses.replace(SPACE, paper=(point,))), seed=0)
    asked = [searched.ask() for _ in range(3)]
    assert asked[1].values["learning_rate"] != 5e-3, "the sampler's"
    assert asked[2].values == dict(point.values) | {"beta": pytest.approx(0.8)}
    assert [searched.report(a.number, 3, 100.0 + a.number) for a in asked] == [True, False, False]


def test_sweeps_recorded_without_probes_have_none():
    entry = StudyEntry.model_validate_json(study().spec.to_record().model_dump_json())
    assert Spec.from_record(entry).probes == FEW
    before = StudyEntry.model_validate({k: v for k, v in entry.model_dump().items() if k != "probes"})
    asked = Study(Spec.from_record(before), seed=0)
    assert [asked.ask().values, asked.ask().values][1] != VALUES | {"learning_rate": pytest.approx(4e-3)}
