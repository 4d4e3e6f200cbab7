"""Training lowers each method's loss on real MNIST, at its hand-tuned point, in every stage."""

import math
import tomllib
from importlib.resources import files

import pytest
import torch

import trainables
from trainables.config import Config
from trainables.datasets import load
from trainables.training import Training

pytestmark = pytest.mark.slow

EPOCHS, IMAGES = 6, 250
LOSSES = ("loss", "loss_network", "loss_vae", "loss_autoencoder")  # of whoever plays alone, or has images to learn
AGAINST = {"vae_gan": ("loss_critic",)}  # all others of this one chase its critic, which must get better
SMALL = {"conv_rae_128": "conv_rae_8"}  # for one core


@pytest.fixture(scope="module")
def images(data_root) -> torch.Tensor:
    return torch.tensor(load("mnist", data_root).train.images[:IMAGES])


@pytest.mark.parametrize("name", trainables.names())
def test_losses_fall(name, images):
    points = tomllib.loads((files("search_spaces") / f"{name}.toml").read_text(encoding="utf-8"))["paper"]
    values = next(point["values"] for point in points if "mnist" in point["datasets"])
    values["batch_size"] = min(values["batch_size"], IMAGES // 5)
    values["network"] = SMALL.get(values["network"], values["network"])
    training = Training(Config(method=name, dataset="mnist", values=values, epochs=EPOCHS), images)
    stages: dict[str, list[dict[str, float]]] = {}
    while not training.finished:
        terms = training.run_epoch()
        stages.setdefault(training.stage.name, []).append(terms)
    judged = 0
    for stage, rows in stages.items():
        for loss in AGAINST.get(name, LOSSES):
            if loss in rows[0] and len(rows) > 1:
                judged += 1
                assert math.isfinite(rows[-1][loss]) and rows[-1][loss] < rows[0][loss], (stage, loss, rows)
    assert judged
