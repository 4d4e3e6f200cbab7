"""The doctor must see what breaks sweeps, say it in a line, and end with 2; and see nothing where nothing is."""

import pytest

from sweep import commands
from sweep.checks import machine


def test_a_sound_machine_has_nothing_to_fear(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "graphics_cards", lambda: 0)  # whether torch suits the driver is not ours to fix
    commands.main(["doctor", "--datasets", "digits"])
    lines = capsys.readouterr().out.splitlines()
    assert any("data set digits: " in line for line in lines)
    assert sum("-digits: a training step takes" in line and "activations" in line for line in lines) == 5
    assert not [line for line in lines if line.startswith("bad")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_breaks_a_sweep_is_named_and_ends_with_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as end:
        commands.main(
            ["doctor", "--datasets", "digits", "mnist", "--data-root", str(tmp_path),
             "--out", str(tmp_path / "file" / "sweeps"),
             "--metric", "fid", "--fid-weights", str(tmp_path / "none.pth"), "--tracking-uri", "http://127.0.0.1:9"]
        )  # fmt: skip
    assert end.value.code == 2
    shown = capsys.readouterr().out
    bad = [line for line in shown.splitlines() if line.startswith("bad")]
    for what in ("file/sweeps is not writable", "mnist", "prefetch --metric fid", "127.0.0.1:9 does not answer"):
        assert sum(what in line for line in bad) == 1, shown
    assert f"{len(bad)} of these would break the sweep" in shown


def test_flags_are_those_of_a_sweep(capsys):
    with pytest.raises(SystemExit):
        commands.main(["doctor", "--dataset", "mnist"])
    assert "Unknown option: --dataset. Did you mean --datasets?" in capsys.readouterr().err
