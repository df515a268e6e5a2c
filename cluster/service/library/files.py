"""Files of published titles. What is published is known to :mod:`cluster.service.library.library`.

::

    packages/ab/abcd...        a package as the run wrote it, named by a digest of its documents
    bundles/ab/abcd....bundle  its responses, ready to be sent
    media/ab/abcd....m4s       its media and images by SHA-256: hard links to the package's files
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.service.library.bundle import Bundles, package_entries, write_bundle
from cluster.store.files import file_sha256, fsync_file
from recommender.prefetch.document import File, Prefetch

DOCUMENTS = ("ladder", "prefetch", "artwork", "report")
"""Documents that a package may have and clients can read, by name."""
_NOT_IN_NAME = ("run.json", "report.html")
"""Files that differ between runs that make the same package."""
_MEDIA_SUFFIXES = (".m4s", ".mp4", ".webp", ".jpg", ".jpeg", ".png", ".avif", ".vtt", ".parquet")


class PackageFiles:
    """Packages, their bundles and their media in the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.bundles = Bundles(root / "bundles")
        for name in ("packages", "bundles", "media"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def folder(self, package: str) -> Path:
        """Return the folder of a package."""
        return self._root / "packages" / package[:2] / package

    def media(self, sha256: str) -> Path | None:
        """Return the path of a media file or image; None if no package has it."""
        folder = self._root / "media" / sha256[:2]
        for suffix in _MEDIA_SUFFIXES:
            path = folder / f"{sha256}{suffix}"
            if path.exists():
                return path
        return None

    def packages(self) -> list[str]:
        """Return the names of all packages, published or not."""
        return [path.name for path in (self._root / "packages").glob("*/*")]

    def is_whole(self, package: str) -> bool:
        """Return whether all files of a package are there, in full length."""
        folder = self.folder(package)
        try:
            if not self.bundles.path(package).exists() or package_name(folder) != package:
                return False
            text = (folder / "prefetch.json").read_bytes()
            return all(
                (folder / file.uri).stat().st_size == file.bytes
                and self._media_path(file.sha256, folder / file.uri).exists()
                for file in _track_files(Prefetch.model_validate_json(text))
            )
        except (OSError, ValueError):
            return False

    def document_digests(self, package: str) -> dict[str, bytes]:
        """Return the digests of a package's documents by name; none if the package is gone."""
        try:
            bundle = self.bundles.get(package)
        except FileNotFoundError:
            return {}
        entries = {name: bundle.entry(name) for name in DOCUMENTS}
        return {name: entry.etag for name, entry in entries.items() if entry is not None}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes and threads from adding and removing packages.

        Hold it from :meth:`admit` until the transaction that publishes has ended.
        """
        with (self._root / "packages.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def admit(self, folder: Path) -> str:
        """Move a finished package into the library, where clients cannot read it yet; return its
        name. A package of this name that lacks files is replaced.
        """
        package = package_name(folder)
        target = self.folder(package)
        if target.exists() and not self.is_whole(package):
            self.remove(package)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            fsync_file(target.parent)
        entries, prefetch = package_entries(target, package)
        for digest, path in _files_of(target, prefetch):
            _link(path, self._media_path(digest, path))
        if not self.bundles.path(package).exists():
            write_bundle(
                self.bundles.path(package), entries, [rung.throughput for rung in prefetch.startup]
            )
        return package

    def remove(self, package: str) -> None:
        """Remove a package, except for media that other packages share."""
        folder = self.folder(package)
        self.bundles.path(package).unlink(missing_ok=True)
        links = []
        with contextlib.suppress(OSError, ValueError):
            prefetch = Prefetch.model_validate_json((folder / "prefetch.json").read_bytes())
            links = [self._media_path(digest, path) for digest, path in _files_of(folder, prefetch)]
        shutil.rmtree(folder, ignore_errors=True)
        for link in links:
            with contextlib.suppress(OSError):
                if link.stat().st_nlink == 1:
                    link.unlink()

    def _media_path(self, sha256: str, path: Path) -> Path:
        """Return the link by which clients read a package's file ``path`` by its digest."""
        return self._root / "media" / sha256[:2] / f"{sha256}{path.suffix}"


def package_name(folder: Path) -> str:
    """Return the name of a package: a digest of its documents, which hold those of its media."""
    digests: Mapping[str, str] = {
        path.name: file_sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _NOT_IN_NAME
    }
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:32]


def _link(path: Path, link: Path) -> None:
    """Make ``path`` and ``link`` one file, whose number of links tells when it can be removed."""
    link.parent.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.hardlink_to(path)
        return
    if path.samefile(link):
        return
    if path.stat().st_size != link.stat().st_size:  # damaged, and shared by another package
        path, link = link, path
    partial = path.with_name(path.name + ".same")
    try:
        partial.unlink(missing_ok=True)
        partial.hardlink_to(link)
    except OSError as error:
        if error.errno != errno.EMLINK:  # more links than the file system allows: keep a copy
            raise
        return
    partial.replace(path)


def _track_files(prefetch: Prefetch) -> Iterator[File]:
    """Yield all segments and init segments of a package."""
    tracks = [(rung.init, *rung.segments) for rung in prefetch.rungs]
    sounds = [] if prefetch.audio is None else [prefetch.audio, *prefetch.more_audio]
    tracks += [(sound.init, *sound.segments) for sound in sounds]
    for track in tracks:
        yield from track


def _files_of(folder: Path, prefetch: Prefetch) -> Iterator[tuple[str, Path]]:
    """Yield digest and path of each media file and image of a package."""
    for file in _track_files(prefetch):
        yield file.sha256, folder / file.uri
    if (folder / "artwork").is_dir():
        for path in sorted((folder / "artwork").rglob("*")):
            if path.is_file():
                yield file_sha256(path), path
