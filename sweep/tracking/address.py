"""Addresses of tracking servers: check that they are usable.

A sweep must not start with a server that does not answer. This module checks it without importing mlflow, which takes
seconds.
"""

import contextlib
import hashlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainables.credentials import redact
from trainables.datasets import expanded
from trainables.files import write_fault

SECONDS_TO_ANSWER = 5
DATABASE = "mlflow.db"
MOUNTS = Path("/proc/mounts")
# Types of file systems of a network, and of FUSE, on which SQLite's locks do not work or are slow.
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|lustre|gpfs|beegfs|ceph|glusterfs|afs|panfs|wekafs|pvfs2|orangefs|fuse\..*"
)
SHAPES = "sqlite:///FILE.db, http(s)://HOST:PORT or postgresql://USER@HOST/NAME"

_REVISION = {
    name: re.compile(rf"""^{name}\s*=\s*["'](\w+)["']""", re.MULTILINE) for name in ("revision", "down_revision")
}
SCHEMA = "select version_num from alembic_version"
_DATABASES = ("postgresql", "mysql", "mssql")


def default_database(folder: Path) -> Path:
    """Return the SQLite file for the sweeps in `folder`: in it, unless it is a network share without such a file; then
    in the user's home or the system's temporary folder, whichever is local first."""
    shared = folder.absolute() / DATABASE
    if shared.exists() or not on_network(folder):
        return shared
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    homes = [Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser(), Path(tempfile.gettempdir())]
    local = next((home for home in homes if not on_network(home)), homes[-1])
    return local / "autoencoder-sweep" / name / DATABASE


def on_network(folder: Path) -> bool:
    """Return whether a folder, which may not exist yet, is on a file system of a network; False where the system does
    not say."""
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return False
    at = folder.resolve()
    # Mount points have octal escapes for spaces; the last mount of the longest one is in use.
    kinds = {Path(point.encode().decode("unicode_escape")): kind for point, kind in mounts}
    under = [point for point in kinds if at.is_relative_to(point)]
    return bool(under) and NETWORK.fullmatch(kinds[max(under, key=lambda point: len(point.parts))]) is not None


def absolute(uri: str) -> str:
    """Resolve a relative sqlite file, so that the address is independent of the working directory."""
    file = sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a sqlite address with ~ expanded, or None for any other address."""
    return expanded(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def fingerprint(uri: str) -> str:
    """Return a short hash of an address for file names; it does not depend on the password."""
    return hashlib.sha256(redact(absolute(uri)).encode()).hexdigest()[:12]


def check(uri: str) -> None:
    """Check within about 5 seconds that the server at `uri` answers, without creating anything.

    Raises ValueError, in one line without credentials, if runs cannot be tracked there.
    """
    scheme = uri.partition("://")[0].partition("+")[0]
    problem: str | None
    if "***" in uri:
        problem = "was stored without its credentials"
    elif file := sqlite_file(uri):
        problem = _sqlite_problem(file)
    elif scheme in ("http", "https"):
        problem = _http_problem(uri)
    elif scheme in _DATABASES:
        problem = _database_problem(uri)
    else:
        problem = "is not an address of a tracking server"
    if problem:
        raise ValueError(redact(f"--tracking-uri {uri} {problem}; give {SHAPES}"))


def _sqlite_problem(file: Path) -> str | None:
    if file.is_dir():
        return "is a folder, not a database file"
    if file.exists():
        return _sqlite_file_problem(file)
    folder = next(parent for parent in file.parents if parent.exists())
    if not folder.is_dir():
        return f"cannot be created: {folder} is not a folder"
    fault = write_fault(folder)
    return fault and f"cannot be created: {fault}"


def _sqlite_file_problem(file: Path) -> str | None:
    if fault := write_fault(file):
        return f"is not writable: {fault}"
    try:
        # Not read-only: an unfinished transaction of a killed process must be rolled back before reading.
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master")}
            schemas = database.execute(SCHEMA).fetchall() if "alembic_version" in tables else []
    except sqlite3.Error as error:
        return f"cannot be read ({error})"
    if tables and "experiments" not in tables:
        return "is not a database of MLflow"
    return _other_schema(schemas)


def _other_schema(rows: Sequence[Sequence[str]]) -> str | None:
    """Return the problem of a database with these rows of `alembic_version`, which are empty before MLflow's setup."""
    if rows and (schema := rows[0][0]) != known_schema():
        return f"has MLflow's schema {schema}, but this MLflow writes {known_schema()} (see `mlflow db upgrade`)"
    return None


def known_schema() -> str:
    """Return the schema revision of the installed MLflow: the one without a successor."""
    spec = find_spec("mlflow")
    assert spec is not None and spec.origin is not None  # MLflow is a dependency
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.py")]
    revisions, followed = ({m[1] for text in texts if (m := _REVISION[kind].search(text))} for kind in _REVISION)
    (head,) = revisions - followed
    return head


def _http_problem(uri: str) -> str | None:
    import requests

    # Not /health, which also answers refused clients (wrong password, host not allowed).
    question = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        answer = requests.get(question, timeout=SECONDS_TO_ANSWER / 2, **authentication(uri))
    except requests.RequestException as error:
        return f"does not answer ({type(error).__name__}); start the server"
    if answer.status_code in (401, 403):
        return (
            f"refuses access (HTTP {answer.status_code}); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or start the server with --allowed-hosts"
        )
    if not answer.ok or not answer.headers.get("content-type", "").startswith("application/json"):
        return f"answers, but not like an MLflow server (HTTP {answer.status_code})"
    return None


def authentication(uri: str) -> dict[str, Any]:
    """Return the credentials of MLflow's client, from its variables and its file, as arguments of requests."""
    from mlflow.utils.credentials import get_default_host_creds  # takes seconds, so only for HTTP servers

    found = get_default_host_creds(uri)
    options: dict[str, Any] = {"verify": found.verify}
    if found.client_cert_path:
        options["cert"] = found.client_cert_path
    if found.username and found.password:
        return options | {"auth": (found.username, found.password)}
    return options | ({"headers": {"Authorization": f"Bearer {found.token}"}} if found.token else {})


def _database_problem(uri: str) -> str | None:
    import sqlalchemy

    limit = {} if uri.startswith("mssql") else {"connect_timeout": SECONDS_TO_ANSWER}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=limit, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as database:
            made = sqlalchemy.inspect(database).has_table("alembic_version")
            schemas = database.execute(sqlalchemy.text(SCHEMA)).all() if made else []
    except ModuleNotFoundError as error:
        return f"needs a driver: pip install {error.name}"
    except ValueError as error:  # of SQLAlchemy's parser
        return f"is not an address of a database ({error})"
    except sqlalchemy.exc.SQLAlchemyError as error:
        return f"does not answer ({' '.join(str(error).split())[:200]})"
    return _other_schema(schemas)
