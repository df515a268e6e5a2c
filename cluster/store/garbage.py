"""Housekeeping: remove what no run needs, find what is damaged, measure what each title takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.store.local import Store
from cluster.store.manifests import list_runs, run_keys
from cluster.store.quarantined import FOLDER
from cluster.store.records import Entry, parse_record

KEEP_SECONDS = 7 * 86_400.0
"""Age up to which records that no run needs are kept, because a run may want them again."""
YOUNG_SECONDS = 3_600.0
"""Age up to which a blob without a record is kept: its record may be about to be published."""
UPLOAD_SECONDS = 24 * YOUNG_SECONDS
"""Age from which a multipart upload counts as abandoned."""

BULK = ("encode", "score", "pieces", "augment", "baseline", "baseline-score", "title")
"""Stages of which only the records that a package is made of are kept; records of other stages are
kept as long as a run of their title is remembered."""
FOR_EVER = ("labels",)
"""Stages whose records are never removed: training rows of finished jobs."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What `store gc` removed, or would remove."""

    records: int
    """Number of records removed."""
    blobs: int
    """Number of blobs removed."""
    bytes: int
    """Size of these records and blobs."""
    uploads: int
    """Number of abandoned multipart uploads that were aborted."""
    kept_records: int
    """Number of records kept."""
    kept_bytes: int
    """Size of the blobs kept."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A damaged entry that `store fsck` found."""

    name: str
    """Name of the entry, below the store's root."""
    what: str
    """Kind of the damage, for people."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An entry that is intact and was made of another film than its title's."""

    name: str
    """Name of the entry, below the store's root."""
    what: str
    """How that shows, for people."""


@dataclass(frozen=True, slots=True)
class TitleSize:
    """Space that a title takes in the store."""

    title: str
    """First 16 digits of the source's digest; empty for records that belong to no title."""
    records: int
    """Number of the title's records."""
    blobs: int
    """Number of blobs that these records name."""
    bytes: int
    """Size of these records and blobs."""
    runs: int
    """Number of remembered runs."""


def collect_garbage(
    store: Store, *, keep_seconds: float = KEEP_SECONDS, dry_run: bool = False
) -> Collected:
    """Remove what no remembered package is made of, unless it is young or a run may need it."""
    now = store.now()
    runs = list_runs(store)
    remembered = {run.title for run in runs}
    running = {run.title for run in runs if run.state == "running"}
    needed = {key for run in runs for key in run_keys(store, run.id)}
    used: set[str] = set()
    garbage: list[Entry] = []
    kept = 0
    for entry in _all_records(store):
        record = parse_record(store.read_entry(entry.name), entry.digest)
        old = now - entry.modified > keep_seconds
        if record is None:  # damaged: counts as missing for every reader
            if old:
                garbage.append(entry)
            continue
        alive = bool(running) and (not record.title or record.title in running)
        small = record.stage not in BULK and (not record.title or record.title in remembered)
        # What was never confirmed is needed by nobody but the next run after a kill.
        kept_for_good = record.key in needed or record.stage in FOR_EVER or small
        if alive or not old or (kept_for_good and not entry.name.startswith(FOLDER)):
            used.update(blob.sha256 for blob in record.blobs.values())
            kept += 1
        else:
            garbage.append(entry)
    # Listed once: behind a URL each listing is requests, and two of them could differ.
    all_blobs = list(store.entries("blobs"))
    blobs = [
        entry
        for entry in all_blobs
        if entry.digest not in used and now - entry.modified > min(YOUNG_SECONDS, keep_seconds)
    ]
    uploads = 0
    if not dry_run:
        for entry in [*garbage, *blobs]:  # records first: none may name a blob that is gone
            store.remove_entry(entry.name)
        store.remove_empty_folders(FOLDER)
        uploads = store.abort_uploads(now - UPLOAD_SECONDS)
    return Collected(
        records=len(garbage),
        blobs=len(blobs),
        bytes=sum(entry.size for entry in [*garbage, *blobs]),
        uploads=uploads,
        kept_records=kept,
        kept_bytes=sum(blob.size for blob in all_blobs) - sum(blob.size for blob in blobs),
    )


def check_store(store: Store, *, repair: bool = False) -> Iterator[Flaw]:
    """Read every entry, compare it with its digest, and yield the damaged ones.

    ``repair`` removes damaged entries, so that they are made again where they are needed.
    """
    sizes: dict[str, int] = {}
    for entry in store.entries("blobs"):
        content = store.read_entry(entry.name)
        if content is None:
            continue
        if hashlib.sha256(content).hexdigest() == entry.digest:
            sizes[entry.digest] = len(content)
            continue
        if repair:
            store.remove_entry(entry.name)
        yield Flaw(entry.name, "content does not match its SHA-256")
    for entry in _all_records(store):
        record = parse_record(store.read_entry(entry.name), entry.digest)
        missing = [
            name
            for name, blob in (record.blobs.items() if record else ())
            if sizes.get(blob.sha256) != blob.size
        ]
        if record is not None and not missing:
            continue
        if repair:
            store.remove_entry(entry.name)
        what = f"blob of {', '.join(missing)} is missing" if missing else "record is damaged"
        yield Flaw(entry.name, what)


def _all_records(store: Store) -> Iterator[Entry]:
    """Yield the entries of all records, those in quarantine first: one may become the other."""
    yield from store.entries(FOLDER)
    yield from store.entries("records")


def title_sizes(store: Store) -> list[TitleSize]:
    """Return the space that each title takes, the largest first.

    A blob that several titles share counts for each of them.
    """
    sizes = {entry.digest: entry.size for entry in store.entries("blobs")}
    records: Counter[str] = Counter()
    total: Counter[str] = Counter()
    blobs: dict[str, set[str]] = {}
    for entry in _all_records(store):
        record = parse_record(store.read_entry(entry.name), entry.digest)
        title = record.title if record else ""
        records[title] += 1
        total[title] += entry.size
        if record is not None:
            blobs.setdefault(title, set()).update(blob.sha256 for blob in record.blobs.values())
    runs = Counter(run.title for run in list_runs(store))
    titles = [
        TitleSize(
            title=title,
            records=count,
            blobs=len(blobs.get(title, ())),
            bytes=total[title] + sum(sizes.get(sha256, 0) for sha256 in blobs.get(title, ())),
            runs=runs[title],
        )
        for title, count in records.items()
    ]
    return sorted(titles, key=lambda title: -title.bytes)
