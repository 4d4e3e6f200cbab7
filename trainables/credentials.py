"""Redaction of credentials: a password in an address must not reach a record, a log or a message."""

import re

# The second alternative is a password with spaces, which SQLAlchemy accepts.
_USER = re.compile(r"://(?:[^\s/@:]*:\S*|[^\s/@:]*:[^/@\n]*|[^\s/@]+)@")
_QUERY = re.compile(r"(?<!sqlite)(://[^\s?#]*[?#])(\S+)")  # the address of a file has no parameters
_OPTION = re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|token|secret|api_?key|access_?key))(=|%3D)[^&;\s'\"]+")
_HARMLESS = ("charset", "connect_timeout", "driver", "encrypt", "host", "port", "sslmode", "timeout")


def redact(text: str) -> str:
    """Returns `text`, an address or a message that quotes one, without user names, passwords and tokens.

    Of the parameters of an address only those that are known to be harmless keep their values.
    """
    return _OPTION.sub(r"\1\2***", _QUERY.sub(_without_values, _USER.sub("://***@", text)))


def _without_values(address: re.Match[str]) -> str:
    shown = []
    for parameter in address[2].split("&"):
        name, equals, _ = parameter.partition("=")
        shown.append(parameter if name.lower() in _HARMLESS else f"{name}=***" if equals else "***")
    return address[1] + "&".join(shown)
