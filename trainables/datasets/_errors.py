"""One-line descriptions of errors from libraries, for our one-line messages."""


class Absent(ValueError):
    """A data set is missing, and its download is disabled or failed."""


def reason(error: BaseException) -> str:
    """Returns the type and the message of an error, without line breaks."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
