"""The lock that all processes share: held by one, freed by the system, and nothing in its file is lost."""

import errno
import fcntl
import subprocess
import sys

import pytest

from trainables.locks import Held, is_held, locked

HOLD = "import time; from trainables.locks import locked\nwith locked({!r}): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD.format(str(tmp_path / "x.lock"))], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_process_that_is_killed_frees_it(holder, tmp_path):
    file = tmp_path / "x.lock"
    assert is_held(file)
    with pytest.raises(Held), locked(file, wait=False):
        pass
    holder.kill()
    holder.wait()
    assert not is_held(file)
    with locked(file):
        assert is_held(file)  # also for another holder in the same process
    assert not is_held(file)


def test_a_lock_that_was_never_held(tmp_path):
    assert not is_held(tmp_path / "x.lock") and not (tmp_path / "x.lock").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_file_system_without_locks_has_one_holder_all_the_same(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked(tmp_path / "x.lock"):
        assert is_held(tmp_path / "x.lock")
        with pytest.raises(Held), locked(tmp_path / "x.lock", wait=False):
            pass
    assert not is_held(tmp_path / "x.lock")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), locked(tmp_path / "file" / "x.lock"):
        pass
