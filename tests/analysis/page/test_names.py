"""Numbers and names as people read them."""

import math

import numpy as np
import pytest

from analysis.page.names import counted, dataset_name, duration, measured, method_name, readable, short_metric


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "4"),
        (4.0, "4"),
        (0.12345, "0.123"),
        (0.001, "1e-3"),
        (0.0004, "4e-4"),
        (6.754e-4, "6.75e-4"),
        (999.7, "1000"),
        (48730.0, "48730"),
        (1234.56, "1235"),
        (2.5e7, "2.5e7"),
        (-0.25, "-0.25"),
        (0, "0"),
        (np.int64(32), "32"),
        (np.float64(0.5), "0.5"),
        ("adam", "adam"),
        (True, "True"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_readable_writes_three_digits(value, text):
    assert readable(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (14, "14.0"),
        (0.01881, "0.0188"),
        (123.4, "123"),
        (9.999, "10.0"),
        (99.96, "100"),
        (0, "0.00"),
        (5e-6, "5e-6"),
    ],
)
def test_measured_keeps_three_digits(value, text):
    assert measured(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.25, "4.2 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (2940, "49 min"),
        (7500, "2 h 5 min"),
        (math.nan, "–"),
    ],
)
def test_duration_in_words(seconds, text):
    assert duration(seconds) == text


def test_names_of_strangers_stay_recognisable():
    assert method_name("beta_vae") == "BetaVAE"
    assert method_name("my_lab.ladder:LadderVAE") == "LadderVAE"
    assert dataset_name("cats") == "cats"
    assert short_metric("valid/fcd") == "fcd"


def test_counts_are_singular_or_plural():
    assert [counted(n, "study") for n in (0, 1, 2)] == ["0 studies", "1 study", "2 studies"]
    assert counted(3, "study", 2) == "2 of 3 studies" and counted(1, "trial", 1) == "1 trial"
