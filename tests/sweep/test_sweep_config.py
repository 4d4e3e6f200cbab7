"""The configuration: what it refuses by itself, and that file and flags lead to the same."""

import pytest
from pydantic import ValidationError

from sweep.commands.run import RunFlags
from sweep.config import SweepConfig, read_config
from trainables import names
from trainables.config import checked


def read(*argv: str) -> RunFlags:
    return read_config(RunFlags, argv, "sweep/run.py", "about")


def test_every_field_is_a_flag_and_a_key(tmp_path, capsys):
    with pytest.raises(SystemExit):
        read("--help")
    help_text = capsys.readouterr().out
    for name in SweepConfig.model_fields:
        assert f"--{name.replace('_', '-')} " in help_text
    file = tmp_path / "all.yaml"
    defaults = SweepConfig().model_dump(mode="json")
    file.write_text("".join(f"{name}: {value!r}\n".replace("None", "null") for name, value in defaults.items()))
    assert SweepConfig(**read("--config", str(file)).model_dump(include=set(defaults))) == SweepConfig()


def test_flags_win_over_the_file_each_by_itself(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("trials: 4\nepochs: 9\nmethods: [vae, wae]\nset:\n  beta: 1.0\n  latent_dim: 4\n")
    flags = read("--config", str(file), "--epochs", "3", "--methods", "beta_vae", "--set", "beta=0.37")
    assert (flags.trials, flags.epochs, flags.methods) == (4, 3, ["beta_vae"])
    assert flags.set == {"beta": 0.37, "latent_dim": 4}


def test_dashes_and_underscores_are_alike_in_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("data-root: here\nfirst_rung: 2\n")
    flags = read("--config", str(tmp_path / "a.yaml"))
    assert str(flags.data_root) == "here" and flags.first_rung == 2


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path):
    (tmp_path / "a.yaml").write_text("set:\n  learning_rate: 1e-3\n")
    from sweep.search.plan import plan

    flags = read("--config", str(tmp_path / "a.yaml"), "--methods", "vae")
    planned = plan(SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields))))
    assert planned.studies[0].hand_tuned_values["learning_rate"] == 1e-3


def test_what_is_set_for_a_method_goes_with_it_when_other_methods_are_named(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "methods: [vae, wae]\nset: {wae.weight: 3, vae.beta: 2, latent_dim: 4}\nspaces: {wae: mine.toml}\n"
    )
    flags = read("--config", str(tmp_path / "a.yaml"), "--methods", "vae", "gae", "--set", "gae.latent_dim=7")
    assert flags.set == {"vae.beta": 2, "latent_dim": 4, "gae.latent_dim": 7} and flags.spaces == {}
    assert read("--config", str(tmp_path / "a.yaml")).set["wae.weight"] == 3


def test_what_is_set_for_a_method_that_was_never_named_is_refused(tmp_path):
    from sweep.search.plan import plan

    (tmp_path / "a.yaml").write_text("methods: [vae]\nset: {wae.weight: 3}\n")
    for argv in (["--config", str(tmp_path / "a.yaml"), "--methods", "gae"], ["--set", "wea.weight=3"]):
        flags = read(*argv)
        with pytest.raises(ValueError, match="is not among the methods"):
            plan(SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields))))


@pytest.mark.parametrize("text", ["methods: vae", "methods: [{a: 1}]", "set: 3", "set: {1: 2}"])
def test_methods_page_over_another_file_prints_no_traceback(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text + "\n")
    with pytest.raises(ValueError, match="trials"):
        read("--config", str(tmp_path / "a.yaml"), "--methods", "gae", "--trials", "many")


def test_the_first_rung_is_a_ninth_of_the_budget_unless_given():
    assert SweepConfig(epochs=27).rung_epoch == 3
    assert SweepConfig(epochs=5).rung_epoch == 1
    assert SweepConfig(epochs=27, first_rung=5).rung_epoch == 5


def test_a_configuration_does_not_change():
    with pytest.raises(ValidationError):
        SweepConfig().trials = 3


@pytest.mark.parametrize("fields", [{"samples": float("nan")}, {"gpus_per_trial": float("inf")}, {"methods": []}])
def test_what_no_flag_can_say_is_refused_as_well(fields):
    with pytest.raises(ValidationError):
        SweepConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"trials": True},
        {"seed": False},
        {"looks": [3, True]},
        {"keep_gb": True},
        {"first_rung": True},
        {"image_size": True},
    ],
)
def test_booleans_are_not_numbers(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=rf"^a.yaml: {name} = .*: must be a number, got a boolean$"):
        checked(SweepConfig, fields | {"searcher": "none", "confirm": True}, "a.yaml")


@pytest.mark.parametrize(
    ("given", "found"),
    [(["--confirm-seeds", "5"], [5]), (["--confirm-seeds", "3", "6", "12"], [3, 6, 12]), ([], [5, 10, 20])],
)
def test_the_seeds_of_a_confirmation_are_one_number_or_several(given, found):
    assert read(*given).confirm_seeds == found


@pytest.mark.parametrize("number", ["3", "'3'", "[3]"])
def test_a_file_of_an_earlier_version_has_one_number_of_seeds(tmp_path, number):
    (tmp_path / "sweep.yaml").write_text(f"confirm_seeds: {number}\n")
    assert read("--config", str(tmp_path / "sweep.yaml")).confirm_seeds == [3]


@pytest.mark.parametrize("numbers", ["0", "5 5", "10 5", "five"])
def test_seeds_that_make_no_sense_are_refused(numbers):
    with pytest.raises(ValueError, match=r"^confirm_seeds"):
        read("--confirm-seeds", *numbers.split())


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"objectives": ["mse"], "searcher": "random"}, "objectives = mse requires searcher = tpe, got random"),
        ({"objectives": ["mse", "mse"]}, "duplicate mse"),
        ({"objectives": ["nmi", "nmi_error"]}, "duplicate nmi_error"),
        ({"objectives": ["beauty"]}, "'mse', 'active_dims', 'train_seconds'"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        SweepConfig(**fields)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"search": ["beta"], "searcher": "none"}, "search = beta requires a searcher, got none; use tpe"),
        ({"search": ["beta"], "set": {"beta": 1.0}}, "search = beta is fixed by set = beta; keep one"),
        ({"search": ["vae.beta"], "set": {"beta": 1.0}}, "search = vae.beta is fixed by set = beta; keep one"),
        ({"search": ["beta", "beta"]}, "duplicate beta"),
    ],
)
def test_searched_knobs_that_make_no_sense_are_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        SweepConfig(**fields)


def test_methods_are_named_by_all_and_by_patterns():
    assert SweepConfig(methods=["all"]).methods == names()
    assert SweepConfig(methods=["gae", "vg*", "vg_bn"]).methods == ["gae", "vg", "vg_denoise", "vg_denoise_bn", "vg_bn"]
    assert SweepConfig(methods=["my_lab.ladder:LadderVAE"]).methods == ["my_lab.ladder:LadderVAE"]
