"""A sweep's copy in object storage can be resumed at every moment, by one driver at a time."""

import errno
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from sweep.config import SweepConfig
from sweep.driver import mirror
from sweep.driver.mirror import Mirror, Overtaken, fetch, mirrored, require_unused, require_usable
from sweep.driver.stop import Stop
from sweep.record import CHECKPOINT, RECORD, REPORTED

moto = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def server():
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """A bucket of a real S3 server on loopback."""
    import s3fs

    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"bucket-{threading.get_ident()}-{monkeypatch.__hash__() % 10**6}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/sweeps"


class Folder:
    """A sweep's folder in which one trial after the other trains for three epochs, in steps of one event or file, in
    the order of workers and driver: a state is saved, reported, and then made the checkpoint. After its first epoch a
    trial is paused and promoted. Its model is written before the record says that it is complete."""

    def __init__(self, path):
        self.path, self._steps = path, self._train()
        (path / "trials").mkdir(parents=True)
        (path / "config.yaml").write_text("epochs: 3\n")
        (path / ".hidden.part").touch()
        self.tell(event="sweep")
        self.epochs(1)

    def tell(self, **event):
        with (self.path / RECORD).open("a") as file:
            file.write(json.dumps(event) + "\n")

    def step(self):
        return next(self._steps)

    def epochs(self, number):
        """All steps of so many epochs."""
        while number:
            number -= self.step() == "epoch"

    def _train(self):
        for number in itertools.count():
            place = self.path / "trials" / f"t{number}"
            place.mkdir()
            yield self.tell(event="start", trial=place.name)
            for epoch in (1, 2):
                part = place / "reported.part"
                part.write_text(str(epoch))
                yield part.replace(place / REPORTED)
                yield self.tell(event="report", trial=place.name, epoch=epoch)
                if epoch == 1:
                    yield self.tell(event="end", trial=place.name, state="paused")
                yield (place / REPORTED).replace(place / CHECKPOINT)
                if epoch == 1:
                    yield self.tell(event="start", trial=place.name)
                yield "epoch"
            yield (place / "model.safetensors").write_text("weights")
            yield self.tell(event="report", trial=place.name, epoch=3)
            yield self.tell(event="end", trial=place.name, state="complete")
            yield (place / CHECKPOINT).unlink()
            yield "epoch"


def resumable(folder) -> list[dict]:
    """The events of a copy, after checks of what a resume needs of it."""
    events = [json.loads(line) for line in (folder / RECORD).read_text().splitlines()]
    epochs = {event["trial"]: event["epoch"] for event in events if event["event"] == "report"}
    last = {event["trial"]: event for event in events if event["event"] in ("start", "end")}
    starts = Counter(event["trial"] for event in events if event["event"] == "start")
    for trial, event in last.items():
        place, epoch = folder / "trials" / trial, epochs.get(trial, 0)
        if event.get("state") == "complete":
            assert (place / "model.safetensors").read_text() == "weights"
        saved = [place / CHECKPOINT]
        if epoch == 1 and starts[trial] == 1:  # it is paused, or the resume pauses it, and keeps what was reported
            saved.append(place / REPORTED)
        for file in saved:
            assert not file.exists() or int(file.read_text()) <= epoch
    return events


class Dying:
    """A storage whose connection is lost for good after some calls, while a sweep makes steps between all calls."""

    def __init__(self, storage, sweep, steps, calls):
        self.storage, self.sweep, self.steps, self.calls = storage, sweep, steps, calls

    def __getattr__(self, name):
        def call(*arguments, **named):
            for _ in range(self.steps):
                self.sweep.step()
            if self.calls == 0:
                raise OSError("the connection was lost")
            self.calls -= 1
            return getattr(self.storage, name)(*arguments, **named)

        return call


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_copy_cut_short_anywhere_can_be_resumed(tmp_path, monkeypatch, steps):
    monkeypatch.setattr(mirror, "CONNECTIONS", 1)  # in a fixed order
    shown = []
    for calls in range(20):
        sweep = Folder(tmp_path / f"{calls}" / "a")
        for _ in range(calls % 14):  # so that rounds begin at all steps of a trial
            sweep.step()
        address = f"file://{tmp_path}/store{calls}/a"
        copy = Mirror(sweep.path, address)
        copy.update()
        copy._storage = Dying(copy._storage, sweep, steps, calls)
        with suppress(OSError):
            for _ in range(12):
                copy.update()
        shown.append(len(resumable(fetch(address, tmp_path / f"{calls}" / "fetched"))))
    assert shown[0] == 5 and shown[-1] > 10


def test_a_round_copies_what_changed_and_deletes_what_is_gone(bucket, tmp_path):
    sweep = Folder(tmp_path / "a")
    copy = Mirror(sweep.path, f"{bucket}/a")
    copy.update()
    sweep.epochs(2)
    copy.update()
    names = sorted(name.partition("/sweeps/a/")[2] for name in copy._storage.find(copy._root))
    records = [name for name in names if name.startswith(RECORD)]
    assert len(records) == 2 and records[0] == f"{RECORD}/{0:020}"
    assert [name for name in names if name not in records] == ["config.yaml", "trials/t0/model.safetensors"]
    said = []
    for _ in range(2):
        fetched = fetch(f"{bucket}/a/", tmp_path / "elsewhere", said.append)
        assert fetched == tmp_path / "elsewhere" / "a"
    assert said == [f"copying {bucket}/a to {fetched} ..."]
    assert (fetched / RECORD).read_bytes() == (sweep.path / RECORD).read_bytes()
    assert (fetched / "config.yaml").read_text() == "epochs: 3\n"


@pytest.mark.parametrize("fault", ["a folder", "all"])
def test_files_that_cannot_be_listed_are_not_deleted_from_the_copy(fault, tmp_path, monkeypatch):
    sweep, address, scandir = Folder(tmp_path / "a"), f"file://{tmp_path}/store/a", os.scandir
    copy = Mirror(sweep.path, address)
    copy.update()

    def failing(folder):
        if str(folder).startswith(f"{tmp_path}/a/trials"):
            raise OSError(errno.EIO, "Input/output error", folder)
        return scandir(folder)

    if fault == "a folder":
        monkeypatch.setattr(os, "scandir", failing)
    else:  # its storage is not mounted any more
        sweep.path.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Input/output error|record\.jsonl"):
        copy.update()
    monkeypatch.undo()
    assert (fetch(address, tmp_path / "b") / "trials" / "t0" / CHECKPOINT).read_text() == "1"


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?"])
def test_characters_of_patterns_in_a_name_are_only_characters(name, tmp_path):
    """`rm` of fsspec would find no file of such a name, or delete those of another sweep as well."""
    other, sweep = Folder(tmp_path / "ab"), Folder(tmp_path / name)
    copies = [Mirror(each.path, f"memory:/{tmp_path}/store/{each.path.name}") for each in (other, sweep)]
    for copy in copies:
        copy.update()
    before = copies[0]._storage.find(copies[0]._root)
    sweep.epochs(2)
    for _ in range(2):
        copies[1].update()
    left = [place.partition(f"/{name}/")[2] for place in copies[1]._storage.find(copies[1]._root)]
    assert sorted(place for place in left if not place.startswith(RECORD)) == [
        "config.yaml", "trials/t0/model.safetensors",
    ]  # fmt: skip
    assert copies[0]._storage.find(copies[0]._root) == before


@pytest.mark.slow
def test_the_next_driver_continues_the_copy_and_the_one_before_stops(bucket, tmp_path):
    first = Folder(tmp_path / "a")
    before = Mirror(first.path, f"{bucket}/a")
    before.update()
    fetched = fetch(f"{bucket}/a", tmp_path / "b")
    after = Mirror(fetched, f"{bucket}/a")
    with (fetched / RECORD).open("a") as file:
        file.write('{"event": "sweep"}\n')
    after.update()
    first.epochs(1)
    with pytest.raises(Overtaken, match=r"has events that .* does not have.*python -m sweep resume s3://"):
        before.update()
    with pytest.raises(Overtaken):
        Mirror(first.path, f"{bucket}/a").find()
    with pytest.raises(Overtaken):
        fetch(f"{bucket}/a", tmp_path)
    assert fetch(f"{bucket}/a", tmp_path / "b") == fetched  # which holds all events
    assert (fetch(f"{bucket}/a", tmp_path / "c") / RECORD).read_bytes() == (fetched / RECORD).read_bytes()


@pytest.mark.slow
def test_an_object_whose_answer_was_lost_is_not_another_drivers(bucket, tmp_path):
    sweep = Folder(tmp_path / "a")
    copy = Mirror(sweep.path, f"{bucket}/a")
    copy.update()
    sweep.epochs(1)
    answered = copy._storage.pipe_file

    def lost(*arguments, **named):
        answered(*arguments, **named)
        raise TimeoutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy._storage, "pipe_file", lost)
        with pytest.raises(TimeoutError):
            copy.update()
    sweep.epochs(1)
    copy.update()
    assert (fetch(f"{bucket}/a", tmp_path / "b") / RECORD).read_bytes() == (sweep.path / RECORD).read_bytes()


def test_a_failure_is_announced_once_and_retried(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_ROUNDS", 0.01)
    sweep, said, failures = Folder(tmp_path / "a"), [], threading.Semaphore(0)
    working, update = threading.Event(), Mirror.update

    def failing(self):
        failures.release()
        if not working.is_set():
            raise OSError("could not reach http://me:very-secret@storage")
        update(self)

    monkeypatch.setattr(Mirror, "update", failing)
    with mirrored(sweep.path, f"file://{tmp_path}/store/a", said.append, Stop()):
        for _ in range(5):
            failures.acquire()
        working.set()
        for _ in range(2):
            failures.acquire()
        sweep.epochs(1)
    assert [line.partition("store/a ")[2] for line in said] == [
        "is not reachable (OSError: could not reach http://***@storage); the sweep continues and tries again",
        "is reachable again",
    ]
    assert resumable(fetch(f"file://{tmp_path}/store/a", tmp_path / "b"))[-1]["epoch"] == 2


def test_what_a_copy_lacks_at_the_end_is_announced(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_TRIES", 0)
    sweep, said = Folder(tmp_path / "a"), []
    (tmp_path / "store").touch()  # not a folder
    with mirrored(sweep.path, f"file://{tmp_path}/store/a", said.append, Stop()):
        pass
    assert len(said) == 2 and "is not reachable" in said[0]
    assert said[1].endswith(f"is incomplete; `python -m sweep resume {sweep.path}` completes it")


def test_a_copy_that_takes_long_to_complete_is_announced(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "SECONDS_TO_COMPLETE", 0.0)
    sweep, said, announced = Folder(tmp_path / "a"), [], threading.Event()
    monkeypatch.setattr(Mirror, "update", lambda self: announced.wait(60))
    with mirrored(sweep.path, f"file://{tmp_path}/store/a", lambda line: (said.append(line), announced.set()), Stop()):
        pass
    assert said == [f"completing the copy at file://{tmp_path}/store/a ..."]


def test_the_driver_that_was_overtaken_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_ROUNDS", 0.01)
    sweep, address, said, stop = Folder(tmp_path / "a"), f"file://{tmp_path}/store/a", [], Stop()
    began = threading.Event()

    def work():
        began.set()
        threading.Event().wait()

    def overtake():
        began.wait()
        while not any(
            (tmp_path / "store" / "a" / RECORD).glob("*")
        ):  # the folder of a record is there before its lines
            time.sleep(0.01)
        other = Mirror(fetch(address, tmp_path / "b"), address)
        with (tmp_path / "b" / "a" / RECORD).open("a") as file:
            file.write('{"event": "sweep"}\n')
        other.update()

    threading.Thread(target=overtake, daemon=True).start()
    monkeypatch.setattr("sweep.driver.stop.SECONDS_TO_END_TRIALS", 0)
    monkeypatch.setattr("sweep.driver.stop.SECONDS_TO_HEAR", 0)
    with mirrored(sweep.path, address, said.append, stop), suppress(Exception):
        stop.attend(work)
    assert "another driver has continued the sweep" in stop.reason


@pytest.mark.slow
def test_a_new_sweep_needs_an_empty_usable_place(bucket, tmp_path, monkeypatch):
    require_unused(f"{bucket}/a")
    Mirror(Folder(tmp_path / "a").path, f"{bucket}/a").update()
    with pytest.raises(ValueError, match=r"already contains a sweep.*resume s3://"):
        require_unused(f"{bucket}/a")
    with pytest.raises(ValueError, match=r"contains no sweep"):
        fetch(f"{bucket}/none", tmp_path)
    with pytest.raises(ValueError, match=r"cannot be used.*bucket"):
        require_unused("s3://there-is-no-such-bucket/a")
    with pytest.raises(ValueError, match="Protocol not known: nowhere"):
        require_unused("nowhere://a/b")
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", lambda *_, **__: None)
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.rm_file", lambda *_: None)
    with pytest.raises(ValueError, match="ignores conditional writes"):
        require_usable(f"file://{tmp_path}/store")


@pytest.mark.slow
def test_a_fetch_that_was_killed_can_be_repeated(tmp_path):
    """A process that is killed in its second file leaves what it has fetched so far."""
    sweep, address, out = Folder(tmp_path / "a"), f"file://{tmp_path}/store/a", tmp_path / "b"
    sweep.epochs(3)
    Mirror(sweep.path, address).update()
    script = f"""
import os, pathlib
from fsspec.implementations.local import LocalFileSystem
from sweep.driver import mirror
get, taken = LocalFileSystem.get_file, []
def dying(self, *paths):
    taken.append(paths)
    os._exit(9) if len(taken) == 2 else get(self, *paths)
LocalFileSystem.get_file, mirror.CONNECTIONS = dying, 1
mirror.fetch({address!r}, pathlib.Path({str(out)!r}))
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert any(path.is_file() for path in out.rglob("*")) and not (out / "a").exists()
    assert resumable(fetch(address, out)) == resumable(sweep.path)
    assert [path.name for path in out.iterdir()] == ["a"]


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:9/x", "zip://nowhere.zip", "reference://x", "nowhere://x"])
def test_an_address_that_cannot_be_used_is_named(address, tmp_path):
    """Some storages connect as soon as they are made."""
    for use in (require_unused, lambda address: fetch(address, tmp_path), lambda address: Mirror(tmp_path, address)):
        with pytest.raises(ValueError, match=rf"^{address}(: Protocol not known| cannot be used \()"):
            use(address)


def test_an_address_as_out_is_the_mirror():
    config = SweepConfig(out="s3://bucket/sweeps/", name="a")
    assert (str(config.out), config.mirror, config.mirror_address) == (
        "sweeps", "s3://bucket/sweeps", "s3://bucket/sweeps/a",
    )  # fmt: skip
    with pytest.raises(ValueError, match="give out a folder"):
        SweepConfig(out="s3://bucket/sweeps", mirror="s3://bucket/other")
    with pytest.raises(ValueError, match="must not contain credentials"):
        SweepConfig(out="s3://me:secret@bucket/sweeps")
    with pytest.raises(ValueError, match="must be an address"):
        SweepConfig(mirror="/shared/sweeps")
