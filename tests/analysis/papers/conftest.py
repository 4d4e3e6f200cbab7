"""What the tests of the papers' programs share."""

import pytest


@pytest.fixture
def refusal(capsys):
    """A function that runs a program with arguments that it refuses, and returns what it says."""

    def said(main, *arguments) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, arguments)))
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return said
