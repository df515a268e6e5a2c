"""The service over HTTP, in a process of its own: jobs, reads, mistakes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from cluster.cli import main
from cluster.service.client import Client
from cluster.service.documents import ASPECTS
from encoder.errors import BadInput, Conflict, NotThere
from ladder.document import Ladder
from recommender.artwork.select import answer
from recommender.prefetch.document import Prefetch
from tests.service_material import ServiceProcess, service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("service"), slots=2, grace=1.5) as one:
        yield one


@pytest.fixture(scope="module")
def client(running: ServiceProcess) -> Iterator[Client]:
    with running.client() as one:
        yield one


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that keeps replaced versions for as long as the tests take."""
    with service(tmp_path_factory.mktemp("keeping"), slots=2) as one:
        yield one


http = httpx.Client(verify=False)
"""One client for all tests: every httpx.get() would load all certificates of the machine."""


@pytest.fixture(scope="module", autouse=True)
def closing() -> Iterator[None]:
    with http:
        yield


def get(running: ServiceProcess, path: str, **headers: str) -> httpx.Response:
    return http.get(running.url + path, headers=headers)


def published(running: ServiceProcess, client: Client, name: str, **asked: object) -> str:
    """Submit a title, wait until it is published, and return the name of its package."""
    job = client.submit(running.source(f"{name}.json", **asked), external_id=name)
    done = client.wait(job.id, timeout_seconds=120)
    assert done.state == "succeeded", done
    assert done.result is not None
    assert done.result.package is not None
    return done.result.package


# -- jobs --------------------------------------------------------------------------------------


def test_a_job_from_submission_to_reading(running: ServiceProcess, client: Client) -> None:
    job = client.submit(running.source("one.json", seconds=0.3), external_id="one")
    assert job.state in ("queued", "running")
    assert not job.merged
    told = []
    done = client.wait(job.id, on_event=told.append)
    kinds = [body["type"] for body in told]
    assert kinds[0] == "queued" or kinds[0] == "running"
    assert kinds[-1] == "succeeded"
    assert "stage_planned" in kinds
    assert "stage_progress" in kinds
    assert done.result is not None
    assert (done.state, done.result.version) == ("succeeded", 1)
    ladder = client.ladder("one")
    assert isinstance(ladder, Ladder)
    assert client.prefetch("one").title == ladder.title.id
    assert client.title("one").versions[0].job == job.id


def test_the_same_submission_is_the_same_job(running: ServiceProcess, client: Client) -> None:
    source = running.source("same.json", seconds=0.2)
    with ThreadPoolExecutor(8) as many:
        jobs = list(many.map(lambda _: client.submit(source, external_id="same"), range(16)))
    assert len({job.id for job in jobs}) == 1
    assert sum(not job.merged for job in jobs) == 1
    client.wait(jobs[0].id)
    assert client.submit(source, external_id="same").id == jobs[0].id
    assert running.ledger().count("same.json") == 1
    os.utime(source, (1, 1))  # delivered again
    again = client.submit(source, external_id="same")
    assert again.id != jobs[0].id


def test_an_idempotency_key_is_for_one_submission(running: ServiceProcess, client: Client) -> None:
    source = running.source("keyed.json")
    first = client.submit(source, idempotency_key="monday-1")
    os.utime(source, (5, 5))  # the source has changed since, but the key names the same submission
    assert client.submit(source, idempotency_key="monday-1").id == first.id
    source.rename(source.with_suffix(".moved"))  # or is gone
    assert client.submit(source, idempotency_key="monday-1").id == first.id
    source.with_suffix(".moved").rename(source)
    with pytest.raises(Conflict, match="another submission"):
        client.submit(source, priority=3, idempotency_key="monday-1")


def test_equal_content_is_made_once(running: ServiceProcess, client: Client) -> None:
    one = running.source("copy-a.json", seconds=0.5)
    two = running.sources / "copy-b.json"
    two.write_bytes(one.read_bytes())
    first = client.submit(one, external_id="copy-a")
    second = client.submit(two, external_id="copy-b")
    done = [client.wait(job.id) for job in (first, second)]
    assert [job.state for job in done] == ["succeeded", "succeeded"]
    packages = {job.result.package for job in done if job.result}
    assert len(packages) == 1
    assert len([n for n in running.ledger() if n.startswith("copy-")]) == 1
    # Two runners take them at once; whichever knows its content first makes the package.
    merged = {job.id: job.result.merged_with for job in done if job.result}
    assert merged in ({first.id: None, second.id: first.id}, {first.id: second.id, second.id: None})
    copies = [client.prefetch(name) for name in ("copy-a", "copy-b")]
    assert [copy.external_id for copy in copies] == ["copy-a", "copy-b"]
    assert copies[1].model_copy(update={"external_id": "copy-a"}) == copies[0]


def test_failure_retry_and_cancel(running: ServiceProcess, client: Client) -> None:
    source = running.source("bad.json", fail="ffmpeg failed: it said so")
    job = client.wait(client.submit(source).id)
    assert job.state == "failed"
    assert job.failure is not None
    assert (job.failure.error, job.failure.message) == ("ToolFailed", "ffmpeg failed: it said so")
    with pytest.raises(Conflict, match="nothing to cancel"):
        client.cancel(job.id)
    again = client.retry(job.id)
    assert (again.id, again.state) == (job.id, "queued")
    assert client.wait(job.id).attempts == 2

    slow = client.submit(running.source("slow.json", seconds=60))
    while client.job(slow.id).state != "running":
        time.sleep(0.05)
    client.cancel(slow.id)
    done = client.wait(slow.id, timeout_seconds=20)
    assert done.state == "cancelled"
    with pytest.raises(NotThere):
        client.ladder(done.title)


def test_a_source_that_changes_under_way(running: ServiceProcess, client: Client) -> None:
    blocker = [client.submit(running.source(f"block-{n}.json", seconds=1)) for n in range(2)]
    source = running.source("changing.json")
    job = client.submit(source)
    source.write_text('{"more": "than before"}')
    done = client.wait(job.id)
    assert done.state == "failed"
    assert done.failure is not None
    assert "submit it again" in done.failure.message
    for one in blocker:
        client.wait(one.id)


def test_a_source_that_changes_while_it_is_worked_on(
    running: ServiceProcess, client: Client
) -> None:
    source = running.source("edited.json", seconds=2)
    job = client.submit(source)
    while client.job(job.id).progress is None:
        time.sleep(0.05)
    os.utime(source, (7, 7))
    done = client.wait(job.id)
    assert done.failure is not None
    assert "has changed" in done.failure.message
    with pytest.raises(NotThere):
        client.title(done.title)


def test_a_run_that_sees_its_source_change_says_to_submit_it_again(
    running: ServiceProcess, client: Client
) -> None:
    done = client.wait(client.submit(running.source("swapped.json", changed="was swapped")).id)
    assert done.failure is not None
    assert done.failure.error == "SourceChanged"
    assert done.failure.message.endswith(
        "swapped.json was swapped; submit the file again when it is complete, as a new version of "
        "the title"
    )


def test_a_process_that_dies_is_tried_again_but_not_for_ever(
    running: ServiceProcess, client: Client
) -> None:
    once = client.submit(running.source("dies-once.json", die=1))
    always = client.submit(running.source("dies.json", die=99))
    done = client.wait(once.id)
    assert (done.state, done.attempts) == ("succeeded", 2)
    dead = client.wait(always.id)
    assert (dead.state, dead.attempts) == ("failed", 3)
    assert dead.failure is not None
    assert "died 3 times" in dead.failure.message


def test_a_premiere_passes_and_preempts(running: ServiceProcess, client: Client) -> None:
    back = [client.submit(running.source(f"back-{n}.json", seconds=6), priority=-5) for n in (1, 2)]
    rest = [client.submit(running.source(f"rest-{n}.json"), priority=-5) for n in range(3)]
    deadline = datetime.now(UTC) + timedelta(hours=1)
    while any(client.job(job.id).state == "queued" for job in back):
        time.sleep(0.05)
    premiere = client.submit(running.source("premiere.json"), priority=10, deadline=deadline)
    done = client.wait(premiere.id)
    assert not done.late
    assert done.started_at is not None
    passed = [client.wait(job.id) for job in rest]
    assert all(job.started_at and job.started_at > done.started_at for job in passed)
    preempted = [client.wait(job.id) for job in back]
    assert sorted(job.attempts for job in preempted) == [1, 2]
    assert all(job.state == "succeeded" for job in (*passed, *preempted))


def test_lists_have_pages_and_filters(running: ServiceProcess, client: Client) -> None:
    jobs = [client.submit(running.source(f"page-{n}.json"), external_id="paged") for n in range(5)]
    for job in jobs:
        client.wait(job.id)
    listed = [job.id for job in client.jobs(external_id="paged")]
    assert listed == [job.id for job in reversed(jobs)]
    first = get(running, "/v1/jobs?external_id=paged&limit=2").json()
    rest = get(running, f"/v1/jobs?external_id=paged&limit=9&cursor={first['next']}").json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == listed
    assert rest["next"] is None
    assert list(client.jobs(external_id="paged", state="failed")) == []
    assert len(list(client.jobs(external_id="paged", limit=3))) == 3


def test_a_plan_is_a_job_that_publishes_nothing(running: ServiceProcess, client: Client) -> None:
    job = client.wait(client.submit(running.source("plan.json"), kind="plan").id)
    assert job.result is not None
    assert job.result.plan == {"frames": 1}
    with pytest.raises(NotThere):
        client.ladder(job.title)


def test_events_go_on_after_the_last_that_was_seen(running: ServiceProcess, client: Client) -> None:
    job = client.submit(running.source("followed.json", seconds=0.3))
    everything = list(client.events(job.id))
    numbers = [number for number, _ in everything]
    assert numbers == sorted(set(numbers))
    later = list(client.events(job.id, after=numbers[0]))
    assert [number for number, _ in later] == numbers[1:]
    text = get(running, f"/v1/jobs/{job.id}/events", **{"Last-Event-ID": str(numbers[-2])})
    assert text.headers["content-type"].startswith("text/event-stream")
    assert text.text.startswith(f"id: {numbers[-1]}\nevent: succeeded\ndata: {{")


# -- reading -----------------------------------------------------------------------------------


def test_documents_are_the_packages_bytes(running: ServiceProcess, client: Client) -> None:
    package = published(running, client, "read", artwork="read")
    folder = running.data / "packages" / package[:2] / package
    for name in ("ladder", "prefetch", "artwork"):
        stored = (folder / f"{name}.json").read_bytes()
        stored = b'{"external_id":"read",' + stored.removeprefix(b"{")
        plain = get(running, f"/v1/titles/read/{name}", **{"Accept-Encoding": "identity"})
        assert plain.content == stored
        assert "content-encoding" not in plain.headers
        packed = get(running, f"/v1/titles/read/{name}", **{"Accept-Encoding": "br, gzip;q=0.5"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == stored
        assert int(packed.headers["content-length"]) < len(stored)
        assert packed.headers["etag"] != plain.headers["etag"]
        assert packed.headers["vary"].lower() == "accept-encoding"
        refused = get(running, f"/v1/titles/read/{name}", **{"Accept-Encoding": "gzip;q=0"})
        assert "content-encoding" not in refused.headers
        for etag in (plain.headers["etag"], packed.headers["etag"], "*",
                     f'"x", W/{plain.headers["etag"]}'):  # fmt: skip
            same = get(running, f"/v1/titles/read/{name}", **{"If-None-Match": etag})
            assert (same.status_code, same.content) == (304, b"")
            assert "etag" in same.headers
        other = get(running, f"/v1/titles/read/{name}", **{"If-None-Match": '"other"'})
        assert other.status_code == 200
        head = http.head(f"{running.url}/v1/titles/read/{name}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] in (plain.headers["etag"], packed.headers["etag"])
    assert get(running, "/v1/titles/read/report").status_code == 404
    assert client.title("read").documents == ["ladder", "prefetch", "artwork"]


def test_a_start_is_what_the_manifest_says(running: ServiceProcess, client: Client) -> None:
    published(running, client, "start")
    prefetch = client.prefetch("start")
    assert isinstance(prefetch, Prefetch)
    for kbps in (0.1, 1, 2, 3, 100):
        for seconds, covered in ((1, 2), (4, 4), (4.5, 8), (16, 16)):
            found = client.start("start", kbps=kbps, seconds=seconds)
            rung = prefetch.startup_rung(1000 * kbps)
            (start,) = [s for s in prefetch.starts if s.rung == rung and s.seconds == covered]
            assert (found.rung, found.seconds, found.bytes) == (rung, covered, start.bytes)
            assert [f.uri for f in found.files] == [f.uri for f in prefetch.start_files(start)]
            assert sum(file.bytes for file in found.files) == found.bytes
    for file in found.files:  # a client or CDN can pull them, under both names
        by_name = get(running, found.base + file.uri)
        by_digest = get(running, f"/v1/media/{file.sha256}")
        assert by_name.content == by_digest.content
        assert hashlib.sha256(by_name.content).hexdigest() == file.sha256
        assert len(by_name.content) == file.bytes
        assert "immutable" in by_name.headers["cache-control"]
        etag = by_name.headers["etag"]
        assert get(running, found.base + file.uri, **{"If-None-Match": etag}).status_code == 304
        head = http.head(running.url + found.base + file.uri)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == file.bytes
        part = get(running, found.base + file.uri, Range="bytes=4-9")
        assert (part.status_code, part.content) == (206, by_name.content[4:10])


@pytest.mark.parametrize("query", ["", "?kbps=x", "?kbps=0", "?kbps=nan", "?kbps=1&seconds=17",
                                   "?kbps=1&seconds=0", "?kbps=1&seconds="])  # fmt: skip
def test_queries_of_a_start_that_are_invalid(
    running: ServiceProcess, client: Client, query: str
) -> None:
    published(running, client, "start")
    answer = get(running, f"/v1/titles/start/prefetch/start{query}")
    assert answer.status_code == 422
    assert "kbps" in answer.json()["detail"]


def test_stills_are_the_pure_answer_in_either_coding(
    running: ServiceProcess, client: Client
) -> None:
    published(running, client, "stills", artwork="stills")
    pool = client.artwork("stills")
    assert len(pool.candidates) == 6
    for aspect in ASPECTS:
        for k in (None, 1, 2, 5, 6, 7, 100):
            right = answer(pool, aspect, k)
            right = right.model_copy(update={"external_id": "stills"})
            query = {"aspect": aspect, "k": k}
            asked = urlencode({name: value for name, value in query.items() if value})
            path = f"/v1/titles/stills/artwork?{asked}"
            plain = get(running, path, **{"Accept-Encoding": "identity"})
            packed = get(running, path, **{"Accept-Encoding": "gzip"})
            assert plain.content == packed.content == right.model_dump_json().encode()
            assert "content-encoding" not in plain.headers
            assert packed.headers["content-encoding"] == "gzip"
            assert int(packed.headers["content-length"]) < len(plain.content)
            for etag in (plain.headers["etag"], packed.headers["etag"]):
                same = get(running, path, **{"If-None-Match": etag})
                assert (same.status_code, same.content) == (304, b"")
            assert client.stills("stills", aspect=aspect, k=k) == right
            # Requests of earlier releases named one of two orders.
            for diverse in ("true", "false"):
                assert get(running, f"{path}&diverse={diverse}").json() == plain.json()
    assert get(running, "/v1/titles/stills/artwork?k=2").json() == {
        "external_id": "stills",
        **json.loads(answer(pool, "16:9", 2).model_dump_json()),
    }
    etags = {get(running, f"/v1/titles/stills/artwork?k={k}").headers["etag"] for k in range(1, 7)}
    assert len(etags) == 6
    folder = client.title("stills").base
    for still in client.stills("stills", k=3).candidates:  # a page can show them, by both names
        for file in still.renditions:
            by_name, by_digest = (get(running, one) for one in
                                  (folder + file.uri, f"/v1/media/{file.sha256}"))  # fmt: skip
            assert by_name.content == by_digest.content
            assert hashlib.sha256(by_name.content).hexdigest() == file.sha256
            assert by_name.headers["content-type"] == f"image/{file.format}"
    scrub = get(running, folder + pool.scrub.uri)
    assert scrub.headers["content-type"].startswith("text/vtt")


@pytest.mark.parametrize("query", ["aspect=4:3", "aspect=", "k=0", "k=101", "k=-1", "k=x", "k=",
                                   "k=1.5", "k=2&aspect=5:4", "diverse=maybe",
                                   "faces=2", "exclude=x", "min_width=-1"])  # fmt: skip
def test_queries_of_stills_that_are_invalid(
    running: ServiceProcess, client: Client, query: str
) -> None:
    published(running, client, "stills", artwork="stills")
    found = get(running, f"/v1/titles/stills/artwork?{query}")
    assert found.status_code == 422
    assert found.headers["content-type"] == "application/problem+json"
    assert "16:9, 2:3, 1:1, 21:9" in found.json()["detail"]
    with pytest.raises(BadInput):
        client.artworks(["stills"], k=101)


def test_a_title_without_artwork(running: ServiceProcess, client: Client) -> None:
    published(running, client, "bare")
    for query in ("", "?k=2"):
        found = get(running, f"/v1/titles/bare/artwork{query}")
        assert (found.status_code, found.json()["type"]) == (
            404,
            "urn:shotladder:problem:no-artwork",
        )
    with pytest.raises(NotThere):
        client.stills("bare", k=2)


def test_a_home_row_in_one_request(running: ServiceProcess, client: Client) -> None:
    names = [f"row-{n}" for n in range(4)]
    for name in names:
        published(running, client, name, artwork=name)
    found = client.starts([*names, "nobody"], kbps=3)
    assert found.missing == ["nobody"]
    assert found.titles == {
        name: client.start(name, kbps=3).model_dump(mode="json") for name in names
    }
    published(running, client, "bare")
    shown = client.stills(names[0], k=3).candidates
    asked: dict[str, object] = {
        "k": 3, "spoilers": False, "exclude": [shown[0].action_id], "min_width": 300,
    }  # fmt: skip
    some = client.stills(names[0], **asked)
    assert client.artworks(names[:1], **asked).titles == {names[0]: some}
    assert shown[0].action_id not in {still.action_id for still in some.candidates}
    assert (len(some.candidates), some.filtered, some.external_id) == (3, 1, names[0])
    assert client.stills(names[0], min_width=9999).candidates == []
    assert client.stills(names[0], faces=True).filtered == 6  # nobody looked for any
    art = client.artworks([*names, "nobody", names[0], "bare"], aspect="2:3", k=2)
    assert art.titles == {name: client.stills(name, aspect="2:3", k=2) for name in names}
    assert art.missing == ["nobody", "bare"]
    assert all(len(one.candidates) == 6 for one in client.artworks(names).titles.values())
    with pytest.raises(BadInput):
        client.starts(["x"] * 101, kbps=3)


def test_a_new_delivery_replaces_and_the_old_lives_for_the_grace_period(
    running: ServiceProcess, client: Client
) -> None:
    since = client.changes().next
    old = published(running, client, "again", cut=1)
    old_url = client.start("again", kbps=3).base + "master.m3u8"
    new = published(running, client, "again", cut=2)
    assert new != old
    detail = client.title("again")
    assert (detail.version, detail.package) == (2, new)
    assert [version.version for version in detail.versions] == [2, 1]
    assert get(running, old_url).status_code == 200
    kinds = [c.kind for c in client.changes(since).changes if c.title == "again"]
    assert kinds == ["published", "replaced"]
    assert [line.action for line in client.audit("again")] == ["published", "replaced"]
    assert client.title("again").versions[1].removed_at is not None


def test_an_earlier_cut_delivered_again_is_published_again(
    keeping: ServiceProcess,
) -> None:
    with keeping.client() as client:
        source = keeping.source("cuts.json", cut=1)
        second = keeping.source("cuts-2.json", cut=2)
        first = client.wait(client.submit(source, external_id="cuts").id, timeout_seconds=120)
        client.wait(client.submit(second, external_id="cuts").id, timeout_seconds=120)
        again = client.submit(source, external_id="cuts")
        assert (again.merged, again.id == first.id) == (False, False)
        assert again.earlier is not None
        assert (again.earlier.job, again.earlier.version, again.earlier.kept) == (first.id, 1, True)
        done = client.wait(again.id, timeout_seconds=120)
        assert done.result is not None
        assert first.result is not None
        assert (done.result.version, done.result.package) == (3, first.result.package)
        assert keeping.ledger().count("cuts.json") == 1  # its package was there
        assert client.submit(source, external_id="cuts").merged
        back = client.rollback("cuts", 2)
        assert [version.current for version in back.versions] == [False, True, False]
        assert not client.submit(source, external_id="cuts").merged
        with pytest.raises(NotThere, match="no version 9"):
            client.rollback("cuts", 9)
        forced = client.wait(client.submit(second, external_id="cuts", force=True).id)
        assert forced.state == "succeeded"
        assert keeping.ledger().count("cuts-2.json") == 2


def test_a_new_delivery_sees_the_artwork_that_it_replaces(
    running: ServiceProcess, client: Client
) -> None:
    published(running, client, "lineage", artwork="one")
    first = client.artwork("lineage")
    published(running, client, "lineage", artwork="two", cut=2)
    second = client.artwork("lineage")
    assert first.replaces is None
    assert second.replaces is not None
    assert second.replaces.pool == first.pool != second.pool
    assert client.stills("lineage").pool == second.pool


def test_a_title_has_a_page_that_plays_it(running: ServiceProcess, client: Client) -> None:
    published(running, client, "watched")
    answer = get(running, "/v1/titles/watched/player")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//)""", answer.text)
    assert problem(get(running, "/v1/titles/nobody/player"), 404)


def test_a_takedown_leaves_an_audit_line_and_nothing_else(
    running: ServiceProcess, client: Client
) -> None:
    package = published(running, client, "gone", artwork="gone")
    start = client.start("gone", kbps=3)
    first = (running.sources / "gone.json").read_bytes()
    queued = client.submit(running.source("gone.json", cut=2, seconds=30), external_id="gone")
    digests = [file.sha256 for file in start.files]
    made_of = running.data / "stores" / hashlib.sha256(first).hexdigest()
    assert made_of.exists()
    line = client.withdraw("gone")
    assert (line.action, line.actor) == ("withdrawn", "ingest")
    for path in ("ladder", "prefetch", "artwork", "prefetch/start?kbps=3", "player", ""):
        answer = get(running, f"/v1/titles/gone/{path}".rstrip("/"))
        assert answer.status_code == 410, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert get(running, start.base + "master.m3u8").status_code == 410
    for digest in digests:
        assert get(running, f"/v1/media/{digest}").status_code == 404
    assert not list(running.data.glob(f"*/*/{package}*"))
    assert not made_of.exists()
    changes = client.changes(0)
    while changes.more:
        changes = client.changes(changes.next)
    assert (changes.changes[-1].kind, changes.changes[-1].title) == ("withdrawn", "gone")
    assert client.audit("gone")[-1].action == "withdrawn"
    assert client.wait(queued.id).state == "cancelled"
    with pytest.raises(NotThere):
        client.withdraw("gone")
    published(running, client, "gone", cut=3)  # and it may come back
    assert client.title("gone").version == 2


def test_a_takedown_during_the_first_delivery(running: ServiceProcess, client: Client) -> None:
    source = running.source("early.json", seconds=20)
    job = client.submit(source, external_id="early")
    waiting = client.submit(running.source("early-2.json", cut=2), external_id="early", priority=-9)
    while client.job(job.id).state != "running":
        time.sleep(0.05)
    line = client.withdraw("early", hold=True)
    assert line.action == "withdrawn"
    assert set(line.detail["cancelled"]) == {job.id, waiting.id}
    for cancelled in (job, waiting):
        assert client.wait(cancelled.id, timeout_seconds=20).state == "cancelled"
    for path in ("/v1/titles/early", "/v1/titles/early/ladder"):
        assert get(running, path).status_code == 404
    with pytest.raises(Conflict, match="release early"):
        client.submit(source, external_id="early")
    with pytest.raises(Conflict, match="release early"):
        client.retry(job.id)
    assert [hold.title for hold in client.holds()] == ["early"]
    client.release("early")
    published(running, client, "early", cut=3)


def test_titles_are_listed(running: ServiceProcess, client: Client) -> None:
    for name in ("list-a", "list-b", "list-c"):
        published(running, client, name)
    names = [title.title for title in client.titles()]
    assert names == sorted(names)
    assert {"list-a", "list-b", "list-c"} <= set(names)
    page = get(running, "/v1/titles?limit=1&cursor=list-a").json()
    assert page["titles"][0]["title"] == "list-b"
    assert page["next"] == "list-b"
    snapshot = client.snapshot()
    assert [title.title for title in snapshot.titles] == names
    assert client.changes(snapshot.sequence, snapshot.epoch).changes == []
    published(running, client, "list-d", artwork="d")
    (change,) = client.changes(snapshot.sequence, snapshot.epoch).changes
    assert (change.title, change.changed) == ("list-d", ["ladder", "prefetch", "artwork"])
    with pytest.raises(Conflict, match="read all titles again"):
        client.changes(snapshot.sequence, "0" * 16)
    with pytest.raises(Conflict, match="read all titles again"):
        client.changes(10**9)


def test_the_command_line_of_titles(
    keeping: ServiceProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*line: object) -> str:
        status = main([*map(str, line), "--url", keeping.url, "--token", keeping.token])
        assert status == 0, capsys.readouterr().err
        return capsys.readouterr().out

    with keeping.client() as client:
        for cut in (1, 2):
            published(keeping, client, "told", cut=cut)
    assert said("rollback", "told", 1) == "told is at version 1 again\n"
    assert re.search(r"1 +current .* job-[0-9a-f]{20}\n", said("versions", "told"))
    assert re.search(r"2 +kept +20\d\d-", said("versions", "told"))
    address = ["--url", keeping.url, "--token", keeping.token]
    assert main(["withdraw", "told", "--hold", *address]) == 2
    assert "add --yes if it is" in capsys.readouterr().err
    assert said("withdraw", "told", "--hold", "--yes") == "told withdrawn by ingest\n"
    assert re.search(r"told +ingest +20", said("holds"))
    assert main(["submit", str(keeping.sources / "told.json"), "--external-id", "told",
                 "--url", keeping.url, "--token", keeping.token]) == 2  # fmt: skip
    assert "`shotladder release told`" in capsys.readouterr().err
    assert said("release", "told") == "told released by ingest\n"
    assert "told" not in said("holds")
    said("deliveries", "--state", "given_up")
    assert main(["resend", "77", "--url", keeping.url, "--token", keeping.token]) == 2
    assert "no delivery 77" in capsys.readouterr().err


# -- mistakes ----------------------------------------------------------------------------------


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert said["type"].startswith("urn:shotladder:problem:")
    detail: str = said["detail"]
    return detail


def test_writing_needs_a_token(running: ServiceProcess) -> None:
    asked = {"source": str(running.source("token.json"))}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": running.token},
                    {"Authorization": f"Basic {running.token}"}):  # fmt: skip
        answer = http.post(f"{running.url}/v1/jobs", json=asked, headers=headers)
        assert "Bearer" in problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert problem(http.delete(f"{running.url}/v1/titles/one"), 401)
    assert problem(http.get(f"{running.url}/v1/audit?title=one"), 401)


@pytest.mark.parametrize(
    ("source", "status", "says"),
    [
        ("/etc/passwd", 403, "not under a folder"),
        ("/etc/nothing-here", 403, "not under a folder"),
        ("{root}/../../../etc/passwd", 403, "not under a folder"),
        ("file:///etc/passwd", 403, "not under a folder"),
        ("file:///etc%2Fpasswd", 403, "not under a folder"),
        ("file://elsewhere/etc/passwd", 403, "absolute path"),
        ("http://169.254.169.254/latest", 403, "not under a folder or URL"),
        ("concat:/etc/passwd", 403, "absolute path"),
        ("relative.mp4", 403, "absolute path"),
        ("{root}/link-out", 403, "not under a folder"),
        ("{root}/missing.mp4", 422, "No such file"),
        ("{root}", 422, "not a file"),
        ("{root}/empty.mp4", 422, "is empty"),
        ("{root}/" + "x" * 300, 422, "File name too long"),
    ],
)
def test_sources_that_are_not_read(
    running: ServiceProcess, source: str, status: int, says: str
) -> None:
    (running.sources / "empty.mp4").touch()
    link = running.sources / "link-out"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    asked = {"source": source.replace("{root}", str(running.sources))}
    answer = http.post(
        f"{running.url}/v1/jobs", json=asked, headers={"Authorization": f"Bearer {running.token}"}
    )
    assert says in problem(answer, status)


def test_requests_that_are_invalid(running: ServiceProcess) -> None:
    headers = {"Authorization": f"Bearer {running.token}", "Content-Type": "application/json"}

    def post(content: bytes) -> httpx.Response:
        return http.post(f"{running.url}/v1/jobs", content=content, headers=headers)

    assert "JSON" in problem(post(b"{"), 422)
    assert "source" in problem(post(b"{}"), 422)
    assert "`colour` is not known" in problem(post(b'{"source": "/x", "colour": 1}'), 422)
    source = str(running.source("asked.json"))
    for name, says in (("codec", "x264"), ("preset", "medium"), ("profile", "default"),
                       ("search", "predict"), ("also", "vmaf")):  # fmt: skip
        options = {name: ["nonsense"] if name == "also" else "nonsense"}
        asked = json.dumps({"source": source, "options": options}).encode()
        detail = problem(post(asked), 422)  # refused before there is a job
        assert "nonsense" in detail
        assert says in detail
    for options, says in (({"weights": "/etc/passwd"}, "its operator gives it to `serve`"),
                          ({"profile": "/etc/mine.toml"}, "a job takes no path"),
                          ({"colour": 1}, "there is no option 'colour'")):  # fmt: skip
        asked = json.dumps({"source": source, "options": options}).encode()
        assert says in problem(post(asked), 422)
    assert "65536" in problem(post(b" " * 70_000), 413)
    assert problem(http.get(f"{running.url}/v1/nothing"), 404)
    answer = http.put(f"{running.url}/v1/jobs")
    assert problem(answer, 405)
    assert "GET" in answer.headers["allow"]
    assert "webhook" in problem(
        post(json.dumps({"source": str(running.source("w.json")),
                         "webhook": "http://evil.example/"}).encode()), 403)  # fmt: skip
    assert problem(get(running, "/v1/titles/no-such/ladder"), 404)
    assert problem(get(running, "/v1/titles/../ladder"), 404)
    assert problem(get(running, "/v1/jobs/job-00000000000000000000"), 404)
    package = "0" * 32
    assert problem(get(running, f"/v1/packages/{package}/master.m3u8"), 404)


def test_what_packages_do_not_show(running: ServiceProcess, client: Client) -> None:
    package = published(running, client, "hidden")
    base = f"/v1/packages/{package}/"
    assert get(running, base + "master.m3u8").status_code == 200
    for path in ("run.json", "video/../run.json", "video/%2e%2e/run.json", "video/../../x", "",
                 "video", "video//etc/passwd", "..%2f..%2fservice.db"):  # fmt: skip
        assert get(running, base + path).status_code == 404, path


def test_all_tracks_of_a_package_are_shown(running: ServiceProcess, client: Client) -> None:
    package = published(running, client, "languages")
    folder = running.data / "packages" / package[:2] / package
    for track, status in (("audio/audio-2", 200), ("subtitles/subtitles-1", 200),
                          ("notes/notes-1", 404)):  # fmt: skip
        (folder / track).mkdir(parents=True)
        (folder / track / "media.m3u8").write_text("#EXTM3U\n")
        got = get(running, f"/v1/packages/{package}/{track}/media.m3u8")
        assert got.status_code == status, track


def test_health_and_numbers(running: ServiceProcess) -> None:
    assert get(running, "/healthz").json()["status"] == "ok"
    assert get(running, "/readyz").json()["status"] == "ok"
    get(running, "/v1/titles/nobody/ladder")
    text = get(running, "/metrics").text
    assert 'shotladder_requests_total{route="ladder",status="404"}' in text
    assert 'shotladder_jobs{state="succeeded"}' in text
    for line in running.log().splitlines():
        assert json.loads(line)["level"] in ("info", "warning"), line


def test_reading_needs_a_token_where_one_is_set(tmp_path: Path) -> None:
    (tmp_path / "readers").write_text("# who reads\nshelf 0123456789abcdef\n")
    with service(tmp_path / "s", read_tokens=str(tmp_path / "readers")) as one, one.client() as own:
        published(one, own, "secret")
        url = f"{one.url}/v1/titles/secret/ladder"
        for path in ("/v1/titles/secret/ladder", "/v1/titles", "/v1/changes", "/v1/jobs"):
            assert problem(get(one, path), 401)
            bearer = {"Authorization": "Bearer 0123456789abcdef"}
            answer = http.get(one.url + path, headers=bearer)
            assert answer.status_code == 200
        assert "private" in http.get(url, headers=bearer).headers["cache-control"]
        for name in ("secret", "nobody"):  # the page reveals nothing, not even which titles exist
            page = get(one, f"/v1/titles/{name}/player")
            assert page.status_code == 200
            assert "secret" not in page.text
        asked = {"source": str(one.source("x.json"))}
        refused = http.post(f"{one.url}/v1/jobs", json=asked, headers=bearer)
        assert "scope `submit`" in problem(refused, 403)
