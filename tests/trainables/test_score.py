"""Scores from the command line: right values, and one line for whatever is wrong."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_contract import arguments

from trainables import Config, find, save
from trainables.datasets import load, read_pictures
from trainables.evaluate.score import main
from trainables.flags import run
from trainables.metrics import Moments, classifier, extractor, frechet_distance


@pytest.fixture(scope="module")
def digits():
    return load("digits", "unused")


def write(images: np.ndarray, folder):
    """uint8 (N, 1, H, W) as PNG files."""
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{i:03}.png")
    return folder


def says(capsys, *argv) -> str:
    """The one line with which the program refuses."""
    with pytest.raises(SystemExit) as end:
        run("prog", main, [str(arg) for arg in argv])
    found = capsys.readouterr().err
    assert end.value.code == 2 and found.count("\n") == 1, found
    return found


def test_pictures_are_read_as_they_were_written(digits, tmp_path):
    assert np.array_equal(read_pictures(write(digits.test.images[:5], tmp_path / "a"))[0], digits.test.images[:5])


def test_two_folders_get_the_distance_of_their_images(digits, tmp_path, capsys):
    a = write(digits.train.images[:90], tmp_path / "a")
    b = write(digits.test.images[:80], tmp_path / "b")
    out = tmp_path / "scores.json"
    main([str(a), "--against", str(b), "--scores", "distance", "kid", "--json-file", str(out)])
    found, fcd = json.loads(out.read_text()), extractor("fcd", digits)
    sides = (torch.tensor(x).float() / 255 for x in (digits.train.images[:90], digits.test.images[:80]))
    expected = frechet_distance(*(Moments.of(fcd(x)) for x in sides))
    assert found["values"]["fcd"] == pytest.approx(expected, rel=1e-6)
    assert set(found["values"]) == {"fcd", "fcd_kid"}
    assert {(recipe["n"], recipe["reference_n"]) for recipe in found["recipes"].values()} == {(90, 80)}
    assert set(found["recipes"]) == set(found["values"])
    assert f"fcd {expected:.6g}" in capsys.readouterr().out


def saved(name: str, folder):
    """A model that nobody trained."""
    cls, given = find(name), arguments(name)["values"]
    torch.manual_seed(0)
    method = cls(cls.Hyper(**given), (1, 8, 8))
    save(method, Config(method=name, dataset="digits", values=given, epochs=1), folder)
    return folder


def test_a_saved_model_is_drawn_from(tmp_path, capsys):
    saved("vae", tmp_path / "winner")
    found = []
    for _ in range(2):
        main([str(tmp_path / "winner"), "--samples", "60"])
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]  # the same draws
    assert "60 images (prior) against 300 of test, classifier-digits" in found[0]
    assert "few_images" in found[0]
    assert "choose from prior" in says(capsys, tmp_path / "winner", "--sampler", "gmm")
    (tmp_path / "winner" / "model.safetensors").write_bytes(b"no")
    assert "contains no saved method" in says(capsys, tmp_path / "winner")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "gae"])  # a posterior, and codes that are points
@pytest.mark.parametrize("sampler", ["gaussian", "second_stage", "flow"])
def test_a_density_is_fitted_behind_any_encoder(name, sampler, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trainables.families.second_stage.STEPS", 20)
    monkeypatch.setattr("trainables.families.flow.STEPS", 20)
    folder = str(saved(name, tmp_path / "model"))
    found = []
    for _ in range(2):
        main([folder, "--samples", "60", "--sampler", sampler])
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] and f"60 images ({sampler}) against" in found[0]
    main([folder, "--samples", "60"])
    assert capsys.readouterr().out.splitlines()[0] != found[0].splitlines()[0]


def test_a_model_that_draws_nan_is_refused(tmp_path, capsys):
    cls, given = find("vae"), arguments("vae")["values"]
    method = cls(cls.Hyper(**given), (1, 8, 8))
    with torch.no_grad():
        next(method.decoder.parameters()).fill_(torch.nan)
    save(method, Config(method="vae", dataset="digits", values=given, epochs=1), tmp_path / "winner")
    assert "draws images that are not finite" in says(capsys, tmp_path / "winner", "--samples", "5")


def nowhere(digits, here):
    return [here / "nowhere"]


def another_file(digits, here):
    (here / "scores.json").write_text("{}")
    return [here / "scores.json"]


def one_picture(digits, here):
    return [write(digits.test.images[:1], here / "one")]


def one_picture_beside(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--against", write(digits.test.images[:1], here / "one")]


def mixed_sizes(digits, here):
    mixed = write(digits.test.images[:3], here / "mixed")
    Image.new("L", (9, 8)).save(mixed / "zz.png")
    return [mixed]


def mixed_colours(digits, here):
    colour = write(digits.test.images[:3], here / "colour")
    Image.new("RGB", (8, 8), "red").save(colour / "zz.png")
    return [colour]


def wrong_channels(digits, here):
    colour = here / "colour"
    colour.mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8), "red").save(colour / f"{name}.png")
    return [colour]


def torn_picture(digits, here):
    torn = write(digits.test.images[:3], here / "torn")
    (torn / "001.png").write_bytes((torn / "001.png").read_bytes()[:60])
    return [torn]


def other_size(digits, here):
    return [write(np.zeros((3, 1, 16, 16), np.uint8), here / "bigger")]


def other_size_beside(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--against", *other_size(digits, here)]


def unknown_score(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--scores", "kidd"]


def unknown_metric(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--metric", "fdi"]


def no_weights(digits, here):
    (here / "noise.pth").write_bytes(b"not weights")
    return [
        write(digits.test.images[:3], here / "good"), "--metric", "fid", "--fid-weights", here / "noise.pth"
    ]  # fmt: skip


def weights_of_another_network(digits, here):
    return [
        write(digits.test.images[:3], here / "good"), "--metric", "fid", "--fid-weights", other_network(here)
    ]  # fmt: skip


def a_file_in_no_folder(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--json-file", here / "no" / "scores.json"]


def a_folder_for_a_file(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--save-statistics", here / "good"]


def no_such_device(digits, here):
    return [write(digits.test.images[:3], here / "good"), "--device", "cuda:99"]


WRONG = {
    a_folder_for_a_file: "good: cannot be written (it is a folder)",
    no_such_device: "device = 'cuda:99': not available on this machine",
    nowhere: "nowhere: there is no such file or folder",
    another_file: "scores.json is neither a folder of pictures nor an .npy of images",
    one_picture: "one must hold at least 2 pictures, got 1",
    one_picture_beside: "one must hold at least 2 pictures, got 1",
    mixed_sizes: "zz.png is 9x8",
    mixed_colours: "classifier-digits takes images of shape (1, 8, 8), got (3, 8, 8)",
    wrong_channels: "classifier-digits takes images of shape (1, 8, 8), got (3, 8, 8)",
    torn_picture: "1 of 3 pictures cannot be read",
    other_size: "takes images of shape (1, 8, 8)",
    other_size_beside: "takes images of shape (1, 8, 8)",
    unknown_score: "unknown scores ['kidd']",
    unknown_metric: "unknown metric 'fdi'",
    no_weights: "does not contain the weights",
    weights_of_another_network: "does not contain the weights",
    a_file_in_no_folder: "cannot be written",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_with_pictures_and_flags_is_said_in_one_line(wrong, digits, tmp_path, capsys):
    assert WRONG[wrong] in says(capsys, *wrong(digits, tmp_path))


@pytest.mark.slow
def test_the_program_itself_ends_with_that_line(digits, tmp_path):
    command = [sys.executable, "-m", "trainables.evaluate", *map(str, mixed_sizes(digits, tmp_path))]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("python -m trainables.evaluate: error: ") and ended.stderr.count("\n") == 1


def other_network(folder):
    """Weights that torch reads, of a network with some of Inception's names."""
    torch.save({"fc.weight": torch.ones(1000, 512), "conv1.weight": torch.ones(3)}, folder / "resnet.pth")
    return folder / "resnet.pth"


# Arrays of images


def test_an_array_of_floats_is_scored_as_the_pictures_it_would_make(digits, tmp_path, capsys):
    np.save(tmp_path / "floats.npy", digits.test.images[:70].astype(np.float64) / 255)
    pictures = write(digits.test.images[:70], tmp_path / "pictures")
    found = []
    for source in (tmp_path / "floats.npy", pictures):
        main([str(source), "--split", "valid"])
        found.append(capsys.readouterr().out.splitlines()[0])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((3, 1, 8, 8), 1.5), "got values from 1.5 to 1.5"),
        (np.full((3, 1, 8, 8), -0.5), "got values from -0.5 to -0.5"),
        (np.full((3, 1, 8, 8), np.nan), "floats in [0, 1] without NaN"),
        (np.zeros((3, 8, 8, 1), np.uint8), "of 1 or 3 channels, got uint8 (3, 8, 8, 1)"),
        (np.zeros((3, 1, 8, 8), np.int64), "got int64"),
        (np.zeros((1, 1, 8, 8), np.uint8), "holds 1 images; at least 2"),
        (np.array([{}, {}]), "cannot be read as an array"),
        (np.arange(576, dtype=np.uint8).reshape(3, 3, 8, 8), "takes images of shape (1, 8, 8)"),
    ],
)
def test_what_is_wrong_with_an_array_is_said_in_one_line(images, message, tmp_path, capsys):
    np.save(tmp_path / "images.npy", images)
    assert message in says(capsys, tmp_path / "images.npy")


def test_a_file_that_only_looks_like_an_array_is_named(tmp_path, capsys):
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY")
    assert "torn.npy cannot be read as an array" in says(capsys, tmp_path / "torn.npy")
    with open(tmp_path / "several.npy", "wb") as file:
        np.savez(file, a=np.zeros(3), b=np.zeros(3))
    assert "several.npy contains several arrays; give an .npy" in says(capsys, tmp_path / "several.npy")


# Files of statistics


def test_statistics_stand_for_the_images_they_were_made_from(digits, tmp_path, capsys):
    a, b = (tmp_path / f"{name}.npy" for name in "ab")
    np.save(a, digits.train.images[:90])
    np.save(b, digits.test.images[:80])
    main([str(b), "--save-statistics", str(tmp_path / "b.npz")])
    found = []
    for against in (b, tmp_path / "b.npz"):
        main([str(a), "--against", str(against), "--json-file", str(tmp_path / "scores.json")])
        found.append(json.loads((tmp_path / "scores.json").read_text()))
    assert found[0]["values"]["fcd"] == pytest.approx(found[1]["values"]["fcd"], rel=1e-9)
    assert found[1]["recipes"]["fcd"]["reference_n"] == 80 and "unknown_recipe" not in found[1]["caveats"]
    assert "contains no images, which ['kid', 'ndb'] need" in says(
        capsys, a, "--against", tmp_path / "b.npz", "--scores", "distance", "kid", "ndb"
    )


def test_statistics_of_another_recipe_are_refused(digits, tmp_path, capsys):
    good = tmp_path / "good.npy"
    np.save(good, digits.test.images[:80])
    ours = tmp_path / "ours.npz"
    main([str(good), "--save-statistics", str(ours)])
    with np.load(ours) as file:
        arrays = dict(file)

    def refused(**changes) -> str:
        made = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
        np.savez(tmp_path / "other.npz", **made)
        return says(capsys, good, "--against", tmp_path / "other.npz")

    recipe = json.loads(str(arrays["recipe"]))
    other = json.dumps(recipe | {"fingerprint": "0123", "resize": "bicubic"})
    assert f"fingerprint 0123 instead of {recipe['fingerprint']}; resize bicubic" in refused(recipe=np.array(other))
    assert "does not contain a recipe" in refused(recipe=None)
    assert "contains no statistics" in refused(mu=None)
    assert "64 dimensions, got mu (3,)" in refused(mu=np.zeros(3))
    assert "NaN or infinite" in refused(mu=np.full(64, np.nan))
    assert "contains no statistics" in refused(recipe=np.array("no json"))
    (tmp_path / "torn.npz").write_bytes(ours.read_bytes()[:200])
    assert "torn.npz contains no statistics" in says(capsys, good, "--against", tmp_path / "torn.npz")
    assert "contains no statistics" in says(capsys, good, "--against", tmp_path / "nowhere.npz")
    assert "cannot be written" in says(capsys, good, "--save-statistics", tmp_path / "no" / "x.npz")


# NDB and the likelihood


def test_ndb_stands_beside_what_chance_does(digits, tmp_path, capsys):
    np.save(tmp_path / "ones.npy", digits.test.images[digits.test.labels == 1])
    main([str(tmp_path / "ones.npy"), "--scores", "ndb", "--json-file", str(tmp_path / "scores.json")])
    found = json.loads((tmp_path / "scores.json").read_text())
    values, n = found["values"], int((digits.test.labels == 1).sum())
    assert set(values) == {f"ndb{js}_{k}{real}" for js in ("", "_js") for k in (100, 200) for real in ("", "_real")}
    assert values["ndb_100"] > 2 * values["ndb_100_real"] and values["ndb_js_100"] > values["ndb_js_100_real"]
    assert found["recipes"]["ndb_100"]["n"] == n and "pixels of" in capsys.readouterr().out
    flags = ["--whiten", "--bin-images", "600", "--json-file", str(tmp_path / "whitened.json")]
    main([str(tmp_path / "ones.npy"), "--scores", "ndb", *flags])
    found = json.loads((tmp_path / "whitened.json").read_text())
    whitened, recipe = found["values"], found["recipes"]["ndb_100"]
    assert (recipe["metric"], recipe["reference_n"], recipe["n"]) == ("whitened pixels", 600, n)
    assert set(whitened) == {f"ndb{js}_100{real}" for js in ("", "_js") for real in ("", "_real")}  # 600 fill 100 bins
    few = write(digits.test.images[:5], tmp_path / "few")
    assert "ndb needs 500 images" in says(capsys, few, "--against", few, "--scores", "ndb")


def test_ndb_counts_all_images_of_a_large_split_and_needs_no_features(digits, tmp_path, monkeypatch):
    """Other metrics compare with at most 10,000 images of a split."""
    monkeypatch.delattr("trainables.evaluate.score.extractor")
    many = replace(digits, test=replace(digits.test, images=np.tile(digits.test.images, (40, 1, 1, 1))))
    monkeypatch.setattr("trainables.evaluate.score.load", lambda *_, **__: many)
    np.save(tmp_path / "images.npy", many.test.images[:11_000])
    main([str(tmp_path / "images.npy"), "--scores", "ndb", "--json-file", str(tmp_path / "scores.json")])
    found = json.loads((tmp_path / "scores.json").read_text())
    assert {found["recipes"][name]["n"] for name in ("ndb_100", "ndb_100_real")} == {11_000}


def test_the_likelihood_of_a_saved_model_is_bounded_twice(tmp_path, capsys):
    winner = saved("vae", tmp_path / "winner")
    found = []
    for _ in range(2):
        main([str(winner), "--samples", "50", "--scores", "nll", "--nll-images", "12"])
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    values = {line.split()[0]: float(line.split()[1]) for line in found[0].splitlines()[:3]}
    assert values["nll_500"] < values["nll_bound"] and 0 < values["gamma"] < 1
    assert "likelihood of 12 images" in found[0]


def test_a_likelihood_is_relative_to_the_prior_where_a_second_stage_is_the_sampler(tmp_path, capsys, monkeypatch):
    monkeypatch.delattr("trainables.evaluate.score.extractor")  # it needs no features
    main([str(saved("two_stage_vae", tmp_path / "two")), "--samples", "20", "--scores", "nll", "--nll-images", "12"])
    values = {line.split()[0]: float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[:3]}
    assert values["nll_500"] < values["nll_bound"]


def test_a_method_without_a_likelihood_gets_the_reason(digits, tmp_path, capsys):
    nll = ("--samples", "20", "--scores", "nll")
    assert "which this model's gmm lacks" in says(capsys, saved("rae_l2", tmp_path / "rae"), *nll)
    assert "this model is deterministic" in says(capsys, saved("wae", tmp_path / "wae"), *nll)
    assert "nll needs a saved model" in says(capsys, write(digits.test.images[:5], tmp_path / "pictures"), *nll)


def test_the_training_of_a_classifier_is_shown_before_it_begins(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(classifier.RECIPE, "min_steps", 5)
    (tmp_path / "set").mkdir()
    for name, part in (("a", slice(0, 30)), ("b", slice(30, 60))):
        write(digits.train.images[part], tmp_path / "set" / name)
    scored = write(digits.test.images[:30], tmp_path / "scored")
    for announced in (1, 0):
        main([str(scored), "--dataset", f"folder:{tmp_path / 'set'}"])
        assert capsys.readouterr().err.count("set: training the classifier of fcd on ") == announced
