"""A job keeps the URL under which its client asked the service, for the URLs in webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0007_roots"
down_revision = "v0006_feed"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this form."""
    op.add_column("jobs", sa.Column("root", sa.String(), nullable=True))


def downgrade() -> None:
    """To the form before."""
    op.drop_column("jobs", "root")
