"""Keeping a store in order: what nobody needs, what is damaged, what each title takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.jobs.history import list_runs, run_keys
from cluster.store import Record, open_store
from cluster.store.local import parse_record
from cluster.store.remote import RemoteStore
from cluster.store.shelf import Entry, Shelf, now, shelf

KEEP_SECONDS = 7 * 86_400.0
"""Work that no run needs is kept for so long: a run may want it again."""
YOUNG_SECONDS = 3_600.0
"""A blob without a record may be about to get one, and an upload to end."""


BULK = ("encode", "score", "pieces", "augment", "baseline", "baseline-score", "title")
"""Stages of which only what a run was made of is kept; the others are kept with their title."""
FOR_EVER = ("labels",)
"""What finished jobs leave for training."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What `store gc` removed, or would."""

    records: int
    blobs: int
    bytes: int
    uploads: int
    """Uploads in parts that nobody ended."""
    kept_records: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """What `store fsck` found wrong with an entry."""

    name: str
    what: str


@dataclass(frozen=True, slots=True)
class TitleSize:
    """What a title takes in the store."""

    title: str
    """First 16 digits of the source's digest; empty for what belongs to none."""
    records: int
    blobs: int
    bytes: int
    runs: int


def collect_garbage(
    place: Path | str, *, keep_seconds: float = KEEP_SECONDS, dry_run: bool = False
) -> Collected:
    """Remove what no remembered run was made of, unless it is young or its title is being run.

    Raises:
        StoreUnusable: the store cannot be read or written.
    """
    store = open_store(place)
    files = shelf(store)
    current = now(files)
    runs = list_runs(place)
    remembered = {run.title for run in runs}
    running = {run.title for run in runs if run.state == "running"}
    needed = {key for run in runs for key in run_keys(files, run.id)}
    used: set[str] = set()
    gone: list[Entry] = []
    kept = 0
    for entry in files.list("records"):
        record = _record(files, entry)
        old = current - entry.modified > keep_seconds
        if record is None:  # damaged: nobody is served it
            if old:
                gone.append(entry)
            continue
        alive = bool(running) and (not record.title or record.title in running)
        small = record.stage not in BULK and (not record.title or record.title in remembered)
        if record.key in needed or record.stage in FOR_EVER or small or alive or not old:
            used.update(blob.sha256 for blob in record.blobs.values())
            kept += 1
        else:
            gone.append(entry)
    there = list(files.list("blobs"))
    blobs = [
        entry
        for entry in there
        if entry.digest not in used and current - entry.modified > min(YOUNG_SECONDS, keep_seconds)
    ]
    kept_bytes = sum(entry.size for entry in there) - sum(b.size for b in blobs)
    uploads = 0
    if not dry_run:
        for entry in [*gone, *blobs]:  # records first: none may name a blob that is gone
            files.remove(entry.name)
        if isinstance(store, RemoteStore):
            uploads = store.objects.abort_uploads(current - 24 * YOUNG_SECONDS)
    return Collected(
        records=len(gone),
        blobs=len(blobs),
        bytes=sum(entry.size for entry in [*gone, *blobs]),
        uploads=uploads,
        kept_records=kept,
        kept_bytes=kept_bytes,
    )


def check_store(place: Path | str, *, repair: bool = False) -> Iterator[Flaw]:
    """Read everything and compare it with its digest. ``repair`` removes what is damaged, so that
    it is made again where it is needed.

    Raises:
        StoreUnusable: the store cannot be read, or not written where it is repaired.
    """
    files = shelf(open_store(place))
    sizes: dict[str, int] = {}
    for entry in files.list("blobs"):
        content = files.read(entry.name)
        if content is None:
            continue
        if hashlib.sha256(content).hexdigest() == entry.digest:
            sizes[entry.digest] = len(content)
            continue
        if repair:
            files.remove(entry.name)
        yield Flaw(entry.name, "its bytes are not those that it is named by")
    for entry in files.list("records"):
        record = _record(files, entry)
        lost = [
            name
            for name, blob in (record.blobs.items() if record else ())
            if sizes.get(blob.sha256) != blob.size
        ]
        if record is not None and not lost:
            continue
        if repair:
            files.remove(entry.name)
        what = f"its {', '.join(lost)} is not there" if lost else "it is not whole"
        yield Flaw(entry.name, what)


def title_sizes(place: Path | str) -> list[TitleSize]:
    """What each title takes, the largest first. A blob of several titles counts for each."""
    files = shelf(open_store(place))
    sizes = {entry.digest: entry.size for entry in files.list("blobs")}
    records: Counter[str] = Counter()
    total: Counter[str] = Counter()
    blobs: dict[str, set[str]] = {}
    for entry in files.list("records"):
        record = _record(files, entry)
        title = record.title if record else ""
        records[title] += 1
        total[title] += entry.size
        if record is not None:
            blobs.setdefault(title, set()).update(one.sha256 for one in record.blobs.values())
    runs = Counter(run.title for run in list_runs(place))
    found = [
        TitleSize(
            title=title,
            records=count,
            blobs=len(blobs.get(title, ())),
            bytes=total[title] + sum(sizes.get(one, 0) for one in blobs.get(title, ())),
            runs=runs[title],
        )
        for title, count in records.items()
    ]
    return sorted(found, key=lambda one: -one.bytes)


def _record(files: Shelf, entry: Entry) -> Record | None:
    content = files.read(entry.name)
    return parse_record(content, entry.digest) if content is not None else None
