"""The code of a winner in MLflow: it loads the weights, which are safetensors, and samples images.

MLflow copies this file into the model and runs it when the model is loaded ("models from code"), so nothing is pickled.
"""

from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from trainables import load


class Sampler(PythonModel):
    """`predict` maps a number n of images, {"n": [64]}, to images in [0, 1], (n, C, H, W)."""

    def load_context(self, context: Any) -> None:
        self.model = load(context.artifacts["model"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow would check hints
        seed = (params or {}).get("seed", 0)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.model.sample(int(model_input["n"][0])).numpy()


set_model(Sampler())
