"""Delete models and checkpoints that neither a resume nor the report needs; also works while the sweep runs."""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder, Switch
from sweep.commands._ending import say
from sweep.driver import launch
from sweep.driver.checkpoints import superfluous
from sweep.record import read_trials
from trainables.flags import WHOLE

Keep = Annotated[int | None, WHOLE, Parameter(help="models to keep per study; default: as configured")]
DryRun = Annotated[bool, Switch, Parameter(help="show the files without deleting them")]


def main(folder: SweepFolder, /, *, keep: Keep = None, dry_run: DryRun = False) -> None:
    config = launch.config_of(folder)
    keep = config.keep if keep is None else keep
    if keep < 1:
        raise ValueError(f"--keep must be at least 1, got {keep}: a study keeps its best model")
    trials = read_trials(folder)
    files = list(superfluous(folder, trials, keep, config.keep_bytes))
    size = sum(path.stat().st_size for path in files)
    for path in files:
        say(str(path))
        if not dry_run:
            path.unlink(missing_ok=True)
    did = "would free" if dry_run else "freed"
    say(f"{did} {size / 1e6:.1f} MB in {len(files)} files" if files else "nothing to delete")
