"""Which knob mattered: importances by PED-ANOVA, over trials that were all judged at the same epoch.

Trials that successive halving stopped have no value at the full budget, and leaving them out would leave the best
corner of the space alone; so all are held against each other at the first rung, which every one of them reached.
"""

import csv
import warnings
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial

from sweep.record import Trials, read_trials
from sweep.search.study import Spec, distribution, parameter
from trainables.files import whole

IMPORTANCES = "importances.csv"
FEWEST = 20  # trials; of fewer the best quarter is a handful of accidents
BEST = 5  # trials at least in the quantile that is explained, as Optuna's authors advise


def importances(trials: Trials, study: str) -> tuple[int, int, dict[str, float]]:
    """The epoch of comparison, how many trials reached it, and each searched knob's share (they add up to 1).

    PED-ANOVA (Watanabe, Bansal and Hutter, 2023): how far the law of a knob among the best trials is from that among
    all of them.  No shares where fewer than FEWEST trials can be compared.
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
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, BEST / len(compared)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = optuna.importance.get_param_importances(oracle, evaluator=evaluator)
    return epoch, len(compared), {name: float(share) for name, share in shares.items()}


def write_importances(folder: Path) -> None:
    """Writes importances.csv into a sweep's folder: study, knob, importance, epoch and number of trials compared."""
    trials = read_trials(folder)
    with whole(folder / IMPORTANCES) as part, part.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["study", "knob", "importance", "epoch", "trials"])
        for study in trials.studies:
            epoch, compared, shares = importances(trials, study)
            lines.writerows([study, knob, share, epoch, compared] for knob, share in shares.items())
