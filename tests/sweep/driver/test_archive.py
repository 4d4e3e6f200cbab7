"""A sweep carried to another place as one file."""

import io
import tarfile

import pytest

from sweep import commands, tracking
from sweep.config import SweepConfig
from sweep.driver import archive, launch
from sweep.record import Record
from sweep.search.plan import plan


@pytest.fixture
def folder(tmp_path):
    """A sweep with one trial under way, and with what belongs to this machine only."""
    config = launch.anywhere(SweepConfig(methods=["vae"], out=tmp_path / "here", name="s"))
    folder = tmp_path / "here" / "s"
    with Record(folder / "record.jsonl") as record:
        launch._write_config(config, folder)
        studies = [study.spec.to_record() for study in plan(config).studies]
        record.append("sweep", sweep="s1", config=config.model_dump(mode="json"), studies=studies)
        record.append("start", trial="vae-digits-0000", study="vae-digits", number=0, values={}, origin="paper", seed=0,
                      attempt=1)  # fmt: skip
    files = ["trials/vae-digits-0000/checkpoint.pt", "winners/vae-digits/model.safetensors", "report.html"]
    files += ["tracking-0123.json", "tracking-0123.lock", "ray/x/params.json", ".x.part", "trials/t/.y.part/z"]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def files(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_arrives_as_it_left_without_what_belongs_to_its_machine(folder, tmp_path, capsys):
    commands.main(["export", str(folder), str(tmp_path / "s.tar.gz")])
    commands.main(["import", str(tmp_path / "s.tar.gz"), "--out", str(tmp_path / "there")])
    arrived = tmp_path / "there" / "s"
    assert files(arrived) == {
        "record.jsonl", "config.yaml", "report.html", "trials/vae-digits-0000/checkpoint.pt",
        "winners/vae-digits/model.safetensors",
    }  # fmt: skip
    for name in files(arrived):
        assert (arrived / name).read_bytes() == (folder / name).read_bytes()
    config = launch.config_of(arrived)
    assert (config.out, config.name) == (tmp_path / "there", "s")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["s"]
    assert str(arrived) in capsys.readouterr().out
    launch._recorded(arrived, print, {})  # can be gone on with


def test_the_command_for_mlflow_is_shown_only_with_a_tracking_address(folder, capsys):
    commands.main(["board", str(folder)])
    assert "sweep compare" not in capsys.readouterr().out
    (folder.parent / "mlflow.db").touch()
    commands.main(["board", str(folder)])
    assert f"python -m sweep compare {folder}" in capsys.readouterr().out


def test_importing_can_tell_a_server_at_once(folder, tmp_path, monkeypatch):
    found = []
    tracked = type("Tracked", (), {"trials": 1, "epochs": 0})
    monkeypatch.setattr(tracking, "track", lambda *args: found.append(args) or tracked)
    archive.pack(folder, tmp_path / "s.tar.gz")
    flags = ["--out", str(tmp_path / "there"), "--tracking-uri", "http://elsewhere:5000"]
    commands.main(["import", str(tmp_path / "s.tar.gz"), *flags])
    assert found == [(tmp_path / "there" / "s", "http://elsewhere:5000", "autoencoder-sweep")]


def test_a_running_sweep_is_not_packed(folder, tmp_path):
    with Record(folder / "record.jsonl"), pytest.raises(ValueError, match="is being written by process"):
        archive.pack(folder, tmp_path / "s.tar.gz")
    assert not list(tmp_path.glob("*s.tar.gz*"))


def test_nothing_is_overwritten(folder, tmp_path):
    file = tmp_path / "s.tar.gz"
    archive.pack(folder, file)
    with pytest.raises(ValueError, match="exists; choose another file"):
        archive.pack(folder, file)
    with pytest.raises(ValueError, match="exists; choose another --out"):
        archive.unpack(file, folder.parent)


def packed(file, *members: tuple[str, bytes]):
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


@pytest.mark.parametrize(
    "members, words",
    [
        ([("s/config.yaml", b"")], "does not contain a sweep .no record.jsonl"),
        ([("s/record.jsonl", b"")], "does not contain a sweep .no config.yaml"),
        ([("s/record.jsonl", b""), ("t/config.yaml", b"")], "must contain one folder, got 2"),
        ([("../s/record.jsonl", b"")], "cannot be unpacked"),
        (
            [
                ("s/record.jsonl", b'{"time": 1, "event": "end", "trial": "x", "state": "complete"}\n'),
                ("s/config.yaml", b""),
            ],
            "before its start",
        ),
    ],
)
def test_what_is_not_a_packed_sweep_leaves_nothing_behind(tmp_path, members, words):
    out = tmp_path / "a" / "there"
    with pytest.raises(ValueError, match=words):
        archive.unpack(packed(tmp_path / "s.tar.gz", *members), out)
    assert not list(tmp_path.rglob("record.jsonl")) and not list(tmp_path.rglob("*.part"))
    damaged = packed(tmp_path / "damaged.tar.gz", ("s/record.jsonl", b""), ("s/config.yaml", bytes(50_000)))
    for position in range(40, damaged.stat().st_size, 5):
        data = damaged.read_bytes()
        (tmp_path / "s.tar.gz").write_bytes(data[:position] + b"\xff" * 5 + data[position + 5 :])
        with pytest.raises(ValueError, match=r"s.tar.gz (cannot be unpacked|must contain|does not contain)"):
            archive.unpack(tmp_path / "s.tar.gz", out)
    (tmp_path / "s.txt").write_text("not a tar")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        archive.unpack(tmp_path / "s.txt", out)
