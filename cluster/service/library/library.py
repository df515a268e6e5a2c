"""Published titles: their versions, the change feed, takedowns, and the files behind them.

::

    packages, bundles, media what readers get: see :mod:`cluster.service.library.files`
    stores/abcd...           what was made of the source with this SHA-256: one store per content
    work/JOB-LEASE           where a job's process writes

A version becomes current in the transaction that ends its job, when all its files are in place:
readers see the old one or the new one. The old one's files stay for the grace period. Files
without a row in the tables are never read and are swept.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cluster.service.database import (
    AuditRow,
    ChangeRow,
    Database,
    JobRow,
    TitleRow,
    VersionRow,
)
from cluster.service.documents import (
    AuditLine,
    Change,
    Changes,
    Title,
    TitleDetail,
    Version,
)
from cluster.service.library.files import Files
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.transitions import moment
from encoder.errors import NotThere

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Current:
    """What readers of a title get now."""

    version: int | None
    """None: withdrawn."""
    package: str


class Library:
    """The library in the folder ``root``."""

    def __init__(
        self,
        database: Database,
        root: Path,
        *,
        media_url: str = "",
        grace_seconds: float = 7 * DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.root = root
        self.files = Files(root, media_url)
        self.grace_seconds = grace_seconds
        self._clock = clock
        self._current: dict[str, Current] = {}
        self._seen = 0
        self._refreshing = threading.Lock()
        for name in ("stores", "work"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.refresh()

    # -- reading -------------------------------------------------------------------------------

    def current(self, title: str) -> Current | None:
        """What readers of a title get; from memory."""
        return self._current.get(title)

    def __len__(self) -> int:
        return sum(1 for one in list(self._current.values()) if one.version is not None)

    def refresh(self) -> None:
        """Take note of what was published or withdrawn, by whatever process."""
        with self._refreshing, self.database.reading() as session:
            last = session.scalar(select(func.max(ChangeRow.sequence))) or 0
            if last == self._seen:
                return
            query = select(TitleRow.name, TitleRow.version, TitleRow.package)
            if self._seen:
                changed = select(ChangeRow.title).where(ChangeRow.sequence > self._seen)
                query = query.where(TitleRow.name.in_(changed))
            withdrawn = False
            for name, version, package in session.execute(query):
                self._current[name] = Current(version, package or "")
                withdrawn |= version is None
            if withdrawn:
                self.files.bundles.forget()
            self._seen = last

    def was_published(self, package: str) -> bool:
        """Whether there was such a package at any time."""
        with self.database.reading() as session:
            found = select(VersionRow.version).where(VersionRow.package == package).limit(1)
            return session.scalar(found) is not None

    def titles(self, limit: int, after: str | None = None) -> tuple[list[Title], str | None]:
        """Published titles by name, and the cursor of the next page."""
        query = (
            select(TitleRow, VersionRow.published)
            .join(
                VersionRow,
                (VersionRow.title == TitleRow.name) & (VersionRow.version == TitleRow.version),
            )
            .order_by(TitleRow.name)
            .limit(limit + 1)
        )
        if after is not None:
            query = query.where(TitleRow.name > after)
        with self.database.reading() as session:
            rows = list(session.execute(query))
            found = [self._title(row, published) for row, published in rows[:limit]]
            return found, found[-1].title if len(rows) > limit else None

    def title(self, name: str) -> TitleDetail:
        """A published title with its versions.

        Raises:
            NotThere: it is not published.
        """
        with self.database.reading() as session:
            row = session.get(TitleRow, name)
            if row is None or row.version is None:
                raise unknown(name, withdrawn=row is not None)
            versions = list(
                session.scalars(
                    select(VersionRow)
                    .where(VersionRow.title == name)
                    .order_by(VersionRow.version.desc())
                )
            )
            published = next(one.published for one in versions if one.version == row.version)
            made_by = select(JobRow.number, JobRow.id).where(
                JobRow.number.in_([one.job for one in versions])
            )
            ids = {row[0]: row[1] for row in session.execute(made_by)}
            return TitleDetail(
                **self._title(row, published).model_dump(),
                versions=[
                    Version(
                        version=one.version,
                        package=one.package,
                        job=ids.get(one.job or 0, ""),
                        published_at=moment(one.published),
                        retired_at=None if one.retired is None else moment(one.retired),
                        removed_at=None if one.remove_at is None else moment(one.remove_at),
                    )
                    for one in versions
                ],
            )

    def changes(self, since: int, limit: int) -> Changes:
        """What has happened after the sequence number ``since``, oldest first."""
        with self.database.reading() as session:
            rows = list(
                session.scalars(
                    select(ChangeRow)
                    .where(ChangeRow.sequence > since)
                    .order_by(ChangeRow.sequence)
                    .limit(limit + 1)
                )
            )
        shown = rows[:limit]
        return Changes(
            changes=[
                Change(
                    sequence=row.sequence,
                    kind=row.kind,
                    title=row.title,
                    version=row.version,
                    package=row.package,
                    at=moment(row.at),
                )
                for row in shown
            ],
            next=shown[-1].sequence if shown else since,
            more=len(rows) > limit,
        )

    def audit(self, title: str) -> list[AuditLine]:
        """Who did what to a title, oldest first."""
        with self.database.reading() as session:
            rows = session.scalars(
                select(AuditRow).where(AuditRow.title == title).order_by(AuditRow.id)
            )
            return [
                AuditLine(
                    at=moment(row.at),
                    actor=row.actor,
                    action=row.action,
                    title=row.title,
                    detail=row.detail,
                )
                for row in rows
            ]

    # -- publishing ----------------------------------------------------------------------------

    def publish(
        self, session: Session, job: JobRow, package: str, documents: Iterable[str]
    ) -> dict[str, Any]:
        """Part of the transaction that ends a job: make its package the title's current version.

        Returns:
            ``version``, ``package`` and, where a later delivery came first, ``superseded``.
        """
        now = self._clock()
        title = session.get(TitleRow, job.title)
        if title is None:
            title = TitleRow(name=job.title, version=None, package=None, updated=now, documents="")
            session.add(title)
            session.flush()
        last = session.scalar(
            select(func.max(VersionRow.version)).where(VersionRow.title == job.title)
        )
        current = None
        if title.version is not None:
            current = session.get_one(VersionRow, (job.title, title.version))
            if current.package == package:
                return {"version": current.version, "package": package}
        superseded = current is not None and (current.job or 0) > job.number
        number = (last or 0) + 1
        made = VersionRow(
            title=job.title,
            version=number,
            package=package,
            content_sha256=job.content_sha256 or "",
            job=job.number,
            published=now,
            retired=now if superseded else None,
            remove_at=now + self.grace_seconds if superseded else None,
            removed=False,
        )
        session.add(made)
        if not superseded:
            if current is not None:
                current.retired, current.remove_at = now, now + self.grace_seconds
            kind = "published" if current is None else "replaced"
            title.version, title.package, title.updated = number, package, now
            title.documents = ",".join(documents)
            session.add(
                ChangeRow(kind=kind, title=job.title, version=number, package=package, at=now)
            )
            session.add(
                AuditRow(
                    at=now,
                    actor=job.submitted_by,
                    action=kind,
                    title=job.title,
                    detail={"version": number, "package": package, "job": job.id},
                )
            )
        return {"version": number, "package": package, "superseded": superseded}

    # -- taking down ---------------------------------------------------------------------------

    def withdraw(self, name: str, actor: str, jobs: Jobs) -> AuditLine:
        """Take a title down: nothing of it can be read when this returns, and its files are gone.

        Its queued and running jobs are cancelled. The audit line stays.

        Raises:
            NotThere: it is not published.
        """
        now = self._clock()
        with self.database.writing() as session:
            title = session.get(TitleRow, name)
            if title is None or title.version is None:
                raise unknown(name, withdrawn=title is not None)
            detail = {"version": title.version, "package": title.package}
            contents = set()
            for version in session.scalars(select(VersionRow).where(VersionRow.title == name)):
                version.retired = version.retired or now
                version.remove_at = min(version.remove_at or now, now)
                contents.add(version.content_sha256)
            for job in session.scalars(select(JobRow).where(JobRow.title == name)):
                if job.state in ("queued", "running"):
                    jobs.request_cancel(session, job)
                job.identity = job.content = None
                contents.add(job.content_sha256 or "")
            line = AuditRow(at=now, actor=actor, action="withdrawn", title=name, detail=detail)
            session.add(line)
            session.add(
                ChangeRow(
                    kind="withdrawn",
                    title=name,
                    version=title.version,
                    package=title.package,
                    at=now,
                )
            )
            title.version = title.package = None
            title.updated = now
        self.refresh()
        self.sweep()
        self.sweep_stores(contents)
        return AuditLine(at=moment(now), actor=actor, action="withdrawn", title=name, detail=detail)

    def sweep(self) -> int:
        """Remove the files of versions whose grace period has ended; how many versions."""
        now = self._clock()
        with self.database.reading() as session:
            due = list(
                session.execute(
                    select(VersionRow.title, VersionRow.version).where(
                        VersionRow.remove_at <= now, VersionRow.removed.is_(False)
                    )
                )
            )
        if not due:
            return 0
        contents = set()
        with self.files.locked():
            for name, number in due:
                with self.database.writing() as session:
                    row = session.get_one(VersionRow, (name, number))
                    row.removed = True
                    contents.add(row.content_sha256)
                    others = session.scalar(
                        select(func.count())
                        .select_from(VersionRow)
                        .where(VersionRow.package == row.package, VersionRow.removed.is_(False))
                    )
                    if not others:
                        self.files.remove(row.package)
        self.files.bundles.forget()
        self.sweep_stores(contents)
        return len(due)

    def drop_unpublished(self, packages: Iterable[str] | None = None) -> int:
        """Remove packages that no version has: whoever admitted them was killed or cancelled
        before they were published. Call it with its files locked held.

        Args:
            packages: to look at; all by default.

        Returns:
            How many were removed.
        """
        if packages is None:
            packages = self.files.packages()
        with self.database.reading() as session:
            kept = set(
                session.scalars(
                    select(VersionRow.package).where(VersionRow.removed.is_(False)).distinct()
                )
            )
        dropped = [package for package in packages if package not in kept]
        for package in dropped:
            self.files.remove(package)
        return len(dropped)

    def sweep_stores(self, contents: Iterable[str]) -> None:
        """Remove what was made of sources that no version and no unfinished job has use for."""
        for sha256 in set(contents) - {""}:
            with self.database.reading() as session:
                version = session.scalar(
                    select(VersionRow.version)
                    .where(VersionRow.content_sha256 == sha256, VersionRow.removed.is_(False))
                    .limit(1)
                )
                job = session.scalar(
                    select(JobRow.number)
                    .where(
                        JobRow.content_sha256 == sha256,
                        JobRow.content.is_not(None),
                        JobRow.state != "succeeded",
                    )
                    .limit(1)
                )
                # A cancelled one may be at its last write; its runner sweeps when it has ended.
                running = session.scalar(
                    select(JobRow.number)
                    .where(JobRow.content_sha256 == sha256, JobRow.state == "running")
                    .limit(1)
                )
            if version is None and job is None and running is None:
                shutil.rmtree(self.root / "stores" / sha256, ignore_errors=True)

    def _title(self, row: TitleRow, published: float) -> Title:
        return Title(
            title=row.name,
            version=row.version or 0,
            package=row.package or "",
            base=self.files.base(row.package or ""),
            published_at=moment(published),
            documents=row.documents.split(","),
        )


def unknown(name: str, withdrawn: bool) -> NotThere:
    """What to say of a title that cannot be read."""
    if withdrawn:
        return NotThere(
            f"{name} was withdrawn; GET /v1/changes says when", reason="withdrawn", title=name
        )
    return NotThere(
        f"there is no title {name!r}; GET /v1/titles lists them", reason="no_such_title", title=name
    )
