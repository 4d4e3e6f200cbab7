"""Words for messages and records."""

import difflib
from collections.abc import Iterable


def readable(text: str) -> str:
    """Replaces what UTF-8 cannot encode: text of outside code and names of files may contain lone surrogates."""
    return text.encode(errors="replace").decode()


def message(error: BaseException) -> str:
    """Returns the text of an error, readable; "" if its class raises another error instead of giving one."""
    try:
        return readable(str(error))
    except Exception:
        return ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'beta'?`, or "" if no known word is close."""
    close = difflib.get_close_matches(word, list(known), 1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
