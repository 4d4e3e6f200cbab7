"""The notebook runs on the folders of sweeps and shows what it promises, also as a page."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "analysis" / "sweep.ipynb"


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_shows_a_sweep(tmp_path, write_sweep, monkeypatch):
    written = {"datasets": ("digits",), "trials": 6}
    folders = [write_sweep(tmp_path / method, methods=(method,), **written) for method in ("vae", "beta_vae")]
    monkeypatch.setenv("SWEEP_FOLDER", os.pathsep.join(map(str, folders)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kernel = notebook.metadata.kernelspec.name
    assert kernel == "python3"
    NotebookClient(
        notebook, startup_timeout=900, kernel_name=kernel, resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/svg+xml" in o.get("data", {})]
    tables = [o for o in outputs if "text/html" in o.get("data", {})]
    assert len(pictures) == 1 + 2 + 1 + 1  # arrows, parallel coordinates, time, active dimensions
    assert len(tables) == 1
    (said,) = [o["text"] for o in outputs if o.get("text", "").startswith("vae + beta_vae: ")]
    assert "comes closest to real digits" in said
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count("data:image/svg+xml") >= len(pictures) and "comes closest to real digits" in page
