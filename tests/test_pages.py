"""The report and the player in real browsers: no errors, no network, any width, right frames."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from cluster import report
from tests import playback_material as material
from tests.cli_material import MODEL, hand_made, hand_made_measurements
from tests.playback_material import FRAMES, RATE, RUNGS, SHOTS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BROWSERS = pytest.mark.parametrize("browser", list(material.BROWSERS))
PAGES = {
    "/pages.html": material.HERE / "browser" / "pages.html",
    "/player.html": Path(report.__file__).parent / "player.html",
}


def needs(browser: str) -> None:
    if material.find_browser(browser) is None:
        why = f"PAGES NOT PROVEN: {browser} is not installed: `make browsers` installs it"
        if os.environ.get("SHOTLADDER_BROWSERS"):
            pytest.fail(why)
        warnings.warn(why, stacklevel=1)
        pytest.skip(why)


@BROWSERS
def test_the_report_is_drawn_at_any_width_and_reached_by_keys(browser: str, tmp_path: Path) -> None:
    needs(browser)
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    made = report.write_report(report.ReportOptions(tmp_path), lambda event: None)
    places = {**PAGES, "/report.html": made}
    with material.serving(tmp_path, made, places) as server:
        seen = material.visit(browser, server, "/pages.html?page=report")
    assert seen["errors"] == []
    assert seen["resources"] == []  # it needs nothing but itself
    assert seen["widths"] == {"390": 390, "1280": 1280} or all(
        width <= int(name) for name, width in seen["widths"].items()
    )
    assert seen["nameless"] == 0
    assert {"overview", "curves", "timeline", "shots", "baselines", "artwork"} <= {
        *seen["sections"]
    }
    assert seen["selected"].startswith("Shot 0")
    assert MODEL in seen["tip"]
    assert seen["first"] == "0"  # sorted by shot, after a press on that head


def ladder_of(package: Path) -> dict[str, Any]:
    """As much of a ladder.json as the player reads."""
    rungs = []
    for width, height in RUNGS:
        folder = f"video/v{height}"
        segments = [
            {
                "shot": number, "start_frame": start, "end_frame": end, "width": width,
                "height": height, "crf": 20, "quality": {MODEL: 90.0},
                "uri": f"{folder}/{number:05d}.m4s",
                "bytes": (package / folder / f"{number:05d}.m4s").stat().st_size,
            }
            for number, (start, end) in enumerate(SHOTS)
        ]  # fmt: skip
        total = sum(segment["bytes"] for segment in segments)
        playlist = (package / "master.m3u8").read_text()
        codecs = playlist.split('CODECS="')[1].split(",")[0].split('"')[0]
        rungs.append(
            {
                "name": f"v{height}", "codecs": codecs, "init_uri": f"{folder}/init.mp4",
                "bitrate": 8 * total * float(RATE) / FRAMES, "quality": {MODEL: {"mean": 90.0}},
                "segments": segments,
            }
        )  # fmt: skip
    rate = f"{RATE.numerator}/{RATE.denominator}"
    title = {"source": "clip.mp4", "frame_rate": rate, "frames": FRAMES, "audio": True}
    return {"title": title, "quality_model": MODEL, "rungs": rungs}


@BROWSERS
def test_the_player_shows_the_first_frame_of_every_shot_and_plays_to_the_end(
    browser: str, tmp_path: Path
) -> None:
    needs(browser)
    clip = material.make_clip(tmp_path / "clip.mp4")
    package = material.make_package(clip, tmp_path / "package")
    (package / "ladder.json").write_text(json.dumps(ladder_of(package)))
    with material.serving(package, clip, PAGES) as server, material.sound():
        seen = material.visit(browser, server, "/pages.html?page=player")
    assert seen["errors"] == []
    assert seen["failed"] == ""
    assert [shown for _, shown in seen["seeks"]] == [start for start, _ in SHOTS]
    assert seen["ended_at"] == pytest.approx(FRAMES / float(RATE), abs=1 / float(RATE))
    assert "kbit/s" in seen["said"]
