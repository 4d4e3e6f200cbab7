"""Writing runs to MLflow so that doing it twice changes nothing. The only module that imports mlflow.

Runs are found again by their tags, parameters and tags are sent only where the server has others, and metric
rows carry the time of the record, of which MLflow keeps one each. MLflow's habits that do not fit a writer in
the background are turned off: retries that block for minutes, chatter, telemetry.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.tracking.address import absolute, sqlite_file
from sweep.tracking.story import PARENT, Measurement, Portrait

# Errors that sending the same again cannot cure.
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"}


class Refused(Exception):
    """The server answers, but will never take this."""


@dataclass
class Run:
    """A run as the server has it."""

    id: str
    status: str
    deleted: bool
    params: dict[str, str]
    tags: dict[str, str]


class Server:
    """The runs of one sweep in one experiment of one MLflow store.

    Raises whatever mlflow raises when the store is away: throw the object away then and make another, which
    looks up what the store really has.
    """

    def __init__(self, uri: str, experiment: str, sweep: str):
        _silence()
        import mlflow

        self._mlflow = mlflow
        self._client = mlflow.MlflowClient(tracking_uri=absolute(uri))
        self._experiment = self._find_experiment(uri, experiment)
        self.runs = self._find_runs(sweep)

    def write(self, trial: str | None, portrait: Portrait, rows: Iterable[Measurement] = ()) -> None:
        """Brings the run of `trial` to its portrait, but for the status, and adds the rows.

        Creates the run if there is none, and leaves it alone if somebody deleted it. Raises Refused.
        """
        run = self.runs.get(trial) or self._create(trial, portrait)
        if run.deleted:
            return
        entities = self._mlflow.entities
        params = {key: value for key, value in portrait.params.items() if key not in run.params}
        tags = {key: value for key, value in portrait.tags.items() if run.tags.get(key, "") != value}
        self._send(
            self._client.log_batch,
            run.id,
            metrics=[entities.Metric(row.key, row.value, row.timestamp, row.step) for row in rows],
            params=[entities.Param(key, value) for key, value in params.items()],
            tags=[entities.RunTag(key, value) for key, value in tags.items()],
        )
        run.params |= params
        run.tags |= tags

    def settle(self, trial: str | None, portrait: Portrait) -> None:
        """Gives the run of `trial` the status of its portrait. Raises Refused."""
        run = self.runs[trial]
        if run.deleted or run.status == portrait.status:
            return
        if portrait.status == "RUNNING":
            self._send(self._client.update_run, run.id, status="RUNNING")
        else:
            self._send(self._client.set_terminated, run.id, portrait.status, portrait.ended)
        run.status = portrait.status

    def attach(self, trial: str | None, files: Iterable[Path], documents: dict[str, Any]) -> None:
        """Uploads files, and dictionaries as JSON under their names. Raises Refused."""
        run = self.runs[trial]
        if run.deleted:
            return
        try:
            for file in files:
                self._client.log_artifact(run.id, str(file))
            for name, content in documents.items():
                self._client.log_dict(run.id, content, name)
        except Exception as error:
            # Artifact stores fail in many ways of their own. If the server lives, it is the file that it
            # does not take, and rows must not wait for it.
            self._client.get_run(run.id)
            raise Refused(f"artifacts: {error}") from error

    def _send(self, call, *args, **kwargs) -> None:
        try:
            call(*args, **kwargs)
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code in _REFUSALS:
                raise Refused(str(error)) from error
            raise

    def _find_experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return self._client.create_experiment(name, _artifact_location(uri, name))
        if found.lifecycle_stage == "deleted":
            raise ValueError(f"the experiment {name!r} was deleted on the server; restore it or name another")
        return found.experiment_id

    def _find_runs(self, sweep: str) -> dict[str | None, Run]:
        found: dict[str | None, Run] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.sweep_id = '{sweep}'",
                run_view_type=self._mlflow.entities.ViewType.ALL,
                max_results=1000,
                page_token=token,
            )
            for run in page:
                self._keep_one(found, run)
            token = page.token
            if not token:
                return found

    def _keep_one(self, found: dict[str | None, Run], run: Any) -> None:
        """A run whose creation was never answered may have been created twice: one of them goes."""
        trial = run.data.tags.get("trial_id", PARENT)
        deleted = run.info.lifecycle_stage == "deleted"
        known = found.get(trial)
        if known is None or known.deleted:
            found[trial] = Run(
                run.info.run_id, run.info.status, deleted, dict(run.data.params), dict(run.data.tags)
            )
        elif not deleted:
            self._client.delete_run(run.info.run_id)

    def _create(self, trial: str | None, portrait: Portrait) -> Run:
        tags = {key: value for key, value in portrait.tags.items() if value}
        if trial is not PARENT:
            tags["mlflow.parentRunId"] = self.runs[PARENT].id
        run = self._client.create_run(self._experiment, portrait.started, tags, portrait.name)
        self.runs[trial] = Run(run.info.run_id, run.info.status, False, {}, tags)
        return self.runs[trial]


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Beside a sqlite file, wherever the program was started; a server knows its own place."""
    file = sqlite_file(uri)
    return file and (file.parent / "mlruns" / re.sub(r"[^\w\-.]", "_", experiment)).as_uri()


def _silence() -> None:
    """Sets what mlflow reads from the environment; to be called before its first import.

    The whole process is affected, and here no other part of it uses mlflow.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # whoever writes here has a patience of his own
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"mlflow\.|sqlalchemy\.")
