"""How the jobs of a service look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlsplit

from rich.console import RenderableType
from rich.table import Table

from cluster.cli.drawing import duration
from cluster.cli.views.tables import Column, facts, table
from cluster.service.documents import Attempt, Delivery, Hold, Job, Version

_R = TypeVar("_R")


def jobs_view(jobs: Sequence[Job]) -> list[RenderableType]:
    """List jobs, one per line; a narrow terminal cuts titles, not ids, which people copy."""
    columns: list[Column[Job]] = [
        Column("job", lambda job: job.id, left=True),
        Column("state", lambda job: job.state, left=True),
        Column("prio", lambda job: job.priority),
        Column("done", _done),
        Column("stage", _stage, left=True),
        Column("title", lambda job: job.title, left=True),
    ]
    return [_table_with_whole(3, columns, jobs)]


def _table_with_whole(count: int, columns: Sequence[Column[_R]], rows: Sequence[_R]) -> Table:
    """Draw a table whose first ``count`` columns no narrow terminal cuts."""
    drawn = table(columns, rows)
    for column in drawn.columns[:count]:
        column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    return drawn


def _done(job: Job) -> str:
    return "" if job.completion is None else f"{100 * job.completion.share:.0f} %"


def _stage(job: Job) -> str:
    progress = job.progress
    stage = f"{progress.stage} {100 * progress.share:.0f} %" if progress else ""
    return f"plan {stage}".rstrip() if job.kind == "plan" else stage


def versions_view(versions: Sequence[Version]) -> list[RenderableType]:
    """List the versions of a title, one per line."""
    columns: list[Column[Version]] = [
        Column("version", lambda version: version.version),
        Column("state", _kept, left=True),
        Column("until (UTC)", _until, left=True),
        Column("published", lambda version: f"{version.published_at:%Y-%m-%d}", left=True),
        Column("job", lambda version: version.job, left=True),
    ]
    return [_table_with_whole(5, columns, versions)]


def holds_view(holds: Sequence[Hold]) -> list[RenderableType]:
    """List the names that are held, one per line."""
    columns: list[Column[Hold]] = [
        Column("title", lambda hold: hold.title, left=True),
        Column("held by", lambda hold: hold.actor, left=True),
        Column("since (UTC)", lambda hold: _minute(hold.at), left=True),
    ]
    return [_table_with_whole(3, columns, holds)]


def deliveries_view(deliveries: Sequence[Delivery]) -> list[RenderableType]:
    """List webhook deliveries, one per line."""
    columns: list[Column[Delivery]] = [
        Column("delivery", lambda delivery: delivery.id),
        Column("state", lambda delivery: delivery.state.replace("_", " "), left=True),
        Column("attempts", lambda delivery: delivery.attempts),
        Column("job", lambda delivery: delivery.job, left=True),
        Column("last answer", lambda delivery: delivery.answer or "", left=True),
        Column("receiver", lambda delivery: urlsplit(delivery.url).netloc, left=True),
    ]
    return [_table_with_whole(4, columns, deliveries)]


def _left(job: Job) -> str:
    if job.state != "running" or job.completion is None:
        return ""
    left = job.completion.remaining_seconds
    return ", time left not known yet" if left is None else f", about {duration(left)} left"


def _attempt(attempt: Attempt) -> str:
    return f"{duration(attempt.seconds)} ({attempt.ended or 'running'})"


def _kept(version: Version) -> str:
    if version.current:
        return "current"
    return "kept" if version.readable else "removed"


def _until(version: Version) -> str:
    if version.current or not version.readable or version.removed_at is None:
        return ""
    return _minute(version.removed_at)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def job_view(job: Job) -> list[RenderableType]:
    """Show the state of a job, its progress and its result."""
    rows = {"job": job.id, "state": job.state, "title": job.title, "source": job.source}
    if job.cancel_requested and job.state == "running":
        rows["state"] = "running, about to be cancelled"
    if job.completion is not None:
        rows["done"] = f"{_done(job)}{_left(job)}"
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
        rows["attempts"] = "; ".join(map(_attempt, job.attempt_list)) or str(job.attempts)
    if job.failure is not None:
        rows["failure"] = job.failure.message
    if job.urls is not None:
        rows |= {name: url for name, url in job.urls if isinstance(url, str)}
    if (result := job.result) is not None and result.version is not None:
        rows["version"] = f"{result.version}, package {result.package}"
        if result.superseded:
            rows["version"] += "; a later delivery was published first"
        if result.merged_with:
            rows["merged"] = f"same bytes as {result.merged_with}, which made the package first"
    return [facts(rows.items())]
