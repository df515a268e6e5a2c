"""The report's page: what is in it, that it needs nothing else, and that a browser draws it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cluster import events
from cluster.cli import main
from cluster.package import report
from cluster.package.comparison import CodecComparison, compare_codecs, save_comparison
from cluster.package.package import Package
from encoder import review
from encoder.errors import FrameMismatch
from encoder.pictures import fitted, jpeg, segment_picture, sheet
from tests.cli_material import (
    MODEL,
    hand_made,
    hand_made_comparison,
    hand_made_measurements,
    of_three_codecs,
)
from tests.package_media import encode


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    return tmp_path


def data_of(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_page_holds_the_ladder_and_asks_for_nothing(package: Path) -> None:
    assert main(["report", str(package)]) == 0
    page = (package / "report.html").read_text("utf-8")
    data = data_of(page)
    assert len(data["shots"]) == 3  # type: ignore[arg-type]
    assert len(data["rungs"]) == len(data["segments"]) == 3  # type: ignore[arg-type]
    assert data["thumbnails"] is None  # no media in this package
    assert data["comparison"] is None
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:""", page)
    assert "@DATA@" not in page


def test_the_page_knows_which_models_are_in_decibels(tmp_path: Path) -> None:
    made = hand_made()
    rungs = [
        rung.model_copy(update={"quality": {**rung.quality, "xpsnr": rung.quality[MODEL]}})
        for rung in made.rungs
    ]
    (tmp_path / "ladder.json").write_text(made.model_copy(update={"rungs": rungs}).to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    assert main(["report", str(tmp_path)]) == 0
    facts = data_of((tmp_path / "report.html").read_text("utf-8"))["facts"]
    assert facts["decibels"] == ["xpsnr"]  # type: ignore[index]


def test_a_title_cannot_write_into_the_page() -> None:
    evil = "</script><script>alert(1)</script>"
    made = report.render({"title": {"source": evil}, "note": "\u2028"})
    assert evil not in made
    assert data_of(made)["title"] == {"source": evil}


def test_a_saved_comparison_is_on_the_page(package: Path) -> None:
    claims = [
        {"codec": "x264", "quality_model": model, "against_fixed": {"percent": percent}}
        for model, percent in ((MODEL, -12.5), ("xpsnr", -11.0))
    ]
    save_comparison(package, hand_made_comparison(), claims, "0123456789abcdef")
    seen: list[events.Event] = []
    data = report.collect(Package.open(package), seen.append, frames=False)
    assert data["comparison"]["claims"] == claims
    assert data["comparison"]["least"]["x264"]["against_fixed"] == -11.0
    assert data["comparison"]["least"]["x264"]["against_per_title"] is None
    ladders = {ladder["name"]: ladder for ladder in data["comparison"]["ladders"]}
    assert ladders["fixed"]["recipe"] == "x264-medium"
    assert ladders["fixed"]["rungs"][0][:2] == ["360p 145k", 145_000]


def test_codecs_are_compared_on_the_page(package: Path) -> None:
    """The page shows what the run measured, or the saved comparison once there is one."""

    def shown() -> object:
        ladder = Package.open(package)
        return report.collect(ladder, lambda event: None, frames=False)["codecs"]

    assert shown() == []
    ladder = of_three_codecs(hand_made())
    (package / "ladder.json").write_text(ladder.to_json())
    of_the_run = [
        {"anchor": ladder.recipe, "test": "svtav1-medium", "percent": -37.1},
        {"anchor": ladder.recipe, "test": "vp9-medium", "percent": None},
    ]
    assert shown() == of_the_run
    more = CodecComparison(ladder.recipe, "x265-slow", -20.0)
    found = (*compare_codecs(Package.open(package)), more)
    compared = replace(hand_made_comparison(), codecs=found)
    assert save_comparison(package, compared, [], ladder.title.id)
    assert shown() == [*of_the_run, asdict(more)]


def test_bytes_of_a_start_are_summed(package: Path) -> None:
    """Shots begin at 0, 2 and 4.5 s: 2 s need one segment, 4 s two, 8 s all three."""
    start = report.start_bytes(Package.open(package))
    assert start["rungs"][0] == [[30_000, 1], [75_500, 2], [84_500, 3], [84_500, 3]]


def test_artwork_is_shown_where_there_is_any(package: Path) -> None:
    assert report.artwork(package) is None
    (package / "artwork").mkdir()
    (package / "artwork" / "a.jpg").write_bytes(b"jpeg")
    crop = {"renditions": [{"uri": "artwork/a.jpg", "bytes": 4, "format": "jpeg"}]}
    outside = {"renditions": [{"uri": "../secret.jpg", "bytes": 4, "format": "jpeg"}]}
    (package.parent / "secret.jpg").write_bytes(b"secret")
    document = {"candidates": [{"rank": 2, "crops": [outside]}, {"rank": 1, "crops": [crop]}]}
    (package / "artwork.json").write_text(json.dumps(document))
    found = report.artwork(package)
    assert found is not None
    assert [one["rank"] for one in found["candidates"]] == [1, 2]
    assert found["candidates"][0]["image"] == "data:image/jpeg;base64,anBlZw=="
    assert found["candidates"][1]["image"] is None


# -- pictures and sound ------------------------------------------------------------------------


def test_a_frame_of_a_segment_is_that_frame() -> None:
    init, media, _ = encode(0, 12, 20, height=180)
    first, last = (segment_picture(init, media, n) for n in (0, 11))
    assert first.shape == (180, 320, 3)
    assert (first != last).any()
    with pytest.raises(FrameMismatch, match="no frame 12"):
        segment_picture(init, media, 12)


def test_a_sheet_has_its_pictures_in_rows() -> None:
    init, media, _ = encode(0, 12, 20, height=180)
    small = [fitted(segment_picture(init, media, n), 32, 18) for n in range(3)]
    whole = sheet(small, 2)
    assert whole.shape == (36, 64, 3)
    assert (whole[18:, :32] == small[2]).all()
    assert not whole[18:, 32:].any()
    assert jpeg(whole)[:2] == b"\xff\xd8"


EBUR128 = """[Parsed_ebur128_0 @ 0x1] Summary:

  Integrated loudness:
    I:         -23.1 LUFS
    Threshold: -33.4 LUFS

  Loudness range:
    LRA:         4.2 LU
    Threshold: -43.3 LUFS
    LRA low:   -26.0 LUFS
    LRA high:  -21.8 LUFS

  True peak:
    Peak:       -1.4 dBFS
"""


def test_loudness_is_read_from_the_summary() -> None:
    assert review.parse_loudness(EBUR128) == review.Loudness(-23.1, 4.2, -1.4)
    silent = EBUR128.replace("-23.1", "-70.0").replace("-1.4", "-inf")
    assert review.parse_loudness(silent) == review.Loudness(None, 4.2, None)


def test_stretches_pair_and_the_last_ends_with_the_title() -> None:
    said = (
        "frame:0 pts:0 pts_time:0\nlavfi.black_start=0\nlavfi.black_end=0.5\n"
        "lavfi.freezedetect.freeze_start=1.5\nlavfi.freezedetect.freeze_duration=1\n"
        "lavfi.freezedetect.freeze_end=2.5\nlavfi.freezedetect.freeze_start=3\n"
    )
    assert review.parse_stretches(said, 4.0) == (
        review.Stretch("black", 0.0, 0.5),
        review.Stretch("frozen", 1.5, 2.5),
        review.Stretch("frozen", 3.0, 4.0),
    )


def test_a_black_and_a_frozen_stretch_are_found(tmp_path: Path) -> None:
    """1 s of black, 1 s that moves, 1 s of a still picture, with a tone of -20 dB."""
    from encoder.ffmpeg import Command, run

    graph = (
        "color=black:s=160x90:r=24:d=1[a];testsrc2=s=160x90:r=24:d=1[b];"
        "testsrc2=s=160x90:r=24:d=0.04,loop=23:1,trim=end_frame=24[c];[a][b][c]concat=n=3[v]"
    )
    clip = tmp_path / "clip.mp4"
    run(
        Command.of(
            [
                *("-v", "error", "-filter_complex", graph, "-f", "lavfi", "-i"),
                *("sine=d=3:f=1000", "-map", "[v]", "-map", "0:a", "-c:a", "aac"),
                *("-c:v", "libx264", "-preset", "ultrafast", clip),
            ]
        )
    )
    found = {one.kind: (one.start, one.end) for one in review.stretches(clip, 72, 3.0)}
    assert found["black"] == pytest.approx((0, 1), abs=0.05)
    assert found["frozen"][1] == pytest.approx(3, abs=0.05)
    heard = review.loudness(clip, 72)
    assert heard.integrated is not None
    assert -30 < heard.integrated < -15
