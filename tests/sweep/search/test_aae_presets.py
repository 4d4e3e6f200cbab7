"""The AAE paper's presets: its tables are six systems at one point each, its figure is AAE beside its ablations."""

import numpy as np
import pytest

from sweep.config import SweepConfig, read_config
from sweep.search.plan import Plan, plan
from trainables.datasets import Absent, Split, Splits

SIX = {"aae", "iaae_mapping", "iaae_niter", "iaae_kld", "iaae_feature", "iaae_equal"}


@pytest.fixture
def planned(monkeypatch):
    """A preset's plan where MNIST and Fashion-MNIST are there, and no other data set is."""

    def made(name, root, *, size, channels, download=True) -> Splits:
        if name not in ("mnist", "fashion_mnist"):
            raise Absent(f"{name}: not here")
        split = Split(np.zeros((2000, channels, size, size), np.uint8), np.zeros(2000, np.int64))
        return Splits(name, "mnist", split, split, split)

    monkeypatch.setattr("sweep.search.plan.load", made)

    def make(preset: str) -> Plan:
        return plan(read_config(SweepConfig, ["--preset", preset], "sweep/run.py", "about"))

    return make


def test_the_tables_are_six_systems_on_five_seeds_with_one_point_each(planned):
    grid = planned("aae-tables")
    assert {(s.method, s.dataset) for s in grid.studies} == {(m, d) for m in SIX for d in ("mnist", "fashion_mnist")}
    assert all(s.spec.trials == 5 and len(s.spec.space.paper) == 1 for s in grid.studies)
    assert [grid.seed_of("iaae_kld-mnist", number) for number in range(5)] == [0, 1, 2, 3, 4]
    assert grid.splits["mnist"].shape == (3, 32, 32) and grid.rungs == []
    points = {s.method: s.hand_tuned_values for s in grid.studies}
    assert (points["aae"]["sigma"], points["iaae_kld"]["reading"], points["iaae_niter"]["n"]) == ("raw", "none", 3)
    assert {(point["batch_size"], point["learning_rate"]) for point in points.values()} == {(1024, 1e-4)}


def test_sigma_is_followed_from_the_first_epoch_with_its_ablations_beside(planned):
    walk = planned("aae-sigma")
    (study,) = walk.studies
    assert [point.name for point in study.spec.space.paper] == ["paper", "sigma_exp", "sigma_floor", "entropy"]
    assert walk.rungs[:3] == [1, 3, 9] and study.spec.trials == 4
