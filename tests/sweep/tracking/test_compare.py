"""MLflow's comparison view: which runs are shown together, at which address, and that the interface ends with us."""

import json
import os
import re
import signal
import urllib.parse
from pathlib import Path

import pytest
import requests

from sweep.record import Trials, parse
from sweep.tracking import ui
from sweep.tracking.compare import PAIRS, WINNERS, compare, curves, groups, side_by_side

STUDIES = [
    {"study": f"{method}-{data}", "method": method, "dataset": data, "trials": 2, "epochs": 9, "metric": "valid/fcd"}
    for data in ("digits", "mnist")
    for method in ("vae", "gae")
]


def events(values: dict[str, list[float | None]]) -> list[dict]:
    """A record of trials with these values, None for one that diverged; trial 0 is the paper's."""
    reported = [{"event": "sweep", "time": 0.0, "sweep": "s1", "studies": STUDIES}]
    for study, found in values.items():
        for number, value in enumerate(found):
            name = f"{study}-{number:04d}"
            start = {"event": "start", "time": 0.0, "trial": name, "study": study, "number": number, "seed": 0}
            reported.append(start | {"values": {}, "origin": "search" if number else "paper", "attempt": 1})
            if value is not None:
                rows = [{"epoch": 9, "time": 1.0, "metrics": {"train/loss": 1.0, "valid/fcd": value}}]
                reported.append({"event": "report", "time": 1.0, "trial": name, "rows": rows})
            state = "diverged" if value is None else "complete"
            reported.append({"event": "end", "time": 2.0, "trial": name, "state": state, "epoch": 9})
    return reported


def test_winners_and_pairs_by_data_set():
    reported = {"vae-digits": [5.0, 3.0], "gae-digits": [2.0, 4.0], "vae-mnist": [None, 8.0], "gae-mnist": [None]}
    assert groups(Trials.from_events(parse(json.dumps(event)) for event in events(reported))) == {
        "digits": {
            WINNERS: ["vae-digits-0001", "gae-digits-0000"],
            PAIRS: ["vae-digits-0000", "vae-digits-0001"],  # GAE kept its point: no pair
        },
        "mnist": {PAIRS: ["vae-mnist-0000", "vae-mnist-0001"]},  # one winner is not a comparison
    }


def told_in(address: str) -> tuple[str, dict[str, str]]:
    path, _, query = address.partition("?")
    return path, dict(urllib.parse.parse_qsl(query, strict_parsing=True))


def test_the_addresses_are_those_of_mlflow():
    path, reported = told_in(side_by_side("http://127.0.0.1:5000", "7", ["a1", "b2"]))
    assert path == "http://127.0.0.1:5000/#/compare-runs"
    assert {key: json.loads(value) for key, value in reported.items()} == {"runs": ["a1", "b2"], "experiments": ["7"]}
    path, reported = told_in(curves("http://127.0.0.1:5000", "7", ["a1", "b2"], "valid/fcd"))
    assert path == "http://127.0.0.1:5000/#/experiments/7/runs" and reported["orderByKey"] == "metrics.`valid/fcd`"
    assert reported["searchFilter"] == "attributes.run_id IN ('a1', 'b2')"


def folder_of(folder: Path, reported: list[dict]) -> Path:
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in reported))
    (folder / "config.yaml").write_text("methods: [vae]\n")
    return folder


def never(*_) -> None:
    raise AssertionError("there is nothing to show")


def test_too_early_is_said_in_a_line(tmp_path):
    folder = folder_of(tmp_path, events({"vae-digits": [5.0]}))
    with pytest.raises(ValueError, match="fewer than two trials to compare"):
        compare(folder, f"sqlite:///{tmp_path}/mlflow.db", "none", never)


@pytest.fixture
def nobody_at_the_usual_address(monkeypatch):
    monkeypatch.setattr(ui, "USUAL", "http://127.0.0.1:1")


def test_no_database_is_made_to_look_at(tmp_path, nobody_at_the_usual_address):
    folder = folder_of(tmp_path, events({"vae-digits": [5.0, 3.0]}))
    with pytest.raises(ValueError, match=r"mlflow\.db does not exist; add the sweep with"):
        compare(folder, f"sqlite:///{tmp_path}/mlflow.db", "none", never)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_server_that_does_not_know_the_trials_is_filled_by_a_command(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, events({"vae-digits": [5.0, 3.0]}))
    monkeypatch.setattr("sweep.tracking.compare.runs_of", lambda *_, **__: ("7", {"vae-digits-0000": "a1"}))
    with pytest.raises(
        ValueError, match=r"^1 trials are missing from http://\*\*\*@host:5000, .*python -m sweep track"
    ):
        compare(folder, "http://me:secret@host:5000", "none", never)


def test_a_server_is_its_own_interface_and_its_password_is_not_shown(tmp_path, monkeypatch):
    folder, shown = folder_of(tmp_path, events({"vae-digits": [5.0, 3.0]})), []
    runs = {"vae-digits-0000": "a1", "vae-digits-0001": "b2"}
    monkeypatch.setattr("sweep.tracking.compare.runs_of", lambda *_, **__: ("7", runs))
    compare(folder, "http://me:secret@host:5000", "none", lambda *reported: shown.append(reported))
    (((view,), base, ours),) = shown
    assert (base, ours, view.dataset, view.what) == ("http://host:5000", False, "digits", PAIRS)
    assert view.side_by_side == side_by_side("http://host:5000", "7", ["a1", "b2"])


@pytest.mark.slow
def test_an_interface_is_started_for_us_alone_and_ends_with_us(programs):
    home = folder_of(programs.folder, events({"vae-digits": [5.0, 3.0]}))
    flags = (home, "--tracking-uri", programs.tracking, "--no-open")
    programs.start("-m", "sweep", "track", *flags[:-1]).ends_well()
    shown = programs.start("-m", "sweep", "compare", *flags)
    shown.until(lambda: "until Ctrl-C" in shown.output)
    base, port, run = re.search(r"(http://127\.0\.0\.1:(\d+))/\S*runs=%5B%22(\w+)%22", shown.output).groups()
    answer = requests.get(f"{base}/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]
    assert answer["info"]["run_name"] == "vae / digits / hand-tuned"
    assert answer["data"]["metrics"][0]["key"] == "valid/fcd"  # which the charts begin with
    assert listening(int(port)) == {"0100007F"}  # 127.0.0.1 as /proc has it
    assert len(programs.processes("mlflow|uvicorn")) > 0
    os.kill(shown.process.pid, signal.SIGTERM)  # us alone: the interface must not hear it itself
    assert shown.wait() == 128 + signal.SIGTERM
    assert programs.processes("mlflow|uvicorn") == []
    programs.wait_for_processes()


def listening(port: int) -> set[str]:
    """The addresses on which somebody listens at a port, in hexadecimal."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    found = [(line[1].split(":"), line[3]) for line in lines]
    return {address for (address, at), state in found if state == "0A" and int(at, 16) == port}
