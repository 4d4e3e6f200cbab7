import os
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tensors this small are slowed down by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test reads or fills the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Where the real data is laid out."""
    if not (root := os.environ.get("SWEEP_TEST_DATA")):
        pytest.skip("needs the real data: set SWEEP_TEST_DATA to a data root")
    return Path(root)
