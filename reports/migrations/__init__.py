"""Alembic's migrations: how a database of an older version gets today's tables."""
