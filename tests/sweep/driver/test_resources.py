"""How many trials run at a time, and what each may use."""

import pytest

from sweep.config import SweepConfig
from sweep.driver.resources import Resources, of_this_machine, without_gpus


def of(cpus: int, gpus: int = 0, **fields) -> Resources:
    return Resources.of(SweepConfig(**fields), [(cpus, gpus)] if cpus else [])


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
        ({"gpus_per_trial": 2}, "gpus_per_trial\n.*less than or equal to 1"),
        ({"cpus_per_trial": 17}, "cpus_per_trial must be at most 16, the CPU cores of a node, got 17"),
    ],
)
def test_more_than_there_is(fields, problem):
    with pytest.raises(ValueError, match=problem):
        of(16, 2, **fields)


def test_a_share_chosen_for_the_studies_holds_unless_one_is_given():
    nodes = [(16, 2)]
    assert Resources.of(SweepConfig(), nodes, 0.5) == Resources(4, 0.5, 4, 5, 2)
    assert Resources.of(SweepConfig(gpus_per_trial=1), nodes, 0.5).gpus == 1.0
    assert Resources.of(SweepConfig(), [(16, 0)], 0.5).gpus == 0.0


def test_gpus_that_are_not_there():
    with pytest.raises(ValueError, match=r"gpus_per_trial must be at most 0, the number of GPUs, got 0\.5"):
        of(16, 0, gpus_per_trial=0.5)


@pytest.mark.parametrize(
    ("nodes", "fields", "expected"),
    [
        ([(1, 0), (1, 0)], {"cpus_per_trial": 1}, (1, 0.0, 2)),
        ([(16, 0), (8, 1)], {}, (2, 0.25, 4)),  # the CPUs of the node with the GPU, not of all
        ([(64, 0), (8, 1), (8, 1)], {}, (2, 0.25, 8)),
        ([(4, 1), (16, 1)], {}, (1, 0.25, 8)),
        ([(4, 0), (6, 0)], {"concurrent": 2}, (4, 0.0, 2)),
        ([(4, 0), (6, 0)], {"concurrent": 3}, (3, 0.0, 3)),
        ([(0, 0), (2, 0)], {"concurrent": 9}, (1, 0.0, 2)),
    ],
)
def test_places_are_counted_by_node(nodes, fields, expected):
    found = Resources.of(SweepConfig(**fields), nodes)
    assert (found.cpus, found.gpus, found.slots) == expected


def test_a_trial_that_fits_the_nodes_together_and_none_alone_is_refused():
    with pytest.raises(ValueError, match="cpus_per_trial must be at most 1, the CPU cores of a node, got 2"):
        Resources.of(SweepConfig(cpus_per_trial=2), [(1, 0), (1, 0)])
    with pytest.raises(ValueError, match=r"no node has both 4 CPU cores and 0\.5 GPUs"):
        Resources.of(SweepConfig(cpus_per_trial=4, gpus_per_trial=0.5), [(16, 0), (2, 1)])


def test_nodes_that_come_and_go_bring_and_take_all_their_places():
    found = Resources.of(SweepConfig(address="auto"), [(2, 0)])
    assert (found.slots, found.ahead) == (2, 3)
    more = found.on([(2, 0), (4, 0)], None)
    assert (more.slots, more.ahead) == (6, 7)
    none = more.on([], None)
    assert (none.slots, none.ahead) == (0, 0)  # the search is not asked while no trial could begin
    capped = more.on([(2, 0), (4, 0)], 4)
    assert (capped.slots, capped.ahead) == (4, 4)


def test_a_cluster_that_grows_with_demand():
    found = of(0, 0, address="head:6379", concurrent=6, gpus_per_trial=0.5)
    assert (found.cpus, found.gpus, found.slots, found.ahead) == (1, 0.5, 0, 0)
    assert found.on([(4, 1)], 6).slots == 2
    assert found.on([(4, 1)] * 9, 6).ahead == 6  # one more would make it grow by a machine
    with pytest.raises(ValueError, match=r"has no CPU for trials yet; .* --concurrent N"):
        of(0, 0, address="head:6379")


@pytest.mark.parametrize(
    ("nodes", "fields", "gpus", "said"),
    [
        ([(16, 4), (16, 4)], {}, 0.25, False),
        ([(16, 4), (16, 4)], {"gpus_per_trial": 0}, 0.0, False),
        ([(16, 0)], {}, 0.0, True),
        ([], {}, 0.0, True),  # nodes with GPUs may join
        ([], {"gpus_per_trial": 0}, 0.0, False),
        ([], {"gpus_per_trial": 1}, 1.0, False),
    ],
)
@pytest.mark.parametrize("concurrent", [8, None])
def test_the_gpus_of_a_cluster_are_used_or_it_is_said_that_none_are(nodes, fields, gpus, said, concurrent):
    config = SweepConfig(address="head:6379", concurrent=concurrent, **fields)
    words = without_gpus(config, nodes)
    assert (words is not None and words.endswith("set --gpus-per-trial 0.25")) == said
    if nodes or concurrent:
        assert Resources.of(config, nodes).gpus == gpus


def test_a_machine_without_a_gpu_is_no_news():
    assert without_gpus(SweepConfig(), [(2, 0)]) is None


def test_waiting_for_nodes_is_said():
    found = of(0, 0, address="head:6379", concurrent=6, gpus_per_trial=0.5)
    said = found.waiting([(8, 0), (0, 1)])
    assert "a trial needs 1 CPUs and 0.5 GPUs of one node, but the nodes have 8 and 0, 0 and 1 so far" in said
    assert found.waiting([(8, 0), (1, 1)]) is None


def test_this_machine_holds_something():
    assert of_this_machine(SweepConfig(concurrent=1)).slots == 1
