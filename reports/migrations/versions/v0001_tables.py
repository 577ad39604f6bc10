"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reports.tables import BYTES, MYSQL, Utc

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "report",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("answer", sa.String(80), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("created", Utc, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("predicted", sa.String(255), nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("entropy", sa.Double, nullable=False),
        sa.Column("said", sa.String(255)),
        sa.Column("picture", BYTES, nullable=False),
        sa.Column("whole", BYTES),
        sa.Column("whole_name", sa.String(255)),
        sa.Column("reporter", sa.String(64), nullable=False),
        sa.Column("likeness", sa.String(16), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("label", sa.String(255)),
        sa.Column("reviewed", Utc),
        sa.UniqueConstraint("answer", "reporter", name="report_answer_reporter"),
        sa.UniqueConstraint("code", name="report_code"),
        sqlite_autoincrement=True,
        **MYSQL,
    )
    op.create_index("report_queue", "report", ["status", "kind", "model"])
    op.create_index("report_reporter", "report", ["reporter"])
    op.create_table(
        "sender",
        sa.Column("reporter", sa.String(64), primary_key=True),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        **MYSQL,
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("value", sa.String(255), nullable=False),
        **MYSQL,
    )


def downgrade() -> None:
    """Removes them, with all that is in them."""
    for table in ("setting", "sender", "report"):
        op.drop_table(table)
