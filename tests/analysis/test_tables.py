"""Leaderboards against small tables worked out by hand."""

import math
import re

import pandas as pd
import pytest

from analysis.load import read_sweep
from analysis.page.labels import label_trials
from analysis.page.report import render
from analysis.tables import (
    LEADERBOARD_COLUMNS,
    PROFILED,
    USES,
    cautions,
    count_words,
    headline,
    is_lower,
    leaderboard,
    leaderboard_text,
    networks_words,
    replace,
    write_tables,
)

SPACE = {
    "beta": {"low": 0.01, "high": 10, "log": True},
    "lr": {"low": 1e-4, "high": 1e-2},
    "act": {"value": "relu"},
}
POINT = {"beta": 4, "lr": 1e-3, "act": "relu"}


UNKNOWN = {"train_seconds_hand_tuned", "noise", "floor", "train_images", "steps"}  # where a record says nothing of them


class Written:
    """A record in the making: studies, then trials with their end."""

    def __init__(self, *studies: tuple[str, str]):
        described = [
            {"study": f"{m}-{d}", "method": m, "dataset": d, "trials": 4, "epochs": 2, "metric": "valid/fcd"}
            | {"hand_tuned": POINT, "space": SPACE}
            for m, d in studies
        ]
        self.events = [{"time": 0.0, "event": "sweep", "sweep": "id", "studies": described}]
        self.clock = 0.0

    def trial(self, study: str, number: int, state: str | None, value: float | None = None, **found) -> "Written":
        name, metrics = f"{study}-{number:04d}", found.get("metrics", {})
        values = POINT | found.get("values", {})
        self.events.append({"time": self.clock, "event": "start", "trial": name, "study": study, "number": number})
        self.events[-1] |= {
            "values": values,
            "origin": "search" if number else "paper",
            "seed": 0,
            "attempt": 1,
        }
        self.clock += 10.0
        metrics = metrics | ({} if value is None else {"valid/fcd": value})
        row = {"epoch": 2, "stage": "train", "metrics": metrics}
        self.events.append({"time": self.clock, "event": "report", "trial": name, "rows": [row]})
        if state:
            self.events.append({"time": self.clock, "event": "end", "trial": name, "state": state, "epoch": 2})
        return self


def board_of(found: Written, tmp_path, write_record) -> pd.DataFrame:
    return leaderboard(read_sweep(write_record(tmp_path / "s", found.events)))


def test_a_study_in_one_row(tmp_path, write_record):
    found = (
        Written(("beta_vae", "mnist"))
        .trial("beta_vae-mnist", 0, "complete", 20.0, metrics={"valid/mse": 0.5, "valid/active_dims": 3.0})
        .trial("beta_vae-mnist", 1, "pruned", 1.0)  # low, but of an early epoch: it must not win
        .trial(
            "beta_vae-mnist",
            2,
            "complete",
            15.0,
            values={"beta": 0.12, "lr": 4e-4},
            metrics={
                "valid/mse": 0.4,
                "valid/active_dims": 9.0,
                "time/train_seconds": 8.0,
                "model/parameters": 5e3,
                "speed/images_per_second": 70.0,
                "memory/peak_mb": 812.0,
                "valid/probe_error": 0.1,
                "valid/fcd_kid": 0.5,
            },
        )
        .trial("beta_vae-mnist", 3, "out_of_memory")
        .trial("beta_vae-mnist", 4, "diverged", 2.0)
        .trial("beta_vae-mnist", 5, None, 0.5)
    )
    board = board_of(found, tmp_path, write_record)
    assert tuple(board.columns) == LEADERBOARD_COLUMNS
    (row,) = board.to_dict("records")
    untold = {f"{name}_{point}" for name in USES for point in ("hand_tuned", "tuned")} - {"probe_error_tuned"}
    unfitted = set(PROFILED) - {"knob", "knob_hand_tuned", "optimum_is"}
    assert all(math.isnan(row.pop(name)) for name in untold | unfitted | UNKNOWN)
    assert row == {
        "study": "beta_vae-mnist",
        "method": "beta_vae",
        "dataset": "mnist",
        "metric": "valid/fcd",
        "hand_tuned": 20.0,
        "tuned": 15.0,
        "difference": -5.0,
        "improvement_percent": 25.0,
        "own_metric": False,
        "changed": "beta 4 → 0.12, lr 1e-3 → 4e-4",
        "hand_tuned_state": "complete",
        "hand_tuned_trial": "beta_vae-mnist-0000",
        "tuned_trial": "beta_vae-mnist-0002",
        "tuned_origin": "search",
        "tuned_runs": 1,
        "mse_hand_tuned": 0.5,
        "mse_tuned": 0.4,
        "active_dims_hand_tuned": 3.0,
        "active_dims_tuned": 9.0,
        "train_seconds_tuned": 8.0,
        "network": "",
        "parameters": 5e3,
        "epoch_seconds": 4.0,
        "images_per_second": 70.0,
        "peak_mb": 812.0,
        "carried": "",
        "collapsed": False,
        "memorised": False,
        "kernel_distance": 0.5,
        "probe_error_tuned": 0.1,
        "knobs_searched": 2,
        "trials": 6,
        "searched": 5,
        "complete": 2,
        "pruned": 1,
        "diverged": 1,
        "failed": 0,
        "out_of_memory": 1,
        "preempted": 0,
        "unfinished": 1,
        "times_preempted": 0,
        "times_out_of_memory": 1,
        "times_failed": 0,
        "worker_seconds": 60.0,
        "recipe": "",
        "balance_hand_tuned": "",
        "balance_tuned": "",
        "knob": "beta",
        "knob_hand_tuned": 4.0,
        "optimum_is": "too few trials",
    }


def test_networks_that_differ_between_ranked_rows_are_named_above_them():
    rows = pd.DataFrame(
        {
            "method": ["vae", "aae", "gae", "wae"],
            "network": ["mlp_9", "mlp_aae", "mlp_9", ""],
            "tuned": [1.0, 2.0, 3.0, float("nan")],  # the last is not ranked
        }
    )
    assert "ranked together: VAE and GAE mlp_9; AAE mlp_aae (" in networks_words(rows)
    assert networks_words(rows.iloc[[0, 2, 3]]) == ""


@pytest.mark.parametrize(("number", "words"), [(1.913e6, "1.91 M"), (23_400.0, "23.4 k"), (87.31, "87.3")])
def test_large_counts(number, words):
    assert count_words(number) == words


def test_a_hand_tuned_point_of_others_is_called_carried_over(tmp_path, write_record):
    found = Written(("vae", "mnist"))
    found.trial("vae-mnist", 0, "complete", 20.0)
    for study in found.events[0]["studies"]:
        study["hand_tuned_carried"] = "from cifar10"
    text = leaderboard_text(board_of(found, tmp_path, write_record))
    assert "20.0 carried over" in text and "carried-over point kept" in text


def test_a_leaderboard_fits_a_narrow_terminal_and_keeps_what_changed(tmp_path, write_record):
    found = Written(("beta_vae", "mnist"))
    found.trial("beta_vae-mnist", 0, "complete", 20.0)
    found.trial("beta_vae-mnist", 1, "complete", 10.0, values={"beta": 0.5, "lr": 3e-3, "act": "gelu_tanh"})
    board = board_of(found, tmp_path, write_record)
    whole = leaderboard_text(board)
    assert leaderboard_text(board, max(map(len, whole.splitlines()))) == whole
    for width in (50, 80, 100):
        text = leaderboard_text(board, width)
        assert max(map(len, text.splitlines())) <= width
        assert "beta 4 → 0.5, lr 1e-3 → 3e-3, act relu → gelu_tanh" in " ".join(text.split())
        assert "−50 %" in text


def test_the_networks_of_a_leaderboard_fit_a_narrow_terminal(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    for study in ("vae-mnist", "gae-mnist"):
        found.trial(study, 0, "complete", 20.0)
    board = board_of(found, tmp_path, write_record).assign(network=["mlp_500_500_2000", "shared_16"])
    text = leaderboard_text(board, 60)
    assert max(map(len, text.splitlines())) <= 60
    assert "Networks differ, so method and network are ranked together:" in " ".join(text.split())


def test_attempts_that_continued_are_distinct_from_the_end_of_a_trial(tmp_path, write_record):
    found = Written(("vae", "mnist"))
    found.trial("vae-mnist", 0, "complete", 20.0).trial("vae-mnist", 1, "out_of_memory").trial("vae-mnist", 2, "failed")
    setbacks = [("vae-mnist-0000", "preempted")] * 2 + [("vae-mnist-0001", "out_of_memory")]
    lost = [{"time": 5.0, "event": "lost", "trial": trial, "state": state} for trial, state in setbacks]
    found.events.extend(lost)
    board = board_of(found, tmp_path, write_record)
    row = board.iloc[0]
    assert (row["times_preempted"], row["times_out_of_memory"], row["times_failed"]) == (2, 2, 1)
    words = "3: 1 complete, 1 failed, 1 out of memory (attempts: 2 preempted, 1 out of memory)"
    assert words in leaderboard_text(board)


def test_the_balance_of_both_points_stands_in_the_row(tmp_path, write_record):
    good, bad = ({"valid/mse": mse, "valid/active_dims": active} for mse, active in ((0.1, 10.0), (0.4, 2.0)))
    found = Written(("beta_vae", "mnist"))
    found.trial("beta_vae-mnist", 0, "complete", 20.0, values={"latent_dim": 16}, metrics=bad)
    found.trial("beta_vae-mnist", 1, "complete", 15.0, values={"latent_dim": 16}, metrics=good)
    (row,) = board_of(found, tmp_path, write_record).to_dict("records")
    assert (row["balance_hand_tuned"], row["balance_tuned"]) == ("over", "balanced")
    sweep = read_sweep(tmp_path / "s")
    assert "over → balanced" in render(sweep)


def test_a_hand_tuned_point_that_stays_the_best_changes_nothing(tmp_path, write_record):
    found = Written(("vae", "mnist")).trial("vae-mnist", 0, "complete", 20.0).trial("vae-mnist", 1, "complete", 30.0)
    (row,) = board_of(found, tmp_path, write_record).to_dict("records")
    assert (row["difference"], row["improvement_percent"], row["changed"]) == (0.0, 0.0, "")
    assert "hand-tuned point kept" in leaderboard_text(pd.DataFrame([row]))


def test_a_second_point_of_the_paper_is_not_sold_as_found(tmp_path, write_record):
    found = Written(("beta_vae", "mnist")).trial("beta_vae-mnist", 0, "complete", 20.0)
    found.trial("beta_vae-mnist", 1, "complete", 10.0, values={"beta": 0.1})
    found.events[-3]["origin"] = "paper"
    board = board_of(found, tmp_path, write_record)
    assert (board["hand_tuned"].iloc[0], board["tuned_origin"].iloc[0]) == (20.0, "paper")
    assert "beta 4 → 0.1 (another hand-tuned point)" in leaderboard_text(board)
    assert headline(board) == "BetaVAE has fcd 10.0 on MNIST."  # nothing was searched
    found.events[-3]["origin"] = "warm"
    assert "beta 4 → 0.1 (of an earlier sweep)" in leaderboard_text(board_of(found, tmp_path, write_record))
    found.events[-3]["origin"] = "paper"
    found.trial("beta_vae-mnist", 2, "complete", 15.0)
    assert headline(board_of(found, tmp_path, write_record)).endswith("no lower value than a hand-tuned point's.")


def test_runs_of_one_point_are_averaged_for_the_lowest_of_them_is_but_lucky(tmp_path, write_record):
    found = Written(("beta_vae", "mnist"))
    for number, (value, values) in enumerate(((20.0, {}), (11.0, {"beta": 0.1}), (10.0, {}), (13.0, {"beta": 0.1}))):
        found.trial("beta_vae-mnist", number, "complete", value, values=values)
    for event in found.events:
        if event["event"] == "start":
            event["origin"] = "paper"
    board = board_of(found, tmp_path, write_record)
    row = board.iloc[0]
    assert (row["hand_tuned"], row["tuned"], row["tuned_runs"]) == (15, 12, 2)
    assert row["tuned_trial"] == "beta_vae-mnist-0001"
    assert "beta 4 → 0.1 (another hand-tuned point), mean of 2 runs" in leaderboard_text(board)
    (cells,) = re.findall(r'<tr><th scope="row">beta</th>(.*?)</tr>', render(read_sweep(tmp_path / "s")))
    assert re.findall(r"<td[^>]*>([^<]*)</td>", cells)[1:] == ["4", "0.1"]
    first = next(event for event in found.events if event["event"] == "end")
    first["state"] = "diverged"  # the other run of the hand-tuned point has a value
    row = board_of(found, tmp_path / "diverged", write_record).iloc[0]
    assert (row["hand_tuned"], row["hand_tuned_state"], row["tuned"]) == (10, "diverged", 10)
    same = Written(("vae", "mnist")).trial("vae-mnist", 0, "complete", 20.0).trial("vae-mnist", 1, "complete", 10.0)
    same.events[-3]["origin"] = "paper"
    board = board_of(same, tmp_path / "same", write_record)
    assert board["improvement_percent"].iloc[0] == 0
    assert "hand-tuned point, mean of 2 runs" in leaderboard_text(board)


def test_a_diverged_hand_tuned_point_is_shown_and_not_compared(tmp_path, write_record):
    found = Written(("vae", "mnist")).trial("vae-mnist", 0, "diverged", 99.0).trial("vae-mnist", 1, "complete", 30.0)
    board = board_of(found, tmp_path, write_record)
    row = board.iloc[0]
    assert row["hand_tuned_state"] == "diverged"
    assert math.isnan(row["hand_tuned"])
    assert math.isnan(row["improvement_percent"])
    assert row["tuned"] == 30.0
    line = leaderboard_text(board).splitlines()[-1]
    assert line.split()[:4] == ["VAE", "diverged", "30.0", "–"]
    assert headline(board) == "VAE has fcd 30.0 on MNIST."


def test_a_study_without_a_complete_trial_comes_last(tmp_path, write_record):
    found = (
        Written(("vae", "mnist"), ("gae", "mnist"), ("wae", "mnist"))
        .trial("vae-mnist", 0, "pruned", 3.0)
        .trial("gae-mnist", 0, "complete", 40.0)
        .trial("wae-mnist", 0, "complete", 30.0)
    )
    board = board_of(found, tmp_path, write_record)
    assert board["method"].tolist() == ["wae", "gae", "vae"]
    text = leaderboard_text(board)
    assert "none complete" in text.splitlines()[-1]
    assert "1: 1 pruned" in text


def test_data_sets_stay_in_the_order_of_the_sweep(tmp_path, write_record):
    found = Written(("vae", "svhn"), ("vae", "digits"), ("gae", "svhn"))
    found.trial("vae-svhn", 0, "complete", 9.0).trial("gae-svhn", 0, "complete", 5.0)
    found.trial("vae-digits", 0, "complete", 1.0)
    board = board_of(found, tmp_path, write_record)
    assert board["study"].tolist() == ["gae-svhn", "vae-svhn", "vae-digits"]


def test_the_headline_says_who_is_closest_and_what_tuning_bought(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"), ("vae", "digits"), ("gae", "digits"))
    for study, hand, tuned in (
        ("vae-mnist", 20.0, 10.0),
        ("gae-mnist", 12.0, 11.0),
        ("vae-digits", 8.0, 8.0),
        ("gae-digits", 9.0, 6.0),
    ):
        found.trial(study, 0, "complete", hand).trial(study, 1, "complete", tuned)
    assert headline(board_of(found, tmp_path, write_record)) == (
        "VAE comes closest to real MNIST (fcd 10.0), GAE to real digits (fcd 6.00). The search found a "
        "lower value than the hand-tuned point's in 3 of 4 studies, most for VAE on MNIST: 20.0 → 10.0, "
        "one training each."
    )


def test_the_headline_of_one_gain_has_no_most(tmp_path, write_record):
    found = Written(("vae", "mnist")).trial("vae-mnist", 0, "complete", 20.0).trial("vae-mnist", 1, "complete", 10.0)
    words = "a lower value than the hand-tuned point's in 1 study, that of VAE: 20.0 → 10.0, one training each."
    board = board_of(found, tmp_path, write_record)
    assert headline(board).endswith(words)
    assert headline(board, "No gain.") == "VAE has fcd 10.0 on MNIST. No gain."
    assert headline(board, "No gain.", {"mnist": "It is GAE."}) == "It is GAE. No gain."


@pytest.mark.parametrize(("spread", "told_apart"), [(3.0, False), (1.0, True)])
def test_the_headline_names_no_winner_within_the_noise_of_few_held_out_images(
    tmp_path, write_record, spread, told_apart
):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    found.events[0]["resolutions"] = {"mnist": {"n": 54, "spread": spread, "words": "54 are few"}}
    for study, hand, tuned in (("vae-mnist", 172.0, 172.0), ("gae-mnist", 171.5, 170.0)):
        found.trial(study, 0, "complete", hand).trial(study, 1, "complete", tuned)
    board = board_of(found, tmp_path, write_record)
    assert board["noise"].tolist() == [spread, spread]
    assert headline(board) == (
        "GAE comes closest to real MNIST (fcd 170). "
        "The search found a lower value than the hand-tuned point's in 1 of 2 studies, that of GAE: 172 → 170, "
        "one training each."
        if told_apart
        else "On MNIST GAE and VAE cannot be told apart (fcd 170 to 172, ± 3.00 with other held-out images). "
        "The search found no lower value than a hand-tuned point's by more than another draw of the held-out images "
        "would change it."
    )


FAR = "On MNIST samples of all methods are far from real images: fcd 172 at best, where the training images have 50.0."
BELOW = "On MNIST the lowest fcd (172) is below that of the training images (180){}: judge by the samples, too."
OWN = ", which the metric's network was trained on"


@pytest.mark.parametrize(
    ("floor", "own", "said"),
    [
        (50.0, {"own": True}, [FAR]),
        (60.0, {"own": True}, []),
        (180.0, {"own": True}, [BELOW.format(OWN)]),
        (180.0, {"own": False}, [BELOW.format("")]),
        (180.0, {}, [BELOW.format("")]),  # a record that does not say
    ],
)
def test_cautions_compare_the_closest_samples_with_the_training_images(floor, own, said, tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    found.events[0]["resolutions"] = {"mnist": {"n": 54, "floor": floor, "spread": 3.0, "words": "54 are few"} | own}
    found.trial("vae-mnist", 0, "complete", 172.0).trial("gae-mnist", 0, "complete", 200.0)
    board = board_of(found, tmp_path, write_record)
    assert board["floor"].tolist() == [floor, floor] and cautions(board) == said


def test_of_many_methods_that_cannot_be_told_apart_the_headline_names_a_few(tmp_path, write_record):
    methods = ("vae", "gae", "wae", "aae", "beta_vae", "rae_l2")
    found = Written(*((method, "mnist") for method in methods))
    found.events[0]["resolutions"] = {"mnist": {"n": 54, "spread": 30.0, "words": "54 are few"}}
    for i, method in enumerate(methods):
        found.trial(f"{method}-mnist", 0, "complete", 100.0 + i)
    words = headline(board_of(found, tmp_path, write_record))
    assert words.startswith("On MNIST VAE, GAE, WAE-MMD and 3 others cannot be told apart (fcd 100 to 105, ")


def test_the_headline_counts_only_gains_beyond_the_noise_and_says_so(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    found.events[0]["resolutions"] = {"mnist": {"n": 54, "spread": 3.0, "words": "54 are few"}}
    for study, hand, tuned in (("vae-mnist", 172.0, 170.5), ("gae-mnist", 171.5, 100.0)):
        found.trial(study, 0, "complete", hand).trial(study, 1, "complete", tuned)
    assert headline(board_of(found, tmp_path, write_record)).endswith(
        "found a lower value than the hand-tuned point's, by more than another draw of the held-out images would "
        "change it, in 1 of 2 studies, that of GAE: 172 → 100, one training each."
    )


def test_the_headline_names_a_double_winner_once(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("vae", "digits"), ("gae", "mnist"), ("gae", "digits"))
    found.trial("vae-mnist", 0, "complete", 2.0).trial("vae-digits", 0, "complete", 3.0)
    assert headline(board_of(found, tmp_path, write_record)) == "VAE has fcd 2.00 on MNIST and fcd 3.00 on digits."
    found.trial("gae-mnist", 0, "complete", 4.0).trial("gae-digits", 0, "complete", 4.0)
    assert headline(board_of(found, tmp_path, write_record)) == (
        "VAE comes closest to real MNIST (fcd 2.00) and digits (fcd 3.00)."
    )


@pytest.mark.parametrize(
    ("spread", "said"),
    [
        (None, "On MNIST VAE and GAE have the same fcd (10.0)."),
        (3.0, "On MNIST VAE and GAE cannot be told apart (fcd 10.0, ± 3.00 with other held-out images)."),
    ],
)
def test_equal_values_have_no_winner(spread, said, tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    if spread:
        found.events[0]["resolutions"] = {"mnist": {"n": 54, "spread": spread}}
    found.trial("vae-mnist", 0, "complete", 10.0).trial("gae-mnist", 0, "complete", 10.0)
    assert headline(board_of(found, tmp_path, write_record)) == said


@pytest.mark.parametrize(
    ("hand", "tuned", "said"),
    [
        (-0.001, -0.002, "a lower value than the hand-tuned point's in 1 study, that of VAE: -0.00100 → -0.00200, "),
        (0.0, -0.002, "a lower value than the hand-tuned point's in 1 study, that of VAE: 0.00 → -0.00200, "),
        (-0.001, 0.002, "no lower value than a hand-tuned point's."),
    ],
)
def test_a_hand_tuned_value_that_is_not_positive_has_no_percentage(hand, tuned, said, tmp_path, write_record):
    """An unbiased kernel distance can be negative."""
    found = Written(("vae", "mnist")).trial("vae-mnist", 0, "complete", hand).trial("vae-mnist", 1, "complete", tuned)
    board = board_of(found, tmp_path, write_record)
    assert math.isnan(board["improvement_percent"].iloc[0]) and "%" not in leaderboard_text(board)
    assert said in headline(board)
    (row,) = board.itertuples()
    assert is_lower(row) == (tuned < hand)


def test_a_search_that_found_only_slightly_lower_values_says_by_how_much(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    found.trial("vae-mnist", 0, "complete", 10.0).trial("vae-mnist", 1, "complete", 9.96)
    found.trial("gae-mnist", 0, "complete", 20.0)
    board = board_of(found, tmp_path, write_record)
    assert headline(board).endswith("found no lower value than a hand-tuned point's by more than 0.5 %.")
    found.trial("gae-mnist", 1, "complete", 15.0)
    words = "lower value than the hand-tuned point's, by more than 0.5 %, in 1 of 2 studies, that of GAE: 20.0 → 15.0"
    assert words in headline(board_of(found, tmp_path, write_record))


@pytest.mark.parametrize(
    ("images", "batch", "split", "few"),
    [(540, 100, "valid", True), (540, 100, "test", True), (60_000, 100, "valid", False)],
)
def test_cautions_say_what_makes_a_comparison_mean_little(images, batch, split, few, tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    found.events[0] |= {"data": {"mnist": {"train": images, "valid": 60}}, "config": {"split": split}}
    found.trial("vae-mnist", 0, "complete", 2.0, values={"batch_size": batch}, metrics={"flag/collapsed": 1.0})
    found.trial(
        "gae-mnist",
        0,
        "complete",
        3.0,
        values={"batch_size": batch},
        metrics={"flag/memorised": 1.0, "valid/copies": 0.4},
    )
    board = board_of(found, tmp_path, write_record)
    assert headline(board) == "VAE comes closest to real MNIST (fcd 2.00)."
    first, *others = cautions(board)
    assert first == "Samples of VAE on MNIST hardly differ from each other."
    assert not any("copies" in words for words in others)  # GAE is not the closest
    seen, steps = (600, 12) if split == "test" else (540, 10)
    said = f"On MNIST the best points were trained for at most {steps} optimiser steps on {seen} images."
    assert others == ([said] if few else [])


KERNEL = (
    "On MNIST InfoVAE has the lowest fcd, but by the kernel distance on the same features GAE is closer "
    "(37.0; InfoVAE 56.0): judge by the samples, too."
)


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        ((56.0, 37.0, 41.0), [KERNEL]),
        ((44.0, 37.0, 41.0), []),  # not clearly
        ((56.0, 37.0, 60.0), []),  # half of the methods are not closer
        ((56.0, -0.1, 41.0), [KERNEL.replace("37.0;", "-0.100;")]),  # unbiased, so negative for very close samples
        ((56.0, 37.0, None), []),
    ],
)
def test_cautions_say_where_the_kernel_distance_contradicts(kernels, said, tmp_path, write_record):
    found = Written(("info_vae", "mnist"), ("gae", "mnist"), ("vae", "mnist"))
    for method, value, kernel in zip(("info_vae", "gae", "vae"), (90.0, 128.0, 156.0), kernels, strict=True):
        measured = {} if kernel is None else {"valid/fcd_kid": kernel}
        found.trial(f"{method}-mnist", 0, "complete", value, metrics=measured)
    board = board_of(found, tmp_path, write_record)
    assert cautions(board) == said
    closest = "InfoVAE comes closest to real MNIST (fcd 90.0)."
    assert headline(board) == ("InfoVAE has the lowest fcd on MNIST (90.0)." if said else closest)


def test_cautions_say_that_samples_of_the_closest_method_contain_copies(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    found.trial("vae-mnist", 0, "complete", 3.0, metrics={"flag/memorised": 0.0, "valid/copies": 0.0})
    found.trial("gae-mnist", 0, "complete", 2.0, metrics={"flag/memorised": 1.0, "valid/copies": 0.4})
    board = board_of(found, tmp_path, write_record)
    assert cautions(board) == ["Samples of GAE on MNIST contain copies of training images."]


def test_the_flag_of_the_earlier_rule_for_copies_is_left_out(tmp_path, write_record):
    """Records from before the metric `copies` also flag samples that only crowd near training images."""
    found = Written(("gae", "mnist"))
    found.trial("gae-mnist", 0, "complete", 2.0, metrics={"flag/memorised": 1.0, "valid/memorisation": 0.572})
    assert cautions(board_of(found, tmp_path, write_record)) == []


def test_a_metric_of_codes_makes_no_method_close_to_real_images(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"))
    for study in found.events[0]["studies"]:
        study["metric"] = "valid/knn_error"
    for method, value in (("vae", 0.2), ("gae", 0.1)):
        found.trial(f"{method}-mnist", 0, "complete", value, metrics={"valid/knn_error": value})
    assert headline(board_of(found, tmp_path, write_record)) == "GAE has the lowest knn_error on MNIST (0.100)."


def test_cautions_say_which_method_failed(tmp_path, write_record):
    found = Written(("vae", "mnist"), ("gae", "mnist"), ("wae", "mnist"))
    found.trial("vae-mnist", 0, "complete", 3.0)
    found.trial("gae-mnist", 0, "failed", None)
    found.trial("gae-mnist", 1, "diverged", None)
    board = board_of(found, tmp_path, write_record)
    assert headline(board) == "VAE has fcd 3.00 on MNIST."
    assert cautions(board) == ["GAE on MNIST has no complete trial (2: 1 diverged, 1 failed)."]  # WAE has not begun


def test_the_headline_of_nothing_says_so(tmp_path, write_record):
    found, words = Written(("vae", "mnist")), "No trial is complete, so there is nothing to compare."
    board = board_of(found, tmp_path, write_record)
    assert board["hand_tuned_state"].tolist() == ["not started"]
    assert headline(board) == words
    assert "not started" in leaderboard_text(board)
    assert headline(board_of(found.trial("vae-mnist", 0, "diverged", None), tmp_path, write_record)) == words


def test_tables_are_written_beside_the_record(tmp_path, write_sweep):
    folder = write_sweep(tmp_path / "s", methods=("vae", "gae"), datasets=("digits",), trials=4)
    sweep = write_tables(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "balances.csv",
        "curves.parquet",
        "leaderboard.csv",
        "record.jsonl",
        "trials.parquet",
    ]
    labelled = sweep.trials.join(label_trials(sweep.trials, sweep.studies))
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "trials.parquet"), labelled)
    curves = pd.read_parquet(folder / "curves.parquet")
    assert curves["value"].tolist() == sweep.curves["value"].tolist()
    assert curves["metric"].tolist() == sweep.curves["metric"].tolist()
    board = pd.read_csv(folder / "leaderboard.csv")
    assert board["tuned"].tolist() == pytest.approx(leaderboard(sweep)["tuned"].tolist())


def test_tables_of_a_sweep_without_trials_can_be_written(tmp_path, write_record):
    folder = write_record(tmp_path / "s", Written(("vae", "mnist")).events)
    write_tables(folder)
    assert pd.read_parquet(folder / "trials.parquet").empty
    assert len(pd.read_csv(folder / "leaderboard.csv")) == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
