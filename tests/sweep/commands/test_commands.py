"""What the programs say, as far as no sweep has to run for it."""

import json
import re
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import get_args, get_type_hints

import pytest

from sweep import commands
from sweep.commands import run as run_command
from sweep.commands.run import RunFlags, front_door
from sweep.config import SweepConfig
from sweep.driver import pages
from trainables import __main__ as alone
from trainables import names
from trainables.flags import WHOLE


def test_a_dry_run_shows_studies_points_ranges_and_cost_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = "--methods vae beta_vae --trials 3 --epochs 27 --set network=mlp_8 --concurrent 2 --dry-run"
    front_door("about", flags.split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "vae-digits: 81 epochs in trials of up to 27 epochs, rungs [3, 9]"
    beta_vae = lines.index("beta_vae-digits: 81 epochs in trials of up to 27 epochs, rungs [3, 9]")
    assert "beta = 4.0" in lines[beta_vae + 1] and "GAE paper" in lines[beta_vae + 2]
    assert "beta = 0.1" in lines[beta_vae + 3] and "our second reading" in lines[beta_vae + 4]
    assert (
        "  searched: beta in 0.001..20.0 (log scale)" in lines
        and "  searched: latent_dim in [2, 4, 8, 10, 16, 32, 64, 128]" in lines
    )
    assert lines.count("  probes of the best point: beta x 0.2, beta x 5") == 1  # the VAE has no balance to probe
    assert not any("network" in line for line in lines if line.startswith("  searched"))
    assert re.fullmatch(r"kept models: about [\d.]+ MB in sweeps at the size of the hand-tuned points", lines[-4])
    assert re.fullmatch(r"checkpoints of paused trials: at most about [\d.]+ MB until their study ends", lines[-3])
    assert lines[-2].startswith("2 studies, 162 epochs, about 20 trials if halving stops the expected number; training")
    assert "concurrent trials: about" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_the_memory_of_a_trial_and_its_share_of_a_gpu(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_command, "own_gpus", lambda: [3 * 10**9])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(run_command, "epoch_seconds", lambda planned, device: {"vae-digits": 1.0 * (device == "cuda")})
    front_door("about", ["--methods", "vae", "--set", "network=mlp_8", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "gpus_per_trial = 0.5 in place of 0.25, because on a GPU of 3.0 GB a trial of vae-digits "
    )
    (memory,) = [line for line in lines if line.startswith("  memory: ")]
    assert "a training step takes" in memory and "on a GPU a trial takes about 1.0 GB, with 1.0 GB for CUDA" in memory
    assert "memory per trial: 0.5 of a GPU, 1.5 GB of the smallest" in lines


def test_a_gpu_that_is_too_small_ends_a_sweep_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweep.driver.job.own_gpus", lambda: [1000])
    with pytest.raises(SystemExit) as end:
        front_door("about", ["--methods", "vae", "--set", "network=mlp_8"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "vae-digits: a training step takes" in error and "the GPU has 0.0 MB" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_dry_run_says_whether_the_weights_of_the_fid_are_there(there, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    if there:
        file.parent.mkdir(parents=True)
        file.touch()
    front_door(
        "about",
        [
            "--methods",
            "vae",
            "--trials",
            "1",
            "--epochs",
            "1",
            "--set",
            "network=mlp_8",
            "--metric",
            "fid",
            "--dry-run",
        ],
    )
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "weights of the FID" in line]
    assert line.startswith(f"weights of the FID: {file}") and ("to be downloaded" in line) != there


def test_the_list_names_every_method_with_a_sentence(capsys):
    commands.main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(len(line.split()) > 3 for line in lines)


@pytest.fixture
def two_sweeps(tmp_path, monkeypatch):
    """Folders a and b of sweeps that have not begun a trial, in the current one."""
    monkeypatch.chdir(tmp_path)
    study = {"study": "vae-digits", "method": "vae", "dataset": "digits", "metric": "valid/fcd", "trials": 2}
    for name, epochs in (("a", 3), ("b", 9)):
        (tmp_path / name).mkdir()
        opening = {"time": 1.0, "event": "sweep", "sweep": name, "config": {}, "studies": [study | {"epochs": epochs}]}
        (tmp_path / name / "record.jsonl").write_text(json.dumps(opening) + "\n")


def test_a_report_of_several_sweeps_is_one_page_and_leaves_their_folders_alone(
    two_sweeps, tmp_path, monkeypatch, capsys
):
    commands.main(["report", "a", "b"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "comparison.html")
    assert "VAE (b)" in (tmp_path / "comparison.html").read_text()
    assert [path.name for name in ("a", "b") for path in (tmp_path / name).iterdir()] == ["record.jsonl"] * 2
    monkeypatch.setattr(pages, "write_importances", lambda folder: None)  # of trials, and there are none
    monkeypatch.setattr(pages, "write_rungs", lambda folder: None)
    commands.main(["report", "a", "--out", "page.html"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "a" / "leaderboard.csv").exists() and not (tmp_path / "a" / "report.html").exists()


@pytest.mark.parametrize(
    "argv, said",
    [
        ("report a a", "is given 2 times; give each sweep once"),
        ("report a nowhere", "has no record.jsonl"),
        ("report a b --out a/report.html", "is the page of a; give another --out FILE.html"),
        ("report a b --out none/page.html", "there is no folder"),
    ],
)
def test_a_report_that_cannot_be_written_is_a_line_and_exit_code_2(two_sweeps, argv, said, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(argv.split())
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_help_of_the_front_door_groups_its_flags(capsys):
    with pytest.raises(SystemExit) as end:
        front_door("about", ["--help"])
    shown = capsys.readouterr().out
    assert not end.value.code and "Usage: sweep/run.py" in shown
    assert all(f"─ {title} ─" in shown for title in SweepConfig.groups)


@pytest.mark.parametrize(
    "model, main",
    [(RunFlags, partial(front_door, "about")), (alone.Settings, alone.main)],
    ids=["sweep/run.py", "trainables"],
)
def test_help_shows_every_flag(model, main, capsys):
    with suppress(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out.lower()
    assert all(name.replace("_", "-") in shown for name in model.model_fields)


def test_every_flag_is_in_one_group():
    grouped = [name for names in SweepConfig.groups.values() for name in names.split()]
    assert sorted(grouped) == sorted(SweepConfig.model_fields)


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_names_every_command(argv, capsys):
    commands.main(argv)
    shown = capsys.readouterr().out
    assert all(f"│ {name} " in shown for name in commands.names())


@pytest.mark.parametrize("name", commands.names())
def test_each_command_has_help_of_its_own(name, capsys):
    commands.main([name, "--help"])
    assert f"Usage: python -m sweep {name}" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_their_flags(shell):
    script = commands.program().generate_completion(shell=shell, prog_name="aesweep")
    assert "export" in script and "confirm-seeds" in script and "no-open" in script


def test_no_command_rounds_a_number():
    """Cyclopts takes 2.5 for 2."""
    whole = 0
    for name, module in commands.names().items():
        for flag, annotation in get_type_hints(import_module(module).main, include_extras=True).items():
            inner = {annotation, *get_args(annotation), *(a for part in get_args(annotation) for a in get_args(part))}
            if int in inner:
                assert WHOLE in annotation.__metadata__, (name, flag)
                whole += 1
    assert whole >= 9


def test_a_fraction_is_one_line_with_what_was_given(capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        commands.main(["confirm", str(tmp_path), "--seeds", "2.5"])
    assert "Invalid value for --seeds: '2.5' is not a whole number" in capsys.readouterr().err


def test_an_unknown_command_is_one_line_with_a_hint(capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(["bord", "x"])
    assert end.value.code == 2
    assert 'Unknown command "bord". Did you mean "board"? Available commands: ' in capsys.readouterr().err


def test_ctrl_c_prints_no_traceback(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "names", interrupted)
    with pytest.raises(SystemExit) as end:
        commands.main(["list"])
    assert end.value.code == 130 and capsys.readouterr().err == ""
