"""A sweep in a bucket: its driver is killed, and the sweep continues from the bucket in another folder."""

import json
import secrets
import socket

import pytest
from mischief import SURROUNDINGS as MISCHIEF

from sweep.record import Trials, read

pytestmark = pytest.mark.slow
moto = pytest.importorskip("moto.server")

SECRET = secrets.token_hex(16)


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server on loopback, and a client of it with an empty bucket."""
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # the same after a restart
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    client.mkdir("bucket")
    yield server, client
    server.stop()


def events_in(client) -> list[dict]:
    """The events in the bucket's copy of the record."""
    names = sorted(client.find("bucket/sweeps/quick"))
    lines = b"".join(client.cat_file(name) for name in names if "/record.jsonl/" in name)
    return [json.loads(line) for line in lines.splitlines()]


def test_a_sweep_continues_from_a_bucket_elsewhere(bucket, programs):
    server, client = bucket
    diary, hold = programs.folder / "diary.txt", programs.folder / "hold"
    hold.touch()
    surroundings = MISCHIEF | {"MISCHIEF_DIARY": str(diary), "MISCHIEF_HOLD": str(hold)}
    values = ["network=mlp_8", "latent_dim=2", "Mischief.mischief=none"]
    flags = ["--methods", "vae", "mischief:Mischief", "--trials", 2, "--set", *values]
    sweep = programs.sweep(*flags, "--concurrent", 2, "--out", "s3://bucket/sweeps", **surroundings)
    held = "bucket/sweeps/quick/trials/Mischief-digits-0000/checkpoint.pt"  # saved after epoch 3; it waits in epoch 5
    sweep.until(lambda: "end" in [event["event"] for event in events_in(client)] and client.exists(held))
    server.stop()
    sweep.until(lambda: "s3://bucket/sweeps/quick is not reachable" in sweep.output)
    server.start()
    sweep.until(lambda: "s3://bucket/sweeps/quick is reachable again" in sweep.output)
    sweep.kill()
    programs.wait_for_processes()
    hold.unlink()
    copied = events_in(client)
    ended = {event["trial"] for event in copied if event["event"] == "end" and event["state"] == "complete"}
    assert ended

    elsewhere = programs.folder / "elsewhere"
    resume = programs.start("-m", "sweep", "resume", "s3://bucket/sweeps/quick", "--out", elsewhere, **surroundings)
    output = resume.ends_well()
    events = read(elsewhere / "quick" / "record.jsonl")
    trials = Trials.from_events(events).trials
    assert [event.event for event in events if event.event in ("sweep", "finish")] == ["sweep", "sweep", "finish"]
    assert len({event.sweep for event in events if event.event == "sweep"}) == 1
    assert {trial.state for trial in trials.values()} <= {"complete", "pruned"}
    began = [[e["trial"] for e in found if e["event"] == "start"] for found in (copied, events_in(client))]
    assert all(began[0].count(name) == began[1].count(name) for name in ended)
    rows = [(event.trial, row.epoch) for event in events if event.event == "report" for row in event.rows]
    assert len(rows) == len(set(rows))
    drivers = {str(program.process.pid) for program in (sweep, resume)}  # train an outside method for a step
    trained = [epoch for _, pid, epoch in map(str.split, diary.read_text().splitlines()) if pid not in drivers]
    assert trained.count("1") == len([name for name in trials if name.startswith("Mischief")])  # none began again

    assert events_in(client) == [json.loads(line) for line in (elsewhere / "quick" / "record.jsonl").open()]
    for model in elsewhere.glob("quick/winners/*/model.safetensors"):
        name = model.relative_to(elsewhere).as_posix()
        assert client.cat_file(f"bucket/sweeps/{name}") == model.read_bytes()
    shown = [output, sweep.output, *(client.cat_file(name).decode(errors="replace") for name in client.find("bucket"))]
    assert not any(SECRET in text for text in shown)

    stale = programs.resume(**MISCHIEF)
    assert stale.wait() == 2
    assert "another driver has continued the sweep; continue from there with" in stale.output
