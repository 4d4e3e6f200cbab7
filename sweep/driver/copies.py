"""Detection of copied sweep folders, which get a new sweep id.

Runs in MLflow are identified by the sweep id in the record. A copy that continued under the id of its original would
write its trials into the original's runs.
"""

import json
from pathlib import Path

from sweep.config import SweepConfig
from sweep.record import Record, SweepEvent, read
from trainables.files import whole


def rename(record: Path, config: SweepConfig, sweep: str) -> bool:
    """Set the id in the record of a copied sweep to `sweep`; return whether it is a copy.

    It is a copy if the folder in which it was last written still holds a record of the same id. A moved folder keeps
    its id, also on another machine, and so does a folder fetched from the mirror, which only one folder continues.
    `config` is the sweep's configuration with the present `out` and `name`.
    """
    events = read(record) if record.exists() else []
    openings = [event for event in events if isinstance(event, SweepEvent)]
    if not openings or not {"out", "name"} <= openings[-1].config.keys():
        return False
    assert config.name is not None  # that of the folder
    home = config.out.absolute() / config.name
    was = openings[-1].config
    if config.mirror is not None and (config.mirror, config.name) == (was.get("mirror"), was["name"]):
        return False
    original = Path(was["out"], was["name"]) / record.absolute().relative_to(home)
    if not original.exists() or original.samefile(record):
        return False
    if getattr(next(iter(read(original)), None), "sweep", None) != openings[0].sweep:
        return False
    with Record(record), whole(record, durable=True) as part, part.open("w") as file:  # holds the record's lock
        for line in record.read_text().splitlines():
            fields = json.loads(line)
            fields |= {"sweep": sweep} if fields["event"] == "sweep" else {}
            file.write(json.dumps(fields) + "\n")
    return True
