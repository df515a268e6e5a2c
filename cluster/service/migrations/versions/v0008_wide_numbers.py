"""Numbers of rows and sizes have 64 bits; in SQLite all integers have them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0008_wide_numbers"
down_revision = "v0007_roots"
branch_labels = None
depends_on = None

_COLUMNS = {
    "jobs": ("number", "source_size", "follows"),
    "events": ("id", "job"),
    "idempotency": ("job",),
    "versions": ("job",),
    "changes": ("sequence",),
    "audit": ("id",),
    "deliveries": ("id", "job"),
}
_NUMBERED = ("jobs_number", "events_id", "changes_sequence", "audit_id", "deliveries_id")


def upgrade() -> None:
    """To this form."""
    _alter(sa.BigInteger(), "bigint")


def downgrade() -> None:
    """To the form before."""
    _alter(sa.Integer(), "integer")


def _alter(kind: sa.types.TypeEngine[int], width: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.alter_column(table, column, type_=kind)
    for name in _NUMBERED:
        op.execute(f"ALTER SEQUENCE {name}_seq AS {width}")
