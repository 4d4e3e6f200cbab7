"""A sweep that never ran: a record and pictures drawn from simple laws, so that the truth is known.

The distance of a trial grows with how far its hyperparameters lie from an optimum, in decades, and falls with
the epochs; asynchronous halving prunes all but the better half at each rung.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.page import drawing, plots


@pytest.fixture
def undrawn(monkeypatch):
    """The plots of pages stay empty: drawing takes most of a page's time, and others look at the plots."""
    monkeypatch.setattr(drawing, "themed_svg", lambda figure: '<svg role="img"></svg>')
    for name in ("parallel_coordinates", "slices", "surface_of_knobs"):  # the plots of each study that take longest
        monkeypatch.setattr(plots, name, lambda *_, **__: Figure())


START = 1_795_000_000.0  # seconds since 1970
COMMON = {
    "latent_dim": {"choices": [2, 4, 8, 10, 16, 32, 64, 128]},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "batch_size": {"choices": [50, 100, 200, 500]},
    "network": {"value": "mlp_500_500_2000"},
}
SPACES = {
    "vae": COMMON,
    "beta_vae": COMMON | {"beta": {"low": 1e-3, "high": 20.0, "log": True}},
    "wae": COMMON | {"weight": {"low": 1.0, "high": 1e5, "log": True}},
    "rae_l2": COMMON
    | {
        "code_weight": {"low": 1e-5, "high": 1.0, "log": True},
        "decoder_weight": {"low": 1e-7, "high": 1e-1, "log": True},
    },
    "gae": COMMON | {"components": {"choices": [1, 5, 10, 20, 50, 100]}, "covariance": {"choices": ["full", "diag"]}},
}
COMMON_POINT = {"latent_dim": 10, "learning_rate": 1e-3, "batch_size": 100, "network": "mlp_500_500_2000"}
HAND_TUNED = {
    "vae": COMMON_POINT,
    "beta_vae": COMMON_POINT | {"beta": 4.0},
    "wae": COMMON_POINT | {"weight": 200.0},
    "rae_l2": COMMON_POINT | {"code_weight": 7.8e-3, "decoder_weight": 7.8e-5},
    "gae": COMMON_POINT | {"components": 10, "covariance": "full"},
}
BEST_VALUES = {"beta": 0.15, "weight": 5e3, "code_weight": 3e-3, "decoder_weight": 1e-5, "components": 50}
BEST_VALUES |= {"covariance": "full", "learning_rate": 8e-4, "latent_dim": 16, "batch_size": 100}
FLOORS = {"vae": 21.0, "beta_vae": 12.0, "wae": 14.0, "rae_l2": 9.0, "gae": 10.5}  # the best each can do

RECIPE = {"metric": "fcd", "fingerprint": "c55509d9", "n": 5000, "split": "valid", "reference_n": 300}


def write_sweep(
    folder: Path,
    *,
    methods=tuple(SPACES),
    datasets=("digits", "mnist"),
    trials: int = 12,
    epochs: int = 30,
    rungs=(3, 9),
    hand_tuned_diverges=(),
    finished: bool = True,
    pictures: bool = False,
    seed: int = 0,
) -> Path:
    """Write sweeps/<name>/record.jsonl (and PNG grids) as a sweep would, interleaving its studies."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    studies = [
        {
            "study": f"{method}-{dataset}",
            "method": method,
            "dataset": dataset,
            "trials": trials,
            "epochs": epochs,
            "metric": "valid/fcd",
            "rungs": list(rungs),
            "hand_tuned": HAND_TUNED[method],
            "hand_tuned_source": "Ko et al., 2024, section 4",
            "space": SPACES[method],
        }
        for dataset in datasets
        for method in methods
    ]
    clock = START
    events = [
        {
            "time": clock,
            "event": "sweep",
            "sweep": "20261118-091000-5eed",
            "config": {
                "name": folder.name,
                "methods": list(methods),
                "datasets": list(datasets),
                "trials": trials,
                "epochs": epochs,
                "metric": "fcd",
                "seed": 0,
                "split_seed": 0,
                "searcher": "tpe",
                "samples": 5000,
                "tracking_uri": "sqlite:///mlflow.db",
                "set": {"vae": {"latent_dim": 4}},
            },
            "versions": {"python": "3.11.9", "torch": "2.15.0", "ray": "2.60.0", "optuna": "5.0.0"},
            "machine": {"cpu": "2 cores", "gpu": "none", "system": "Linux"},
            "code": "0f3c2a1",
            "studies": studies,
        }
    ]
    reached: dict[tuple[str, int], list[float]] = {}
    for number in range(trials):
        for found in studies:
            name = f"{found['study']}-{number:04d}"
            values = found["hand_tuned"] if number == 0 else _draw(found["space"], chance)
            origin = "paper" if number == 0 else "search"
            clock += 0.5
            events.append({"time": clock, "event": "start", "trial": name, "study": found["study"], "number": number})
            events[-1] |= {"values": values, "origin": origin, "seed": 0, "attempt": 1}
            diverges = found["study"] in hand_tuned_diverges if number == 0 else values["learning_rate"] > 7e-3
            state, rows = _train(found, values, origin, diverges, reached, chance)
            for row in rows:
                clock += 0.9
                events.append({"time": clock, "event": "report", "trial": name, "rows": [row | {"time": clock}]})
            reason = "loss of stage train was nan in epoch 3" if state == "diverged" else ""
            reason = f"among the lower half at epoch {rows[-1]['epoch']}" if state == "pruned" else reason
            events.append({"time": clock + 0.1, "event": "end", "trial": name, "state": state})
            events[-1] |= {"epoch": len(rows), "reason": reason, "worker": {"host": "box", "device": "cpu"}}
    if finished:
        events.append({"time": clock + 1, "event": "finish", "outcome": "done"})
    write_record(folder, events)
    if pictures:
        _draw_pictures(folder, studies)
    return folder


def write_record(folder: Path, events: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def _draw(space: dict, chance: np.random.Generator) -> dict:
    values = {}
    for knob, spec in space.items():
        if "value" in spec:
            values[knob] = spec["value"]
        elif "choices" in spec:
            values[knob] = spec["choices"][chance.integers(len(spec["choices"]))]
        else:
            value = math.exp(chance.uniform(math.log(spec["low"]), math.log(spec["high"])))
            values[knob] = float(f"{value:.4g}")
    return values


def _distance(found: dict, values: dict) -> float:
    """The value of a trial at its last epoch, without noise."""
    decades = 0.0
    for knob, value in values.items():
        if knob not in BEST_VALUES:
            continue
        if isinstance(value, str):
            decades += 0.3 * (value != BEST_VALUES[knob])
        else:
            decades += 0.35 * abs(math.log10(value / BEST_VALUES[knob]))
    harder = {"digits": 1.0, "mnist": 1.6}.get(found["dataset"], 2.5)
    return FLOORS[found["method"]] * harder * math.exp(0.9 * decades)


def _train(found, values, origin, diverges, reached, chance) -> tuple[str, list[dict]]:
    final = _distance(found, values) * math.exp(0.05 * chance.standard_normal())
    weight = values.get("beta", values.get("code_weight", 1.0))
    latent = values["latent_dim"]
    active = max(1, round(latent / (1 + weight / 4)))
    seconds = 0.4 * (1 + 0.05 * latent) * (1.6 if found["method"] == "wae" else 1.0)
    last = 3 if diverges else found["epochs"]
    rows, state = [], "diverged" if diverges else "complete"
    for epoch in range(1, last + 1):
        metrics = {"train/loss": 90 + 120 * math.exp(-epoch / 4), "time/train_seconds": seconds * epoch}
        rung = epoch in found["rungs"] or epoch == found["epochs"]
        if rung and not diverges:
            value = final * (1 + 2.5 * math.exp(-epoch / 5))
            kl = 22.0 / (0.4 + weight)
            metrics |= {
                "valid/fcd": value,
                "valid/fcd_reconstruction": 0.5 * value,
                "valid/mse": 0.012 + 0.02 / (1 + kl / 8) + 0.01 * math.exp(-epoch / 4),
                "valid/active_dims": float(active),
                "time/evaluate_seconds": 0.3 * epoch,
                "speed/images_per_second": 60000 / seconds / 10,
                "model/parameters": 2.4e6,
                "memory/peak_mb": 1800.0,
            }
            if found["method"] in ("vae", "beta_vae"):
                metrics["valid/kl"] = kl
        rows.append({"epoch": epoch, "stage": "train", "metrics": metrics})
        if "valid/fcd" in metrics:
            rows[-1]["recipes"] = {"valid/fcd": RECIPE | {"extractor": f"classifier-{found['dataset']}"}}
        if rung and not diverges and epoch < found["epochs"] and origin == "search":
            others = reached.setdefault((found["study"], epoch), [])
            others.append(value)
            if value > float(np.median(others)):
                state = "pruned"
                break
    if found["epochs"] == last and state == "complete" and chance.random() < 0.03 and origin == "search":
        return "out_of_memory", rows[:-1]
    return state, rows


def _draw_pictures(folder: Path, studies: list[dict]) -> None:
    """Grids of handwritten digits, the noisier the larger a study's distance would be."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits().images / 16.0  # (N, 8, 8)
    chance = np.random.default_rng(1)

    def grid(path: Path, noise: float, pairs: bool = False) -> None:
        cells = digits[chance.integers(len(digits), size=64)]
        if pairs:
            cells[1::2] = cells[::2]
        noisy = slice(1, None, 2) if pairs else slice(None)
        cells[noisy] += noise * chance.standard_normal(cells[noisy].shape)
        cells = np.kron(np.clip(cells, 0, 1), np.ones((4, 4)))
        cells = np.pad(cells, ((0, 0), (1, 1), (1, 1)), constant_values=1.0)
        picture = cells.reshape(8, 8, 34, 34).transpose(0, 2, 1, 3).reshape(272, 272)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * picture).astype(np.uint8)).convert("RGB").save(path)

    for dataset in {found["dataset"] for found in studies}:
        grid(folder / "real" / f"{dataset}.png", 0.0)
    for found in studies:
        hand = math.log(_distance(found, found["hand_tuned"]) / 9) / 6
        for kind, noise in (("hand_tuned", hand), ("winners", math.log(FLOORS[found["method"]] / 8) / 6)):
            grid(folder / kind / found["study"] / "samples.png", noise)
            grid(folder / kind / found["study"] / "reconstructions.png", noise / 2, pairs=True)


CONFIRMED = {  # study -> point -> the distance of each seed, None where the training diverged
    "wae-digits": {"hand-tuned": [300.0, 310.0, 320.0], "tuned 1": [100.0, 110.0, 120.0]},
    "vae-digits": {"hand-tuned": [150.0, 160.0, 140.0]},
    "gae-digits": {"hand-tuned": [15.0, 14.0, 16.0], "tuned 1": [16.0, 13.0, None]},
}
SEARCH_SAID = {"wae-digits": [290.0, 80.0], "vae-digits": [148.0], "gae-digits": [13.5, 11.7]}


def confirm_events(look: int = 1, finished: bool = True) -> list[dict]:
    """The record of a confirmation of three studies with three seeds each."""
    claims, studies, ran = {}, [], []
    for study, found in CONFIRMED.items():
        method = study.partition("-")[0]
        claims[study] = [
            {"point": point, "trial": f"{study}-000{i}", "value": SEARCH_SAID[study][i], "rank": rank}
            for i, (point, rank) in enumerate(zip(found, [None, 1] if len(found) > 1 else [1], strict=True))
        ]
        studies.append({"study": study, "method": method, "dataset": "digits", "metric": "test/fcd", "trials": 6})
        studies[-1] |= {"epochs": 9, "rungs": [], "hand_tuned": {}, "space": {}}
        for seed in range(3):
            for place, point in enumerate(found):
                ran.append((study, seed * len(found) + place, seed + 1, found[point][seed]))
    confirms = {"sweep": "s", "top": 1, "seeds": [1, 2, 3], "points": claims, "look": look}
    events = [{"time": 0.0, "event": "sweep", "sweep": "c", "studies": studies, "confirms": confirms}]
    for study, number, seed, value in ran:
        name = f"{study}-{number:04d}"
        events.append({"time": 1.0, "event": "start", "trial": name, "study": study, "number": number, "seed": seed})
        events[-1] |= {"values": {}, "origin": "paper", "attempt": 1}
        if value is not None:
            metrics = {"test/fcd": value, "test/mse": 0.01, "time/train_seconds": 2.0}
            events.append({"time": 2.0, "event": "report", "trial": name, "rows": [{"epoch": 9, "metrics": metrics}]})
        state = "diverged" if value is None else "complete"
        events.append({"time": 3.0, "event": "end", "trial": name, "state": state, "epoch": 9})
    return events + [{"time": 4.0, "event": "finish", "outcome": "done"}] * finished


@pytest.fixture(name="confirm_events", scope="session")
def _confirm_events():
    return confirm_events


@pytest.fixture(name="write_sweep", scope="session")
def _write_sweep():
    return write_sweep


@pytest.fixture(name="write_record", scope="session")
def _write_record():
    return write_record
