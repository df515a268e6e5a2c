"""Documents carry the name of their title, though titles of equal content share one package."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cluster.service.documents import ArtworkBatch, StartBatch
from cluster.service.http.auth import Tokens
from cluster.service.http.reading import ARTWORK_BATCH, START_BATCH, Reader, Reply
from cluster.service.library.bundle import EntryContent, package_entries, write_bundle
from cluster.service.library.cached import Cold
from cluster.service.library.splicing import gzip_object, gzip_with_member, with_member
from tests.test_service_library import Shelf

DOCUMENTS = ("ladder", "prefetch", "artwork", "artwork?k=2", "artwork?aspect=2:3&diverse=true",
             "prefetch/start?kbps=3000")  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), st.integers(), min_size=1), st.text("ab-._0", max_size=128))
def test_a_member_is_put_into_a_gzip_body_without_encoding_it_anew(
    members: dict[str, int], title: str
) -> None:
    text, member = json.dumps(members).encode(), b'"name":"%s"' % title.encode()
    right = with_member(text, member)
    assert json.loads(right) == {"name": title} | members
    for packed in (gzip_object(text), gzip.compress(text)):
        made = gzip_with_member(packed, member)
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)  # as HTTP clients do: one member only
        assert reader.decompress(made) == right
        assert reader.eof
        assert not reader.unused_data
    assert gzip.decompress(gzip_object(text)) == text


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    one = Shelf(tmp_path)
    packages = {one.publish(name, "seed", artwork="stills") for name in ("film-a", "film-b")}
    assert len(packages) == 1
    yield one
    one.database.close()


@pytest.fixture
def reader(shelf: Shelf) -> Reader:
    return Reader(shelf.library, Tokens(()))


def asked(reader: Reader, title: str, document: str, *, wait: bool = True, **more: str) -> Reply:
    path, _, query = document.partition("?")
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    reply = reader.answer(f"/v1/titles/{title}/{path}", query.encode(), headers, wait=wait)
    assert reply is not None
    return reply


def header(reply: Reply, name: bytes) -> str:
    return dict(reply.headers)[name].decode()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_document_names_its_title(reader: Reader, document: str) -> None:
    etags = set()
    for title in ("film-a", "film-b"):
        plain = asked(reader, title, document)
        assert json.loads(plain.body)["external_id"] == title
        assert header(plain, b"content-length") == str(len(plain.body))
        packed = asked(reader, title, document, accept_encoding="gzip")
        assert header(packed, b"content-encoding") == "gzip"
        assert header(packed, b"content-length") == str(len(packed.body))
        assert gzip.decompress(packed.body) == plain.body
        etag = header(plain, b"etag")
        etags |= {etag, header(packed, b"etag")}
        assert asked(reader, title, document, if_none_match=etag).status == 304
    assert len(etags) == 4
    for title, other in (("film-a", "film-b"), ("film-b", "film-a")):
        etag = header(asked(reader, other, document), b"etag")
        assert asked(reader, title, document, if_none_match=etag).status == 200


def test_batches_name_their_titles_too(reader: Reader) -> None:
    names = ["film-a", "film-b"]
    for path, batch in (
        (START_BATCH, StartBatch(titles=names, kbps=3000)),
        (ARTWORK_BATCH, ArtworkBatch(titles=names, k=2)),
    ):
        titles = json.loads(reader.batch(path, batch).body)["titles"]
        assert {name: one["external_id"] for name, one in titles.items()} == dict(
            zip(names, names, strict=True)
        )


def test_packages_of_earlier_releases_are_named_as_well(shelf: Shelf, reader: Reader) -> None:
    files = shelf.library.files
    (package,) = files.packages()
    before = {name: asked(reader, "film-a", name, accept_encoding="gzip") for name in DOCUMENTS}
    entries, prefetch = package_entries(files.folder(package), package)

    def as_they_were(content: EntryContent) -> EntryContent:
        packed = gzip.compress(content.plain, 6, mtime=0)
        return EntryContent(content.media_type, content.plain, packed)

    old: dict[str, Any] = {
        name: content if name.startswith("artwork/") else as_they_were(content)
        for name, content in entries.items()
    }
    throughputs = [rung.throughput for rung in prefetch.startup]
    write_bundle(files.bundles.path(package), old, throughputs)
    files.bundles.forget()
    files.bundles.get(package)
    with pytest.raises(Cold):  # it is encoded anew, in a thread
        asked(reader, "film-a", "ladder", wait=False, accept_encoding="gzip")
    for name, reply in before.items():
        again = asked(reader, "film-a", name, accept_encoding="gzip")
        assert gzip.decompress(again.body) == gzip.decompress(reply.body)
        assert again.headers[0] == reply.headers[0]  # the same ETag


def test_events_of_a_job_name_its_title(shelf: Shelf) -> None:
    job = next(job for job in shelf.jobs.page(9)[0] if job.title == "film-b")
    told = [body for _, body in shelf.jobs.events_after(job.id, 0).events]
    everybody = [body for _, of, body in shelf.jobs.all_events_after(0) if of == job.id]
    assert told == everybody
    assert [body["external_id"] for body in told] == ["film-b"] * len(told)
    assert told[-1]["type"] == "succeeded"
