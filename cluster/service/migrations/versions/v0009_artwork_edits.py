"""Editors may ban and pin pictures of a title."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0009_artwork_edits"
down_revision = "v0008_wide_numbers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this form."""
    op.create_table(
        "artwork_edits",
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("action_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("perceptual_hash", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("title", "action_id"),
    )


def downgrade() -> None:
    """To the form before."""
    op.drop_table("artwork_edits")
