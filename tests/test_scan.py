from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from encoder.errors import SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.source.planning import plan_source
from encoder.source.probing.probe import probe
from encoder.source.scan import correction
from encoder.source.scan.correction import ScanCounts, corrected, suspicious

ZOOM = "mandelbrot=size={size}:rate={rate}:start_scale=0.8:end_scale=0.05:end_pts=120"
FIELDS = ("-flags", "+ildct+ilme")
LOSSLESS = ("-c:v", "ffv1", "-g", "10")


def clip(path: Path, rate: str, filters: str, *options: str, size: str = "320x240") -> Path:
    graph = ZOOM.format(size=size, rate=rate) + filters
    run(
        Command.of(["-v", "error", "-y", "-f", "lavfi", "-i", graph, *options, path]),
        timeout_seconds=120,
    )
    return path


def test_telecine_is_refused_with_the_way_out(tmp_path: Path):
    film = clip(tmp_path / "film.mkv", "24000/1001", ",telecine", "-t", "2", *LOSSLESS, *FIELDS)
    with pytest.raises(SourceUnusable, match=r"telecine.*fieldmatch.*decimate") as caught:
        plan_source(film, tmp_path)
    assert "\n" not in caught.value.message


def test_the_same_film_without_pulldown_is_taken(tmp_path: Path):
    film = clip(tmp_path / "film.mkv", "30000/1001", "", "-t", "2", *LOSSLESS)
    assert not plan_source(film, tmp_path).info.interlaced


def test_interlaced_video_at_the_same_rate_is_deinterlaced(tmp_path: Path):
    video = clip(
        tmp_path / "video.mkv", "60000/1001", ",tinterlace=4", "-t", "1", *LOSSLESS, *FIELDS
    )
    assert plan_source(video, tmp_path).info.interlaced


def test_interlaced_video_without_flags_is_found_by_its_pictures(tmp_path: Path):
    video = clip(
        tmp_path / "video.mkv",
        "50",
        ",tinterlace=4,setparams=field_mode=prog",
        *("-t", "1.2", "-c:v", "ffv1", "-g", "5"),
        size="720x576",
    )
    assert not probe(video).interlaced
    info = plan_source(video, tmp_path).info
    assert (info.interlaced, info.field_order, info.scan_corrected) == (True, "tt", "interlaced")


def test_flags_are_corrected_only_by_nearly_every_picture(tiny_title: Path):
    flagged = replace(probe(tiny_title), field_order="tt", height=576)
    clean = ScanCounts(progressive=150, unrepeated=150)
    assert corrected(flagged, clean, Fraction(25)).scan_corrected == "progressive"
    for doubtful in (ScanCounts(), ScanCounts(progressive=40), ScanCounts(5, 0, 150)):
        assert corrected(flagged, doubtful, Fraction(25)) is flagged
    unflagged = replace(flagged, field_order="progressive")
    combed = ScanCounts(bottom_first=60, progressive=2)
    assert corrected(unflagged, combed, Fraction(25)).field_order == "bb"
    # Film rates, sizes of no interlaced format, a few combed pictures: nothing is changed.
    assert corrected(unflagged, combed, Fraction(24)) is unflagged
    assert corrected(replace(unflagged, height=720), combed, Fraction(25)).scan_corrected is None
    assert corrected(unflagged, ScanCounts(10, 0, 90), Fraction(25)) is unflagged


def test_film_rates_cost_no_look(tiny_title: Path):
    info = probe(tiny_title)
    assert not suspicious(info, Fraction(24))
    assert suspicious(info, Fraction(30000, 1001))
    assert suspicious(replace(info, field_order="tt"), Fraction(24))


def test_what_ffmpeg_says_is_read():
    said = """[idet] Repeated Fields: Neither:     0 Top:     0 Bottom:     0
[idet] Single frame detection: TFF:     0 BFF:     0 Progressive:     0 Undetermined:     0
[idet] Repeated Fields: Neither:    73 Top:    24 Bottom:    25
[idet] Single frame detection: TFF:    40 BFF:     1 Progressive:    60 Undetermined:    21
[idet] Multi frame detection: TFF:   117 BFF:     0 Progressive:     4 Undetermined:     0"""
    assert correction.parse(said) == ScanCounts(40, 1, 60, 73, 24, 25)
    assert correction.parse(said).telecine
    assert not ScanCounts(unrepeated=116, repeated_top=2, repeated_bottom=2).telecine
    assert correction.parse("nothing") == ScanCounts()
