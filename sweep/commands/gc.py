"""Delete models and checkpoints that no resume and no report needs, also while the sweep runs."""

from collections.abc import Sequence

from sweep.commands._arguments import SWEEP, argument, parse
from sweep.commands._ending import say
from sweep.driver import launch
from sweep.driver.checkpoints import superfluous
from sweep.record import read_trials

KEEP = argument("--keep", type=int, help="models per study; as the sweep was configured unless given")
DRY_RUN = argument("--dry-run", action="store_true", help="show what would go, and delete nothing")


def main(argv: Sequence[str]) -> None:
    flags = parse("gc", __doc__, argv, SWEEP, KEEP, DRY_RUN)
    config = launch.config_of(flags.sweep)
    keep = config.keep if flags.keep is None else flags.keep
    if keep < 1:
        raise ValueError(f"--keep {keep}: a study keeps at least its best model; allowed are 1, 2, ...")
    trials = read_trials(flags.sweep)
    files = list(superfluous(flags.sweep, trials, keep, config.keep_bytes))
    size = sum(path.stat().st_size for path in files)
    for path in files:
        say(str(path))
        if not flags.dry_run:
            path.unlink(missing_ok=True)
    did = "would free" if flags.dry_run else "freed"
    say(f"{did} {size / 1e6:.1f} MB in {len(files)} files" if files else "nothing to delete")
