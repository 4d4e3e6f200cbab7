"""The command line of the programs that set our runs beside a paper's tables."""

import subprocess
import sys

import pytest

from analysis.papers import aae, balancing, gae, regularization, vg

PROGRAMS = {"aae": aae, "balancing": balancing, "gae": gae, "regularization": regularization, "vg": vg}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_is_the_documentation_of_the_module(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        PROGRAMS[name].main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and f"usage: python -m analysis.papers.{name} " in shown
    assert PROGRAMS[name].__doc__.splitlines()[0] in shown


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_input_is_required_and_must_exist(name, refusal, tmp_path):
    assert f"{name}: error: the following arguments are required: " in refusal(PROGRAMS[name].main)
    for absent in ("absent", "absent.csv"):
        error = refusal(PROGRAMS[name].main, tmp_path / absent).splitlines()[-1]
        assert error.startswith(f"python -m analysis.papers.{name}: error: ") and str(tmp_path / absent) in error


def test_the_exit_code_is_that_of_an_error(tmp_path):
    command = [sys.executable, "-m", "analysis.papers.gae", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("has no record.jsonl; give the folder of a sweep, such as sweeps/NAME\n")


def test_a_sweep_of_another_paper_is_refused_and_nothing_is_written(refusal, tmp_path, write_sweep):
    folder = write_sweep(tmp_path / "s", methods=("vae",), datasets=("digits",), trials=1)
    before = sorted(folder.iterdir())
    assert "s: no complete trial of a system of Tables 3 and 5" in refusal(aae.main, folder)
    assert sorted(folder.iterdir()) == before
