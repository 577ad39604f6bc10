"""The database of reports: plain records go in and come out, whichever kind of database it is."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from reports.engine import engine, is_shared
from reports.export import export
from reports.likeness import likeness
from reports.records import (
    STATUSES,
    Accepted,
    Away,
    Count,
    Differs,
    Kept,
    Kind,
    Outline,
    Page,
    Report,
    Sent,
    Status,
    TooMany,
)
from reports.tables import ReportRow, SenderRow, SettingRow

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
PAUSE = 5  # seconds after a failure in which the database is not asked again
AT_ONCE = 4  # connections of a process
PATIENCE = 2.0  # seconds to wait for one of them
TRIES = 5  # of a report, where another request adds the same one at the same time
BATCH = 500  # rows that are read at once
LOCK = 7_120_419  # of migrations, among the database's advisory locks
MOST_IDS = 2**31
MOST, MOST_A_DAY = 200, 500  # reports of one sender: kept at a time, and sent in a day

log = logging.getLogger(__name__)
_migrating = threading.Lock()  # Alembic has one context for a whole process


class Said(Enum):
    """The type of `SAID`."""

    SAID = "said"


SAID: Final = Said.SAID  # the label that a report itself says is right


class Database:
    """The reports in the database at `url`; raises `ValueError` for an invalid URL.

    Nothing is connected until it is used, and no connection is kept: it may be made before a
    server forks, and while the database is away. Every method raises `Away` where that is so.
    """

    def __init__(self, url: str) -> None:
        self._engine = engine(url)
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._secret, self._is_ready = b"", False
        self._pause_ends, self._reason = 0.0, ""

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def migrate(self) -> None:
        """Creates what is missing in the database; several processes may do so at once."""
        with _migrating:
            if self._is_ready:
                return
            if self._engine.dialect.name == "sqlite":
                self._choose_journal()
            with self._connected(writes=True) as connection:
                self._lock_for_migration(connection)
                config = Config()
                config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
                config.set_main_option("path_separator", "os")
                config.attributes["connection"] = connection
                try:
                    command.upgrade(config, "head")
                except CommandError as error:
                    raise self._away(
                        f"{error}; a newer Glimpse wrote this database: install that version, or "
                        "name another database"
                    ) from error
                self._secret = _secret(connection)
            self._is_ready = True

    def add(self, sent: Sent, client: str, *, most: int = MOST, day: int = MOST_A_DAY) -> Kept:
        """Keeps a report of `client`, whose name itself is not kept.

        One that is there already is not added again. Raises `TooMany` if `most` of the client's
        reports are kept, or it sent `day` of them today, and `Differs` if it reported the same
        answer otherwise.
        """
        self.migrate()
        reporter = self._keyed("reporter", client)
        code = self._keyed("code", f"{reporter} {sent.answer}")[:32]
        alike = f"{likeness(sent.picture):016x}"
        for _ in range(TRIES):
            try:
                with self._connected(writes=True) as connection:
                    return _add(connection, sent, reporter, code, alike, most=most, day=day)
            except IntegrityError:  # another request has just added it
                continue
        raise self._away("the same report is being added again and again")

    def withdraw(self, code: str) -> bool:
        """Removes the report of that code; whether there was one."""
        return bool(self._write(delete(ReportRow).where(ReportRow.code == _digest(code))))

    def purge(self, older: timedelta) -> int:
        """Removes the reports that are older, whatever their status; how many."""
        now = _now()
        self._write(delete(SenderRow).where(SenderRow.day < (now - timedelta(1)).date()))
        return self._write(delete(ReportRow).where(ReportRow.created < now - older))

    def page(
        self,
        status: Status = "new",
        *,
        kind: Kind | None = None,
        model: str | None = None,
        label: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Up to `limit` reports for review: the oldest first, or of the kind `unsure` those that
        would teach most (of the highest entropy).

        `label` is what was said, "" for “none of these”. `after` is the `after` of the page
        before. Raises `ValueError` for another.
        """
        order: list[Any] = [ReportRow.id]
        asked = [ReportRow.status == status]
        if kind is not None:
            asked.append(ReportRow.kind == kind)
        if model is not None:
            asked.append(ReportRow.model == model)
        if label == "":
            asked += [ReportRow.said.is_(None), ReportRow.kind == "report"]
        elif label is not None:
            asked.append(ReportRow.said == label)
        if kind == "unsure":
            order = [ReportRow.entropy.desc(), ReportRow.id.desc()]
            if after is not None:
                entropy, number = after.split(" ")
                asked.append(
                    or_(
                        ReportRow.entropy < float(entropy),
                        (ReportRow.entropy == float(entropy)) & (ReportRow.id < int(number)),
                    )
                )
        elif after is not None:
            asked.append(ReportRow.id > min(int(after), MOST_IDS))
        statement = _reports().where(*asked).order_by(*order).limit(limit + 1)
        rows = self._read(statement)
        found = [_report(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(reports=found, after=None)
        last = found[-1]
        own = f"{last.entropy!r} {last.id}" if kind == "unsure" else str(last.id)
        return Page(reports=found, after=own)

    def report(self, number: int) -> Report | None:
        """The report of that number, or none."""
        rows = self._read(_reports().where(ReportRow.id == number)) if number < MOST_IDS else []
        return _report(rows[0]) if rows else None

    def queue(
        self, model: str, status: Status, kind: Kind | None = None, limit: int = 5000
    ) -> list[Outline]:
        """Up to `limit` reports of a model without their pictures: the oldest first, or of the
        kind `unsure` those of the highest entropy.
        """
        row = ReportRow
        asked = [row.model == model, row.status == status]
        if kind is not None:
            asked.append(row.kind == kind)
        order = [row.entropy.desc(), row.id] if kind == "unsure" else [row.id]
        columns = [getattr(row, name) for name in Outline.__dataclass_fields__]
        rows = self._read(select(*columns).where(*asked).order_by(*order).limit(limit))
        return [Outline(**{**each._asdict(), "likeness": int(each.likeness, 16)}) for each in rows]

    def reports(self, ids: Collection[int]) -> list[Report]:
        """The reports of these numbers that there are."""
        return [_report(row) for row in self._read(_reports().where(_among(ids)))]

    def whole(self, number: int) -> bytes | None:
        """The whole picture of a report, a PNG or JPEG, or none."""
        if number >= MOST_IDS:
            return None
        rows = self._read(select(ReportRow.whole).where(ReportRow.id == number))
        return rows[0].whole if rows else None

    def decide(self, ids: Collection[int], status: Status, label: str | Said | None = SAID) -> int:
        """Gives reports a status; how many were there.

        Those that are accepted get `label`, none for “none of these”; `SAID` is what each one
        says itself, which for the kind `unsure` is what the model predicted. Raises `ValueError`
        for an unknown status.
        """
        if status not in STATUSES:
            raise ValueError(f"the status {status!r} must be one of {', '.join(STATUSES)}")
        own = case((ReportRow.kind == "unsure", ReportRow.predicted), else_=ReportRow.said)
        given: Any = None if status != "accepted" else own if label is SAID else label
        values = {"status": status, "label": given, "reviewed": _now() if status != "new" else None}
        return self._write(update(ReportRow).where(_among(ids)).values(values))

    def delete(self, ids: Collection[int]) -> int:
        """Removes reports; how many were there."""
        return self._write(delete(ReportRow).where(_among(ids)))

    def counts(self) -> list[Count]:
        """How many reports there are, by model, version, kind and status."""
        by = (ReportRow.model, ReportRow.version, ReportRow.kind, ReportRow.status)
        rows = self._read(select(*by, func.count().label("count")).group_by(*by).order_by(*by))
        return [Count(**row._asdict()) for row in rows]

    def accepted(self, model: str) -> Iterator[Accepted]:
        """The accepted reports of a model, of all its versions, the oldest first."""
        row = ReportRow
        statement = select(
            row.id, row.picture, row.label, row.reporter, row.created, row.version
        ).where(row.model == model, row.status == "accepted")
        for each in self._each(statement):
            yield Accepted(**each._asdict())

    def export(
        self,
        folder: Path,
        model: str | None = None,
        *,
        every: bool = False,
        whole: bool = False,
    ) -> int:
        """Writes the pictures of accepted reports, or with `every` of all that say a label, into
        `folder`, a folder a class; how many.

        Without a `model`, each model has a folder of these. With `whole`, whole pictures are
        written in place of what the network saw, where they are kept. Raises `OSError`.
        """
        row = ReportRow
        is_accepted = row.status == "accepted"
        said = case((is_accepted, row.label), else_=row.said).label("label")
        picture = func.coalesce(row.whole, row.picture) if whole else row.picture
        statement = select(row.id, row.model, said, picture.label("picture"))
        with_label = (row.kind == "report") & (row.status == "new")
        statement = statement.where(or_(is_accepted, with_label) if every else is_accepted)
        if model is not None:
            statement = statement.where(row.model == model)
        rows = ((each.id, each.model, each.label, each.picture) for each in self._each(statement))
        return export(rows, folder, with_model=model is None)

    def secret_for(self, purpose: str) -> bytes:
        """A secret that all who use the database share, another for each purpose."""
        self.migrate()
        return bytes.fromhex(self._keyed("secret", purpose))

    def note(self, name: str) -> str | None:
        """What is kept under a name of up to 40 characters, none if nothing is."""
        rows = self._read(select(SettingRow.value).where(SettingRow.name == name))
        return rows[0].value if rows else None

    def set_note(self, name: str, value: str) -> None:
        """Keeps a text of up to 255 characters under a name of up to 40."""
        if self._write(update(SettingRow).where(SettingRow.name == name).values(value=value)):
            return
        with suppress(IntegrityError):  # another has just set it
            self._write(insert(SettingRow).values(name=name, value=value))

    def _each(self, statement: Any) -> Iterator[Any]:
        """The rows of a statement in the order of their ids, in several transactions."""
        last = 0
        while rows := self._read(
            statement.where(ReportRow.id > last).order_by(ReportRow.id).limit(BATCH)
        ):
            yield from rows
            last = rows[-1].id

    def _read(self, statement: Any) -> list[Any]:
        self.migrate()
        with self._connected(writes=False) as connection:
            return list(connection.execute(statement))

    def _write(self, statement: Any) -> int:
        """Executes a statement; returns how many rows there were for it."""
        self.migrate()
        with self._connected(writes=True) as connection:
            return connection.execute(statement).rowcount

    @contextmanager
    def _connected(self, *, writes: bool) -> Iterator[Connection]:
        """A connection in a transaction, which is committed at the end; raises `Away`."""
        if (wait := self._pause_ends - time.monotonic()) > 0:
            raise Away(self._reason, max(1, round(wait)))
        if not self._slots.acquire(timeout=PATIENCE):
            raise Away("the database has too much to do", PAUSE)
        try:
            with (
                self._engine.connect() as connection,
                connection.execution_options(writes=writes).begin(),
            ):
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            self._is_ready = False  # so that the tables are looked for again
            raise self._away(str(error.orig)) from error
        except (SQLAlchemyError, RuntimeError) as error:  # a driver's own: it lacks a package
            raise self._away(str(error)) from error
        finally:
            self._slots.release()

    def _away(self, reason: str) -> Away:
        """The error for a database that cannot be used, which is not asked again for a while."""
        self._reason = " ".join(reason.split())
        self._pause_ends = time.monotonic() + PAUSE
        log.warning("the database %s cannot be used: %s", self.name, self._reason)
        return Away(self._reason, PAUSE)

    def _choose_journal(self) -> None:
        """Makes readers of an SQLite file not wait for who writes, where its disk can do that."""
        mode = "DELETE" if is_shared(Path(self._engine.url.database or "")) else "WAL"
        try:
            with self._engine.connect() as connection:
                driver: Any = connection.connection.dbapi_connection
                driver.execute(f"PRAGMA journal_mode={mode}")
        except (DBAPIError, sqlite3.Error) as error:  # another process is using it
            log.info("the journal of %s stays as it is: %s", self.name, error)

    def _lock_for_migration(self, connection: Connection) -> None:
        """Makes other processes wait; SQLite's transaction does so by itself."""
        match connection.dialect.name:
            case "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            case "mysql" | "mariadb":  # it ends with the connection
                connection.execute(text("SELECT GET_LOCK(:lock, 4)"), {"lock": f"glimpse {LOCK}"})

    def _keyed(self, purpose: str, value: str) -> str:
        """The HMAC-SHA256 of a text, in hexadecimal, by the database's own secret."""
        return hmac.new(self._secret, f"{purpose} {value}".encode(), "sha256").hexdigest()


def open_database(url: str) -> Database:
    """The database at `url`, with today's tables; raises `ValueError` or `Away`."""
    database = Database(url)
    database.migrate()
    return database


def _add(
    connection: Connection,
    sent: Sent,
    reporter: str,
    code: str,
    alike: str,
    *,
    most: int,
    day: int,
) -> Kept:
    now = _now()
    own = SenderRow.reporter == reporter
    # Requests of the same sender wait here for each other.
    renewed = update(SenderRow).where(own).ordered_values(
        (SenderRow.sent, case((SenderRow.day == now.date(), SenderRow.sent), else_=0)),
        (SenderRow.day, now.date()),
    )  # fmt: skip
    if not connection.execute(renewed).rowcount:
        connection.execute(insert(SenderRow).values(reporter=reporter, day=now.date(), sent=0))
    row = ReportRow
    found = connection.execute(
        select(row.id, row.kind, row.said, row.status, row.whole.is_not(None).label("has_whole"))
        .where(row.answer == sent.answer, row.reporter == reporter)
    ).first()  # fmt: skip
    if found is not None:
        return _again(connection, sent, found, code)
    today = connection.scalar(select(SenderRow.sent).where(own)) or 0
    kept = connection.scalar(select(func.count()).where(row.reporter == reporter)) or 0
    if kept >= most:
        raise TooMany(f"{most} reports of one sender are kept at a time")
    if today >= day:
        raise TooMany(f"{day} reports of one sender are taken in a day")
    connection.execute(update(SenderRow).where(own).values(sent=SenderRow.sent + 1))
    values = {name: getattr(sent, name) for name in Sent.__dataclass_fields__}
    added = connection.execute(
        insert(row).values(
            **values,
            code=_digest(code),
            reporter=reporter,
            created=now,
            likeness=alike,
            status="new",
        )
    )
    (number,) = added.inserted_primary_key or (0,)
    return Kept(id=number, code=code, has_whole=sent.whole is not None, is_new=True)


def _again(connection: Connection, sent: Sent, found: Any, code: str) -> Kept:
    """What is kept of an answer that the sender has reported before; raises `Differs`."""
    has_whole = found.has_whole
    if sent.kind == "report":
        if found.kind == "unsure" and found.status == "new":  # now the visitor says more
            values: dict[str, Any] = {"kind": "report", "said": sent.said}
            if sent.whole is not None:
                values |= {"whole": sent.whole, "whole_name": sent.whole_name}
                has_whole = True
            connection.execute(update(ReportRow).where(ReportRow.id == found.id).values(values))
        elif found.kind == "report" and found.said != sent.said:
            raise Differs
    return Kept(id=found.id, code=code, has_whole=has_whole, is_new=False)


def _secret(connection: Connection) -> bytes:
    """The secret of the database, which is made once, under the lock of migrations."""
    is_it = SettingRow.name == "secret"
    found = connection.scalar(select(SettingRow.value).where(is_it))
    if found is None:
        found = secrets.token_hex(32)
        connection.execute(insert(SettingRow).values(name="secret", value=found))
    return bytes.fromhex(found)


def _reports() -> Any:
    """All reports, without who sent them and without whole pictures."""
    columns = [
        getattr(ReportRow, name) for name in Report.__dataclass_fields__ if name != "has_whole"
    ]
    return select(*columns, ReportRow.whole.is_not(None).label("has_whole"))


def _report(row: Any) -> Report:
    values = row._asdict()
    return Report(**{**values, "likeness": int(values["likeness"], 16)})


def _among(ids: Collection[int]) -> ColumnElement[bool]:
    return ReportRow.id.in_([each for each in ids if 0 < each < MOST_IDS])


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
