"""`python -m trainables`: a value is walked from the command line to the loss; mistakes end in one line."""

import json

import pytest
from PIL import Image

from trainables.__main__ import main
from trainables.flags import run
from trainables.methods.beta_vae import BetaVAE
from trainables.metrics import classifier

QUICK = ["--dataset", "digits", "--samples", "20", "--epochs", "1", "--device", "cpu"]


def test_a_value_walks_from_the_command_line_to_the_loss_and_into_the_saved_folder(tmp_path, capsys, monkeypatch):
    seen = set()
    loss = BetaVAE.loss
    monkeypatch.setattr(BetaVAE, "loss", lambda self, x: (seen.add(self.hyper.beta), loss(self, x))[1])
    out = tmp_path / "out"
    main(["beta_vae", *QUICK, "--set", "beta=0.375", "network=mlp_16", "--seed", "7", "--out", str(out)])
    assert seen == {0.375}
    found = json.loads((out / "config.json").read_text())["config"]
    assert found["values"]["beta"] == 0.375 and found["values"]["network"] == "mlp_16"
    assert found["values"]["batch_size"] == 20  # the paper's point for digits
    assert found["seed"] == 7 and found["dataset"] == "digits"
    screen = capsys.readouterr().out
    assert "epoch   1  train" in screen and "fcd_reconstruction" in screen and f"saved in {out}" in screen
    for picture in ("samples.png", "reconstructions.png"):
        assert Image.open(out / picture).size[0] > 100


def test_each_epoch_is_one_line_and_the_end_a_table(capsys):
    main(["vae", *QUICK[:-3], "2", "--device", "cpu", "--set", "network=mlp_8", "batch_size=400"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[:2]] == [["epoch", str(n), "train", "loss"] for n in (1, 2)]
    assert "fcd" not in lines[0] and lines[1].split()[5] == "fcd" and len(lines[1].split()) == 7
    table = lines[lines.index("valid") + 1 : lines.index("flag")]
    found = " ".join(table).split()
    assert lines[1].split()[6] == found[found.index("fcd") + 1]
    assert {"mse", "psnr", "active_dims", "kl"} <= set(found) and all(line.startswith("  ") for line in table if line)


def test_a_divergence_is_reported_as_a_result_with_exit_code_1(tmp_path, capsys):
    wild = ["learning_rate=1e30", "network=mlp_16", "batch_size=100", "likelihood=sse"]
    with pytest.raises(SystemExit) as caught:
        run("python -m trainables", main, ["vae", *QUICK, "--out", str(tmp_path / "out"), "--set", *wild])
    screen = capsys.readouterr()
    assert caught.value.code == 1 and not (tmp_path / "out").exists()
    assert "diverged: stage train, epoch 1, " in screen.out and screen.err == ""


def test_values_may_come_from_a_file_of_ones_own(tmp_path, capsys):
    space = tmp_path / "mine.toml"
    values = '{ latent_dim = 2, learning_rate = 1e-3, batch_size = 100, network = "mlp_8", likelihood = "bce" }'
    space.write_text(f'[[paper]]\nsource = "mine"\ndatasets = ["mnist"]\nvalues = {values}\n')
    main(["trainables.methods.vae:VAE", *QUICK, "--values", str(space), "--out", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "config.json").read_text())["config"]
    assert found["values"]["latent_dim"] == 2


@pytest.mark.parametrize(
    "written, word",
    [
        ("[[paper]]\nvalues = { latent_dim = 2 }", "'datasets'"),
        ('[[paper]]\ndatasets = ["mnist"]\nvalues = { latent_dim = 2 }\n[[paper]]\ndatasets = ["digits"]', "'values'"),
        ("paper = []", "list index out of range"),
        ("paper = 3", "'int' object is not iterable"),
    ],
)
def test_a_paper_point_that_lacks_a_key_is_an_error_of_one_line(written, word, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(written)
    with pytest.raises(SystemExit) as caught:
        run("python -m trainables", main, ["vae", *QUICK, "--values", str(tmp_path / "mine.toml")])
    found = capsys.readouterr().err
    assert caught.value.code == 2 and found.count("\n") == 1
    assert f"mine.toml: no [[paper]] point to start from ({word})" in found


@pytest.mark.parametrize(
    "argv, words",
    [
        (["vea"], "method 'vea' is not known; did you mean 'vae'?"),
        (["vae", "--dataset", "digit"], "digit"),
        (["vae", "--set", "bata=1"], "vae: unknown key 'bata'"),
        (["vae", "--set", "likelihood=mse"], "vae: likelihood = 'mse': input should be 'bce', 'sse' or 'gaussian'"),
        (["vae", "--epochs", "0"], "epochs = '0'"),
        (["vae", "--metric", "fdi"], "metric = 'fdi': unknown metric 'fdi'; did you mean"),
        (["vae", "--epohcs", "3"], "Unknown option: --epohcs. Did you mean --epochs?"),
        (["vae", "--values", "nowhere.toml"], "nowhere.toml: no [[paper]] point to start from"),
        (["vae", "--set", "batch_size=5000"], "batch_size = 5000 is larger than the"),
        (["vae", "--set", "network=resnet_20_1_32"], "GB to train, and this machine has"),
        (["vae", "--set", "latent_dim=100000000000"], "GB to train, and this machine has"),
        (["vae", "--set", "latent_dim=99999999999999999999"], "vae: cannot be built"),
        (["vae", "--set", "network=resnot"], "network = 'resnot' is not known"),
        (["vae", "--device", "cuda:99"], "device = 'cuda:99': not available on this machine"),
        (["vae", "--device", "gpu"], "device = 'gpu': not available on this machine"),
        (["vae", "--image-size", "3"], "image_size = '3': input should be greater than or equal to 4"),
        (["vae", "--seed", str(2**64)], "seed = '18446744073709551616': input should be less than"),
        (["vae", "--epochs", "2", "--epochs", "3"], "--epochs specified multiple times"),
        (["vae", "--out", __file__], "test_main.py cannot be written"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(argv, words, capsys):
    with pytest.raises(SystemExit) as caught:
        run("python -m trainables", main, argv)
    assert caught.value.code == 2
    found = capsys.readouterr().err
    assert words in found and found.count("\n") == 1


def test_the_training_of_a_classifier_is_shown_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(classifier.RECIPE, "min_steps", 5)
    for i in range(60):
        kind = tmp_path / "leaves" / "ab"[i % 2]
        kind.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 100 * (i % 2) + i).save(kind / f"{i}.png")
    leaves = ["--dataset", f"folder:{tmp_path / 'leaves'}", "--set", "network=mlp_8", "batch_size=5"]
    found = []
    for _ in range(2):
        main(["vae", *leaves, "--samples", "20", "--epochs", "1", "--device", "cpu"])
        found.append(
            [line.startswith("leaves: training the classifier") for line in capsys.readouterr().out.split("\n")]
        )
    assert (sum(found[0]), sum(found[1])) == (1, 0)
