"""Every frame that a piece of a source gives is the frame that the source gives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from encoder.source import pieces
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from fixtures.awkward import CLIPS
from tests.reading_material import read, straight

CONTEXT = 4


def ranges_of(frames: int, length: int = 17) -> list[tuple[int, int]]:
    """Off keyframes, neighbours, all frames; the last one short."""
    return [(start, min(frames, start + length)) for start in range(0, frames, length)]


def around(source: ReferenceSource, start: int, end: int) -> tuple[int, int]:
    return max(0, start - CONTEXT), min(source.frames, end + CONTEXT)


@dataclass(frozen=True)
class Cut:
    """A clip, and its pieces of 17 frames."""

    path: Path
    source: ReferenceSource
    pieces: list[tuple[pieces.Piece, Path]]


@pytest.fixture(scope="module")
def cut(
    awkward_clip: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Cut]:
    """Gives the pieces of a clip by its file name; each clip is cut once."""

    @functools.cache
    def made(file: str) -> Cut:
        path, folder = awkward_clip(file), tmp_path_factory.mktemp("pieces")
        source = plan_source(path, folder)
        return Cut(path, source, list(pieces.cut(source, ranges_of(source.frames), folder)))

    return made


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_pieces_give_the_frames_of_a_straight_decode(
    cut: Callable[[str], Cut], clip: object
) -> None:
    made = cut(clip.file)  # type: ignore[attr-defined]
    source = made.source
    decoded = straight(made.path, source)
    expected = [decoded[source.timeline.source_frame(n)] for n in range(source.frames)]
    assert sorted((piece.start, piece.end) for piece, _ in made.pieces) == ranges_of(source.frames)
    for piece, file in made.pieces:
        moved = pieces.reading(source, piece, file)
        start, end = around(source, piece.start, piece.end)
        assert read(moved, start, end) == expected[start:end], piece
        # Frames in the middle of a piece are found by seeking in it.
        middle = (piece.start + piece.end) // 2
        assert read(moved, middle, piece.end) == expected[middle : piece.end], piece
        assert moved.graph_id is not None
        assert moved.frames == source.frames


def test_what_is_cut_is_much_less_than_the_source(cut: Callable[[str], Cut]) -> None:
    """Where a container takes it: most kinds of source, and none of the usual ones whole."""
    whole = [
        clip.file
        for clip in CLIPS
        if not all(piece.container for piece, _ in cut(clip.file).pieces)
    ]
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
