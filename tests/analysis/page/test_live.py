"""The page that follows sweeps: what it serves, to whom, and that it learns of news."""

import base64
import hashlib
import http.client
import json
import re
import time

import pytest

from analysis.page import live
from analysis.page.live import Watched, served
from sweep.record import Record

STUDY = {"study": "vae-digits", "method": "vae", "dataset": "digits", "metric": "valid/fcd", "trials": 4, "epochs": 9}


@pytest.fixture
def record(tmp_path):
    """A sweep with one complete trial and two more of which only one has a slot."""
    with Record(tmp_path / "<quick>" / "record.jsonl") as record:
        record.append("sweep", sweep="s", studies=[STUDY], resources={"slots": 1.0})
        record.append("start", trial="vae-digits-0000", study="vae-digits", number=0, values={"beta": 1.0})
        report(record, 0, 9, 20.0)
        record.append("end", trial="vae-digits-0000", state="complete", epoch=9)
        for number in (1, 2):
            name = f"vae-digits-{number:04d}"
            record.append("start", trial=name, study="vae-digits", number=number, values={"beta": 2.0})
        report(record, 1, 3, 30.0)
        yield record


def report(record, number, epoch, value):
    row = {"epoch": epoch, "metrics": {"valid/fcd": value}}
    record.append("report", trial=f"vae-digits-{number:04d}", rows=[row])


def ask(address, path, **headers):
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


def test_the_page_loads_nothing_but_its_own_script_the_state_and_the_reports(record):
    with served([record.path.parent]) as address:
        assert address.startswith("http://127.0.0.1:")
        status, headers, page = ask(address, "/")
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = headers["Content-Security-Policy"]
    assert status == 200 and f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert "&lt;quick&gt;" in page and "<quick>" not in page
    assert not re.search(r"(src|href)=.?(https?:)?//", page)


def test_the_state_says_what_runs_and_the_report_is_that_of_the_sweep(record):
    with served([record.path.parent]) as address:
        (found,) = json.loads(ask(address, "/state")[2])
        status, headers, page = ask(address, "/report/0/?now")
    assert found["running"] == [{"trial": "vae-digits-0001", "epoch": 3, "epochs": 9, "value": "fcd 30.0"}]
    assert found["words"].startswith("1 trial ended, ") and found["words"].endswith(", running")
    assert status == 200 and "VAE has fcd" in page and headers["Cache-Control"] == "no-store"


def test_only_this_machine_is_answered_and_no_file_is_served(record):
    with served([record.path.parent]) as address:
        port = address.rstrip("/").rpartition(":")[2]
        assert ask(address, "/state", Host=f"localhost:{port}")[0] == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1"):
            assert ask(address, "/state", Host=host)[0] == 403
        for path in (
            "/record.jsonl",
            "/report/1/",
            "/report/",
            "/report/0/record.jsonl",
            "/../record.jsonl",
            "//etc/passwd",
        ):
            assert ask(address, path)[0] == 404


def test_grids_are_served_of_the_trials_in_the_record_alone(record):
    trials = record.path.parent / "trials"
    for name in ("vae-digits-0000", "other"):
        (trials / name).mkdir(parents=True)
        (trials / name / "samples.png").write_bytes(b"grid of " + name.encode())
        (trials / name / "samples-0003.png").write_bytes(b"small")
    with served([record.path.parent]) as address:
        status, headers, grid = ask(address, "/report/0/trials/vae-digits-0000/samples.png")
        assert (status, headers["Content-Type"], grid) == (200, "image/png", "grid of vae-digits-0000")
        assert ask(address, "/report/0/trials/vae-digits-0000/samples-0003.png")[2] == "small"
        missing = ("vae-digits-0000/reconstructions", "other/samples", "vae-digits-0000/traceback", "%2e%2e/x/samples")
        for name in missing:
            assert ask(address, f"/report/0/trials/{name}.png")[0] == 404
        assert ask(address, "/report/1/trials/vae-digits-0000/samples.png")[0] == 404


def test_news_of_the_record_are_another_version_of_the_report_but_not_too_often(record, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live, "render", lambda sweep: f"{len(sweep.trials)} trials at {now[0]}")
    watched = Watched(record.path.parent)
    first = watched.state()["version"]
    assert watched.report() == "3 trials at 1000.0" and watched.state()["version"] == first
    report(record, 1, 4, 29.0)
    assert watched.state()["version"] == first and watched.state()["running"][0]["epoch"] == 4
    assert watched.report() == "3 trials at 1000.0"
    now[0] += live.REST
    assert watched.state()["version"] > first and watched.report() == "3 trials at 1010.0"


def test_a_record_that_stays_silent_is_said_to(record, monkeypatch):
    later = time.time() + 2 * live.QUIET
    watched = Watched(record.path.parent)
    assert "silent" not in watched.state()["words"]
    monkeypatch.setattr(live.time, "time", lambda: later)
    assert "running, silent for 10 min" in watched.state()["words"]
    record.append("finish", outcome="done")
    assert watched.state()["words"].endswith(", done") and watched.state()["running"] == []


def test_what_cannot_be_served_is_refused_in_one_line(record, tmp_path):
    with pytest.raises(ValueError, match="give the folder of a sweep"), served([tmp_path]):
        pass
    folders = [record.path.parent]
    with served(folders) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        with (
            pytest.raises(ValueError, match=f"--port {port} cannot be used"),
            served(folders, port),
        ):
            pass
    with pytest.raises(ValueError, match="--port 70000"), served(folders, 70000):
        pass
