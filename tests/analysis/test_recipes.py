"""Values that were measured in two ways are refused a common column."""

from dataclasses import replace

import pytest

from analysis.load import read_sweep
from analysis.recipes import SEVERAL, require_one_recipe, yardsticks
from analysis.report import render
from analysis.tables import headline, leaderboard, leaderboard_text


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


def test_tables_part_what_was_measured_differently(sweep):
    together = leaderboard_text(leaderboard(sweep))
    assert together.count("MNIST · fcd") == 1 and "not to be compared" not in together
    other = with_recipe(sweep, "gae-mnist", n=2000)
    board = leaderboard(other)
    mnist, digits = (board[board["dataset"] == name] for name in ("mnist", "digits"))
    assert mnist["recipe"].nunique() == 2 and digits["recipe"].nunique() == 1
    apart = leaderboard_text(board)
    assert apart.count("MNIST · fcd") == 2 and apart.count("digits · fcd") == 1
    assert "n 2000" in apart and apart.count("not to be compared") == 2
    assert "MNIST" in headline(leaderboard(sweep)) and "MNIST" not in headline(board).split(". ")[0]
    assert "n: 5000, 2000" in render(other) and "Do not compare" not in render(sweep)


def test_a_study_that_changed_its_recipe_is_not_compared_with_itself(sweep):
    (recipe,) = sweep.recipes["gae-mnist"]
    recipes = {**sweep.recipes, "gae-mnist": (recipe, {**recipe, "n": 2000})}
    board = leaderboard(replace(sweep, recipes=recipes)).set_index("study")
    assert board.loc["gae-mnist", "recipe"] == SEVERAL
    assert board["difference"].isna().tolist() == (board.index == "gae-mnist").tolist()


def test_a_study_without_any_value_stays_with_the_others(sweep):
    recipes = {study: told for study, told in sweep.recipes.items() if study != "gae-mnist"}
    text = leaderboard_text(leaderboard(replace(sweep, recipes=recipes)))
    assert text.count("MNIST · fcd") == 1
