"""Parts of strangers: by dotted path, by entry point, and their mistakes in one line with file and line."""

import sys

import pytest
import torch

from trainables import Config, find, outside
from trainables.__main__ import main
from trainables.flags import run
from trainables.metrics import choose
from trainables.networks import Networks
from trainables.testing import made_up
from trainables.training import Training

NETS = """
from torch import nn
KINDS = "small, or nothing for it"
def accepts(kind):
    return kind in ("", "small")
def encoder(shape, kind, out):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(out))
def decoder(shape, kind, latent):
    return nn.Sequential(nn.Linear(latent, 64), nn.Unflatten(1, shape))
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Writes modules that can be imported, and forgets them."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", ["lab_nets:", "lab_nets:small", "ours", "ours:small"])
def test_networks_of_a_module(kind, lab, monkeypatch):
    lab("lab_nets", NETS)
    monkeypatch.setattr(outside, "installed", lambda kind: {"ours": "lab_nets"} if kind == "networks" else {})
    nets = Networks((1, 8, 8), kind)
    z = nets.encoder(5)(torch.rand(2, 1, 8, 8))
    assert z.shape == (2, 5) and nets.decoder(5)(z).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (NETS, "lab_nets:large", "allowed: lab_nets: small, or nothing"),
        ("KINDS = ''", "lab_nets:small", "lab_nets lacks accepts, encoder, decoder"),
        ("import no_such_thing", "lab_nets:small", "lab_nets.py:1: ModuleNotFoundError"),
        ("x = 1\ny = x.z\n", "lab_nets:small", "lab_nets.py:2: AttributeError"),
        ("def (:\n", "lab_nets:small", "lab_nets.py:1: SyntaxError"),
    ],
)
def test_mistakes_of_networks_are_one_line(text, kind, words, lab):
    lab("lab_nets", text)
    with pytest.raises(ValueError, match=words) as error:
        Networks((1, 8, 8), kind)
    assert "\n" not in str(error.value)


def test_entry_points_are_found_by_plain_names(monkeypatch):
    parts = {"methods": {"ladder": "trainables.methods.vae:VAE"}, "metrics": {"judge": "my_judge:pixels"}}
    monkeypatch.setattr(outside, "installed", lambda kind: parts.get(kind, {}))
    assert find("ladder") is find("vae")
    assert choose("judge") == ("my_judge:pixels", "distance", "fd_judge")
    with pytest.raises(ValueError, match="did you mean 'ladder'"):
        find("laddder")


def test_no_part_is_installed_here_that_is_not_a_stranger():
    assert outside.installed("methods") == {}


METHOD = '''"""A method of a first author."""

from trainables.method import Gaussian, Loss, Method, Optimiser, Player, Stage


class Mine(Method):
    def build(self, nets):
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def loss(self, x):
        q = self.encode(x)
        error = (self.decode(q.draw()) - x).square().flatten(1).sum(1).mean()
        return Loss(error, {"reconstruction": error})

    def encode(self, x):
        return Gaussian.from_head(self.encoder(x))
'''
STAGES = """
    def stages(self, epochs):
        player = Player((self.encoder, self.decoder), self.loss, Optimiser(1e-3))
        return (Stage(epochs=epochs, players=(player,)),)
"""
SPACE = """
[[paper]]
source = "ours"
datasets = ["digits"]
values = { latent_dim = 2, learning_rate = 1e-3, batch_size = 100, network = "mlp_8" }
[space]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""
FLAT = "def decode(self, z):\n        return self.decoder(z).flatten(1)\n\n    "
JOINT = "players=(player,), joint=lambda x: {'modle': self.loss(x)}"


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A current folder that is on no path, for a method `first_author:Mine` with its space beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "first_author.toml").write_text(SPACE)
    yield tmp_path / "first_author.py"
    sys.modules.pop("first_author", None)


@pytest.mark.parametrize(
    ("right", "wrong", "line", "words"),
    [
        ("def encode", "def encoed", 6, "Mine lacks encode(x); implement it, see Method"),
        ("def build", "def biuld", 6, "Mine lacks build(nets)"),
        (
            "def build",
            "class Hyper:\n        beta: float\n\n    def build",
            6,
            "Mine.Hyper is not a subclass of Method.Hyper",
        ),
        (
            "def build",
            "per_pixel = ('btea',)\n\n    def build",
            6,
            "Mine: per_pixel names 'btea', which Hyper does not",
        ),
        (
            "def build",
            "per_pixel = ('clip')\n\n    def build",
            6,
            "Mine: per_pixel names 'c', which Hyper does not have",
        ),
        ("Loss, Method", "Losses, Method", 3, "ImportError: cannot import name 'Losses'"),
        ("def loss(self, x):", "def loss(self, x)", 11, "SyntaxError: expected ':'"),
        ("nets.decoder", "nets.decodr", 9, "AttributeError: 'Networks' object has no attribute 'decodr'"),
        ("q.draw()", "q.drow()", 13, "AttributeError: 'Gaussian' object has no attribute 'drow'"),
        ('Loss(error, {"reconstruction": error})', "error", 11, "a loss must be a Loss(total, terms), got Tensor"),
        ('": error})', '": error.item()})', 11, "reconstruction of a Loss must be a tensor, got float"),
        ("return Gaussian", "Gaussian", 16, "encode must return a Posterior, got NoneType"),
        ("(self.encoder, self.decoder)", "(self.encoder,)", 19, "no player of any stage owns decoder"),
        (
            "def encode",
            FLAT + "def encode",
            16,
            "decode must return images of the input's shape, got (2, 64)",
        ),
        ("epochs=epochs", "epochs=2", 19, "stages(1) takes 2 epochs"),
        ("players=(player,)", JOINT, 21, "a Loss for each player of its stage, got modle for model"),
    ],
)
def test_a_first_author_s_mistake_is_one_line_with_the_place_to_mend(right, wrong, line, words, at_home, capsys):
    assert right in METHOD + STAGES
    at_home.write_text((METHOD + STAGES).replace(right, wrong, 1))
    argv = ["first_author:Mine", "--epochs", "1", "--samples", "20", "--device", "cpu"]
    with pytest.raises(SystemExit) as caught:
        run("python -m trainables", main, argv)
    found = capsys.readouterr().err
    assert caught.value.code == 2 and found.count("\n") == 1
    assert f"{at_home}:{line}: " in found and words in found


def test_a_method_of_the_current_folder_trains_from_the_space_beside_it(at_home, capsys):
    at_home.write_text(METHOD)
    main(["first_author:Mine", "--epochs", "1", "--samples", "20", "--device", "cpu"])
    assert "epoch   1  train" in capsys.readouterr().out


def test_a_divergence_that_a_method_raises_itself_is_a_result(at_home, capsys):
    diverges = (
        'from trainables import Diverged\n        raise Diverged("train", 1, "loss", "of its own accord")\n        '
    )
    at_home.write_text(METHOD.replace("return Loss", f"{diverges}return Loss"))
    argv = ["first_author:Mine", "--epochs", "1", "--samples", "20", "--device", "cpu"]
    with pytest.raises(SystemExit) as caught:
        run("python -m trainables", main, argv)
    shown = capsys.readouterr()
    assert caught.value.code == 1 and shown.err == ""
    assert "diverged: stage train, epoch 1, loss: of its own accord" in shown.out


def test_a_mistake_in_a_step_names_the_author_s_line_in_a_sweep_too(at_home):
    at_home.write_text(METHOD.replace("return Loss", "raise KeyError('kl')\n        return Loss"))
    hyper = {"latent_dim": 2, "learning_rate": 1e-3, "batch_size": 4, "network": "mlp_8"}
    config = Config(method="first_author:Mine", dataset="made-up", values=hyper, epochs=1, seed=0)
    with pytest.raises(KeyError) as error:
        Training(config, made_up((1, 8, 8), 8)).run_epoch()
    assert outside.place(error.value) == (str(at_home), 14)
