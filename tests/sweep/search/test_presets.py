"""The packaged configurations: each is a plan, and flags and files win over it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.papers.conditions import at, conditions
from sweep.commands.run import front_door
from sweep.config import PRESET_FILES, SweepConfig, read_config
from sweep.search.plan import Plan, expected_epochs, plan
from sweep.search.study import Study
from trainables.datasets import Split, Splits, load
from trainables.flags import preset_names

TEN = {"vae", "beta_vae", "info_vae", "wae", "vae_gan", "vade", "gmvae", "vamp_vae", "rae_l2", "gae"}

TABLES = [name for name in preset_names(PRESET_FILES) if "table" in name and name != "gae-table3-tuned"]


@pytest.fixture
def data_root(tmp_path) -> Path:
    """MNIST and Fashion-MNIST in their layout, 1200 training pictures each; no other data set."""
    random = np.random.default_rng(0)
    for folder in ("MNIST", "FashionMNIST"):
        raw = tmp_path / "data" / folder / "raw"
        raw.mkdir(parents=True)
        for part, n in (("train", 1200), ("t10k", 20)):
            for kind, array in (
                ("images-idx3", random.integers(0, 256, (n, 28, 28), np.uint8)),
                ("labels-idx1", random.integers(0, 10, n).astype(np.uint8)),
            ):
                header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
                (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path / "data"


def configured(*argv: object) -> SweepConfig:
    return read_config(SweepConfig, [str(word) for word in argv], "sweep/run.py", "about")


def planned(*argv: object) -> Plan:
    return plan(configured(*argv))


@pytest.fixture
def colour(monkeypatch) -> None:
    """Data sets of colour images in their shapes."""
    sides = {
        "cifar10": 32,
        "cifar10-jpeg": 32,
        "celeba64": 64,
        "celeba64_nn": 64,
        "celeba64_140": 64,
        "celeba128": 128,
        "ffhq": 64,
    }

    def made(name, root, **options) -> Splits:
        if name not in sides:
            return load(name, root, **options)
        split = Split(np.zeros((1100, 3, sides[name], sides[name]), np.uint8), None)
        return Splits(name, "cifar10", split, split, split)

    monkeypatch.setattr("sweep.search.plan.load", made)


# Points of the papers' texts beside a table, which the readers of sweeps show apart from it.
EXTRA = {
    "balancing-table4": {"celeba64 l2_on", "celeba64 l2_decoupled"},
    "balancing-table4-rae": {"celeba64_140 resnet", "celeba64 paper", "celeba64 resnet"},
    "regularization-table1": {"mnist no_skip", "mnist affine"},
}
LARGE = {"balancing-table4-rae"}  # takes seconds, as its networks need weights


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in preset_names(PRESET_FILES)],
)
def test_every_preset_is_a_plan(name, data_root, colour):
    weightless = name.startswith(("balancing", "regularization")) and name not in LARGE
    with torch.device("meta" if weightless else "cpu"):  # large networks need no weights to be planned with
        found = planned("--preset", name, "--data-root", data_root)
        assert found.studies
        if name in TABLES:
            assert_scored_on_the_test_split_once(found)
            assert unprinted(found) == EXTRA.get(name, set())


def unprinted(table: Plan) -> set[str]:
    """The points of a preset whose trials would be in no cell beside the print."""
    papers = [("balancing", range(1, 6)), ("gae", (3, 4)), ("aae", range(1, 6)), ("regularization", (1, 2, 3, 4))]
    rows = [(paper, row) for paper, tables in papers for number in tables for row in conditions(paper, number)]
    images = {name: getattr(table.config, name) for name in ("image_size", "channels")}
    found = set()
    for study in table.studies:
        cells = []
        for paper, row in rows:
            if row.method == study.method and study.dataset in row.datasets:
                names = row.named_readings(study.dataset) if paper == "gae" else [row.point]
                same = images == {"image_size": None, "channels": None, **row.images}
                cells += [replace(row, point=name).values(study.dataset) for name in names if same]
        for point in study.spec.space.paper:
            if not any(at({f"hyper/{k}": v for k, v in point.values.items()}, cell) for cell in cells):
                found.add(f"{study.dataset} {point.name}")
    return found


def assert_scored_on_the_test_split_once(table: Plan) -> None:
    assert table.config.split == "test" and table.rungs == []
    assert {study.spec.metric.partition("/")[0] for study in table.studies} == {"test"}
    splits = next(iter(table.splits.values()))
    assert len(table.trained_on(splits)) == len(splits.train.images) + len(splits.valid.images)


def test_the_kappa_sweep_is_every_decoder_at_every_latent_size(data_root):
    (study,) = planned("--preset", "regularization-table1", "--data-root", data_root).studies
    points = [(point.name, point.values["network"], point.values["latent_dim"]) for point in study.spec.space.paper]
    nets = {"paper": "residual_mlp_512_3", "no_skip": "plain_mlp_512_3", "affine": "plain_mlp_512_3_affine"}
    expected = {(name, net, kappa) for name, net in nets.items() for kappa in (50, 100, 200, 400, 784)}
    assert len(points) == study.spec.trials and set(points) == expected
    running = Study(study.spec, 0)
    assert [running.ask().values["latent_dim"] for _ in range(5)] == [50, 50, 50, 100, 100]


@pytest.mark.slow
def test_tables_3_and_5_of_balancing_are_the_papers_points(data_root, colour):
    with torch.device("meta"):
        (models,) = planned("--preset", "balancing-table3", "--data-root", data_root).studies
    values = [point.values for point in models.spec.space.paper]
    assert [v["gamma_rule"] for v in values] == 4 * ["computed"] + 4 * ["learned"]
    assert [(v["network"], v["latent_dim"], v.get("l2_of")) for v in values] == 2 * [
        ("resnet_4_1_32", 64, None),
        ("resnet_4_1_32", 64, "decoder"),
        ("resnet_4_2_32", 64, "encoder"),
        ("resnet_3_1_32", 128, None),
    ]
    (rates,) = planned("--preset", "balancing-table5", "--data-root", data_root).studies
    assert [point.values["learning_rate"] for point in rates.spec.space.paper] == [2e-4, 1.5e-4, 1e-4, 5e-5]


def test_points_are_taken_by_name_and_lists_make_each_of_them_several(make_plan):
    few = make_plan(methods=["beta_vae"], searcher="none", points=["beta_0.1"], set={"latent_dim": [3, "4"]})
    assert [(p.values["beta"], p.values["latent_dim"]) for p in few.studies[0].spec.space.paper] == [(0.1, 3), (0.1, 4)]
    searched = make_plan(methods=["beta_vae"], set={"latent_dim": [3, 4]}).studies[0].spec.space
    assert searched.dimensions["latent_dim"].choices == (3, 4) and len(searched.paper) == 4
    for changes, shown in (
        ({"points": ["beta_01"]}, r"^beta_vae: points: no point is named beta_01; known: paper, beta_0\.1$"),
        ({"set": {"latent_dim": []}}, r"^set: beta_vae: latent_dim: the list is empty"),
        ({"set": {"latent_dims": [3]}}, r"^set: beta_vae: unknown key 'latent_dims'; did you mean 'latent_dim'"),
    ):
        with pytest.raises(ValueError, match=shown):
            make_plan(methods=["beta_vae"], searcher="none", **changes)


@pytest.mark.slow
def test_the_grid_of_table_3_is_every_method_at_its_hand_tuned_points_on_what_is_there(data_root):
    grid = planned("--preset", "gae-table3", "--data-root", data_root)
    assert {(s.method, s.dataset) for s in grid.studies} == {(m, d) for m in TEN for d in ("mnist", "fashion_mnist")}
    assert grid.config.datasets == ["mnist", "fashion_mnist"]  # what a resumed sweep will have as well
    assert expected_epochs(grid) == 30
    study = next(s for s in grid.studies if s.name == "info_vae-mnist")
    assert [point.name for point in study.spec.space.paper] == ["paper", "alpha_0", "alpha_0_rbf"]
    running = Study(study.spec, grid.config.seed)
    asked = [running.ask() for _ in range(4)]
    assert [a and a.values["kernel"] for a in asked] == ["rbf", "imq", "rbf", None]
    assert {a.origin for a in asked[:3]} == {"paper"}


@pytest.mark.slow
def test_the_tuned_grid_searches_every_cell_at_one_budget(data_root):
    grid = planned("--preset", "gae-table3-tuned", "--data-root", data_root)
    assert len({(s.spec.trials, s.spec.epochs) for s in grid.studies}) == 1
    assert all(s.spec.count is None and s.spec.trials > len(s.spec.space.paper) for s in grid.studies)


def test_runs_of_the_same_points_differ_by_their_seeds(make_plan):
    twice = make_plan(methods=["vae", "beta_vae"], searcher="none", trials=2, seed=7)
    vae, beta = twice.studies
    assert (vae.spec.trials, beta.spec.trials) == (2, 4)
    assert [twice.seed_of(vae.name, number) for number in range(2)] == [7, 8]
    assert [twice.seed_of(beta.name, number) for number in range(4)] == [7, 7, 8, 8]
    study = Study(beta.spec, 7)
    assert [study.ask().values["beta"] for _ in range(4)] == [4.0, 0.1, 4.0, 0.1]
    for number in range(4):
        assert study.report(number, 1, float(number))  # no rung stops a hand-tuned point


def test_the_toy_is_the_papers(tmp_path):
    toy = planned("--preset", "gae-toy", "--data-root", tmp_path)
    vae, gae = toy.studies
    assert (vae.spec.trials, gae.spec.trials, vae.spec.metric) == (5, 5, "valid/mse")
    assert [toy.seed_of(gae.name, number) for number in range(5)] == [0, 1, 2, 3, 4]
    for study in toy.studies:
        assert study.hand_tuned_values["likelihood"] == "gaussian" and study.hand_tuned_values["network"] == "mlp_256"
        assert study.hand_tuned_values["batch_size"] == len(toy.splits["cosine"].train) == 50
    assert gae.hand_tuned_values["components"] == 1 and "components" not in vae.hand_tuned_values


def test_the_walk_of_the_kl_weight_stops_no_trial_and_reaches_the_collapse(tmp_path):
    walk = planned("--preset", "gae-toy-kl", "--data-root", tmp_path)
    (study,) = walk.studies
    weights = [point.values["beta"] for point in study.spec.space.paper]
    assert walk.rungs == [] and study.spec.trials == len(weights) == 21
    assert np.diff(np.log10(weights)) == pytest.approx(0.2, abs=0.01)
    assert 10 * weights[0] < 0.4 and weights[-1] > 0.63  # it collapses between these (analysis/papers/gae.md)
    assert len({tuple({**p.values, "beta": 0}.items()) for p in study.spec.space.paper}) == 1


def test_one_method_can_be_set_alone(make_plan):
    mixed = make_plan(methods=["beta_vae", "wae"], set={"latent_dim": 4, "wae.latent_dim": 8, "beta_vae.beta": "0.5"})
    beta, wae = mixed.studies
    assert (beta.hand_tuned_values["latent_dim"], beta.hand_tuned_values["beta"]) == (4, 0.5)
    assert wae.hand_tuned_values["latent_dim"] == 8


def test_a_search_has_one_seed(make_plan):
    search = make_plan(methods=["vae"], seed=7)
    assert {search.seed_of("vae-digits", number) for number in range(4)} == {7}


def test_the_file_wins_over_the_preset_and_flags_over_both(tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 4\ntrials: 5\n")
    config = configured("--preset", "gae-table3", "--config", tmp_path / "mine.yaml", "--trials", 6)
    assert (config.samples, config.epochs, config.trials) == (10_000, 4, 6)


def test_absent_data_sets_are_left_out_only_where_that_is_said(data_root, monkeypatch):
    only = {"data_root": data_root, "datasets": ["svhn", "mnist"], "methods": ["vae"]}
    assert plan(SweepConfig(**only, present_only=True)).config.datasets == ["mnist"]
    with pytest.raises(ValueError, match=r"^svhn: .*train_32x32\.mat is missing and downloading is off"):
        plan(SweepConfig(**only | {"datasets": ["svhn"]}, present_only=True))
    (data_root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is not an idx file"):
        plan(SweepConfig(**only, present_only=True))


def test_an_unknown_preset_is_answered_with_those_there_are(capsys):
    with pytest.raises(SystemExit) as caught:
        front_door("about", ["--preset", "gae-table4"])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "--preset 'gae-table4' is not known; did you mean 'gae-table3'? (known: " in shown
    assert shown.count("\n") == 1


@pytest.mark.slow
def test_seeds_are_trainings_of_each_point_and_scale_is_a_share_of_the_epochs(data_root, colour):
    tenth = planned("--preset", "balancing-table4", "--seeds", "2", "--scale", "0.1")
    (study,) = tenth.studies
    assert study.spec.trials == 2 * 3 and study.spec.epochs == 21  # of 210
    assert [tenth.seed_of(study.name, number) for number in range(6)] == [0, 0, 0, 1, 1, 1]
    assert configured("--epochs", "100", "--first-rung", "10", "--scale", "0.5").first_rung == 5
    again = SweepConfig(**tenth.config.model_dump(mode="json"))  # as a resumed sweep reads it
    assert (again.epochs, again.scale) == (21, 1.0)
    assert configured("--preset", "balancing-table3", "--scale", "0.1").looks == [4, 8]


@pytest.mark.parametrize("flags", [("--split", "test"), ("--seeds", "3"), ("--looks", "3")])
def test_a_search_sees_no_test_split_and_has_no_seeds(flags):
    with pytest.raises(ValueError, match=r"(split = test|seeds = 3|looks = \[3\]) requires searcher = none, got tpe"):
        configured(*flags)


def test_the_aae_table_at_64_pixels_is_its_own_points(data_root, colour):
    table = planned("--preset", "aae-tables-64", "--data-root", data_root)
    assert (table.config.image_size, table.config.channels) == (64, 3)
    assert len(table.studies) == 6
    for study in table.studies:
        (point,) = study.spec.space.paper
        assert (point.name, point.values["batch_size"], study.spec.trials) == ("64px", 256, 5)
