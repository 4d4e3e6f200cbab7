"""The program behind Regularization's Tables 1 and 2, on digits."""

import csv

import pytest
import torch

from trainables import find
from trainables.method import as_images
from trainables.reproductions.regularization import ACTIVE, BOUND, ERROR, main, measured

SMALL = ["--dataset", "digits", "--epochs", "2", "--set", "batch_size=300"]


def rows(path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_sweep_over_kappa_with_and_without_shortcuts(tmp_path):
    out, latents = tmp_path / "table1.csv", tmp_path / "latents.csv"
    nets = ["residual_mlp_16_1", "plain_mlp_16_1_affine"]
    main([*SMALL, "--out", str(out), "--latents", str(latents), "--networks", *nets, "--kappas", "3", "5"])
    found = {(r["method"], r["variant"], r["metric"], int(r["epoch"])): float(r["value"]) for r in rows(out)}
    assert len(found) == len(rows(out))
    assert {key[:2] for key in found} == {
        (f"VAE, {form} decoder{skip}, learnable gamma", f"kappa={kappa}")
        for form, skip in (("residual", ""), ("plain", ", affine skip"))
        for kappa in (3, 5)
    }
    assert {key[3] for key in found if key[2] == ACTIVE} == {1, 2}
    assert {key[3] for key in found if key[2] == "MMD"} == {2}  # too costly for every look
    seen = [row for row in rows(latents) if (row["variant"], row["epoch"]) == ("kappa=5", "2")]
    assert [row["latent"] for row in seen] == 2 * list("01234")


def test_latents_are_followed_within_the_first_epoch(tmp_path):
    """1,497 digits in batches of 300 are 4 steps; watching every second one changes no number of the training."""
    flags = [*SMALL, "--networks", "residual_mlp_16_1", "--kappas", "3"]
    main([*flags, "--out", str(tmp_path / "a.csv")])
    main([*flags, "--out", str(tmp_path / "b.csv"), "--latents", str(tmp_path / "l.csv"), "--latent-steps", "2"])
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    seen = rows(tmp_path / "l.csv")
    epochs = list(dict.fromkeys(float(row["epoch"]) for row in seen))
    assert epochs == pytest.approx([2 * 300 / 1497, 4 * 300 / 1497, 1, 2], rel=1e-5)
    first, second = ([r["posterior_variance"] for r in seen if float(r["epoch"]) == e] for e in epochs[:2])
    assert len(first) == 3 and first != second


def test_the_fixed_gamma_is_the_one_that_was_learned(tmp_path):
    out = tmp_path / "table2.csv"
    main([*SMALL, "--out", str(out), "--table", "2", "--every", "2"])
    gamma = {(r["variant"], r["epoch"]): float(r["value"]) for r in rows(out) if r["metric"] == "gamma"}
    assert set(gamma) == {("learnable gamma", "2"), ("fixed gamma = gamma*", "2")}
    assert len(set(gamma.values())) == 1 and gamma["learnable gamma", "2"] < 1
    assert {"Rec. Err.", "MMD"} < {r["metric"] for r in rows(out)}


def test_a_collapsed_model_has_the_values_of_the_mean_image():
    """A decoder that gives the mean image whatever its code: its error is the variance of the pixels, none active."""
    values = {"latent_dim": 4, "learning_rate": 1e-3, "batch_size": 8, "network": "plain_mlp_8_1"}
    cls = find("gaussian_vae")
    method = cls(cls.Hyper(**values, gamma_rule="fixed", gamma=0.5, output="linear"), (1, 4, 4)).eval()
    images = torch.randint(0, 256, (600, 1, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.decoder.parameters()):
            parameter.zero_()
        *_, last = (m for m in method.decoder.modules() if isinstance(m, torch.nn.Linear))
        last.bias.copy_(as_images(images).flatten(1).mean(0))
    found, vectors = measured(method, images, seed=0, last=True)
    variance = as_images(images).flatten(1).double().var(0, correction=0).sum().item()
    assert found[ERROR] == pytest.approx(variance, rel=1e-5)
    assert found[BOUND] == pytest.approx(variance / (2 * 0.5) + 16 / 2 * torch.tensor(torch.pi).log().item(), rel=1e-5)
    assert (found[ACTIVE], found["inactive variables"], found["variance law"]) == (0, 4, 1)
    assert found["KL"] == pytest.approx(0, abs=1e-9) and found["|dL/dz|"] == 0
    assert vectors == {"code_variance": [0] * 4, "posterior_variance": [1] * 4, "kl_per_dim": [0] * 4}
    assert abs(found["MMD"]) < 3 * found["MMD, noise floor"]  # its codes are draws of the prior, but not the prior's
