"""What a sweep will read is fetched before it."""

import pytest

from sweep.commands import prefetch
from sweep.config import SweepConfig


def test_prefetch_readies_what_the_sweep_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    output = []
    prefetch.prefetch(SweepConfig(datasets=["digits"], data_root=tmp_path), output.append)
    assert "digits: 1197 + 300 + 300 images of 1 x 8 x 8" in output[0]
    assert any((tmp_path / "cache").rglob("*.*")) and str(tmp_path / "cache") in output[1]


def test_prefetch_without_network_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(ValueError, match=r"cifar10: .*connect to the network"):
        prefetch.prefetch(SweepConfig(datasets=["cifar10"], data_root=tmp_path))
