"""Storage on which a record is not safe must be named, and locks that are files."""

import errno
import os

import pytest

from sweep.checks import nodes, storage
from sweep.record import Record


def test_storage_is_tried(tmp_path, monkeypatch):
    with storage.held(tmp_path) as sign:
        assert storage.storage_fault(sign) == ""
        assert list(tmp_path.iterdir()) == [sign]

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        for call in ("replace", "fsync"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, refuse)
                assert "cannot be written, synced and renamed ([Errno 5]" in storage.storage_fault(sign)
    sign.touch()
    assert "locks of other processes are not visible" in storage.storage_fault(sign)  # nobody holds it any more
    sign.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_finding_about_a_node_that_answers(tmp_path, config, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with storage.held(tmp_path) as sign:
        for writes in ("locked", "whole"):
            monkeypatch.setattr(storage, writes, full)
        there = nodes.look_around(config, sign)
    (line,) = (f.words for f in nodes.one_node("worker", "10.0.0.2", 0, there, there, config) if "mount" in f.words)
    assert "a file cannot be written, synced and renamed ([Errno 28]" in line


@pytest.mark.filterwarnings("ignore:.*flock")
def test_locks_that_are_files_are_said_and_how_to_free_one(tmp_path, config, monkeypatch):
    """Lustre without flock: filelock then uses a file that exists while the lock is held."""
    sign = tmp_path / "sign"
    sign.touch()

    def unknown(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    assert "where locks, renames" in storage.writable(tmp_path)
    monkeypatch.setattr("fcntl.flock", unknown)
    assert "locks as files (if a driver's machine dies, delete its record.lock)" in storage.writable(tmp_path)
    there = nodes.look_around(config, sign)  # the driver's machine has locks
    (line,) = (f.words for f in nodes.one_node("worker", "10.0.0.2", 0, there, there, config) if "syncs" in f.words)
    assert "where locks as files (if a driver's machine dies, delete its record.lock), renames" in line
    (tmp_path / "record.lock").write_text("4711\nnode-that-died\n")
    with pytest.raises(ValueError, match=f"no longer exists, delete {tmp_path}/record.lock"):
        Record(tmp_path / "record.jsonl")
