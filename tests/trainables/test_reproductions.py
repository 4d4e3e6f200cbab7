"""The program behind the VG tables, on digits."""

import csv

import numpy as np
import pytest
import torch

from trainables import find
from trainables.datasets import load
from trainables.flags import run
from trainables.reproductions.rows import COLUMNS
from trainables.reproductions.vg import main
from trainables.reproductions.vg import test_loss as loss_of_test_images

SMALL = ["--set", "latent_dim=3", "batch_size=400", "network=mlp_vg_8"]


def test_the_printed_units(tmp_path):
    """A batch of 400 digits: at the start some 44 nats an image (64 pixels of log 2), times 400 for the batch's sum."""
    out = tmp_path / "vg.csv"
    main(["--dataset", "digits", "--out", str(out), "--epochs", "2", "--systems", "vg", "vg_denoise", *SMALL])
    rows = list(csv.DictReader(out.open()))
    assert tuple(rows[0]) == COLUMNS
    recipes = {(row["epochs"], row["seed"], row["set"]) for row in rows}
    assert recipes == {("2", "0", "latent_dim=3 batch_size=400 network=mlp_vg_8")}
    found = {(row["table"], row["metric"], row["epoch"]): float(row["value"]) for row in rows}
    assert len(found) == len(rows) == 2 * 2 + 2 * 3
    assert 30 < found["1", "test set loss", "1"] < 60
    assert 30 * 400 < found["2", "average training loss", "1"] < 60 * 400
    assert found["4", "average training loss", "2"] < found["4", "average training loss", "1"]
    assert found["3", "test set loss", "1"] != found["3", "test set loss, clean input", "1"]


def test_a_second_run_adds_to_the_file(tmp_path):
    out = tmp_path / "vg.csv"
    for system in ("vg", "vg_bn"):
        main(["--dataset", "digits", "--out", str(out), "--epochs", "1", "--systems", system, *SMALL])
    assert [row["variant"] for row in csv.DictReader(out.open())] == 2 * ["without BatchNorm"] + 2 * ["with BatchNorm"]


def test_a_file_of_other_columns_is_refused_before_the_training(tmp_path):
    out = tmp_path / "vg.csv"
    out.write_text("paper,table\nVAE-GAN,1\n")
    with pytest.raises(ValueError, match=r"has the columns paper, table, not paper, table, dataset.*; give a new file"):
        main(["--dataset", "digits", "--out", str(out), "--epochs", "10000", *SMALL])
    assert out.read_text() == "paper,table\nVAE-GAN,1\n"


def test_a_divergence_ends_in_one_line_and_code_1(tmp_path, capsys):
    flags = ["--dataset", "digits", "--out", str(tmp_path / "vg.csv"), "--epochs", "1", *SMALL, "learning_rate=1e30"]
    with pytest.raises(SystemExit) as caught:
        run("prog", main, flags)
    screen = capsys.readouterr()
    assert caught.value.code == 1 and screen.err == ""
    assert screen.out.startswith("diverged: stage train, epoch 1, ") and screen.out.count("\n") == 1


def test_the_loss_of_many_images_is_that_of_one_batch():
    torch.manual_seed(0)
    values = {"latent_dim": 3, "learning_rate": 1e-3, "batch_size": 8, "network": "mlp_vg_8"}
    method = find("vg")(find("vg").Hyper(beta=1, adversarial_weight=1, **values), (1, 4, 4)).eval()
    images = torch.randint(0, 256, (2300, 1, 4, 4), dtype=torch.uint8)
    x = images / 255
    assert loss_of_test_images(method, images, noisy=True) == pytest.approx(method.loss_at_mean(x, x).item(), rel=1e-5)


def test_pictures_of_the_test_set_are_kept_and_change_no_number(tmp_path):
    """The encoder of a denoising system sees other images than it reconstructs; the numbers are those of a run
    without pictures."""
    flags = ["--dataset", "digits", "--epochs", "1", "--systems", "vg", "vg_denoise", *SMALL]
    main([*flags, "--out", str(tmp_path / "with.csv"), "--pictures", str(tmp_path / "pictures")])
    main([*flags, "--out", str(tmp_path / "without.csv")])
    assert (tmp_path / "with.csv").read_text() == (tmp_path / "without.csv").read_text()
    test = load("digits", tmp_path).test
    for system, noisy in (("vg", False), ("vg_denoise", True)):
        held = np.load(tmp_path / "pictures" / f"{system}.npz", allow_pickle=False)
        assert np.array_equal(held["image"], test.images[:10])
        assert np.array_equal(held["seen"], held["image"]) != noisy
        for name in ("reconstruction", "sample"):
            assert held[name].shape == (10, 1, 8, 8) and held[name].std() > 0
        assert held["codes"].shape == (len(test), 3) and np.array_equal(held["labels"], test.labels)
