"""How many trials run at a time, and what each may use."""

import pytest

from sweep.config import SweepConfig
from sweep.driver.resources import Resources, of_this_machine


def of(cpus: int, gpus: int = 0, **fields) -> Resources:
    return Resources.of(SweepConfig(**fields), cpus, gpus)


@pytest.mark.parametrize(
    ("cpus", "gpus", "fields", "expected"),  # expected: CPUs and GPUs per trial, slots
    [
        (2, 0, {}, (1, 0.0, 2)),
        (8, 0, {"concurrent": 2}, (4, 0.0, 2)),
        (8, 0, {"concurrent": 3}, (2, 0.0, 3)),
        (8, 0, {"cpus_per_trial": 3}, (3, 0.0, 2)),
        (2, 0, {"concurrent": 8}, (1, 0.0, 2)),
        (16, 2, {}, (2, 0.25, 8)),
        (16, 2, {"gpus_per_trial": 1}, (8, 1.0, 2)),
        (16, 2, {"gpus_per_trial": 2}, (16, 2.0, 1)),
        (16, 2, {"gpus_per_trial": 0}, (1, 0.0, 16)),
        (16, 2, {"gpus_per_trial": 0.4}, (4, 0.4, 4)),  # two fit on a GPU, and none across two
        (3, 1, {}, (1, 0.25, 3)),
    ],
)
def test_what_a_machine_holds(cpus, gpus, fields, expected):
    found = of(cpus, gpus, **fields)
    assert (found.cpus, found.gpus, found.slots) == expected
    assert found.slots * found.cpus <= cpus
    assert found.ahead == found.slots + 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"gpus_per_trial": 3}, "gpus_per_trial = 3, but there are 2 GPUs"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial = 1.5; allowed: a fraction up to 1, or whole GPUs"),
        ({"cpus_per_trial": 17}, "cpus_per_trial = 17, but there are 16 CPU cores"),
    ],
)
def test_more_than_there_is(fields, problem):
    with pytest.raises(ValueError, match=problem):
        of(16, 2, **fields)


def test_a_cluster_that_grows_with_demand():
    found = of(0, 0, address="head:6379", concurrent=6, gpus_per_trial=0.5)
    assert (found.cpus, found.gpus, found.slots) == (1, 0.5, 6)
    assert found.ahead == 6  # one more would make it grow by a machine
    with pytest.raises(ValueError, match=r"has no CPU for trials yet; .* --concurrent N"):
        of(0, 0, address="head:6379")


def test_waiting_for_nodes_is_said():
    found = of(0, 0, address="head:6379", concurrent=6, gpus_per_trial=0.5)
    assert "a trial takes 1 CPUs and 0.5 GPUs, the cluster has 8 and 0 so far" in found.waiting(8, 0)
    assert found.waiting(8, 1) is None


def test_this_machine_holds_something():
    assert of_this_machine(SweepConfig(concurrent=1)).slots == 1
