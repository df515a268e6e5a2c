"""The files of published titles, without knowing what is published.

::

    packages/ab/abcd...      a package as the main job wrote it, named by a digest of its documents
    bundles/ab/abcd....bundle  what readers are sent of it
    media/ab/abcd....m4s     its media and images by their SHA-256: links to the package's files
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

from cluster.service.library.bundle import Bundles, forms_of, settle, write_bundle
from cluster.store.files import file_sha256
from recommender.prefetch.document import Prefetch

DOCUMENTS = ("ladder", "prefetch", "artwork", "report")
"""What readers are sent of a package, by name, where it has them."""
_OF_A_RUN = ("run.json", "report.html")
"""They tell what a run cost, and are not what a package is."""
_SHARED = (".m4s", ".mp4", ".webp", ".jpg", ".jpeg", ".png", ".avif", ".vtt", ".parquet")


class Files:
    """Packages in the folder ``root``, and what is made of them for readers."""

    def __init__(self, root: Path, media_url: str = "") -> None:
        self._root = root
        self._media_url = media_url.rstrip("/")
        self.bundles = Bundles(root / "bundles")
        for name in ("packages", "bundles", "media"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def base(self, package: str) -> str:
        """Where a package's relative URIs begin for readers."""
        return f"{self._media_url}/v1/packages/{package}/"

    def folder(self, package: str) -> Path:
        """Where a package lies."""
        return self._root / "packages" / package[:2] / package

    def media(self, sha256: str) -> Path | None:
        """A file by its digest."""
        folder = self._root / "media" / sha256[:2]
        for suffix in _SHARED:
            path = folder / f"{sha256}{suffix}"
            if path.exists():
                return path
        return None

    def packages(self) -> list[str]:
        """Names of all that are there."""
        return [path.name for path in (self._root / "packages").glob("*/*")]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else adds or removes packages, in any process. Hold it from :meth:`admit` until
        the transaction that publishes has ended."""
        with (self._root / "packages.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def admit(self, folder: Path) -> tuple[str, tuple[str, ...]]:
        """Take a finished package in; its folder is moved. No reader sees it yet.

        Returns:
            Its name, and the documents it has.
        """
        package = package_name(folder)
        target = self.folder(package)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            settle(target.parent)
        forms, prefetch = forms_of(target, package, self.base(package))
        for digest, path in _files_of(target, prefetch):
            _share(path, self._root / "media" / digest[:2] / f"{digest}{path.suffix}")
        if not self.bundles.path(package).exists():
            write_bundle(
                self.bundles.path(package), forms, [entry.throughput for entry in prefetch.startup]
            )
        return package, tuple(name for name in DOCUMENTS if name in forms)

    def remove(self, package: str) -> None:
        """Remove a package; bytes that others have too stay for them."""
        folder = self.folder(package)
        self.bundles.path(package).unlink(missing_ok=True)
        links = []
        with contextlib.suppress(OSError, ValueError):
            prefetch = Prefetch.model_validate_json((folder / "prefetch.json").read_bytes())
            links = [
                self._root / "media" / digest[:2] / f"{digest}{path.suffix}"
                for digest, path in _files_of(folder, prefetch)
            ]
        shutil.rmtree(folder, ignore_errors=True)
        for link in links:
            with contextlib.suppress(OSError):
                if link.stat().st_nlink == 1:
                    link.unlink()


def package_name(folder: Path) -> str:
    """Name of a package: a digest of its documents, which hold the digests of its media."""
    digests: Mapping[str, str] = {
        path.name: file_sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _OF_A_RUN
    }
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:32]


def _share(path: Path, link: Path) -> None:
    """Make ``path`` and ``link`` one file, so that its count of links says who still needs it."""
    link.parent.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.hardlink_to(path)
        return
    if path.samefile(link):
        return
    aside = path.with_name(path.name + ".same")
    try:
        aside.unlink(missing_ok=True)
        aside.hardlink_to(link)
    except OSError as error:
        if error.errno != errno.EMLINK:  # as many links as a file can have: keep a copy
            raise
        return
    aside.replace(path)


def _files_of(folder: Path, prefetch: Prefetch) -> Iterator[tuple[str, Path]]:
    """Digest and place of a package's media and images."""
    tracks = [(rung.init, *rung.segments) for rung in prefetch.rungs]
    if prefetch.audio is not None:
        tracks.append((prefetch.audio.init, *prefetch.audio.segments))
    for track in tracks:
        for file in track:
            yield file.sha256, folder / file.uri
    if (folder / "artwork").is_dir():
        for path in sorted((folder / "artwork").rglob("*")):
            if path.is_file():
                yield file_sha256(path), path
