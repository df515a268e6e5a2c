"""Artwork for readers and editors of a service: bans and pins, features, an export, likenesses."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cluster.cli import main
from cluster.service.client import Client
from cluster.service.http.auth import SCOPES
from cluster.service.library.avif import avif
from cluster.service.library.edits import PictureEdit, edited_of
from encoder.errors import NotThere
from tests.artwork_material import natural
from tests.service_material import ServiceProcess, service, write_package


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("service"), slots=2) as one:
        yield one


@pytest.fixture(scope="module")
def client(running: ServiceProcess) -> Iterator[Client]:
    with running.client() as one:
        yield one


def published(running: ServiceProcess, client: Client, name: str, **asked: object) -> str:
    job = client.submit(running.source(f"{name}.json", **asked), external_id=name)
    done = client.wait(job.id, timeout_seconds=120)
    assert done.state == "succeeded", done
    assert done.result is not None
    assert done.result.package is not None
    return done.result.package


def get(running: ServiceProcess, path: str, **headers: str) -> httpx.Response:
    return httpx.get(running.url + path, headers=headers)


def shown(client: Client, title: str, **asked: Any) -> list[str]:
    return [still.action_id for still in client.stills(title, **asked).candidates]


# -- editors -----------------------------------------------------------------------------------


def test_bans_and_pins_hold_over_versions_and_are_in_the_feed(
    running: ServiceProcess, client: Client
) -> None:
    published(running, client, "edited", artwork="e", stills=8)
    before = shown(client, "edited")
    etag = get(running, "/v1/titles/edited/artwork").headers["etag"]
    since = client.snapshot()
    made = client.edit_artwork("edited", before[0], "ban", "two logos")
    assert (made.edit, made.actor, made.reason) == ("ban", "ingest", "two logos")
    client.edit_artwork("edited", before[5], "pin")
    wanted = [before[5], *before[1:5], *before[6:]]
    assert shown(client, "edited") == wanted
    assert shown(client, "edited", k=2) == wanted[:2]
    assert client.stills("edited").filtered == 1
    whole = client.artwork("edited")
    assert [one.action_id for one in whole.candidates] == before
    assert whole.editors is not None
    assert (whole.editors.banned, whole.editors.pinned) == ([before[0]], [before[5]])
    assert get(running, "/v1/titles/edited/artwork").headers["etag"] != etag
    assert [one.action_id for one in client.artwork_edits("edited")] == [before[0], before[5]]
    row = client.artworks(["edited"], k=3).titles["edited"]
    assert [still.action_id for still in row.candidates] == wanted[:3]
    changes = client.changes(since.sequence, since.epoch).changes
    assert [(one.kind, one.changed) for one in changes] == [("replaced", ["artwork"])] * 2
    poster = client.title("edited").urls
    assert poster is not None
    assert before[5] in str(poster.poster)
    # The title is coded again: its pictures keep their names, and the decisions hold.
    published(running, client, "edited", artwork="e", stills=8, cut=2)
    assert client.title("edited").version == 2
    assert shown(client, "edited") == wanted
    line = client.lift_artwork_edit("edited", before[0])
    assert line.detail["action_id"] == before[0]
    assert shown(client, "edited") == [before[5], *before[:5], *before[6:]]
    actions = [one.action for one in client.audit("edited")]
    assert actions[-3:] == ["artwork pinned", "replaced", "artwork edit lifted"]
    for missing in (lambda: client.edit_artwork("edited", "0" * 16, "ban"),
                    lambda: client.lift_artwork_edit("edited", before[0]),
                    lambda: client.artwork_edits("nobody")):  # fmt: skip
        with pytest.raises(NotThere):
            missing()


def test_a_picture_that_lost_its_name_is_still_banned() -> None:
    pool = [{"action_id": "a" * 16, "perceptual_hash": "00000000000000f0"},
            {"action_id": "b" * 16, "perceptual_hash": "0f0f0f0f00000000"}]  # fmt: skip
    edits = [PictureEdit("c" * 16, "ban", "00000000000000ff")]
    assert edited_of(edits, pool).banned == ("a" * 16,)
    assert edited_of([PictureEdit("c" * 16, "ban", "ffff000000000000")], pool).banned == ()
    both = [PictureEdit("c" * 16, "pin", "00000000000000ff"), *edits]
    assert edited_of(both, pool).pinned == ()


def test_decisions_never_show_what_is_banned_and_keep_to_what_is_pinned(
    running: ServiceProcess, client: Client
) -> None:
    published(running, client, "decided", artwork="d", stills=6)
    names = shown(client, "decided")

    def drawn() -> set[str]:
        return {client.decide("r1", f"v{n}", ["decided"]).decisions[0].action_id for n in range(40)}

    assert len(drawn()) > 3
    first = client.decide("r1", "ann", ["decided"]).decisions[0]
    client.edit_artwork("decided", first.action_id, "ban")
    again = client.decide("r1", "ann", ["decided"]).decisions[0]
    assert again.action_id != first.action_id
    assert first.action_id not in drawn()
    pinned = [name for name in names if name != first.action_id][:2]
    for name in pinned:
        client.edit_artwork("decided", name, "pin")
    assert drawn() == set(pinned)
    assert 0 < client.decide("r1", "bob", ["decided"]).decisions[0].propensity < 1


def test_the_command_line_of_editors(
    running: ServiceProcess, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    published(running, client, "told", artwork="t")
    (name, *_) = shown(client, "told")

    def said(*line: str, status: int = 0) -> str:
        assert main([*line, "--url", running.url, "--token", running.token]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    assert said("artwork", "ban", "told", name, "--reason", "rights") == (
        f"{name} of told is banned\n"
    )
    assert "rights" in said("artwork", "edits", "told")
    assert said("artwork", "pin", "told", name) == f"{name} of told is pinned\n"
    assert said("artwork", "unedit", "told", name).endswith("is neither banned nor pinned\n")
    assert "no picture with the action id" in said("artwork", "pin", "told", "0" * 16, status=2)


def test_nobody_edits_without_a_token(running: ServiceProcess, client: Client) -> None:
    published(running, client, "guarded", artwork="g")
    path = f"/v1/titles/guarded/artwork/edits/{shown(client, 'guarded')[0]}"
    answer = httpx.put(running.url + path, json={"edit": "ban"})
    assert answer.status_code == 401
    assert client.artwork_edits("guarded") == []
    assert "edit" in SCOPES


# -- readers -----------------------------------------------------------------------------------


def test_features_come_with_lists_and_rows(running: ServiceProcess, client: Client) -> None:
    published(running, client, "featured", artwork="f")
    whole = {one.action_id: one for one in client.artwork("featured").candidates}
    listed = client.stills("featured", k=2, fields=["metrics", "embedding"])
    assert listed.external_id == "featured"
    for still in listed.candidates:
        assert still.features == {
            "metrics": {
                name: one.model_dump() for name, one in whole[still.action_id].metrics.items()
            },
            "embedding": whole[still.action_id].embedding,
            "embedding_model": "made-up/1",
        }
    row = client.artworks(["featured"], k=1, fields=["perceptual_hash"]).titles["featured"]
    (still,) = row.candidates
    assert still.features == {"perceptual_hash": whole[still.action_id].perceptual_hash}
    assert client.stills("featured", k=1).candidates[0].features is None
    assert get(running, "/v1/titles/featured/artwork?fields=secrets").status_code == 422


def test_the_export_goes_on_from_a_change_number(running: ServiceProcess, client: Client) -> None:
    start = client.snapshot()
    published(running, client, "out-a", artwork="a", stills=5)
    published(running, client, "out-b", artwork="b", stills=4)
    banned = shown(client, "out-a")[1]
    client.edit_artwork("out-a", banned, "ban")
    path = f"/v1/artwork:export?since={start.sequence}&epoch={start.epoch}"
    first = get(running, f"{path}&limit=1")
    assert first.headers["shotladder-more"] == "true"
    table = pq.read_table(io.BytesIO(first.content))
    assert table["external_id"].unique().to_pylist() == ["out-a"]
    whole = get(running, path)
    assert whole.headers["content-type"] == "application/vnd.apache.parquet"
    table = pq.read_table(io.BytesIO(whole.content))
    facts = json.loads(table.schema.metadata[b"shotladder"])
    assert (facts["more"], facts["gone"]) == (False, [])
    assert table.num_rows == 9
    rows = {(row["external_id"], row["action_id"]): row for row in table.to_pylist()}
    for title in ("out-a", "out-b"):
        for one in client.artwork(title).candidates:
            row = rows[title, one.action_id]
            assert row["banned"] == (one.action_id == banned)
            assert row["embedding"] == pytest.approx(one.embedding)
            assert row["embedding_model"] == "made-up/1"
    client.withdraw("out-b")
    later = get(running, f"/v1/artwork:export?since={facts['next']}&epoch={facts['epoch']}")
    table = pq.read_table(io.BytesIO(later.content))
    assert (table.num_rows, json.loads(table.schema.metadata[b"shotladder"])["gone"]) == (
        0, ["out-b"],
    )  # fmt: skip
    assert get(running, "/v1/artwork:export?since=999999999").status_code == 409


def test_pictures_of_other_titles_that_look_alike(running: ServiceProcess, client: Client) -> None:
    for name, seed in (("like-a", "same"), ("like-b", "same"), ("like-c", "another")):
        published(running, client, name, artwork=seed, cut=name)
    pools = {name: client.artwork(name) for name in ("like-a", "like-b", "like-c")}
    one = pools["like-a"].candidates[2]
    path = f"/v1/artwork:similar?action_id={one.action_id}&title=like-a&k=100"
    found = get(running, path).json()
    nearest = found["similar"][0]
    assert (nearest["title"], nearest["action_id"]) == ("like-b", one.action_id)
    assert (nearest["distance"], nearest["hash_distance"], nearest["duplicate"]) == (0, 0, True)
    other = {
        (name, still.action_id): float(
            np.linalg.norm(np.array(still.embedding) - np.array(one.embedding))
        )
        for name in ("like-b", "like-c")
        for still in pools[name].candidates
    }
    listed = {(each["title"], each["action_id"]): each for each in found["similar"]}
    assert not [each for each in found["similar"] if each["title"] == "like-a"]
    for key, distance in other.items():
        assert listed[key]["distance"] == pytest.approx(distance, abs=1e-3)
    distances = [each["distance"] for each in found["similar"]]
    assert distances == sorted(distances)
    client.edit_artwork("like-b", one.action_id, "ban")
    assert (get(running, path).json()["similar"] or [{"title": ""}])[0]["title"] != "like-b"
    assert get(running, f"/v1/artwork:similar?action_id={'0' * 16}").status_code == 404


def test_the_pictures_of_a_row_are_told_apart(running: ServiceProcess, client: Client) -> None:
    for name in ("row-a", "row-b"):
        published(running, client, name, artwork="row", cut=name)
    plain, apart = (
        httpx.post(
            f"{running.url}/v1/artwork:batch",
            json={"titles": ["row-a", "row-b"], "k": 3, "apart": asked},
        ).json()["titles"]
        for asked in (False, True)
    )
    first = [plain[name]["candidates"][0]["action_id"] for name in ("row-a", "row-b")]
    assert first[0] == first[1]
    told = [[one["action_id"] for one in apart[name]["candidates"]] for name in ("row-a", "row-b")]
    assert told[0][0] == first[0]
    assert told[1][0] != first[0]
    assert len(told[1]) == 3
    assert "features" not in apart["row-b"]["candidates"][0]


def test_avif_is_made_when_it_is_asked_for(
    running: ServiceProcess, client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "package"
    write_package(folder, "avif", artwork="v")
    (picture, *_) = sorted((folder / "artwork").glob("*/16x9-600.jpg"))
    soft = cv2.GaussianBlur(natural(3, (320, 180)), (0, 0), 3)
    coded, content = cv2.imencode(".jpg", soft)
    assert coded
    picture.write_bytes(content.tobytes())
    package = published(running, client, "modern", package=str(folder))
    path = f"/v1/packages/{package}/{picture.relative_to(folder).with_suffix('.avif').as_posix()}"
    answer = get(running, path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/avif")
    assert answer.content == avif(content.tobytes())
    assert len(answer.content) < len(content)
    with Image.open(io.BytesIO(answer.content)) as decoded:
        pixels = np.asarray(decoded.convert("RGB"))[..., ::-1].astype(int)
    assert np.abs(pixels - soft).mean() < 4
    assert get(running, path.replace("16x9-600", "16x9-999")).status_code == 404
    assert get(running, f"/v1/packages/{package}/artwork/../ladder.avif").status_code == 404
