"""A winner as the folder of a model hub: a card, the weights in safetensors, its configuration and its samples."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from analysis.load import read_sweep
from analysis.page.names import dataset_name, measured, method_name, metric_name
from analysis.recipes import yardsticks
from sweep.driver.winners import find
from sweep.record import WEIGHTS
from trainables.files import whole

CONFIG, SAMPLES = "config.json", "samples.png"


def write(folder: Path, method: str, dataset: str | None, out: Path) -> str:
    """Write the winner of a study of the sweep in `folder` into the new folder `out`; return the name of the study.

    Paths of this machine and pictures of the data set are left out. Raises ValueError if there is no such winner, or
    `out` contains files.
    """
    winner = find(folder, method, dataset)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: exists and is not an empty folder; choose another")
    saved = json.loads((winner / CONFIG).read_text())
    saved["config"].pop("data_root", None)
    drawn = (winner / SAMPLES).exists()
    card = _card(folder, winner.name, saved, drawn)  # raises before anything is written
    out.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, SAMPLES) if drawn else (WEIGHTS,):
        shutil.copyfile(winner / name, out / name)
    with whole(out / CONFIG) as part:
        part.write_text(json.dumps(saved, indent=2) + "\n")
    with whole(out / "README.md") as part:
        part.write_text(card, encoding="utf-8")
    return winner.name


def _card(folder: Path, study: str, saved: dict[str, Any], drawn: bool) -> str:
    sweep = read_sweep(folder)
    about, best = sweep.studies[study], sweep.best(study)
    if best is None:
        raise ValueError(f"{folder}: no trial of {study} is complete; there is no winner to describe")
    name, data = method_name(about.method), dataset_name(about.dataset)
    code = version("autoencoder-sweep")
    metadata = {
        "library_name": "autoencoder-sweep",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["autoencoder", about.method],
        "datasets": [about.dataset],
    }
    values = "\n".join(f"| {key} | {value} |" for key, value in saved["config"]["values"].items())
    ways = yardsticks(sweep, about.dataset, about.metric)
    recipe = "; ".join(f"{key} {value}" for way in ways for key, value in way.items())
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False).strip()}
---

# {name} on {data}

{name} for images of shape {tuple(saved["shape"])}, trained for {saved["config"]["epochs"]} epochs with seed
{saved["config"]["seed"]}: the best of {len(sweep.trials_of(study))} trials of a sweep with autoencoder-sweep {code}.

{metric_name(about.metric)} ({about.metric}), lower is better: **{measured(best["value"])}**. The sweep chose the model
by this value, so the value on other images tends to be higher.

Measured with: {recipe or "not recorded"}.

{f"![Samples]({SAMPLES})" if drawn else ""}

## Use

```python
from trainables import load

model = load("FOLDER")  # this folder
images = model.sample(64)  # (64, C, H, W) in [0, 1]
```

## Hyperparameters

| name | value |
|---|---|
{values}
"""
