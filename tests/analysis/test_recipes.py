"""Values that were measured in two ways are refused a common column."""

import json
from dataclasses import replace

import pytest

from analysis.load import read_sweep
from analysis.page.report import render
from analysis.recipes import comparisons, require_one_recipe, yardsticks
from analysis.tables import headline, leaderboard, leaderboard_text

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, write_sweep):
    folder = tmp_path_factory.mktemp("sweeps") / "s"
    return read_sweep(write_sweep(folder, methods=("vae", "gae"), trials=2, epochs=3, rungs=()))


def with_recipe(sweep, study, **changes):
    (recipe,) = sweep.recipes[study]
    return replace(sweep, recipes={**sweep.recipes, study: ({**recipe, **changes},)})


def test_one_recipe_is_shown(sweep):
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


@pytest.mark.slow
def test_tables_part_what_was_measured_differently(sweep):
    together = leaderboard_text(leaderboard(sweep))
    assert together.count("MNIST · fcd") == 1 and "not comparable" not in together
    other = with_recipe(sweep, "gae-mnist", n=2000)
    board = leaderboard(other)
    mnist, digits = (board[board["dataset"] == name] for name in ("mnist", "digits"))
    assert mnist["recipe"].nunique() == 2 and digits["recipe"].nunique() == 1
    apart = leaderboard_text(board)
    assert apart.count("MNIST · fcd") == 2 and apart.count("digits · fcd") == 1
    assert "n 2000" in apart and apart.count("not comparable") == 2
    assert "MNIST" in headline(leaderboard(sweep)) and "MNIST" not in headline(board).split(". ")[0]
    assert "n: 5000, 2000" in render(other) and "stand apart" not in render(sweep)


@pytest.fixture
def changed(tmp_path, write_sweep):
    """A sweep that was resumed with fewer drawn images: of each study on mnist the hand-tuned trial had more."""
    folder = write_sweep(tmp_path / "changed", methods=("vae", "gae"), trials=3, epochs=3, rungs=())
    events = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    for event in events:
        if event["event"] == "report" and "-mnist-" in event["trial"] and not event["trial"].endswith("0000"):
            for row in event["rows"]:
                for recipe in row.get("recipes", {}).values():
                    recipe["n"] = 2000
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return read_sweep(folder)


def test_a_study_that_changed_its_recipe_has_a_row_for_each(changed):
    board = leaderboard(changed)
    mnist = board[board["dataset"] == "mnist"]
    assert mnist["study"].tolist().count("vae-mnist") == 2 and len(board) == 2 + 4
    before, after = (mnist[mnist["recipe"].str.contains(f"n {n},")].set_index("study") for n in (5000, 2000))
    assert (before["trials"] + after["trials"]).tolist() == [3, 3]
    assert before["tuned"].tolist() == before["hand_tuned"].tolist()
    searched = changed.trials[changed.trials["origin"] == "search"].groupby("study")["value"].min()
    assert after["tuned"].to_dict() == {study: searched[study] for study in after.index}
    assert after["difference"].isna().all() and set(after["hand_tuned_state"]) == {"by another recipe"}
    assert board[board["dataset"] == "digits"]["difference"].notna().all()


def test_comparisons_share_no_trial_and_lose_none(changed):
    parts = comparisons(changed)
    assert [(part.dataset, part.apart) for part in parts] == [("digits", ""), ("mnist", "n 5000"), ("mnist", "n 2000")]
    assert parts[0].sweep is changed
    found = [trial for part in parts[1:] for trial in part.sweep.trials["trial"]]
    assert sorted(found) == sorted(changed.trials.loc[changed.trials["dataset"] == "mnist", "trial"])
    assert all(len(yardsticks(part.sweep, "mnist", "valid/fcd")) == 1 for part in parts[1:])
    assert parts[1].sweep.methods == changed.methods


def test_the_page_has_a_section_for_each_recipe_and_ranks_none_of_them(changed):
    page = render(changed)
    assert page.count("<h2>MNIST</h2>") == 2 and page.count("<h2>digits</h2>") == 1
    assert "Measured by n 2000: not comparable" in page and "They are shown separately and not ranked" in page
    assert "average rank" not in page
    sections = page.split("<h2>MNIST</h2>")[1:]
    assert "by another recipe" in sections[1] and "by another recipe" not in sections[0]


@pytest.mark.slow
def test_two_metrics_of_a_data_set_stand_apart(sweep):
    study = sweep.studies["gae-mnist"]
    other = replace(sweep, studies=sweep.studies | {study.name: replace(study, metric="valid/mse")})
    assert [part.apart.partition(",")[0] for part in comparisons(other)] == ["", "metric valid/fcd", "metric valid/mse"]
    assert "MNIST" not in headline(leaderboard(other)).split(". ")[0]
    assert "MNIST was measured by fcd and mse, shown separately" in render(other)
    split = replace(sweep, studies=sweep.studies | {study.name: replace(study, metric="test/fcd")})
    assert "MNIST was measured by valid/fcd and test/fcd, shown separately" in render(split)


def test_a_study_without_any_value_stays_with_the_others(sweep):
    recipes = {study: shown for study, shown in sweep.recipes.items() if study != "gae-mnist"}
    text = leaderboard_text(leaderboard(replace(sweep, recipes=recipes)))
    assert text.count("MNIST · fcd") == 1
