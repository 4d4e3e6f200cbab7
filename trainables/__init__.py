"""The public API for training and evaluation: `Config`, `fit`, `Report`, `Diverged`, `find`, `load`.

The package runs on its own and does not depend on Ray, Optuna or MLflow.
"""

from trainables.catalog import find, names
from trainables.config import Config
from trainables.evaluate import Evaluation, Evaluator, evaluator_for
from trainables.fit import Report, fit
from trainables.method import Method
from trainables.saved import load, save
from trainables.training import Diverged

__all__ = [
    "Config",
    "Diverged",
    "Evaluation",
    "Evaluator",
    "Method",
    "Report",
    "evaluator_for",
    "find",
    "fit",
    "load",
    "names",
    "save",
]
