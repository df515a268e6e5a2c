"""The queries of documents: the reading path and the framework give the same verdict."""

from __future__ import annotations

import asyncio
import json
import math
import operator
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import hypothesis.strategies as st
import pytest
from fastapi import FastAPI
from hypothesis import example, given, settings
from pydantic import BaseModel, ValidationError

from cluster.jobs.request import choices
from cluster.service.database import Database
from cluster.service.decisions.keeping import Decisions
from cluster.service.documents import ASPECTS, ArtworkBatch, Rollback, StartBatch, Submission
from cluster.service.http.api import build
from cluster.service.http.auth import Tokens, token
from cluster.service.http.context import Service
from cluster.service.http.reading import Reader
from cluster.service.library.library import Library
from cluster.service.library.playable import Playable
from cluster.service.library.similar import SimilarPictures
from cluster.service.metrics import Metrics
from cluster.service.options import JobOptions
from cluster.service.queue.deliveries import Deliveries
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.table import JobTable
from cluster.service.queue.webhooks import WebhookPolicy
from cluster.service.queue.work import check_asked
from cluster.service.sites import SitePlans
from cluster.service.sources import SourcePolicy
from cluster.service.writable import Writable

START, ARTWORK = "prefetch/start", "artwork"
NUMBERS = ["1", "0", "-1", "16", "16.1", "1e9", "1e10", "100", "101", "5.0", "+5", "1_0", "007",
           "000000001", " 4", "nan", "inf", "1e400", "\u0663", "\u00b2", "0x10"]  # fmt: skip
WORDS = ["", "true", "false", "True", "yes", "on", *ASPECTS, "4:3", "16x9"]
STARTS = {"kbps", "seconds", "from", "max_height", "codecs", "hdr", "language"}
STILLS = {"aspect", "k", "diverse", "spoilers", "faces", "exclude", "min_width", "fields"}
NAMES = st.sampled_from([*sorted(STARTS), "aspect", "k", "diverse", "K", "other", "from_", ""])
VALUES = st.one_of(
    st.sampled_from([*NUMBERS, *WORDS]),
    st.floats().map(str),
    st.integers(-5, 120).map(str),
    st.text(max_size=4),
)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
RAW = st.one_of(
    PAIRS.map(lambda pairs: urlencode(pairs).encode()),
    PAIRS.map(lambda pairs: "&".join(f"{a}={b}" for a, b in pairs).encode()),
    st.text("kbps=seconds&%+;1\u00e9", max_size=20).map(str.encode),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without a title: what it takes it answers with 404."""
    folder = tmp_path_factory.mktemp("service")
    database = Database(folder / "service.db")
    library, tokens = Library(database, folder), Tokens([token("ann", "0123456789abcdef")])
    jobs, deliveries = Jobs(JobTable(database), library), Deliveries(database)
    yield Service(
        jobs=jobs,
        library=library,
        tokens=tokens,
        reader=Reader(library, tokens),
        metrics=Metrics(jobs, library, deliveries),
        deliveries=deliveries,
        webhooks=WebhookPolicy(),
        sources=SourcePolicy(),
        writable=Writable(database, folder),
        playable=Playable(library),
        decisions=Decisions(library, folder),
        sites=SitePlans(library, folder),
        similar=SimilarPictures(library),
    )
    database.close()


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return build(service)[0]


def read(service: Service, document: str, query: bytes) -> int:
    """Status by the reading path."""
    reply = service.reader.answer(f"/v1/titles/film/{document}", query, [])
    assert reply is not None
    return reply.status


def framework(app: FastAPI, document: str, query: bytes) -> tuple[int, dict[str, Any]]:
    """Status and problem by the framework, with nothing before it."""
    sent: list[Any] = []
    path = f"/v1/titles/film/{document}"
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": [],
        "query_string": query, "scheme": "http", "server": ("testserver", 80), "root_path": "",
        "http_version": "1.1", "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


@settings(max_examples=150, deadline=None)
@given(document=st.sampled_from([START, ARTWORK]), query=RAW)
@example(START, b"kbps=1e9&seconds=16")
@example(START, b"kbps=1&seconds=16.001")
@example(START, b"kbps=1&kbps=x")
@example(START, b"kbps=1&from=12.5&max_height=720&codecs=avc1,hvc1&hdr=false")
@example(START, b"kbps=1&from_=12.5")
@example(START, b"kbps=1&codecs=avc1,")
@example(START, b"kbps=1&from=inf")
@example(ARTWORK, b"k=100&diverse=false&aspect=21:9")
@example(ARTWORK, b"k=1.0")
@example(ARTWORK, b"diverse=1")
@example(ARTWORK, b"diverse=1&kbps=1")
@example(START, b"=")
def test_both_readers_of_a_query_give_one_verdict(
    service: Service, app: FastAPI, document: str, query: bytes
) -> None:
    status, problem = framework(app, document, query)
    assert status == read(service, document, query)
    assert status in (400, 404, 422)  # a parameter that there is not; no such title; not valid
    assert ("errors" in problem) == (status == 422)


def parameters(app: FastAPI, document: str) -> list[dict[str, Any]]:
    operation = app.openapi()["paths"][f"/v1/titles/{{title}}/{document}"]["get"]
    return [one for one in operation["parameters"] if one["in"] == "query"]


def samples(schema: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Values that a parameter's schema allows, and values that it does not."""
    schema = next((one for one in schema.get("anyOf", []) if one["type"] != "null"), schema)
    match schema["type"]:
        case "boolean":
            return ["true", "false"], ["", "maybe"]
        case "string" if re.search(schema.get("pattern", "$^"), "avc1"):
            return ["avc1", "avc1,hvc1"], ["", "avc1,", "AVC1", "h264 "]
        case "string" if re.search(schema.get("pattern", "$^"), "pt-BR"):
            return ["de", "pt-BR", "x" * 8], ["", "d", "de_AT", "de-", "-de"]
        case "string" if re.search("metrics", schema.get("pattern", "")):
            return ["metrics", "embedding,crops"], ["", "metrics,", "Metrics", "id"]
        case "string" if "pattern" in schema:
            one = "0123456789abcdef"
            return [one, f"{one},{one}-01234567"], ["", "5:4", f"{one},", one.upper()]
        case "string":
            return schema["enum"], ["", "5:4"]
        case "integer":
            least, most = schema["minimum"], schema["maximum"]
            return [str(least), str(most)], [str(least - 1), str(most + 1), "x", ""]
        case "number" if "minimum" in schema:
            least, most = float(schema["minimum"]), float(schema["maximum"])
            return [str(least), str(most)], ["-0.1", str(math.nextafter(most, math.inf)), "x"]
        case "number":
            least, most = float(schema["exclusiveMinimum"]), float(schema["maximum"])
            above = math.nextafter(least, math.inf)
            return [str(above), str(most)], [str(least), str(math.nextafter(most, math.inf)), "x"]
    raise AssertionError(schema)


@pytest.mark.parametrize(
    ("document", "names", "rest"),
    [
        (START, STARTS, "kbps=1&"),
        (ARTWORK, STILLS, ""),
    ],
)
def test_the_openapi_document_says_what_is_taken(
    service: Service, app: FastAPI, document: str, names: set[str], rest: str
) -> None:
    declared = parameters(app, document)
    assert set(map(operator.itemgetter("name"), declared)) == names
    for parameter in declared:
        good, bad = samples(parameter["schema"])
        for value in good:
            query = f"{rest}{parameter['name']}={quote(value)}".encode()
            assert read(service, document, query) == 404, query
        for value in bad:
            query = f"{rest}{parameter['name']}={quote(value)}".encode()
            assert read(service, document, query) == 422, query
        without = "&".join(
            f"{one['name']}={quote(samples(one['schema'])[0][0])}"
            for one in declared
            if one is not parameter
        )
        required = read(service, document, without.encode() if document == START else b"") == 422
        assert parameter["required"] == required


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        (ArtworkBatch, {"titles": ["a"], "diverse": 0}, "diverse"),
        (ArtworkBatch, {"titles": ["a"], "diverse": "false"}, "diverse"),
        (ArtworkBatch, {"titles": ["a"], "k": "8"}, "k"),
        (ArtworkBatch, {"titles": ["a"], "k": True}, "k"),
        (StartBatch, {"titles": ["a"], "kbps": "3000"}, "kbps"),
        (StartBatch, {"titles": ["a"], "kbps": 1, "seconds": True}, "seconds"),
        (Rollback, {"version": "1"}, "version"),
        (Submission, {"source": "/a", "priority": True}, "priority"),
        (Submission, {"source": "/a", "force": 1}, "force"),
        (Submission, {"source": "/a", "options": {"tone_map": 1}}, "tone_map"),
        (Submission, {"source": "/a", "options": {"accept_truncated": "no"}}, "accept_truncated"),
        (Submission, {"source": "/a", "options": {"heights": ["360"]}}, "heights"),
        (Submission, {"source": "/a", "options": {"program": "1"}}, "program"),
    ],
)
def test_numbers_and_flags_are_what_json_says(
    model: type[BaseModel], body: dict[str, Any], field: str
) -> None:
    for refuse in (lambda: model.model_validate(body), lambda: model.model_validate_json(
        json.dumps(body)
    )):  # fmt: skip
        with pytest.raises(ValidationError) as refused:
            refuse()
        assert field in refused.value.errors()[0]["loc"]


def test_the_openapi_document_lists_only_values_that_a_job_takes() -> None:
    listed = choices()
    for name in ("policy", "search", "tail", "recipe_check"):
        for value in listed[name]:
            check_asked(JobOptions.model_validate({name: value}))
