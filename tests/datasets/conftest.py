import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """A user's cache of the test's own."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SWEEP_CACHE", str(place))
    return place


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def data_root() -> Path:
    """Where the real data is laid out."""
    if not (root := os.environ.get("SWEEP_TEST_DATA")):
        pytest.skip("needs the real data: set SWEEP_TEST_DATA to a data root")
    return Path(root)
