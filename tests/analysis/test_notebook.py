"""The notebook runs on a sweep's folder and shows what it promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "analysis" / "sweep.ipynb"


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_shows_a_sweep(tmp_path, write_sweep, monkeypatch):
    folder = write_sweep(tmp_path / "s", methods=("vae", "beta_vae"), datasets=("digits",), trials=6)
    monkeypatch.setenv("SWEEP_FOLDER", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kernel = notebook.metadata.kernelspec.name
    assert kernel == "python3"
    NotebookClient(notebook, timeout=50, kernel_name=kernel, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/svg+xml" in o.get("data", {})]
    tables = [o for o in outputs if "text/html" in o.get("data", {})]
    assert len(pictures) == 1 + 2 + 1 + 1  # arrows, parallel coordinates, time, active dimensions
    assert len(tables) == 1
    assert any("comes closest to real digits" in o.get("text", "") for o in outputs)
