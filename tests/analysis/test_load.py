"""A record of given events, against tables worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.budget import best_by_seconds, budgets
from analysis.load import PUBLISHED, newest_sweep, read_published, read_sweep

STUDY = {
    "study": "vae-mnist",
    "method": "vae",
    "dataset": "mnist",
    "trials": 3,
    "epochs": 2,
    "metric": "valid/fcd",
    "rungs": [1],
    "hand_tuned": {"lr": 0.1, "act": "relu"},
    "hand_tuned_source": "a paper",
    "space": {
        "lr": {"low": 0.01, "high": 1.0, "log": True},
        "act": {"choices": ["relu", "elu"]},
        "k": {"value": 1},
    },
}


COLUMNS = ["paper", "table", "dataset", "method", "variant", "metric", "epoch", "value", "std"]


def found(*events: dict, studies=(STUDY,)) -> list[dict]:
    first = {"time": 100.0, "event": "sweep", "sweep": "id", "config": {"seed": 3}, "studies": list(studies)}
    return [first | {"versions": {"torch": "2"}, "machine": {"cpus": 2}, "code": "abc"}, *events]


def start(time: float, trial: str = "vae-mnist-0000", **changes) -> dict:
    values = {"lr": 0.1, "act": "relu", "k": 1}
    event = {
        "time": time,
        "event": "start",
        "trial": trial,
        "study": "vae-mnist",
        "number": 0,
        "values": values,
    }
    return event | {"origin": "paper", "seed": 7, "attempt": 1} | changes


def report(time: float, epoch: int, trial: str = "vae-mnist-0000", **metrics) -> dict:
    row = {"epoch": epoch, "stage": "train", "time": time, "metrics": metrics}
    return {"time": time, "event": "report", "trial": trial, "rows": [row]}


def end(time: float, state: str, trial: str = "vae-mnist-0000", reason: str = "") -> dict:
    return {"time": time, "event": "end", "trial": trial, "state": state, "epoch": 2, "reason": reason}


def test_a_trial_becomes_a_row(tmp_path, write_record):
    events = found(
        start(110.0),
        report(112.0, 1, **{"train/loss": 5.0, "valid/fcd": 30.0}),
        report(114.0, 2, **{"train/loss": 4.0, "valid/fcd": 20.0, "valid/mse": 0.5}),
        end(115.0, "complete"),
        {"time": 116.0, "event": "finish", "outcome": "done"},
    )
    sweep = read_sweep(write_record(tmp_path / "s", events))
    (row,) = sweep.trials.to_dict("records")
    expected = {
        "trial": "vae-mnist-0000",
        "study": "vae-mnist",
        "method": "vae",
        "dataset": "mnist",
        "number": 0,
        "origin": "paper",
        "state": "complete",
        "reason": "",
        "attempt": 1,
        "times_preempted": 0,
        "times_out_of_memory": 0,
        "times_failed": 0,
        "seed": 7,
        "epochs": 2,
        "recipe": None,
        "value": 20.0,
        "hyper/lr": 0.1,
        "hyper/act": "relu",
        "hyper/k": 1,
        "train/loss": 4.0,
        "valid/fcd": 20.0,
        "valid/mse": 0.5,
        "started": pd.Timestamp(110, unit="s", tz="UTC"),
        "ended": pd.Timestamp(115, unit="s", tz="UTC"),
        "worker_seconds": 5.0,
        "device_seconds": 5.0,
    }
    assert row == expected
    assert list(sweep.trials.columns) == list(expected)
    assert sweep.curves.to_numpy().tolist() == [
        ["vae-mnist-0000", 1, "train", "train/loss", 5.0],
        ["vae-mnist-0000", 1, "train", "valid/fcd", 30.0],
        ["vae-mnist-0000", 2, "train", "train/loss", 4.0],
        ["vae-mnist-0000", 2, "train", "valid/fcd", 20.0],
        ["vae-mnist-0000", 2, "train", "valid/mse", 0.5],
    ]
    assert list(sweep.curves.columns) == ["trial", "epoch", "stage", "metric", "value"]
    assert sweep.config == {"seed": 3}
    assert sweep.meta == {
        "id": "id",
        "started": 100.0,
        "finished": 116.0,
        "outcome": "done",
        "resumed": 0,
        "versions": {"torch": "2"},
        "machine": {"cpus": 2},
        "code": "abc",
        "unreadable_lines": 0,
        "confirms": None,
        "readings": {},
        "resolutions": {},
        "data": {},
        "stopped": [],
        "paused": [],
        "waiting": 0,
    }


def test_the_value_is_that_of_the_last_evaluated_epoch(tmp_path, write_record):
    events = found(start(1.0), report(2.0, 1, **{"valid/fcd": 30.0}), report(3.0, 2, **{"train/loss": 1.0}))
    row = read_sweep(write_record(tmp_path / "s", events)).trials.iloc[0]
    assert (row["value"], row["epochs"], row["state"], row["worker_seconds"]) == (30.0, 2, "running", 2.0)


def test_the_first_row_of_an_epoch_and_the_last_start_and_end_win(tmp_path, write_record):
    events = found(
        start(10.0),
        report(12.0, 1, **{"valid/fcd": 30.0}),  # the attempt vanishes here: it held a worker for 2 s
        start(20.0, attempt=2),
        report(21.0, 1, **{"valid/fcd": 31.0}),  # the same epoch again, after a checkpoint
        report(22.0, 2, **{"valid/fcd": 25.0}),
        {"time": 23.0, "event": "lost", "trial": "vae-mnist-0000", "state": "preempted", "reason": "node lost"},  # 3 s
        start(30.0, attempt=3),
        end(31.0, "complete"),  # 1 s
    )
    sweep = read_sweep(write_record(tmp_path / "s", events))
    row = sweep.trials.iloc[0]
    assert sweep.curves["value"].tolist() == [30.0, 25.0]
    assert (row["state"], row["reason"], row["attempt"], row["value"]) == ("complete", "", 3, 25.0)
    assert row["worker_seconds"] == row["device_seconds"] == 6.0  # its device seconds were not reported
    assert row["times_preempted"] == 1
    assert (row["started"], row["ended"]) == tuple(pd.Timestamp(at, unit="s", tz="UTC") for at in (10, 31))
    assert sweep.attempts[["started", "ended"]].to_numpy().tolist() == [[10.0, 12.0], [20.0, 23.0], [30.0, 31.0]]


def test_a_started_again_trial_runs_again(tmp_path, write_record):
    events = found(start(1.0), end(2.0, "preempted", reason="node lost"), start(3.0, attempt=2))
    row = read_sweep(write_record(tmp_path / "s", events)).trials.iloc[0]
    assert (row["state"], row["reason"]) == ("running", "")


def test_how_the_objective_was_measured_is_kept_once_per_way(tmp_path, write_record):
    ways = [{"extractor": "a", "n": 10}, {"extractor": "a", "n": 10}, {"extractor": "b", "n": 10}]
    events = found(start(1.0), *(report(2.0 + i, 1 + i, **{"valid/fcd": 1.0}) for i in range(3)))
    for event, way in zip(events[2:], ways, strict=True):
        event["rows"][0]["recipes"] = {"valid/fcd": way, "valid/fcd_reconstruction": {"n": 3}}
    sweep = read_sweep(write_record(tmp_path / "s", events))
    assert sweep.recipes == {"vae-mnist": (ways[0], ways[2])}


def test_numbers_that_are_none_are_left_out(tmp_path, write_record):
    events = found(start(1.0), report(2.0, 1, **{"valid/fcd": float("nan"), "train/loss": float("inf"), "a/b": None}))
    sweep = read_sweep(write_record(tmp_path / "s", events))
    assert sweep.curves.empty
    assert np.isnan(sweep.trials["value"].iloc[0])


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_costs_only_itself(tmp_path, write_record, kept):
    folder = write_record(tmp_path / "s", found(start(1.0), report(2.0, 1, **{"valid/fcd": 30.0})))
    line = json.dumps(end(3.0, "failed", reason="größer"), ensure_ascii=False).encode()
    with (folder / "record.jsonl").open("ab") as record:
        record.write(line[:kept])
    sweep = read_sweep(folder)
    assert sweep.meta["unreadable_lines"] == 1
    assert sweep.trials["state"].tolist() == ["running"]
    assert sweep.trials["value"].tolist() == [30.0]


def test_a_line_cut_inside_a_letter_is_torn_too(tmp_path, write_record):
    folder = write_record(tmp_path / "s", found(start(1.0)))
    with (folder / "record.jsonl").open("ab") as record:
        record.write('{"time": 3.0, "event": "end", "reason": "ö'.encode()[:-1] + b"\n")
    assert read_sweep(folder).meta["unreadable_lines"] == 1


def test_reports_of_a_trial_whose_start_is_lost_are_left_out(tmp_path, write_record):
    events = found(report(2.0, 1, **{"valid/fcd": 30.0}), end(3.0, "complete"))
    sweep = read_sweep(write_record(tmp_path / "s", events))
    assert sweep.trials.empty
    assert sweep.curves.empty


def test_a_resumed_and_extended_sweep_takes_the_later_description(tmp_path, write_record):
    other = STUDY | {"study": "gae-mnist", "method": "gae"}
    again = found(studies=(STUDY | {"trials": 9}, other))[0] | {"time": 200.0, "resumed": True}
    finish = {"time": 150.0, "event": "finish", "outcome": "interrupted"}
    sweep = read_sweep(write_record(tmp_path / "s", [*found(finish), again]))
    assert sweep.studies["vae-mnist"].trials == 9
    assert list(sweep.studies) == ["vae-mnist", "gae-mnist"]
    assert (sweep.meta["resumed"], sweep.meta["started"], sweep.meta["outcome"]) == (1, 100.0, "running")


def test_a_sweep_without_trials_has_empty_tables_of_the_same_kind(tmp_path, write_record):
    empty = read_sweep(write_record(tmp_path / "s", found()))
    assert len(empty.trials) == len(empty.curves) == len(empty.attempts) == 0
    assert {"trial", "value", "hyper/lr", "started", "worker_seconds", "device_seconds"} <= set(empty.trials.columns)
    assert empty.best("vae-mnist") is None
    assert empty.hand_tuned_trial("vae-mnist") is None


def test_columns_have_one_type_each(tmp_path, write_record):
    trials = [
        {"lr": 1, "act": "relu", "k": 1, "mixed": 1},
        {"lr": 0.5, "act": "elu", "k": 2, "mixed": "two", "flag": True},
    ]
    events = found(*(start(i, f"t{i}", number=i, values=values) for i, values in enumerate(trials)))
    table = read_sweep(write_record(tmp_path / "s", events)).trials
    assert table["hyper/lr"].tolist() == [1.0, 0.5]
    assert str(table["hyper/k"].dtype) == "Int64"
    assert table["hyper/mixed"].tolist() == ["1", "two"]
    assert str(table["hyper/flag"].dtype) == "boolean"
    assert pd.isna(table["hyper/flag"].iloc[0])


def test_the_best_is_complete_and_of_two_equals_the_earlier(tmp_path, write_record):
    def trial(number: int, value: float, state: str) -> list[dict]:
        name = f"t{number}"
        return [
            start(1.0, name, number=number),
            report(2.0, 2, name, **{"valid/fcd": value}),
            end(3.0, state, name),
        ]

    events = found(*trial(2, 5.0, "complete"), *trial(1, 5.0, "complete"), *trial(3, 1.0, "pruned"))
    assert read_sweep(write_record(tmp_path / "s", events)).best("vae-mnist")["trial"] == "t1"


@pytest.mark.parametrize("text", ["", "\n\n", '{"time": 1, "event": "finish", "outcome": "done"}\n'])
def test_a_record_of_no_sweep_is_an_error(tmp_path, text):
    (tmp_path / "record.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"record\.jsonl has no sweep event"):
        read_sweep(tmp_path)


def test_a_folder_without_a_record_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"has no record\.jsonl; give the folder of a sweep"):
        read_sweep(tmp_path)


def test_a_trial_of_an_unknown_study_is_an_error(tmp_path, write_record):
    folder = write_record(tmp_path / "s", found(start(1.0, study="nobody")))
    with pytest.raises(
        ValueError, match=r"record\.jsonl: vae-mnist-0000 starts in study 'nobody', which no sweep event"
    ):
        read_sweep(folder)


def test_a_record_of_a_later_version_is_an_error_in_one_line(tmp_path, write_record):
    first, *others = found(start(1.0))
    folder = write_record(tmp_path / "s", [first | {"format": 99}, *others])
    with pytest.raises(ValueError, match=r"record\.jsonl: was written by a later version \(format 99,") as caught:
        read_sweep(folder)
    assert "\n" not in str(caught.value)


def test_a_record_of_the_first_version_is_read(tmp_path, write_record):
    study = {name: STUDY[name] for name in ("study", "method", "dataset", "trials", "epochs", "metric")}
    begun = {"time": 100.0, "event": "sweep", "sweep": "id", "studies": [study]}
    started = {"time": 110.0, "event": "start", "trial": "t0", "study": "vae-mnist", "number": 0, "values": {"lr": 0.1}}
    rows = [{"epoch": 1, "metrics": {"valid/fcd": 30.0}}]
    ended = {"time": 115.0, "event": "end", "trial": "t0", "state": "complete"}
    events = [begun, started, {"time": 112.0, "event": "report", "trial": "t0", "rows": rows}, ended]
    sweep = read_sweep(write_record(tmp_path / "s", events))
    (row,) = sweep.trials.to_dict("records")
    assert (row["value"], row["state"], row["attempt"], row["hyper/lr"]) == (30.0, "complete", 1, 0.1)
    assert (row["worker_seconds"], sweep.meta["unreadable_lines"]) == (5.0, 0)
    assert sweep.studies["vae-mnist"].hand_tuned_values == {} and sweep.recipes == {}


def test_seconds_on_a_device_leave_out_what_a_trial_waited(tmp_path, write_record):
    seconds = {"time/train_seconds": 2.0, "time/density_fit_seconds": 0.25, "time/evaluate_seconds": 0.5}
    events = found(
        start(0.0),
        report(50.0, 1, **{"valid/fcd": 30.0, **seconds}),
        end(60.0, "complete"),
    )
    sweep = read_sweep(write_record(tmp_path / "s", events))
    (row,) = sweep.trials.to_dict("records")
    assert (row["worker_seconds"], row["device_seconds"]) == (60.0, 2.75)
    assert budgets(sweep)["device_seconds"].tolist() == [2.75]
    assert best_by_seconds(sweep, "vae-mnist").to_numpy().tolist() == [[2.75, 30.0]]


def test_a_metric_that_is_not_a_number_makes_its_line_unreadable(tmp_path, write_record):
    events = found(start(1.0), report(2.0, 1, **{"valid/fcd": "many"}), report(3.0, 1, **{"valid/fcd": 30.0}))
    sweep = read_sweep(write_record(tmp_path / "s", events))
    assert (sweep.meta["unreadable_lines"], sweep.curves["value"].tolist()) == (1, [30.0])


@pytest.fixture
def sweep(tmp_path, write_sweep):
    return read_sweep(write_sweep(tmp_path / "made", trials=1, datasets=("digits",)))


def test_balance_knobs_of_an_older_record_are_the_ranges_that_not_every_training_has(sweep):
    assert list(sweep.studies["rae_l2-digits"].balance) == ["code_weight", "decoder_weight"]
    assert not sweep.studies["vae-digits"].balance
    assert not sweep.studies["gae-digits"].balance


@pytest.mark.parametrize(
    ("weighs", "knobs"), [({"decoder_weight": {"kind": ["l2"]}, "gone": {}}, ["decoder_weight"]), ({}, [])]
)
def test_balance_knobs_are_those_of_the_search_space_that_are_searched(sweep, weighs, knobs):
    study = replace(sweep.studies["rae_l2-digits"], weighs=weighs)
    assert study.balance == {knob: weighs[knob] for knob in knobs}


def test_the_newest_sweep_is_the_one_written_to_last(tmp_path, write_record, monkeypatch):
    import os

    for name, time in (("old", 1000), ("new", 3000), ("middle", 2000)):
        os.utime(write_record(tmp_path / "sweeps" / name, found()) / "record.jsonl", (time, time))
    (tmp_path / "analysis").mkdir()
    monkeypatch.chdir(tmp_path / "analysis")
    assert newest_sweep() == tmp_path / "sweeps" / "new"


def test_without_any_sweep_the_newest_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "analysis").mkdir()
    monkeypatch.chdir(tmp_path / "analysis")
    with pytest.raises(ValueError, match="no sweep under"):
        newest_sweep()


def test_published_numbers_are_the_printed_ones():
    times = read_published("GAE", 4)
    row = times[(times["dataset"] == "MNIST") & (times["method"] == "VampVAE")].iloc[0]
    assert row["value"] == 1154.87
    assert np.isnan(row["std"])
    assert len(times) == 40
    assert read_published("VAE-GAN", "fig11_log")["paper"].unique().tolist() == ["VAE-GAN"]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.csv")), ids=lambda path: path.stem)
def test_every_published_table_is_numbers(path):
    paper, _, table = path.stem.partition("_")
    printed = read_published(paper, table)
    assert list(printed.columns) == COLUMNS
    assert printed["value"].notna().all()


def test_an_unknown_published_table_is_an_error_that_names_the_known():
    with pytest.raises(ValueError, match="no published table gae_table9; choose one of aae_table1"):
        read_published("gae", 9)
