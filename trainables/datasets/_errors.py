"""Foreign errors told in one line, so that ours stay one line too."""


class Absent(ValueError):
    """A data set is not there, and may not or cannot be downloaded."""


def reason(error: BaseException) -> str:
    """What kind of error it is and what it says, without line breaks."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
