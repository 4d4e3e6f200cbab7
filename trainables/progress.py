"""A bar for work that takes a while, on a terminal."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SECONDS = 2.0  # before a bar appears

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yields the items. If stderr is a terminal, a bar shows how many of `total` are done; it disappears at the end."""
    from rich.console import Console  # not needed to import a data set or a metric
    from rich.progress import Progress

    screen = Console(stderr=True)
    bar = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    task, began = bar.add_task(what, total=total), time.monotonic()
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not bar.live.is_started and time.monotonic() - began >= SECONDS:
                bar.start()
    finally:
        bar.stop()
