"""A small part of the matrix of sources and codecs; all of it is ``make matrix``."""

from __future__ import annotations

import pytest

from fixtures import awkward
from tests.matrix import PASSED, REFUSALS, REFUSED, SHALLOW, Cell, run_matrix, table

PICKED = {
    "tv.mp4": "svtav1",  # 30000/1001
    "deep.mkv": "x265",  # 4:2:2, 10 bit, full range
    "upright.mp4": "vp9",
    "gaps.mkv": "x264",  # variable rate
    "chapters.mp4": "x264",
    "fields.ts": "x264",  # H.264 of single fields
    "hdr10.mp4": "svtav1",
    "hlg.mkv": "x265",
}


@pytest.mark.parametrize(("file", "codec"), PICKED.items())
def test_a_source_and_a_codec_make_a_verified_package(file: str, codec: str):
    clips = [(clip, None) for clip in awkward.CLIPS if clip.file == file]
    (found,) = run_matrix(clips, [codec])
    assert found.outcome == PASSED


def test_eight_bit_codecs_refuse_high_dynamic_range():
    clips = [(clip, None) for clip in awkward.CLIPS if clip.hdr]
    assert len(clips) == 2
    found = list(run_matrix(clips, SHALLOW))
    assert [cell.outcome for cell in found] == [REFUSED] * 4


def test_what_is_refused_is_refused():
    found = list(run_matrix(REFUSALS, ["x265"]))
    assert [cell.outcome for cell in found] == [REFUSED] * len(REFUSALS)


def test_the_table():
    cells = [Cell("a.mp4", "x264", PASSED, 1.0), Cell("a.mp4", "vp9", "ToolFailed: no", 1.0)]
    assert table(cells, ["x264", "vp9"]).splitlines()[-1] == "| a.mp4 | passes | FAILS |"
