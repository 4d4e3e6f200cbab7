"""The share of a GPU that a trial takes follows from the memory that the studies need."""

from types import SimpleNamespace

import pytest
import torch

from sweep.config import SweepConfig
from sweep.driver import nodes, shares
from sweep.driver.job import resources_of_cluster
from sweep.driver.nodes import Node
from sweep.driver.shares import CONTEXT, EVALUATION, PRETRAINED, Need, choose_share, evaluation, needs_of
from sweep.search.plan import plan
from trainables.memory import Footprint

GB = 10**9


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A sweep with a large and a small study, whose steps take 3 and 1 GB, with 2 GB of images."""
    config = SweepConfig(methods=["vae", "rae_l2"], set={"latent_dim": 2, "network": "mlp_8"}, epochs=1)
    made = plan(config.model_copy(update={"out": tmp_path_factory.mktemp("out")}))
    made.__dict__["footprints"] = {
        "vae-digits": Footprint(network=GB, optimiser=GB, activations=GB, images=2 * GB),
        "rae_l2-digits": Footprint(network=0, optimiser=0, activations=GB, images=2 * GB),
    }
    return made


def given(planned, share):
    """The same sweep with a configured share."""
    config = planned.config.model_copy(update={"gpus_per_trial": share})
    made = type(planned)(config, planned.splits, planned.studies)
    made.__dict__["footprints"] = planned.footprints
    return made


@pytest.mark.parametrize(
    ("gpus", "share", "said"),
    [
        ([], 0.25, ""),
        ([16 * GB], 0.25, ""),  # 4 GB of 4 GB; the images stay on the host
        (
            [16 * GB - 1],
            0.5,
            "gpus_per_trial = 0.5 in place of 0.25, because on a GPU of 16.0 GB a trial of vae-digits ",
        ),
        ([8 * GB], 0.5, "takes about 4.0 GB, with 1.0 GB for CUDA and evaluations"),
        ([8 * GB - 1], 1.0, "gpus_per_trial = 1 in place of 0.25"),
        ([3 * GB], 1.0, "for CUDA and evaluations, and may run out of memory"),  # the step fits, evaluations may not
        ([80 * GB, 8 * GB, 16 * GB], 0.5, "on a GPU of 8.0 GB"),  # the smallest node counts
        ([2 * GB, 16 * GB], 0.25, ""),  # the check of the node that is too small excludes it
    ],
)
def test_the_share_is_the_smallest_that_the_largest_study_fits(planned, gpus, share, said):
    lines = []
    assert choose_share(planned, gpus, lines.append) == share
    assert len(lines) == bool(said) and said in "".join(lines)


@pytest.mark.parametrize("gpus", [[3 * GB - 1], [2 * GB, GB]])
@pytest.mark.parametrize("share", [None, 1.0])
def test_gpus_that_are_too_small_are_refused_with_figures(planned, gpus, share):
    figures = (
        rf"vae-digits: a training step takes 3\.0 GB \(network .*, and the GPU has {max(gpus) / GB:.1f} GB; choose"
    )
    with pytest.raises(ValueError, match=figures):
        choose_share(given(planned, share), gpus, print)


@pytest.mark.parametrize(("share", "lines"), [(0.25, 1), (0.5, 0), (0.0, 0)])
def test_a_given_share_is_kept_and_a_step_that_does_not_fit_it_is_named(planned, share, lines):
    said = []
    assert choose_share(given(planned, share), [8 * GB], said.append) == (share or 0.25)
    assert len(said) == lines
    if said:
        assert "vae-digits: a training step takes 3.0 GB" in said[0] and "more than 0.25 of a GPU of 8.0 GB" in said[0]
        assert "a larger --gpus-per-trial" in said[0]


def test_images_count_where_they_are_placed_on_the_gpu():
    need = Need("s", Footprint(0, 0, 7 * GB + 1, images=GB), beside=0)
    assert not need.fits(1.0, 8 * GB)  # 7 GB and one byte, and 1 GB of images
    assert need.fits(1.0, 8 * GB - 1)  # the images take more than an eighth, and stay on the host


def test_a_pretrained_network_of_the_metric_is_allowed_for(planned):
    assert evaluation("fcd") == evaluation("mse") == evaluation("probe_error") == EVALUATION
    assert evaluation("fid") == evaluation("fid_kid") == evaluation("cmmd:weights") == PRETRAINED
    assert [need.beside for need in needs_of(planned)] == [CONTEXT + EVALUATION] * 2


def test_the_smallest_gpu_of_this_machine_counts(monkeypatch):
    sizes = [80 * GB, 24 * GB]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=sizes[i]))
    assert shares.own_gpus() == [24 * GB]
    sizes.clear()
    assert shares.own_gpus() == []


def test_gpus_on_which_cuda_does_not_start_are_an_error_of_one_line(monkeypatch):
    def fail(i: int) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old.\nUpdate it.")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", fail)
    with pytest.raises(ValueError, match=r"\(The NVIDIA driver .* too old\.\); .* CUDA_VISIBLE_DEVICES=$"):
        shares.own_gpus()


def test_the_smallest_gpu_of_each_node_counts(monkeypatch):
    answers = [[80 * GB, 24 * GB], [], RuntimeError("torch cannot compute"), TimeoutError("no answer"), [40 * GB]]
    seen = [Node(f"node-{i}", "10.0.0.1", 2, answer) for i, answer in enumerate(answers)]
    without = Node("head", "10.0.0.2", 0, [8 * GB])  # Ray was told not to use its GPU
    monkeypatch.setattr(nodes, "ask_all", lambda question: [*seen, without] if question is nodes.gpus_seen else [])
    assert nodes.gpus_of_nodes() == [24 * GB, 40 * GB]


@pytest.mark.parametrize(
    ("share", "nodes_of_ray", "expected"),
    [(None, [(0, 0), (8, 1)], 0.5), (0.25, [(8, 1)], 0.25), (0.0, [(8, 1)], 0.0), (None, [(8, 0)], 0.0)],
)
def test_a_cluster_is_asked_for_its_gpus_if_trials_use_them(planned, monkeypatch, share, nodes_of_ray, expected):
    asked, said = [], []
    monkeypatch.setattr(nodes, "gpus_of_nodes", lambda: asked.append(list(said)) or [8 * GB])
    assert resources_of_cluster(given(planned, share), nodes_of_ray, said.append).gpus == expected
    assert asked == [["asking each node for the memory of its GPUs ..."]] * bool(expected)


def machine_with(monkeypatch, tmp_path, output: str):
    """This machine as a node of a sweep whose GPUs answer with `output`."""
    monkeypatch.setattr(nodes.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0, stdout=output))
    record = tmp_path / "record.jsonl"
    record.write_text('{"sweep": "s1"}\n')
    (tmp_path / "trials").mkdir()
    code, versions = nodes.provenance.code_hash(), nodes.own_versions()
    return lambda step, gpus: nodes.fault(record, "s1", code, versions, [], step, gpus, [])


def test_a_node_whose_gpu_is_too_small_is_refused_with_figures(monkeypatch, tmp_path):
    fault = machine_with(monkeypatch, tmp_path, f"{80 * GB}\n{24 * GB}\n")
    assert nodes.gpus_seen() == [80 * GB, 24 * GB]
    assert fault(("vae-celeba", 24 * GB), 2) == ""
    assert (
        fault(("vae-celeba", 30 * GB), 2)
        == "a training step of vae-celeba takes 30.0 GB, and its smallest GPU has 24.0 GB"
    )
    assert fault(("vae-celeba", 30 * GB), 0) == ""  # trials use CPUs
    assert fault(("vae-celeba", GB), 3) == "torch sees 2 of its 3 GPUs"


def test_a_machine_without_gpus_has_none_to_show(monkeypatch, tmp_path):
    assert machine_with(monkeypatch, tmp_path, "")(("", 0), 0) == ""
    assert nodes.gpus_seen() == []
