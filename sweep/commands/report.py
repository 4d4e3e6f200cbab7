"""Rewrite the tables and report.html of a sweep, or write one page that compares several sweeps."""

from typing import Annotated

from cyclopts import Parameter

from analysis.page.report import COMPARISON
from sweep.commands._ending import say
from sweep.driver import confirm as confirmation
from sweep.driver.pages import write_page
from trainables.flags import Place, output_file

First = Annotated[Place, Parameter(help="folder of a sweep, or several", metavar="SWEEP")]
Out = Annotated[
    Place | None, Parameter(help=f"path of the page; default: report.html there, ./{COMPARISON} for several sweeps")
]


def main(first: First, /, *others: Place, out: Out = None) -> None:
    if out is not None:
        output_file(out, "--out")
    page = write_page(first, *others, out=out) if others else confirmation.write_pages(first, out)
    say(str(page))
