"""Tracking against a real sqlite store: what is written, and that writing it again changes nothing."""

import base64
import http.server
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
import sqlalchemy

from sweep.config import SweepConfig
from sweep.driver.job import public
from sweep.record import Record
from sweep.tracking import Tracker, address, check, reconcile, track
from sweep.tracking.address import absolute, default_database, known_schema
from sweep.tracking.server import Server
from sweep.tracking.story import _key
from trainables.credentials import redact

STUDIES = [
    {"study": f"{method}-mnist", "method": method, "dataset": "mnist", "trials": 2, "epochs": 3, "metric": "valid/fcd"}
    for method in ("beta_vae", "rae_l2")
]


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.s3fs", "cifs", "ext4", "overlay"])
def test_the_default_database_is_not_on_a_network_share(tmp_path, monkeypatch, kind):
    share, home = tmp_path / "my share", tmp_path / "home"
    share.mkdir()
    mounts = tmp_path / "mounts"
    named = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {named} {kind} rw 0 0\n")
    monkeypatch.setattr(address, "MOUNTS", mounts)
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    found = default_database(share / "sweeps")
    assert found.is_relative_to(share if kind in ("ext4", "overlay") else home)
    assert found != default_database(share / "others") and found == default_database(share / "sweeps")
    (share / "sweeps").mkdir()
    (share / "sweeps" / "mlflow.db").touch()  # of an earlier version, with its runs
    assert default_database(share / "sweeps") == share / "sweeps" / "mlflow.db"
    monkeypatch.setattr(address, "MOUNTS", tmp_path / "none")  # another system
    assert default_database(share / "others") == share / "others" / "mlflow.db"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store with its tables, which MLflow takes seconds to make."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    Server(f"sqlite:///{file}", "made once", "none")
    return file


@pytest.fixture
def uri(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "quick"
    folder.mkdir()
    return folder


@pytest.fixture
def record(folder):
    with Record(folder / "record.jsonl") as record:
        yield record


def begin(record, **fields):
    config = {"trials": 2, "data": {"root": "/data"}}
    output = {"sweep": "20261121-103000-abcd", "config": config, "versions": {"torch": "2.15"}, "machine": {}}
    record.append("sweep", **{**output, "code": "c0de", "studies": STUDIES, **fields})


def start(record, number=0, study="beta_vae-mnist", **fields):
    name = f"{study}-{number:04d}"
    origin = "search" if number else "paper"
    output = {"values": {"beta": 0.5 + number, "latent_dim": 8}, "origin": origin, "seed": 3, "attempt": 1}
    record.append("start", trial=name, study=study, number=number, **{**output, **fields})
    return name


def report(record, trial, *epochs, **metrics):
    for epoch in epochs:
        output = {"train/loss": 100.0 / epoch, "valid/fcd": 10.0 / epoch, **metrics}
        row = {"epoch": epoch, "stage": "train", "time": time.time(), "metrics": output}
        record.append("report", trial=trial, rows=[{**row, "vectors": {"kl_per_dim": [0.5, epoch]}}])


def end(record, trial, state="complete", epoch=3, reason=""):
    record.append("end", trial=trial, state=state, epoch=epoch, reason=reason, worker={"host": "a"})


def whole_sweep(record, states=("complete", "pruned", "diverged")):
    begin(record)
    for number, state in enumerate(states):
        trial = start(record, number)
        report(record, trial, 1, 2, 3)
        end(record, trial, state, reason="" if state == "complete" else f"why {state}")
    record.append("finish", outcome="done")


def rows(uri, question):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        return database.execute(question).fetchall()


def contents(uri):
    """All that a user can see in the store, in order; the runs' random ids left out."""
    run = "(select name from runs where run_uuid = t.run_uuid)"
    tables = ("params", "tags", "metrics", "latest_metrics")
    columns = {table: "key, value" + (", timestamp, step" if "metrics" in table else "") for table in tables}
    seen = {table: rows(uri, f"select {run}, {columns[table]} from {table} t") for table in tables}
    seen["runs"] = rows(uri, "select name, status, lifecycle_stage, start_time, end_time from runs")
    return {table: sorted(row for row in found if "mlflow.parentRunId" not in row) for table, found in seen.items()}


def of_run(uri, table, name):
    return dict(rows(uri, f"select key, value from {table} join runs using (run_uuid) where name = '{name}'"))


def statuses(uri):
    return dict(rows(uri, "select name, status from runs where lifecycle_stage = 'active'"))


# What is written


def test_a_trial_becomes_a_readable_run(uri, folder, record):
    whole_sweep(record)
    track(folder, uri)
    assert statuses(uri) == {
        "quick": "FINISHED",
        "beta_vae / mnist / hand-tuned": "FINISHED",
        "beta_vae / mnist / 1": "KILLED",
        "beta_vae / mnist / 2": "FAILED",
    }
    name = "beta_vae / mnist / 2"
    assert of_run(uri, "params", name) == {"beta": "2.5", "latent_dim": "8"}
    tags = of_run(uri, "tags", name)
    parent = rows(uri, "select run_uuid from runs where name = 'quick'")[0][0]
    assert tags == {
        "trial_id": "beta_vae-mnist-0002",
        "sweep_id": "20261121-103000-abcd",
        "study": "beta_vae-mnist",
        "method": "beta_vae",
        "dataset": "mnist",
        "seed": "3",
        "origin": "search",
        "attempt": "1",
        "outcome": "diverged",
        "reason": "why diverged",
        "worker.host": "a",
        "versions.torch": "2.15",
        "code": "c0de",
        "mlflow.parentRunId": parent,
        "mlflow.runName": name,
    }
    history = "select value, step from metrics join runs using (run_uuid) where key = 'valid/fcd' and name = "
    assert rows(uri, history + f"'{name}' order by step") == [(10.0, 1), (5.0, 2), (10.0 / 3, 3)]


def test_a_run_says_who_made_it_from_which_commit_and_data(uri, folder, record):
    data = {"mnist": {"digest": "d1", "train": 54000, "shape": [1, 28, 28], "source": "/data/mnist"}}
    studies = [study | {"hand_tuned_source": "Table 2", "points": [{"source": "Table 2"}]} for study in STUDIES]
    begin(record, user="ann", commit="c" * 40, data=data, studies=studies)
    trial = start(record)
    report(record, trial, 1)
    for _ in range(2):
        track(folder, uri)
        for name in ("quick", "beta_vae / mnist / hand-tuned"):
            tags = of_run(uri, "tags", name)
            assert tags["mlflow.user"] == "ann" and tags["mlflow.source.git.commit"] == "c" * 40
            assert (tags["mlflow.source.type"], tags["mlflow.source.name"]) == ("LOCAL", "sweep/run.py")
        found = rows(uri, "select name, digest, dataset_source, dataset_profile from datasets")
        profile = {"train": 54000, "shape": [1, 28, 28]}
        assert [(*row[:2], *map(json.loads, row[2:])) for row in found] == [
            ("mnist", "d1", {"uri": "/data/mnist"}, profile)
        ]
        assert rows(uri, "select count(*) from inputs where source_type = 'DATASET'") == [(2,)]
    assert of_run(uri, "tags", "beta_vae / mnist / hand-tuned")["mlflow.note.content"] == "Hand-tuned point: Table 2"
    assert "minimises valid/fcd" in of_run(uri, "tags", "quick")["mlflow.note.content"]


def test_a_description_that_a_user_wrote_stays(uri, folder, record):
    begin(record)
    track(folder, uri)
    server = Server(uri, "autoencoder-sweep", "20261121-103000-abcd")
    server._client.set_tag(server.runs[None].id, "mlflow.note.content", "mine")
    record.append("finish", outcome="done")
    track(folder, uri)
    assert of_run(uri, "tags", "quick")["mlflow.note.content"] == "mine"


def test_findings_are_tags_and_no_curves(uri, folder, record):
    begin(record)
    trial = start(record)
    report(record, trial, 1, **{"flag/collapsed": 1.0, "density/gmm_converged": 0.0, "valid/mse": 1.0})
    report(record, trial, 2, **{"flag/collapsed": 0.0})
    track(folder, uri)
    end(record, trial)  # the rows are known by now
    track(folder, uri)
    tags = of_run(uri, "tags", "beta_vae / mnist / hand-tuned")
    assert (tags["flag/collapsed"], tags["density/gmm_converged"]) == ("false", "false")
    keys = rows(uri, "select key, count(*) from metrics group by key order by key")
    assert keys == [("train/loss", 2), ("valid/fcd", 2), ("valid/mse", 1)]


def test_memory_and_gpu_are_system_metrics_of_mlflow(uri, folder, record):
    begin(record)
    trial = start(record)
    report(record, trial, 1, **{"memory/peak_mb": 612.5, "speed/gpu_utilization_percent": 87.0})
    track(folder, uri)
    end(record, trial)
    track(folder, uri)
    keys = "select key, value from metrics where key not in ('train/loss', 'valid/fcd') order by key"
    assert rows(uri, keys) == [("system/gpu_utilization_percent", 87.0), ("system/memory_peak_mb", 612.5)]


def test_times_are_those_of_the_record(uri, folder):
    with Record(folder / "record.jsonl", clock=lambda: 1000.5) as record:
        whole_sweep(record)
    track(folder, uri)
    assert rows(uri, "select distinct start_time, end_time from runs") == [(1000500, 1000500)]


def test_a_row_without_a_time_has_that_of_its_event(uri, folder):
    with Record(folder / "record.jsonl", clock=lambda: 1000.5) as record:
        begin(record)
        record.append("report", trial=start(record), rows=[{"epoch": 1, "metrics": {"train/loss": 1.0}}])
    track(folder, uri)
    assert rows(uri, "select timestamp from metrics") == [(1000500,)]


def test_the_parent_holds_the_configuration_and_what_changed_since(uri, folder, record):
    begin(record)
    begin(record, config={"trials": 5, "data": {"root": "/data"}}, resumed=True)
    track(folder, uri)
    assert of_run(uri, "params", "quick") == {"trials": "2", "data.root": "/data"}
    tags = of_run(uri, "tags", "quick")
    assert tags["config.trials"] == "5" and "config.data.root" not in tags
    assert tags["studies"] == "beta_vae-mnist, rae_l2-mnist"


def test_pictures_vectors_and_summary_become_artifacts(uri, folder, record):
    whole_sweep(record, ["complete"])
    pictures = folder / "trials" / "beta_vae-mnist-0000"
    pictures.mkdir(parents=True)
    for file in (pictures / "samples.png", pictures / "reconstructions.png", folder / "report.html"):
        file.write_text(file.name)
    (pictures / "checkpoint.pt").write_text("too heavy")
    track(folder, uri)
    store = {
        name: Path(place.removeprefix("file://")) for name, place in rows(uri, "select name, artifact_uri from runs")
    }
    trial = store["beta_vae / mnist / hand-tuned"]
    assert {file.name for file in trial.iterdir()} == {"samples.png", "reconstructions.png", "vectors.json"}
    assert json.loads((trial / "vectors.json").read_text()) == {"epoch": 3, "kl_per_dim": [0.5, 3]}
    assert (store["quick"] / "report.html").read_text() == "report.html"
    assert store["quick"].is_relative_to(folder.parent / "mlruns")  # beside the database, wherever we are


def test_more_than_one_batch_arrives_whole(uri, folder, record):
    begin(record)
    trial = start(record, values={f"layer_{n}": n for n in range(150)})
    for epoch in range(1, 6):
        report(record, trial, epoch, **{f"train/term_{n}": float(n) for n in range(500)})
    track(folder, uri)
    assert rows(uri, "select count(*) from metrics") == [(5 * 502,)]
    assert len(of_run(uri, "params", "beta_vae / mnist / hand-tuned")) == 150


def test_numbers_that_are_not_finite_are_never_written(uri, folder, record):
    begin(record)
    trial = start(record)
    report(record, trial, 1)
    line = {"epoch": 2, "time": 1.0, "metrics": {"a": float("nan"), "b": float("inf"), "c": 1.0}}
    with open(record.path, "a") as file:  # the record itself refuses to write this
        file.write(json.dumps({"time": 1.0, "event": "report", "trial": trial, "rows": [line]}) + "\n")
    track(folder, uri)
    assert rows(uri, "select key from metrics where step = 2") == [("c",)]
    assert rows(uri, "select count(*) from metrics where is_nan") == [(0,)]


# Once, however often it is sent


def test_telling_it_again_changes_nothing(uri, folder, record):
    whole_sweep(record)
    track(folder, uri)
    before = contents(uri)
    assert len(before["runs"]) == 4 and len(before["metrics"]) == 3 * 3 * 2
    output = track(folder, uri)
    assert contents(uri) == before
    assert (output.trials, output.epochs, output.refused) == (3, 9, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "position",
    [None, "{", '{"sweep": "another", "events": 3}', '{"sweep": "20261121-103000-abcd", "events": 99}'],
)
def test_a_lost_or_foreign_position_is_harmless(uri, folder, record, position):
    whole_sweep(record)
    track(folder, uri)
    before = contents(uri)
    (file,) = folder.glob("tracking-*.json")
    file.unlink() if position is None else file.write_text(position)
    assert reconcile(folder, uri) == 0
    assert contents(uri) == before


def test_the_position_skips_what_was_already_sent(uri, folder, record):
    whole_sweep(record)
    track(folder, uri)
    rows(uri, "delete from metrics")
    reconcile(folder, uri)
    assert rows(uri, "select count(*) from metrics") == [(0,)]


def test_a_wiped_store_is_filled_again(uri, folder, record, empty_store):
    begin(record)
    trial = start(record)
    report(record, trial, 1, 2)
    track(folder, uri)
    before = contents(uri)
    shutil.copy(empty_store, uri.removeprefix("sqlite:///"))
    report(record, trial, 3)
    reconcile(folder, uri)
    assert len(contents(uri)["metrics"]) == len(before["metrics"]) + 2


def test_epochs_repeated_after_a_resume_count_once(uri, folder, record):
    begin(record)
    trial = start(record)
    report(record, trial, 1, 2)
    track(folder, uri)
    start(record, attempt=2)
    report(record, trial, 2, 3, **{"train/loss": 7.0})
    track(folder, uri)
    history = rows(uri, "select step, value from metrics where key = 'train/loss' order by step")
    assert history == [(1, 100.0), (2, 50.0), (3, 7.0)]


def test_a_second_attempt_adopts_the_run(uri, folder, record):
    name = "beta_vae / mnist / hand-tuned"
    begin(record)
    end(record, start(record), "preempted", reason="node lost")
    track(folder, uri)
    assert statuses(uri)[name] == "KILLED" and of_run(uri, "tags", name)["reason"] == "node lost"
    start(record, attempt=2)
    track(folder, uri)
    tags = of_run(uri, "tags", name)
    assert (statuses(uri)[name], tags["outcome"], tags["attempt"], tags["reason"]) == (
        "RUNNING",
        "running",
        "2",
        "",
    )
    assert rows(uri, "select count(*) from runs") == [(2,)]


def test_a_paused_trial_is_killed_until_it_goes_on_or_its_study_ends(uri, folder, record):
    begin(record)
    good, bad = start(record, 0), start(record, 1)
    for trial in (good, bad):
        report(record, trial, 1)
        end(record, trial, "paused", 1)
    track(folder, uri)
    names = [f"beta_vae / mnist / {number}" for number in ("hand-tuned", 1)]
    assert [statuses(uri)[name] for name in names] == ["KILLED", "KILLED"]
    assert [of_run(uri, "tags", name)["outcome"] for name in names] == ["paused", "paused"]
    start(record, 0, attempt=2)
    report(record, good, 2, 3)
    end(record, good)
    record.append("close", study="beta_vae-mnist")
    record.append("finish", outcome="done")
    track(folder, uri)
    assert statuses(uri) == {"quick": "FINISHED", names[0]: "FINISHED", names[1]: "KILLED"}
    assert [of_run(uri, "tags", name)["outcome"] for name in names] == ["complete", "pruned"]
    output = rows(
        uri, f"select step from metrics join runs using (run_uuid) where key = 'valid/fcd' and name = '{names[0]}'"
    )
    assert sorted(output) == [(1,), (2,), (3,)]


def test_what_came_in_the_way_of_a_trial_is_counted_apart(uri, folder, record):
    begin(record)
    trial = start(record)
    for state in ("preempted", "preempted", "out_of_memory"):
        record.append("lost", trial=trial, state=state, epoch=1, reason="its node was lost", worker=None)
        start(record, attempt=2)
    end(record, trial)
    track(folder, uri)
    tags = of_run(uri, "tags", "beta_vae / mnist / hand-tuned")
    assert {name: tags[name] for name in tags if name.startswith("times_")} == {
        "times_preempted": "2",
        "times_out_of_memory": "1",
    }


def test_the_worker_of_a_trial_is_shown_with_its_share_and_memory_of_a_gpu(uri, folder, record):
    begin(record)
    trial = start(record)
    worker = {"host": "a", "device": "NVIDIA H200", "gpus": 0.25, "peak_mb": 812}
    record.append("end", trial=trial, state="out_of_memory", epoch=0, reason="CUDA out of memory", worker=worker)
    track(folder, uri)
    tags = of_run(uri, "tags", "beta_vae / mnist / hand-tuned")
    assert (tags["worker.gpus"], tags["worker.peak_mb"]) == ("0.25", "812")


def test_a_run_created_twice_is_kept_once(uri, folder, record):
    """The creation arrived, the answer did not, and the second one came before the first was found."""
    whole_sweep(record, ["complete"])
    track(folder, uri)
    server = Server(uri, "autoencoder-sweep", "20261121-103000-abcd")
    server._client.create_run(server._experiment, 0, server.runs["beta_vae-mnist-0000"].tags)
    assert reconcile(folder, uri) == 0
    assert rows(uri, "select count(*) from runs where lifecycle_stage = 'active'") == [(2,)]
    count = "select count(*) from metrics join runs using (run_uuid) where lifecycle_stage = 'active'"
    assert rows(uri, count) == [(6,)]


def test_a_run_that_the_user_deleted_stays_deleted(uri, folder, record):
    begin(record)
    trial = start(record)
    track(folder, uri)
    server = Server(uri, "autoencoder-sweep", "20261121-103000-abcd")
    server._client.delete_run(server.runs[trial].id)
    report(record, trial, 1)
    end(record, trial)
    assert track(folder, uri).refused == 0
    assert statuses(uri) == {"quick": "RUNNING"}
    assert rows(uri, "select count(*) from metrics") == [(0,)]


NAMES = {"a//b": "a/_/b", "a/": "a/_", "/a": "_/a", "../a": "_/a", "a/.": "a/_", "": "_", "fcd(gmm)": "fcd_gmm_",
         "a" * 249 + "/b": "a" * 249, "a" * 300: "a" * 250}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_accepts_every_name_of_a_metric(name):
    import mlflow

    key = _key(name)
    assert key == NAMES[name]
    mlflow.utils.validation._validate_metric_name(key)


def test_what_mlflow_refuses_does_not_stop_the_rest(uri, folder, record, monkeypatch):
    import mlflow

    send = mlflow.MlflowClient.log_batch

    def refuse_one(client, run, metrics, **more):
        if "broken" in [metric.key for metric in metrics]:
            raise mlflow.exceptions.MlflowException("no", mlflow.protos.databricks_pb2.INVALID_PARAMETER_VALUE)
        return send(client, run, metrics=metrics, **more)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse_one)
    begin(record)
    report(record, start(record, 0), 1, broken=1.0)
    report(record, start(record, 1), 1, **{"a//b": 1.0})
    assert track(folder, uri).refused == 1
    keys = rows(uri, "select key from metrics order by key")
    assert keys == [("a/_/b",), ("train/loss",), ("valid/fcd",)]


def test_a_run_that_mlflow_refuses_to_create_does_not_stop_the_rest(uri, folder, record, monkeypatch):
    begin(record)
    start(record, 0, values={"beta": 1.0})
    start(record, 1)
    import mlflow

    create = mlflow.MlflowClient.create_run

    def refuse_one(client, experiment, started, tags, name):
        if name.endswith("hand-tuned"):
            raise mlflow.exceptions.MlflowException("no", mlflow.protos.databricks_pb2.INVALID_PARAMETER_VALUE)
        return create(client, experiment, started, tags, name)

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", refuse_one)
    assert track(folder, uri).refused == 1
    assert set(statuses(uri)) == {"quick", "beta_vae / mnist / 1"}


# Ends of any kind


def test_a_dead_driver_leaves_no_running_run(uri, folder):
    with Record(folder / "record.jsonl") as record:
        begin(record)
        trial = start(record)
        track(folder, uri)
        assert reconcile(folder, uri) == 0
        assert set(statuses(uri).values()) == {"RUNNING"}, "the driver holds the record"
    assert reconcile(folder, uri) == 2
    assert set(statuses(uri).values()) == {"KILLED"}
    assert of_run(uri, "tags", "beta_vae / mnist / hand-tuned")["outcome"] == "interrupted"
    with Record(folder / "record.jsonl") as record:
        begin(record, resumed=True)
        start(record, attempt=2)
        end(record, trial)
        record.append("finish", outcome="done")
        reconcile(folder, uri)
    assert set(statuses(uri).values()) == {"FINISHED"}


def test_a_run_that_the_record_does_not_know_is_closed(uri, folder, record):
    whole_sweep(record, ["complete"])
    track(folder, uri)
    server = Server(uri, "autoencoder-sweep", "20261121-103000-abcd")
    tags = {"sweep_id": "20261121-103000-abcd", "trial_id": "unknown-0001"}
    server._client.create_run(server._experiment, 0, tags, "stray")
    assert reconcile(folder, uri) == 1
    assert statuses(uri)["stray"] == "KILLED" and of_run(uri, "tags", "stray")["outcome"] == "orphan"


def test_a_tracker_follows_and_closes(uri, folder, record):
    tracker = Tracker(folder, uri)
    whole_sweep(record)
    open_trial = start(record, 7)
    assert tracker.close() is None
    assert tracker.behind == 0 and tracker.trouble == ""
    assert statuses(uri)["beta_vae / mnist / 7"] == "KILLED", f"{open_trial} has no driver any more"
    before = contents(uri)
    track(folder, uri)
    after = contents(uri)
    assert after["metrics"] == before["metrics"] and len(after["runs"]) == len(before["runs"])


def test_a_server_that_is_away_costs_no_event_and_says_what_to_do(uri, folder, record):
    begin(record)
    tracker = Tracker(folder, "http://me:secret@127.0.0.1:9")
    trial = start(record)
    report(record, trial, 1)
    began = time.monotonic()
    message = tracker.close(timeout=0.1)
    assert time.monotonic() - began < 30  # which it waits unless it is given a timeout
    assert message.startswith("3 events are not yet in MLflow") and "\n" not in message
    assert message.endswith(f"python -m sweep track {folder} --tracking-uri URI")
    assert "secret" not in message and "refused" in message.lower()


def test_only_one_process_tracks_a_sweep(uri, folder, record):
    begin(record)
    tracker = Tracker(folder, uri)
    while tracker.behind:
        time.sleep(0.05)
    with pytest.raises(ValueError, match="already being tracked"):
        track(folder, uri)
    tracker.close()
    track(folder, uri)


# Addresses


@pytest.mark.parametrize(
    "text, shown",
    [
        ("http://me:secret@host:5000/x", "http://***@host:5000/x"),
        ("http://token@host", "http://***@host"),
        ("postgresql+psycopg2://me:p@ss/wo@host/db", "postgresql+psycopg2://***@host/db"),
        ("failed: http://me:secret@host/a (see log)", "failed: http://***@host/a (see log)"),
        ("postgresql://me:pa ss@host/db", "postgresql://***@host/db"),
        (
            "postgresql://host/db?user=me&password=secret&sslmode=require",
            "postgresql://host/db?user=***&password=***&sslmode=require",
        ),
        ("postgresql://host/db?sslpassword=secret", "postgresql://host/db?sslpassword=***"),
        (
            "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret&driver=x",
            "mssql+pyodbc:///?odbc_connect=***&driver=x",
        ),
        ("https://host:5000/?access_token=secret", "https://host:5000/?access_token=***"),
        ("https://host/mlflow?auth_token=secret#secret", "https://host/mlflow?auth_token=***"),
        ("https://host/?secret", "https://host/?***"),
        ("https://host/#secret", "https://host/#***"),
        ("failed: PWD%3Dsecret; api_key=secret, see the log", "failed: PWD%3D***; api_key=*** see the log"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("sqlite:////home/what?/#1/mlflow.db", "sqlite:////home/what?/#1/mlflow.db"),
    ],
)
def test_credentials_are_never_shown(text, shown):
    assert redact(text) == shown


def test_the_stored_configuration_has_no_credentials():
    config = SweepConfig(tracking_uri="https://host/?access_token=secret", address="ray://me:secret@host:10001")
    shown = public(config)
    assert "secret" not in str(shown) and (shown["address"], shown["mirror"]) == ("ray://***@host:10001", None)


@pytest.mark.parametrize(
    "uri, problem",
    [
        ("mlruns", "is not an address"),
        ("ftp://host", "is not an address"),
        ("postgresql://***@host/db", "was stored without its credentials; give"),
        ("https://host/?access_token=***", "was stored without its credentials; give"),
        ("http://me:secret@127.0.0.1:9", "does not answer"),
        ("http://not a host/", "does not answer"),
        ("sqlite:///{tmp}", "is a folder"),
        ("sqlite:///{tmp}/text", "cannot be read"),
        ("sqlite:///{tmp}/text/mlflow.db", "is not a folder"),
        ("sqlite:///{tmp}/other.db", "not a database of MLflow"),
    ],
)
def test_a_bad_address_is_one_line(tmp_path, uri, problem):
    (tmp_path / "text").write_text("not a database, but long enough to look at" * 10)
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("create table cats (name)")
    with pytest.raises(ValueError, match=problem) as error:
        check(uri.format(tmp=tmp_path))
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_a_half_written_file_of_a_killed_writer_is_replaced(tmp_path, uri):
    """A journal without its process: sqlite has to roll back, also for somebody who only asks."""
    program = f"""if True:
        import os, signal, sqlite3
        database = sqlite3.connect({uri.removeprefix("sqlite:///")!r})
        database.execute("pragma cache_size = 1")  # so that it writes before it commits
        database.execute("create table big (x)")
        database.executemany("insert into big values (?)", [("x" * 1000,)] * 1000)
        os.kill(os.getpid(), signal.SIGKILL)"""
    subprocess.run([sys.executable, "-c", program])
    assert (tmp_path / "mlflow.db-journal").exists()
    check(uri)


@pytest.fixture
def web():
    """A web server with one answer to everything; yields its address and a place for the answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        answer: ClassVar[dict] = {"status": 200, "type": "application/json", "asked": []}

        def do_GET(self):
            self.answer["asked"].append(self.headers.get("Authorization"))
            self.send_response(self.answer["status"])
            self.send_header("Content-Type", self.answer["type"])
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", Handler.answer
        server.shutdown()


@pytest.mark.parametrize(
    "status, kind, problem",
    [
        (401, "text/plain", r"refuses access \(HTTP 401\); set MLFLOW_TRACKING_USERNAME"),
        (403, "text/plain", "--allowed-hosts"),
        (404, "application/json", "not like an MLflow server"),
        (200, "text/html", "not like an MLflow server"),
    ],
)
def test_a_server_that_will_not_have_us(web, status, kind, problem):
    address, answer = web
    answer |= {"status": status, "type": kind}
    with pytest.raises(ValueError, match=problem) as error:
        check(f"http://{address}")
    assert "\n" not in str(error.value)


def test_a_server_is_asked_with_the_credentials_that_mlflow_would_use(web, monkeypatch):
    address, answer = web
    check(f"http://me:secret@{address}")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    check(f"http://{address}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    check(f"http://{address}")
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    assert answer["asked"][-3:] == [basic, "Bearer t0ken", basic]


def test_a_server_is_asked_with_the_user_of_mlflow_s_credentials_file(web, tmp_path, monkeypatch):
    """`mlflow` reads ~/.mlflow/credentials, in the form of INI; a variable goes before it."""
    address, answer = web
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = secret\n"
    )
    check(f"http://{address}")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other")
    check(f"http://{address}")
    assert [base64.b64decode(sent.removeprefix("Basic ")) for sent in answer["asked"][-2:]] == [
        b"me:secret",
        b"me:other",
    ]


def test_a_server_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("sweep.tracking.address.SECONDS_TO_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        with pytest.raises(ValueError, match="does not answer"):
            check(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - began < 60


def test_a_database_is_asked_too():
    with pytest.raises(ValueError, match=r"does not answer|needs a driver: pip install") as error:
        check("postgresql+psycopg2://me:secret@127.0.0.1:9/x")
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_a_database_of_another_mlflow(tmp_path, monkeypatch, scheme):
    """SQLAlchemy asks every database in the same way; this one is sqlite's, under the address of a server."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda uri, **settings: engine)
    check(f"{scheme}://me@127.0.0.1/mlflow")  # empty: MLflow will make its tables
    with engine.begin() as database:
        database.execute(sqlalchemy.text("create table alembic_version (version_num text)"))
        database.execute(sqlalchemy.text(f"insert into alembic_version values ('{known_schema()}')"))
    check(f"{scheme}://me@127.0.0.1/mlflow")
    with engine.begin() as database:
        database.execute(sqlalchemy.text("update alembic_version set version_num = 'feedbeef0123'"))
    with pytest.raises(ValueError, match="has MLflow's schema feedbeef0123, but this MLflow writes"):
        check(f"{scheme}://me@127.0.0.1/mlflow")


def test_a_good_address_passes_and_nothing_is_created(tmp_path, uri):
    check(uri)
    check(f"sqlite:///{tmp_path}/new/folder/mlflow.db")
    assert not (tmp_path / "new").exists()


def test_a_tilde_in_an_address_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("sqlite:///~/x.db") == f"sqlite:///{tmp_path}/x.db"
    (tmp_path / "x.db").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        check("sqlite:///~/x.db")


def test_no_sweep_no_tracking(tmp_path, uri):
    with pytest.raises(ValueError, match=r"has no record\.jsonl"):
        track(tmp_path, uri)


# Manners


@pytest.mark.slow
def test_importing_is_cheap():
    """What takes a second or more waits until it is wanted: every process of a sweep would pay for it."""
    slow = {"mlflow", "sqlalchemy", "sklearn", "scipy.stats", "torchvision", "matplotlib"}
    program = (
        f"import sys, sweep.commands, sweep.driver.worker, sweep.tracking; sys.exit(str({slow} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.slow
def test_planning_does_not_import_the_compiler_of_pytorch():
    """Some functions on the meta device import it, 150 MB that a driver does not need."""
    compiler = {"torch._dynamo", "torch._inductor", "torch.onnx", "sympy"}
    program = (
        "import sys; from sweep.config import SweepConfig; from sweep.search.plan import plan; plan(SweepConfig()); "
        f"sys.exit(str({compiler} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.slow
def test_nothing_is_printed_and_nothing_littered(folder, record, tmp_path):
    """Not even by the first start of an empty store, wherever the program was started."""
    whole_sweep(record)
    program = f"from sweep.tracking import track; track({str(folder)!r}, 'sqlite:///{tmp_path}/new.db')"
    here = tmp_path / "elsewhere"
    here.mkdir()
    path = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=here, env=os.environ | path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(here.iterdir())
