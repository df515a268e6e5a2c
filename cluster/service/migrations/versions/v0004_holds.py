"""Names of titles may be held after a takedown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0004_holds"
down_revision = "v0003_forced_jobs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this form."""
    op.create_table(
        "holds",
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("title"),
    )


def downgrade() -> None:
    """To the form before."""
    op.drop_table("holds")
