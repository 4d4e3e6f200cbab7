"""What people get wrong, and the one line each mistake is answered with."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from trainables import Config, find, names
from trainables.catalog import label
from trainables.config import checked, hyper_fields
from trainables.flags import read_flags, scalar, user_errors
from trainables.methods.beta_vae import BetaVAE
from trainables.networks import Networks
from trainables.words import did_you_mean

BETA = {
    "latent_dim": 4,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "network": "mlp_32_16",
    "likelihood": "bce",
    "beta": 4.0,
}


def config(method: str = "beta_vae", **values) -> Config:
    return Config(method=method, dataset="mnist", values=BETA | values, epochs=3)


def without(key: str) -> dict:
    return {name: value for name, value in BETA.items() if name != key}


# Hyperparameters


def test_values_become_the_methods_own_typed_hyper():
    hyper = config(beta=1, latent_dim=10).hyper
    assert isinstance(hyper, BetaVAE.Hyper) and hyper.beta == 1.0 and hyper.latent_dim == 10
    assert hyper.warm_up == 0.0 and hyper.clip == 0.0


MISTAKES = [
    (
        BETA | {"bata": 1.0},
        r"^beta_vae: unknown key 'bata'; did you mean 'beta'\? \(known: batch_size, beta, .*\)$",
    ),
    (BETA | {"zzz": 1.0}, r"^beta_vae: unknown key 'zzz' \(known: batch_size, .*\)$"),
    (without("beta"), "^beta_vae: beta is missing; give it a value$"),
    (BETA | {"beta": -1.0}, "^beta_vae: beta = -1.0: input should be greater than or equal to 0$"),
    (BETA | {"beta": "much"}, "^beta_vae: beta = 'much': input should be a valid number"),
    (BETA | {"beta": float("nan")}, "^beta_vae: beta = nan: input should be a finite number$"),
    (BETA | {"beta": float("inf")}, "^beta_vae: beta = inf: input should be a finite number$"),
    (BETA | {"latent_dim": 2.5}, "^beta_vae: latent_dim = 2.5: input should be a valid integer"),
    (BETA | {"latent_dim": 0}, "^beta_vae: latent_dim = 0: input should be greater than or equal to 1$"),
    (BETA | {"likelihood": "mse"}, "^beta_vae: likelihood = 'mse': input should be 'bce', 'sse' or 'gaussian'$"),
    (BETA | {"learning_rate": 0}, "^beta_vae: learning_rate = 0: input should be greater than 0$"),
    (BETA | {"learning_rate": True}, "^beta_vae: learning_rate = True: must be a number, got a boolean$"),
    (BETA | {"latent_dim": True}, "^beta_vae: latent_dim = True: must be a number, got a boolean$"),
]


@pytest.mark.parametrize("values, words", MISTAKES, ids=lambda part: part if isinstance(part, str) else "")
def test_a_wrong_value_is_answered_in_one_line(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        Config(method="beta_vae", dataset="mnist", values=values, epochs=3).hyper  # noqa: B018
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ValueError) as caught:
        checked(BetaVAE.Hyper, without("beta") | {"bata": 1, "clip": -1}, "")
    found = str(caught.value)
    assert all(word in found for word in ("beta is missing", "'bata'", "clip = -1")) and "\n" not in found


def test_hyper_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        config().hyper.beta = 2.0


def test_which_hyperparameters_must_be_given():
    fields = hyper_fields("beta_vae")
    assert fields["beta"] and fields["latent_dim"] and not fields["warm_up"] and not fields["clip"]


@pytest.mark.parametrize("kind", ["mlp", "mlp_", "mlp_0", "mlp_32_", "resnot", "mlp_32_x"])
def test_an_unknown_network_is_answered_in_one_line(kind):
    with pytest.raises(ValueError, match=f"^network = '{kind}' is not known; allowed: shared") as caught:
        Networks((1, 8, 8), kind)
    assert "\n" not in str(caught.value)


# The run


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"epochs": 0}, "^epochs = 0: input should be greater than or equal to 1$"),
        ({"seed": -1}, "^seed = -1: "),
        ({"image_size": 2}, "^image_size = 2: "),
        ({"channels": 4}, "^channels = 4: "),
        ({"epoch": 3}, r"^unknown key 'epoch'; did you mean 'epochs'\?"),
    ],
)
def test_a_wrong_run_is_answered_in_one_line(wrong, words):
    with pytest.raises(ValueError, match=words) as caught:
        checked(Config, {"method": "vae", "dataset": "mnist", "values": {}, "epochs": 1} | wrong, "")
    assert "\n" not in str(caught.value)


def test_a_mistake_says_where_it_was_made():
    with pytest.raises(ValueError, match=r"^sweep\.yaml: epochs is missing"):
        checked(Config, {"method": "vae", "dataset": "mnist", "values": {}}, "sweep.yaml")


@pytest.mark.parametrize("word, hint", [("bata", "; did you mean 'beta'?"), ("qqqq", "")])
def test_a_hint_is_given_only_where_a_word_is_close(word, hint):
    assert did_you_mean(word, ["beta", "latent_dim"]) == hint


# Methods by name


def test_methods_are_found_by_file_name():
    assert find("beta_vae") is BetaVAE
    assert {"vae", "beta_vae", "info_vae", "wae", "rae_l2", "gae"} <= set(names())
    for name in names():
        assert find(name).__module__ == f"trainables.methods.{name}"


def test_methods_are_found_anywhere_importable():
    assert find("trainables.methods.beta_vae:BetaVAE") is BetaVAE


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "beta_vea",
            r"^method 'beta_vea' is not known; did you mean 'beta_vae'\? \(known: .* or package\.module:Class\)$",
        ),
        ("qqq", r"^method 'qqq' is not known \(known: "),
        (
            "no_lab.ladder:LadderVAE",
            "^method 'no_lab.ladder:LadderVAE': there is no module 'no_lab.ladder' to import$",
        ),
        ("trainables.nothing:X", "there is no module 'trainables.nothing' to import$"),
        (
            "trainables.methods.vae:VEA",
            "^method .*: trainables.methods.vae has no 'VEA'; did you mean 'VAE'",
        ),
        ("trainables.methods.vae:Tensor", "trainables.methods.vae:Tensor is not a subclass of Method$"),
        ("trainables.losses:bce", "trainables.losses:bce is not a subclass of Method$"),
    ],
)
def test_a_wrong_method_is_answered_in_one_line(name, words):
    with pytest.raises(ValueError, match=words) as caught:
        find(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["no_such_thing", "lab", "lab_of_mine.no_such_part"])
def test_an_error_inside_a_users_module_names_its_file_and_line(tmp_path, monkeypatch, missing):
    (tmp_path / "lab_of_mine.py").write_text(f"import {missing}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lab_of_mine", raising=False)
    with pytest.raises(
        ValueError, match=rf"lab_of_mine.py:1: ModuleNotFoundError: No module named '{missing}"
    ) as found:
        find("lab_of_mine:Ladder")
    assert "\n" not in str(found.value)


def test_tables_call_a_method_by_its_file():
    assert label("beta_vae") == "beta_vae" and label("my_lab.ladder:LadderVAE") == "LadderVAE"


# Flags and files


class Flags(BaseModel):
    model_config = ConfigDict(extra="forbid")

    method: str
    epochs: Annotated[int, Field(ge=1)] = 3
    data_root: Path = Path("data")
    fast: bool = False
    datasets: list[str] = Field(["mnist"], description="which")
    values: dict = {}
    channels: Literal[1, 3] | None = None


def flags(*argv: str) -> Flags:
    return read_flags(Flags, argv, "prog", "about", positional=["method"])


def test_flags_are_the_fields_of_the_model():
    got = flags("vae", "--data-root", "elsewhere", "--fast", "--datasets", "a", "b", "--values", "beta=1e-3", "k=rbf")
    assert got == Flags(
        method="vae",
        data_root=Path("elsewhere"),
        fast=True,
        datasets=["a", "b"],
        values={"beta": 1e-3, "k": "rbf"},
    )


def test_a_flag_may_be_one_of_some_numbers():
    assert flags("vae", "--channels", "3").channels == 3


def test_flags_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("epochs: 5\ndata-root: there\n")
    got = flags("vae", "--config", str(tmp_path / "c.yaml"), "--epochs", "7")
    assert got.epochs == 7 and got.data_root == Path("there")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["vae", "--epoch", "3"], r"Unknown option: --epoch\. Did you mean --epochs\?"),
        (["vae", "--epochs", "0"], "epochs = '0': input should be greater than or equal to 1"),
        (["vae", "--epochs", "many"], "epochs = 'many': input should be a valid integer"),
        (["vae", "--values", "beta"], "'beta': write KEY=VALUE"),
        (["vae", "--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        ([], "METHOD is missing; see"),
    ],
)
def test_a_wrong_flag_is_answered_in_one_line_and_code_2(argv, words, capsys):
    with pytest.raises(SystemExit) as caught, user_errors("prog"):
        flags(*argv)
    assert caught.value.code == 2
    found = capsys.readouterr().err
    assert found.startswith("prog: error: ") and found.count("\n") == 1
    with pytest.raises(ValueError, match=words):
        flags(*argv)


@pytest.mark.parametrize(
    "text, words",
    [
        ("epoch: 3\n", r"unknown key 'epoch'; did you mean 'epochs'\?"),
        ("- 3\n", "contains no keys"),
        ("a: [\n", "is not YAML"),
        ("epochs: 0\n", "epochs = 0: "),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        flags("vae", "--config", str(tmp_path / "c.yaml"))


@pytest.mark.parametrize("text, value", [("3", 3), ("1e-3", 1e-3), ("0.5", 0.5), ("rbf", "rbf"), (7, 7)])
def test_hyperparameters_typed_on_a_command_line(text, value):
    assert scalar(text) == value and type(scalar(text)) is type(value)
