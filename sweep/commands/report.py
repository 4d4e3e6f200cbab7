"""Write tables and report.html of a sweep anew, or one page that compares several sweeps."""

from collections.abc import Sequence

from analysis.page.report import COMPARISON, write_report
from sweep.commands._arguments import argument, parse
from sweep.commands._ending import say
from sweep.driver import confirm as confirmation
from trainables.datasets import expanded
from trainables.flags import output_file

SWEEPS = argument("sweep", type=expanded, nargs="+", help="folders of one or several sweeps")
OUT = argument("--out", type=expanded, help=f"the page; report.html there, ./{COMPARISON} for several sweeps")


def main(argv: Sequence[str]) -> None:
    flags = parse("report", __doc__, argv, SWEEPS, OUT)
    if flags.out is not None:
        output_file(flags.out, "--out")
    if len(flags.sweep) == 1:
        page = confirmation.write_pages(flags.sweep[0], flags.out)
    else:
        page = write_report(*flags.sweep, out=flags.out)
    say(str(page))
