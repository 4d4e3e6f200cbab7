"""Watch sweeps in a browser while they run: the running trials and the report.

The page is generated from the records, so it can be opened at any time, and served on the loopback interface only.
"""

import threading
import webbrowser
from typing import Annotated

from cyclopts import Parameter

from analysis.page.live import served
from sweep.commands._arguments import Switch
from sweep.commands._ending import say
from sweep.commands.compare import has_display
from trainables.flags import WHOLE, Place

First = Annotated[Place, Parameter(help="folder of a sweep, or several", metavar="SWEEP")]
Port = Annotated[int, WHOLE, Parameter(help="port to listen on; default: a free one", show_default=False)]
NoOpen = Annotated[bool, Switch, Parameter(help="print the address without opening a browser")]


def main(first: First, /, *others: Place, port: Port = 0, no_open: NoOpen = False) -> None:
    with served([first, *others], port) as address:
        say(f"{address} until Ctrl-C")
        if not no_open and has_display():
            webbrowser.open(address)
        threading.Event().wait()
