"""Fixtures by role, and `pytest.mark.data` for the tests that need real data."""

from __future__ import annotations

import os

import postgresql
import pytest
import sqlalchemy as sa
from samples import ByInk, card, encode, script, seven

from app import create_app
from model_store import save

# What each variable of the environment names, for `pytest.mark.data`.
DATA = {
    "GLIMPSE_MNIST": "the folder of MNIST's four files",
    "GLIMPSE_FER2013": "the file fer2013.npz",
    "GLIMPSE_CKPLUS": "the folder of CK+, pictures of 48 by 48 pixels in a folder for each label",
    "GLIMPSE_PHOTOS": "a folder of photos of full size",
}
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config):
    """Tells pytest of the marks."""
    config.addinivalue_line("markers", "data(variable): needs the data that `variable` names")
    config.addinivalue_line("markers", "device: runs on the CPU and on each kind of GPU there is")


@pytest.hookimpl(trylast=True)  # of what -k and -m have left
def pytest_collection_modifyitems(config, items):
    """Leaves out the tests whose data this machine lacks."""
    kept, left_out, variables = [], [], []
    for item in items:
        mark = item.get_closest_marker("data")
        if mark is None or os.environ.get(mark.args[0]):
            kept.append(item)
        else:
            left_out.append(item)
            variables.append(mark.args[0])
    config.stash[LEFT_OUT] = variables
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_terminal_summary(terminalreporter, config):
    """Tells of them in one line."""
    if variables := config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(
            f"{len(variables)} checks on real data left out. To run them, set "
            f"{', '.join(sorted(set(variables)))} (see tests/conftest.py)."
        )


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A folder with one model, `digits`."""
    root = tmp_path_factory.mktemp("store")
    save(script(ByInk()), card(), root / "digits")
    return root


@pytest.fixture(scope="session")
def app(store):
    return create_app({"MODEL_STORE": str(store), "MAX_BYTES": 2_000_000, "MAX_PIXELS": 4_000_000})


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def png():
    """The bytes of a PNG of a seven."""
    return encode(seven())


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server, where it is installed."""
    if postgresql.programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server = postgresql.Server()
    yield server
    server.close()


@pytest.fixture
def emptied(server):
    """The server, with an empty database."""
    engine = sa.create_engine(server.url.replace("://", "+psycopg://"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    return server
