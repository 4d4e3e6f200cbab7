"""Hyperparameter importances by PED-ANOVA, over trials compared at the same epoch.

Trials stopped by successive halving have no value at the full budget, and omitting them would restrict the analysis to
the best region of the space. All trials are therefore compared at the first rung, which each of them reached.
"""

import csv
import warnings
from pathlib import Path

import optuna
from optuna.trial import create_trial

from sweep.record import Trials, read_trials
from sweep.search.study import Spec, distribution, parameter
from trainables.files import whole

IMPORTANCES = "importances.csv"
FEWEST = 20  # minimum number of trials; with fewer, the best quarter is a matter of chance
BEST = 5  # minimum number of trials in the target quantile, as recommended by Optuna


def importances(trials: Trials, study: str) -> tuple[int, int, dict[str, float]]:
    """Return the epoch of comparison, the number of compared trials and each searched hyperparameter's importance.

    Importances add up to 1. PED-ANOVA (Watanabe, Bansal and Hutter, 2023) measures how far the distribution of a
    hyperparameter among the best trials is from that among all trials. They are empty for fewer than FEWEST trials.
    """
    from optuna.importance import PedAnovaImportanceEvaluator  # with scikit-learn, which a driver needs at its end only

    spec = Spec.from_record(trials.studies[study])
    epoch = min([*trials.studies[study].rungs, spec.epochs])
    searched = spec.space.searched
    compared = []
    for trial in trials.of(study):
        value = trial.rows[epoch].metrics.get(spec.metric) if epoch in trial.rows else None
        inside = all(name in trial.values and dim.contains(trial.values[name]) for name, dim in searched.items())
        if value is not None and inside:
            compared.append((value, {name: parameter(dim, trial.values[name]) for name, dim in searched.items()}))
    if len(compared) < FEWEST or not searched:
        return epoch, len(compared), {}
    space = {name: distribution(dim) for name, dim in searched.items()}
    oracle = optuna.create_study()
    oracle.add_trials([create_trial(params=params, distributions=space, value=value) for value, params in compared])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, BEST / len(compared)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = optuna.importance.get_param_importances(oracle, evaluator=evaluator)
    return epoch, len(compared), {name: float(share) for name, share in shares.items()}


def write_importances(folder: Path) -> None:
    """Write importances.csv into a sweep's folder: study, knob, importance, epoch and number of compared trials."""
    trials = read_trials(folder)
    with whole(folder / IMPORTANCES) as part, part.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["study", "knob", "importance", "epoch", "trials"])
        for study in trials.studies:
            epoch, compared, shares = importances(trials, study)
            lines.writerows([study, knob, share, epoch, compared] for knob, share in shares.items())
