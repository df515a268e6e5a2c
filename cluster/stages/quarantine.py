"""What is made of a source is trusted only when the source was seen to hold the same bytes twice.

A source can change while a run works: a delivery is repeated, an upload goes on, a link is pointed
elsewhere. What is made of the new bytes must never lie in the store under the old digest, where
every later run would find it. Nothing that is read tells which bytes a decoder got, so:

- *The digest is taken between two equal stamps* (:mod:`encoder.source.stamp`): size, times, inode.
- *A result is stored only under that stamp.* :class:`Watch` compares the file's stamp when a
  result is published. ``ctime`` only goes forward, so one comparison covers the whole read: if the
  stamp is that of the beginning, nothing was written in between, not even by a copy that restored
  the modification time. Where the stamp is another one, the digest is taken again. Other bytes
  end the run. The same bytes (``chmod``, ``touch``, the same file delivered again, an inode that a
  network file system has renumbered) mean that what was just read is read again, under the new
  stamp.
- *What a run makes is in quarantine* (:mod:`cluster.store.quarantined`) until one more digest of
  the source agrees, for a stamp does not see everything: a write through a memory map, or what a
  network file system has not told yet. The package is published after that digest. If it does not
  agree, the whole quarantine of the run is removed.

A quarantine is named by the digest and the stamp. So a run that was killed loses nothing: the next
run of the unchanged file has the same session, finds what is there, and its own last digest
confirms it; runs at the same time share one. After a kill *and* a touch (or a new download) the
next run does not find it; to bound what that loses, a long run takes its digest in between, as
often as costs little (:data:`SHARE`). A worker that gets the source as pieces sees no file; its
results are in the same quarantine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from cluster.stages.title import TitleSource, take_digest
from cluster.store import Store
from cluster.store.quarantined import FOLDER, QuarantinedStore, confirm, discard, quarantined
from encoder.errors import ShotladderError, SourceChanged
from encoder.source.stamp import Stamp, source_changed

SHARE = 20.0
"""A digest is taken in between when this many times its duration has passed since the last one."""
LEAST_SECONDS = 60.0
"""Shortest time between two of these digests."""

_agreed: set[tuple[str, Stamp]] = set()
"""Digests and stamps that this process has seen together."""


class Watch:
    """Guards a store against results that were read from a source which has changed."""

    def __init__(self, source: TitleSource) -> None:
        """Begin to watch; what is read from now on may be stored.

        Raises:
            SourceChanged: the source has other bytes already.
        """
        assert source.stamp is not None
        self.source = source
        self.stamp = source.stamp
        self.confirmed_at = time.monotonic()
        self.digest_seconds = 0.0
        self.judge()

    @property
    def session(self) -> str:
        """Name of the source's quarantine."""
        assert self.source.stamp is not None
        return f"{self.source.id}-{self.source.stamp.name}"

    def check(self) -> None:
        """Check that the source has the stamp that it had at the last check.

        Raises:
            SourceChanged: it has not. If ``passing`` is true in the error's context, it has the
                same bytes, and what was read since the last check has to be read again.
        """
        if not self._visible:
            return
        now = Stamp.of(self.source.watched)
        if now == self.stamp:
            return
        before, self.stamp = self.stamp, now
        if (self.source.sha256, now) not in _agreed:
            self.digest()
        raise source_changed(
            f"{self.source.watched} {before.difference(now)} while it was read, with the same "
            "bytes",
            "run the same command again",
            passing=True,
        )

    def judge(self) -> None:
        """Look whether the source still has its bytes; what is read from now on may be stored.

        Raises:
            SourceChanged: the source has other bytes, or is not there.
        """
        try:
            self.check()
        except SourceChanged as error:
            if not error.context.get("passing"):
                raise

    def digest(self) -> None:
        """Take the digest of the source again.

        Raises:
            SourceChanged: the source has other bytes, or is being written.
        """
        if not self._visible:
            return
        began = time.monotonic()
        sha256, self.stamp = take_digest(Path(self.source.watched))
        self.confirmed_at = time.monotonic()
        self.digest_seconds = self.confirmed_at - began
        if sha256 != self.source.sha256:
            raise self._changed(sha256)
        _agreed.add((sha256, self.stamp))

    @property
    def _visible(self) -> bool:
        source = self.source
        if not source.watched or source.piece is not None:
            return False
        # A copy with timestamps is private to the run, and may be all that a worker sees.
        return source.reference.path == source.watched or Path(source.watched).exists()

    def _changed(self, sha256: str) -> SourceChanged:
        source = self.source
        assert source.stamp is not None
        return source_changed(
            f"{source.watched} changed while it was used: it {source.stamp.difference(self.stamp)}"
            f", and its SHA-256 is {sha256[:12]} instead of {source.sha256[:12]}; nothing of it "
            "was kept or published",
            "run the same command again to package what it holds now",
            sha256=sha256,
        )


def title_store(store: Store, source: TitleSource) -> Store:
    """Return a store as everything that reads ``source`` must use it.

    Raises:
        SourceChanged: the source has other bytes already.
    """
    store = trusted(store)
    if source.stamp is None:
        return store
    watch = Watch(source)
    return QuarantinedStore(store, watch.session, watch)


def trusted(store: Store) -> Store:
    """Return the store without the quarantine of a title."""
    return store.base if isinstance(store, QuarantinedStore) else store


@contextlib.contextmanager
def reading(store: Store, source: TitleSource) -> Iterator[Store]:
    """Yield :func:`title_store`, and confirm what was made when the block ends without an error.

    Raises:
        SourceChanged: the source changed; what the block made is removed. It replaces errors of
            the block that may come from that.
    """
    bound = title_store(store, source)
    try:
        yield bound
        if isinstance(bound, QuarantinedStore) and quarantined(bound.base, bound.session):
            confirm_title(bound)
    except SourceChanged as error:
        _discard(bound, error)
        raise
    except ShotladderError as error:
        if isinstance(bound, QuarantinedStore) and isinstance(bound.guard, Watch):
            try:
                bound.guard.judge()
            except SourceChanged as change:
                _discard(bound, change)
                raise change from error
        raise


def confirm_title(store: Store) -> None:
    """Take one more digest of the source and trust what was made of it; see the module.

    Raises:
        SourceChanged: the digest is another one.
    """
    if not isinstance(store, QuarantinedStore) or not isinstance(store.guard, Watch):
        return
    names = quarantined(store.base, store.session)
    store.guard.digest()
    confirm(store.base, names)
    store.base.remove_empty_folders(f"{FOLDER}/{store.session}")


def confirm_when_due(store: Store) -> None:
    """Call :func:`confirm_title` where its cost is small against the work since the last time.

    Raises:
        SourceChanged: see :func:`confirm_title`.
    """
    if isinstance(store, QuarantinedStore) and isinstance(store.guard, Watch):
        watch = store.guard
        due = max(LEAST_SECONDS, SHARE * watch.digest_seconds)
        if time.monotonic() - watch.confirmed_at > due:
            confirm_title(store)


def _discard(store: Store, error: SourceChanged) -> None:
    """Remove a quarantine whose source is known to have other bytes."""
    if isinstance(store, QuarantinedStore) and "sha256" in error.context:
        discard(store.base, quarantined(store.base, store.session))
        store.base.remove_empty_folders(f"{FOLDER}/{store.session}")
