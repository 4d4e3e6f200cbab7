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
    told = json.loads(json.dumps(recipe.model_dump()))
    assert Recipe(**told) == recipe
    assert told["metric"] == "fcd" and told["extractor"] == "classifier-digits"
    assert told["fingerprint"] == fcd.fingerprint
    assert told["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert told["grey"] == "as it is"


def test_a_misspelt_recipe_is_refused():
    fcd = extractor("fcd", load("digits", "unused"))
    told = Recipe.of(fcd, n=100, split="valid", reference_n=300, sampler="prior").model_dump()
    with pytest.raises(ValidationError, match="smapler"):
        Recipe(**told, smapler="prior")


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="unknown metric 'fdi'; choose fid, fcd or package"):
        extractor("fdi", load("digits", "unused"))
