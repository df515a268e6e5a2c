"""Entry point of Alembic: migrate over the connection that :func:`..database.migrate` passes."""

from __future__ import annotations

from alembic import context

from cluster.service.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
