"""What clients do with a job: ask for it by name, read what is wrong, use what it made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cluster.service.client import Client
from cluster.service.documents import Submission
from cluster.service.wording import pattern_words
from encoder.errors import BadInput, NotThere
from tests.cli_material import called
from tests.service_material import ServiceProcess, service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with one slot."""
    with service(tmp_path_factory.mktemp("results"), slots=1) as one:
        yield one


@pytest.fixture(scope="module")
def client(running: ServiceProcess) -> Iterator[Client]:
    with running.client() as one:
        yield one


@pytest.fixture(scope="module")
def http(running: ServiceProcess) -> Iterator[httpx.Client]:
    token = {"Authorization": f"Bearer {running.token}"}
    with httpx.Client(base_url=running.url, headers=token, verify=False) as one:
        yield one


# -- asking ------------------------------------------------------------------------------------


def test_an_estimate_does_not_wait_behind_a_film(running: ServiceProcess, client: Client) -> None:
    film = client.submit(running.source("film.json", seconds=60))
    try:
        plans = [
            client.submit(running.source(f"plan-{n}.json"), kind="plan", priority=n)
            for n in range(2)
        ]
        for plan in plans:
            done = client.wait(plan.id, timeout_seconds=30)
            assert (done.state, done.attempts) == ("succeeded", 1)
        film_now = client.job(film.id)
        assert (film_now.state, film_now.attempts) == ("running", 1)  # nor does it preempt
    finally:
        client.cancel(film.id)
        client.wait(film.id, timeout_seconds=30)


def test_status_takes_the_name_of_a_title(running: ServiceProcess, client: Client) -> None:
    first = client.submit(running.source("named-1.json"), external_id="named")
    client.wait(first.id)
    newest = client.submit(running.source("named-2.json"), external_id="named")
    client.wait(newest.id)
    unnamed = client.submit(running.source("unnamed.json"))
    access = {"SHOTLADDER_URL": running.url, "SHOTLADDER_TOKEN": running.token}
    for asked, found in (("named", newest.id), (first.id, first.id), (unnamed.title, unnamed.id)):
        ended = called("status", asked, "--json", **access)
        assert json.loads(ended.stdout.splitlines()[-1])["result"]["job"]["id"] == found
    for wrong in ("film-a", "job-00000000000000000000", "not/a name"):
        ended = called("status", wrong, **access)
        assert ended.returncode != 0
        assert f"there is no job {wrong}" in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1
    with pytest.raises(NotThere, match="there is no job film-a"):
        client.job("film-a")


# -- progress ----------------------------------------------------------------------------------


def test_progress_of_the_whole_job_and_its_attempts(
    running: ServiceProcess, client: Client
) -> None:
    source = running.source("watched.json", seconds=2.5, die=1, fail="it said so")
    job = client.submit(source)
    shares, told = [], []
    for _, body in client.events(job.id):
        told.append(body)
        completion = client.job(job.id).completion
        assert completion is not None
        shares.append(completion.share)
    failed = client.job(job.id)
    assert failed.completion is not None
    assert failed.completion.remaining_seconds is None
    assert 0.1 < failed.completion.share < 1
    assert [one.ended for one in failed.attempt_list] == ["exit status -9", "failed"]
    assert failed.attempt_list[1].seconds >= 2.5
    reported = [body["share"] for body in told if body["type"] == "job_progress"]
    assert reported == sorted(reported) != []
    again = client.retry(job.id)
    assert again.completion is not None
    shares += [failed.completion.share, again.completion.share]
    client.wait(job.id)
    assert shares == sorted(shares)

    done = client.wait(client.submit(running.source("made.json")).id)
    assert done.completion is not None
    assert (done.completion.share, done.completion.remaining_seconds) == (1, 0)
    assert [one.ended for one in done.attempt_list] == ["succeeded"]
    listed = next(iter(client.jobs(limit=1)))
    assert listed == done
    access = {"SHOTLADDER_URL": running.url, "SHOTLADDER_TOKEN": running.token}
    shown = called("status", job.id, **access).stdout
    assert "exit status -9" in shown


# -- what is wrong -----------------------------------------------------------------------------

_NAME = "give up to 128 letters, digits, `.`, `_` and `-`, of which the first is no sign"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "`source` is missing; give it"),
        ({"source": ""}, "`source` cannot be empty; give 1 character or more"),
        ({"source": 5}, "`source` cannot be `5`; give text"),
        ({"source": "/a", "external_id": "a b"}, f"`external_id` cannot be `a b`; {_NAME}"),
        ({"source": "/a", "priority": 1000}, "`priority` cannot be `1000`; give 100 or less"),
        ({"source": "/a", "kind": "x"}, "`kind` cannot be `x`; choose 'run' or 'plan'"),
        ({"source": "/a", "force": "maybe"}, "`force` cannot be `maybe`; give true or false"),
        (
            {"source": "/a", "sorce": "/b"},
            "`sorce` is not known here; check its spelling, or leave it out",
        ),
        (
            {"source": "/a", "options": {"heights": [2, 1]}},
            "entry 2 of `options.heights` cannot be `1`; give 2 or more",
        ),
        (
            {"source": "/a", "options": {"heights": []}},
            "`options.heights` cannot be empty; give 1 entry or more",
        ),
        (
            {"source": "/a", "deadline": "2027-01-31T20:00:00"},
            "`deadline` has no time zone; give it as 2027-01-31T20:00:00Z",
        ),
        (
            {"source": "/a", "deadline": "soon"},
            "`deadline` cannot be `soon`; give a time, such as 2027-01-31T20:00:00Z",
        ),
        (
            {"source": "/a", "webhook": "ftp://me:secret@host/x?key=secret"},
            "`webhook` cannot be `ftp://host/x?...`; give a URL that begins with https:// or "
            "http://",
        ),
        (
            {"source": "/a", "priority": 1000, "kind": "x"},
            "`kind` cannot be `x`; choose 'run' or 'plan' (one more field is wrong too)",
        ),
    ],
)
def test_what_is_wrong_with_a_submission_is_said_in_words(
    http: httpx.Client, asked: dict[str, Any], says: str
) -> None:
    answer = http.post("/v1/jobs", json=asked)
    assert (answer.status_code, answer.json()["detail"]) == (422, says)
    assert answer.json()["errors"][0]["message"] in says


def test_other_requests_are_refused_in_words_too(http: httpx.Client) -> None:
    said = [
        http.get(path).json()["detail"]
        for path in ("/v1/jobs?limit=0", "/v1/jobs?limit=x", "/v1/jobs?state=done",
                     "/v1/jobs?cursor=x", "/v1/titles/a%20b", "/v1/audit")
    ]  # fmt: skip
    assert said == [
        "`limit` cannot be `0`; give 1 or more",
        "`limit` cannot be `x`; give a whole number",
        "`state` cannot be `done`; choose 'queued', 'running', 'succeeded', 'failed' or "
        "'cancelled'",
        "`cursor` cannot be `x`; give `next` of the page before",
        f"`title` cannot be `a b`; {_NAME}",
        "`title` is missing; give it",
    ]
    json_type = {"Content-Type": "application/json"}
    assert http.post("/v1/jobs", headers=json_type).json()["detail"] == (
        "the request has no body; send a JSON object"
    )
    malformed = http.post("/v1/jobs", content=b"{", headers=json_type).json()["detail"]
    assert malformed.startswith("the body is not JSON (")
    keyed = http.post("/v1/jobs", json={"source": "/a"}, headers={"Idempotency-Key": "a b"})
    assert keyed.json()["detail"] == (
        "`idempotency-key` cannot be `a b`; give up to 128 ASCII characters without spaces"
    )


def test_the_client_says_it_in_the_same_words(client: Client) -> None:
    with pytest.raises(BadInput) as refused:
        client.submit("/a", external_id="a b")
    assert refused.value.message == f"`external_id` cannot be `a b`; {_NAME}"


def test_every_pattern_of_the_api_has_words(http: httpx.Client) -> None:
    def patterns(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("pattern"), str):
                yield value["pattern"]
            for part in value.values():
                yield from patterns(part)
        elif isinstance(value, list):
            for part in value:
                yield from patterns(part)

    document = http.get("/openapi.json").json()
    asked = {**document["paths"]}, Submission.model_json_schema()
    found = {pattern for part in asked for pattern in patterns(part)}
    unknown = {one for one in found if pattern_words(one) == pattern_words("")}
    assert len(found) > 5
    assert unknown == set()
