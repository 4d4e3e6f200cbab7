"""The wheel: it holds what the programs read, and runs outside a clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(build, check=True)
    (file,) = out.glob("*.whl")
    return file


def test_every_file_that_the_programs_read_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    packages = ("analysis/", "search_spaces/", "sweep/", "trainables/")
    kinds = (".py", ".toml", ".yaml", ".html", ".css", ".js", ".csv", ".safetensors", ".typed")
    needed = {name for name in tracked if name.startswith(packages) and name.endswith(kinds)}
    assert len(needed) > 200 and not needed - names


def test_a_sweep_is_planned_from_the_wheel_alone(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    plan = ["-m", "sweep", "run", "--methods", "vae", "--trials", "2", "--set", "network=mlp_8", "--dry-run"]
    for command, said in ((plan, "vae-digits: "), (["-m", "sweep", "list"], "beta_vae")):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert said in done.stdout
    where = "import sweep, trainables; print(sweep.__file__, trainables.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(str(site)) == 2
