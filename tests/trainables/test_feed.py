"""Images reach the training in the same order from wherever they lie, and the numbers are the same to the bit."""

import mmap
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_contract import arguments

from trainables import feed
from trainables.config import Config
from trainables.feed import ahead, batches, in_order, placed, shared
from trainables.fit import fit
from trainables.testing import glance, made_up, reproducible

CPU = torch.device("cpu")


@pytest.fixture
def images(tmp_path):
    """The same images in memory and as a map of a file."""
    held = made_up((1, 8, 8), 40)
    np.save(tmp_path / "images.npy", held.numpy())
    return held, placed(np.load(tmp_path / "images.npy", mmap_mode="r"), "cpu")


def test_a_map_is_shared_and_not_copied(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((4, 1, 2, 2), np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert shared(mapped).data_ptr() == mapped.ctypes.data
    assert placed(mapped, "cpu").data_ptr() == mapped.ctypes.data


def test_batches_come_in_the_order_asked_for(images):
    held, mapped = images
    order = torch.randperm(40)[:35]
    found = list(batches(mapped, order, 10, CPU))
    assert [len(batch) for batch in found] == [10, 10, 10, 5]
    assert torch.equal(torch.cat(found), held[order])
    assert torch.equal(torch.cat(list(in_order(mapped, CPU))), held)


def test_what_is_gathered_ahead_keeps_its_order_and_never_runs_far_ahead(images):
    held, _ = images
    begun = []

    def bring(some):
        begun.append((threading.current_thread().name, some))
        return lambda: held[some]

    order = torch.randperm(40)
    coming = ahead(order.split(4), bring)
    first = next(coming)
    assert len(begun) <= feed.AHEAD + 1
    assert torch.equal(torch.cat([first, *coming]), held[order])
    assert {name for name, _ in begun} == {"feed_0"}  # one thread, beside the one that trains


def test_an_error_while_gathering_reaches_the_training(images):
    def bring(some):
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        list(ahead(torch.arange(8).split(4), bring))


@pytest.mark.parametrize("method", ["vae", "two_stage_vae", "vade", "ae_wae", "vamp_vae"])
def test_a_training_from_a_map_gives_the_numbers_of_one_from_memory(images, method):
    """Among them a closed-form fit, codes that are standardised, second-stage inputs and pseudo-inputs."""
    config = Config(method=method, dataset="made up", values=arguments(method)["values"], epochs=4)
    from_memory, from_map = (
        [reproducible(report) for report in fit(config, where, glance, evaluate_at=(1,), device="cpu")]
        for where in images
    )
    assert from_memory == from_map


def test_images_too_large_for_their_share_of_a_gpu_stay_on_the_host(monkeypatch):
    class Pretended(torch.Tensor):
        """Moves nowhere, and says so."""

        def to(self, device):
            return SimpleNamespace(device=torch.device(device))

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1000))
    monkeypatch.setattr(feed, "shared", lambda images: torch.from_numpy(images).as_subclass(Pretended))
    small, large = (np.zeros(n, np.uint8) for n in (250, 251))
    assert placed(small, "cuda", 0.25).device.type == "cuda"
    assert isinstance(placed(large, "cuda", 0.25), Pretended)
    assert not isinstance(placed(large, "cpu", 0.25), Pretended)


def test_images_of_a_map_are_read_a_few_batches_before_they_are_used(images, monkeypatch):
    held, mapped = images
    read = []
    monkeypatch.setattr(feed.Map, "fetch", lambda file, start, stop: read.extend(range(start, stop)))
    order = torch.randperm(40)
    coming = batches(mapped, order, 4, CPU)
    first = next(coming)
    assert read == order[: 4 * (feed.AHEAD + 1)].tolist()
    assert torch.equal(torch.cat([first, *coming]), held[order]) and read == order.tolist()
    read.clear()
    assert torch.equal(torch.cat(list(in_order(mapped, CPU))), held) and set(read) == set(range(40))
    read.clear()
    list(batches(held, order, 4, CPU))
    assert not read  # in memory


def test_whole_pages_are_asked_for():
    asked = []
    file = SimpleNamespace(madvise=lambda *given: asked.append(given))
    feed.Map(file, first=128, size=2 * mmap.PAGESIZE).fetch(3, 5)
    assert asked == [(mmap.MADV_WILLNEED, 6 * mmap.PAGESIZE, 4 * mmap.PAGESIZE + 128)]
