"""Tracking URIs: MLflow's default, made absolute, shown without credentials, looked at."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

_SQLITE = re.compile(r"^(sqlite(?:\+\w+)?:///)([^?]*)(\?.*)?$", re.IGNORECASE)
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.\-]+:")
_SQL = re.compile(r"^(sqlite|postgresql|postgres|mysql|mssql)(\+\w+)?:", re.IGNORECASE)


def default_tracking_uri(cwd: Path) -> str:
    """Returns where MLflow 3 logs when nobody said: ``mlflow.db`` in `cwd`, or ``mlruns`` if it holds earlier runs."""
    return file_uri(cwd / "mlruns") if has_legacy_runs(cwd) else f"sqlite:///{(cwd / 'mlflow.db').as_posix()}"


def has_legacy_runs(cwd: Path) -> bool:
    """Tells whether ``mlruns`` in `cwd` is a file store with experiments, which MLflow then prefers as its default."""
    try:
        return any(entry.name.isdigit() and (entry / "meta.yaml").exists() for entry in (cwd / "mlruns").iterdir())
    except OSError:
        return False


def absolute_tracking_uri(uri: str, cwd: Path) -> str:
    """Returns `uri` such that it means the same in another directory; those with a host come back as they are."""
    sqlite = _SQLITE.match(uri)
    if sqlite:
        prefix, path, query = sqlite.groups(default="")
        return f"{prefix}{(cwd / path).as_posix()}{query}"
    if is_file_store(uri):
        return file_uri(cwd / _file_path(uri))
    return uri


def is_file_store(uri: str) -> bool:
    """Tells whether `uri` names a folder of files (``file:...`` or a bare path), which keeps every repeat."""
    scheme = _SCHEME.match(uri)
    return uri.lower().startswith("file:") or (scheme is None and "://" not in uri and uri != "databricks")


def is_sql(uri: str) -> bool:
    """Tells whether this process opens the database itself."""
    return _SQL.match(uri) is not None


def is_http(uri: str) -> bool:
    """Tells whether `uri` names a tracking server."""
    return uri.lower().startswith(("http://", "https://"))


def sqlite_path(uri: str) -> Path | None:
    """Returns the database file of a SQLite URI, None for any other."""
    sqlite = _SQLITE.match(uri)
    return Path(sqlite.group(2)) if sqlite else None


def file_uri(path: Path) -> str:
    """Returns the ``file:`` URI of an absolute path, a folder that need not exist yet."""
    from urllib.request import pathname2url  # half of HTTP comes with it, which a training does without

    return "file://" + pathname2url(str(path))


def _file_path(uri: str) -> Path:
    if not uri.lower().startswith("file:"):
        return Path(uri)
    parts = urlsplit(uri)
    # "file://relative/path" is no legal URI, but people write it, and MLflow itself reads "relative" as a host.
    from urllib.request import url2pathname

    return Path(url2pathname(unquote(parts.netloc + parts.path)))


def without_credentials(uri: str) -> str:
    """Returns `uri` for people's eyes: no user, password or trailing slash."""
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        uri = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return uri.rstrip("/")


def run_url(uri: str, experiment_id: str, run_id: str) -> str:
    """Returns where a person looks at the run: its page on a server, else the store itself."""
    if is_http(uri):
        return f"{without_credentials(uri)}/#/experiments/{experiment_id}/runs/{run_id}"
    return without_credentials(uri)


def look_command(uri: str, url: str | None) -> str | None:
    """Returns the command that shows a local store, the run's URL for a server, None where neither is known."""
    if is_http(uri):
        return url
    if not (is_sql(uri) or is_file_store(uri)):
        return None
    return f"mlflow ui --backend-store-uri {shlex.quote(without_credentials(uri))}"
