"""Log a winner to MLflow as a model, whose address gives a sampler."""

import json
from importlib.metadata import version
from pathlib import Path
from shlex import quote

from sweep.record import read_trials
from sweep.tracking.address import check
from sweep.tracking.follow import one_line
from trainables.credentials import redact


def log_model(folder: Path, study: str, saved: Path, uri: str, experiment: str) -> str:
    """Log the winner of a study, saved in the folder `saved`, as a model of its trial's run; return its address.

    Raises ValueError, in one line, if the server is unavailable or has no run of the trial.
    """
    check(uri)
    trials = read_trials(folder)
    best = trials.best(study)
    shape = json.loads((saved / "config.json").read_text())["shape"]
    from sweep.tracking.server import Server  # mlflow takes seconds to import

    try:
        server = Server(uri, experiment, trials.sweep.sweep)
        if best is None or best.name not in server.runs:
            raise ValueError(
                f"has no run of the winner of {study}; add it with: python -m sweep track {quote(str(folder))}"
            )
        requirement = f"autoencoder-sweep=={version('autoencoder-sweep')}"
        return server.log_model(best.name, study, saved, shape, requirement)
    except Exception as error:
        raise ValueError(f"{redact(uri)}: {one_line(error)}") from error
