"""Train each study's hand-tuned and best points on fresh seeds and score them once on the test split."""

from collections.abc import Sequence

from sweep.commands._arguments import ADDRESS, SWEEP, TRACKING_URI, argument, parse
from sweep.commands._ending import conclude_confirmation, say
from sweep.driver import confirm as confirmation

TOP = argument("--top", type=int, help="how many of each study's best points; 1 unless configured")
SEEDS = argument("--seeds", type=int, help="trainings of each point; 5 unless configured")
CONCURRENT = argument("--concurrent", type=int, help="trials at a time; 1 times each alone")
AGAIN = argument("--again", action="store_true", help="look at the test split another time")


def main(argv: Sequence[str]) -> None:
    flags = parse("confirm", __doc__, argv, SWEEP, TOP, SEEDS, CONCURRENT, AGAIN, TRACKING_URI, ADDRESS)
    changes = {name: getattr(flags, name) for name in ("tracking_uri", "address", "concurrent")}
    conclude_confirmation(
        confirmation.confirm(flags.sweep, say, top=flags.top, seeds=flags.seeds, again=flags.again, **changes)
    )
