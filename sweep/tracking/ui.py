"""MLflow's user interface: find a running one or start one on the loopback interface, and query it for runs.

Queries use HTTP, so nothing is written and mlflow, whose import takes seconds, is not imported here.
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

from sweep.tracking.address import absolute, authentication, sqlite_file
from trainables.credentials import redact

if TYPE_CHECKING:
    import requests

LOOPBACK = "http://127.0.0.1"
USUAL = f"{LOOPBACK}:5000"  # the default address of `mlflow ui`
SECONDS = 60  # timeout of a query; a thousand runs with all their metrics are slow
PATIENCE = 300.0  # seconds to wait for an interface to start; slow on a busy machine
ENDING = (signal.SIGTERM, signal.SIGHUP)  # handled in addition to Ctrl-C, or the child process would outlive us

Runs = dict[str, str]  # trial -> run id


@contextmanager
def interface(uri: str, knows: Callable[[str], bool]) -> Iterator[tuple[str, bool]]:
    """Context manager that yields the address of a user interface on the store `uri`, and whether it was started here.

    A server serves its own interface. For a database, the interface at the default address is used if it `knows` the
    runs; otherwise one is started on the loopback interface and stopped at the end of the `with` block, also on
    SIGTERM. Raises ValueError if it does not start.
    """
    if uri.startswith(("http://", "https://")):
        yield uri, False
    elif knows(USUAL):
        yield USUAL, False
    else:
        if (file := sqlite_file(uri)) is not None and not file.exists():  # MLflow would create it
            raise ValueError(f"{file} does not exist; add the sweep with: python -m sweep track SWEEP")
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
                "MLFLOW_BACKEND_STORE_URI": absolute(uri),  # not in the command, which all users can read
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes that sweeps do not need
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,  # a new process group, so that it can be ended as a whole
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not _answers(base):
            if process.poll() is not None or time.monotonic() > until:
                command = f"mlflow server --host 127.0.0.1 --backend-store-uri {redact(uri)}"
                raise ValueError(f"MLflow's user interface did not start; see the error with: {command}")
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
    """Terminate, then kill after 3 seconds: a browser that keeps its connection open delays termination."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(3)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def runs_of(base: str, experiment: str, sweep: str, login: bool = False) -> tuple[str, Runs]:
    """Query the server at `base` for the id of an experiment and the run of each trial of a sweep in it.

    Returns an empty id and no runs if the experiment does not exist. `login`: send the credentials in
    MLFLOW_TRACKING_*, because the user named this server. Raises ValueError, in one line, if no MLflow server answers.
    """
    import requests

    try:
        with _session(base) as session:
            for name, value in authentication(base).items() if login else ():
                setattr(session, name, value)
            return _runs_of(session, f"{base.rstrip('/')}/api/2.0/mlflow", experiment, sweep)
    except (requests.RequestException, ValueError, KeyError) as error:
        raise ValueError(redact(f"{base} does not answer like an MLflow server ({error})")) from None


def _runs_of(session: "requests.Session", api: str, experiment: str, sweep: str) -> tuple[str, Runs]:
    answer = session.get(f"{api}/experiments/get-by-name", params={"experiment_name": experiment}, timeout=SECONDS)
    if answer.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in answer.text:
        return "", {}
    answer.raise_for_status()
    place = answer.json()["experiment"]["experiment_id"]
    wanted: dict[str, Any] = {"experiment_ids": [place], "filter": f"tags.sweep_id = '{sweep}'", "max_results": 1000}
    runs: Runs = {}
    while True:
        answer = session.post(f"{api}/runs/search", json=wanted, timeout=SECONDS)
        answer.raise_for_status()
        page = answer.json()
        for run in page.get("runs", ()):
            tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", ())}
            if "trial_id" in tags:  # the run of the sweep has none
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
    session.trust_env = not base.startswith(LOOPBACK)  # no proxy for loopback addresses
    return session
