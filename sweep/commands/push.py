"""Write a study's winner as the folder of a model hub: card, weights in safetensors, configuration; upload nothing
unless --mlflow is given."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from sweep import tracking
from sweep.commands._arguments import SweepFolder, Switch, TrackingUri
from sweep.commands._ending import say
from sweep.driver import hub, launch
from sweep.driver.job import default_tracking
from trainables.credentials import redact
from trainables.flags import Place, output_folder


def main(
    folder: SweepFolder,
    method: Annotated[str, Parameter(help="method of the winner")],
    /,
    *,
    dataset: Annotated[str | None, Parameter(help="required if the sweep has several")] = None,
    out: Annotated[Place, Parameter(help="folder to write")] = Path("model"),
    mlflow: Annotated[bool, Parameter(help="also log it as a model of its run in MLflow"), Switch] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    config = launch.config_of(folder)  # raises for a folder without a sweep
    uri = tracking_uri or default_tracking(config)
    if mlflow:
        tracking.check(uri)
    output_folder(out, "--out")
    study = hub.write(folder, method, dataset, out)
    if mlflow:
        address = tracking.log_model(folder, study, out, uri, config.experiment)
        return say(f"{out} contains the winner and its card; {redact(uri)} has it as {address}")
    say(f"{out} contains the winner and its card; nothing was uploaded")
    say(f"  to Hugging Face: hf upload USER/NAME {quote(str(out))}")
    say(f"  to MLflow: python -m sweep push {quote(str(folder))} {quote(method)} --mlflow")
