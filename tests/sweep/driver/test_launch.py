"""A sweep from its configuration to its folder, with everything real but Ray."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import yaml

from sweep.config import SweepConfig
from sweep.driver import launch
from sweep.record import CONFIG, RECORD, read


@pytest.fixture
def no_ray(monkeypatch) -> None:
    """An executor whose cluster is up and runs nothing, as if Ctrl-C came at once."""

    @contextmanager
    def cluster(address, resources, stop) -> Iterator[list]:
        stop.ask()
        yield []

    executor = SimpleNamespace(cluster=cluster, run=lambda *_: None)
    monkeypatch.setitem(sys.modules, "sweep.driver.executor", executor)


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_at_once_has_a_record_tables_and_a_report(no_ray, tmp_path):
    config = SweepConfig(
        methods=["vae", "beta_vae"], trials=2, epochs=3, samples=50, set={"network": "mlp_8"}, out=tmp_path, name="s",
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", cpus_per_trial=1,
    )  # fmt: skip
    heard: list[str] = []
    folder = launch.start(config, heard.append)
    opening, finish = read(folder / RECORD)
    assert [entry.study for entry in opening.studies] == ["vae-digits", "beta_vae-digits"]
    assert finish.outcome == "interrupted"
    assert yaml.safe_load((folder / CONFIG).read_text())["epochs"] == 3
    assert (folder / "leaderboard.csv").exists() and (folder / "report.html").exists()
    launch.resume(folder, heard.append)
    assert [event.event for event in read(folder / RECORD)] == ["sweep", "finish"] * 2
    assert [event.resumed for event in read(folder / RECORD)[::2]] == [False, True]
    launch.extend(folder, 3, heard.append)
    assert yaml.safe_load((folder / CONFIG).read_text())["trials"] == 5
