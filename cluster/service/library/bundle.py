"""Bundles: all responses about one package, ready to be sent, in one file.

::

    shotladder bundle 1        INDEX LENGTH in 8 digits
    start_rungs 0,413093,...
    ladder application/json ETAG OFFSET LENGTH OFFSET LENGTH
    start/4/2 ...
    artwork/16:9 ...
    artwork/16:9/cuts ...
    bodies

A line of the index holds the name of an **entry**, its media type, its ETag, and offset and length
of its body, plain and as gzip (length 0 where gzip saves too little), counted from the end of the
index. Serving a request computes nothing: it finds a line and reads bytes. The index is searched as
text, since most titles of a large library are read too seldom to keep a parsed index in memory.
Lists of stills are stored whole, and cut where a request wants fewer stills
(:mod:`cluster.service.library.cutting`). The file is written once and never changed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cluster.service.documents import ASPECTS, StartDocument, StartFile
from cluster.service.library.cached import Cold, open_cached, read_cached
from cluster.service.library.cutting import CLOSING, RECORD_BYTES, cut_at, cuttable_list
from cluster.service.library.links import PACKAGES
from cluster.service.library.splicing import gzip_object
from cluster.service.library.wanted import EVERYTHING, Wanted
from cluster.store.files import atomic_write
from recommender.artwork.document import Artwork
from recommender.prefetch.document import START_SECONDS, File, Prefetch
from recommender.prefetch.starting import Device, start_from

MAGIC = b"shotladder bundle 1"
JSON_TYPE = "application/json"
_HEAD_BYTES = len(MAGIC) + 10
_FIRST_READ_BYTES = 8192
"""Bytes that hold the whole index of most bundles."""
MAX_OPEN = 8192
"""Limit of bundles that are kept open, where the process may open so many files."""
_GZIP_MIN_BYTES = 512
"""Size of a body below which gzip does not save enough."""


_BASE = b'"base":"'
"""What is before the value in a start document."""


@dataclass(frozen=True, slots=True)
class EntryContent:
    """Content of an entry to be written."""

    media_type: str
    plain: bytes
    gzip: bytes | None = None
    """Body as gzip; None to compress ``plain`` where that saves enough."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a bundle: one response in both codings."""

    media_type: bytes
    etag: bytes
    """Digest of the plain body, without quotes."""
    plain: tuple[int, int]
    """Offset and length of the plain body in the file."""
    gzip: tuple[int, int] | None
    """Offset and length of the gzip body; None where gzip saves too little."""
    suffix: bytes = b""
    """Bytes to send after the plain body."""
    gzip_suffix: bytes = b""
    """Bytes to send after the gzip body."""


class Bundle:
    """An open bundle. Reading is thread-safe, and works after the file was unlinked."""

    __slots__ = ("_base", "_descriptor", "_index")

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        """Open a bundle.

        Raises:
            FileNotFoundError: there is no file ``path``.
            ValueError: the file is not a bundle.
            Cold: the file is not in memory, and ``wait`` is False.
        """
        self._descriptor = os.open(path, os.O_RDONLY) if wait else open_cached(path)
        read = os.pread if wait else read_cached
        head = read(self._descriptor, _FIRST_READ_BYTES, 0)
        if head[: len(MAGIC)] != MAGIC:
            raise ValueError(f"{path} is not a bundle")
        self._base = _HEAD_BYTES + int(head[len(MAGIC) + 1 : _HEAD_BYTES - 1])
        if self._base > len(head):
            head = read(self._descriptor, self._base, 0)
        if self._base > len(head):
            if not wait:
                raise Cold
            raise ValueError(f"{path} ends in its index")
        self._index = head[_HEAD_BYTES - 1 : self._base]

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def entry(self, name: str) -> Entry | None:
        """Return an entry; None if the package has none of this name."""
        line_start = b"\n%s " % name.encode()
        begin = self._index.find(line_start)
        if begin < 0:
            return None
        begin += len(line_start)
        line = self._index[begin : self._index.index(b"\n", begin)]
        media_type, etag, *numbers = line.rsplit(b" ", 5)
        offset, length, gzip_offset, gzip_length = map(int, numbers)
        return Entry(
            media_type,
            etag,
            (self._base + offset, length),
            (self._base + gzip_offset, gzip_length) if gzip_length else None,
        )

    def stills(
        self, aspect: str, k: int | None, wanted: Wanted = EVERYTHING, *, wait: bool = True
    ) -> Entry | None:
        """Return the list of the best stills of a shape, or of the first ``k`` that are wanted.

        Packages of earlier releases have two orders, of which the more varied one is taken.

        Raises:
            Cold: the bundle is not in memory, and ``wait`` is False.
        """
        name = stills_name(aspect)
        whole = self.entry(name)
        if whole is None:
            name = f"{name}/diverse"
            whole = self.entry(name)
        if whole is not None and wanted != EVERYTHING:
            if not wait:
                raise Cold  # parsed in a thread
            pool = self.entry("artwork") if wanted.fields else None
            body = wanted.of(self.body(whole), k, None if pool is None else self.body(pool))
            etag = hashlib.sha256(body).hexdigest()[:32].encode()
            return Entry(whole.media_type, etag, (0, 0), None, suffix=body)
        if whole is None or k is None:
            return whole
        table = self.entry(f"{name}/cuts")
        if table is None or k * RECORD_BYTES >= table.plain[1]:
            return whole
        cut = cut_at(self._read(table.plain[0] + (k - 1) * RECORD_BYTES, RECORD_BYTES, wait))
        return replace(
            whole,
            etag=b"%s-%d" % (whole.etag, k),
            plain=(whole.plain[0], cut.plain_bytes),
            gzip=(whole.gzip[0], cut.gzip_bytes) if whole.gzip else None,
            suffix=CLOSING,
            gzip_suffix=cut.gzip_suffix,
        )

    def names(self) -> list[str]:
        """Return the names of all entries."""
        lines = self._index.decode().splitlines()[2:]
        return [line.partition(" ")[0] for line in lines]

    def body(self, entry: Entry, *, packed: bool = False, wait: bool = True) -> bytes:
        """Return the body of an entry, as gzip if ``packed`` and the entry has a gzip body.

        Raises:
            Cold: the body is not in memory, and ``wait`` is False.
        """
        if packed and entry.gzip is not None:
            return self._read(*entry.gzip, wait) + entry.gzip_suffix
        return self._read(*entry.plain, wait) + entry.suffix

    def start_name(self, seconds: float, throughput: float) -> str:
        """Return the name of the entry for a start of ``seconds`` at ``throughput`` bit/s."""
        covered = next((step for step in START_SECONDS if step >= seconds), START_SECONDS[-1])
        line = self._index[1 : self._index.index(b"\n", 1)]
        throughputs = [int(text) for text in line.partition(b" ")[2].split(b",")]
        return f"start/{covered}/{max(bisect_right(throughputs, throughput) - 1, 0)}"

    def start(
        self, seconds: float, throughput: float, position: float, device: Device, *, hdr: bool
    ) -> Entry | None:
        """Return the start document from ``position`` seconds on, for a device that may not play
        every rung; None if it plays none. It is computed, from a manifest that is kept parsed."""
        prefetch, is_hdr = _manifest(self)
        found = None
        if hdr or not is_hdr:
            found = start_from(prefetch, seconds, throughput, position=position, device=device)
        stored = self.entry(self.start_name(seconds, throughput))
        if found is None or stored is None:
            return None
        package = json.loads(self.body(stored))
        document = StartDocument(
            version_of=package["version_of"],
            base=package["base"],
            rung=found.rung,
            seconds=found.seconds,
            covers_seconds=found.covers_seconds,
            from_seconds=found.from_seconds,
            bytes=found.bytes,
            files=_start_files(found.files),
        )
        body = _compact(document)
        return Entry(
            JSON_TYPE.encode(), hashlib.sha256(body).hexdigest()[:32].encode(), (0, 0), None, body
        )

    def _read(self, offset: int, length: int, wait: bool) -> bytes:
        if wait:
            body = os.pread(self._descriptor, length, offset)
            if len(body) < length:
                raise EOFError("a bundle is shorter than its index says; its disk is damaged")
            return body
        body = read_cached(self._descriptor, length, offset)
        if len(body) < length:
            raise Cold
        return body


class Bundles:
    """Bundles in a folder. Those read lately are kept open. May be used from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_open = MAX_OPEN if soft == resource.RLIM_INFINITY else min(MAX_OPEN, soft // 3)
        self._opened: OrderedDict[str, Bundle] = OrderedDict()
        self._lock = threading.Lock()
        self._forgotten = 0
        """How often :meth:`forget` was called."""

    def get(self, package: str, *, wait: bool = True) -> Bundle:
        """Return the bundle of a package.

        Raises:
            FileNotFoundError: there is none.
            Cold: the bundle is not in memory, and ``wait`` is False.
        """
        with self._lock:
            bundle = self._opened.get(package)
            if bundle is not None:
                self._opened.move_to_end(package)
                return bundle
            forgotten = self._forgotten
        bundle = Bundle(self.path(package), wait=wait)
        with self._lock:
            if forgotten == self._forgotten:  # else it may have been removed meanwhile
                self._opened[package] = bundle
            while len(self._opened) > self._max_open:
                self._opened.popitem(last=False)
        return bundle

    def path(self, package: str) -> Path:
        """Return the path of a package's bundle."""
        return self.folder / package[:2] / f"{package}.bundle"

    def forget(self) -> None:
        """Close all bundles, since some may have been removed."""
        with self._lock:
            self._forgotten += 1
            self._opened.clear()


def stills_name(aspect: str) -> str:
    """Return the name of the entry that lists the best stills of a shape."""
    return f"artwork/{aspect}"


def write_bundle(
    path: Path, entries: Mapping[str, EntryContent], throughputs: Sequence[int]
) -> None:
    """Write a bundle of named entries; its folder is created if missing.

    ``throughputs`` are the bit/s from which each start-up rung is taken, ascending from 0.
    """
    bodies = bytearray()

    def add(body: bytes) -> str:
        bodies.extend(body)
        return f"{len(bodies) - len(body)} {len(body)}"

    lines = [f"start_rungs {','.join(map(str, throughputs))}"]
    for name, content in entries.items():
        body, packed = content.plain, content.gzip
        if packed is None:
            packed = _packed(content) if len(body) >= _GZIP_MIN_BYTES else body
        etag = hashlib.sha256(body).hexdigest()[:32]
        ranges = f"{add(body)} {add(packed if len(packed) < len(body) else b'')}"
        lines.append(f"{name} {content.media_type} {etag} {ranges}")
    index = "\n".join([*lines, ""]).encode()
    head = b"%s %08d\n" % (MAGIC, len(index))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, head + index + bodies)


def _packed(content: EntryContent) -> bytes:
    if content.media_type == JSON_TYPE and content.plain.startswith(b"{"):
        return gzip_object(content.plain)
    return gzip.compress(content.plain, 6, mtime=0)


def package_entries(folder: Path, package: str) -> tuple[dict[str, EntryContent], Prefetch]:
    """Return the entries of a package's bundle, and its prefetch manifest.

    Raises:
        FileNotFoundError: the package lacks ``ladder.json`` or ``prefetch.json``.
        pydantic.ValidationError: a document is invalid.
    """
    entries = {
        name: EntryContent(JSON_TYPE, (folder / f"{name}.json").read_bytes())
        for name in ("ladder", "prefetch")
    }
    if (folder / "artwork.json").exists():
        entries["artwork"] = EntryContent(JSON_TYPE, (folder / "artwork.json").read_bytes())
        entries |= _stills_entries(Artwork.model_validate_json(entries["artwork"].plain))
    if (folder / "report.html").exists():
        report = (folder / "report.html").read_bytes()
        entries["report"] = EntryContent("text/html;charset=utf-8", report)
    prefetch = Prefetch.model_validate_json(entries["prefetch"].plain)
    return entries | _start_entries(prefetch, package), prefetch


def _stills_entries(artwork: Artwork) -> dict[str, EntryContent]:
    """Return the answers of :func:`recommender.artwork.select.answer`, with their cut tables."""
    from recommender.artwork.select import answer  # loads OpenCV, which only publishing needs

    entries = {}
    for aspect in ASPECTS:
        whole = answer(artwork, aspect)
        empty = whole.model_copy(update={"candidates": []}).model_dump_json().encode()
        stills = cuttable_list(
            empty.removesuffix(CLOSING),
            [candidate.model_dump_json().encode() for candidate in whole.candidates],
        )
        name = stills_name(aspect)
        entries[name] = EntryContent(JSON_TYPE, stills.plain, stills.gzip)
        entries[f"{name}/cuts"] = EntryContent("application/octet-stream", stills.table, b"")
    return entries


def with_base(start: bytes, base: str) -> bytes:
    """Return a start document with another prefix of the package's URIs than it was stored with:
    where clients find the package follows from how the service runs now.
    """
    begin = start.index(_BASE) + len(_BASE)
    return start[:begin] + base.encode() + start[start.index(b'"', begin) :]


def _start_entries(prefetch: Prefetch, package: str) -> dict[str, EntryContent]:
    """Return the start document of every start-up rung and number of seconds."""
    base = f"{PACKAGES}{package}/"
    entries = {}
    for number, startup in enumerate(prefetch.startup):
        for start in prefetch.starts:
            if start.rung == startup.rung:
                document = StartDocument(
                    version_of=package,
                    base=base,
                    rung=start.rung,
                    seconds=start.seconds,
                    covers_seconds=start.covers_seconds,
                    bytes=start.bytes,
                    files=_start_files(prefetch.start_files(start)),
                )
                name = f"start/{start.seconds}/{number}"
                entries[name] = EntryContent(JSON_TYPE, _compact(document))
    return entries


def _start_files(files: Sequence[File]) -> list[StartFile]:
    return [StartFile(uri=file.uri, bytes=file.bytes, sha256=file.sha256) for file in files]


def _compact(document: StartDocument) -> bytes:
    return json.dumps(document.model_dump(mode="json"), separators=(",", ":")).encode()


@lru_cache(maxsize=64)
def _manifest(bundle: Bundle) -> tuple[Prefetch, bool]:
    """Return a package's prefetch manifest, and whether the title has a high dynamic range."""
    entries = [bundle.entry(name) for name in ("prefetch", "ladder")]
    prefetch, ladder = (bundle.body(entry) for entry in entries if entry is not None)
    is_hdr = json.loads(ladder)["title"].get("hdr") is not None
    return Prefetch.model_validate_json(prefetch), is_hdr
