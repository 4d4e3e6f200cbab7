"""Small sweeps that need no Ray, and folders of sweeps to begin with."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from sweep.config import SweepConfig
from sweep.driver.conductor import Conductor
from sweep.driver.resources import Resources
from sweep.driver.worker import TrialWorker
from sweep.record import Record, read
from sweep.search.plan import Plan, plan
from sweep.search.study import Study
from trainables import Evaluator
from trainables.datasets import load
from trainables.feed import shared
from trainables.global_state import settings

TINY = {"network": "mlp_8", "latent_dim": 2}


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """The plan of a sweep of tiny networks over the digits; its fields can be changed."""

    def make(**changes) -> Plan:
        return plan(configured(**changes))

    return make


def configured(**changes) -> SweepConfig:
    fields = {"methods": ["vae", "beta_vae"], "trials": 4, "epochs": 9, "samples": 100, "set": TINY}
    return SweepConfig(**fields | changes)


@cache  # tests that go on from many records plan the same sweep again and again
def planned_once(config: str) -> Plan:
    return plan(SweepConfig.model_validate_json(config))


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
def begin(tmp_path):
    """Opens a record and gives the conductor that goes on from it."""
    opened = []

    def make(folder: Path = tmp_path / "quick", slots: int = 1, **changes) -> Conductor:
        planned = planned_once(configured(**changes).model_dump_json())
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


@pytest.fixture(scope="session")
def digits_judged() -> tuple[torch.Tensor, Evaluator]:
    """The training images of the digits, and what scores methods on them."""
    splits = load("digits", "unused")
    return shared(splits.train.images), Evaluator(splits, "fcd", samples=100)


@pytest.fixture
def make_worker(monkeypatch, digits_judged) -> Iterator[Callable[[dict], TrialWorker]]:
    """Workers of described trials in this process, on the digits."""
    restore = settings()
    monkeypatch.setattr(TrialWorker, "_data", lambda self, dataset: digits_judged)

    def make(described: dict) -> TrialWorker:
        Path(described["folder"]).parent.mkdir(parents=True, exist_ok=True)  # as the driver does
        worker = object.__new__(TrialWorker)  # Ray's own constructor wants Ray
        worker.setup(described, {})
        return worker

    yield make
    restore(seed=0)
    torch.set_flush_denormal(False)
