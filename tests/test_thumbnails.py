"""Thumbnails in HLS and DASH: the tiles of the scrub track, as players find them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mpegdash.parser import MPEGDASHParser

from cluster.package.artwork_files import thumbnails_in
from encoder.errors import VerificationFailed
from encoder.package.thumbnail_check import check_thumbnails
from encoder.package.verify import verify_package
from encoder.package.write import write_package
from encoder.pictures import jpeg
from recommender.artwork.build import build_scrub
from recommender.artwork.document import ArtworkTitle
from recommender.artwork.scrub import COLUMNS, ROWS, ScrubTrack
from tests.package_media import title

RATE = Fraction(24000, 1001)
SHOTS = ((0, 30), (30, 77), (77, 117))
STEP = 1
TILE = (16, 10)


def packaged(folder: Path, step: int = STEP, shots: Any = SHOTS) -> tuple[Path, Any]:
    """A package of 117 frames with a thumbnail every ``step`` frames, each of its own grey."""
    media, expected = title(shots, {90: (30,) * len(shots)}, frame_rate=RATE)
    frames = shots[-1][1]
    count = -(-frames // step)
    sheets = []
    for first in range(0, count, COLUMNS * ROWS):
        inside = min(count - first, COLUMNS * ROWS)
        sheet = np.zeros((-(-inside // COLUMNS) * TILE[1], COLUMNS * TILE[0], 3), np.uint8)
        for number in range(inside):
            row, column = divmod(number, COLUMNS)
            sheet[row * TILE[1] : (row + 1) * TILE[1], column * TILE[0] :][:, : TILE[0]] = 2 * (
                first + number
            )
        sheets.append(jpeg(sheet, 90))
    track = ScrubTrack(step, count, *TILE, tuple(sheets))
    facts = ArtworkTitle(
        id="0" * 16,
        source="t.mp4",
        sha256="0" * 64,
        width=160,
        height=90,
        frame_rate=f"{RATE.numerator}/{RATE.denominator}",
        frames=frames,
    )
    scrub, files = build_scrub(track, facts)
    thumbnails = thumbnails_in(scrub, facts, [len(files[uri]) for uri in scrub.sheets])
    write_package(type(media)(RATE, media.shots, media.renditions, thumbnails=thumbnails), folder)
    for uri, content in files.items():
        (folder / uri).write_bytes(content)
    return folder, expected


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return packaged(tmp_path_factory.mktemp("thumbnails") / "package")


def test_a_package_declares_the_sheets_of_its_scrub_track(package: tuple[Path, Any]) -> None:
    folder, expected = package
    verify_package(folder, RATE, expected)
    master = (folder / "master.m3u8").read_text().splitlines()
    assert master[-1].startswith("#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=")
    assert 'RESOLUTION=16x10,CODECS="jpeg",URI="artwork/thumbnails.m3u8"' in master[-1]
    listed = (folder / "artwork/thumbnails.m3u8").read_text().splitlines()
    assert "#EXT-X-IMAGES-ONLY" in listed
    assert listed[-7:] == [
        "#EXTINF:4.170833,",
        "#EXT-X-TILES:RESOLUTION=16x10,LAYOUT=10x10,DURATION=0.041708",
        "scrub-000.jpg",
        "#EXTINF:0.709042,",
        "#EXT-X-TILES:RESOLUTION=16x10,LAYOUT=10x2,DURATION=0.041708",
        "scrub-001.jpg",
        "#EXT-X-ENDLIST",
    ]
    read = MPEGDASHParser.parse(str(folder / "manifest.mpd"))
    images = read.periods[0].adaptation_sets[-1]
    assert (images.content_type, images.mime_type) == ("image", "image/jpeg")
    (template,) = images.segment_templates
    assert Fraction(template.duration, template.timescale) == 100 / RATE
    (track,) = images.representations
    (tiles,) = track.essential_properties
    assert tiles.scheme_id_uri == "http://dashif.org/guidelines/thumbnail_tile"
    assert (tiles.value, track.width, track.height) == ("10x10", 160, 100)


def test_every_thumbnail_is_found_as_a_dash_player_finds_it(package: tuple[Path, Any]) -> None:
    """The picture at the middle of every frame's time has the grey of that frame."""
    folder, _ = package
    read = MPEGDASHParser.parse(str(folder / "manifest.mpd"))
    images = read.periods[0].adaptation_sets[-1]
    (template,), (track,) = images.segment_templates, images.representations
    columns, rows = map(int, track.essential_properties[0].value.split("x"))
    width, height = track.width // columns, track.height // rows
    lasts = Fraction(template.duration, template.timescale)
    for frame in range(SHOTS[-1][1]):
        time = (frame + Fraction(1, 2)) / RATE
        number = int(time / lasts)
        place = int((time - number * lasts) / (lasts / (columns * rows)))
        row, column = divmod(place, columns)
        uri = template.media.replace("$Number%03d$", f"{number:03d}")
        sheet = cv2.imread(str(folder / uri))
        assert sheet is not None
        tile = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert abs(float(np.median(tile)) - 2 * frame) <= 3


def test_a_title_of_one_sheet_has_as_many_rows_as_it_needs(tmp_path: Path) -> None:
    folder, expected = packaged(tmp_path / "short", step=7)
    verify_package(folder, RATE, expected)
    assert 'value="10x2"' in (folder / "manifest.mpd").read_text()


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("master.m3u8", "#EXT-X-IMAGE-STREAM-INF", "#EXT-X-NO", "HLS has 0 tracks"),
        ("master.m3u8", "RESOLUTION=16x10", "RESOLUTION=16x9", "has tiles of 16x10"),
        ("artwork/thumbnails.m3u8", "LAYOUT=10x2", "LAYOUT=10x3", "160x20 pixels, its tiles"),
        ("artwork/thumbnails.m3u8", "#EXTINF:0.709042", "#EXTINF:0.809042", "lasts 4.9798"),
        ("artwork/thumbnails.m3u8", "0.041708", "0.081708", "tiles of 0.082 s"),
        ("artwork/thumbnails.m3u8", "scrub-001.jpg", "scrub-000.jpg", "thumbnails"),
        ("manifest.mpd", 'value="10x10"', 'value="9x10"', "DASH divides"),
        ("manifest.mpd", "%03d$.jpg", "%04d$.jpg", "is missing"),
        ("manifest.mpd", 'height="100"', 'height="200"', "160x100 pixels, DASH says"),
    ],
)
def test_what_is_declared_wrong_is_found(
    package: tuple[Path, Any], name: str, old: str, new: str, said: str
) -> None:
    folder, expected = package
    texts = {each: (folder / each).read_text() for each in ("master.m3u8", "manifest.mpd", name)}
    assert old in texts[name]
    path, text = folder / name, texts[name]
    try:
        path.write_text(text.replace(old, new))
        with pytest.raises(VerificationFailed, match=said):
            verify_package(folder, RATE, expected)
    finally:
        path.write_text(text)


def test_a_package_from_before_there_were_thumbnails_has_none_to_check(tmp_path: Path) -> None:
    media, expected = title(SHOTS, {90: (30, 30, 30)}, frame_rate=RATE)
    write_package(media, tmp_path / "old")
    verify_package(tmp_path / "old", RATE, expected)
    texts = [(tmp_path / "old" / name).read_text() for name in ("master.m3u8", "manifest.mpd")]
    assert not check_thumbnails(*texts, lambda uri: b"", Fraction(1))
