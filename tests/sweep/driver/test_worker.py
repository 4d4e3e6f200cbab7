"""A trial on its worker, without Ray: what it tells at each step, what it saves and when, and how it goes wrong."""

import errno
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules import module as of_all_modules
from torch.nn.modules.module import register_module_forward_hook

from sweep.driver import failure, hang
from sweep.driver import worker as module
from sweep.record import CHECKPOINT, REPORTED, Progress
from trainables import Diverged, datasets
from trainables.feed import shared
from trainables.saved import load
from trainables.training import Training

PLAIN_DATA = module.TrialWorker._data  # which `make_worker` replaces


@pytest.fixture
def described(begin) -> dict:
    return begin(methods=["vae"], set={"network": "mlp_8", "latent_dim": 2, "batch_size": 100}).next("a")


def steps(worker, most=99):
    """What a worker tells until its trial ends."""
    for _ in range(most):
        (shown,) = worker.step()["progress"]
        yield shown
        if shown.state is not None:
            return


def goes_on(described, shown):
    """The next attempt of a trial that told what was shown."""
    return described | {"epoch": shown[-1].epoch}


def epochs_saved(checkpoint):
    return torch.load(checkpoint)["position"]["epoch"] if checkpoint.exists() else 0


def without_clock(shown):
    rows = [row for step in shown for row in step.rows]
    clock = ("time/", "speed/", "memory/")
    return {row.epoch: {k: v for k, v in row.metrics.items() if not k.startswith(clock)} for row in rows}


@pytest.fixture(scope="module")
def once() -> dict:
    return {}


@pytest.fixture
def undisturbed(make_worker, described, once) -> dict:
    """What a trial tells that nothing disturbs; it is trained once for all tests."""
    if not once:
        once.update(without_clock(steps(make_worker(described))))
    return once


def test_a_trial_from_its_first_rung_to_its_end(make_worker, described, tmp_path):
    shown = list(steps(make_worker(described)))
    assert [[row.epoch for row in step.rows] for step in shown] == [[1], [2, 3], [4, 5, 6, 7, 8, 9]]
    assert [step.state for step in shown] == [None, None, "complete"]
    assert [step.epoch for step in shown] == [1, 3, 9]
    assert all(step.value == step.rows[-1].metrics["valid/fcd"] for step in shown)
    assert "valid/fcd" not in shown[1].rows[0].metrics
    assert [Progress.model_validate_json(step.model_dump_json()) for step in shown] == shown
    folder = tmp_path / "quick" / "trials" / "vae-digits-0000"
    assert load(folder).sample(2).shape == (2, 1, 8, 8)
    assert {"samples.png", "reconstructions.png"} <= {path.name for path in folder.iterdir()}
    grids = sorted(path.name for path in folder.glob("samples-*.png"))  # a small one of each evaluation
    assert grids == [f"samples-{epoch:04d}.png" for epoch in (1, 3, 9)]
    with Image.open(folder / grids[0]) as small, Image.open(folder / "samples.png") as grid:
        assert small.width < grid.width and small.height < grid.height


def test_a_look_at_a_first_stage_tells_what_it_has_and_no_value(make_worker, begin):
    chosen = {"methods": ["two_stage_vae"], "searcher": "none", "points": ["paper"], "looks": [2, 3]}
    small = {"network": "mlp_8", "latent_dim": 2, "batch_size": 100, "second_width": 4, "second_share": 0.5}
    shown = list(steps(make_worker(begin(**chosen, set=small).next("a"))))
    looked = {step.epoch: step for step in shown if step.epoch in (2, 3)}
    for epoch in (2, 3):
        assert looked[epoch].value is None and "valid/fcd_prior" in looked[epoch].rows[-1].metrics
    assert shown[-1].state == "complete" and shown[-1].value == shown[-1].rows[-1].metrics["valid/fcd"]


def test_a_checkpoint_is_never_ahead_of_the_reports(make_worker, described, tmp_path):
    """The driver has recorded the last step only when it asks for another one."""
    checkpoint = tmp_path / "quick" / "trials" / "vae-digits-0000" / CHECKPOINT
    worker = make_worker(described)
    heard = 0
    for shown in steps(worker):
        assert epochs_saved(checkpoint) == heard
        heard = shown.epoch
    assert epochs_saved(checkpoint) == 3


@pytest.mark.parametrize("killed_after", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_another_process_goes_on_from_the_checkpoint_bit_for_bit(
    make_worker, begin, described, undisturbed, tmp_path, killed_after
):
    again = described | {"folder": str(tmp_path / "again")}
    before = list(steps(make_worker(again), killed_after))
    after = list(steps(make_worker(goes_on(again, before))))
    # the last step that was reported had not been saved when the process died
    assert after[0].rows[0].epoch == epochs_before(before) + 1
    assert without_clock(before) | without_clock(after) == undisturbed


@pytest.mark.parametrize("rung", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_paused_trial_goes_on_bit_for_bit(make_worker, described, undisturbed, tmp_path, rung):
    again = described | {"folder": str(tmp_path / "again")}
    before = list(steps(make_worker(again), rung))  # then the driver says stop, and makes the state a checkpoint
    (tmp_path / "again" / REPORTED).rename(tmp_path / "again" / CHECKPOINT)
    after = list(steps(make_worker(goes_on(again, before))))
    assert after[0].rows[0].epoch == before[-1].epoch + 1
    assert without_clock(before) | without_clock(after) == undisturbed
    assert not (tmp_path / "again" / REPORTED).exists()


def epochs_before(shown):
    return ([0] + [step.epoch for step in shown])[-2]


def test_long_trainings_are_saved_between_evaluations_too(make_worker, described, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    checkpoint = tmp_path / "quick" / "trials" / "vae-digits-0000" / CHECKPOINT
    shown = []
    for step in steps(make_worker(described)):
        assert epochs_saved(checkpoint) == len(shown)
        shown.append(step)
    assert [step.epoch for step in shown] == list(range(1, 10))
    assert [step.value is not None for step in shown] == [epoch in (1, 3, 9) for epoch in range(1, 10)]


def test_what_a_killed_process_left_half_written_is_cleared_away(make_worker, described, tmp_path):
    part = tmp_path / "quick" / "trials" / "vae-digits-0000" / f"{CHECKPOINT}.4711.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    next(steps(make_worker(described)))
    assert not part.exists()


def test_a_process_is_used_again_for_another_trial(make_worker, begin, tmp_path):
    conductor = begin(methods=["vae", "beta_vae"], set={"network": "mlp_8", "latent_dim": 2, "batch_size": 100})
    first, second = conductor.next("a"), conductor.next("b")
    alone = without_clock(steps(make_worker(second | {"folder": str(tmp_path / "alone")})))
    worker = make_worker(first)
    list(steps(worker, 2))
    assert worker.reset_config(second) is True
    assert without_clock(steps(worker)) == alone


# How trials go wrong


class Spoilt:
    """An evaluator whose distance is not finite."""

    def __init__(self, evaluator):
        self.evaluator = evaluator

    def __call__(self, *args, **kwargs):
        found = self.evaluator(*args, **kwargs)
        return replace(found, metrics=found.metrics | {"valid/fcd": math.nan})


def test_a_distance_that_is_not_finite_is_a_divergence(make_worker, described):
    worker = make_worker(described)
    images, evaluator = worker._data("digits")
    worker._data = lambda dataset: (images, Spoilt(evaluator))
    (shown,) = steps(worker)
    assert (shown.state, shown.epoch, shown.value) == ("diverged", 1, None)
    assert shown.reason == "stage train, epoch 1, valid/fcd: not finite"
    assert "valid/fcd" not in shown.rows[0].metrics


def test_a_training_that_diverges_says_where(make_worker, described):
    described["fit"]["values"]["learning_rate"] = 1e6
    *_, shown = steps(make_worker(described))
    assert shown.state == "diverged" and shown.reason.startswith("stage train, epoch ")
    assert shown.epoch == int(shown.reason.split("epoch ")[1].split(",")[0])
    json.dumps(shown.model_dump(), allow_nan=False)


@pytest.mark.parametrize(
    ("epoch", "shown"),
    [(torch.tensor(1.0), 1), (torch.tensor(0.5), 0), (10**9, 9), (-5, 0), (None, None)],
    ids=["of a method", "within", "huge", "negative", "none"],
)
def test_a_divergence_that_a_method_raises_has_an_epoch_of_its_training(
    make_worker, described, monkeypatch, epoch, shown
):
    from trainables.methods.vae import VAE

    def collapse(method, terms):
        raise Diverged("train", epoch, "kl", "it collapsed")

    monkeypatch.setattr(VAE, "after_epoch", collapse)
    *_, last = steps(make_worker(described))
    if shown is None:
        assert last.state == "failed" and last.reason.startswith("TypeError: ")
    else:
        assert (last.state, last.epoch, type(last.epoch)) == ("diverged", shown, int)
        assert last.reason.endswith("kl: it collapsed")
    last.model_dump_json()


@pytest.mark.parametrize("kind", [Exception, RuntimeError, MemoryError])
def test_an_error_that_cannot_say_what_it_is_ends_only_its_trial(make_worker, described, monkeypatch, kind):
    from trainables.methods.vae import VAE

    class Speechless(kind):
        def __str__(self):
            raise Speechless

    def wrong(method, terms):
        raise Speechless

    monkeypatch.setattr(VAE, "after_epoch", wrong)
    (shown,) = steps(make_worker(described))
    assert shown.state == ("out_of_memory" if kind is MemoryError else "failed")
    assert shown.reason.startswith("Speechless")


def test_an_error_is_the_trials_own_and_says_where(make_worker, described, monkeypatch):
    from trainables.methods.vae import VAE

    def wrong(self, x):
        raise RuntimeError("shapes do not match")

    worker = make_worker(described)
    next(steps(worker))
    monkeypatch.setattr(VAE, "loss", wrong)
    (shown,) = steps(worker.__class__ and replace_method_loss(worker, wrong))
    assert shown.state == "failed" and shown.rows == []
    assert shown.reason.startswith("RuntimeError: shapes do not match (test_worker.py:")


def replace_method_loss(worker, loss):
    for turn in worker.reported.training.turns:
        object.__setattr__(turn.player, "loss", lambda x: loss(None, x))
    return worker


def test_a_failed_trial_names_the_authors_line_and_keeps_the_whole_traceback(make_worker, described, tmp_path):
    """The error is raised inside PyTorch; the line to mend is the one that called it."""
    traceback = tmp_path / "quick" / "trials" / "vae-digits-0000" / "traceback.txt"

    def wrong(self, x):
        return torch.nn.functional.linear(x, torch.zeros(3, 5))  # the author's line

    worker = make_worker(described)
    next(steps(worker))
    (shown,) = steps(replace_method_loss(worker, wrong))
    assert shown.reason.endswith(f"(test_worker.py:{wrong.__code__.co_firstlineno + 1})")
    text = traceback.read_text()
    assert text.startswith("Traceback") and "# the author's line" in text and "RuntimeError: " in text.splitlines()[-1]
    next(steps(make_worker(described)))  # another attempt
    assert not traceback.exists()


def test_the_frame_of_an_error_below_ours_is_ours_and_a_long_traceback_keeps_its_end(make_worker, described, tmp_path):
    bad = described | {"folder": str(tmp_path / "bad"), "fit": described["fit"] | {"values": {"latent_dim": 0}}}
    (shown,) = steps(make_worker(bad))
    assert re.search(r"\(config\.py:\d+\)$", shown.reason)  # not pydantic's
    error = ValueError("x" * 100_000 + " the end")
    failure.keep(error, tmp_path)
    kept = (tmp_path / "traceback.txt").read_text()
    assert len(kept) == failure.MOST and kept.endswith(" the end\n")


def gpu_is_full():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 TiB.\nSee the manual")


def cublas_finds_no_room():
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    "no_room, reason",
    [
        (gpu_is_full, "CUDA out of memory. Tried to allocate 7 TiB."),
        (cublas_finds_no_room, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (lambda: torch.empty(2**60, dtype=torch.uint8), "allocate memory"),
        (lambda: np.empty(2**60, np.uint8), "Unable to allocate"),
        (lambda: bytearray(2**60), "MemoryError"),
    ],
    ids=["GPU", "cuBLAS", "PyTorch", "NumPy", "Python"],
)
def test_out_of_memory_is_not_an_error_of_the_code(make_worker, described, no_room, reason):
    worker = make_worker(described)
    worker._data = lambda dataset: no_room()
    (shown,) = steps(worker)
    assert shown.state == "out_of_memory" and reason in shown.reason and "\n" not in shown.reason


def test_the_memory_of_a_gpu_that_a_trial_reserved_is_told(make_worker, described, monkeypatch):
    worker = make_worker(described)
    assert worker._device_facts() == {"device": "cpu"}
    worker.trial, worker.device = described | {"gpus": 0.25}, torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 812 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    worker._data = lambda dataset: gpu_is_full()
    (shown,) = steps(worker)
    facts = {name: shown.worker[name] for name in ("device", "gpus", "peak_mb")}
    assert shown.state == "out_of_memory" and facts == {"device": "NVIDIA H200", "gpus": 0.25, "peak_mb": 812}
    worker.device = torch.device("cpu")


def test_a_process_is_as_good_as_new_after_a_trial_that_went_wrong(make_worker, described, undisturbed, tmp_path):
    bad = described | {"folder": str(tmp_path / "bad"), "fit": described["fit"] | {"values": {"latent_dim": 0}}}
    worker = make_worker(bad)
    (shown,) = steps(worker)
    assert shown.state == "failed" and "latent_dim" in shown.reason
    worker.reset_config(described | {"folder": str(tmp_path / "good")})
    assert without_clock(steps(worker)) == undisturbed


def test_images_are_shared_not_copied():
    images = np.zeros((2, 1, 8, 8), np.uint8)
    tensor = shared(images)
    images[0] = 7
    assert tensor[0].eq(7).all()
    images.flags.writeable = False
    assert shared(images).data_ptr() == images.ctypes.data


# What one trial leaves for the next


def half_precision_everywhere():
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()


def gone_to_another_folder():
    os.chdir("/")


LEFT_BEHIND = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "gradients": lambda: torch.set_grad_enabled(False),
    "inference mode": lambda: torch.inference_mode().__enter__(),
    "autocast": half_precision_everywhere,
    "threads": lambda: torch.set_num_threads(2),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "TF32 everywhere": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "TF32 in convolutions": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "TF32 in cuDNN": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "reduced precision": lambda: setattr(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    "cuDNN": lambda: setattr(torch.backends.cudnn, "enabled", False),
    "oneDNN": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "deterministic oneDNN": lambda: setattr(torch.backends.mkldnn, "deterministic", True),
    "fast path of attention": lambda: torch.backends.mha.set_fastpath_enabled(False),
    "cache of autocast": lambda: torch.set_autocast_cache_enabled(False),
    "handler of SIGTERM": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "an alarm": lambda: signal.alarm(1000),
    "hooks of modules": lambda: register_module_forward_hook(lambda module, images, found: None),
    "warnings": lambda: warnings.simplefilter("error"),
    "environment": lambda: os.environ.update({"OMP_NUM_THREADS": "7", "LEFT_BY": "another trial"}),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "NumPy's errors": lambda: np.seterr(all="raise"),
    "working folder": gone_to_another_folder,
    "Python's generator": lambda: random.random(),
    "NumPy's generator": lambda: np.random.random(),
    "PyTorch's generator": lambda: torch.rand(()),
}


class Global:
    """All settings that a number could depend on, as the next trial finds them."""

    def __init__(self):
        self.found = []

    def look(self):
        self.found.append(
            (
                torch.get_default_dtype(), str(torch.get_default_device()), torch.is_grad_enabled(),
                torch.is_autocast_enabled("cpu"), torch.get_num_threads(), torch.get_float32_matmul_precision(),
                torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled(), np.geterr(), os.getcwd(),
                torch.is_inference_mode_enabled(), torch.backends.fp32_precision,
                torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision,
                torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled,
                torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
                torch.backends.cuda.flash_sdp_enabled(), torch.backends.mkldnn.deterministic,
                torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_cache_enabled(),
                getattr(signal.getsignal(signal.SIGTERM), "__name__", None), signal.getitimer(signal.ITIMER_REAL),
                len(of_all_modules._global_forward_hooks),
                list(warnings.filters), {name: os.environ[name] for name in os.environ if "PYTEST" not in name},
            )
        )  # fmt: skip
        return {"drawn": random.random() + np.random.random()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEFT_BEHIND)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_trial_leaves_nothing_to_the_next(make_worker, begin, tmp_path, monkeypatch, kind):
    from trainables.methods.vae import VAE

    few = {"network": "mlp_8", "latent_dim": 2, "batch_size": 400}
    described = begin(methods=["vae"], epochs=2, first_rung=1, set=few).next("a")

    def leave(method, terms):
        LEFT_BEHIND[kind]()
        return {}

    alone, after = Global(), Global()
    monkeypatch.setattr(VAE, "after_epoch", lambda *_: alone.look())
    undisturbed = without_clock(steps(make_worker(described)))
    monkeypatch.setattr(VAE, "after_epoch", leave)
    worker = make_worker(described | {"folder": str(tmp_path / "stranger")})
    with torch.random.fork_rng():
        next(steps(worker))
        monkeypatch.setattr(VAE, "after_epoch", lambda *_: after.look())
        worker.reset_config(described | {"folder": str(tmp_path / "next")})
        shown = list(steps(worker))
    assert shown[-1].state == "complete", shown[-1].reason
    assert without_clock(shown) == undisturbed and after.found == alone.found
    assert after.found == alone.found


@pytest.mark.parametrize("value", [torch.tensor(0.25), np.float32(0.25), np.int64(0), torch.tensor([0.25])], ids=repr)
def test_a_metric_of_any_numeric_type_becomes_a_number(make_worker, described, monkeypatch, value):
    from trainables.methods.vae import VAE

    monkeypatch.setattr(VAE, "after_epoch", lambda method, terms: {"own": value})
    shown = next(steps(make_worker(described)))
    assert type(shown.rows[0].metrics["train/own"]) is float
    assert shown.rows[0].metrics["train/own"] == float(value)
    shown.model_dump_json()


@pytest.mark.parametrize("value", [torch.zeros(2), "much", None, 10**400], ids=["tensor", "text", "none", "huge"])
def test_a_metric_that_is_not_a_number_fails_only_its_trial(make_worker, described, monkeypatch, value):
    from trainables.methods.vae import VAE

    monkeypatch.setattr(VAE, "after_epoch", lambda method, terms: {"own": value})
    (shown,) = steps(make_worker(described))
    assert shown.state == "failed"
    assert shown.reason.startswith("ValueError: after_epoch: own is ")


def test_text_that_is_not_unicode_is_shown_escaped(make_worker, described, monkeypatch):
    from trainables.methods.vae import VAE

    def wrong(method, terms):
        raise RuntimeError("half a pair: \ud800")

    monkeypatch.setattr(VAE, "after_epoch", wrong)
    (shown,) = steps(make_worker(described))
    assert shown.state == "failed" and shown.reason.startswith("RuntimeError: half a pair: ? (")
    monkeypatch.setattr(VAE, "after_epoch", lambda method, terms: {"own \ud800": 1.0})
    shown = next(steps(make_worker(described)))
    assert shown.rows[0].metrics["train/own ?"] == 1


# Storage


@pytest.fixture
def lost(make_worker, described, tmp_path) -> tuple[dict, list, Path]:
    """The next attempt of a trial whose process was lost after two steps, what these told, and its checkpoint."""
    again = described | {"folder": str(tmp_path / "again")}
    before = list(steps(make_worker(again), 2))
    return goes_on(again, before), before, tmp_path / "again" / CHECKPOINT


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "a bit": lambda content: content[: (at := len(content) // 2)] + bytes([content[at] ^ 1]) + content[at + 1 :],
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_the_work_and_not_the_trial(make_worker, lost, undisturbed, damage):
    again, _, checkpoint = lost
    checkpoint.write_bytes(DAMAGES[damage](checkpoint.read_bytes()))
    worker = make_worker(again)
    worker.node = "a good one"
    (shown,) = steps(worker)
    assert (shown.state, shown.rows, shown.node) == ("preempted", [], "")
    assert shown.reason.startswith("the checkpoint is damaged (")
    assert shown.reason.endswith("; the trial starts from the beginning")
    worker.reset_config(again)
    assert without_clock(steps(worker)) == undisturbed


def test_a_machine_whose_cache_fails_is_not_the_trials_fault(make_worker, described, tmp_path, monkeypatch):
    """The driver has prepared the same metric before the sweep began."""
    splits, cache = datasets.load("digits", "unused"), tmp_path / "cache"
    cache.touch()  # not a folder
    monkeypatch.setenv("SWEEP_CACHE", str(cache))
    monkeypatch.setattr(module.TrialWorker, "_data", PLAIN_DATA)
    monkeypatch.setattr(module.ray, "get", lambda ref: (splits.train.images, splits))
    worker = make_worker(described)
    worker.refs = {"digits": "ref"}
    (shown,) = steps(worker)
    assert shown.state == "preempted" and f"cannot evaluate digits (cannot write the cache {cache}" in shown.reason


def unreadable(file: Path) -> Path:
    """Have reads of a file fail with EIO; return where it is kept."""
    kept = file.rename(file.with_name("kept"))
    file.symlink_to("/proc/self/mem")  # which has no page at its beginning
    return kept


def test_an_error_of_the_storage_that_passes_costs_nothing(make_worker, lost, undisturbed, monkeypatch):
    again, before, checkpoint = lost
    kept = unreadable(checkpoint)

    def waits():
        yield 0.0
        kept.replace(checkpoint)
        yield 0.0

    monkeypatch.setattr(module, "SECONDS_TO_READ_AGAIN", waits())
    after = list(steps(make_worker(again)))
    assert not kept.exists(), "it has waited twice"
    assert after[0].rows[0].epoch == epochs_before(before) + 1
    assert without_clock(before) | without_clock(after) == undisturbed


def test_an_error_of_the_storage_that_stays_sends_the_trial_elsewhere(make_worker, lost, undisturbed, monkeypatch):
    again, before, checkpoint = lost
    kept = unreadable(checkpoint)
    monkeypatch.setattr(module, "SECONDS_TO_READ_AGAIN", (0.0, 0.0))
    worker = make_worker(again)
    (shown,) = steps(worker)
    assert (shown.state, shown.rows) == ("preempted", [])
    assert f"cannot use {checkpoint.parent} ([Errno {errno.EIO}] Input/output error)" in shown.reason
    assert checkpoint.is_symlink()
    kept.replace(checkpoint)
    worker.reset_config(again)
    assert without_clock(before) | without_clock(steps(worker)) == undisturbed


def test_a_checkpoint_that_the_record_has_not_reached_is_not_used(make_worker, lost, undisturbed):
    """The driver's machine died with the last lines of the record; without the epochs in them they would be missing."""
    again, _, checkpoint = lost
    assert epochs_saved(checkpoint) == 1
    worker = make_worker(again | {"epoch": 0})
    shown = [next(steps(worker))]
    assert not checkpoint.exists()
    assert without_clock([*shown, *steps(worker)]) == undisturbed


@pytest.mark.parametrize("most", [100, 20_000], ids=["picture", "checkpoint"])
def test_a_full_disk_is_not_the_trials_fault(make_worker, described, tmp_path, most_bytes, most):
    folder = tmp_path / "quick" / "trials" / "vae-digits-0000"
    worker = make_worker(described)
    next(steps(worker))
    with most_bytes(most):
        (shown,) = steps(worker)
    assert (shown.state, shown.rows, shown.value, shown.epoch) == ("preempted", [], None, 0)
    assert f"cannot use {folder} ([Errno {errno.EFBIG}] File too large)" in shown.reason
    assert epochs_saved(folder / CHECKPOINT) == 1


# Within an epoch


def at_step(monkeypatch, what, number=3):
    """Has `what` happen once, in step `number` of the second epoch of a VAE."""
    from trainables.methods.vae import VAE

    plain, counted = VAE.loss, []

    def loss(method, x):
        if method.training and torch.is_grad_enabled():
            counted.append(1)
            if len(counted) == 11 + number:  # of 11 steps each
                what()
        return plain(method, x)

    monkeypatch.setattr(VAE, "loss", loss)


def test_sigterm_saves_in_the_middle_of_an_epoch(make_worker, described, undisturbed, tmp_path, monkeypatch):
    """The process ends, and another one goes on with the next step."""
    again = described | {"folder": str(tmp_path / "again")}
    with monkeypatch.context() as patch:
        at_step(patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        worker = make_worker(again)
        shown = [next(steps(worker))]
        with pytest.raises(SystemExit, match="asked to end"):
            worker.step()
    state = torch.load(tmp_path / "again" / CHECKPOINT)
    assert state["position"]["epoch"] == 1 and state["within"]["step"] == 3
    shown += steps(make_worker(goes_on(again, shown)))
    assert without_clock(shown) == undisturbed


@pytest.mark.parametrize("step", [3, 14], ids=["nothing unreported", "an epoch unreported"])
def test_a_trial_leaves_a_node_that_is_drained(make_worker, described, undisturbed, tmp_path, monkeypatch, step):
    """It is saved in the middle of an epoch, after the driver has the epochs before, and continues elsewhere."""
    again = described | {"folder": str(tmp_path / "again")}
    with monkeypatch.context() as patch:
        worker = make_worker(again)
        at_step(patch, lambda: setattr(worker, "drained", True), step)
        shown = list(steps(worker))
    assert (shown[-1].state, shown[-1].reason, shown[-1].rows) == ("preempted", "its node is being drained", [])
    epoch = 1 + step // 11
    state = torch.load(tmp_path / "again" / CHECKPOINT)
    assert (state["position"]["epoch"], state["within"]["step"]) == (epoch, 3)
    assert [row.epoch for step in shown for row in step.rows] == list(range(1, epoch + 1))
    shown += steps(make_worker(again | {"epoch": epoch}))
    assert without_clock(shown) == undisturbed


def test_the_last_checkpoint_of_a_trial_that_leaves_is_timed(make_worker, described, monkeypatch):
    """Its storage may hang, too, while the thread of the process goes on to give signs of life."""
    worker, timer = make_worker(described), []
    monkeypatch.setattr(
        hang, "faulthandler",
        SimpleNamespace(
            dump_traceback_later=lambda seconds, exit, file: timer.append(seconds),
            cancel_dump_traceback_later=timer.clear,
        ),
    )  # fmt: skip
    save, saving = Training.save, []
    monkeypatch.setattr(Training, "save", lambda *given: saving.append(list(timer)) or save(*given))
    at_step(monkeypatch, lambda: setattr(worker, "drained", True))
    assert list(steps(worker))[-1].reason == "its node is being drained"
    assert hang.FIRST_SECONDS in saving[-1] and not timer


def test_sigterm_in_an_epoch_after_an_unreported_one_loses_neither(
    make_worker, described, undisturbed, tmp_path, monkeypatch
):
    again = described | {"folder": str(tmp_path / "again")}
    with monkeypatch.context() as patch:
        worker = make_worker(again)
        at_step(patch, lambda: os.kill(os.getpid(), signal.SIGTERM), 14)
        shown = [next(steps(worker)) for _ in range(2)]
        with pytest.raises(SystemExit, match="asked to end"):
            worker.step()
    assert epochs_saved(tmp_path / "again" / CHECKPOINT) == 2
    shown += steps(make_worker(goes_on(again, shown)))
    assert without_clock(shown) == undisturbed


def test_a_trial_whose_driver_was_replaced_writes_nothing_more(make_worker, described, tmp_path):
    worker = make_worker(described)
    list(steps(worker, most=2))
    Path(described["record"]).with_suffix(".holder").write_text("process 1 on another machine\nid\n")
    with pytest.raises(SystemExit, match="another driver continues the sweep"):
        worker.step()
    assert epochs_saved(worker.checkpoint) == 1


def test_long_epochs_are_saved_partway_but_never_ahead_of_the_reports(make_worker, described, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    saved = []
    save = module.Training.save

    def note(training, path):
        saved.extend([training.epoch] if path.name == CHECKPOINT else [])
        save(training, path)

    monkeypatch.setattr(module.Training, "save", note)
    heard = 0
    for shown in steps(make_worker(described)):
        assert saved and max(saved) <= heard
        heard = shown.epoch


HANGING = """
import os, sys, time
from pathlib import Path
from sweep.driver import hang
from sweep.driver.worker import TrialWorker
from trainables import Evaluator
from trainables.datasets import load
from trainables.feed import shared
from trainables.methods.vae import VAE

hang.STEP_SECONDS, hang.FACTOR, hang.SECONDS_BETWEEN_SIGNS = 1.0, 1.0, 0.0
hang.EVALUATION_SECONDS = 1.0
hang.FIRST_SECONDS = %f
def hangs_at(call, kind, name):
    plain, counted = getattr(kind, name), []
    def hanging(*arguments, **named):
        counted.append(1)
        if len(counted) == call:
            time.sleep(600)
        return plain(*arguments, **named)
    setattr(kind, name, hanging)
hangs_at(%d, *%s)
splits = load("digits", "unused")
evaluator = Evaluator(splits, "fcd", samples=100)
TrialWorker._data = lambda self, dataset: (shared(splits.train.images), evaluator)
worker = object.__new__(TrialWorker)
worker.setup(%r, {})
while True:
    worker.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "call, of, first",
    [
        (1, "(VAE, 'build')", 1.0),
        (1, "(VAE, 'loss')", 600.0),
        (15, "(VAE, 'loss')", 600.0),
        (1, "(Evaluator, '__call__')", 5.0),
        (2, "(Evaluator, '__call__')", 600.0),
    ],
    ids=["start", "first step", "first step after an evaluation", "first evaluation", "second evaluation"],
)
def test_a_training_that_hangs_ends_its_process_and_says_where(described, call, of, first):
    Path(described["folder"]).parent.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-c", HANGING % (first, call, of, described)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1, ended.stderr
    said = (Path(described["folder"]) / "hung.txt").read_text()
    assert "Timeout" in said and "in hanging" in said


def test_the_timing_of_a_point_alone_is_ended_if_it_hangs(described, monkeypatch):
    """From its first line on, with no more time for a step than in a trial."""
    told, limits = [], []
    monkeypatch.setattr(module, "limit", lambda *_: limits.append(list(told)) or torch.device("cpu"))
    timer = SimpleNamespace(
        dump_traceback_later=lambda seconds, exit, file: told.append(seconds),
        cancel_dump_traceback_later=lambda: told.append("cancelled"),
    )
    monkeypatch.setattr(hang, "faulthandler", timer)
    fitted = described["fit"] | {"epochs": 1}
    module.epochs_alone(fitted, np.zeros((200, 1, 8, 8), np.uint8), 1, 0)
    assert limits == [[hang.FIRST_SECONDS]]
    assert told == [hang.FIRST_SECONDS, hang.STEP_SECONDS, hang.FIRST_SECONDS, "cancelled"]
    with pytest.raises(ValueError):
        module.epochs_alone(fitted, np.zeros((2, 1, 8, 8), np.uint8), 1, 0)
    assert told[-1] == "cancelled"


def test_a_process_that_is_lost_before_its_training_has_not_hung(make_worker, described, monkeypatch):
    """The driver reads from the file whether the lost process of a trial hung; an earlier one did."""
    worker, hung = make_worker(described), Path(described["folder"]) / "hung.txt"
    hung.parent.mkdir()
    hung.write_text("Timeout")

    def killed(worker, part):
        raise SystemExit  # in place of SIGKILL

    monkeypatch.setattr(module.TrialWorker, "_data", killed)
    with pytest.raises(SystemExit):
        worker.step()
    assert not hung.read_text()


def test_no_trace_is_left_by_a_training_that_does_not_hang(make_worker, described):
    list(steps(make_worker(described)))
    assert not (Path(described["folder"]) / "hung.txt").exists()
