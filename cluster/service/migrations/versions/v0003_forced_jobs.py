"""Jobs may be forced to run where a package of equal content exists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0003_forced_jobs"
down_revision = "v0002_profiles_of_release_0_1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """To this form."""
    op.add_column(
        "jobs", sa.Column("forced", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """To the form before."""
    op.drop_column("jobs", "forced")
