"""Single frames at full size: the right ones, in the right colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from encoder import ffmpeg, stills
from encoder.analysis.frames import small_frames
from encoder.source.planning import plan_source
from encoder.stills import MOST_AT_ONCE, fetch_command, fetch_frames, group_frames
from fixtures.clips import TINY, make
from recommender.artwork.colour import bgr_of_small, matrix_of, yuv_to_bgr

LONG_GOP = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "14", "-bf", "3", "-g", "250")


def check_exact(path: Path, workdir: Path, numbers: list[int]) -> None:
    """Each frame fetched is nearest to the frame of its number in a decode from the start."""
    source = plan_source(path, workdir)
    matrix = matrix_of(source.color_matrix, source.height)
    fetched = dict(fetch_frames(source, numbers, matrix))
    assert list(fetched) == sorted(set(numbers))
    straight = [
        bgr_of_small(frame.yuv, source.color_matrix, source.height).astype(np.int16)
        for frame in small_frames(source)
    ]
    for number, bgr in fetched.items():
        assert bgr.shape == (source.height, source.width, 3)
        height, width = straight[0].shape[:2]
        small = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA).astype(np.int16)
        distance = [float(np.abs(small - other).mean()) for other in straight]
        assert distance[number] == min(distance), number
        assert distance[number] < 6.0  # hard edges of colour, enlarged in two ways


def test_fetched_frames_are_exact(tmp_path: Path) -> None:
    recipe = replace(TINY, audio=False, scenes=TINY.scenes[:2])
    clip = make(recipe, tmp_path / "clip.mp4", LONG_GOP)
    check_exact(clip, tmp_path, [47, 0, 23, 24, 25, 24, 7])


@pytest.mark.parametrize("file", ["opengop.ts", "gaps.mkv", "upright.mp4", "deep.mkv"])
def test_fetched_frames_are_exact_in_awkward_files(
    file: str, awkward_clip: Callable[[str], Path], tmp_path: Path
) -> None:
    clip = awkward_clip(file)
    frames = plan_source(clip, tmp_path).frames
    check_exact(clip, tmp_path, [0, frames // 3, frames // 2, frames - 1])


def test_one_process_reads_what_costs_less_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, audio=False)
    clip = make(recipe, tmp_path / "clip.mp4", (*LONG_GOP[:-1], "24", "-sc_threshold", "0"))
    source = plan_source(clip, tmp_path)
    # So small a picture is decoded at once; of larger ones only what follows one keyframe.
    assert group_frames(source, [70, 3, 5, 30, 3]) == [(3, 5, 30, 70)]
    monkeypatch.setattr(stills, "_NEAR_PIXELS", 30 * source.width * source.height)
    assert group_frames(source, [70, 3, 5, 30, 3]) == [(3, 5, 30), (70,)]
    monkeypatch.setattr(stills, "_NEAR_PIXELS", 0)
    assert group_frames(source, [70, 3, 5, 30, 3]) == [(3, 5), (30,), (70,)]
    assert group_frames(source, range(24)) == [tuple(range(24))]
    monkeypatch.setattr(stills, "MOST_BYTES_AT_ONCE", 3 * source.width * source.height)
    many = group_frames(source, range(24))
    assert [len(group) for group in many] == [MOST_AT_ONCE] * (24 // MOST_AT_ONCE)
    line = " ".join(fetch_command(source, (3, 5), "bt709").arguments)
    assert "trim=" in line
    assert "select=" in line
    assert "in_color_matrix=bt709" in line
    assert "select" not in " ".join(fetch_command(source, (3, 4), "bt709").arguments)
    with pytest.raises(ValueError, match="not within"):
        list(fetch_frames(source, [source.frames], "bt709"))


@pytest.mark.parametrize("levels", ["limited", "full"])
def test_colours_are_those_of_the_source(levels: str, tmp_path: Path) -> None:
    """Full range or limited, BT.709: the same orange."""
    clip = tmp_path / "orange.mp4"
    graph = "color=0xd08040:size=128x96:rate=12:d=0.5,"
    graph += f"scale=out_color_matrix=bt709:out_range={levels},format=yuv444p"
    tags = ["-color_range", "pc" if levels == "full" else "tv", "-colorspace", "bt709"]
    coder = ["-c:v", "libx264", "-qp", 0, "-preset", "ultrafast"]
    ffmpeg.run(ffmpeg.Command.of(["-v", "error", "-f", "lavfi", "-i", graph, *coder, *tags, clip]))
    source = plan_source(clip, tmp_path)
    matrix = matrix_of(source.color_matrix, source.height)
    assert matrix == "bt709"
    ((_, full),) = fetch_frames(source, [3], matrix)
    assert np.abs(full.reshape(-1, 3).mean(axis=0) - (0x40, 0x80, 0xD0)).max() < 3
    frame = next(small_frames(source))
    small = bgr_of_small(frame.yuv, source.color_matrix, source.height)
    assert np.abs(small.reshape(-1, 3).mean(axis=0) - (0x40, 0x80, 0xD0)).max() < 3


def test_untagged_titles_have_the_matrix_that_players_use() -> None:
    assert matrix_of(None, 1080) == matrix_of("bt709", 480) == "bt709"
    assert (matrix_of(None, 576), matrix_of(None, 480)) == ("bt470bg", "smpte170m")
    white = yuv_to_bgr("bt2020nc") @ np.array([235, 128, 128, 1])
    assert np.abs(white - 255).max() < 1e-3
