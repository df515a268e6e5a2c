"""The change feed has an epoch and says what changed; numbers of events are not given out again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0006_feed"
down_revision = "v0005_claimed_deliveries"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this form."""
    op.create_table(
        "feed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("changes", sa.Column("changed", sa.JSON(), nullable=True))
    _recreate_events(autoincrement=True)


def downgrade() -> None:
    """To the form before."""
    _recreate_events(autoincrement=False)
    op.drop_column("changes", "changed")
    op.drop_table("feed")


def _recreate_events(*, autoincrement: bool) -> None:
    """SQLite gives a table this property only when it creates it; other databases number so."""
    if op.get_bind().dialect.name == "sqlite":
        kept = {"sqlite_autoincrement": autoincrement}
        with op.batch_alter_table("events", recreate="always", table_kwargs=kept):
            pass
