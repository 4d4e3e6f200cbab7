"""Values that were measured in two ways are refused a common column."""

from dataclasses import replace

import pytest

from analysis.load import read_sweep
from analysis.recipes import require_one_recipe, yardsticks


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, write_sweep):
    folder = tmp_path_factory.mktemp("sweeps") / "s"
    return read_sweep(write_sweep(folder, methods=("vae", "gae"), trials=2, epochs=3, rungs=()))


def with_recipe(sweep, study, **changes):
    (recipe,) = sweep.recipes[study]
    return replace(sweep, recipes={**sweep.recipes, study: ({**recipe, **changes},)})


def test_one_recipe_is_told(sweep):
    assert require_one_recipe(sweep, "mnist", "valid/fcd")["n"] == 5000
    assert require_one_recipe(replace(sweep, recipes={}), "mnist", "valid/fcd") == {}


def test_two_recipes_are_refused_and_what_differs_is_named(sweep):
    other = with_recipe(sweep, "gae-mnist", n=2000, fingerprint="another")
    assert len(yardsticks(other, "mnist", "valid/fcd")) == 2
    with pytest.raises(ValueError, match=r"in 2 ways.*fingerprint: c55509d9, another; n: 5000, 2000"):
        require_one_recipe(other, "mnist", "valid/fcd")
    assert require_one_recipe(other, "digits", "valid/fcd")


def test_each_method_may_have_its_own_sampler(sweep):
    other = with_recipe(sweep, "gae-mnist", sampler="gmm", versions={"torch": "1"})
    assert len(yardsticks(other, "mnist", "valid/fcd")) == 1
