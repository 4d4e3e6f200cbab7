"""Ours beside the print: joined by name, doubted aloud, and never called alike when it is not."""

import math
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from analysis.load import PUBLISHED, read_sweep
from analysis.papers.beside import (
    beside,
    notes,
    our_recipe,
    printed,
    printed_recipe,
    rank_correlation,
    same_recipe,
    spearman,
)

METHODS = {"VAE": "vae", "GAE": "gae"}
DATASETS = {"CIFAR-10": ("cifar10", "cifar10-jpeg"), "MNIST": ("mnist",)}


def test_the_print_comes_by_our_names():
    table = printed("gae", 3, DATASETS, METHODS)
    assert len(table) == 40 + 10  # CIFAR-10 under both of our names
    found = table.set_index(["dataset", "method"])["printed"]
    assert found["mnist", "gae"] == 44.30 and found["cifar10", "vae"] == found["cifar10-jpeg", "vae"]
    assert ("MNIST", "gae") not in found.index and ("SVHN", "InfoVAE") in found.index


def test_ours_is_joined_with_its_share_of_the_print_and_its_recipe():
    ours = pd.DataFrame({"dataset": "mnist", "method": ["gae", "vae", "own"], "ours": [22.15, 246.88, 1.0], "seeds": 5})
    recipe = {"metric": "fcd", "extractor": "classifier-mnist", "n": 10000, "split": "test", "reference_n": 10000}
    ours["recipe"] = [recipe | {"epochs": 30}, {"epochs": 5, "metric": "fid"}, {}]
    table = beside(printed("gae", 3, DATASETS, METHODS), ours).set_index("method")
    assert set(table.index) == {"gae", "vae"} and set(table["seeds"]) == {5}
    assert table["of_print"].to_dict() == pytest.approx({"gae": 0.5, "vae": 2.0})
    assert table.loc["gae", "same_recipe"] == "no: metric fcd, printed fid"
    assert table.loc["vae", "same_recipe"] == "no: epochs 5, printed 30"


def test_a_cell_that_stands_in_several_rows_of_the_print_is_refused():
    ours = pd.DataFrame({"dataset": ["CIFAR-10"], "method": ["2S-VAE"], "metric": ["REC"], "ours": [50.0]})
    with pytest.raises(
        ValueError, match=r"CIFAR-10, 2S-VAE, REC matches several rows of the print; add the column variant, epoch"
    ):
        beside(printed("balancing", 1), ours)
    assert len(beside(printed("balancing", 1), ours.assign(epoch="700"))) == 1


def test_a_recipe_is_the_same_only_if_nothing_is_unknown():
    theirs = {"metric": "fid", "n": 10000, "extractor": "inception-2015"}
    assert same_recipe(theirs, theirs | {"sampler": "prior"}) == "yes"
    assert same_recipe(theirs, {"metric": "fid", "n": 10000}) == "unknown: extractor"
    assert same_recipe(theirs | {"n": "unknown"}, theirs) == "unknown: n"
    assert (
        same_recipe(theirs, theirs | {"metric": "fcd", "n": 500}) == "no: metric fcd, printed fid; n 500, printed 10000"
    )
    assert same_recipe({}, theirs) == "unknown"


def test_our_recipe_is_that_of_the_record(tmp_path, write_sweep):
    sweep = read_sweep(write_sweep(tmp_path / "s", methods=("vae",), datasets=("mnist",), trials=1))
    recipe = our_recipe(sweep, "vae-mnist")
    assert (recipe["extractor"], recipe["n"], recipe["split"], recipe["epochs"]) == (
        "classifier-mnist",
        5000,
        "valid",
        30,
    )
    (shown,) = sweep.recipes["vae-mnist"]
    torn = replace(sweep, recipes={"vae-mnist": (shown, shown | {"n": 2000})})
    assert our_recipe(torn, "vae-mnist")["n"] == "several" and our_recipe(torn, "vae-mnist")["split"] == "valid"


def test_every_printed_distance_has_a_recipe_and_every_recipe_is_of_a_table():
    whole = pd.concat([pd.read_csv(file, dtype=str, keep_default_na=False) for file in PUBLISHED.glob("*.csv")])
    cells = {(row.paper, row.table, row.metric) for row in whole.itertuples()}
    recipes = tomllib.loads((PUBLISHED / "recipes.toml").read_text())["recipe"]
    shown = {(r["paper"], table, metric) for r in recipes for table in r["tables"] for metric in r["metrics"]}
    assert {cell[:2] for cell in shown} == {cell[:2] for cell in cells}
    assert {
        cell for cell in cells if cell[2] in ("FID", "IS", "REC", "GEN-1", "GEN-2", "Recon. FID", "Gen. FID")
    } <= shown
    assert {metric for *_, metric in shown} <= {metric for *_, metric in cells}
    first = printed("gae", 3).iloc[0]
    assert printed_recipe(first)["epochs"] == 30 and printed_recipe(first)["extractor"] == "unknown"


def test_notes_of_a_table_are_those_that_name_it():
    table3, table2 = notes("gae", 3), notes("gae", 2)
    assert any("exceed 600" in note for note in table3) and not any("exceed 600" in note for note in table2)
    assert any("Table 4" in note and "2*70" in note for note in notes("balancing", 4))
    assert all(note.startswith("AAE") for note in notes("aae", 3)) and any(
        "run-to-run" in note for note in notes("aae", 3)
    )
    assert any("per mini-batch" in note for note in notes("vaegan", 2))


def test_the_rank_correlation_is_spearmans_with_ties():
    chance = np.random.default_rng(0)
    for _ in range(20):
        a, b = chance.integers(0, 5, (2, 9)).astype(float)
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_a_correlation_of_too_few_or_of_equal_values_is_none():
    found = rank_correlation([1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, math.nan], draws=200)
    assert found["cells"] == 3 and found["correlation"] == pytest.approx(0.5) and found["low"] < 0.5 <= found["high"]
    assert math.isnan(rank_correlation([1.0, 2.0], [1.0, 2.0])["correlation"])
    assert math.isnan(rank_correlation([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])["low"])
