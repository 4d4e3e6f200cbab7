"""Small sweeps that need no Ray, and folders of sweeps to begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.config import SweepConfig
from sweep.plan import Plan, plan

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
