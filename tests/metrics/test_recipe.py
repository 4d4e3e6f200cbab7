"""Every value has a recipe that a machine can read."""

import json

import pytest
import torch
from pydantic import ValidationError

from trainables.datasets import load
from trainables.metrics import Recipe, extractor


def test_recipe_is_json_and_names_the_weights():
    fcd = extractor("fcd", load("digits", "unused"))
    recipe = Recipe.of(fcd, n=100, split="valid", reference_n=300, sampler="prior")
    found = json.loads(json.dumps(recipe.model_dump()))
    assert Recipe(**found) == recipe
    assert found["metric"] == "fcd" and found["extractor"] == "classifier-digits"
    assert found["fingerprint"] == fcd.fingerprint
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["grey"] == "as it is"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "std"),
        ({"n": 5000, "split": "valid", "reference_n": 6000}, "std-5k-val"),
        ({"n": 5000}, ""),
        ({"reference_n": 300}, ""),
        ({"split": "valid"}, ""),
        ({"metric": "fid_clean"}, ""),
    ],
)
def test_a_protocol_is_named_only_where_it_was_kept(changes, name):
    fcd = extractor("fcd", load("digits", "unused"))
    found = Recipe.of(fcd, n=10_000, split="test", reference_n=10_000, sampler="prior").model_dump()
    assert Recipe(**(found | {"metric": "fid"} | changes)).protocol == name


def test_a_misspelt_recipe_is_refused():
    fcd = extractor("fcd", load("digits", "unused"))
    found = Recipe.of(fcd, n=100, split="valid", reference_n=300, sampler="prior").model_dump()
    with pytest.raises(ValidationError, match="smapler"):
        Recipe(**found, smapler="prior")


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"'fdi'; did you mean '\w+'\? \(choose fcd, fsd, fid, "):
        extractor("fdi", load("digits", "unused"))
