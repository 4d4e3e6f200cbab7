"""The cache under many processes, damage and bad folders."""

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.metrics import Extractor, cache, reference, reference_features


def make_slowly(log):
    with open(log, "a") as file:
        file.write("made\n")
    time.sleep(0.2)
    return "thing"


def ask(log):
    return cache.cached("x.txt", lambda: make_slowly(log), Path.read_text, lambda thing, path: path.write_text(thing))


def test_of_many_processes_one_makes_it_and_all_get_it(tmp_path):
    log = tmp_path / "log"
    with ProcessPoolExecutor(6, mp_context=get_context("fork")) as pool:
        assert list(pool.map(ask, [log] * 6)) == ["thing"] * 6
    assert log.read_text() == "made\n"
    assert sorted(path.name for path in cache.folder().iterdir()) == ["x.lock", "x.txt"]


class Means(torch.nn.Module):
    """Two features, and a count of the images that passed."""

    seen = 0

    def forward(self, images):
        self.seen += len(images)
        return torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], 1)


def means(fingerprint="0"):
    return Extractor("means", "fd_means", 2, 1, "none", fingerprint, Means(), torch.device("cpu"))


IMAGES = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)


def test_a_reference_is_computed_once_for_the_same_images_and_weights():
    extractor = means()
    first, second = reference(extractor, IMAGES), reference(extractor, IMAGES)
    assert extractor.network.seen == 10
    assert first.n == second.n == 10 and torch.equal(first.scatter, second.scatter)
    reference(extractor, IMAGES[:, :, ::-1].copy())
    reference(means(fingerprint="1"), IMAGES)
    assert extractor.network.seen == 20
    assert len(list(cache.folder().glob("*.safetensors"))) == 3


def test_moments_and_features_take_one_look_at_the_images_and_are_what_they_were():
    extractor, alone, found = means(), means(fingerprint="1"), []

    def watch(batches, n):
        found.append(n)
        return batches

    moments = reference(extractor, IMAGES, batch_size=4, keep=True, watch=watch)
    features = reference_features(extractor, IMAGES, batch_size=4, watch=watch)
    assert extractor.network.seen == 10 and found == [3]
    assert torch.equal(reference(alone, IMAGES, batch_size=4).scatter, moments.scatter)
    assert alone.network.seen == 10 and len(list(cache.folder().glob("features-*"))) == 2  # a file and its lock
    assert torch.equal(reference_features(alone, IMAGES, batch_size=4), features)


def test_a_damaged_file_is_made_anew():
    first = reference(means(), IMAGES)
    (path,) = cache.folder().glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(reference(means(), IMAGES).scatter, first.scatter)


def test_what_fails_leaves_nothing_behind():
    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.cached("x.txt", fail, Path.read_text, lambda *_: None)
    assert not (cache.folder() / "x.txt").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot write the cache .*file.*; set SWEEP_CACHE"):
        reference(means(), IMAGES)


def test_a_full_disk_is_named_and_leaves_nothing_behind(most_bytes):
    with most_bytes(10), pytest.raises(ValueError, match=r"cannot write the cache .*; set SWEEP_CACHE"):
        reference(means(), IMAGES)
    assert {path.suffix for path in cache.folder().rglob("*") if path.is_file()} <= {".lock"}


def test_digest_tells_shapes_types_and_values_apart():
    zeros = np.zeros(4, np.uint8)
    different = [zeros, zeros.reshape(2, 2), np.zeros(1, np.uint32), np.ones(4, np.uint8)]
    assert len({cache.digest(array) for array in different}) == 4
    assert cache.digest({"a": 1, "b": 2}) == cache.digest({"b": 2, "a": 1})


SOME = """
import numpy as np
from trainables.metrics import some_of
some_of(np.load("images.npy", mmap_mode="r"))
"""


def cannot_mount():
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0


@pytest.mark.slow
@pytest.mark.skipif(cannot_mount(), reason="needs a namespace for a small disk")
def test_a_full_disk_is_an_error_and_does_not_kill_the_process(tmp_path):
    """A write to a mapped file raises nothing if the disk is full: the system sends SIGBUS."""
    np.save(tmp_path / "images.npy", np.zeros((12_000, 1, 28, 28), np.uint8))
    (tmp_path / "small").mkdir()
    mount = 'mount -t tmpfs -o size=1m none small && exec "$0" -c "$1"'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, sys.executable, SOME], cwd=tmp_path, text=True, capture_output=True,
        env=os.environ | {"SWEEP_CACHE": str(tmp_path / "small")},
    )  # fmt: skip
    assert ended.returncode == 1
    assert "ValueError: cannot write the cache" in ended.stderr and "No space left on device" in ended.stderr
