import pytest

from sweep.config import SweepConfig


@pytest.fixture
def config(tmp_path):
    return SweepConfig(out=tmp_path / "sweeps", data_root=tmp_path / "data")


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Leaves an address behind as `ray start` does."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return (tmp_path / "ray" / "ray_current_cluster").write_text
