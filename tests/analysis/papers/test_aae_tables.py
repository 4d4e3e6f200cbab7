"""The AAE paper's tables by sign, and its figure 10, on records whose numbers are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.load import read_published, read_sweep
from analysis.papers import aae

POINT = {"latent_dim": 10}
AAE_FID = [50.0, 90.0, 60.0, 80.0, 70.0]  # seeds differ far more than systems do


@pytest.fixture
def sweep(tmp_path, write_record):
    """A sweep from (method, dataset, seed, state, more values, rows) of each trial, a row being (epoch, metrics)."""

    def make(trials: list[tuple], name: str = "made", metric: str = "valid/fid", **config):
        studies, events, numbers = {}, [], {}
        for method, dataset, seed, state, more, rows in trials:
            study = f"{method}-{dataset}"
            about = {"study": study, "method": method, "dataset": dataset, "trials": 5, "epochs": 9, "metric": metric}
            hand_tuned = POINT | ({"sigma": "raw"} if method == "aae" else {})
            space = {knob: {"value": value} for knob, value in hand_tuned.items()}
            studies.setdefault(study, about | {"hand_tuned": hand_tuned, "space": space})
            number = numbers[study] = numbers.get(study, -1) + 1
            trial = {"event": "start", "trial": f"{study}-{number:04d}", "study": study, "number": number}
            events.append(trial | {"values": hand_tuned | more, "seed": seed, "origin": "paper", "attempt": 1})
            shown = [{"epoch": epoch, "stage": "train", "metrics": metrics} for epoch, metrics in rows]
            events.append({"event": "report", "trial": trial["trial"], "rows": shown})
            events.append({"event": "end", "trial": trial["trial"], "state": state, "epoch": 9, "reason": ""})
        config = {"image_size": 32, "channels": 3} | config  # as the preset has them
        opening = {"event": "sweep", "sweep": "s", "config": config, "studies": list(studies.values())}
        events = [{"time": float(i), **event} for i, event in enumerate([opening, *events])]
        return read_sweep(write_record(tmp_path / name, events))

    return make


def trained(method, values, dataset="mnist", state="complete", score=None, **more):
    """A training a seed, whose last evaluation gave these values."""
    shown = [{"valid/fid": value} | ({"valid/fid_inception_score": score} if score else {}) for value in values]
    return [(method, dataset, seed, state, more, [(9, metrics)]) for seed, metrics in enumerate(shown)]


def off(by, of=AAE_FID):
    return [value + step for value, step in zip(of, by, strict=True)]


def verdicts(table):
    return dict(zip(table["method"], table["verdict"], strict=True))


def test_every_printed_cell_has_a_name_of_ours():
    rows = pd.concat([read_published("aae", table) for table in aae.TABLES])
    assert set(rows["method"]) == set(aae.METHODS) and set(rows["dataset"]) == set(aae.DATASETS)


def test_the_print_is_given_as_differences_to_aae():
    table = aae.printed_differences().set_index(["dataset", "variant", "metric", "method"])
    assert table.loc[("mnist", "32 px", "FID", "iaae_niter"), "printed"] == pytest.approx(68.92 - 74.041)
    assert table.loc[("ffhq", "64 px", "IS", "iaae_kld"), "printed"] == pytest.approx(1.570 - 1.528)
    assert len(table) == 2 * 5 * 7 and "aae" not in table.index.get_level_values("method")


def test_signs_are_compared_with_the_print_seed_by_seed(sweep):
    table = aae.differences(
        aae.values(
            sweep(
                trained("aae", AAE_FID)
                + trained("iaae_mapping", off([-4, -3, -4, -5, -4]))  # printed: lower
                + trained("iaae_niter", off([6, 5, 7, 6, 6]))  # printed: lower
                + trained("iaae_kld", AAE_FID)
                + trained("iaae_feature", off([-3, 3, 1, -1, 0.5]))  # printed: higher
                + trained("iaae_equal", off([8, 9], AAE_FID[:2]))
            )
        )
    )
    assert verdicts(table) == {
        "iaae_mapping": "as in print",
        "iaae_niter": "opposite to print",
        "iaae_kld": "the same training",
        "iaae_feature": "cannot be told apart",
        "iaae_equal": "too few seeds",
    }
    mapping = table.set_index("method").loc["iaae_mapping"]
    assert mapping["difference"] == pytest.approx(-4) and -5 <= mapping["low"] < -4 < mapping["high"] <= -3
    assert (mapping["aae"], mapping["seeds"], mapping["measured_as"]) == (70, 5, "fid")
    assert table.set_index("method").loc["iaae_equal", "aae"] == 70  # of the two seeds that both have
    shown = aae.text(table)
    assert "| **MNIST, AAE** | FID 74.0 | fid 70.0 | 5 | same recipe? no: epochs 9, printed 100 |" in shown
    assert "| latent-mapping-IAAE − AAE | −3.59 (−5 %) | −4.00 (−6 %) [" in shown


def test_the_inception_score_has_rows_of_its_own(sweep):
    made = trained("aae", AAE_FID, score=2.0) + trained("iaae_mapping", off([1, 2, 3, 4, 5]), score=2.2)
    table = aae.differences(aae.values(sweep(made))).set_index("metric")
    assert table.loc["FID", "verdict"] == "opposite to print"
    assert (table.loc["IS", "verdict"], table.loc["IS", "measured_as"]) == ("as in print", "fid_inception_score")
    ours = pd.concat([aae.values(sweep(made, f"of{n}", inception_splits=n)) for n in (1, 10)])
    recipes = aae.differences(ours).query("metric == 'IS'")["same_recipe"].tolist()
    assert recipes == ["no: epochs 9, printed 100", "no: splits 10, printed 1; epochs 9, printed 100"]


def test_distances_to_training_images_are_the_printed_ones(sweep):
    ((*trial, ((epoch, metrics),)),) = trained("aae", [90.0])
    made = [(*trial, [(epoch, metrics | {"valid/fid_to_training": 70.0})])]
    (row,) = aae.values(sweep(made, against_training=True)).query("metric == 'FID'").to_dict("records")
    assert row["value"] == 70.0 and row["same_recipe"] == "no: epochs 9, printed 100"
    assert row["measured_as"] == "fid_to_training"


def test_only_complete_trainings_of_the_first_point_count(sweep):
    made = trained("aae", [50.0, 60.0]) + trained("aae", [1.0], sigma="exp") + trained("aae", [2.0], state="diverged")
    assert aae.values(sweep(made))["value"].tolist() == [50.0, 60.0]


def test_trainings_of_another_setting_or_size_are_in_no_cell(sweep):
    mixed = trained("aae", [50.0]) + trained("aae", [1.0], learning_rate=1e-3) + trained("aae", [2.0], pixels="unit")
    assert aae.values(sweep(mixed))["value"].tolist() == [50.0]
    assert aae.values(sweep(mixed, "native", image_size=None, channels=None)).empty


def test_a_size_has_its_own_printed_cell(sweep):
    made = trained("aae", AAE_FID, "ffhq") + trained("iaae_niter", off([-1, -2, -1, -2, -1]), "ffhq")
    both = pd.concat([aae.values(sweep(made, f"at{px}", image_size=px)) for px in (32, 64)])
    found = aae.differences(both)
    verdicts_of = dict(zip(found["variant"], found["verdict"], strict=True))
    assert verdicts_of == {"32 px": "opposite to print", "64 px": "as in print"}
    shown = aae.text(found)
    assert "| **ffhq, 32 px, AAE** |" in shown and "| **ffhq, 64 px, AAE** |" in shown


def test_values_that_were_measured_differently_are_not_compared(sweep):
    """A sweep by fcd, one of fewer epochs, and one that trained the same seeds again."""
    mapped = trained("iaae_mapping", off([-4, -3, -4, -5, -4]))
    made = [sweep(trained("aae", AAE_FID) + mapped, "fid")]
    made += [sweep(trained("aae", AAE_FID) + mapped, "again")]
    fcd = [(m, d, s, state, more, [(9, {"valid/fcd": 3 * rows[0][1]["valid/fid"]})])
           for m, d, s, state, more, rows in trained("aae", AAE_FID)]  # fmt: skip
    made += [sweep(fcd, "fcd", "valid/fcd")]
    ours = pd.concat([aae.values(one) for one in made])
    (row,) = aae.differences(ours).to_dict("records")
    assert (row["seeds"], row["aae"], row["difference"]) == (5, 70, pytest.approx(-4))
    assert aae.noise(ours)["measured_as"].tolist() == ["fid", "fcd"]
    made[1].studies.update({name: replace(s, epochs=3) for name, s in made[1].studies.items()})
    found = aae.differences(pd.concat([aae.values(one) for one in made[:2]]))
    assert found["seeds"].tolist() == [5, 5]
    assert found["same_recipe"].tolist() == ["no: epochs 9, printed 100", "no: epochs 3, printed 100"]


def test_the_figures_of_two_sizes_are_apart(sweep, capsys):
    made = [
        sweep([("aae", "ffhq", 0, "complete", {}, shrinking([q, q, q]))], f"at{px}", image_size=px)
        for px, q in ((32, 0.2), (64, 0.04))
    ]
    aae.main([str(one.folder) for one in made])
    shown = capsys.readouterr().out
    assert "9: 0.200 | 0 of 1 |" in shown and "9: 0.040 | 1 of 1 |" in shown
    assert [pd.read_csv(one.folder / "aae_sigma.csv")["q50"].unique().tolist() for one in made] == [[0.2], [0.04]]


def test_the_noise_is_the_distance_between_two_seeds_of_aae(sweep):
    found = aae.noise(aae.values(sweep(trained("aae", [60.0, 70.0, 80.0])))).iloc[0]
    assert found["ours"] == pytest.approx((10 + 20 + 10) / 3 / 70)
    assert found["printed"] == pytest.approx(abs(71.304 - 74.041) / 74.041)


def shrinking(q50, code_std=1.0):
    return [
        (epoch, {"valid/fid": 9.0, "valid/sigma_q05": q / 2, "valid/sigma_q50": q, "valid/sigma_q95": 2 * q}
         | {"valid/code_q05": -epoch, "valid/code_q50": 0.1 * epoch, "valid/code_q95": epoch}
         | {"valid/code_std": code_std})
        for epoch, q in zip((1, 3, 9), q50, strict=True)
    ]  # fmt: skip


def test_sigma_is_followed_from_the_first_to_the_last_evaluation(sweep):
    made = [
        ("aae", "mnist", 0, "complete", {}, shrinking([0.2, 0.1, 0.04])),
        ("aae", "mnist", 1, "complete", {}, shrinking([0.4, 0.1, 0.06])),
        ("aae", "mnist", 0, "complete", {"sigma": "exp"}, shrinking([0.02, 0.02, 0.02], code_std=0.1)),
        ("aae", "mnist", 2, "diverged", {}, shrinking([9.0, 9.0, 9.0])),
    ]
    shown = aae.sigma(sweep(made))
    raw, exp = aae.convergence(shown).to_dict("records")
    assert (raw["first_epoch"], raw["last_epoch"], raw["seeds"], raw["collapsed"]) == (1, 9, 2, 1)
    assert (raw["first"], raw["last"]) == (pytest.approx(0.3), pytest.approx(0.05))
    assert (exp["point"], exp["collapsed"]) == ("sigma = exp", 0)  # its codes have no spread either
    assert "| MNIST, AAE | 1: 0.300 | 9: 0.050 | 1 of 2 |" in aae.sigma_text(aae.convergence(shown))
    panels = aae.figure10(shown, "mnist").axes
    assert [ax.get_title() for ax in panels] == ["AAE", "AAE\nsigma = exp"]
    assert panels[0].lines[1].get_ydata().tolist() == [0.4, 0.1, 0.06]
    means = aae.figure10(shown, "mnist", "mu").axes[0]
    assert means.lines[1].get_ydata().tolist() == pytest.approx([0.1, 0.3, 0.9])
    assert means.get_ylim()[0] < -9 and means.get_yscale() == "linear"


def test_the_course_of_a_training_is_a_line_per_system(sweep):
    """Figure 9: the mean over the seeds of the first point; other points and failed trainings do not count."""

    def lines(level):
        return [(e, {"train/loss_critic": level + e, "train/l1": 9.0, "valid/fid": 10 * level}) for e in (1, 2)]

    trials = [("aae", "mnist", seed, "complete", {}, lines(seed)) for seed in (1, 3)]
    trials += [
        ("aae", "mnist", 1, "complete", {"sigma": "exp"}, lines(50)),
        ("aae", "mnist", 5, "failed", {}, lines(7)),
    ]
    trials.append(("iaae_niter", "mnist", 1, "complete", {}, lines(4)))
    found = aae.courses(sweep(trials))
    assert set(found["metric"]) == {"loss, critic", "fid"} and set(found["seed"]) == {1, 3}
    panels = {ax.get_title(): ax for ax in aae.figure9(found, "mnist").axes}
    assert list(panels) == ["loss, autoencoder", "loss, critic", "loss, generator", "fid"]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in panels["loss, critic"].lines}
    assert drawn == {"AAE": [3, 4], "n-iter-IAAE": [5, 6]}
    assert panels["fid"].lines[0].get_ydata().tolist() == [20, 20]


def test_a_sweep_without_these_systems_has_no_rows(sweep):
    other = sweep(trained("vae", AAE_FID))
    assert aae.courses(other).empty
    assert aae.values(other).empty and aae.sigma(other).empty
    assert aae.differences(aae.values(other)).empty


def test_samples_show_each_point_once(sweep):
    made = sweep(trained("aae", AAE_FID) + trained("aae", [9.0], sigma="exp"))
    for trial in ("aae-mnist-0001", "aae-mnist-0005"):
        (made.folder / "trials" / trial).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(made.folder / "trials" / trial / "samples.png")
    titles = [ax.get_title() for ax in aae.sample_grids(made, "mnist").axes]
    assert titles == ["AAE · fid 9.00\nsigma = exp", "AAE · fid 90.0"]


def test_differences_are_written_with_their_sign():
    assert (aae.signed(-3.6, 72.0), aae.signed(3.6), aae.signed(0.0)) == ("−3.60 (−5 %)", "+3.60", "±0.00")


def test_the_program_writes_what_it_found(sweep, capsys, refusal):
    made = sweep(trained("aae", AAE_FID) + trained("iaae_niter", off([-1, -2, -1, -2, -1])))
    aae.main([str(made.folder)])
    assert "as in print" in capsys.readouterr().out
    assert len(pd.read_csv(made.folder / "aae_values.csv")) == 10
    assert "no record" in refusal(aae.main, made.folder / "elsewhere")
