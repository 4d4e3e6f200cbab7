"""A live page of running sweeps: running trials above the report, generated from the records alone.

It is served to browsers on this machine only: on the loopback interface, and only for requests with its host name, so
that no web page can read it by a name that resolves to 127.0.0.1 (DNS rebinding). It serves the page, the running
trials, the report of each sweep and the grids of the trials in its record, and no files by path.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.load import read_sweep
from analysis.page.names import counted, duration, measured, short_metric
from analysis.page.report import TEMPLATES, render
from sweep.record import RECORD, Trial, Trials, follow, record_of

HOST = "127.0.0.1"
REST = 10.0  # minimum seconds between two renderings of a report
QUIET = 300.0  # seconds without an event after which the driver may be dead
SHARE = 20.0  # minimum ratio of this pause to the time of a rendering, to leave the CPU to the sweep
SECONDS_TO_STOP = 0.1  # maximum wait for the end of the server


@dataclass
class Watched:
    """The present state of a sweep, read from its record, and its latest report."""

    folder: Path
    _trials: Trials = field(default_factory=lambda: Trials(strict=False))
    _offset: int = 0
    _version: int = -1  # bytes of the record that the report covers
    _page: str = ""
    _next: float = 0.0  # earliest time of the next rendering
    _reading: threading.Lock = field(default_factory=threading.Lock)
    _rendering: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return self.folder.absolute().name

    def state(self) -> dict[str, Any]:
        """Return the contents of the bar. `version` changes when there is a new report to load."""
        with self._reading:
            self._read()
            trials = self._trials
            due = self._offset != self._version and time.monotonic() >= self._next
            return {
                "name": self.name,
                "words": _words(trials),
                "version": self._offset if due else self._version,
                "running": [_progress(trials, trial) for trial in trials.under_way()] if not trials.outcome else [],
            }

    def knows(self, trial: str) -> bool:
        """Return whether the sweep has a trial of this name."""
        with self._reading:
            self._read()
            return trial in self._trials.trials

    def report(self) -> str:
        """Return the page of the report, rendered again if there are new events and enough time has passed."""
        with self._rendering:
            with self._reading:
                self._read()
                version = self._offset
            began = time.monotonic()
            if version != self._version and began >= self._next:
                self._page = render(read_sweep(self.folder))
                took = time.monotonic() - began
                self._version, self._next = version, time.monotonic() + max(REST, SHARE * took)
            return self._page

    def _read(self) -> None:
        file = self.folder / RECORD
        if file.stat().st_size < self._offset:  # the folder now holds another sweep
            self._trials, self._offset = Trials(strict=False), 0
        events, self._offset = follow(file, self._offset)
        for event in events:
            self._trials.tell(event)


def _words(trials: Trials) -> str:
    if not trials.studies:
        return "not begun"
    seconds = duration(trials.earlier + trials.heard - trials.sweep.time)
    words = f"{counted(trials.ended, 'trial')} ended, {seconds}, {trials.outcome or 'running'}"
    held = {"paused": trials.paused - trials.stopped, "stopped by hand": trials.stopped}
    for how, found in held.items():
        words += f", {counted(len(trials.studies), 'study', len(found))} {how}" if found else ""
    silent = time.time() - trials.heard
    return words if trials.outcome or silent < QUIET else f"{words}, silent for {duration(silent)}"


def _progress(trials: Trials, trial: Trial) -> dict[str, Any]:
    value = "" if trial.value is None else f"{short_metric(trial.metric)} {measured(trial.value)}"
    return {"trial": trial.name, "epoch": trial.epoch, "epochs": trials.studies[trial.study].epochs, "value": value}


@contextmanager
def served(folders: Sequence[Path], port: int = 0) -> Iterator[str]:
    """Context manager that serves a page about the sweeps in `folders` and yields its address. Port 0: a free port.

    Raises ValueError if a folder has no record, or the port is in use.
    """
    for folder in folders:
        record_of(folder)
    watched = [Watched(folder) for folder in folders]
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(watched))
    except (OSError, OverflowError) as error:
        raise ValueError(f"--port {port} cannot be used ({error}); choose another, or omit it") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(SECONDS_TO_STOP,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(watched: Sequence[Watched]) -> type[BaseHTTPRequestHandler]:
    page, policy = _shell([one.name for one in watched])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer with the page, the state or a report, or with an error."""
            hosts = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
            if self.headers.get("Host") not in hosts:
                return self._answer(HTTPStatus.FORBIDDEN, "text/plain", "not this host")
            path = self.path.partition("?")[0]
            reports = {f"/report/{number}/": one for number, one in enumerate(watched)}
            try:
                if path == "/":
                    self._answer(HTTPStatus.OK, "text/html", page, policy)
                elif path == "/state":
                    self._answer(HTTPStatus.OK, "application/json", json.dumps([one.state() for one in watched]))
                elif path in reports:
                    self._answer(HTTPStatus.OK, "text/html", reports[path].report())
                elif (picture := _picture(watched, path)) is not None:
                    self._answer(HTTPStatus.OK, "image/png", picture)
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not found")
            except (OSError, ValueError) as error:  # the record is damaged or gone
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", str(error))

        def _answer(
            self, status: HTTPStatus, kind: str, content: str | bytes, policy: str = "frame-ancestors 'self'"
        ) -> None:
            body = content.encode() if isinstance(content, str) else content
            with suppress(ConnectionError):  # the browser closed the connection
                self.send_response(status)
                self.send_header("Content-Type", kind if body is content else f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.send_header("Content-Security-Policy", policy)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the terminal shows the address alone."""

    return Handler


def _picture(watched: Sequence[Watched], path: str) -> bytes | None:
    """Return a grid of a trial by the path that its report requests, or None if there is none."""
    found = re.fullmatch(r"/report/(\d+)/trials/([^/]+)/(samples(?:-\d{4,})?|reconstructions)\.png", unquote(path))
    if found is None or int(found[1]) >= len(watched) or not watched[int(found[1])].knows(found[2]):
        return None
    file = watched[int(found[1])].folder / "trials" / found[2] / f"{found[3]}.png"
    return file.read_bytes() if file.is_file() else None


def _shell(names: Sequence[str]) -> tuple[str, str]:
    """The page around the reports, and the policy that lets it load nothing but them."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    style, script = ((TEMPLATES / f"watch.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    page = environment.get_template("watch.html").render(
        names=names, style=Markup(style), script=Markup(script), title=", ".join(names)
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return page, policy
