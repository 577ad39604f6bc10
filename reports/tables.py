"""The tables. A change here needs a migration (`reports/migrations/versions`)."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

from sqlalchemy import (
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    LargeBinary,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# MySQL's default may be an alphabet of 8 bits, or one in which “a” is “A”.
MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
BYTES = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")  # whose BLOB ends at 64 KiB


class Utc(TypeDecorator[datetime]):
    """A time in UTC, in a column without a time zone, which MySQL and SQLite do not have."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time as it is kept."""
        return value and value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time as it was given."""
        return value and value.replace(tzinfo=timezone.utc)


class Base(DeclarativeBase):
    """The tables' common metadata."""


class ReportRow(Base):
    """A report; see `records.Sent` and `records.Report`."""

    __tablename__ = "report"
    __table_args__ = (
        UniqueConstraint("answer", "reporter", name="report_answer_reporter"),
        UniqueConstraint("code", name="report_code"),
        Index("report_queue", "status", "kind", "model"),
        Index("report_reporter", "reporter"),
        # A number is never given twice, so that nobody accepts another report than the one seen.
        {"sqlite_autoincrement": True, **MYSQL},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    answer: Mapped[str] = mapped_column(String(80))
    code: Mapped[str] = mapped_column(String(64))  # SHA-256 of the code that withdraws it
    kind: Mapped[str] = mapped_column(String(8))
    created: Mapped[datetime] = mapped_column(Utc)
    model: Mapped[str] = mapped_column(String(255))
    version: Mapped[str] = mapped_column(String(255))
    task: Mapped[str] = mapped_column(String(255))
    predicted: Mapped[str] = mapped_column(String(255))
    score: Mapped[float] = mapped_column(Double)
    verdict: Mapped[str] = mapped_column(String(8))
    entropy: Mapped[float] = mapped_column(Double)
    said: Mapped[str | None] = mapped_column(String(255))
    picture: Mapped[bytes] = mapped_column(BYTES)
    whole: Mapped[bytes | None] = mapped_column(BYTES)
    whole_name: Mapped[str | None] = mapped_column(String(255))
    reporter: Mapped[str] = mapped_column(String(64))  # HMAC of the client's address or key
    likeness: Mapped[str] = mapped_column(String(16))  # hexadecimal
    status: Mapped[str] = mapped_column(String(8))
    label: Mapped[str | None] = mapped_column(String(255))
    reviewed: Mapped[datetime | None] = mapped_column(Utc)


class SenderRow(Base):
    """How many reports a sender has sent in the last day on which there was one."""

    __tablename__ = "sender"
    __table_args__ = (MYSQL,)

    reporter: Mapped[str] = mapped_column(String(64), primary_key=True)
    day: Mapped[date] = mapped_column(Date)  # in UTC
    sent: Mapped[int]


class SettingRow(Base):
    """What is made once for a database."""

    __tablename__ = "setting"
    __table_args__ = (MYSQL,)

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))
