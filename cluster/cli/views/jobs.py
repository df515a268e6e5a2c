"""How the jobs of a service look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from rich.console import RenderableType

from cluster.cli.progress import duration
from cluster.cli.views.tables import Column, facts, table
from cluster.service.documents import Delivery, Hold, Job, Version


def jobs_view(jobs: Sequence[Job]) -> list[RenderableType]:
    """List jobs, one per line; a narrow terminal cuts titles, not ids, which people copy."""
    columns: list[Column[Job]] = [
        Column("job", lambda job: job.id, left=True),
        Column("state", lambda job: job.state, left=True),
        Column("prio", lambda job: job.priority),
        Column("stage", _stage, left=True),
        Column("title", lambda job: job.title, left=True),
    ]
    drawn = table(columns, jobs)
    for column in drawn.columns[:3]:
        column.min_width = max((len(str(cell)) for cell in column.cells), default=0)
    return [drawn]


def _stage(job: Job) -> str:
    progress = job.progress
    stage = f"{progress.stage} {100 * progress.share:.0f} %" if progress else ""
    return f"plan {stage}".rstrip() if job.kind == "plan" else stage


def versions_view(versions: Sequence[Version]) -> list[RenderableType]:
    """List the versions of a title, one per line."""
    columns: list[Column[Version]] = [
        Column("version", lambda version: version.version),
        Column("state", _kept, left=True),
        Column(
            "published", lambda version: f"{version.published_at:%Y-%m-%d %H:%M} UTC", left=True
        ),
        Column("package", lambda version: version.package, left=True),
        Column("job", lambda version: version.job, left=True),
    ]
    return [table(columns, versions)]


def holds_view(holds: Sequence[Hold]) -> list[RenderableType]:
    """List the names that are held, one per line."""
    columns: list[Column[Hold]] = [
        Column("title", lambda hold: hold.title, left=True),
        Column("held by", lambda hold: hold.actor, left=True),
        Column("since", lambda hold: f"{hold.at:%Y-%m-%d %H:%M} UTC", left=True),
    ]
    return [table(columns, holds)]


def deliveries_view(deliveries: Sequence[Delivery]) -> list[RenderableType]:
    """List webhook deliveries, one per line."""
    columns: list[Column[Delivery]] = [
        Column("delivery", lambda delivery: delivery.id),
        Column("state", lambda delivery: delivery.state.replace("_", " "), left=True),
        Column("attempts", lambda delivery: delivery.attempts),
        Column("last answer", lambda delivery: delivery.answer or "", left=True),
        Column("job", lambda delivery: delivery.job, left=True),
        Column("receiver", lambda delivery: urlsplit(delivery.url).netloc, left=True),
    ]
    return [table(columns, deliveries)]


def _kept(version: Version) -> str:
    if version.current:
        return "current"
    if not version.readable or version.removed_at is None:
        return "removed"
    return f"kept until {version.removed_at:%Y-%m-%d %H:%M} UTC"


def job_view(job: Job) -> list[RenderableType]:
    """Show the state of a job, its progress and its result."""
    rows = {"job": job.id, "state": job.state, "title": job.title, "source": job.source}
    if job.cancel_requested and job.state == "running":
        rows["state"] = "running, about to be cancelled"
    if (progress := job.progress) is not None:
        rows["stage"] = (
            f"{progress.stage}: {progress.done} of {progress.total}, "
            f"{100 * progress.share:.0f} % of the work"
        )
    if job.deadline is not None:
        rows["deadline"] = f"{job.deadline:%Y-%m-%d %H:%M} UTC{' (missed)' if job.late else ''}"
    if job.started_at is not None:
        ended = job.finished_at or datetime.now(UTC)
        rows["time"] = duration((ended - job.started_at).total_seconds())
    if job.attempts > 1:
        rows["attempts"] = str(job.attempts)
    if job.failure is not None:
        rows["failure"] = job.failure.message
    if (result := job.result) is not None and result.version is not None:
        rows["version"] = f"{result.version}, package {result.package}"
        if result.superseded:
            rows["version"] += "; a later delivery was published first"
        if result.merged_with:
            rows["merged"] = f"same bytes as {result.merged_with}, which made the package first"
    return [facts(rows.items())]
