"""List the built-in methods, and the components of other installed packages."""

import sys

from sweep.commands._ending import say
from trainables import find, names, outside


def main() -> None:
    for name in names():
        say(f"{name:<12} {(sys.modules[find(name).__module__].__doc__ or '').partition(chr(10))[0]}")
    for kind in ("methods", "datasets", "networks", "metrics"):
        for name, place in outside.installed(kind).items():
            say(f"{name:<12} {kind}: {place}")
