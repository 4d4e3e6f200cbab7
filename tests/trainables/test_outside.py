"""Parts of strangers: by dotted path, by entry point, and their mistakes in one line with file and line."""

import sys

import pytest
import torch

from trainables import find, outside
from trainables.metrics import choose
from trainables.networks import Networks

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
