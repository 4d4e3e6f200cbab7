"""A bar for work that takes a while, on a terminal."""

from collections.abc import Iterable, Iterator
from threading import Timer
from typing import TypeVar

SECONDS = 2.0  # before a bar appears

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yields the items. If stderr is a terminal, a bar shows how many of `total` are done; it disappears at the end."""
    from rich.console import Console  # not needed to import a data set or a metric
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield from items
        return
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=screen, transient=True)
    task, start = bar.add_task(what, total=total), Timer(SECONDS, bar.start)  # also within a long item
    start.daemon = True
    start.start()
    try:
        for item in items:
            yield item
            bar.advance(task)
    finally:
        start.cancel()
        start.join()
        bar.stop()
