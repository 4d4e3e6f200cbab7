"""`python -m sweep check`: a line for each promise, and exit code 1 where one is broken."""

import pytest

from sweep import commands
from sweep.commands import check
from trainables.testing import check_losses, check_overfit, check_stages

LAB = """
from trainables.methods.vae import VAE as Good


class Broken(Good):
    def loss(self, x):
        return self.nothing
"""
SIMPLE = """
from trainables.losses import kl_to_standard_normal, squared_error
from trainables.method import Gaussian, Loss, Method


class Simple(Method):
    def build(self, nets):
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x):
        return Gaussian.from_head(self.encoder(x))

    def loss(self, x):
        q = self.encode(x)
        rec, kl = squared_error(self.decode(q.draw()), x) / 2, kl_to_standard_normal(q.mean, q.log_var)
        return Loss(rec + kl, {"reconstruction": rec, "kl": kl})
"""
SPACE = """
[[paper]]
source = "ours"
datasets = ["digits"]
values = { latent_dim = 10, learning_rate = 1e-3, batch_size = 20, network = "mlp_250", likelihood = "bce" }

[space]
latent_dim = [2, 4, 10]
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab_check.py").write_text(LAB)
    (tmp_path / "lab_check.toml").write_text(SPACE)
    monkeypatch.setattr(check, "CHECKS", (check_stages, check_losses))


def test_promises_are_listed(lab, capsys):
    check.main("lab_check:Good")
    found = capsys.readouterr().out
    assert found.count("kept ") == 2 and "lab_check:Good fulfils the contract" in found


def test_a_broken_promise_names_file_and_line(lab, capsys):
    with pytest.raises(SystemExit) as ended:
        check.main("lab_check:Broken")
    found = capsys.readouterr().out
    assert ended.value.code == 1 and "lab_check.py:7: AttributeError" in found
    assert "lab_check:Broken breaks 1 of 2 requirements" in found


def test_values_can_be_given(lab, capsys):
    with pytest.raises(ValueError, match="unknown key 'bata'"):
        check.main("lab_check:Good", set={"bata": 1})
    with pytest.raises(SystemExit):
        commands.main(["check", "lab_check:Good", "--set", "beta"])
    assert "write KEY=VALUE" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-3, 1e-4])
def test_a_simple_vae_learns_eight_images_at_any_learning_rate(rate, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab_simple.py").write_text(SIMPLE)
    (tmp_path / "lab_simple.toml").write_text(SPACE.replace(', likelihood = "bce"', ""))
    monkeypatch.setattr(check, "CHECKS", (check_overfit,))
    check.main("lab_simple:Simple", set={"learning_rate": rate})
    assert "fulfils the contract" in capsys.readouterr().out


def test_a_method_whose_codes_have_positions_is_checked_with_convolutions(monkeypatch, capsys):
    monkeypatch.setattr(check, "CHECKS", (check_stages,))
    check.main("vq_vae")
    assert "vq_vae fulfils the contract" in capsys.readouterr().out
