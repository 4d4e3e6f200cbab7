"""The papers' notebooks run from their first cell to their last and show the tables of their modules.

They share one kernel, which starts slowly: each runs in what the one before it has left, but for its own settings.
"""

import os
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from analysis.load import PUBLISHED

ROOT = Path(__file__).parents[3]
NOTEBOOKS = ("vg", "regularization", "balancing", "aae")


def trained(method: str, dataset: str, values: dict, epochs: dict[int, dict], seeds: int = 1) -> dict:
    return {"method": method, "dataset": dataset, "values": values, "epochs": epochs, "seeds": seeds}


@pytest.fixture
def record(tmp_path, write_record):
    """The folder of a sweep in which each point was trained once a seed, from (method, data set, values, epochs)."""

    def write(name: str, *points: dict, **config) -> str:
        studies, events = {}, []
        for point in points:
            study = f"{point['method']}-{point['dataset']}"
            about = {"study": study, "method": point["method"], "dataset": point["dataset"], "metric": "valid/fid"}
            space = {knob: {"value": value} for knob, value in point["values"].items()}
            about |= {"trials": 9, "epochs": max(point["epochs"]), "hand_tuned": point["values"], "space": space}
            studies.setdefault(study, about)
            for seed in range(point["seeds"]):
                number = sum(event.get("study") == study for event in events)
                start = {"event": "start", "study": study, "number": number, "values": point["values"], "seed": seed}
                trial = {"trial": f"{study}-{number:04d}"}
                found = [{"epoch": e, "stage": "train", "metrics": dict(m)} for e, m in point["epochs"].items()]
                found[-1]["metrics"]["valid/fid"] += seed
                events += [
                    start | trial | {"origin": "paper", "attempt": 1},
                    {"event": "report", "rows": found} | trial,
                    {"event": "end", "state": "complete", "reason": ""} | trial,
                ]
        opening = {"event": "sweep", "sweep": name, "config": config, "studies": list(studies.values())}
        return str(write_record(tmp_path / name, [{"time": float(i), **e} for i, e in enumerate([opening, *events])]))

    return write


@pytest.fixture
def settings(record, tmp_path, monkeypatch):
    """The environment of the notebooks: sweeps and files of known numbers; VG's are those of analysis/measured."""
    end = {"valid/fid": 70.0, "valid/fid_prior": 80.0, "valid/fid_reconstruction": 50.0, "valid/mse": 0.004}
    end |= {"valid/fid_second_normalised": 63.0, "valid/var_law": 0.9, "valid/var_law_sd": 0.95, "valid/gamma": 0.002}
    point = {"network": "resnet_3_1_32", "latent_dim": 64, "learning_rate": 1e-4, "l2": "off"}
    stages = [
        trained("two_stage_vae", "cifar10", point | {"gamma_rule": rule}, {700: end})
        for rule in ("computed", "learned")
    ]
    plus = {"valid/fid": 47.5, "valid/fid_prior": 64.8, "valid/fid_reconstruction": 45.6}
    sigma = {e: {f"valid/sigma_{q}": 0.9 / e for q in ("q05", "q50", "q95")} | {"valid/code_std": 1.0} for e in (1, 90)}
    sigma[90] |= {"valid/fid": 70.0}
    systems = [trained(method, "mnist", {"latent_dim": 10}, sigma, 3) for method in ("aae", "iaae_kld", "iaae_niter")]
    prints = [pd.read_csv(PUBLISHED / f"regularization_table{table}.csv").assign(epoch=7) for table in (1, 2)]
    prints.append(prints[0][prints[0]["metric"] == "# Active"].assign(metric="KL"))
    looks = pd.concat(prints).assign(dataset="mnist").drop_duplicates(["method", "variant", "metric"])
    looks.to_csv(tmp_path / "looks.csv", index=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BALANCING_SWEEPS", record("stages", *stages))
    monkeypatch.setenv("AAE_SWEEPS", record("systems", *systems, image_size=32, channels=3))
    monkeypatch.setenv(
        "REGULARIZATION_SWEEPS", record("plus", trained("vae_plus", "celeba128", {"latent_dim": 64}, {100: plus}))
    )
    monkeypatch.setenv("REGULARIZATION_FILES", str(tmp_path / "looks.csv"))
    about = {"table": 1, "dataset": "mnist", "method": "VAE", "variant": "kappa=2", "posterior_variance": 0.5}
    followed = [{**about, "epoch": e, "latent": j, "code_variance": 0.4} for e in (0.5, 1, 2) for j in range(2)]
    pd.DataFrame(followed).to_csv(tmp_path / "latents.csv", index=False)
    monkeypatch.setenv(
        "BALANCING_FILES", os.pathsep.join(str(tmp_path / f"{name}.csv") for name in ("looks", "latents"))
    )
    images = {name: np.zeros((10, 1, 8, 8), np.uint8) for name in ("image", "seen", "reconstruction", "sample")}
    labels = {"codes": np.random.default_rng(0).normal(size=(50, 3)), "labels": np.arange(50) % 10}
    which = {"method": "MLP VAE-GAN", "variant": "with BatchNorm", "epochs": 10}
    np.savez(tmp_path / "vg_bn.npz", **images, **labels, **which)
    monkeypatch.setenv("VG_PICTURES", str(tmp_path / "vg_bn.npz"))


def read(name: str):
    return nbformat.read(ROOT / "analysis" / "papers" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_of_a_paper_is_kept_without_outputs(name):
    for cell in read(name).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebooks_of_the_papers_show_their_tables(settings, tmp_path):
    whole, ends = read(NOTEBOOKS[0]), {}
    whole.cells = []
    for name in NOTEBOOKS:
        whole.cells += read(name).cells
        ends[name] = len(whole.cells)
    for place, cell in enumerate(whole.cells):
        cell.id = f"cell-{place}"
    NotebookClient(whole, startup_timeout=900, resources={"metadata": {"path": tmp_path}}).execute()
    shown, start = {}, 0
    for name, end in ends.items():
        outputs = [output for cell in whole.cells[start:end] for output in cell.get("outputs", [])]
        said = "".join(output.get("text", "") for output in outputs)
        kinds = ("text/html", "image/svg+xml")
        shown[name] = [sum(kind in o.get("data", {}) for o in outputs) for kind in kinds]
        assert {"vg": "VAE-GAN", "aae": "AAE"}.get(name, name.capitalize()) in said  # what is known against the print
        start = end
    # VG: all four tables in one and as lines, pictures, codes. Regularization: Table 1, orderings, controls, 2 and 3.
    # Balancing: ratios of ours, of both gammas and in print, then Tables 1, 2 and 5; Figures 2, 4 and 5. AAE: signs,
    # noise, sigma; Figure 9, both halves of 10, samples.
    assert shown == {"vg": [1, 3], "regularization": [5, 2], "balancing": [6, 3], "aae": [3, 4]}
