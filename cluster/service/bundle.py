"""What readers are sent of one package, ready to be sent, in one file.

::

    b"shotladder bundle 1\\n"   length of the index (8 bytes, big endian)   index (JSON)   bodies

The index says of every **form** (``ladder``, ``prefetch``, ``start/4/2``...) its media type, its
ETag and where its bytes lie, plain and as gzip made them. Nothing is computed when one is read: a
request is a look-up in the index and one ``pread``. The file is written once and never changed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from recommender.prefetch import START_SECONDS, Prefetch

MAGIC = b"shotladder bundle 1\n"
JSON_TYPE = "application/json"
_GZIP_FROM = 512
"""Bytes under which gzip saves nothing that matters."""


@dataclass(frozen=True, slots=True)
class Form:
    """One body, in both codings."""

    media_type: bytes
    etag: bytes
    """Digest of the plain body, without quotes."""
    plain: tuple[int, int]
    """Offset in the file, and length."""
    gzip: tuple[int, int] | None
    """None where it is not worth it."""


class Bundle:
    """An open bundle. Reading is thread-safe; the file may be unlinked while it is read."""

    __slots__ = ("_descriptor", "forms", "start_rungs")

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._descriptor: Final = descriptor
        head = os.pread(descriptor, len(MAGIC) + 8, 0)
        if head[: len(MAGIC)] != MAGIC:
            os.close(descriptor)
            raise ValueError(f"{path} is no bundle")
        length = int.from_bytes(head[len(MAGIC) :], "big")
        index = json.loads(os.pread(descriptor, length, len(head)))
        base = len(head) + length
        self.forms: Final[dict[str, Form]] = {
            name: Form(
                media_type=kind.encode(),
                etag=etag.encode(),
                plain=(base + plain[0], plain[1]),
                gzip=(base + packed[0], packed[1]) if packed else None,
            )
            for name, (kind, etag, plain, packed) in index["forms"].items()
        }
        self.start_rungs: Final[list[int]] = index["start_rungs"]

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, place: tuple[int, int]) -> bytes:
        """A body."""
        return os.pread(self._descriptor, place[1], place[0])

    def start(self, seconds: float, throughput: float) -> str:
        """Name of the form for a start of ``seconds`` at ``throughput`` bit/s."""
        covered = next((one for one in START_SECONDS if one >= seconds), START_SECONDS[-1])
        rung = max(bisect_right(self.start_rungs, throughput) - 1, 0)
        return f"start/{covered}/{rung}"


class Bundles:
    """Bundles of packages in a folder; those read lately stay open."""

    def __init__(self, folder: Path, most_open: int = 2048) -> None:
        self.folder = folder
        self.get = lru_cache(maxsize=most_open)(self._open)
        """The bundle of a package. Raises FileNotFoundError."""

    def path(self, package: str) -> Path:
        """Where a package's bundle lies."""
        return self.folder / package[:2] / f"{package}.bundle"

    def forget(self) -> None:
        """Close all: some may have been removed."""
        self.get.cache_clear()

    def _open(self, package: str) -> Bundle:
        return Bundle(self.path(package))


def write_bundle(path: Path, forms: Mapping[str, tuple[str, bytes]], starts: Sequence[int]) -> None:
    """Write a bundle in one step.

    Args:
        path: of the file; its folder is made.
        forms: media type and body by name.
        starts: bit/s from which on each start-up rung is taken, ascending from 0.
    """
    bodies = bytearray()
    index: dict[str, list[object]] = {}

    def add(body: bytes) -> tuple[int, int]:
        bodies.extend(body)
        return len(bodies) - len(body), len(body)

    for name, (kind, body) in forms.items():
        packed = gzip.compress(body, 6, mtime=0) if len(body) >= _GZIP_FROM else body
        etag = hashlib.sha256(body).hexdigest()[:32]
        index[name] = [kind, etag, add(body), add(packed) if len(packed) < len(body) else None]
    head = json.dumps({"forms": index, "start_rungs": list(starts)}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(MAGIC + len(head).to_bytes(8, "big") + head + bodies)
            file.flush()
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def forms_of(
    folder: Path, package: str, base: str
) -> tuple[dict[str, tuple[str, bytes]], Prefetch]:
    """The forms of a package's documents, and its manifest.

    Args:
        folder: of the package.
        package: its name.
        base: where its relative URIs begin for a reader.

    Raises:
        FileNotFoundError: a package without ``ladder.json`` or ``prefetch.json``.
    """
    forms = {
        name: (JSON_TYPE, (folder / f"{name}.json").read_bytes()) for name in ("ladder", "prefetch")
    }
    if (folder / "artwork.json").exists():
        forms["artwork"] = (JSON_TYPE, (folder / "artwork.json").read_bytes())
    if (folder / "report.html").exists():
        forms["report"] = ("text/html; charset=utf-8", (folder / "report.html").read_bytes())
    prefetch = Prefetch.model_validate_json(forms["prefetch"][1])
    for number, startup in enumerate(prefetch.startup):
        for start in prefetch.starts:
            if start.rung == startup.rung:
                body = {
                    "version_of": package,
                    "base": base,
                    "rung": start.rung,
                    "seconds": start.seconds,
                    "covers_seconds": start.covers_seconds,
                    "bytes": start.bytes,
                    "files": [
                        {"uri": file.uri, "bytes": file.bytes, "sha256": file.sha256}
                        for file in prefetch.start_files(start)
                    ],
                }
                text = json.dumps(body, separators=(",", ":")).encode()
                forms[f"start/{start.seconds}/{number}"] = (JSON_TYPE, text)
    return forms, prefetch
