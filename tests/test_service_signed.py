"""Signed URLs: for whom, for what, until when, and what ends them."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from cluster.cli import main
from cluster.service.client import Client
from cluster.service.library.links import KeptVersion, Links, SigningKeys
from cluster.service.redaction import for_logs
from encoder.errors import BadInput, NotThere, StoreUnusable
from tests.service_material import ServiceProcess, service

READER = "0123456789abcdef"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service where reading needs a token."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "readers").write_text(f"shelf {READER}\n")
    with service(folder, slots=2, read_tokens=str(folder / "readers")) as one:
        yield one


@pytest.fixture(scope="module")
def client(running: ServiceProcess) -> Iterator[Client]:
    with running.client() as one:
        yield one


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A client without a token, as a TV is."""
    with httpx.Client(verify=False) as one:
        yield one


def published(running: ServiceProcess, client: Client, name: str, **asked: object) -> str:
    job = client.submit(running.source(f"{name}.json", **asked), external_id=name)
    done = client.wait(job.id, timeout_seconds=120)
    assert done.result is not None, done
    assert done.result.package is not None
    return done.result.package


def kind(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


# -- what they open ----------------------------------------------------------------------------


def test_everything_that_a_player_follows_inherits_the_signature(
    running: ServiceProcess, client: Client, http: httpx.Client
) -> None:
    package = published(running, client, "film", artwork="film", playable=True)
    link = client.signed("film")
    assert (link.version, link.package) == (1, package)
    assert http.get(f"{running.url}/v1/packages/{package}/master.m3u8").status_code == 401
    master = http.get(link.hls)
    assert master.status_code == 200
    playlist = m3u8.loads(master.text, uri=link.hls)
    followed = [one.absolute_uri for one in (*playlist.playlists, *playlist.media)]
    assert followed
    for url in followed:
        media = m3u8.loads(http.get(url).raise_for_status().text, uri=url)
        assert media.segments
        for file in (media.segment_map[0].absolute_uri, *media.segments.uri):
            assert http.get(urljoin(url, file)).status_code == 200
    manifest = MPEGDASHParser.parse(http.get(link.dash).raise_for_status().text)
    video = manifest.periods[0].adaptation_sets[0]
    init = video.segment_templates[0].initialization
    init = init.replace("$RepresentationID$", video.representations[0].id)
    assert http.get(urljoin(link.dash, init)).status_code == 200
    still = client.stills("film", k=1).candidates[0].renditions[0]
    poster = http.get(link.base + still.uri)
    assert (poster.status_code, poster.headers["content-type"]) == (200, f"image/{still.format}")
    part = http.get(link.base + still.uri, headers={"Range": "bytes=1-4"})
    assert (part.status_code, part.content) == (206, poster.content[1:5])
    head = http.head(link.hls)
    assert (head.status_code, head.content) == (200, b"")
    fresh = int(poster.headers["cache-control"].split("max-age=")[1].split(",")[0])
    assert 86_000 < fresh <= 86_400  # no cache may keep it for longer than it holds
    assert kind(http.get(link.base + "run.json")) == (404, "not-there")


def test_documents_name_signed_urls_where_reading_needs_a_token(
    running: ServiceProcess, client: Client, http: httpx.Client
) -> None:
    published(running, client, "row", artwork="row")
    base = client.title("row").base
    assert base.startswith("/v1/signed/row.1.")
    start = client.start("row", kbps=3000)
    batch = client.starts(["row"], kbps=3000).titles["row"]
    arts = client.artworks(["row"], k=1)
    listed = next(title for title in client.titles() if title.title == "row")
    # Within one step of the clock all of them name one URL, so that caches can work.
    assert len({base, start.base, batch["base"], arts.bases["row"], listed.base}) <= 2
    for file in start.files:
        assert len(http.get(running.url + start.base + file.uri).content) == file.bytes
    poster = arts.titles["row"].candidates[0].renditions[0].uri
    assert http.get(running.url + arts.bases["row"] + poster).status_code == 200
    url = f"{running.url}/v1/titles/row/prefetch/start?kbps=3000"
    bearer = {"Authorization": f"Bearer {READER}"}
    plain = http.get(url, headers=bearer | {"Accept-Encoding": "identity"})
    packed = http.get(url, headers=bearer | {"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert plain.headers["etag"] != packed.headers["etag"]
    for etag in (plain.headers["etag"], packed.headers["etag"]):
        assert http.get(url, headers=bearer | {"If-None-Match": etag}).status_code == 304


def test_where_reading_is_open_documents_name_plain_urls(
    tmp_path: Path, http: httpx.Client
) -> None:
    with service(tmp_path / "s", slots=1) as one, one.client() as own:
        package = published(one, own, "open")
        assert own.title("open").base == f"/v1/packages/{package}/"
        assert own.start("open", kbps=3000).base == f"/v1/packages/{package}/"
        before = http.get(f"{one.url}/v1/titles/open/prefetch/start?kbps=3").headers["etag"]
        link = own.signed("open", seconds=60)
        assert http.get(link.hls).status_code == 200
        one.stop()
        # What documents name follows from how the service runs now, not from when it published.
        again = service(tmp_path / "s", slots=1, media_url="https://cdn.example/a/")
        with again as two, two.client() as later:
            base = f"https://cdn.example/a/v1/packages/{package}/"
            assert later.title("open").base == base
            answer = http.get(f"{two.url}/v1/titles/open/prefetch/start?kbps=3")
            assert answer.json()["base"] == base
            assert answer.headers["etag"] != before
            assert later.signed("open").base.startswith("https://cdn.example/a/v1/signed/open.1.")


# -- what ends them ----------------------------------------------------------------------------


def test_a_signature_is_for_one_title_and_version_and_ends(
    running: ServiceProcess, client: Client, http: httpx.Client
) -> None:
    published(running, client, "bound", cut=1)
    first = client.signed("bound")
    short = client.signed("bound", seconds=1)
    published(running, client, "other", cut=9)
    title, version, expires, signature = first.base.rsplit("/", 2)[1].rsplit(".", 3)
    for forged in (
        f"other.{version}.{expires}.{signature}",
        f"{title}.2.{expires}.{signature}",
        f"{title}.{version}.{int(expires) + 1}.{signature}",
        f"{title}.{version}.{expires}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{title}.{version}.{expires}.",
        f"{title}.0{version}.{expires}.{signature}",
        "nobody.1.99999999999." + "0" * 32, "x", "", "%00", "..",
    ):  # fmt: skip
        answer = http.get(f"{running.url}/v1/signed/{forged}/master.m3u8")
        if forged in ("", ".."):  # no such path
            assert answer.status_code in (403, 404), forged
        else:
            assert kind(answer) == (403, "signature-invalid"), forged
    time.sleep(max(0.0, short.expires_at.timestamp() + 0.1 - time.time()))
    assert kind(http.get(short.hls)) == (403, "signature-expired")
    assert http.get(first.hls).status_code == 200
    published(running, client, "bound", cut=2)
    assert http.get(first.hls).status_code == 200  # in the grace period
    second = client.signed("bound")
    assert second.version == 2
    assert http.get(second.hls).text != http.get(first.hls).text or second.package != first.package
    assert client.signed("bound", version=1).package == first.package
    with pytest.raises(NotThere, match="no version 7"):
        client.signed("bound", version=7)
    with pytest.raises(NotThere, match="no title"):
        client.signed("nobody")
    assert http.get(f"{running.url}/v1/titles/bound/signed").status_code == 401
    assert signature not in running.log()


def test_a_takedown_ends_signatures_also_where_another_title_keeps_the_files(
    running: ServiceProcess, client: Client, http: httpx.Client
) -> None:
    package = published(running, client, "twin-a", cut=5, of="twins")
    other = running.sources / "twin-b.json"
    other.write_bytes((running.sources / "twin-a.json").read_bytes())
    assert client.wait(client.submit(other, external_id="twin-b").id).result is not None
    first, second = client.signed("twin-a"), client.signed("twin-b")
    assert first.package == second.package == package
    assert http.get(first.hls).status_code == 200
    client.withdraw("twin-a")
    assert kind(http.get(first.hls)) == (410, "withdrawn")
    assert http.get(second.hls).status_code == 200
    published(running, client, "twin-a", cut=5, of="twins")  # it comes back, as version 2
    assert client.signed("twin-a").version == 2
    assert kind(http.get(first.hls)) == (410, "withdrawn")


def test_keys_are_the_owners_and_can_be_changed(
    running: ServiceProcess, client: Client, http: httpx.Client
) -> None:
    published(running, client, "keyed")
    old = client.signed("keyed")
    path = running.data / "signing-keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("k" * 64 + "\n" + path.read_text())  # a new key signs, the old one verifies
    until = time.monotonic() + 10
    while client.signed("keyed", seconds=9999).hls == old.hls and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.6)
    new = client.signed("keyed")
    assert http.get(old.hls).status_code == http.get(new.hls).status_code == 200
    path.write_text("k" * 64 + "\n")
    while http.get(old.hls).status_code == 200 and time.monotonic() < until:
        time.sleep(0.05)
    assert kind(http.get(old.hls)) == (403, "signature-invalid")
    assert http.get(new.hls).status_code == 200


# -- by hand -----------------------------------------------------------------------------------


def test_the_command_line_signs(
    running: ServiceProcess, client: Client, http: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    published(running, client, "told", playable=True)
    line = ["sign", "told", "--hours", "2", "--url", running.url, "--token", running.token]
    assert main(line) == 0
    hls, dash, until = capsys.readouterr().out.splitlines()
    assert http.get(hls.split()[1]).status_code == http.get(dash.split()[1]).status_code == 200
    assert until.startswith("told, version 1, until 20")


@pytest.mark.parametrize("signature", ["%C3%A9", "%F0%9F%98%80" * 8, "%FF", "%00", ""])
def test_a_signature_of_other_characters_is_refused(
    running: ServiceProcess, client: Client, http: httpx.Client, signature: str
) -> None:
    published(running, client, "odd")
    signed = client.signed("odd").base.rstrip("/").rpartition(".")[0]
    answer = http.get(f"{signed}.{signature}/master.m3u8")
    assert kind(answer) == (403, "signature-invalid")
    assert "a read failed" not in running.log()


def test_logs_have_no_signature() -> None:
    signed = f"/v1/signed/film.1.99.{'a' * 32}/master.m3u8"
    assert for_logs({"path": [signed]}) == {"path": ["/v1/signed/film.1.99..../master.m3u8"]}


def test_links(tmp_path: Path) -> None:
    now = [1_000_000.0]
    keys = SigningKeys(tmp_path / "keys")
    links = Links(keys, signed=True, signed_seconds=3600, clock=lambda: now[0])
    base = links.base("a.b-c", 3, "p")
    now[0] += 100
    assert links.base("a.b-c", 3, "p") == base
    now[0] += 900
    assert links.base("a.b-c", 3, "p") != base
    segment = base.split("/")[3]
    versions = {("a.b-c", 3): KeptVersion("p", True)}
    package, left = links.opened(segment, lambda *named: versions.get(named))
    assert package == "p"
    assert 3600 - 1000 <= left <= 3600 + 900
    versions["a.b-c", 3] = KeptVersion("q", True)  # tables that were restored: another cut
    with pytest.raises(BadInput, match="not of this service"):
        links.opened(segment, lambda *named: versions.get(named))
    again = SigningKeys(tmp_path / "keys")
    assert again.present() == keys.present()
    (tmp_path / "keys").write_text("short\n")
    with pytest.raises(StoreUnusable, match="fewer than 32"):
        SigningKeys(tmp_path / "keys").present()
    (tmp_path / "keys").write_text("")
    with pytest.raises(StoreUnusable, match="or none"):
        keys.refresh()
    assert keys.present()  # those from before hold
