"""Write a study's winner as the folder of a model hub: card, weights in safetensors, configuration; upload nothing."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import say
from sweep.driver import hub, launch
from trainables.flags import Place, output_folder


def main(
    folder: SweepFolder,
    method: Annotated[str, Parameter(help="method of the winner")],
    /,
    *,
    dataset: Annotated[str | None, Parameter(help="required if the sweep has several")] = None,
    out: Annotated[Place, Parameter(help="folder to write")] = Path("model"),
) -> None:
    launch.config_of(folder)  # raises for a folder without a sweep
    output_folder(out, "--out")
    hub.write(folder, method, dataset, out)
    say(f"{out} contains the winner and its card; nothing was uploaded")
    say(f"  to Hugging Face: hf upload USER/NAME {quote(str(out))}")
    attach = f"mlflow artifacts log-artifacts --local-dir {quote(str(out))} --artifact-path model --run-id RUN"
    say(f"  to an MLflow run: {attach}")
