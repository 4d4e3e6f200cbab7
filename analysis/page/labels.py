"""Labels of trials as over-regularised, balanced or under-regularised, with the ratios behind them.

The rule is an operational one for dashboards. Its references, the error of an unregularised autoencoder and the
smallest number of active dimensions that reaches it, are computed from all trials of the same data set, network and
number of epochs, so labels are specific to a sweep or to joined sweeps.
"""

import math
from collections.abc import Mapping

import pandas as pd

from analysis.load import Study
from analysis.page.names import bare_method

OVER, BALANCED, UNDER, UNKNOWN = "over", "balanced", "under", ""
UNREGULARISED = ("ae", "gae")  # GAE trains a plain autoencoder and fits a density afterwards
TOLERATED = 1.5  # maximum ratio to the autoencoder's error of a good reconstruction
COLUMNS = ("balance", "balance_error", "balance_active", "balance_mmd")


def balance(
    error: float, active: float, latent_dim: float, error_ae: float, active_ref: float, mmd: float, noise: float
) -> str:
    """Return the label: over for a bad reconstruction from few dimensions, under for a good one from more than needed,
    else balanced.

    error, error_ae: mse; active, active_ref: active dimensions; mmd, noise: MMD between codes and prior, and its noise;
    an mmd of NaN (not measured) counts as not above the noise. Returns "" if any other value is missing.
    """
    if any(math.isnan(value) for value in (error, active, latent_dim, error_ae, active_ref)):
        return UNKNOWN
    if error > TOLERATED * error_ae:
        return OVER if active < 0.9 * active_ref else BALANCED
    far = mmd > 3 * abs(noise)
    return UNDER if active > 1.2 * active_ref or (active == latent_dim and far) else BALANCED


def label_trials(trials: pd.DataFrame, studies: Mapping[str, Study]) -> pd.DataFrame:
    """Return COLUMNS for a table of trials, on its index: the label and the ratios behind it.

    balance_error: mse relative to the autoencoder, the lowest of UNREGULARISED trials with equal latent_dim; if there
    are none, the lowest of all trials with equal latent_dim, which can only make the rule stricter. balance_active:
    active dimensions relative to the smallest number among trials of the same data set, network and epochs with a
    tolerated error. balance_mmd: MMD relative to its noise floor, which is measured only at the end of a trial.
    Complete and stopped trials are labelled, each relative to trials of the same number of epochs, measured on the
    same split.
    """
    table = pd.DataFrame(
        {
            "dataset": trials["dataset"].astype(str),
            "network": _column(trials, "hyper/network", str),
            "latent_dim": _column(trials, "hyper/latent_dim", float),
            "method": trials["method"].astype(str).map(bare_method),
            "epochs": _column(trials, "epochs", float),
            "split": trials["study"].map({name: study.split for name, study in studies.items()}),
            "error": _of_split(trials, studies, "mse"),
            "active": _of_split(trials, studies, "active_dims"),
            "mmd": _of_split(trials, studies, "mmd_imq"),
            "noise": _of_split(trials, studies, "mmd_imq_floor").abs(),
        },
        index=trials.index,
    )
    table = table[trials["state"].isin(["complete", "paused", "pruned"])]
    parts = [_label(group) for _, group in table.groupby(["dataset", "split", "network", "epochs"], dropna=False)]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=list(COLUMNS), dtype="float64")
    found = found.reindex(trials.index)
    return found.assign(balance=found["balance"].astype("str").where(found["balance"].notna(), UNKNOWN))


def _label(group: pd.DataFrame) -> pd.DataFrame:
    """Label the trials of one data set, split and network with the same number of epochs."""
    plain = group[group["method"].isin(UNREGULARISED)].groupby("latent_dim")["error"].min()
    error_ae = group["latent_dim"].map(plain)
    error_ae = error_ae.fillna(group.groupby("latent_dim")["error"].transform("min"))
    active_ref = group["active"][group["error"] <= TOLERATED * error_ae].min()
    rows = [_row(trial, ae, active_ref) for trial, ae in zip(group.to_dict("records"), error_ae, strict=True)]
    return pd.DataFrame(rows, index=group.index, columns=list(COLUMNS))


def _row(trial: Mapping, error_ae: float, active_ref: float) -> dict:
    label = balance(
        trial["error"], trial["active"], trial["latent_dim"], error_ae, active_ref, trial["mmd"], trial["noise"]
    )
    return {
        "balance": label,
        "balance_error": _ratio(trial["error"], error_ae),
        "balance_active": _ratio(trial["active"], active_ref),
        "balance_mmd": _ratio(trial["mmd"], trial["noise"]),
    }


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference else math.nan


def _of_split(trials: pd.DataFrame, studies: Mapping[str, Study], name: str) -> pd.Series:
    """Return the values of a metric on the split of each trial's study."""
    columns = trials["study"].map({study.name: study.column(name) for study in studies.values()})
    values = pd.Series(math.nan, index=trials.index, dtype=float)
    for column in columns.unique():
        values = values.where(columns != column, _column(trials, column, float))
    return values


def _column(trials: pd.DataFrame, name: str, kind: type) -> pd.Series:
    """Return a column of the trials, or an empty one if the sweep has none."""
    if name not in trials:
        return pd.Series("" if kind is str else math.nan, index=trials.index, dtype=kind)
    return trials[name].astype(str) if kind is str else pd.to_numeric(trials[name]).astype("float64")
