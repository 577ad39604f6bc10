"""From a URL to SQLAlchemy's engine, with limits that keep a dead database from holding anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

CONNECT = 3  # seconds
STATEMENT = 5  # seconds
# What people write: the driver, and what installs it.
DRIVERS = {
    "sqlite": ("sqlite", "reports"),
    "postgresql": ("postgresql+psycopg", "reports,postgresql"),
    "postgres": ("postgresql+psycopg", "reports,postgresql"),
    "mysql": ("mysql+pymysql", "reports,mysql"),
    "mariadb": ("mariadb+pymysql", "reports,mysql"),
}
EXAMPLES = (
    "sqlite:////srv/glimpse/reports.db, postgresql://USER:PASSWORD@HOST/NAME or "
    "mysql://USER:PASSWORD@HOST/NAME"
)
OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": STATEMENT},
    "postgresql": {
        "connect_timeout": CONNECT,
        "tcp_user_timeout": 1000 * STATEMENT,
        "prepare_threshold": None,  # which poolers between do not support
    },
    "mysql": {
        "connect_timeout": CONNECT,
        "read_timeout": STATEMENT,
        "write_timeout": STATEMENT,
        "charset": "utf8mb4",
    },
}
NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse.",
    "ceph",
    "gluster",
)  # kinds of disks that hosts share
MOUNTS = Path("/proc/self/mounts")
LIMITS = (
    f"SELECT set_config('statement_timeout', '{STATEMENT}s', true), "
    f"set_config('lock_timeout', '{STATEMENT - 1}s', true), "
    f"set_config('idle_in_transaction_session_timeout', '{4 * STATEMENT}s', true)"
)


def engine(url: str) -> Engine:
    """The engine of a database; raises `ValueError` that says what is wrong with its URL.

    It holds no connection between uses, so that it may be made before a server forks.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"it must be the URL of a database, such as {EXAMPLES}") from error
    name = parsed.get_backend_name()
    if name not in DRIVERS:
        raise ValueError(f"it is of a kind of database that is not known; use {EXAMPLES}")
    driver, extras = DRIVERS[name]
    if "+" not in parsed.drivername:
        parsed = parsed.set(drivername=driver)
    options = OPTIONS["mysql" if name == "mariadb" else driver.partition("+")[0]]
    more: dict[str, Any] = {}
    if name == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ValueError("it must name a file, such as sqlite:////srv/glimpse/reports.db")
        parsed = parsed.set(database=str(Path(parsed.database or "").expanduser().absolute()))
    else:
        more = {"isolation_level": "READ COMMITTED"}
    given = {key: value for key, value in options.items() if key not in parsed.query}
    try:
        made = create_engine(parsed, poolclass=NullPool, connect_args=given, **more)
    except (ArgumentError, ImportError) as error:
        raise ValueError(
            f"the driver {parsed.drivername} cannot be used ({error}); "
            f"pip install 'glimpse[{extras}]'"
        ) from error
    if name == "sqlite":
        event.listen(made, "connect", _open_sqlite)
        event.listen(made, "begin", _begin_sqlite)
    elif driver.startswith("postgresql"):
        event.listen(made, "begin", _begin_postgresql)
    return made


def _open_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not Python's module
    connection.execute("PRAGMA synchronous=FULL")  # what is acknowledged survives a power cut
    connection.execute("PRAGMA secure_delete=ON")  # what is withdrawn is overwritten


def _begin_sqlite(connection: Connection) -> None:
    # Who reads first and then writes would fail where another has written between.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    connection.exec_driver_sql(LIMITS)


def is_shared(file: Path) -> bool:
    """Whether a file is on a disk that several hosts share, as far as the system tells.

    SQLite's write-ahead log must not be used there: its index is memory of one host.
    """
    try:
        lines = [line.split() for line in MOUNTS.read_text("utf-8").splitlines()]
    except OSError:
        return False
    parents = {str(each): len(each.parts) for each in file.resolve().parents}
    mounted = [(parents[place], kind) for _, place, kind, *_ in lines if place in parents]
    return bool(mounted) and max(mounted)[1].startswith(NETWORK)
