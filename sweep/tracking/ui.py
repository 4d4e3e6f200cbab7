"""MLflow's user interface on a store: found where it runs, else started on the loopback interface, and asked for runs.

It is asked over HTTP, so no server needs to be written to and mlflow, which takes seconds, is not imported here.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from sweep.tracking.address import absolute, authentication, redact, sqlite_file

if TYPE_CHECKING:
    import requests

LOOPBACK = "http://127.0.0.1"
USUAL = f"{LOOPBACK}:5000"  # where `mlflow ui` listens unless told otherwise
SECONDS = 60  # to answer a question; a thousand runs with all their metrics take some
PATIENCE = 300.0  # seconds until an interface must have come up; it takes many on a busy machine
ENDING = (signal.SIGTERM, signal.SIGHUP)  # what else than Ctrl-C ends us; unheard, the child would live on

Runs = dict[str, str]  # trial -> id of its run


@contextmanager
def interface(uri: str, knows: Callable[[str], bool]) -> Iterator[tuple[str, bool]]:
    """The address of a user interface on the store `uri`, and whether it was started here, for as long as this lasts.

    A server is its own. For a database the one at the usual address is taken if it `knows` the runs, else one is
    started that only this machine can reach; it ends with the `with` block, also by SIGTERM.  Raises ValueError if it
    does not come up.
    """
    if uri.startswith(("http://", "https://")):
        yield uri, False
    elif knows(USUAL):
        yield USUAL, False
    else:
        if (file := sqlite_file(uri)) is not None and not file.exists():  # or MLflow would make one
            raise ValueError(f"there is no {file}; bring the sweep in with: python -m sweep track SWEEP")
        with _started(uri) as base:
            yield base, True


@contextmanager
def _started(uri: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base, process = f"{LOOPBACK}:{port}", None
    before = {number: signal.signal(number, _end) for number in ENDING}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=os.environ | {
                "MLFLOW_BACKEND_STORE_URI": absolute(uri),  # not in the command, which all users may read
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes, for what sweeps do not have
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own, to be ended whole
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not _answers(base):
            if process.poll() is not None or time.monotonic() > until:
                told = f"mlflow server --host 127.0.0.1 --backend-store-uri {redact(uri)}"
                raise ValueError(f"MLflow's user interface does not come up; see what this says: {told}")
            time.sleep(0.2)
        yield base
    finally:
        if process is not None:
            _end_group(process)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end_group(process: subprocess.Popen[Any]) -> None:
    """Politely at first; a browser that keeps its connection would hold the server for as long as it likes."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(3)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def runs_of(base: str, experiment: str, sweep: str, login: bool = False) -> tuple[str, Runs]:
    """The id of an experiment, and of the run of each trial of a sweep in it, by the server at `base`.

    No runs, and no id, where there is no such experiment.  `login`: the user has named this server, so it may see the
    password in MLFLOW_TRACKING_*.  Raises ValueError, in one line, if nobody answers there as an MLflow server does.
    """
    import requests

    try:
        with _session(base) as session:
            for name, value in authentication(base).items() if login else ():
                setattr(session, name, value)
            return _runs_of(session, f"{base.rstrip('/')}/api/2.0/mlflow", experiment, sweep)
    except (requests.RequestException, ValueError, KeyError) as error:
        raise ValueError(redact(f"{base} does not answer as an MLflow server does ({error})")) from None


def _runs_of(session: "requests.Session", api: str, experiment: str, sweep: str) -> tuple[str, Runs]:
    answer = session.get(f"{api}/experiments/get-by-name", params={"experiment_name": experiment}, timeout=SECONDS)
    if answer.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in answer.text:
        return "", {}
    answer.raise_for_status()
    place = answer.json()["experiment"]["experiment_id"]
    wanted = {"experiment_ids": [place], "filter": f"tags.sweep_id = '{sweep}'", "max_results": 1000}
    runs: Runs = {}
    while True:
        answer = session.post(f"{api}/runs/search", json=wanted, timeout=SECONDS)
        answer.raise_for_status()
        page = answer.json()
        for run in page.get("runs", ()):
            tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", ())}
            if "trial_id" in tags:  # the sweep's own run has none
                runs[tags["trial_id"]] = run["info"]["run_id"]
        if not page.get("next_page_token"):
            return place, runs
        wanted["page_token"] = page["next_page_token"]


def _answers(base: str) -> bool:
    import requests

    try:
        with _session(base) as session:
            return session.get(f"{base}/health", timeout=SECONDS).ok
    except requests.RequestException:
        return False


def _session(base: str) -> "requests.Session":
    import requests

    session = requests.Session()
    session.trust_env = not base.startswith(LOOPBACK)  # no proxy stands between us and ourselves
    return session
