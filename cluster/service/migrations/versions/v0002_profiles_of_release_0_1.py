"""Jobs of release 0.1 keep the profiles of that release, under the names that these have now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0002_profiles_of_release_0_1"
down_revision = "v0001_jobs_and_titles"
branch_labels = None
depends_on = None

_RENAMED = ("default", "constrained", "replace-fixed", "archive")
# Built-in profiles since, whose names a client's own profile may have.
_TAKEN = ("auto", "popular", "quick")


def upgrade() -> None:
    """To this form."""
    _rename({name: f"{name}-0.1" for name in _RENAMED}, {name: f"{name}-0.1" for name in _TAKEN})


def downgrade() -> None:
    """To the form before."""
    _rename({f"{name}-0.1": name for name in _RENAMED}, {f"{name}-0.1": name for name in _TAKEN})


def _rename(names: dict[str, str], contents: dict[str, str]) -> None:
    connection = op.get_bind()
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("options", sa.JSON))
    for row in connection.execute(sa.select(jobs.c.id, jobs.c.options)).all():
        options = row.options
        profile = options.get("profile")
        if isinstance(profile, dict):
            renamed = {**profile, "name": contents.get(profile["name"], profile["name"])}
        else:
            renamed = names.get(profile, profile)
        if renamed != profile:
            changed = {**options, "profile": renamed}
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(options=changed))
