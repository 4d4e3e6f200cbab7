"""Idempotent writes of runs to MLflow. The only module that imports mlflow, besides the code of logged models.

Runs are identified by their tags. Parameters and tags are sent only if they differ from those on the server, and
metric rows carry the times of the record, so MLflow drops duplicates. Features of MLflow that are unsuitable in a
background thread are disabled: retries that block for minutes, log messages, telemetry.
"""

import atexit
import contextlib
import gc
import json
import logging
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.tracking.address import absolute, sqlite_file
from sweep.tracking.story import PARENT, Data, Measurement, Portrait
from trainables.locks import locked

# Permanent errors: sending the same again cannot succeed.
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"}

SAMPLER = Path(__file__).with_name("sampler.py")

_NOTE = "mlflow.note.content"  # MLflow's description of a run; a user's text is not overwritten


class Refused(Exception):
    """The server answers, but rejects this write permanently."""


@dataclass
class Run:
    """A run as stored on the server."""

    id: str
    status: str
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]
    data: set[tuple[str, str]]  # name and digest


class Server:
    """The runs of one sweep in one experiment of one MLflow store.

    Methods raise mlflow's exceptions if the store is unavailable. Discard the object then and create a new one, which
    reads the actual state of the store.
    """

    def __init__(self, uri: str, experiment: str, sweep: str):
        with _without_collections():
            _silence()
            import mlflow

            self._mlflow, self._uri = mlflow, absolute(uri)
            with _alone(uri):
                self._client = mlflow.MlflowClient(tracking_uri=self._uri)
                self._experiment = self._find_experiment(uri, experiment)
            self.runs = self._find_runs(sweep)

    def write(self, trial: str | None, portrait: Portrait, rows: Iterable[Measurement] = ()) -> None:
        """Update the run of `trial` to its portrait, except for the status, and add the rows.

        Creates the run if it does not exist; does nothing if it was deleted. Raises Refused.
        """
        run = self.runs.get(trial) or self._create(trial, portrait)
        if run.deleted:
            return
        entities = self._mlflow.entities
        params = {key: value for key, value in portrait.params.items() if key not in run.params}
        tags = {key: value for key, value in portrait.tags.items() if run.tags.get(key, "") != value}
        if portrait.note and not run.tags.get(_NOTE):
            tags[_NOTE] = portrait.note
        self._send(
            self._client.log_batch,
            run.id,
            metrics=[entities.Metric(row.key, row.value, row.timestamp, row.step) for row in rows],
            params=[entities.Param(key, value) for key, value in params.items()],
            tags=[entities.RunTag(key, value) for key, value in tags.items()],
        )
        run.params |= params
        run.tags |= tags
        if new := [data for data in portrait.data if (data.name, data.digest) not in run.data]:
            self._send(self._client.log_inputs, run.id, datasets=[self._input(data) for data in new])
            run.data |= {(data.name, data.digest) for data in new}

    def settle(self, trial: str | None, portrait: Portrait) -> None:
        """Set the status of the run of `trial` to that of its portrait. Raises Refused."""
        run = self.runs[trial]
        if run.deleted or run.status == portrait.status:
            return
        if portrait.status == "RUNNING":
            self._send(self._client.update_run, run.id, status="RUNNING")
        else:
            self._send(self._client.set_terminated, run.id, portrait.status, portrait.ended)
        run.status = portrait.status

    def attach(self, trial: str | None, files: Iterable[Path], documents: dict[str, Any]) -> None:
        """Upload files, and dictionaries as JSON under their names. Raises Refused."""
        run = self.runs[trial]
        if run.deleted:
            return
        try:
            for file in files:
                self._client.log_artifact(run.id, str(file))
            for name, content in documents.items():
                self._client.log_dict(run.id, content, name)
        except Exception as error:
            # Artifact stores raise many kinds of errors. If the server answers, it rejects the file, and rows must
            # not wait for it.
            self._client.get_run(run.id)
            raise Refused(f"artifacts: {error}") from error

    def log_model(self, trial: str, name: str, saved: Path, shape: Sequence[int], requirement: str) -> str:
        """Log a saved model of images of `shape` as a model of the run of `trial`; return the model's address."""
        import numpy as np
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

        signature = ModelSignature(
            Schema([ColSpec("long", "n")]),
            Schema([TensorSpec(np.dtype("float32"), (-1, *shape))]),
            ParamSchema([ParamSpec("seed", "long", 0)]),
        )
        before = os.environ.get("MLFLOW_TRACKING_URI")
        self._mlflow.set_tracking_uri(self._uri)  # Model.log takes no address; this also sets the variable
        try:
            logged = Model.log(
                None, self._mlflow.pyfunc, name=name, run_id=self.runs[trial].id, python_model=str(SAMPLER),
                artifacts={"model": str(saved)}, signature=signature, pip_requirements=[requirement],
            )  # fmt: skip
        finally:
            self._mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets both
        return logged.model_uri

    def _input(self, data: Data) -> Any:
        entities = self._mlflow.entities
        source = json.dumps({"uri": data.source})
        entity = entities.Dataset(data.name, data.digest, "local", source, profile=json.dumps(data.profile))
        return entities.DatasetInput(entity, [entities.InputTag("mlflow.data.context", "sweep")])

    def _send(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code in _REFUSALS:
                raise Refused(str(error)) from None
            raise

    def _find_experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return self._client.create_experiment(name, _artifact_location(uri, name))
        if found.lifecycle_stage == "deleted":
            raise ValueError(f"experiment {name!r} was deleted on the server; restore it or choose another name")
        return found.experiment_id

    def _find_runs(self, sweep: str) -> dict[str | None, Run]:
        found = defaultdict(list)
        token = None
        while token != "":
            page = self._client.search_runs(
                [self._experiment],
                f"tags.sweep_id = '{sweep}'",
                run_view_type=self._mlflow.entities.ViewType.ALL,
                max_results=1000,
                page_token=token,
            )
            for run in page:
                found[run.data.tags.get("trial_id", PARENT)].append(run)
            token = page.token or ""
        return {trial: self._only_one(runs) for trial, runs in found.items()}

    def _only_one(self, runs: list[Any]) -> Run:
        """Keep the run that has the rows and delete duplicates, which a lost response to a creation leaves behind."""
        runs.sort(key=lambda run: (run.info.lifecycle_stage == "active", len(run.data.metrics)))
        for twin in runs[:-1]:
            if twin.info.lifecycle_stage == "active":
                self._client.delete_run(twin.info.run_id)
        info, data = runs[-1].info, runs[-1].data
        deleted = info.lifecycle_stage == "deleted"
        inputs = {(one.dataset.name, one.dataset.digest) for one in runs[-1].inputs.dataset_inputs}
        return Run(info.run_id, info.status, deleted, dict(data.params), dict(data.tags), inputs)

    def _create(self, trial: str | None, portrait: Portrait) -> Run:
        tags = {key: value for key, value in portrait.tags.items() if value}
        if PARENT in self.runs:
            tags["mlflow.parentRunId"] = self.runs[PARENT].id
        run = self._send(self._client.create_run, self._experiment, portrait.started, tags, portrait.name)
        self.runs[trial] = Run(run.info.run_id, run.info.status, False, {}, tags, set())
        return self.runs[trial]


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Return the artifact location next to a sqlite file, or None for a server, which has its own."""
    file = sqlite_file(uri)
    if file is None:
        return None
    return (file.parent / "mlruns" / re.sub(r"[^\w\-.]", "_", experiment)).as_uri()


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Lock a sqlite store while it is opened: if two processes create its tables at once, MLflow fails in both and
    leaves a file that it cannot open again."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_suffix(".lock")):
        yield


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Disable garbage collection during the first import of mlflow, then freeze the objects.

    The import creates so many objects that full collections run several times, for 0.1 to 0.3 s each, which blocks
    all other threads.
    """
    if "mlflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # some libraries report objects that remain at exit as leaks
        gc.enable()


def _silence() -> None:
    """Set the environment variables that mlflow reads, before its first import.

    This affects the whole process, in which no other module uses mlflow.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # the caller retries
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # errors are raised as well
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for library in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"mlflow\.|sqlalchemy\.")
