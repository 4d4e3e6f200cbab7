import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or fills the user's own cache."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tensors this small lose more by threads that wait for each other than they gain."""
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def data_root() -> Path:
    """Where the real data is laid out."""
    if not (root := os.environ.get("SWEEP_TEST_DATA")):
        pytest.skip("needs the real data: set SWEEP_TEST_DATA to a data root")
    return Path(root)
