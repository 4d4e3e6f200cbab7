"""The balance label by its rule, and against what each trial is held."""

import math

import pandas as pd
import pytest

from analysis.load import Study
from analysis.page.labels import COLUMNS, balance, label_trials

NAN = math.nan


@pytest.mark.parametrize(
    "error, active, mmd, label",
    [
        (1.6, 4, 0.0, "over"),
        (1.6, 5, 0.0, "balanced"),  # bad, but not for want of dimensions: 5 is not below .9 * 5
        (1.5, 5, 0.0, "balanced"),
        (1.5, 6, 0.0, "balanced"),  # 1.2 * 5 is not above it
        (1.0, 7, 0.0, "under"),
        (1.0, 8, NAN, "under"),
        (NAN, 5, 0.0, ""),
        (1.0, NAN, 0.0, ""),
    ],
)
def test_the_rule(error, active, mmd, label):
    assert balance(error, active, 8, 1.0, 5, mmd, 0.1) == label


@pytest.mark.parametrize("mmd, label", [(0.31, "under"), (0.29, "balanced"), (NAN, "balanced")])
def test_all_dimensions_in_use_far_from_the_prior_is_under(mmd, label):
    assert balance(1.0, 8, 8, 1.0, 8, mmd, -0.1) == label


STUDIES = {
    "s": Study("s", "vae", "mnist", "valid/fcd", trials=9, epochs=9),
    "t": Study("t", "vae", "mnist", "test/fcd", trials=9, epochs=9),
}


def trial(method, error, active, latent_dim=8, state="complete", network="mlp", **more):
    row = {"study": "s", "dataset": "mnist", "method": method, "state": state}
    row |= {"valid/mse": error, "valid/active_dims": active}
    row |= {"hyper/network": network, "hyper/latent_dim": latent_dim, "valid/mmd_imq": 0.02}
    return row | {"valid/mmd_imq_floor": 0.01, "epochs": 9} | more


def test_trials_are_held_against_the_autoencoder_of_their_size_and_network():
    table = pd.DataFrame(
        [
            trial("gae", 1.0, 8),
            trial("vae", 1.4, 5),  # the fewest dimensions that reconstruct well
            trial("vae", 3.0, 1),
            trial("vae", 0.9, 7),
            trial("vae", 0.1, 2, state="pruned", epochs=1),  # stopped early: no yardstick, and alone of its age
            trial("vae", 1.9, 5, latent_dim=5),  # no autoencoder of 5 dimensions: the best of that size
            trial("vae", 9.0, 3, network="conv"),
        ],
        index=range(10, 17),
    )
    found = label_trials(table, STUDIES)
    assert list(found.columns) == list(COLUMNS) and list(found.index) == list(table.index)
    assert found["balance"].tolist() == ["under", "balanced", "over", "under", "balanced", "balanced", "balanced"]
    assert found.loc[14, "balance_error"] == 1.0
    assert found.loc[12, "balance_error"] == 3.0 and found.loc[12, "balance_active"] == 0.2
    assert found.loc[12, "balance_mmd"] == 2.0 and found.loc[15, "balance_error"] == 1.0


def test_a_stopped_trial_is_held_against_those_that_got_as_far():
    early = {"state": "pruned", "epochs": 1, "valid/mmd_imq": NAN, "valid/mmd_imq_floor": NAN}
    rows = [trial("gae", 2.0, 8, **early), trial("vae", 6.0, 1, **early), trial("gae", 1.0, 8), trial("vae", 1.0, 4)]
    found = label_trials(pd.DataFrame(rows), STUDIES)
    assert found["balance"].tolist() == ["balanced", "over", "under", "balanced"]
    assert found["balance_error"].tolist() == [1.0, 3.0, 1.0, 1.0]


def test_values_on_the_test_split_are_compared_with_each_other_alone():
    """The autoencoder of the other study has a third of the error, on other images."""
    rows = [trial("gae", 1.0, 8), trial("gae", 3.0, 8), trial("vae", 4.0, 4)]
    table = pd.DataFrame(rows)
    on_test = {column: column.replace("valid/", "test/") for column in table if column.startswith("valid/")}
    both = pd.concat([table[:1], table[1:].rename(columns=on_test).assign(study="t")])
    found = label_trials(both, STUDIES)
    assert found["balance"].tolist() == ["balanced", "under", "balanced"]
    assert found["balance_error"].tolist() == pytest.approx([1.0, 1.0, 4 / 3])


def test_a_sweep_without_these_metrics_has_no_labels():
    table = pd.DataFrame({"study": ["s"], "dataset": ["mnist"], "method": ["vae"], "state": ["complete"]})
    assert label_trials(table, STUDIES)["balance"].tolist() == [""]
    assert label_trials(table.assign(state="running"), STUDIES)["balance"].tolist() == [""]
