"""Write tables and report.html of a sweep anew, or one page that compares several sweeps."""

from collections.abc import Sequence

from analysis.confirm import write_confirmed
from analysis.load import read_sweep
from analysis.page.report import COMPARISON, write_report
from analysis.tables import write_tables
from sweep.commands._arguments import argument, parse
from sweep.commands._ending import say
from sweep.driver import confirm as confirmation
from sweep.search.importance import write_importances
from trainables.datasets import expanded
from trainables.flags import output_file

SWEEPS = argument("sweep", type=expanded, nargs="+", help="folders of one or several sweeps")
OUT = argument("--out", type=expanded, help=f"the page; report.html there, ./{COMPARISON} for several sweeps")


def main(argv: Sequence[str]) -> None:
    flags = parse("report", __doc__, argv, SWEEPS, OUT)
    if flags.out is not None:
        output_file(flags.out, "--out")
    if len(flags.sweep) == 1:
        (folder,) = flags.sweep
        read_sweep(folder)
        write_tables(folder)
        write_importances(folder)
        for look in confirmation.looks_at_test(folder):
            write_confirmed(look)
    say(str(write_report(*flags.sweep, out=flags.out)))
