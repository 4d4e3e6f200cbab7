import time

import pytest

from trainables import progress


def slowly(items):
    for item in items:
        time.sleep(0.2)
        yield item


@pytest.mark.parametrize(
    ("terminal", "seconds", "seen"), [(True, 0.01, True), (True, 60.0, False), (False, 0.01, False)]
)
def test_a_bar_is_shown_on_a_terminal_once_work_takes_long(terminal, seconds, seen, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(terminal)))  # rich reads it
    monkeypatch.setattr(progress, "SECONDS", seconds)
    assert list(progress.shown(slowly("ab"), "decoding", 2)) == list("ab")
    output = capsys.readouterr()
    assert ("decoding" in output.err) == seen and not output.out


def test_a_bar_appears_within_a_long_item(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    for _ in progress.shown("a", "the report", 1):
        time.sleep(0.2)
        assert "the report" in capsys.readouterr().err


def test_an_error_takes_the_bar_away(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(progress, "SECONDS", 0.01)

    def broken():
        yield from slowly("ab")
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        list(progress.shown(broken(), "decoding", 3))
    assert capsys.readouterr().err.endswith("\x1b[2K")  # its line is erased
