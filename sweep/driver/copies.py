"""A copy of a sweep's folder is another sweep.

Runs in MLflow are found by the sweep's id in the record. A copy that goes on under the id of its original would write
its trials into the original's runs.
"""

import json
from pathlib import Path

from sweep.config import SweepConfig
from sweep.record import Record, SweepEvent, read
from trainables.files import whole


def rename(record: Path, config: SweepConfig, sweep: str) -> bool:
    """Gives the record of a copied sweep the id `sweep`; returns whether it is one.

    It is a copy if the folder that it was last written in still holds a record of the same id. A folder that was moved,
    or brought to another machine, stays the sweep it was. `config` is that of the sweep, with its present `out` and
    `name`.
    """
    events = read(record) if record.exists() else []
    openings = [event for event in events if isinstance(event, SweepEvent)]
    if not openings or not {"out", "name"} <= openings[-1].config.keys():
        return False
    home = config.out.absolute() / config.name
    was = openings[-1].config
    original = Path(was["out"], was["name"]) / record.absolute().relative_to(home)
    if not original.exists() or original.samefile(record):
        return False
    if getattr(next(iter(read(original)), None), "sweep", None) != openings[0].sweep:
        return False
    with Record(record), whole(record, durable=True) as part, part.open("w") as file:  # held: nobody adds to it
        for line in record.read_text().splitlines():
            fields = json.loads(line)
            fields |= {"sweep": sweep} if fields["event"] == "sweep" else {}
            file.write(json.dumps(fields) + "\n")
    return True
