"""Every frame that a piece of a source gives is the frame that the source gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from encoder.source import pieces
from encoder.source.reference import ReferenceSource, plan_source
from fixtures.awkward import CLIPS
from tests.reading_material import read, straight

CONTEXT = 4


def ranges_of(frames: int, length: int = 17) -> list[tuple[int, int]]:
    """Off keyframes, neighbours, all frames; the last one short."""
    return [(start, min(frames, start + length)) for start in range(0, frames, length)]


def around(source: ReferenceSource, start: int, end: int) -> tuple[int, int]:
    return max(0, start - CONTEXT), min(source.frames, end + CONTEXT)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_pieces_give_the_frames_of_a_straight_decode(
    awkward_clip: Callable[[str], Path], tmp_path: Path, clip: object
) -> None:
    path = awkward_clip(clip.file)  # type: ignore[attr-defined]
    source = plan_source(path, tmp_path)
    decoded = straight(path, source)
    expected = [decoded[source.timeline.source_frame(n)] for n in range(source.frames)]
    wanted = ranges_of(source.frames)
    made = list(pieces.cut(source, wanted, tmp_path))
    assert sorted((piece.start, piece.end) for piece, _ in made) == wanted
    for piece, file in made:
        moved = pieces.reading(source, piece, file)
        start, end = around(source, piece.start, piece.end)
        assert read(moved, start, end) == expected[start:end], piece
        # Frames in the middle of a piece are found by seeking in it.
        middle = (piece.start + piece.end) // 2
        assert read(moved, middle, piece.end) == expected[middle : piece.end], piece
        assert moved.graph_id is not None
        assert moved.frames == source.frames


def test_what_is_cut_is_much_less_than_the_source(
    awkward_clip: Callable[[str], Path], tmp_path: Path
) -> None:
    """Where a container takes it: most kinds of source, and none of the usual ones whole."""
    whole = []
    for clip in CLIPS:
        source = plan_source(awkward_clip(clip.file), tmp_path)
        found = [piece for piece, _ in pieces.cut(source, ranges_of(source.frames), tmp_path)]
        whole += [clip.file for piece in found if not piece.container][:1]
    # No container says of raw pictures what they are.
    assert set(whole) <= {"raw.y4m", "deep.y4m"}, whole


def test_a_corpus_title_in_pieces(corpus: Path, tmp_path: Path) -> None:
    """A real open-GOP source, if there is one of a size that tests can afford."""
    smallest = min(corpus.rglob("*.mp4"), key=lambda path: path.stat().st_size, default=None)
    if smallest is None:
        pytest.skip("no mp4 in the corpus")
    source = plan_source(smallest, tmp_path)
    frames = min(source.frames, 120)
    wanted = [(start, min(frames, start + 50)) for start in range(0, frames, 50)]
    for piece, file in pieces.cut(source, wanted, tmp_path):
        assert file.stat().st_size <= Path(source.path).stat().st_size
        moved = pieces.reading(source, piece, file)
        start, end = around(source, piece.start, piece.end)
        assert read(moved, start, end) == read(source, start, end)
        with av.open(str(file)) as container:
            assert len(container.streams.video) == 1
