"""The artwork stage and its commands, on real titles: files, store, repeated deliveries."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.execution.executor import InlineExecutor
from cluster.package.artwork_files import previous_artwork, write_artwork
from cluster.package.contact_sheet import write_sheet
from cluster.stages import analysis, first_pass
from cluster.stages.analysis import find_title
from cluster.stages.artwork import ArtworkWork, artwork_key, find_artwork, make_artwork
from cluster.stages.quarantine import reading
from cluster.stages.title import Title, open_title
from cluster.store import Store
from encoder import ffmpeg
from encoder.errors import BadInput
from recommender.artwork.crops import ASPECTS, Box
from recommender.artwork.document import ACTIONS_URI, Artwork, Candidate
from recommender.artwork.faces import models_sha256
from recommender.artwork.stills import MEASURES
from tests.artwork_material import make_title, scene
from tests.artwork_measures import encode, encode_again
from tests.cli_material import called
from tests.faces_drawn import draw_face


@dataclass(frozen=True)
class Made:
    source: Path
    out: Path
    store: Path
    artwork: Artwork


def deliver(source: Path, out: Path, store: Path) -> Artwork:
    kept = Store(store)
    with kept.scratch() as workdir:
        opened = open_title(source, workdir)
        with reading(kept, opened) as seen:
            title = find_title(source, opened, seen, InlineExecutor(), lambda event: None)
            record = find_artwork(title, seen, InlineExecutor(), lambda event: None)
        previous = previous_artwork(out)
        out.mkdir(exist_ok=True)
        return write_artwork(record, kept, out, previous)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("artwork")
    source = make_title(folder / "title.mp4", range(4))
    out, store = folder / "out", folder / "store"
    return Made(source, out, store, deliver(source, out, store))


def pictures(made: Made) -> Iterator[tuple[Candidate, str, Path]]:
    for one in made.artwork.candidates:
        for crop in one.crops:
            for rendition in crop.renditions:
                yield one, crop.aspect, made.out / rendition.uri


def test_a_pool_lies_in_the_folder_as_its_document_says(made: Made) -> None:
    found = made.artwork
    assert json.loads((made.out / "artwork.json").read_text()) == json.loads(found.to_json())
    assert len(found.candidates) >= 4
    assert [one.rank for one in found.candidates] == list(range(len(found.candidates)))
    assert {one.shot for one in found.candidates} == {0, 1, 2, 3}
    for one in found.candidates:
        assert one.time_seconds == pytest.approx(one.frame / 12, abs=1e-6)
        assert [crop.aspect for crop in one.crops] == list(ASPECTS)
        assert set(one.metrics) == set(MEASURES)
        assert one.maturity is one.rights is None
        assert (one.faces, one.people, one.shot_scale, one.appeal) == ([], 0, None, 0)
        assert one.spoiler_zone == (one.frame >= 0.8 * 96)
        assert one.action_id == one.id
        for crop in one.crops:
            area = crop.area
            assert 0 <= area.x <= area.x + area.width <= 320
            assert 0 <= area.y <= area.y + area.height <= 180
            assert {r.format for r in crop.renditions} == {"webp", "jpeg"}
            for rendition in crop.renditions:
                content = (made.out / rendition.uri).read_bytes()
                assert len(content) == rendition.bytes
                assert hashlib.sha256(content).hexdigest() == rendition.sha256
                kind = b"RIFF" if rendition.format == "webp" else b"\xff\xd8\xff"
                assert content.startswith(kind)
                picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
                assert picture is not None
                assert picture.shape == (rendition.height, rendition.width, 3)
                assert rendition.width <= area.width
                assert rendition.height <= area.height
    named = {made.out / r.uri for one in found.candidates for c in one.crops for r in c.renditions}
    others = {found.actions_uri, found.scrub.uri, *found.scrub.sheets}
    lying = {path for path in (made.out / "artwork").rglob("*") if path.is_file()}
    assert lying == named | {made.out / uri for uri in others}


def test_renditions_show_the_frame_that_is_named(made: Made) -> None:
    """Each 16:9 picture is nearest to the frame of its number, among all frames of the title."""
    folder = made.out.parent / "frames"
    folder.mkdir()
    arguments = ["-v", "error", "-i", made.source, "-fps_mode", "passthrough", "-start_number", 0]
    ffmpeg.run(ffmpeg.Command.of([*arguments, folder / "%d.png"]))
    frames = [cv2.imread(str(folder / f"{number}.png")).astype(np.int16) for number in range(96)]
    for one in made.artwork.candidates:
        crop = next(crop for crop in one.crops if crop.aspect == "16:9")
        jpeg = next(r for r in crop.renditions if r.format == "jpeg")
        shown = cv2.imread(str(made.out / jpeg.uri)).astype(np.int16)
        area = Box(**crop.area.model_dump())
        far = [float(np.abs(shown - area.of(frame)).mean()) for frame in frames]
        assert int(np.argmin(far)) == one.frame
        assert far[one.frame] < 8  # hard edges of colour, enlarged in two ways


def test_the_table_of_actions_has_the_documents_numbers(made: Made) -> None:
    table = pq.read_table(io.BytesIO((made.out / ACTIONS_URI).read_bytes()))
    rows = table.to_pylist()
    facts = json.loads(table.schema.metadata[b"shotladder"])
    assert facts["embedding_model"] == made.artwork.embedding_model
    for row, one in zip(rows, made.artwork.candidates, strict=True):
        assert (row["action_id"], row["candidate_id"]) == (one.action_id, one.id)
        assert (row["pool"], row["rank"], row["frame"]) == (made.artwork.pool, one.rank, one.frame)
        assert row["faces"] == 0
        assert row["embedding"] == pytest.approx(one.embedding, abs=1e-6)
        assert row["percentile_sharpness"] == pytest.approx(one.metrics["sharpness"].percentile)


def test_the_scrub_track_points_into_its_sheets(made: Made) -> None:
    scrub = made.artwork.scrub
    text = (made.out / scrub.uri).read_text()
    cues = re.findall(r"(\S+) --> (\S+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)", text)
    assert len(cues) == 8  # one a second
    for number, (start, end, name, *area) in enumerate(cues):
        assert (start, end) == (f"00:00:0{number}.000", f"00:00:0{number + 1}.000")
        x, y, width, height = map(int, area)
        sheet = cv2.imread(str((made.out / scrub.uri).with_name(name)))
        tile = sheet[y : y + height, x : x + width]
        assert tile.shape[:2] == (scrub.height, scrub.width)
        assert tile.std() > 5


# -- the store ---------------------------------------------------------------------------------


def test_a_title_is_decoded_once_for_shots_features_and_stills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_title(tmp_path / "title.mp4", range(2))
    decodes = []
    decode = first_pass.small_frames

    def counted(*given: Any, **options: Any) -> Any:
        decodes.append(given)
        return decode(*given, **options)

    monkeypatch.setattr(first_pass, "small_frames", counted)
    store = tmp_path / "store"
    deliver(source, tmp_path / "out", store)
    kept = Store(store)
    with kept.scratch() as workdir:
        opened = open_title(source, workdir)
        analysis.find_features(opened, str(store))
        assert len(decodes) == 1
        # Shots of an older release: stills are found by a decode of their own, and all agree.
        before = kept.get(analysis.shots_key(opened))
        next((store / "records").rglob(f"{analysis.stills_key(opened)}*")).unlink()
        analysis.find_stills(opened, str(store))
        assert len(decodes) == 2
        assert kept.get(analysis.shots_key(opened)) == before


def test_again_nothing_is_made_and_damage_is_repaired(made: Made, tmp_path: Path) -> None:
    kept = Store(made.store)
    with kept.scratch() as workdir:
        opened = open_title(made.source, workdir)
        found = find_title(made.source, opened, kept, InlineExecutor(), lambda event: None)
        work = ArtworkWork(Title(made.source.name, opened, found.shots), str(made.store))
        record = kept.get(artwork_key(work))
        assert record is not None
        before = ffmpeg.children_cpu_seconds()
        make_artwork(work)
        assert ffmpeg.children_cpu_seconds() == before
        blob = next(iter(record.blobs.values()))
        kept.path(blob).write_bytes(b"damaged")
        again = deliver(made.source, tmp_path / "again", made.store)
    assert again == made.artwork
    for path in (made.out / "artwork").rglob("*.*"):
        other = tmp_path / "again" / path.relative_to(made.out)
        assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("threads", [1, 4])
def test_every_run_gives_the_same_bytes(made: Made, tmp_path: Path, threads: int) -> None:
    """Another run, in a store of its own, with one thread or several."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(threads)
        assert deliver(made.source, tmp_path / "out", tmp_path / "store") == made.artwork
    finally:
        cv2.setNumThreads(before)
    for path in (made.out / "artwork").rglob("*.*"):
        other = tmp_path / "out" / path.relative_to(made.out)
        assert other.read_bytes() == path.read_bytes()


# -- delivered again ---------------------------------------------------------------------------


def test_the_same_title_again_changes_nothing(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    deliver(made.source, out, made.store)
    first = (out / "artwork.json").read_bytes()
    deliver(made.source, out, made.store)
    assert (out / "artwork.json").read_bytes() == first


def test_a_title_coded_anew_keeps_its_actions(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = deliver(made.source, out, made.store)
    encode_again(made.source, tmp_path / "anew.mp4", crf=22)
    new = deliver(tmp_path / "anew.mp4", out, made.store)
    assert new.pool != old.pool
    assert new.replaces is not None
    assert new.replaces.pool == old.pool
    kept = {one.action_id for one in new.candidates} & {one.action_id for one in old.candidates}
    assert len(kept) >= 0.8 * len(old.candidates)
    assert not {one.id for one in new.candidates} & {one.id for one in old.candidates}
    assert len({one.action_id for one in new.candidates}) == len(new.candidates)


def test_bars_are_in_no_crop(tmp_path: Path) -> None:
    frames = [picture.copy() for seed in range(3) for picture in scene(seed, 24)]
    for picture in frames:
        picture[:24] = picture[-24:] = 0
    encode(frames, Fraction(12), tmp_path / "wide.mp4", crf=12)
    found = deliver(tmp_path / "wide.mp4", tmp_path / "out", tmp_path / "store")
    area = found.picture
    assert 24 <= area.y <= 28
    assert 124 <= area.height <= 132
    for one in found.candidates:
        for crop in one.crops:
            assert area.y <= crop.area.y
            assert crop.area.y + crop.area.height <= area.y + area.height


def test_people_are_listed_and_kept_in_crops(tmp_path: Path) -> None:
    """Somebody on the right, then somebody on the left, then nobody; a face too tall for 21:9."""
    frames = scene(1, 24) + scene(2, 24) + scene(3, 24)
    places = {0: (250, 70, 60), 1: (60, 100, 130)}
    for number in range(48):
        x, y, height = places[number // 24]
        frames[number] = draw_face(frames[number], (x, y), height)
    encode(frames, Fraction(12), tmp_path / "people.mp4", crf=10)
    found = deliver(tmp_path / "people.mp4", tmp_path / "out", tmp_path / "store")
    assert found.face_model == models_sha256()[:16]
    assert found.candidates[0].people == 1
    assert {one.people for one in found.candidates} == {0, 1}
    for one in found.candidates:
        assert one.faces is not None
        assert len(one.faces) == one.people
        if one.frame >= 48:
            assert (one.people, one.shot_scale, one.appeal) == (0, None, 0)
            continue
        x, y, height = places[one.frame // 24]
        (face,) = one.faces
        assert one.shot_scale == "close-up"
        assert face.eyes_open is not None
        assert face.eyes_open > 0.8
        assert 320 * (face.x + face.width / 2) == pytest.approx(x, abs=10)
        assert 180 * face.height == pytest.approx(height, rel=0.25)
        for crop in one.crops:
            inside = (
                crop.area.x <= 320 * face.x + 1
                and 320 * (face.x + face.width) - 1 <= crop.area.x + crop.area.width
                and crop.area.y <= 180 * face.y + 1
                and 180 * (face.y + face.height) - 1 <= crop.area.y + crop.area.height
            )
            assert crop.keeps_faces is crop.usable is inside
            assert bool(crop.renditions) is crop.usable
            assert (crop.rank is None) is not crop.usable
    for aspect in ASPECTS:
        ranks = [c.rank for one in found.candidates for c in one.crops if c.aspect == aspect]
        assert sorted(rank for rank in ranks if rank is not None) == list(
            range(sum(rank is not None for rank in ranks))
        )
    row = pq.read_table(tmp_path / "out" / ACTIONS_URI).to_pylist()[0]
    assert (row["faces"], row["shot_scale"]) == (1, "close-up")
    assert row["eyes_open"] > 0.8


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_shortest_titles_have_a_picture(frames: int, tmp_path: Path) -> None:
    encode(scene(1, frames), Fraction(12), tmp_path / "short.mp4", crf=12)
    found = deliver(tmp_path / "short.mp4", tmp_path / "out", tmp_path / "store")
    assert len(found.candidates) == 1


def test_a_black_title_has_a_picture_and_says_what_it_thinks_of_it(tmp_path: Path) -> None:
    blank = np.zeros((90, 160, 3), np.uint8)
    encode([blank] * 12, Fraction(12), tmp_path / "black.mp4", crf=12)
    found = deliver(tmp_path / "black.mp4", tmp_path / "out", tmp_path / "store")
    assert [one.flags for one in found.candidates]
    assert "black" in found.candidates[0].flags


# -- the commands ------------------------------------------------------------------------------


def test_artwork_list_and_sheet(made: Made, tmp_path: Path) -> None:
    told = called("artwork", "list", made.out, "--json")
    assert told.returncode == 0, told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["type"] for line in lines] == [
        "artwork",
        *["candidate"] * len(made.artwork.candidates),
        "done",
    ]
    assert lines[1]["id"] == made.artwork.candidates[0].id
    few = called("artwork", "list", made.out, "--aspect", "2:3", "--k", 2, "--json")
    chosen = [json.loads(line) for line in few.stdout.splitlines()][1:-1]
    assert len(chosen) == 2
    assert [[crop["aspect"] for crop in one["crops"]] for one in chosen] == [["2:3"]] * 2
    table = called("artwork", "list", made.out).stdout
    assert all(one.action_id in table for one in made.artwork.candidates)
    assert max(map(len, table.splitlines())) <= 80
    drawn = called("artwork", "sheet", made.out, "--out", tmp_path / "sheet.png")
    assert drawn.returncode == 0, drawn.stderr
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > 300
    wrong = called("artwork", "list", made.out, "--aspect", "5:4")
    assert wrong.returncode == 2
    assert "choose one of" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_sheets_go_where_they_may(made: Made, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lies in"):
        write_sheet(made.out, made.out / "sheet.png", "16:9")
    with pytest.raises(BadInput, match=r"neither \.png"):
        write_sheet(made.out, tmp_path / "sheet.gif", "16:9")
    with pytest.raises(BadInput, match="is no directory"):
        write_sheet(tmp_path / "none", tmp_path / "sheet.png", "16:9")
    assert write_sheet(made.out, tmp_path / "tall.jpg", "2:3") == len(made.artwork.candidates)
