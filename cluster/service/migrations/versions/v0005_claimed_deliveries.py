"""Deliveries of webhooks are claimed, and know their receiver and their last attempt."""

from __future__ import annotations

from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "v0005_claimed_deliveries"
down_revision = "v0004_holds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this form."""
    op.add_column(
        "deliveries", sa.Column("receiver", sa.String(), nullable=False, server_default="")
    )
    op.add_column("deliveries", sa.Column("claim", sa.String(), nullable=True))
    op.add_column("deliveries", sa.Column("tried", sa.Double(), nullable=True))
    op.create_index("deliveries_due", "deliveries", ["state", "next_at"])
    rows = sa.table(
        "deliveries", sa.column("id", sa.Integer), sa.column("url"), sa.column("receiver")
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(rows.c.id, rows.c.url)).all():
        receiver = urlsplit(row.url).netloc.lower()
        connection.execute(sa.update(rows).where(rows.c.id == row.id).values(receiver=receiver))


def downgrade() -> None:
    """To the form before."""
    op.drop_index("deliveries_due", "deliveries")
    for name in ("tried", "claim", "receiver"):
        op.drop_column("deliveries", name)
