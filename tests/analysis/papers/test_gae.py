"""Our runs beside the GAE paper's print, on records whose numbers are known."""

import math
import shutil
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from pandas import read_csv
from PIL import Image

from analysis.join import join
from analysis.load import Sweep, read_published, read_sweep
from analysis.papers import gae
from analysis.papers.conditions import conditions, points

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / "analysis" / "papers" / "gae.ipynb"
COMMON = {"latent_dim": 10, "network": "mlp_500_500_2000"}


@pytest.fixture
def grid(tmp_path, write_record):
    """A sweep from (method, dataset, values, origin, state, metrics) of each trial."""

    def make(
        trials: list[tuple],
        name: str = "grid",
        metric: str = "valid/fid",
        vectors: dict | None = None,
        searched: tuple[str, ...] = (),
        epochs: int = 30,
        config: dict | None = None,
    ) -> Sweep:
        studies, events, numbers = {}, [], {}
        for method, dataset, values, *_ in trials:
            study = f"{method}-{dataset}"
            about = {"study": study, "method": method, "dataset": dataset, "trials": 1, "metric": metric}
            about |= {"epochs": epochs}
            space = {knob: {"low": 0} if knob in searched else {"value": value} for knob, value in values.items()}
            studies.setdefault(study, about | {"hand_tuned": values, "space": space})
            studies[study]["trials"] = sum(f"{t[0]}-{t[1]}" == study for t in trials)
        for place, (method, dataset, values, origin, state, metrics) in enumerate(trials):
            seed = sum(earlier[:3] == (method, dataset, values) for earlier in trials[:place])
            study = f"{method}-{dataset}"
            number = numbers[study] = numbers.get(study, -1) + 1
            trial = f"{study}-{number:04d}"
            row = {"epoch": epochs, "stage": "train", "metrics": metrics, "vectors": vectors or {}}
            events += [
                {"event": "start", "trial": trial, "study": study, "number": number, "values": values, "seed": seed}
                | {"origin": origin, "attempt": 1},
                {"event": "report", "trial": trial, "rows": [row]},
                {"event": "end", "trial": trial, "state": state, "epoch": epochs, "reason": ""},
            ]
        opening = {"event": "sweep", "sweep": "s", "config": config or {}, "studies": list(studies.values())}
        events = [{"time": float(i), **event} for i, event in enumerate([opening, *events])]
        return read_sweep(write_record(tmp_path / name, events))

    return make


def fid(value: float, seconds: float = 10.0, fit: float = 0.0) -> dict:
    return {"valid/fid": value, "time/train_seconds": seconds, "time/density_fit_seconds": fit}


def point(method: str, dataset: str, value: float, state: str = "complete", origin: str = "paper", **values) -> tuple:
    return method, dataset, COMMON | values, origin, state, fid(value)


def test_every_printed_cell_has_a_name_of_ours():
    for table in (3, 4):
        printed = read_published("gae", table)
        assert set(printed["method"]) == set(gae.METHODS) and set(printed["dataset"]) == set(gae.DATASETS)
        assert len(printed) == 40


def test_a_cell_is_the_first_point_the_best_reading_or_the_best_of_all(grid):
    table = gae.table3(
        grid(
            [
                point("beta_vae", "mnist", 300.0, beta=4.0),
                point("beta_vae", "mnist", 60.0, beta=0.1),
                point("beta_vae", "mnist", 320.0, beta=4.0),  # another seed
                point("beta_vae", "mnist", 40.0, beta=0.1),
                point("beta_vae", "mnist", 45.0, beta=0.2, origin="search"),
                point("beta_vae", "mnist", 1.0, beta=0.3, origin="search", state="pruned"),
                point("gae", "cifar10-jpeg", 9.0, state="diverged"),
            ],
            searched=("beta",),
        )
    )
    beta, missing = table.to_dict("records")
    assert (beta["printed"], beta["hand_tuned"], beta["best_reading"], beta["tuned"]) == (51.53, 310.0, 50.0, 45.0)
    assert beta["runs"] == 5 and beta["same_recipe"] == "unknown: metric, extractor, n, split, reference_n"
    assert missing["printed"] == 478.08 and math.isnan(missing["hand_tuned"]) and math.isnan(missing["tuned"])


def test_trials_of_another_setting_are_in_no_cell(grid):
    mixed = [point("vae", "mnist", 100.0), point("vae", "mnist", 1.0, learning_rate=5e-4)]
    (cell,) = gae.table3(grid(mixed)).to_dict("records")
    assert (cell["hand_tuned"], cell["best_reading"]) == (100.0, 100.0)
    (alone,) = gae.table3(grid([point("vae", "mnist", 1.0, latent_dim=2)], "two")).to_dict("records")
    assert math.isnan(alone["hand_tuned"]) and math.isnan(alone["best_reading"])  # whatever the sweep calls its point
    times = gae.table4(grid(mixed, "times"))
    assert times["seconds"].tolist() == [10.0]


def test_a_sweep_at_a_tenth_of_the_epochs_fills_the_cells_and_says_so(grid):
    trials = [point("vamp_vae", "mnist", 30.0, warm_up=1.0, components=10), point("vae", "mnist", 20.0)]
    table = gae.table3(grid(trials, epochs=3, config={"schedule_scale": 0.1}))
    assert table["hand_tuned"].tolist() == [20.0, 30.0]  # in the order of the print
    assert all("epochs 3, printed 30" in same for same in table["same_recipe"])
    long = gae.table3(grid(trials, "long", epochs=3))  # warm_up is 10 in the table
    assert long["hand_tuned"].isna().tolist() == [False, True]


@pytest.mark.parametrize("fixed", [{"network": "shared"}, {"batch_size": 20}, {"likelihood": "sse"}], ids=str)
def test_a_tuned_cell_has_the_settings_of_the_table_that_were_not_searched(grid, fixed):
    trials = [point("beta_vae", "mnist", value, beta=beta, **fixed) for value, beta in ((30.0, 4.0), (20.0, 2.0))]
    (cell,) = gae.table3(grid(trials, searched=("beta",))).to_dict("records")
    assert math.isnan(cell["tuned"])
    (cell,) = gae.table3(grid(trials, "opened", searched=("beta", *fixed))).to_dict("records")
    assert cell["tuned"] == 20.0


def test_sweeps_of_other_metrics_or_epochs_are_not_ranked_or_divided(grid):
    """Five methods by fid and five by fcd in fewer epochs, each in the order of the print."""
    printed = read_published("gae", 3)
    cells = [(gae.METHODS[row.method], row.value) for row in printed[printed["dataset"] == "MNIST"].itertuples()]
    fid_part = grid([point(m, "mnist", v) for m, v in cells[:5]], "fid")
    scaled = [(*point(m, "mnist", v)[:5], {"valid/fcd": v / 1000, "time/train_seconds": 1.0}) for m, v in cells[5:]]
    scaled.append(("beta_vae", "fashion_mnist", COMMON, "paper", "complete", {"valid/fcd": 1.0}))
    both = join({"fid": fid_part, "fcd": grid(scaled, "fcd", "valid/fcd", epochs=3)})
    found = gae.rank_correlations(gae.table3(both), draws=50)
    assert found["methods"].tolist() == 6 * [5] and found["correlation"].to_numpy() == pytest.approx(1.0)
    assert found["same_recipe"].nunique() == 2
    times = gae.table4(both).query("dataset == 'mnist'").set_index("method")
    assert times.loc["beta_vae", "ratio"] == 1.0 and math.isnan(times.loc["gae", "ratio"])
    assert (times.loc["beta_vae", "epochs"], times.loc["gae", "epochs"]) == (30, 3)
    apart = {"vae": grid([point("vae", "mnist", 100.0)], "vae")}
    apart["beta"] = grid([point("beta_vae", "mnist", 50.0, beta=0.1)], "beta", epochs=3)
    assert gae.beta_sides(join(apart)).empty


def test_equal_ranks_correlate_fully_and_reversed_ones_not_at_all(grid):
    printed = read_published("gae", 3)
    cells = printed[printed["dataset"] == "MNIST"]
    named = [(gae.METHODS[row.method], row.value) for row in cells.itertuples()]
    same = grid([point(m, "mnist", 2 * v + 1) for m, v in named] + [point("vae", "fashion_mnist", 1.0)])
    found = gae.rank_correlations(gae.table3(same), draws=200)
    assert set(found["dataset"]) == {"mnist"}  # one method makes no correlation
    assert found["methods"].tolist() == [10] * 3
    assert found[["correlation", "high"]].to_numpy() == pytest.approx(1.0)
    reverse = grid([point(m, "mnist", -v) for m, v in named], "reverse")
    assert gae.rank_correlations(gae.table3(reverse), draws=200)["correlation"].to_numpy() == pytest.approx(-1.0)
    chance = np.random.default_rng(1)
    noise = grid([point(m, "mnist", chance.uniform()) for m, _ in named], "noise")
    row = gae.rank_correlations(gae.table3(noise), draws=500).iloc[0]
    assert row["low"] < row["correlation"] < row["high"] and row["high"] - row["low"] > 0.5  # ten say little


def test_sweeps_that_ran_apart_fill_one_table_with_their_own_pictures(grid):
    first = grid([point("vae", "mnist", 100.0), point("gae", "mnist", 30.0)], "first")
    rest = grid([point("vae", "mnist", 90.0), point("gmvae", "mnist", 60.0)], "rest")
    (rest.folder / "trials" / "gmvae-mnist-0000").mkdir(parents=True)
    Image.new("L", (4, 4)).save(rest.folder / "trials" / "gmvae-mnist-0000" / "samples.png")
    both = join({"first": first, "rest": rest})
    table = gae.table3(both).set_index("method")
    assert table["hand_tuned"].to_dict() == {"vae@first": 100.0, "gae": 30.0, "vae@rest": 90.0, "gmvae": 60.0}
    assert table["printed"].to_dict() == {"vae@first": 123.44, "gae": 44.30, "vae@rest": 123.44, "gmvae": 106.92}
    assert [len(panel.images) for panel in gae.sample_grids(both, "mnist").axes] == [0, 0, 0, 1]


def test_the_side_of_beta_that_agrees_with_the_print(grid):
    betas = [point("vae", "mnist", 100.0), point("beta_vae", "mnist", 250.0, beta=4.0)]
    betas += [point("beta_vae", "mnist", 50.0, beta=0.1), point("beta_vae", "mnist", 1.0, beta=0.2, origin="search")]
    below, above = gae.beta_sides(grid(betas)).to_dict("records")
    assert (below["beta"], below["side"], below["ours"], below["reproduces"]) == (0.1, "below 1", 0.5, True)
    assert (above["beta"], above["side"], above["ours"], above["reproduces"]) == (4.0, "above 1", 2.5, False)
    assert below["printed"] == pytest.approx(51.53 / 123.44)
    assert gae.beta_sides(grid(betas[1:], "alone")).empty  # nothing to compare with


def test_seconds_are_ratios_to_the_vae_and_include_the_fit_of_the_density(grid):
    trials = [
        ("vae", "mnist", COMMON, "paper", "complete", fid(1.0, seconds=10.0)),
        ("gae", "mnist", COMMON, "paper", "complete", fid(1.0, seconds=8.0, fit=7.0)),
        ("vae", "fashion_mnist", COMMON, "paper", "complete", fid(1.0, seconds=20.0)),
    ]
    table = gae.table4(grid(trials)).set_index(["dataset", "method"])
    assert table["ratio"].to_dict() == {("mnist", "vae"): 1.0, ("mnist", "gae"): 1.5, ("fashion_mnist", "vae"): 1.0}
    assert table.loc[("mnist", "gae"), "printed_ratio"] == pytest.approx(125.22 / 135.04)


@pytest.fixture
def toy(grid) -> Sweep:
    errors = {"vae": [0.42, 0.44, 0.43], "gae": [0.01, 0.02, 0.03]}
    vectors = {f"{kind}_{i}": [0.0, 0.5] for kind in ("point", "reconstruction", "sample") for i in range(2)}
    trials = [
        (
            method,
            "cosine",
            {"latent_dim": 1, "network": "mlp_256"},
            "paper",
            "complete",
            {"valid/mse": e, "valid/mse_1": 2 * e} | kl,
        )
        for method, kl in (("vae", {"valid/kl": 0.001}), ("gae", {}))
        for e in errors[method]
    ]
    return grid(trials, "toy", "valid/mse", vectors)


def test_table_2_is_the_mean_and_spread_over_the_trials(toy):
    table = gae.table2(toy).set_index(["method", "metric"])
    row = table.loc[("gae", "reconstruction error, both coordinates")]
    assert (row["printed"], row["printed_std"], row["trials"], row["epochs"]) == (0.0101, 0.0106, 3, 30)
    assert row["ours"] == pytest.approx(0.02) and row["ours_std"] == pytest.approx(statistics.stdev([0.01, 0.02, 0.03]))
    assert table.loc[("vae", "reconstruction error, the cosine alone"), "ours"] == pytest.approx(0.86)
    assert table.loc[("vae", "regularization error"), "printed"] == 0.0006
    assert ("gae", "regularization error") not in table.index


def test_figure_4_has_a_panel_for_each_trial_with_what_it_drew(toy):
    panels = gae.figure4(toy).axes
    assert len(panels) == 6
    assert {tuple(line.get_label() for line in panel.get_lines()) for panel in panels} == {
        ("point", "sample", "reconstruction")
    }
    assert panels[3].get_title() == "GAE, seed 0\nerror 0.010"


def test_samples_have_a_panel_for_each_hand_tuned_point_also_where_it_failed(grid):
    sweep = grid(
        [
            point("info_vae", "mnist", 90.0, kernel="imq"),
            point("info_vae", "mnist", 30.0, kernel="rbf", state="diverged"),
            point("gae", "mnist", 20.0),
            point("gae", "mnist", 5.0, origin="search"),
        ]
    )
    for trial, grey in (("info_vae-mnist-0000", 0), ("gae-mnist-0000", 255)):
        (sweep.folder / "trials" / trial).mkdir(parents=True)
        Image.new("L", (4, 4), grey).save(sweep.folder / "trials" / trial / "samples.png")
    panels = gae.sample_grids(sweep, "mnist").axes
    titles = ["InfoVAE · 90.0\n", "InfoVAE · diverged\nkernel = rbf", "GAE · 20.0\n"]
    assert [panel.get_title() for panel in panels] == titles
    assert [len(panel.images) for panel in panels] == [1, 0, 1]


def walked(grid, *pairs: tuple[float, float]) -> Sweep:
    metrics = [(beta, {"valid/mse": 0.1, "valid/kl": kl}) for beta, kl in pairs]
    trials = [("beta_vae", "cosine", COMMON | {"beta": b}, "search", "complete", found) for b, found in metrics]
    return grid(trials, f"walk{len(pairs)}", "valid/mse")


def test_the_weight_at_which_the_vae_uncollapses_is_bracketed(grid):
    walk = walked(grid, (1e-3, 4.0), (0.3, 0.01), (0.4, 1.0), (0.6, 0.0), (2.0, 0.0))
    assert gae.uncollapse(walk) == (0.4, 0.6)
    assert len(gae.kl_walk(walk).axes[0].get_lines()) == 2
    with pytest.raises(ValueError, match="no weight of the KL term at which it un-collapses; widen the range"):
        gae.uncollapse(walked(grid, (0.1, 1.0)))


def test_the_gae_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_gae_notebook_shows_every_table(grid, toy, tmp_path, monkeypatch):
    betas = [point("beta_vae", "mnist", 250.0, beta=4.0), point("beta_vae", "mnist", 50.0, beta=0.1)]
    grid([point("vae", "mnist", 100.0), point("gae", "mnist", 30.0), *betas])
    walked(grid, (0.1, 1.0), (2.0, 0.0))
    for name, folder in (("GRID", "grid"), ("TOY", "toy"), ("WALK", "walk2")):
        monkeypatch.setenv(f"GAE_{name}", str(tmp_path / folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, startup_timeout=900, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("text/html" in o.get("data", {}) for o in outputs) == 5  # tables 3, correlations, beta, 4, 2
    assert sum("image/svg+xml" in o.get("data", {}) for o in outputs) == 3  # samples, figure 4, the walk
    assert any("the VAE collapses above a weight between 0.1 and 2" in o.get("text", "") for o in outputs)


def test_each_reading_has_a_row_with_the_mean_of_its_seeds(grid):
    found = [("beta_vae", 300.0, 4.0), ("beta_vae", 60.0, 0.1), ("beta_vae", 40.0, 0.1), ("beta_vae", 5.0, 0.7)]
    trials = [point(method, "mnist", value, beta=beta, warm_up=0.0) for method, value, beta in found]
    table = gae.readings(grid([*trials, point("vae", "mnist", 90.0), point("vae", "mnist", 9.0, state="diverged")]))
    assert table.drop(columns="dataset").values.tolist() == [
        ["vae", "paper", 123.44, 90.0, 1],
        ["beta_vae", "paper", 51.53, 300.0, 1],
        ["beta_vae", "beta_0.1", 51.53, 50.0, 2],
    ]


def test_the_point_of_another_papers_table_is_no_reading(grid):
    """RAE-L2 has a second point on CIFAR-10, whose row is in the Balancing paper's Table 2."""
    (row,) = (row for row in conditions("gae", 3) if row.method == "rae_l2")
    assert list(points("rae_l2", "cifar10")) == ["paper", "balancing"] and row.named_readings("cifar10") == ["paper"]
    own, other = points("rae_l2", "cifar10").values()
    trials = [("rae_l2", "cifar10", values, "paper", "complete", fid(x)) for values, x in ((own, 500.0), (other, 50.0))]
    found = grid(trials)
    table = gae.table3(found).set_index("method")
    assert table.loc["rae_l2", ["hand_tuned", "best_reading"]].tolist() == [500.0, 500.0]
    assert gae.readings(found)["reading"].tolist() == ["paper"]


def test_compressed_images_are_another_recipe(grid):
    found = grid([point("vae", name, 500.0) for name in ("mnist", "cifar10", "cifar10-jpeg")])
    said = gae.table3(found).set_index("dataset")["same_recipe"]
    assert "CIFAR-10 JPEG, printed raw" in said["cifar10-jpeg"]
    assert "CIFAR-10" not in said["mnist"] and "CIFAR-10" not in said["cifar10"]


def test_the_command_prints_and_writes_the_tables_of_joined_sweeps(grid, capsys):
    one = grid([point("vae", "mnist", 200.0), point("beta_vae", "mnist", 50.0, beta=0.1)], "one")
    two = grid([point("gae", "mnist", 40.0)], "two")
    gae.main([str(one.folder), str(two.folder)])
    out = capsys.readouterr().out
    assert "| mnist | vae | 123.4 | 200 | 200 | 200 |" in out
    assert set(read_csv(one.folder / "gae_table3.csv")["method"]) == {"vae", "beta_vae", "gae"}
    assert (one.folder / "gae_table4.csv").exists() and (one.folder / "gae_mnist.png").exists()


def test_the_command_takes_sweeps_of_the_toy_and_of_images_together(grid, toy, capsys):
    walk = walked(grid, (0.1, 1.0), (2.0, 0.0))
    images = grid([point("vae", "mnist", 200.0), point("beta_vae", "mnist", 50.0, beta=0.1)], "images")
    shutil.copytree(toy.folder, toy.folder.with_name("again"))
    gae.main([str(walked(grid, (0.1, 1.0)).folder)])
    assert "no weight of the KL term at which it un-collapses; widen the range" in capsys.readouterr().out
    gae.main([str(walk.folder)])
    alone = capsys.readouterr().out
    assert "collapses at a weight of its KL between 0.1 and 2." in alone and "table3" not in alone
    gae.main([str(folder) for folder in (toy.folder, toy.folder.with_name("again"), walk.folder, images.folder)])
    out = capsys.readouterr().out
    assert "| vae | reconstruction error, both coordinates | 0.5131 |" in out and "between 0.1 and 2." in out
    assert read_csv(toy.folder / "gae_table3.csv")["dataset"].unique().tolist() == ["mnist"]
    names = ("gae_table2.csv", "gae_figure4.png", "gae_kl_walk.png", "gae_mnist.png")
    assert all((toy.folder / name).exists() for name in names)
    gae.figure4(join({"a": toy, "b": toy}))
