"""What readers are sent of one package, ready to be sent, in one file.

::

    shotladder bundle 1        INDEX LENGTH in 8 digits
    start_rungs 0,413093,...
    ladder application/json ETAG OFFSET LENGTH OFFSET LENGTH
    start/4/2 ...
    artwork/16:9/best ...
    artwork/16:9/best/cuts ...
    bodies

A line of the index says of a **form** its media type, its ETag and where its bytes lie, plain and
as gzip made them (length 0 where that is not worth it), after the index. Nothing is computed when
one is read: a request finds a line and reads the bytes; the index is searched as it is, because
most titles of a large library are read too seldom to keep a parsed one in memory. Artwork lists
are stored whole and cut where a request wants fewer stills
(:mod:`cluster.service.library.cutting`). The file is written once and never changed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from cluster.service.documents import ASPECTS
from cluster.service.library.cutting import CLOSE, RECORD_BYTES, cut_at, cuttable
from recommender.artwork.document import Artwork
from recommender.prefetch.document import START_SECONDS, Prefetch

MAGIC = b"shotladder bundle 1"
JSON_TYPE = "application/json"
_HEAD = len(MAGIC) + 10
_FIRST_READ = 8192
"""Bytes that hold the index of most bundles."""
MOST_OPEN = 2048
"""Bundles that are kept open, where the process may have so many files."""
_GZIP_FROM = 512
"""Bytes under which gzip saves nothing that matters."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a form is made of."""

    media_type: str
    plain: bytes
    gzip: bytes | None = None
    """None: the bundle makes it, where that is worth it."""


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
    close: bytes = b""
    """What is sent behind the plain body."""
    gzip_close: bytes = b""


class Bundle:
    """An open bundle. Reading is thread-safe; the file may be unlinked while it is read."""

    __slots__ = ("_base", "_descriptor", "_index")

    def __init__(self, path: Path) -> None:
        """Open one.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is none.
        """
        self._descriptor = os.open(path, os.O_RDONLY)
        head = os.pread(self._descriptor, _FIRST_READ, 0)
        if head[: len(MAGIC)] != MAGIC:
            raise ValueError(f"{path} is no bundle")
        self._base = _HEAD + int(head[len(MAGIC) + 1 : _HEAD - 1])
        if self._base > len(head):
            head = os.pread(self._descriptor, self._base, 0)
        self._index = head[_HEAD - 1 : self._base]

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def form(self, name: str) -> Form | None:
        """A form; None where the package has none of this name."""
        wanted = b"\n%s " % name.encode()
        begin = self._index.find(wanted)
        if begin < 0:
            return None
        begin += len(wanted)
        line = self._index[begin : self._index.index(b"\n", begin)]
        media_type, etag, *places = line.rsplit(b" ", 5)
        at, length, packed_at, packed_length = map(int, places)
        return Form(
            media_type,
            etag,
            (self._base + at, length),
            (self._base + packed_at, packed_length) if packed_length else None,
        )

    def artwork(self, aspect: str, k: int | None, diverse: bool) -> Form | None:
        """The list of the best stills of a shape, or of the first ``k`` of them."""
        name = list_name(aspect, diverse)
        whole = self.form(name)
        if whole is None or k is None:
            return whole
        table = self.form(f"{name}/cuts")
        if table is None or k * RECORD_BYTES >= table.plain[1]:
            return whole
        cut = cut_at(self.read((table.plain[0] + (k - 1) * RECORD_BYTES, RECORD_BYTES)))
        return replace(
            whole,
            etag=b"%s-%d" % (whole.etag, k),
            plain=(whole.plain[0], cut.plain),
            gzip=(whole.gzip[0], cut.gzip) if whole.gzip else None,
            close=CLOSE,
            gzip_close=cut.gzip_close,
        )

    def names(self) -> list[str]:
        """Names of all forms."""
        lines = self._index.decode().splitlines()[2:]
        return [line.partition(" ")[0] for line in lines]

    def body(self, form: Form, *, packed: bool = False) -> bytes:
        """What is sent; ``packed`` only of a form that has a gzip form."""
        if packed and form.gzip is not None:
            return self.read(form.gzip) + form.gzip_close
        return self.read(form.plain) + form.close

    def read(self, place: tuple[int, int]) -> bytes:
        """Bytes of the file."""
        return os.pread(self._descriptor, place[1], place[0])

    def start(self, seconds: float, throughput: float) -> str:
        """Name of the form for a start of ``seconds`` at ``throughput`` bit/s."""
        covered = next((one for one in START_SECONDS if one >= seconds), START_SECONDS[-1])
        line = self._index[1 : self._index.index(b"\n", 1)]
        rungs = [int(one) for one in line.partition(b" ")[2].split(b",")]
        return f"start/{covered}/{max(bisect_right(rungs, throughput) - 1, 0)}"


class Bundles:
    """Bundles of packages in a folder; those read lately stay open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most_open = MOST_OPEN if soft == resource.RLIM_INFINITY else min(MOST_OPEN, soft // 8)
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


def list_name(aspect: str, diverse: bool) -> str:
    """Name of the form that lists the stills of a shape."""
    return f"artwork/{aspect}/{'diverse' if diverse else 'best'}"


def write_bundle(path: Path, forms: Mapping[str, Body], starts: Sequence[int]) -> None:
    """Write a bundle in one step.

    Args:
        path: of the file; its folder is made.
        forms: by name.
        starts: bit/s from which on each start-up rung is taken, ascending from 0.
    """
    bodies = bytearray()

    def add(body: bytes) -> str:
        bodies.extend(body)
        return f"{len(bodies) - len(body)} {len(body)}"

    lines = [f"start_rungs {','.join(map(str, starts))}"]
    for name, form in forms.items():
        body, packed = form.plain, form.gzip
        if packed is None:
            packed = gzip.compress(body, 6, mtime=0) if len(body) >= _GZIP_FROM else body
        etag = hashlib.sha256(body).hexdigest()[:32]
        places = f"{add(body)} {add(packed if len(packed) < len(body) else b'')}"
        lines.append(f"{name} {form.media_type} {etag} {places}")
    index = "\n".join([*lines, ""]).encode()
    head = b"%s %08d\n" % (MAGIC, len(index))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(head + index + bodies)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
            settle(path.parent)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def settle(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forms_of(folder: Path, package: str, base: str) -> tuple[dict[str, Body], Prefetch]:
    """The forms of a package's documents, and its manifest.

    Args:
        folder: of the package.
        package: its name.
        base: where its relative URIs begin for a reader.

    Raises:
        FileNotFoundError: a package without ``ladder.json`` or ``prefetch.json``.
        pydantic.ValidationError: a document that is none.
    """
    forms = {
        name: Body(JSON_TYPE, (folder / f"{name}.json").read_bytes())
        for name in ("ladder", "prefetch")
    }
    if (folder / "artwork.json").exists():
        forms["artwork"] = Body(JSON_TYPE, (folder / "artwork.json").read_bytes())
        forms |= _lists(Artwork.model_validate_json(forms["artwork"].plain))
    if (folder / "report.html").exists():
        report = (folder / "report.html").read_bytes()
        forms["report"] = Body("text/html;charset=utf-8", report)
    prefetch = Prefetch.model_validate_json(forms["prefetch"].plain)
    return forms | _starts(prefetch, package, base), prefetch


def _lists(artwork: Artwork) -> dict[str, Body]:
    """The answers of :func:`recommender.artwork.select.answer`, each so that it can be cut."""
    from recommender.artwork.select import answer  # brings OpenCV: not where nothing is published

    made = {}
    for aspect in ASPECTS:
        for diverse in (False, True):
            whole = answer(artwork, aspect, len(artwork.candidates), diverse)
            empty = whole.model_copy(update={"candidates": []}).model_dump_json().encode()
            cut = cuttable(
                empty.removesuffix(CLOSE),
                [one.model_dump_json().encode() for one in whole.candidates],
            )
            name = list_name(aspect, diverse)
            made[name] = Body(JSON_TYPE, cut.plain, cut.gzip)
            made[f"{name}/cuts"] = Body("application/octet-stream", cut.table, b"")
    return made


def _starts(prefetch: Prefetch, package: str, base: str) -> dict[str, Body]:
    """What to pull first, for every start-up rung and number of seconds."""
    made = {}
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
                made[f"start/{start.seconds}/{number}"] = Body(JSON_TYPE, text)
    return made
