"""Our runs beside the Balancing and the Regularization paper's print, on the print itself and on records we know."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.load import PUBLISHED, Sweep, read_sweep
from analysis.papers import balancing, regularization
from analysis.papers.beside import changed
from analysis.papers.conditions import points
from trainables.metrics import Recipe

CIFAR, NEAREST = points("two_stage_vae", "cifar10"), points("two_stage_vae", "celeba64_nn")
COMPUTED, LEARNED = CIFAR["paper"], CIFAR["learned"]
END = {"valid/fid": 70.0, "valid/fid_prior": 80.0, "valid/fid_reconstruction": 50.0, "valid/mse": 0.004}
END |= {"valid/fid_second_normalised": 63.0, "valid/var_law": 0.9, "valid/var_law_sd": 0.95, "valid/gamma": 0.002}
END |= {"valid/inactive": 20.0, "valid/inactive_sd": 17.0}


@pytest.fixture
def sweep(tmp_path, write_record):
    """A sweep from (method, dataset, values, metrics) of each complete trial."""

    def make(trials: list[tuple], name: str = "s", metric: str = "valid/fid", looks=None, **config) -> Sweep:
        studies, events = {}, []
        for number, (method, dataset, values, metrics) in enumerate(trials):
            study, trial = f"{method}-{dataset}", f"{method}-{dataset}-{number:04d}"
            about = {"study": study, "method": method, "dataset": dataset, "trials": 9, "epochs": 21, "metric": metric}
            studies.setdefault(
                study, about | {"hand_tuned": values, "space": {k: {"value": v} for k, v in values.items()}}
            )
            row = {"epoch": 21, "stage": "second", "metrics": metrics}
            before = [{"epoch": epoch, "stage": "first", "metrics": shown} for epoch, shown in (looks or {}).items()]
            start = {
                "event": "start",
                "trial": trial,
                "study": study,
                "number": number,
                "values": values,
                "seed": number,
            }
            events += [
                start | {"origin": "paper", "attempt": 1},
                {"event": "report", "trial": trial, "rows": [*before, row]},
                {"event": "end", "trial": trial, "state": "complete", "epoch": 21, "reason": ""},
            ]
        opening = {"event": "sweep", "sweep": "s", "config": config, "studies": list(studies.values())}
        events = [{"time": float(i), **event} for i, event in enumerate([opening, *events])]
        return read_sweep(write_record(tmp_path / name, events))

    return make


def program_csv(path: Path, rows: list[tuple]) -> Path:
    """What trainables.reproductions.regularization writes: (table, dataset, method, variant, metric, epoch, value)."""
    columns = ["paper", "table", "dataset", "method", "variant", "metric", "epoch", "value", "std"]
    pd.DataFrame([("Regularization", *row, "") for row in rows], columns=columns).to_csv(path, index=False)
    return path


def as_measured(path: Path, table: int, dataset: str) -> pd.DataFrame:
    """The print of a table as if it were ours, after epoch 7."""
    print_ = pd.read_csv(PUBLISHED / f"regularization_table{table}.csv")
    print_[print_["dataset"] != "CelebA-128"].assign(dataset=dataset, epoch=7).to_csv(path, index=False)
    return regularization.read([path])


def test_the_prints_kappa_sweep_beside_itself(tmp_path):
    table = regularization.table1(as_measured(tmp_path / "ours.csv", 1, "mnist"))
    assert list(table["kappa"]) == [50, 100, 200, 400, 784] and set(table["epochs"]) == {7}
    for column in ("error", "nll", "active", "error_share"):
        assert list(table[column]) == list(table[f"printed_{column}"])
    assert table["error_share"].iloc[-1] == pytest.approx(2.78 / 4.98)
    (order,) = regularization.orderings(table).to_dict("records")
    assert (order["errors"], order["nlls"], order["actives"]) == pytest.approx((1, 1, 1))
    assert order["saturates"] == order["printed_saturates"] == 200  # 20 of 22


@pytest.mark.parametrize(
    ("active", "kappa"), [([10, 15, 20, 22, 22], 200), ([1, 2, 3, 4, 5], None), ([9, 9, 9, 9, 9], 50)]
)
def test_where_active_dimensions_saturate(active, kappa):
    assert regularization.saturation([50, 100, 200, 400, 784], active) == kappa


def test_a_decoder_that_is_not_printed_has_no_printed_column_and_a_collapse_is_reported(tmp_path):
    plain, residual = "VAE, plain decoder, learnable gamma", regularization.RESIDUAL
    ends = {(plain, 50): (52.91, 0, 1e-4), (plain, 100): (46.0, 0, 2.0), (residual, 50): (20.0, 12, 19.0)}
    metrics = ("Rec. Err. (test)", "# Active", "KL")
    rows = [
        (1, "mnist", method, f"kappa={kappa}", metric, epoch, value + 9 * (epoch < 4))
        for (method, kappa), values in ends.items()
        for metric, value in zip(metrics, values, strict=True)
        for epoch in (1, 4)
    ]
    looks = regularization.read([program_csv(tmp_path / "a.csv", rows)])
    found = regularization.controls(looks).set_index(["method", "kappa"])
    assert found["collapsed"].to_dict() == {(plain, 50): True, (plain, 100): False, (residual, 50): False}
    assert found.loc[(plain, 50), "of_mean_image"] == pytest.approx(52.91 / 52.9)
    table = regularization.table1(looks).set_index(["method", "kappa"])
    assert math.isnan(table.loc[(plain, 50), "printed_error"])
    assert (table.loc[(residual, 50), "printed_error"], table.loc[(residual, 50), "error"]) == (4.98, 20.0)
    assert isinstance(regularization.curves(looks), Figure)
    with pytest.raises(ValueError, match="has no column table; give a file of trainables"):
        (tmp_path / "b.csv").write_text("a,b\n1,2\n")
        regularization.read([tmp_path / "b.csv"])


def test_sweeps_of_tables_1_and_2_beside_print(sweep, capsys):
    """A sweep of the preset has one training per kappa, its errors as mse; other settings are no row of the table."""
    mnist, celeba = points("gaussian_vae", "mnist"), points("gaussian_vae", "celeba64")
    zeros = {f"test/{column}": 0.0 for column in regularization.SCORES.values()}

    def trial(dataset: str, values: dict, error: float, **found: float) -> tuple:
        pixels = regularization.PIXELS[dataset]
        found = {f"test/{name}": value for name, value in found.items()}
        return "gaussian_vae", dataset, values, zeros | {"test/mse": error / pixels} | found

    trials = [
        trial("mnist", mnist["paper"] | {"latent_dim": 50}, 5.0, nll_bound=-9.0),
        trial("mnist", mnist["paper"] | {"latent_dim": 50}, 7.0, nll_bound=-7.0),
        trial("mnist", mnist["paper"] | {"latent_dim": 784}, 3.0),
        trial("mnist", mnist["no_skip"] | {"latent_dim": 50}, 52.9),
        trial("mnist", mnist["paper"] | {"latent_dim": 50, "kl_weight": 2.0}, 99.0),
        trial("celeba64", celeba["paper"], 60.5, mmd_imq=2.0),
        trial("celeba64", celeba["fixed"], 59.6, mmd_imq=7.0),
    ]
    ran = sweep(trials, metric="test/fcd")
    looks = regularization.of_sweeps([ran])
    table = regularization.table1(looks).set_index(["method", "kappa"])
    residual = table.loc[regularization.RESIDUAL]
    assert residual["error"].to_dict() == pytest.approx({50: 6, 784: 3}) and set(table["epochs"]) == {21}
    assert (residual.loc[50, "nll"], residual.loc[50, "printed_nll"], residual.loc[50, "printed_error"]) == (
        -8,
        -315,
        4.98,
    )
    control = regularization.controls(looks).set_index("method")["collapsed"]
    assert control["VAE, plain decoder, learnable gamma"] and not control[regularization.RESIDUAL].any()
    ratios = regularization.table2(looks).set_index("metric")["ratio"]
    assert ratios["MMD"] == pytest.approx(2 / 7) and ratios["Rec. Err."] == pytest.approx(60.5 / 59.6)
    on_validation = [
        (*trial[:3], {name.replace("test/", "valid/"): x for name, x in trial[3].items()}) for trial in trials
    ]
    assert regularization.of_sweeps([sweep(on_validation, "valid", "valid/fcd")]).empty
    regularization.main([str(ran.folder)])
    assert f"{ran.folder}/regularization_tables.csv" in capsys.readouterr().out
    assert regularization.read([ran.folder / "regularization_tables.csv"]).equals(looks)


def test_learned_over_fixed_gamma_in_print(tmp_path):
    table = regularization.table2(as_measured(tmp_path / "ours.csv", 2, "celeba64")).set_index("metric")
    assert table.loc["MMD", "ratio"] == table.loc["MMD", "printed_64"] == pytest.approx(0.29, abs=0.005)
    assert table.loc["MMD", "printed_128"] == pytest.approx(0.32, abs=0.005)
    assert table.loc["Rec. Err.", "ratio"] == pytest.approx(1, abs=0.02)


def test_gammas_are_compared_after_as_many_epochs(tmp_path):
    ends = {"learnable gamma": {4: 6.0}, "fixed gamma = gamma*": {4: 8.0}}
    later = {"learnable gamma": {9: 5.0}, "fixed gamma = gamma*": {4: 8.0}}
    for name, found, epochs in (("same", ends, [4]), ("longer", later, [4, 9])):
        rows = [(2, "mnist", "VAE", v, "MMD", e, x) for v, values in found.items() for e, x in values.items()]
        table = regularization.table2(regularization.read([program_csv(tmp_path / f"{name}.csv", rows)]))
        assert table["epochs"].tolist() == epochs and table["ratio"].notna().sum() == (len(epochs) == 1)


def test_a_training_of_several_settings_is_refused_and_one_of_others_is_said(tmp_path, refusal):
    rows = [(1, "mnist", regularization.RESIDUAL, "kappa=50", "# Active", 4, 12.0)]
    files = []
    for seed in (0, 1):
        files.append(program_csv(tmp_path / f"{seed}.csv", rows))
        pd.read_csv(files[-1]).assign(epochs=4, seed=seed, set="").to_csv(files[-1], index=False)
    with pytest.raises(ValueError, match="kappa=50 was trained with epochs 4; seed 0 and epochs 4; seed 1; give the"):
        regularization.read(files)
    assert "regularization: error: 1, mnist" in refusal(regularization.main, *files)
    pd.read_csv(files[0]).assign(set="latent_dim=2 kl_weight=2").to_csv(files[0], index=False)
    said = f"1, mnist, {regularization.RESIDUAL}, kappa=50: not the paper's point, latent_dim=2 kl_weight=2"
    assert changed(files[:1], regularization.KEYS) == [said] and changed(files[1:], regularization.KEYS) == []
    looks = regularization.read(regularization.OURS)  # those of the notebook
    assert set(looks["table"]) == {1, 2} and len(regularization.table1(looks)) == 5


def test_table_3_pools_no_distances_or_epochs(sweep, capsys):
    values = points("vae_plus", "celeba128")["paper"]
    made = {}
    for name, metric, value in (("a", "valid/fid", 40.0), ("b", "valid/fcd", 4.0), ("c", "valid/fid", 60.0)):
        shown = {metric: value, f"{metric}_prior": 2 * value, f"{metric}_reconstruction": value}
        made[name] = sweep([("vae_plus", "celeba128", values, shown)], name, metric)
    found = regularization.table3(list(made.values())).set_index(["row", "metric"])
    assert found["generation"].to_dict() == {
        ("VAE+", "fid"): 50.0, ("VAE", "fid"): 100.0, ("VAE+", "fcd"): 4.0, ("VAE", "fcd"): 8.0
    }  # fmt: skip
    assert found.loc[("VAE+", "fid"), "trials"] == 2 and set(found["epochs"]) == {21}
    made["c"].studies.update({name: replace(s, epochs=9) for name, s in made["c"].studies.items()})
    regularization.main([str(made[name].folder) for name in ("a", "b")])
    assert "| celeba128 | VAE+ | fid | valid |  | 21 | 1 | 40 | 40 | 1 | 45.6 | 47.5 |" in capsys.readouterr().out
    shown = {"test/fid": 50.0, "test/fid_prior": 100.0, "test/fid_reconstruction": 50.0}
    on_test = sweep([("vae_plus", "celeba128", values, shown)], "test", "test/fid")
    both = regularization.table3([made["a"], on_test]).query("row == 'VAE+'")
    assert dict(zip(both["split"], both["generation"], strict=True)) == {"valid": 40.0, "test": 50.0}
    both = regularization.table3([made["a"], made["c"]]).query("row == 'VAE+'")
    assert dict(zip(both["epochs"], both["generation"], strict=True)) == {21: 40.0, 9: 60.0}


def test_the_second_stage_is_the_better_sampler_in_table_3(sweep, tmp_path):
    metrics = {"valid/fid": 47.5, "valid/fid_prior": 64.8, "valid/fid_reconstruction": 45.6}
    found = regularization.table3([sweep([("vae_plus", "celeba128", {"latent_dim": 64}, metrics)])], {"fid": 39.2})
    rows = found.set_index("row")
    assert rows.loc["VAE+", "price"] == rows.loc["VAE+", "printed_price"] == pytest.approx(47.5 / 45.6)
    assert (rows.loc["VAE", "generation"], rows.loc["VAE", "printed_generation"]) == (64.8, 64.8)
    assert rows.loc["Downsample", "price"] == rows.loc["Downsample", "printed_price"] == 1
    scores = tmp_path / "scores.json"
    found = {"values": {"ndb_100": 0.3, "ndb_100_real": 0.05, "fid": 47.5}}
    pixels = Recipe.without_extractor("pixels", n=500, split="test", sampler="prior").model_dump()
    whitened = pixels | {"metric": "whitened pixels", "reference_n": 80_000, "n": 19_962}
    said = "no: metric pixels, printed whitened pixels; reference_n 500, printed 80000"
    for recipe, alike in ((pixels, said), (whitened, "unknown: n, epochs, network")):
        scores.write_text(json.dumps(found | {"recipes": {"ndb_100": recipe}}))
        (row,) = regularization.table4({"VAE+": scores}).to_dict("records")
        shown = {"row": "VAE+", "bins": 100, "ndb": 0.3, "floor": 0.05, "printed": 0.29}
        assert row == shown | {"same_recipe": alike}
    with pytest.raises(ValueError, match="VQ is no row of Table 4; known: Downsample, WAE-MMD, VAE, VAE\\+"):
        regularization.table4({"VQ": scores})
    with pytest.raises(ValueError, match=r"scores\.json has no kid, only ndb_100, ndb_100_real, fid"):
        regularization.read_scores(scores, "kid")
    with pytest.raises(ValueError, match="no complete trial at the conditions of Tables 1 to 3"):
        regularization.table3([])


def test_tables_of_balancing_take_the_last_printed_epoch(sweep):
    ran = sweep([("two_stage_vae", "cifar10", COMPUTED, END), ("two_stage_vae", "cifar10", LEARNED, END)])
    first = balancing.table(ran, 1).set_index("metric")
    assert dict(first["epoch"]) == dict.fromkeys(("REC", "GEN-1", "GEN-2", "mse", "variance law"), "700")
    assert first["printed"].to_dict() == {
        "REC": 53.8,
        "GEN-1": 80.2,
        "GEN-2": 69.8,
        "mse": 0.0041,
        "variance law": 0.957,
    }
    assert first.loc["variance law", "ours"] == 0.95  # as the released code has it
    second = balancing.table(ran, 2)
    assert set(second["variant"]) == {"computed gamma", "learned gamma; replicated"}
    fifth = balancing.table(ran, 5).set_index("metric")
    assert (fifth.loc["inactive variables", "printed"], fifth.loc["inactive variables", "ours"]) == (17, 17)
    assert balancing.table(ran, 3).empty


def test_looks_at_stage_one_stand_beside_the_rows_before_the_last(sweep):
    """7 epochs of stage one for the print's 700: those after 50 and 400 are ours after 1 and 4."""
    look = {"valid/fid_prior": 99.0, "valid/fid_reconstruction": 98.0, "valid/mse": 0.01, "valid/var_law_sd": 0.9}
    looks = {1: {"train/loss": 1.0}, 4: look, 7: {"train/loss": 1.0}}
    first = balancing.table(sweep([("two_stage_vae", "cifar10", COMPUTED, END)], looks=looks), 1)
    found = first[first["epoch"] == "400"].set_index("metric")
    assert found["ours"].to_dict() == {"REC": 98.0, "GEN-1": 99.0, "mse": 0.01, "variance law": 0.9}
    assert set(found["same_recipe"].str.contains("epochs 4, printed 400")) == {True}
    assert set(first["epoch"]) == {"400", "700"}
    assert first.query("epoch == '700' and metric == 'GEN-2'")["ours"].tolist() == [70.0]


def test_models_of_table_3_and_rows_of_table_4_by_their_conditions(sweep):
    trials = [("two_stage_vae", "celeba64_nn", values, END) for values in NEAREST.values()]
    third = balancing.table(sweep(trials, "three"), 3)
    assert set(third["variant"]) == {
        f"model {model}; {rule} gamma" for model in (1, 2, 3, 4) for rule in ("computed", "learned")
    }
    assert set(third["trials"]) == {1}
    paper = points("two_stage_vae", "celeba64")["paper"]
    fourth = balancing.table(sweep([("two_stage_vae", "celeba64", paper, END)], "four"), 4)
    fourth = fourth.set_index(["variant", "metric"])["ours"]
    assert fourth["computed gamma; latent space norm.", "GEN-2"] == 63 and fourth["computed gamma", "GEN-2"] == 70


def scored(value: float) -> dict:
    return END | {"valid/fid": value}


def test_a_sweep_of_table_5_pools_no_learning_rates_into_tables_1_and_2(sweep):
    rates = {2e-4: 70.0, 1.5e-4: 80.0, 1e-4: 90.0, 5e-5: 100.0}
    ran = sweep([("two_stage_vae", "cifar10", COMPUTED | {"learning_rate": r}, scored(v)) for r, v in rates.items()])
    for number in (1, 2):
        (cell,) = balancing.table(ran, number).query("metric == 'GEN-2'").to_dict("records")
        assert (cell["ours"], cell["trials"]) == (90.0, 1)
    fifth = balancing.table(ran, 5).query("metric == 'GEN-2'").set_index("variant")["ours"]
    assert fifth.to_dict() == {
        "computed gamma; lr=.00020": 70, "computed gamma; lr=.00015": 80, "computed gamma; lr=.00010": 90,
        "computed gamma; lr=.00005": 100,
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        *({"learning_rate": 2e-4}, {"halve_every": 0.357}, {"latent_dim": 128}, {"kl_weight": 4.0}),
        *({"l2": "on", "l2_weight": 1e-3}, {"l2_of": "encoder"}, {"precision": "bfloat16"}),
    ],
    ids=str,
)
def test_a_trial_of_another_setting_is_in_no_cell(sweep, other):
    ran = sweep([("two_stage_vae", "cifar10", values, END) for values in (COMPUTED, COMPUTED | other)])
    assert set(balancing.table(ran, 1)["trials"]) == {1}
    assert len(balancing.ratios(ran)) == 2


def test_images_of_another_resize_are_in_no_cell(sweep):
    nearest = NEAREST["paper"]
    assert balancing.table(sweep([("two_stage_vae", "celeba64", nearest, END)], "bilinear"), 3).empty
    assert balancing.table(sweep([("two_stage_vae", "celeba64_nn", nearest, END)], "nearest"), 4).empty
    resized = sweep([("two_stage_vae", "cifar10", COMPUTED, END)], "small", image_size=16)
    assert balancing.table(resized, 1).empty


def test_each_model_of_table_3_is_beside_its_own_print(sweep):
    values = {"paper": 60.0, "computed_4": 30.0, "learned_1": 120.0, "learned_4": 120.0}
    ran = sweep([("two_stage_vae", "celeba64_nn", NEAREST[name], scored(v)) for name, v in values.items()])
    over = balancing.computed_over_learned(ran).query("metric == 'GEN-2'").set_index("model")
    assert over["ours"].to_dict() == {"model 1": 0.5, "model 4": 0.25} and set(over["epochs"]) == {21}
    last = balancing.printed("balancing", 3).query("epoch == '120/300' and metric == 'GEN-2'").set_index("variant")
    theirs = last.loc["model 4; computed gamma", "printed"] / last.loc["model 4; learned gamma", "printed"]
    assert over.loc["model 4", "printed_celeba64"] == pytest.approx(theirs)


def test_the_headline_compares_the_printed_settings_or_equal_rates(sweep):
    fast = COMPUTED | {"learning_rate": 2e-4}
    trials = [("two_stage_vae", "cifar10", values, scored(x)) for values, x in ((fast, 60.0), (LEARNED, 120.0))]
    assert balancing.computed_over_learned(sweep(trials, "unequal")).empty
    more = [*trials, ("two_stage_vae", "cifar10", COMPUTED, scored(114.0))]
    over = balancing.computed_over_learned(sweep(more, "printed")).set_index("metric")
    assert over.loc["GEN-2", "ours"] == pytest.approx(0.95)


@pytest.mark.parametrize(("epochs", "alike"), [((700, 2100), True), ((234, 700), False)])
def test_epochs_are_compared_by_those_of_stage_one(sweep, epochs, alike):
    """The print counts stage one: 700 of our 2,100 epochs."""
    first, total = epochs
    ran = sweep(
        [("two_stage_vae", "cifar10", COMPUTED, END)], looks={1: {"train/loss": 1.0}, first: {"train/loss": 0.5}}
    )
    ran.trials["epochs"] = total
    said = balancing.table(ran, 1).query("epoch == '700' and metric == 'GEN-2'")["same_recipe"].iloc[0]
    assert ("epochs" not in said) == alike and (alike or f"epochs {first}, printed 700" in said)
    third = sweep([("two_stage_vae", "celeba64_nn", NEAREST["paper"], END)], "three", looks={120: {"train/loss": 0.5}})
    third.trials["epochs"] = 420
    said = balancing.table(third, 3)["same_recipe"].tolist()
    assert said and not any("epochs" in words for words in said)


def test_rows_quoted_for_rae_have_a_counterpart(sweep, capsys, refusal):
    shown = {"valid/fid": 74.0, "valid/fid_gaussian": 81.0, "valid/fid_reconstruction": 32.0}
    ran = sweep([("rae_l2", "cifar10", point, shown) for point in points("rae_l2", "cifar10").values()])
    found = balancing.table(ran, 2).set_index("metric")
    assert found["ours"].to_dict() == {"REC": 32.0, "GEN-1": 81.0, "GEN-2": 74.0} and set(found["trials"]) == {1}
    balancing.main([str(ran.folder)])  # as of the preset balancing-table2-rae
    assert "| RAE-L2 |" in capsys.readouterr().out
    other = sweep([("vae", "mnist", {"latent_dim": 2}, END)], "other")
    assert "error: other has no complete trial of two_stage_vae" in refusal(balancing.main, other.folder)


def test_ratios_hold_on_any_data_set(sweep):
    small = {"learning_rate": 1e-3, "network": "residual_mlp_128_3", "latent_dim": 32, "l2": "off"}
    half = {name: value / 2 for name, value in END.items()}
    ran = sweep(
        [
            ("two_stage_vae", "mnist", small | {"gamma_rule": "computed"}, half),
            ("two_stage_vae", "mnist", small | {"gamma_rule": "learned"}, END),
        ]
    )
    table = balancing.ratios(ran).set_index("gamma")
    for rule in ("computed", "learned"):
        row = table.loc[rule]
        assert (row["prior_gap"], row["second_gain"], row["normalised_gain"]) == pytest.approx((1.6, 0.875, 0.9))
        assert row["gamma_of_mse"] == pytest.approx(0.5) and row["trials"] == 1
    over = balancing.computed_over_learned(ran).set_index("metric")
    assert set(over["ours"]) == {0.5}
    assert over.loc["GEN-2", "printed_cifar10"] == pytest.approx(69.8 / 73.1)
    assert over.loc["GEN-2", "printed_celeba64"] == pytest.approx(59.9 / 60.4)
    printed = balancing.printed_ratios()
    row = printed[(printed["table"] == "1") & (printed["epoch"] == "700")].iloc[0]
    assert row["second_gain"] == pytest.approx(69.8 / 80.2)
    with pytest.raises(ValueError, match="no complete trial of two_stage_vae"):
        balancing.ratios(sweep([("vae", "mnist", {"latent_dim": 2}, END)], "other"))


def test_each_latent_is_a_line_over_epochs(tmp_path):
    rows = [
        {"dataset": "mnist", "method": "VAE", "variant": v, "epoch": e, "latent": j, "posterior_variance": 1 / (e + j)}
        for v in ("a", "b")
        for e in (1, 2, 3)
        for j in range(4)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "latents.csv", index=False)
    figure = balancing.figure4(balancing.latents(tmp_path / "latents.csv"))
    assert [ax.get_title() for ax in figure.axes] == ["VAE\na", "VAE\nb"]
    lines = figure.axes[0].lines[:4]
    assert [list(line.get_ydata()) for line in lines] == [[1 / (e + j) for e in (1, 2, 3)] for j in range(4)]
    other = tmp_path / "other.csv"
    pd.DataFrame([row | {"dataset": "digits"} for row in rows]).to_csv(other, index=False)
    both = balancing.figure4(balancing.latents([tmp_path / "latents.csv", other]))
    assert [ax.get_title() for ax in both.axes] == [
        f"VAE\n{v}, {dataset}" for dataset in ("mnist", "digits") for v in ("a", "b")
    ]
    pd.DataFrame([row | {"posterior_variance": 0.5} for row in rows]).to_csv(other, index=False)
    with pytest.raises(ValueError, match="mnist, VAE, a was trained several times; give the files of one training"):
        balancing.latents([tmp_path / "latents.csv", other])


def test_each_data_set_is_a_line_over_epochs(tmp_path):
    rows = [(1, d, "VAE", "kappa=50", "KL", e, 1.0 * e) for d in ("mnist", "digits") for e in (1, 2)]
    (ax,) = regularization.curves(regularization.read([program_csv(tmp_path / "a.csv", rows)]), ["KL"]).axes
    assert [line.get_label() for line in ax.lines] == [f"VAE, kappa=50, {d}" for d in ("mnist", "digits")]
    assert {len(line.get_xdata()) for line in ax.lines} == {2}


def test_the_figures_are_drawn_from_the_programs_files(tmp_path, capsys, refusal):
    """Figure 5 ends with the first epoch; figure 2 has a line for each rule of gamma."""
    rows = [
        {"dataset": "d", "method": "VAE", "variant": "a", "epoch": e, "latent": j, "posterior_variance": 1 / (e + j)}
        for e in (0.25, 0.5, 1, 2)
        for j in range(3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "latents.csv", index=False)
    line = balancing.figure5(balancing.latents(tmp_path / "latents.csv")).axes[0].lines[0]
    assert list(line.get_xdata()) == [0.25, 0.5, 1] and list(line.get_ydata()) == [4, 2, 1]
    looks = [
        (1, "mnist", f"VAE, residual decoder, {rule} gamma", "kappa=50", metric, epoch, epoch)
        for rule in ("learnable", "computed")
        for metric in (regularization.ERROR, "KL", "gamma")
        for epoch in (1, 2)
    ]
    file = program_csv(tmp_path / "looks.csv", looks)
    panels = balancing.figure2(regularization.read([file])).axes
    assert [ax.get_title() for ax in panels] == [regularization.ERROR, "KL", "gamma"]
    labels = [line.get_label() for line in panels[2].lines]
    assert labels == [f"VAE, residual decoder, {rule} gamma, kappa=50" for rule in ("learnable", "computed")]
    balancing.main([str(file), str(tmp_path / "latents.csv")])
    assert capsys.readouterr().out.split() == [str(tmp_path / f"balancing_figure{n}.png") for n in (2, 4, 5)]
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "other.csv")
    assert "other.csv has no column table" in refusal(balancing.main, tmp_path / "other.csv")
