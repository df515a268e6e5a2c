"""Published titles: versions, the change feed, the audit log and takedowns.

::

    packages, bundles, media   what clients read: see :mod:`cluster.service.library.files`
    stores/abcd...             store of the source with this SHA-256
    work/JOB-LEASE             where the process of a running job writes
    epoch                      mark of the change feed: see :mod:`cluster.service.library.epoch`
    signing-keys               keys of signed URLs: see :mod:`cluster.service.library.links`

A version becomes current in the transaction that ends its job, when all its files are in place:
clients read either the old version or the new one. Files of the old version stay for the grace
period. Files without a row in the tables are never served, and are swept.
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
    HoldRow,
    JobRow,
    TitleRow,
    VersionRow,
    moment,
)
from cluster.service.documents import (
    AuditLine,
    Change,
    ChangeKind,
    Changes,
    Hold,
    SignedLink,
    Title,
    TitleDetail,
    TitlePage,
    Version,
)
from cluster.service.library.edits import Edits
from cluster.service.library.epoch import Epoch, epoch_of, last_sequence
from cluster.service.library.files import DOCUMENTS, PackageFiles
from cluster.service.library.links import SIGNED_SECONDS, KeptVersion, Links, SigningKeys
from encoder.errors import Conflict, NotThere

DAY_SECONDS = 86400.0
_MAX_VERSIONS_READ = 10_000
"""Limit of versions that are kept in memory."""
Cancel = Callable[[Session, JobRow], None]
"""Cancels a queued or running job as a step of a transaction."""


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The version of a title that clients read now."""

    version: int | None
    """Number of the version; None once the title was withdrawn."""
    package: str


@dataclass(frozen=True, slots=True)
class _VersionRead:
    """A version as the tables had it."""

    seen: int
    """The last change that the library knew before."""
    package: str
    removed: bool
    remove_at: float | None


class Library:
    """The published titles in the folder ``root``."""

    def __init__(
        self,
        database: Database,
        root: Path,
        *,
        media_url: str = "",
        signed: bool = False,
        signed_seconds: float = SIGNED_SECONDS,
        grace_seconds: float = 7 * DAY_SECONDS,
        watched: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the library; ``media_url``, ``signed`` and ``signed_seconds`` are those of
        :class:`.links.Links`. With ``watched`` every read sees at once what other processes have
        published and withdrawn, and not only after the next :meth:`refresh`.
        """
        self.database = database
        self.root = root
        self._epoch = Epoch(database, root)
        self.files = PackageFiles(root)
        self.links = Links(
            SigningKeys(root / "signing-keys"),
            media_url=media_url,
            signed=signed,
            signed_seconds=signed_seconds,
            clock=clock,
        )
        self.grace_seconds = grace_seconds
        self._clock = clock
        self._current: dict[str, CurrentVersion] = {}
        self.edits = Edits()
        """What editors have decided about artwork."""
        self._versions: dict[tuple[str, int], _VersionRead] = {}
        self._seen = 0
        self._marked = 0
        self._refreshing = threading.Lock()
        self._watch = database.watch() if watched else None
        self._catching_up = threading.Lock()
        for name in ("stores", "work"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._epoch.check()
        self._load()

    # -- reading -------------------------------------------------------------------------------

    def current(self, title: str) -> CurrentVersion | None:
        """Return the current version of a title, from memory; None if it was never published."""
        self._catch_up()
        return self._current.get(title)

    def published(self) -> dict[str, str]:
        """Return the packages of all published titles by name, from memory."""
        self._catch_up()
        return {
            title: current.package
            for title, current in list(self._current.items())
            if current.version is not None
        }

    def __len__(self) -> int:
        return sum(current.version is not None for current in list(self._current.values()))

    def close(self) -> None:
        """Close what the library has open of its own."""
        if self._watch is not None:
            self._watch.close()

    def _catch_up(self) -> None:
        """Load what another process has just published or withdrawn, where that is watched."""
        if self._watch is not None:
            with self._catching_up:
                last = self._watch.new_sequence()
                if last is not None and last != self._seen:
                    self._load()

    def refresh(self) -> None:
        """Load what any process has published or withdrawn since the last call, and mark it."""
        self._load()
        if self._seen != self._marked:
            self._marked = self._seen
            self._epoch.check()

    def _load(self) -> None:
        with self._refreshing, self.database.reading() as session:
            last = last_sequence(session)
            if last == self._seen:
                return
            if last < self._seen:  # the tables were restored under this process
                self._seen = 0
                self._current.clear()
            query = select(TitleRow.name, TitleRow.version, TitleRow.package)
            if self._seen:
                changed = select(ChangeRow.title).where(ChangeRow.sequence > self._seen)
                query = query.where(TitleRow.name.in_(changed))
            withdrawn = False
            rows = session.execute(query).all()
            self.edits.load(session, [row.name for row in rows] if self._seen else None)
            for name, version, package in rows:
                self._current[name] = CurrentVersion(version, package or "")
                withdrawn |= version is None
            if withdrawn:
                self.files.bundles.forget()
            self._seen = last

    def version(self, name: str, number: int) -> KeptVersion | None:
        """Return a version of a title, from memory if nothing was published or withdrawn since it
        was read last; None if there has never been one."""
        self._catch_up()
        seen = self._seen
        read = self._versions.get((name, number))
        if read is None or read.seen != seen:
            with self.database.reading() as session:
                row = session.get(VersionRow, (name, number))
                if row is None:
                    return None
                read = _VersionRead(seen, row.package, row.removed, row.remove_at)
            if len(self._versions) >= _MAX_VERSIONS_READ:
                self._versions.clear()
            self._versions[name, number] = read
        gone = read.removed or (read.remove_at is not None and read.remove_at <= self._clock())
        return KeptVersion(read.package, not gone)

    def was_published(self, package: str) -> bool:
        """Return whether a version has ever had this package."""
        with self.database.reading() as session:
            version = select(VersionRow.version).where(VersionRow.package == package).limit(1)
            return session.scalar(version) is not None

    def titles(self, limit: int, after: str | None = None) -> TitlePage:
        """Return a page of published titles, by name."""
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
            rows = session.execute(query).all()
            page = [self._title(row, published) for row, published in rows[:limit]]
            return TitlePage(
                titles=page,
                next=page[-1].title if len(rows) > limit else None,
                sequence=last_sequence(session),
                epoch=epoch_of(session),
            )

    def title(self, name: str) -> TitleDetail:
        """Return a published title with its versions.

        Raises:
            NotThere: the title is not published.
        """
        with self.database.reading() as session:
            row = session.get(TitleRow, name)
            if row is None or row.version is None:
                raise not_published(name, withdrawn=row is not None)
            versions = session.execute(
                select(VersionRow, JobRow.id)
                .outerjoin(JobRow, JobRow.number == VersionRow.job)
                .where(VersionRow.title == name)
                .order_by(VersionRow.version.desc())
            ).all()
            published = next(v.published for v, _ in versions if v.version == row.version)
            return TitleDetail(
                **self._title(row, published).model_dump(),
                versions=[
                    _version(version, job_id, current=version.version == row.version)
                    for version, job_id in versions
                ],
            )

    def signed(self, name: str, number: int | None, seconds: float) -> SignedLink:
        """Return URLs of a version's files, of the current one by default, that need no token and
        hold for ``seconds``.

        Raises:
            NotThere: the title is not published, or the version's files are not kept.
            StoreUnusable: there is no key to sign with.
        """
        current = self.title(name)
        version = number or current.version
        found = next((one for one in current.versions if one.version == version), None)
        if found is None:
            raise _no_version(name, version)
        if not found.readable:
            raise NotThere(
                f"the files of version {version} of {name} are no longer kept; sign another one",
                reason="version_removed",
            )
        expires = self.links.expiry(seconds)
        base = self.links.signed(name, version, found.package, expires)
        return SignedLink(
            title=name,
            version=version,
            package=found.package,
            base=base,
            hls=f"{base}master.m3u8",
            dash=f"{base}manifest.mpd",
            expires_at=moment(expires),
        )

    def changes(self, since: int, limit: int, epoch: str | None = None) -> Changes:
        """Return the changes after the sequence number ``since``, oldest first.

        What they tell of can be read when this returns. ``epoch`` is that of ``since``, if known.

        Raises:
            Conflict: ``since`` is no number of this epoch, since the tables were restored.
        """
        with self.database.reading() as session:
            later = select(ChangeRow).where(ChangeRow.sequence > since)
            rows = session.scalars(later.order_by(ChangeRow.sequence).limit(limit + 1)).all()
            present = epoch_of(session)
            if since > last_sequence(session) or (epoch is not None and epoch != present):
                raise Conflict(
                    f"change {since} is not of the history that this service has, which was "
                    "restored from a backup; read all titles again (GET /v1/titles) and go on "
                    "with the `sequence` and the `epoch` of its first page",
                    reason="resync",
                )
        self._load()
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
                    changed=row.changed,
                )
                for row in shown
            ],
            epoch=present,
            next=shown[-1].sequence if shown else since,
            more=len(rows) > limit,
        )

    def audit(self, title: str) -> list[AuditLine]:
        """Return the audit log of a title, oldest first."""
        with self.database.reading() as session:
            rows = session.scalars(
                select(AuditRow).where(AuditRow.title == title).order_by(AuditRow.id)
            )
            return [audit_line(row) for row in rows]

    # -- publishing ----------------------------------------------------------------------------

    def publish(self, session: Session, job: JobRow, package: str) -> dict[str, Any]:
        """Make a job's package the current version of its title, in the transaction that ends it.

        Returns:
            ``version`` and ``package``, and ``superseded``: whether a later delivery was published
            first, so that this version does not become current.
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
        # The current version's job may be an older one, after a rollback.
        newest = session.scalar(
            select(func.max(VersionRow.job)).where(VersionRow.title == job.title)
        )
        superseded = current is not None and (newest or 0) > job.number
        number = (last or 0) + 1
        version = VersionRow(
            title=job.title,
            version=number,
            package=package,
            content_sha256=job.content_sha256 or "",
            job=job.number,
            published=now,
            retired=now if superseded else None,
            remove_at=now + self.grace_seconds if superseded else None,
        )
        session.add(version)
        if not superseded:
            kind: ChangeKind = "published" if current is None else "replaced"
            changed = self._make_current(title, current, version, now)
            record_change(session, title, now, job.submitted_by, kind, changed, job=job.id)
        return {"version": number, "package": package, "superseded": superseded}

    def rollback(self, name: str, number: int, actor: str) -> TitleDetail:
        """Make an earlier version of a published title current again, if its files are still kept.

        Raises:
            NotThere: the title is not published, or has no such version.
            Conflict: the version's files have been removed.
        """
        now = self._clock()
        with self.files.locked():
            package = self._package_of_version(name, number)
            whole = self.files.is_whole(package)
            with self.database.writing() as session:
                title = session.get_one(TitleRow, name)
                if title.version is None:
                    raise not_published(name, withdrawn=True)
                version = session.get_one(VersionRow, (name, number))
                if version.removed or not whole:
                    raise Conflict(
                        f"the files of version {number} of {name} are no longer kept; submit its "
                        "source again, which makes a new version",
                        reason="version_removed",
                    )
                if title.version != number:
                    current = session.get_one(VersionRow, (name, title.version))
                    changed = self._make_current(title, current, version, now)
                    record_change(
                        session, title, now, actor, "replaced", changed, action="rolled back"
                    )
        self.refresh()
        return self.title(name)

    def is_whole(self, package: str) -> bool:
        """Return whether all files of a package are there."""
        return self.files.is_whole(package)

    def has_store(self, content_sha256: str) -> bool:
        """Return whether what was encoded for a source is there."""
        return bool(content_sha256) and (self.root / "stores" / content_sha256).is_dir()

    def _package_of_version(self, name: str, number: int) -> str:
        with self.database.reading() as session:
            title = session.get(TitleRow, name)
            if title is None or title.version is None:
                raise not_published(name, withdrawn=title is not None)
            version = session.get(VersionRow, (name, number))
            if version is None:
                raise _no_version(name, number)
            return version.package

    def _make_current(
        self, title: TitleRow, before: VersionRow | None, version: VersionRow, now: float
    ) -> list[str]:
        """Make a version current; return the names of the documents that are not what they were."""
        old = {}
        if before is not None:
            before.retired, before.remove_at = now, now + self.grace_seconds
            old = self.files.document_digests(before.package)
        version.retired = version.remove_at = None
        title.version, title.package, title.updated = version.version, version.package, now
        new = self.files.document_digests(version.package)
        title.documents = ",".join(new)
        return [name for name in DOCUMENTS if new.get(name) != old.get(name)]

    # -- taking down ---------------------------------------------------------------------------

    def withdraw(self, name: str, actor: str, cancel: Cancel, *, hold: bool = False) -> AuditLine:
        """Take a title down: when this returns it cannot be read and its files are removed.

        Its queued and running jobs are cancelled by ``cancel``, also where nothing of it has been
        published yet. Its audit log stays. With ``hold`` the name takes no jobs until
        :meth:`release`; so a name may also be held that has neither a version nor a job.

        Raises:
            NotThere: there is nothing to take down, and nothing to hold.
        """
        now = self._clock()
        with self.database.writing() as session:
            title = session.get(TitleRow, name)
            contents = set()
            cancelled: list[str] = []
            for job in session.scalars(select(JobRow).where(JobRow.title == name)):
                if job.state in ("queued", "running"):
                    cancel(session, job)
                    cancelled.append(job.id)
                job.identity = job.content = None
                contents.add(job.content_sha256 or "")
            published = title is not None and title.version is not None
            if not (published or cancelled or hold):
                raise not_published(name, withdrawn=title is not None)
            if hold:
                session.merge(HoldRow(title=name, actor=actor, at=now))
            done: dict[str, Any] = {"cancelled": cancelled, "held": hold}
            if title is not None and title.version is not None:
                for version in session.scalars(select(VersionRow).where(VersionRow.title == name)):
                    version.retired = version.retired or now
                    version.remove_at = min(version.remove_at or now, now)
                    contents.add(version.content_sha256)
                changed = title.documents.split(",")
                line = record_change(session, title, now, actor, "withdrawn", changed, **done)
                title.version = title.package = None
                title.updated = now
            else:
                action = "withdrawn" if cancelled else "held"
                line = _audit(session, name, now, actor, action, done)
        self.refresh()
        self.sweep()
        self.sweep_stores(contents)
        return audit_line(line)

    def release(self, name: str, actor: str) -> AuditLine:
        """Let a name that was held take jobs again.

        Raises:
            NotThere: the name is not held.
        """
        with self.database.writing() as session:
            hold = session.get(HoldRow, name)
            if hold is None:
                raise NotThere(
                    f"{name} is not held; GET /v1/holds lists the names that are",
                    reason="not_held",
                )
            session.delete(hold)
            line = _audit(session, name, self._clock(), actor, "released", {})
        return audit_line(line)

    def holds(self) -> list[Hold]:
        """Return the names that are held, and who holds them, by name."""
        with self.database.reading() as session:
            rows = session.scalars(select(HoldRow).order_by(HoldRow.title))
            return [Hold(title=row.title, actor=row.actor, at=moment(row.at)) for row in rows]

    def sweep(self) -> int:
        """Remove the files of versions whose grace period has ended; return how many versions."""
        now = self._clock()
        if not self._due(now):
            return 0
        contents = set()
        with self.files.locked():
            due = self._due(now)  # a rollback may just have made one current
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

    def _due(self, now: float) -> list[tuple[str, int]]:
        with self.database.reading() as session:
            rows = session.execute(
                select(VersionRow.title, VersionRow.version).where(
                    VersionRow.remove_at <= now, VersionRow.removed.is_(False)
                )
            )
            return [(row[0], row[1]) for row in rows]

    def drop_unpublished(self, packages: Iterable[str] | None = None) -> int:
        """Remove those of ``packages`` (by default of all) that have no version, left by jobs that
        died or were cancelled in between; return how many.

        Call it while :meth:`.files.PackageFiles.locked` is held.
        """
        if packages is None:
            packages = self.files.packages()
        with self.database.reading() as session:
            present = select(VersionRow.package).where(VersionRow.removed.is_(False))
            kept = set(session.scalars(present.distinct()))
        dropped = [package for package in packages if package not in kept]
        for package in dropped:
            self.files.remove(package)
        return len(dropped)

    def sweep_stores(self, contents: Iterable[str]) -> None:
        """Remove the stores of sources that no version and no unfinished job needs."""
        for sha256 in set(contents) - {""}:
            with self.database.reading() as session:
                version = session.scalar(
                    select(VersionRow.version)
                    .where(VersionRow.content_sha256 == sha256, VersionRow.removed.is_(False))
                    .limit(1)
                )
                unfinished = JobRow.content.is_not(None) & (JobRow.state != "succeeded")
                # The process of a cancelled job may still write; its runner sweeps once it ended.
                running = JobRow.state == "running"
                job = session.scalar(
                    select(JobRow.number)
                    .where(JobRow.content_sha256 == sha256, unfinished | running)
                    .limit(1)
                )
            if version is None and job is None:
                shutil.rmtree(self.root / "stores" / sha256, ignore_errors=True)

    def _title(self, row: TitleRow, published: float) -> Title:
        return Title(
            title=row.name,
            version=row.version or 0,
            package=row.package or "",
            base=self.links.base(row.name, row.version or 0, row.package or ""),
            published_at=moment(published),
            documents=row.documents.split(","),
        )


def record_change(
    session: Session,
    title: TitleRow,
    at: float,
    actor: str,
    kind: ChangeKind,
    changed: list[str],
    action: str | None = None,
    **more: Any,
) -> AuditRow:
    """Record what happened to a title's version in the change feed and in the audit log.

    ``action`` is the audit log's word for it, where that is another than the feed's ``kind``.
    """
    version = {"version": title.version, "package": title.package}
    session.add(ChangeRow(kind=kind, title=title.name, at=at, changed=changed, **version))
    return _audit(session, title.name, at, actor, action or kind, version | more)


def _audit(
    session: Session, title: str, at: float, actor: str, action: str, detail: dict[str, Any]
) -> AuditRow:
    line = AuditRow(at=at, actor=actor, action=action, title=title, detail=detail)
    session.add(line)
    return line


def _version(row: VersionRow, job_id: str | None, *, current: bool) -> Version:
    return Version(
        version=row.version,
        package=row.package,
        job=job_id or "",
        published_at=moment(row.published),
        retired_at=None if row.retired is None else moment(row.retired),
        removed_at=None if row.remove_at is None else moment(row.remove_at),
        current=current,
        readable=not row.removed,
    )


def audit_line(row: AuditRow) -> AuditLine:
    """Return an entry of the audit log as clients get it."""
    return AuditLine(
        at=moment(row.at), actor=row.actor, action=row.action, title=row.title, detail=row.detail
    )


def _no_version(name: str, number: int) -> NotThere:
    return NotThere(
        f"{name} has no version {number}; GET /v1/titles/{name} lists its versions",
        reason="no_such_version",
    )


def not_published(name: str, withdrawn: bool) -> NotThere:
    """Return the error for a title that cannot be read."""
    if withdrawn:
        return NotThere(
            f"{name} was withdrawn; GET /v1/changes tells when", reason="withdrawn", title=name
        )
    return NotThere(
        f"there is no title {name!r}; GET /v1/titles lists them", reason="no_such_title", title=name
    )
