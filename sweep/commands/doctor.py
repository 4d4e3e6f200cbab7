"""Check this machine, a cluster file and the nodes of a cluster before a sweep.

`python -m sweep doctor [cluster.yaml] [flags of sweep/run.py]`.

Prints one line per check. With a cluster file, it checks the requirements of `ray up` on the machine that runs it. With
`--address`, it checks every node of a running cluster and this machine as the driver. Otherwise it checks this machine,
which would run the sweep that the flags describe.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field
from rich.console import Console
from rich.text import Text

from sweep.checks.cluster_file import cluster_file
from sweep.checks.finding import Finding
from sweep.checks.machine import this_machine
from sweep.checks.nodes import every_node
from sweep.config import SweepConfig, from_flags
from sweep.driver.launch import anywhere
from trainables.config import UserPath

COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red"}


class DoctorFlags(SweepConfig):
    """The flags of `doctor` in addition to the configuration."""

    cluster: UserPath | None = Field(None, description="a cluster file to check, too")


def act(flags: DoctorFlags) -> None:
    """Print all findings; exit code 2 if any would break the sweep. Raises ValueError for invalid flags."""
    config = SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields)))
    console, bad = Console(highlight=False, soft_wrap=True), 0
    for found in examine(anywhere(config), flags.cluster):
        console.print(
            Text.assemble((f"{found.verdict:<5}", COLOURS[found.verdict]), f"{found.where:<16} {found.words}")
        )
        bad += found.verdict == "bad"
    if bad:
        console.print(f"{bad} of these would break the sweep")
        raise SystemExit(2)


main = from_flags(DoctorFlags, act, positional=["cluster"])


def examine(config: SweepConfig, cluster: Path | None) -> Iterator[Finding]:
    """Yield all findings, each as soon as it is known."""
    if cluster is not None:
        yield from cluster_file(cluster)
    if cluster is None or config.address is not None:  # otherwise the head, not this machine, runs the driver
        yield from this_machine(config)
    if config.address is not None:
        yield from every_node(config, config.address)
