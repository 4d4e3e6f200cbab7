"""Whatever can be known to be wrong ends a program before it begins: one line, exit code 2, nothing written."""

import contextlib
import errno
import io
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sweep import commands
from sweep.commands.run import front_door
from sweep.config import SweepConfig, read_config
from sweep.driver import launch, local_ray
from sweep.record import Record
from trainables import files
from trainables.flags import run

REPOSITORY = Path(__file__).parents[2]
POINT = "latent_dim = 4, learning_rate = 1e-3, batch_size = 20, network = 'mlp_8', likelihood = 'bce'"
SPACE = f"""[[paper]]
source = "made up"
datasets = ["digits"]
values = {{ {POINT} }}
[space]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory from which neither Ray nor the network can be reached."""

    def no_network(*_, **__):
        raise OSError("there is no network here")

    def no_ray(*_, **__):
        raise AssertionError("was not refused: Ray would have been started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    executor = SimpleNamespace(cluster=no_ray, run=None)
    monkeypatch.setitem(sys.modules, "sweep.driver.executor", executor)
    return tmp_path


@pytest.fixture
def refused(place, capsys) -> Callable[..., str]:
    """Runs a command line, which must be refused, and returns the line that it is refused with."""

    def run(*argv: object, program: Callable = lambda argv: front_door("about", argv)) -> str:
        before = everything_in(place)
        with pytest.raises(SystemExit) as end:
            program([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert end.value.code == 2
        assert err.count("\n") == 1 and err.endswith("\n"), err
        assert "Traceback" not in err
        known = " pictures: |^epochs = |training the (classifier|network)"
        assert all(re.search(known, line) for line in out.splitlines()), out
        assert everything_in(place) == before
        return err

    return run


def everything_in(place: Path) -> dict[Path, bytes | None]:
    """All files and folders but those where data sets and weights are kept, and who last held a record."""
    found = {path.relative_to(place): path for path in sorted(place.rglob("*"))}
    return {
        name: path.read_bytes() if path.is_file() else None
        for name, path in found.items()
        if name.parts[0] not in ("data", "torch", "cache") and name.suffix != ".holder"
    }


WRONG = {
    # command line: words that the answer must contain, in this order
    # methods
    "--methods beta_vea": "method 'beta_vea' is not known; did you mean 'beta_vae'? (known: beta_vae, gae,",
    "--methods vea*": "no method matches 'vea*'",
    "--methods vae vae": "methods = ['vae', 'vae']: duplicate vae; give each name once",
    "--methods no_such_lab:VAE": "there is no module 'no_such_lab' to import",
    "--methods sweep.search.plan:Plan": "sweep.search.plan:Plan is not a subclass of Method",
    "--methods": "error: --methods requires a value; see sweep/run.py --help",
    # data sets
    "--datasets digit": "'digit' did you mean 'digits'",
    "--datasets digits digits": "duplicate digits",
    "--datasets mnist": "mnist: data/MNIST/raw/train-images-idx3-ubyte is missing download failed network",
    "--datasets folder:nowhere": "nowhere is not a folder; give the path of a folder of pictures",
    "--datasets ./sweeps": "'./sweeps' is not known did you mean 'folder:./sweeps'?",
    "--datasets folder:~no-such-user/leaves": "write the whole path",
    "--datasets folder:.": "holds 0 pictures, but at least 10 are needed",
    # metric
    "--metric mse": "--metric mse does not apply to digits, which contains images; use fcd",
    "--datasets cosine --metric fcd --set batch_size=9": "fcd does not apply to cosine, which contains points; use mse",
    "--objectives ssim": "objectives = dssim needs images of at least 11 x 11 pixels, got 8 x 8; omit it",
    "--datasets cosine --objectives nmi --set batch_size=9": "nmi_error needs images, and cosine contains points",
    "--metric psnr --objectives psnr": "objectives = psnr_rmse is already the metric of digits; omit it",
    "--metric ssim": "--metric ssim needs images of at least 11 x 11 pixels, got 8 x 8; use fcd",
    "--datasets cosine --objectives mse": "objectives = mse is already the metric of cosine; omit it",
    "--metric fd_dinov2": "--metric fd_dinov2: needs weights; write fd_dinov2:PATH",
    "--methods vae --set wae.weight=1": "set: wae.weight: 'wae' is not among the methods (vae)",
    "--metric fdi": "metric = 'fdi': unknown metric 'fdi'; choose fcd, fsd, fid",
    "--metric fid": "weights could not be downloaded --fid-weights PATH --metric fcd",
    "--metric fid --fid-weights nowhere.pth": "--fid-weights nowhere.pth: no such file; expected pt_inception",
    "--metric fid --fid-weights nowhere.pth --dry-run": "--fid-weights nowhere.pth: no such file; expected",
    # flags and keys
    "--trails 5": "Unknown option: --trails. Did you mean --trials?",
    "--trial 5": "Unknown option: --trial. Did you mean --trials?",
    "vae": "error: unexpected argument 'vae'; see sweep/run.py --help",
    "--trials": "error: --trials requires a value; see sweep/run.py --help",
    "--set bata=1 --methods beta_vae": "beta_vae unknown key 'bata'; did you mean 'beta'?",
    "--set beta=1 --methods beta_vae vae": "vae unknown key 'beta' (known: batch_size, clip,",
    "--set beta=1 --set beta=2": "--set specified multiple times",
    "--set beta=1 beta=2": "--set 'beta=2': beta is given twice; give it once",
    "--methods vae --methods wae": "--methods specified multiple times",
    "--trials 3 --trials 4": "--trials specified multiple times",
    "--confirm --no-confirm": "--no-confirm specified multiple times",
    "--set beta": "--set 'beta': write KEY=VALUE",
    "--set beta=much --methods beta_vae": "beta_vae beta = 'much' is not a finite number",
    "--set beta=nan --methods beta_vae": "beta_vae beta = nan is not a finite number",
    "--set network=mpl_3": "network = 'mpl_3' is not known; allowed: mlp_WIDTH",
    "--set likelihood=gauss": "likelihood = 'gauss' 'bce', 'sse' or 'gaussian'",
    "--searcher grid": 'Invalid value "grid" for --searcher. Choose from: "tpe", "prior", "random", "none"',
    # values out of range
    "--trials 0": "trials = '0': greater than or equal to 1",
    "--trials -3": "trials = '-3': greater than or equal to 1",
    "--trials many": "trials = 'many': valid integer",
    "--trials 2.5": "trials = '2.5': valid integer",
    "--epochs 0": "epochs = '0': greater than or equal to 1",
    "--samples 0": "samples = '0': greater than or equal to 2",
    "--samples -5": "samples = '-5': greater than or equal to 2",
    "--factor 1": "factor = '1': greater than or equal to 2",
    "--first-rung 0": "first_rung = '0': greater than or equal to 1",
    "--first-rung 30 --epochs 9": "first_rung must be at most epochs = 9, got 30",
    "--seed 2147483648": "seed = '2147483648': less than 2147483648",
    "--seed -1": "seed = '-1': greater than or equal to 0",
    "--retries -1": "retries = '-1': greater than or equal to 0",
    "--image-size 3 --datasets digits": "image_size = '3': greater than or equal to 4",
    "--image-size 4097": "image_size = '4097': less than or equal to 4096",
    "--channels 2": 'Invalid value "2" for --channels. Choose from: 1, 3',
    "--set latent_dim=0": "vae-digits latent_dim = 0: greater than or equal to 1",
    "--set latent_dim=100000000000": "vae-digits parameters take GB to train, and this machine has GB",
    "--networks resnet_20_1_32": "vae-digits parameters take GB to train, and this machine has GB",
    "--set latent_dim=99999999999999999999 --methods vae": "vae-digits cannot be built choose a smaller network",
    "--set latent_dim=2.5": "vae-digits latent_dim = 2.5: integer",
    "--set learning_rate=0": "vae-digits learning_rate = 0.0: greater than 0",
    "--set learning_rate=-1e-3": "vae-digits learning_rate = -0.001: greater than 0",
    "--set batch_size=0": "vae-digits batch_size = 0: greater than or equal to 1",
    "--set batch_size=5000": "batch_size must be at most the number of training images 5000 --set batch_size=N",
    "--methods info_vae --set lambda_=0.5": "info_vae-digits alpha + lambda_ must be at least 1, got 0.5",
    # search spaces
    "--spaces vae": "--spaces 'vae': write KEY=VALUE",
    "--spaces vea=space.toml": "spaces: 'vea' is not among the methods (vae, did you mean 'vae'?",
    "--spaces vae=nowhere.toml": "nowhere.toml: cannot be read (No such file or directory)",
    "--spaces vae=malformed.toml": "malformed.toml: line 1",
    "--spaces vae=outside.toml": "outside.toml: [[paper]] 1: learning_rate = 0.5 is outside its range 0.0001..0.01",
    "--spaces vae=misspelt.toml": "misspelt.toml: [space]: unknown key 'latentdim'; did you mean 'latent_dim'?",
    # resources
    "--gpus-per-trial 2": "gpus_per_trial = '2': less than or equal to 1",
    "--cpus-per-trial 4096": "cpus_per_trial must be at most the CPU cores of a node, got 4096",
    "--gpus-per-trial -1": "gpus_per_trial = '-1': greater than or equal to 0",
    "--concurrent 0": "concurrent = '0': greater than or equal to 1",
    # where it is kept
    "--out file/sweeps": "file/sweeps cannot be written file is not a folder); choose another --out",
    "--out file": "cannot be written file is not a folder); choose another --out",
    "--out /proc/sweeps": "/proc/sweeps cannot be written (/proc: choose another --out",
    f"--out {'y' * 300}/sweeps": "yyyyyyyyyyyyyyyyyyyy...: a name in it has more than 255 bytes; give another path",
    f"--datasets folder:{'y' * 300}": "yyyyyyyyyyyyyyyyyyyy...: a name in it has more than 255 bytes",
    f"--data-root {'y' * 300}": "yyyyyyyyyyyyyyyyyyyy...: a name in it has more than 255 bytes",
    f"--config {'y/' * 3000}": "...: has more than 4095 bytes; give another path",
    "--name older": "sweeps/older already contains a sweep; choose another --name, or continue it with",
    "--name notes": "sweeps/notes exists and is not an empty folder; choose another --name",
    "--name a/b": "name = 'a/b': a sweep's name must be a folder name without a slash",
    "--name ..": "name = '..': a leading dot",
    f"--name {'x' * 300}": "a sweep's name must have at most 200 bytes",
    "--out nowhere://bucket/sweeps": "Protocol not known: nowhere",
    "--mirror s3://me:secret@bucket/sweeps": "mirror = 's3://***@bucket/sweeps': must not contain credentials",
    "--out s3://me:secret@bucket/sweeps --mirror s3://b/c": "out = s3://***@bucket/sweeps is an address, as is mirror",
    "--datasets file:s3://me:secret@bucket/x.npz": "datasets = ['file:s3://***@bucket/x.npz']: file is a URL; give",
    "--data-root s3://me:secret@bucket/x": "data_root = 's3://***@bucket/x': is a URL",
    "--out s3://me:secret@bucket/sweeps": "must not contain credentials; set them in the environment",
    "--data-root s3://bucket/data": "data_root = 's3://bucket/data': is a URL; give a path on this machine",
    # tracking
    "--tracking-uri http://127.0.0.1:9": "--tracking-uri http://127.0.0.1:9 does not answer",
    "--tracking-uri http://me:secret@127.0.0.1:9": "--tracking-uri http://***@127.0.0.1:9 does not answer",
    "--tracking-uri mlruns": "--tracking-uri mlruns is not an address of a tracking server; give sqlite:///",
    "--tracking-uri sqlite:///file/mlflow.db": "cannot be created: file is not a folder",
    "--tracking-uri sqlite:////proc/x.db": "sqlite:////proc/x.db cannot be created: /proc: ",
    "--experiment=": "experiment = '': at least 1 character",
    # configuration files
    "--config nowhere.yaml": "--config nowhere.yaml: cannot be read (No such file or directory)",
    "--config sweeps": "--config sweeps: cannot be read (Is a directory)",
    "--config malformed.yaml": "--config malformed.yaml: is not YAML",
    "--config list.yaml": "--config list.yaml: contains no keys; write `key: value` lines",
    "--config twice.yaml": "twice.yaml: line 3: the key 'set' is written twice; write it once",
    "--config nested.yaml": "nested.yaml: line 3: the key 'beta' is written twice; write it once",
    "--config alike.yaml": "alike.yaml: line the key 'image_size' is written twice",
    "--config latin1.yaml": "latin1.yaml: is not YAML in UTF-8",
    "--config empty.yaml": "--config empty.yaml: contains no keys",
    "--config misspelt.yaml": "misspelt.yaml: unknown key 'trails'; did you mean 'trials'?",
    "--config misspelt.yaml --epochs 3": "unknown key 'trails'; did you mean 'trials'?",
    "--config dated.yaml": "dated.yaml: trials = '2024-13-45': valid integer",
    "--config tagged.yaml": "--config tagged.yaml: is not YAML in UTF-8 (invalid literal for int() 'many')",
    "--tracking-uri postgresql://u:secret@h:abc/db": "--tracking-uri postgresql://***@h:abc/db is not an address of a",
    "--config negative.yaml": "negative.yaml: epochs = -1: greater than or equal to 1",
    # sweeps to go on with
    "--resume sweeps/nowhere": "sweeps/nowhere has no config.yaml; give the folder of a sweep",
    "--resume sweeps/notes": "sweeps/notes has no config.yaml; give the folder of a sweep",
    "--resume sweeps/older --trials 9": "--resume continues a sweep allows only --address, got trials",
    "--resume sweeps/older --dry-run": "--resume continues a sweep allows only --address, got dry_run",
    "--resume sweeps/damaged": "sweeps/damaged/record.jsonl: line 1 is not an event; repair or remove it",
    "--resume sweeps/edited": "sweeps/edited/config.yaml: unknown key 'trails'; did you mean 'trials'?",
}  # fmt: skip


@pytest.fixture
def surroundings(place) -> None:
    """Files that the command lines below name."""
    (place / "file").write_text("not a folder")
    files = {
        "malformed.toml": "[[paper]",
        "outside.toml": SPACE.replace("learning_rate = 1e-3", "learning_rate = 0.5"),
        "misspelt.toml": SPACE + "latentdim = [2, 4]\n",
        "malformed.yaml": "methods: [vae\nepochs: {",
        "list.yaml": "- vae\n",
        "empty.yaml": "",
        "misspelt.yaml": "trails: 4\n",
        "negative.yaml": "epochs: -1\n",
        "dated.yaml": "trials: 2024-13-45\n",
        "tagged.yaml": "trials: !!int many\n",
        "twice.yaml": "set: {beta: 1}\nepochs: 3\nset: {beta: 2}\n",
        "nested.yaml": "set:\n  beta: 1\n  beta: 2\n",
        "alike.yaml": "image_size: 8\nimage-size: 16\n",
    }
    for name, text in files.items():
        (place / name).write_text(text)
    (place / "latin1.yaml").write_bytes("name: blätter\n".encode("latin-1"))
    for name, config, record in (
        ("older", "methods: [vae]\n", ""),
        ("damaged", "methods: [vae]\n", "{}\n{}\n"),
        ("edited", "trails: 4\n", ""),
    ):
        folder = place / "sweeps" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config)
        with Record(folder / "record.jsonl"):
            pass
        (folder / "record.jsonl").write_text(record)
    (place / "sweeps" / "notes").mkdir()
    (place / "sweeps" / "notes" / "todo.txt").write_text("nothing")


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line(refused, surroundings, line):
    shown = refused(*line.split())
    assert shown.startswith("sweep/run.py: error: ") and "secret" not in shown
    position = 0
    for word in WRONG[line].split():
        found = shown.find(word, position)
        assert found >= 0, f"{word!r} is missing or comes too early in: {shown}"
        position = found + len(word)


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--name", "a\nb", "all printable"),
        ("--name", "a\0b", "all printable"),
        ("--out", "", "out = '': is empty; give a path"),
        ("--address", "", "address = '': string should have at least 1 character"),
        ("--tracking-uri", "", "tracking_uri = '': string should have at least 1 character"),
    ],
)
def test_values_that_a_shell_makes_of_an_unset_variable_or_a_broken_line(refused, flag, value, words):
    assert words in refused(flag, value)


@pytest.mark.parametrize("pickled", [True, False])
def test_no_message_suggests_to_unpickle_a_file(refused, place, pickled):
    """NumPy takes a file that is not one of its arrays for a pickle, and recommends to load it as one."""
    if pickled:
        np.save(place / "objects.npy", np.array([{}, {}]))
    else:
        (place / "objects.npy").write_text("no array")
    shown = refused("--datasets", "file:objects.npy")
    assert "objects.npy cannot be read as an array of numbers (objects are not read)" in shown


@pytest.mark.parametrize(
    "line", ["--datasets folder:x\udcff --image-size 8", "--datasets folder:link --image-size 8", "--out x\udcff"]
)
def test_names_that_are_not_utf8(refused, pictures, place, line):
    """The record, which is JSON, cannot hold them."""
    shutil.copytree(pictures, place / "x\udcff")
    (place / "link").symlink_to("x\udcff")
    shown = refused(*line.split(), "--set", "batch_size=5")
    assert re.search(r'x\?("\]|")? has bytes that are not UTF-8, here \?; rename', shown)


def test_missing_and_damaged_data_files(refused, place):
    raw = place / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"not what you expect")
    shown = refused("--datasets", "mnist", "--data-root", place / "data")
    assert (
        "data/MNIST/raw/train-images-idx3-ubyte" in shown and "is not an idx file of 3 dimensions; delete it" in shown
    )


def test_a_damaged_picture_is_named(refused, pictures):
    (pictures / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    shown = refused("--datasets", f"folder:{pictures}", "--image-size", 8)
    assert "pictures/a/broken.jpg" in shown and "cannot be read" in shown


def test_two_data_sets_of_one_name(refused, pictures, place):
    shutil.copytree(pictures, place / "more" / "pictures")
    shown = refused("--datasets", f"folder:{pictures}", "folder:more/pictures", "--image-size", 8)
    assert "two data sets are named 'pictures'; rename one folder" in shown


def test_a_folder_without_classes_has_no_classifier(refused, pictures):
    shown = refused("--datasets", f"folder:{pictures / 'a'}", "--set", "batch_size=5", "--metric", "fcd")
    assert "a has no labels to train a classifier on; use --metric fsd" in shown


@pytest.mark.parametrize("content", [b"not weights", {"conv.weight": torch.zeros(2)}])
def test_a_weights_file_that_is_none(refused, place, content):
    weights = place / "weights.pth"
    weights.write_bytes(content) if isinstance(content, bytes) else torch.save(content, weights)
    shown = refused("--metric", "fid", "--fid-weights", weights)
    assert "weights.pth does not contain the weights of the FID's network; expected pt_inception-2015-12-05" in shown


def test_a_sweep_that_somebody_else_is_writing(refused, surroundings, place):
    with Record(place / "sweeps" / "older" / "record.jsonl"):
        shown = refused("--resume", "sweeps/older")
    assert f"is being written by process {os.getpid()} on " in shown and "wait for that sweep" in shown


def test_a_folder_that_may_not_be_written(refused, place, monkeypatch):
    def denied(**_):
        raise PermissionError(errno.EACCES, "Permission denied")  # permissions do not bind those who test as root

    monkeypatch.setattr(files.tempfile, "TemporaryFile", denied)
    assert f"{place}: Permission denied); choose another --out" in refused("--out", "sweeps")


COMMANDS = {
    "smaple": 'Unknown command "smaple". Did you mean "sample"?',
    "resume": "error: SOURCE is missing; see python -m sweep resume --help",
    "resume s3://somebody:secret@bucket/x": "error: the address must not contain credentials; set them in the",
    "resume sweeps/nowhere": "sweeps/nowhere has no config.yaml; give the folder of a sweep",
    "report": "error: SWEEP is missing; see python -m sweep report --help",
    "retry sweeps/older vae-digits-0000": "error: unexpected argument 'vae-digits-0000'; see python -m sweep retry",
    "resume sweeps/older --trials 4": "Unknown option: --trials; see python -m sweep resume --help",
    "resume sweeps/older --tracking-uri http://127.0.0.1:9": "http://127.0.0.1:9 does not answer",
    "report sweeps/nowhere": "sweeps/nowhere",
    "report sweeps/older --out sweeps": "--out sweeps: cannot be written (it is a folder); name a file",
    "report sweeps/older --out no/page.html": "cannot be written (there is no folder",
    "sample sweeps/older vae -n 4000000000": "-n must be at most 10000, got 4000000000",
    "sample sweeps/older vae --out x.xyz": "--out must end with .png, got x.xyz",
    "sample sweeps/older vae --out picture": "--out must end with .png, got picture",
    "sample sweeps/older vae --out /proc/x.png": "--out /proc/x.png: cannot be written (/proc:",
    "report sweeps/older --out /proc/page.html": "--out /proc/page.html: cannot be written (/proc:",
    f"report sweeps/older --out {'y' * 300}": "a name in it has more than 255 bytes",
    "sample sweeps/older vae --out sweeps": "--out sweeps: cannot be written (it is a folder); name a file",
    "sample sweeps/older vae -n 3 -n 4": "-n specified multiple times",
    "report sweeps/notes": "sweeps/notes",
    "board sweeps/notes": "sweeps/notes",
    "track sweeps/notes": "sweeps/notes has no config.yaml; give the folder of a sweep",
    "track sweeps/older --tracking-uri nonsense": "--tracking-uri nonsense is not an address",
    "sample sweeps/nowhere vae": "sweeps/nowhere: no winner matches 'vae'; winners: none yet",
    "sample sweeps/older vae -n 0": "-n must be at least 1, got 0",
    "sample sweeps/older vae -n many": '-n: unable to convert "many" into int',
    "sample sweeps/older vae --desnity gmm": "Unknown option: --desnity. Did you mean --density?",
    "sample sweeps/older vae --dens gmm": "Unknown option: --dens. Did you mean --density?",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_wrong_command(refused, surroundings, line):
    shown = refused(*line.split(), program=commands.main)
    assert shown.startswith("python -m sweep: error: ") and COMMANDS[line] in shown and "secret" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("command", [[REPOSITORY / "sweep" / "run.py"], ["-m", "sweep", "resume"]])
def test_as_a_program_of_its_own(tmp_path, command):
    done = subprocess.run([sys.executable, *command, "--trails", "5"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "--trails" in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_ray_address_that_does_not_answer(tmp_path, programs):
    sweep = programs.sweep("--address", "127.0.0.1:9")
    assert sweep.wait() == 2
    *_, first, last = sweep.output.splitlines()
    assert first == "starting Ray at 127.0.0.1:9 ..."
    assert last.startswith("sweep/run.py: error: Ray at 127.0.0.1:9 does not answer")
    assert not (tmp_path / "sweeps").exists()


def test_pictures_that_are_all_the_same(refused, place):
    for kind in ("a", "b"):
        (place / "black" / kind).mkdir(parents=True)
        for i in range(30):
            Image.new("L", (8, 8)).save(place / "black" / kind / f"{i}.png")
    for dry in ((), ("--dry-run",)):
        error = refused("--datasets", "folder:black", "--set", "batch_size=5", *dry)
        assert "black: all 49 images of its train split are the same picture" in error


def test_a_tilde_in_a_flag_or_a_file_is_the_home(place, pictures, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(place))
    (place / "sweep.yaml").write_text("datasets: ['folder:~/pictures']\nout: ~/elsewhere\n")
    config = launch.anywhere(read_config(SweepConfig, ["--config", "~/sweep.yaml", "--data-root", "~/data"], "p", ""))
    assert config.datasets == [f"folder:{pictures}"]
    assert (config.out, config.data_root) == (place / "elsewhere", place / "data")


def test_a_file_in_utf16_is_read(place):
    (place / "sweep.yaml").write_bytes("name: blätter\n".encode("utf-16"))
    assert read_config(SweepConfig, ["--config", "sweep.yaml"], "p", "").name == "blätter"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "access is denied"),
        (errno.EPERM, "access is denied"),
        (errno.EROFS, "access is denied"),
        (errno.ENOLCK, "files cannot be locked there"),
        (errno.EOPNOTSUPP, "files cannot be locked there"),
        (errno.EIO, "the storage failed"),
        (errno.ESTALE, "the storage failed"),
    ],
)
def test_a_folder_that_takes_no_files_is_said_in_one_line(code, words, capsys):
    def full(argv):
        raise OSError(code, os.strerror(code), "/data/record.jsonl")

    with pytest.raises(SystemExit) as end:
        run("prog", full, [])
    shown = capsys.readouterr().err
    assert end.value.code == 2 and shown.count("\n") == 1
    assert words in shown and "/data/record.jsonl" in shown


def test_a_screen_that_knows_ascii_only(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    run("prog", lambda argv: print("−13 % of β"), [])
    screen.flush()
    assert screen.buffer.getvalue() == b"?13 % of ?\n"


def test_a_tracking_database_of_another_mlflow(refused, place):
    with contextlib.closing(sqlite3.connect(place / "mlflow.db")) as database:
        database.execute("create table experiments (name text)")
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('feedbeef0123')")
        database.commit()
    shown = refused("--tracking-uri", f"sqlite:///{place / 'mlflow.db'}")
    assert "has MLflow's schema feedbeef0123, but this MLflow writes" in shown


def test_the_tracking_address_of_the_environment_is_taken(refused, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense")
    assert "--tracking-uri nonsense is not an address" in refused()


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_the_sockets_of_ray(refused, place, monkeypatch, name):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, str(place / ("long" * 30)))
    shown = refused()
    assert "longlong/ray, the folder for Ray's sockets, must have at most" in shown and "set RAY_TMPDIR=/tmp" in shown


def test_a_folder_for_the_sockets_of_ray_that_is_a_file(refused, place, monkeypatch):
    (place / "ray").touch()
    monkeypatch.setattr(local_ray, "LONGEST_SOCKET", 1000)
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    assert f"{place}/ray, the folder for Ray's sockets, is not writable" in refused()


def test_a_folder_for_the_sockets_of_ray_in_which_nothing_can_be_made(refused, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/proc")  # root may write there by its permissions
    assert "/proc, the folder for Ray's sockets, is not writable" in refused()


def test_a_command_to_copy_is_quoted(refused, place):
    with_spaces = place / "sweeps" / "my sweep"
    with_spaces.mkdir(parents=True)
    for name in ("record.jsonl", "config.yaml"):
        (with_spaces / name).touch()
    assert "`python -m sweep resume '" in (shown := refused("--name", "my sweep")) and "my sweep'`" in shown
