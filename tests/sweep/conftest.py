"""Small sweeps that need no Ray, and folders of sweeps to begin with."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sweep.config import SweepConfig
from sweep.driver.conductor import Conductor
from sweep.driver.process import settings
from sweep.driver.resources import Resources
from sweep.driver.worker import TrialWorker, shared
from sweep.record import Record, read
from sweep.search.plan import Plan, plan
from sweep.search.study import Study
from trainables import Evaluator
from trainables.datasets import load

TINY = {"network": "mlp_8", "latent_dim": 2}


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """The plan of a sweep of tiny networks over the digits; its fields can be changed."""

    def make(**changes) -> Plan:
        fields = {"methods": ["vae", "beta_vae"], "trials": 4, "epochs": 9, "samples": 100, "set": TINY}
        return plan(SweepConfig(**fields | changes))

    return make


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of thirty grey pictures in two classes."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (8, 8), np.uint8)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def begin(tmp_path, make_plan):
    """Opens a record and gives the conductor that goes on from it."""
    opened = []

    def make(folder: Path = tmp_path / "quick", slots: int = 1, **changes) -> Conductor:
        planned = make_plan(**changes)
        for record in opened:
            record.close()
        opened[:] = [record := Record(folder / "record.jsonl")]
        history = read(record.path)
        studies = {s.name: Study(s.spec, planned.config.seed).replay(history) for s in planned.studies}
        entries = [study.spec.to_record() for study in planned.studies]
        opening = record.append("sweep", sweep="s1", config={}, studies=entries)
        resources = Resources(cpus=1, gpus=0.0, slots=slots, ahead=slots + 1, total_gpus=0)
        heard = []
        conductor = Conductor(
            planned, studies, record, [*history, opening], folder, resources, lambda event, _: heard.append(event)
        )
        conductor.heard = heard
        return conductor

    yield make
    for record in opened:
        record.close()


@pytest.fixture
def make_worker(monkeypatch) -> Iterator[Callable[[dict], TrialWorker]]:
    """Workers of described trials in this process, on the digits."""
    restore, terminate = settings(), signal.getsignal(signal.SIGTERM)
    splits = load("digits", "unused")
    evaluator = Evaluator(splits, "fcd", samples=100)
    monkeypatch.setattr(TrialWorker, "_data", lambda self, dataset: (shared(splits.train.images), evaluator))

    def make(described: dict) -> TrialWorker:
        Path(described["folder"]).parent.mkdir(parents=True, exist_ok=True)  # as the driver does
        worker = object.__new__(TrialWorker)  # Ray's own constructor wants Ray
        worker.setup(described, {})
        return worker

    yield make
    signal.signal(signal.SIGTERM, terminate)
    restore(seed=0)
    torch.set_flush_denormal(False)
