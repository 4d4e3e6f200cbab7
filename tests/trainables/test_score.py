"""Scores from the command line: right values, and one line for whatever is wrong."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_contract import arguments

from trainables import Config, find, save
from trainables.datasets import load
from trainables.evaluate.score import main, read_pictures
from trainables.flags import run
from trainables.metrics import Moments, extractor, frechet_distance


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
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1, told
    return told


def test_pictures_are_read_as_they_were_written(digits, tmp_path):
    assert np.array_equal(read_pictures(write(digits.test.images[:5], tmp_path / "a")), digits.test.images[:5])


def test_two_folders_get_the_distance_of_their_images(digits, tmp_path, capsys):
    a = write(digits.train.images[:90], tmp_path / "a")
    b = write(digits.test.images[:80], tmp_path / "b")
    out = tmp_path / "told.json"
    main([str(a), "--against", str(b), "--scores", "distance", "kid", "--json-file", str(out)])
    told, fcd = json.loads(out.read_text()), extractor("fcd", digits)
    sides = (torch.tensor(x).float() / 255 for x in (digits.train.images[:90], digits.test.images[:80]))
    expected = frechet_distance(*(Moments.of(fcd(x)) for x in sides))
    assert told["values"]["fcd"] == pytest.approx(expected, rel=1e-6)
    assert set(told["values"]) == {"fcd", "fcd_kid"}
    assert (told["recipe"]["n"], told["recipe"]["reference_n"]) == (90, 80)
    assert f"fcd {expected:.6g}" in capsys.readouterr().out


def test_a_saved_model_is_drawn_from(tmp_path, capsys):
    cls = find("vae")
    torch.manual_seed(0)
    given = arguments("vae")["values"]
    method = cls(cls.Hyper(**given), (1, 8, 8))
    save(method, Config(method="vae", dataset="digits", values=given, epochs=1), tmp_path / "winner")
    told = []
    for _ in range(2):
        main([str(tmp_path / "winner"), "--samples", "60"])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]  # the same draws
    assert "60 images (prior) against 300 of test, classifier-digits" in told[0]
    assert "few_images" in told[0]
    assert "drawn from by prior" in says(capsys, tmp_path / "winner", "--sampler", "gmm")
    (tmp_path / "winner" / "model.safetensors").write_bytes(b"no")
    assert "holds no saved method" in says(capsys, tmp_path / "winner")


def test_a_model_that_draws_nan_is_refused(tmp_path, capsys):
    cls, given = find("vae"), arguments("vae")["values"]
    method = cls(cls.Hyper(**given), (1, 8, 8))
    with torch.no_grad():
        next(method.decoder.parameters()).fill_(torch.nan)
    save(method, Config(method="vae", dataset="digits", values=given, epochs=1), tmp_path / "winner")
    assert "draws images that are not finite" in says(capsys, tmp_path / "winner", "--samples", "5")


def test_what_is_wrong_with_a_folder_is_said_in_one_line(digits, tmp_path, capsys):
    assert "there is no such folder" in says(capsys, tmp_path / "nowhere")
    assert "holds 1 pictures; at least 2" in says(capsys, write(digits.test.images[:1], tmp_path / "one"))
    mixed = write(digits.test.images[:3], tmp_path / "mixed")
    Image.new("L", (9, 8)).save(mixed / "zz.png")
    assert "zz.png is of 9 x 8 pixels" in says(capsys, mixed)
    colour = write(digits.test.images[:3], tmp_path / "colour")
    Image.new("RGB", (8, 8)).save(colour / "zz.png")
    assert "zz.png is of 8 x 8 pixels of 3 channels" in says(capsys, colour)
    torn = write(digits.test.images[:3], tmp_path / "torn")
    (torn / "001.png").write_bytes((torn / "001.png").read_bytes()[:60])
    assert "001.png cannot be read as a picture" in says(capsys, torn)
    deep = write(digits.test.images[:3], tmp_path / "deep")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep / "002.png")
    assert "002.png does not hold 8-bit values" in says(capsys, deep)
    bigger = write(np.zeros((3, 1, 16, 16), np.uint8), tmp_path / "bigger")
    assert "takes (1, 8, 8)" in says(capsys, bigger)


def test_wrong_flags_are_said_in_one_line(digits, tmp_path, capsys):
    good = write(digits.test.images[:5], tmp_path / "good")
    assert "unknown scores ['kidd']" in says(capsys, good, "--scores", "kidd")
    assert "unknown metric 'fdi'" in says(capsys, good, "--metric", "fdi")
    noise = tmp_path / "noise.pth"
    noise.write_bytes(b"not weights")
    assert "does not hold the weights" in says(capsys, good, "--metric", "fid", "--fid-weights", noise)
    assert "cannot be written" in says(capsys, good, "--json-file", tmp_path / "no" / "told.json")
