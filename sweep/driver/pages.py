"""Tables and report of a sweep, with a bar: of a hundred studies they take minutes."""

from pathlib import Path

from analysis.page.report import write_report
from analysis.tables import write_tables
from sweep.search.importance import write_importances
from sweep.search.rung_table import write_rungs
from trainables.progress import shown


def write_results(searched: Path) -> None:
    """Write the tables of a sweep from its record."""
    tables = write_tables, write_importances, write_rungs
    for write in shown(tables, "tables", len(tables)):
        write(searched)


def write_page(*folders: Path, out: Path | None = None) -> Path:
    """Write the report of a sweep, or the comparison of several, and return its path; see `write_report`."""
    return write_report(*folders, out=out, shown=shown)
