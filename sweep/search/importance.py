"""Hyperparameter importances by PED-ANOVA, over trials compared at the same epoch.

Trials stopped by successive halving have no value at the full budget, and omitting them would restrict the analysis to
the best region of the space. All trials are therefore compared at the first rung, which each of them reached.

Of few trials, some knob always seems important: with 22 trials, two knobs and values without any relation to them, the
larger share has a median of 81 %. Each importance is therefore compared with those of shuffled values.
"""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from optuna.trial import create_trial

from sweep.record import Trials, read_trials
from sweep.search.study import Spec, distribution, parameter
from trainables.files import whole

IMPORTANCES = "importances.csv"
FEWEST = 20  # minimum number of trials; with fewer, the best quarter is a matter of chance
BEST = 5  # minimum number of trials in the target quantile, as recommended by Optuna
SHUFFLES = 39  # 39 shuffles and the values themselves: 1 in 20 exceeds the second largest by chance
LEVEL = 0.95


class Importance(NamedTuple):
    """share: of all importances; chance: the 95 % quantile of the importance with shuffled values, in the same unit."""

    share: float
    chance: float


def importances(trials: Trials, study: str) -> tuple[int, int, dict[str, Importance]]:
    """Return the epoch of comparison, the number of compared trials and each searched hyperparameter's importance.

    Shares add up to 1. PED-ANOVA (Watanabe, Bansal and Hutter, 2023) measures how far the distribution of a
    hyperparameter among the best trials is from that among all trials. They are empty for fewer than FEWEST trials.
    """
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
    values, chance = [value for value, _ in compared], np.random.default_rng(0)
    found = _divergences(oracle, values)
    shuffled = [_divergences(oracle, chance.permutation(values).tolist()) for _ in range(SHUFFLES)]
    limits = {
        name: float(np.quantile([other[name] for other in shuffled], LEVEL, method="inverted_cdf")) for name in found
    }
    total = sum(found.values()) or 1.0
    return (
        epoch,
        len(compared),
        {name: Importance(divergence / total, limits[name] / total) for name, divergence in found.items()},
    )


def _divergences(oracle: optuna.Study, values: Sequence[float]) -> dict[str, float]:
    """Return each hyperparameter's divergence between the best trials and all, with these values of the trials."""
    from optuna.importance import PedAnovaImportanceEvaluator  # with scikit-learn, which a driver needs at its end only

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is experimental, and says that low values are the best
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, BEST / len(values)))
        return optuna.importance.get_param_importances(
            oracle, evaluator=evaluator, target=lambda trial: values[trial.number], normalize=False
        )


def write_importances(folder: Path) -> None:
    """Write importances.csv into a sweep's folder: study, knob, importance (its share), epoch and number of compared
    trials, and the importance that 95 % of shuffles do not exceed."""
    trials = read_trials(folder)
    with whole(folder / IMPORTANCES) as part, part.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["study", "knob", "importance", "epoch", "trials", "chance"])
        for study in trials.studies:
            epoch, compared, found = importances(trials, study)
            lines.writerows([study, knob, one.share, epoch, compared, one.chance] for knob, one in found.items())
