"""Check that a method fulfils the contract, with one line per requirement, on synthetic images.

The method is trained at its first hand-tuned point, reduced in size. The exit code is 1 if a requirement is not met.
"""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._ending import say
from sweep.config import SweepConfig
from sweep.search.plan import space_of
from trainables import find, outside
from trainables.config import checked
from trainables.flags import WHOLE, Pairs
from trainables.testing import CHECKS, Subject

SMALL = {"batch_size": 8, "latent_dim": 4}
Name = Annotated[str, Parameter(help="package.module:Class, or a method's name", metavar="METHOD")]
Values = Annotated[Pairs, Parameter(help="values that replace the reduced ones")]
Shape = Annotated[
    tuple[int, int, int], WHOLE, Parameter(help="channels, height and width of an image", negative="", metavar="C H W")
]


def main(method: Name, /, *, set: Values | None = None, shape: Shape = (1, 8, 8)) -> None:
    point = space_of(method, SweepConfig(methods=[method])).paper[0]
    shared = str(point.values.get("network", "")).startswith("shared")  # it may need codes with positions
    values = {**point.values, **SMALL, "network": "shared_4" if shared else "mlp_32_16", **(set or {})}
    checked(find(method).Hyper, values, method)
    subject, broken = Subject(method, values, shape), 0
    for check in CHECKS:
        promise = " ".join((check.__doc__ or check.__name__).split(".")[0].split())
        try:
            check(subject)
        except Exception as error:  # a method may raise anything
            broken += 1
            text = " ".join(str(error).split())
            say(f"broken  {promise}\n        {text if isinstance(error, AssertionError) else outside.fault(error)}")
        else:
            say(f"kept    {promise}")
    if broken:
        say(f"{method} breaks {broken} of {len(CHECKS)} requirements")
        raise SystemExit(1)
    say(f"{method} fulfils the contract")
