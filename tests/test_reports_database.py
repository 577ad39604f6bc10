"""The database of reports: SQLite and a real PostgreSQL behave alike, also when things go wrong."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from PIL import Image
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

import reports
from reports import database as module
from reports import engine
from reports.export import safe_name
from reports.tables import Base, ReportRow

TOP = Path(__file__).resolve().parent.parent


def png(ink=255):
    buffer = io.BytesIO()
    image = Image.new("L", (28, 28))
    image.paste(ink, (5, 5, 15, 20))
    image.save(buffer, "PNG")
    return buffer.getvalue()


SENT = reports.Sent(
    answer="a",
    kind="report",
    model="digits",
    version="2026.01.01-abcdef0",
    task="digit",
    predicted="1",
    score=0.6,
    verdict="unsure",
    entropy=0.9,
    said="7",
    picture=png(),
)


@pytest.fixture(
    params=["sqlite", "postgresql", *(["mysql"] if "GLIMPSE_MYSQL" in os.environ else [])]
)
def url(request, tmp_path):
    """The URL of an empty database, of each kind. GLIMPSE_MYSQL may name one that is emptied."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/reports.db"
    if request.param == "postgresql":
        return request.getfixturevalue("emptied").url
    url, found = os.environ["GLIMPSE_MYSQL"], sa.MetaData()
    made = engine.engine(url)
    found.reflect(made)
    found.drop_all(made)
    return url


@pytest.fixture
def database(url):
    return reports.open_database(url)


# What goes in and comes out.


def test_a_report_is_kept_without_its_senders_name(database):
    kept = database.add(SENT, "192.0.2.7")
    assert kept.is_new and not kept.has_whole
    (found,) = database.page().reports
    assert found == database.report(kept.id)
    for name in ("kind", "model", "version", "task", "predicted", "score", "said", "picture"):
        assert getattr(found, name) == getattr(SENT, name)
    assert (found.status, found.label, found.reviewed) == ("new", None, None)
    assert found.created.utcoffset() == timedelta(0)
    with database._connected(writes=False) as connection:
        (row,) = connection.execute(sa.select(ReportRow.__table__)).all()
    assert "192.0.2.7" not in str(row) and kept.code not in str(row)


def test_the_same_again_is_the_same_report(database):
    first, again = (database.add(SENT, "x") for _ in range(2))
    assert again == replace(first, is_new=False)
    assert database.add(SENT, "y").is_new  # another sender's
    assert len(database.page().reports) == 2


def test_another_label_for_the_same_answer_is_told_apart(database):
    database.add(SENT, "x")
    with pytest.raises(reports.Differs):
        database.add(replace(SENT, said="8"), "x")
    assert [each.said for each in database.page().reports] == ["7"]


def test_an_unsure_answer_that_is_reported_later_becomes_a_report(database):
    database.add(replace(SENT, kind="unsure", said=None), "x")
    assert database.add(replace(SENT, said=None, whole=b"w", whole_name="n"), "x").has_whole
    (found,) = database.page().reports
    assert (found.kind, found.said, found.whole_name) == ("report", None, "n")
    assert not database.add(replace(SENT, kind="unsure", said=None), "x").is_new
    assert database.page().reports == [found]


def test_a_withdrawn_report_is_gone_and_can_be_sent_again(database):
    kept = database.add(SENT, "x")
    assert not database.withdraw("another code")
    assert database.withdraw(kept.code)
    assert not database.withdraw(kept.code)
    again = database.add(replace(SENT, said="9"), "x")
    assert again.is_new and again.code == kept.code
    assert again.id != kept.id, "who reviews would accept another report than the one seen"


def test_one_sender_has_a_share_and_no_more(database):
    for name in "abc":
        kept = database.add(replace(SENT, answer=name), "x", most=3, day=4)
    with pytest.raises(reports.TooMany, match="3 reports"):
        database.add(replace(SENT, answer="d"), "x", most=3, day=4)
    assert not database.add(replace(SENT, answer="c"), "x", most=3, day=4).is_new
    database.withdraw(kept.code)
    kept = database.add(replace(SENT, answer="d"), "x", most=3, day=4)
    database.withdraw(kept.code)
    with pytest.raises(reports.TooMany, match="4 reports"):
        database.add(replace(SENT, answer="e"), "x", most=3, day=4)
    with database._connected(writes=True) as connection:
        connection.execute(sa.text("UPDATE sender SET day = '2026-01-01'"))
    assert database.add(replace(SENT, answer="e"), "x", most=3, day=4).is_new
    assert database.add(replace(SENT, answer="e"), "y").is_new


def test_old_reports_are_purged(database):
    for name in "ab":
        database.add(replace(SENT, answer=name), "x")
    with database._connected(writes=True) as connection:
        connection.execute(sa.text("UPDATE report SET created = '2026-01-01' WHERE answer = 'a'"))
    assert database.purge(timedelta(days=300)) == 1
    assert len(database.page().reports) == 1
    assert database.purge(timedelta(days=300)) == 0


def test_pages_are_whole_and_in_order(database):
    for at, entropy in enumerate([0.1, 1 / 3, 1 / 3, 2.0, 0.2]):
        unsure = {"kind": "unsure", "said": None, "entropy": entropy}
        database.add(replace(SENT, answer=f"u{at}", **unsure), "x")
        database.add(replace(SENT, answer=f"r{at}", said=[None, "3", "8"][at % 3]), "x")

    def through(**asked):
        found, after = [], None
        while True:
            page = database.page(limit=2, after=after, **asked)
            found += page.reports
            if (after := page.after) is None:
                return found

    unsure = [each.entropy for each in through(kind="unsure")]
    assert unsure == [2.0, 1 / 3, 1 / 3, 0.2, 0.1]
    assert len({each.id for each in through()}) == 10
    assert [each.said for each in through(label="3")] == ["3", "3"]
    assert [each.said for each in through(label="", model="digits")] == [None, None]
    assert through(model="emotions") == through(status="accepted") == []
    for wrong in ("x", "1 x", "1 2 3"):
        with pytest.raises(ValueError):
            database.page(kind="unsure", after=wrong)


def test_review_decides_and_the_accepted_are_what_training_gets(database):
    ids = [database.add(replace(SENT, answer=name), name).id for name in "abcd"]
    none = database.add(replace(SENT, answer="e", said=None), "a").id
    unsure = database.add(replace(SENT, answer="f", said=None, kind="unsure"), "a").id
    assert database.decide([ids[0], none, unsure, 0, -1, 10**30], "accepted") == 3
    assert database.decide([ids[1]], "accepted", "2") == 1
    assert database.decide([ids[2]], "accepted", None) == 1
    assert database.decide([ids[3]], "rejected") == 1
    found = list(database.accepted("digits"))
    assert [each.label for each in found] == ["7", "2", None, None, "1"]
    assert len({each.reporter for each in found}) == 3
    assert found[0].picture == SENT.picture
    assert list(database.accepted("emotions")) == []
    database.decide(ids, "new")
    assert [each.label for each in database.accepted("digits")] == [None, "1"]
    assert database.delete(ids) == 4
    with pytest.raises(ValueError, match="status"):
        database.decide(ids, "good")


def test_counts_are_by_model_version_kind_and_status(database):
    database.add(SENT, "x")
    database.add(replace(SENT, answer="b"), "x")
    database.add(replace(SENT, answer="c", version="2", kind="unsure"), "x")
    assert database.counts() == [
        reports.Count(model="digits", version="2", kind="unsure", status="new", count=1),
        reports.Count(
            model="digits", version=SENT.version, kind="report", status="new", count=2
        ),
    ]  # fmt: skip


def test_an_export_is_a_folder_a_class(database, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)  # several
    said = ["7", None, "7", "cat"]
    ids = [
        database.add(replace(SENT, answer=f"{at}", said=label), "x").id
        for at, label in enumerate(said)
    ]
    database.add(replace(SENT, answer="u", kind="unsure", said=None), "x")
    assert database.export(tmp_path / "all", every=True) == 4
    assert database.export(tmp_path / "accepted") == 0
    database.decide(ids[:3], "accepted")
    database.decide(ids[3:], "rejected")
    assert database.export(tmp_path / "accepted", "digits") == 3
    files = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.png")}
    assert files == {
        *(f"all/digits/{label or 'none'}/{at}.png" for label, at in zip(said, ids, strict=True)),
        *(f"accepted/{label or 'none'}/{at}.png" for label, at in list(zip(said, ids))[:3]),  # noqa: B905
    }


def test_no_label_is_taken_for_a_path(tmp_path):
    database = reports.open_database(f"sqlite:///{tmp_path}/reports.db")
    said = [
        "../../etc",
        "..",
        ".",
        "/",
        "a/b",
        "con",
        "none",
        "<b>x</b>",
        "A",
        "a",
        "é" * 60,
        "\\x",
    ]
    for at, label in enumerate([*said, None]):
        sent = replace(SENT, answer=f"{at}", said=label, whole=b"\xff\xd8", whole_name="../../x.sh")
        database.add(sent, "x")
    target = tmp_path / "deep" / "target"
    assert database.export(target, every=True, model="digits", whole=True) == len(said) + 1
    files = [each for each in tmp_path.rglob("*") if each.is_file() and each.suffix != ".db"]
    assert {each.suffix for each in files} == {".jpg"}
    assert all(each.parent.parent == target for each in files)
    assert len({each.parent.name.casefold() for each in files}) == len(said) + 1
    assert safe_name("happy face") == "happy face"


# Several processes, and what becomes of a database over time.

FORKED = """
import os, sys, dataclasses
sys.path.insert(0, "tests")
import reports
from test_reports_database import SENT
database = reports.Database(sys.argv[1])
if sys.argv[2] == "open":
    database.migrate()
children = [os.fork() for _ in range(4)]
if 0 in children:
    for at in range(8):
        database.add(dataclasses.replace(SENT, answer=f"{at}"), "x")
    os._exit(0)
sys.exit(max(os.waitpid(each, 0)[1] for each in children) > 0)
"""


@pytest.mark.parametrize("opened", ["open", "closed"])
def test_forked_workers_add_the_same_reports_once(url, opened):
    code = FORKED.replace("children = [os.fork() for _ in range(4)]", (
        "children = []\n"
        "while len(children) < 4 and 0 not in children:\n"
        "    children.append(os.fork())"
    ))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, url, opened], cwd=TOP, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(reports.open_database(url).page().reports) == 8


@pytest.mark.parametrize(("kind", "journal"), [("ext4", "wal"), ("nfs4", "delete")])
def test_a_file_that_hosts_share_has_no_write_ahead_log(tmp_path, monkeypatch, kind, journal):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(engine, "MOUNTS", mounts)
    database = reports.open_database(f"sqlite:///{tmp_path}/reports.db")
    with database._connected(writes=False) as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == journal
    assert database.add(SENT, "x").is_new


def test_the_migrations_make_the_tables_that_the_code_has(database):
    with database._connected(writes=False) as connection:
        found = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert found == []


@pytest.fixture
def newer(tmp_path, monkeypatch):
    """Migrations of a version to come."""
    folder = tmp_path / "migrations"
    shutil.copytree(module.MIGRATIONS, folder)
    (folder / "versions" / "v9999_later.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "from reports.tables import ReportRow\n"
        "import pathlib\n"
        "revision = '9999'\n"
        f"down_revision = '{newest()}'\n"
        "def upgrade():\n"
        "    op.add_column('report', sa.Column('more', sa.String(9), server_default='yes'))\n"
    )
    return folder


def newest():
    return max(file.stem[1:5] for file in (module.MIGRATIONS / "versions").glob("v*.py"))


def test_a_database_of_an_older_version_is_migrated_and_one_of_a_newer_is_not_touched(
    url, newer, monkeypatch
):
    reports.open_database(url).add(SENT, "x")
    with monkeypatch.context() as patched:
        patched.setattr(module, "MIGRATIONS", newer)
        later = reports.open_database(url)
        assert not later.add(SENT, "x").is_new  # the secret is the same
        with later._connected(writes=False) as connection:
            assert connection.scalar(sa.text("SELECT more FROM report")) == "yes"
    with pytest.raises(reports.Away, match="newer Glimpse"):
        reports.open_database(url)


def test_mysql_gets_types_that_hold_what_is_kept():
    dialect = mysql.dialect()
    made = [
        str(CreateTable(table).compile(dialect=dialect)) for table in Base.metadata.sorted_tables
    ]
    for text in made:
        assert "CHARSET=utf8mb4" in text and "COLLATE utf8mb4_bin" in text
    (report,) = [text for text in made if "TABLE report " in text]
    assert report.count("LONGBLOB") == 2 and "VARCHAR(255)" in report and "DOUBLE" in report


# What fails.


def test_a_full_disk_is_told_and_nothing_is_half_written(tmp_path):
    database = reports.open_database(f"sqlite:///{tmp_path}/reports.db")

    def limit(connection, _):
        connection.execute("PRAGMA max_page_count=20")

    sa.event.listen(database._engine, "connect", limit)
    large = replace(SENT, answer="large", whole=bytes(200_000))
    with pytest.raises(reports.Away, match="full"):
        database.add(large, "x")
    database._pause_ends = 0.0
    assert database.page().reports == []
    assert database.add(SENT, "x", day=1).is_new  # the one that failed does not count


def test_a_database_that_is_away_is_not_asked_again_at_once(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    database = reports.Database(f"postgresql://x:secret@127.0.0.1:{port}/x?connect_timeout=2")
    started = time.monotonic()
    with pytest.raises(reports.Away) as first:  # it accepts, and never answers
        database.add(SENT, "x")
    assert time.monotonic() - started < 10
    listener.close()
    with pytest.raises(reports.Away) as second:
        database.counts()
    assert str(second.value) == str(first.value) and 1 <= second.value.wait <= reports.PAUSE
    assert "secret" not in str(first.value) + database.name


def test_a_database_that_comes_back_is_used_again(emptied):
    server, database = emptied, reports.open_database(emptied.url)
    database.add(SENT, "x")
    before = database.counts()
    server.kill()
    with pytest.raises(reports.Away):
        database.counts()
    server.start()
    database._pause_ends = 0.0
    assert database.counts() == before


def test_tables_that_are_gone_are_made_again(database):
    with database._connected(writes=True) as connection:
        for name in ("report", "sender", "setting", "alembic_version"):
            connection.execute(sa.text(f"DROP TABLE {name}"))
    with suppress(reports.Away):
        database.add(SENT, "x")
    database._pause_ends = 0.0
    assert database.add(SENT, "x").is_new


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must be the URL"),
        ("reports.db", "must be the URL"),
        ("oracle://x/y", "not known"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("postgresql+nothing://x/y", "pip install"),
    ],
)
def test_a_wrong_url_is_told_with_what_to_do(url, says):
    with pytest.raises(ValueError, match=says):
        reports.Database(url)


def test_a_folder_that_is_not_there_is_no_database(tmp_path):
    with pytest.raises(reports.Away, match="unable to open"):
        reports.open_database(f"sqlite:///{tmp_path}/none/reports.db")


def test_near_copies_are_alike_and_others_are_not():
    first, copy = reports.likeness(png()), reports.likeness(png(200))
    other = Image.radial_gradient("L").resize((28, 28))
    buffer = io.BytesIO()
    other.save(buffer, "PNG")
    assert reports.distance(first, copy) <= 2
    assert reports.distance(first, reports.likeness(buffer.getvalue())) > 10
