"""Probes: which hyperparameter they change, by how much, and when a study tries them."""

import dataclasses

import pytest

from sweep.search.probes import COUNT, main_balance, probe
from sweep.search.space import Choice, Fixed, Point, Range, Space
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


def probed(space, index, **values) -> dict | None:
    """What a probe changes."""
    before = VALUES | values
    found = probe(space, index, before)
    return found and {name: value for name, value in found.items() if value != before[name]}


def test_the_learning_rate_then_the_balance_to_both_sides():
    assert [probed(SPACE, i) for i in range(COUNT)] == [
        {"learning_rate": pytest.approx(4e-3)},
        {"beta": pytest.approx(0.8)},
        {"beta": 10.0},  # 20 clipped to the range
    ]
    assert probed(SPACE, 1, kernel="imq") == {"weight": 2} and probed(SPACE, 2, kernel="imq") == {"weight": 50}


@pytest.mark.parametrize(
    "index, space, values",
    [
        (0, SPACE, {"learning_rate": 5e-3}),  # at the end of the range
        (0, SPACE, {"learning_rate": 1.0}),  # a hand-tuned point outside the range
        (0, SPACE.with_fixed({"learning_rate": 1e-3}), {}),
        (0, dataclasses.replace(SPACE, dimensions={**DIMENSIONS, "learning_rate": Choice((1e-3, 4e-3))}), {}),
        (1, SPACE, {"beta": 0.1}),
        (1, dataclasses.replace(SPACE, balance={}), {}),
        (2, dataclasses.replace(SPACE, balance=None), {}),
        (2, dataclasses.replace(SPACE, dimensions={**DIMENSIONS, "beta": Range(0.0, 1.0)}), {"beta": 0.0}),
    ],
)
def test_without_a_change_there_is_no_probe(index, space, values):
    assert probe(space, index, VALUES | values) is None


def test_the_main_balance_is_the_first_that_is_searched():
    fixed = SPACE.with_fixed({"weight": 5})
    assert main_balance(SPACE, VALUES | {"kernel": "imq"}) == "weight"
    assert main_balance(fixed, VALUES | {"kernel": "imq"}) == "beta"
    assert main_balance(dataclasses.replace(SPACE, dimensions={"beta": Fixed(4.0)}), VALUES) is None


def study(trials=8, **more) -> Study:
    options = {"budget_epochs": trials * 9, "promotes": True, "probes": True} | more
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
    entry = study().spec.to_record()
    assert Spec.from_record(entry).probes
    before = type(entry).model_validate({k: v for k, v in entry.model_dump().items() if k != "probes"})
    earlier = Study(Spec.from_record(before), seed=0)
    asked = [earlier.ask() for _ in range(2)]
    assert asked[1].values != VALUES | {"learning_rate": pytest.approx(4e-3)}
