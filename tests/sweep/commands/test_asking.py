"""What a command says that asks something of a sweep whose driver does not run."""

import pytest
from made_up import ENTRY

from sweep import commands
from sweep.record import Record


@pytest.mark.parametrize("outcome, command", [("done", "extend {} --trials 1"), ("interrupted", "resume {}")])
def test_the_command_is_named_that_follows_the_request(tmp_path, capsys, outcome, command):
    with Record(tmp_path / "record.jsonl") as record:
        record.append("sweep", sweep="s", studies=[ENTRY | {"study": "vae-mnist"}])
        record.append("finish", outcome=outcome)
    commands.main(["pause", str(tmp_path), "vae-mnist"])
    assert capsys.readouterr().out.splitlines()[-1].strip() == f"python -m sweep {command.format(tmp_path)}"
