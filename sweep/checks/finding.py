"""What a check has found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`bad` would break the sweep, `warn` might."""

    verdict: Literal["ok", "warn", "bad"]
    where: str
    words: str


def attempt(where: str, check: Callable[[], str]) -> Finding:
    """Return an ok finding with the result of `check`, or a bad one with the ValueError that it raises."""
    try:
        return Finding("ok", where, check())
    except ValueError as error:
        return Finding("bad", where, " ".join(str(error).split()))
