"""Sources as strangers bring them: each is used whole, or refused in one line before any encode."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from encoder.augment import augment
from encoder.baseline import FixedRung, encode_at_bitrate, encode_at_crf
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint
from encoder.mp4 import split_fragmented, track_timescale
from encoder.reference import plan_source
from fixtures.awkward import CHAPTERS

PICTURE = "testsrc2=size=160x96:rate=25:duration={}"
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "12", "-threads", "1")


def clip(path: Path, *arguments: str | Path, seconds: float = 1) -> Path:
    """An H.264 of moving bars; ``arguments`` are further inputs, and options of the output."""
    picture = ("-f", "lavfi", "-i", PICTURE.format(seconds))
    run(Command.of(["-v", "error", "-y", *picture, *arguments, path]), timeout_seconds=60)
    return path


# -- what travels with the pictures --------------------------------------------------------------


@pytest.mark.parametrize("file", ["chapters.mkv", "chapters.mp4"])
def test_chapters_become_no_track_of_an_encode(awkward_clip, tmp_path: Path, file):
    path = awkward_clip(file)
    with av.open(str(path)) as container:
        assert len(container.chapters()) == 2
    source = plan_source(path, tmp_path)
    point = OperatingPoint("x264-ultrafast", 160, 96, 40)
    made = tmp_path / "made.mp4"
    encode_at_crf(source, point, [0], made)
    track_timescale(split_fragmented(made.read_bytes())[0])  # of the only track
    encode_at_bitrate(source, FixedRung("x264-ultrafast", 160, 96, 100_000), made)
    track_timescale(split_fragmented(made.read_bytes())[0])


def test_chapters_become_no_track_of_another_title(tmp_path: Path):
    told = ("-f", "ffmetadata", "-i", f"data:text/plain;base64,{CHAPTERS}", "-map_chapters", "1")
    path = clip(tmp_path / "title.mp4", *told, "-vf", "pad=160:160", *X264)
    augment(plan_source(path, tmp_path), "soft", 0, 5, tmp_path / "made.mp4")
    with av.open(str(tmp_path / "made.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
