"""Check that a method keeps the contract: a line for each promise, on made-up images.

It is trained at its first hand-tuned point, made small where it can be. The exit code is 1 where a promise is broken.
"""

from collections.abc import Sequence
from typing import Any

from sweep.commands._arguments import argument, parse
from sweep.commands._ending import say
from sweep.config import SweepConfig
from sweep.search.plan import space_of
from trainables import find, outside
from trainables.config import checked
from trainables.flags import scalar
from trainables.testing import CHECKS, Subject

SMALL = {"batch_size": 8, "latent_dim": 4, "network": "mlp_32_16"}
ARGUMENTS = (
    argument("method", help="package.module:Class, or a method's name"),
    argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="values instead of the small ones"),
    argument("--shape", nargs=3, type=int, default=[1, 8, 8], metavar=("C", "H", "W"), help="of an image"),
)


def main(argv: Sequence[str]) -> None:
    flags = parse("check", __doc__, argv, *ARGUMENTS)
    hyper, values = find(flags.method).Hyper, _values(flags.method, flags.set)
    checked(hyper, values, flags.method)
    subject, broken = Subject(flags.method, values, tuple(flags.shape)), 0
    for check in CHECKS:
        promise = " ".join((check.__doc__ or check.__name__).split(".")[0].split())
        try:
            check(subject)
        except Exception as error:  # an author's mistake may be of any kind
            broken += 1
            text = " ".join(str(error).split())
            say(f"broken  {promise}\n        {text if isinstance(error, AssertionError) else outside.fault(error)}")
        else:
            say(f"kept    {promise}")
    if broken:
        say(f"{flags.method} breaks {broken} of {len(CHECKS)} promises")
        raise SystemExit(1)
    say(f"{flags.method} keeps the contract")


def _values(method: str, given: Sequence[str]) -> dict[str, Any]:
    """The first hand-tuned point, small where the house's own values are, and what was given."""
    point = space_of(method, SweepConfig(methods=[method])).paper[0]
    values = dict(point.values) | SMALL
    for pair in given:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"--set {pair!r}: write KEY=VALUE")
        values[key] = scalar(value)
    return values
