"""What Alembic runs; `reports.database` gives it the connection, inside of a transaction."""

from __future__ import annotations

from alembic import context

from reports.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a column
)
with context.begin_transaction():
    context.run_migrations()
