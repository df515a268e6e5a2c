"""Whether pictures are combed, seen by decoding them: idet is wrong about moves by whole lines.

Two fields that were taken at different times do not fit together. A picture is compared with the
picture before it in three weaves: its own fields (W0), its top field with the bottom field before
(W1), its bottom field with the top field before (W2). Combing is the second difference of lines
where the picture moves. In interlaced video with the top field first, W0 and W1 lie one field apart
in time and W2 three; in progressive video W0 lies at no distance and the others at two fields. So a
picture is interlaced where the smaller of W1 and W2 is nearer to W0 than to the larger one, as
ratios.

Measured on 950 progressive pictures of five natural and drawn clips: none counts as combed, 74 %
count as progressive and the rest, still pictures, as undecided. Of 438 interlaced pictures made
from three such clips, 93 % count as combed, all with the right field first, and 2 % as progressive.
Credits that roll by two lines a picture, which ffmpeg's ``idet`` takes for interlaced, count as
progressive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import av
import av.error
import numpy as np

from encoder.arrays import Int64, Mask
from encoder.errors import SourceUnusable
from encoder.source.index import FrameIndex
from encoder.source.opening.container import opened, packets_of
from encoder.source.probing.source_info import SourceInfo

TOP_FIRST, BOTTOM_FIRST, PROGRESSIVE, UNDECIDED = "t", "b", "p", "u"
"""What a picture can look like. An undecided picture hardly moves, or fits neither."""
COMBED = (TOP_FIRST, BOTTOM_FIRST)
"""What interlaced pictures look like."""

_COLUMNS = 240  # of each picture are compared
_MOVES = 10  # difference of 8 bit levels that counts as motion
_LEAST_MOVING = 0.002  # share of the picture that must move
_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Looks:
    """Decoded pictures of a source, in order."""

    numbers: Int64
    """Frame numbers of the pictures, ascending."""
    flagged: Mask
    """True where the decoder marks the picture as interlaced."""
    seen: str
    """A letter for each picture: :data:`TOP_FIRST`, :data:`BOTTOM_FIRST`, :data:`PROGRESSIVE` or
    :data:`UNDECIDED`."""

    def parts(self, length: int) -> list[Looks]:
        """Return the pictures in parts of ``length``."""
        return [
            Looks(self.numbers[at:][:length], self.flagged[at:][:length], self.seen[at:][:length])
            for at in range(0, len(self.seen), length)
        ]


def classify(now: Any, before: Any) -> str:
    """Return what a picture looks like beside the picture before it; both are 8 bit luma."""
    step = max(1, now.shape[1] // _COLUMNS)
    now, before = now[:, ::step].astype(np.int16), before[:, ::step].astype(np.int16)
    moved = np.abs(now - before) > _MOVES
    moved = moved[1:-1] | moved[:-2] | moved[2:]
    if moved.mean() < _LEAST_MOVING:
        return UNDECIDED
    top_now, bottom_now = now.copy(), now.copy()
    top_now[1::2] = before[1::2]
    bottom_now[::2] = before[::2]
    own = _combing(now, moved) + 1
    first, second = _combing(top_now, moved) / own, _combing(bottom_now, moved) / own
    least, most = min(first, second), max(first, second)
    if most > _MARGIN * least * least:
        return TOP_FIRST if first < second else BOTTOM_FIRST
    return PROGRESSIVE if least * least > _MARGIN * most else UNDECIDED


def between(before: Any, now: Any, after: Any) -> str:
    """Return what a picture looks like beside both its neighbours, either of which may be None.

    Next to a cut one neighbour shows something else, to which no field fits: a picture is combed
    where it is beside either.
    """
    seen = UNDECIDED
    for other, swapped in ((before, False), (after, True)):
        if other is None or other.shape != now.shape:
            continue
        # Backwards in time the other field is first.
        one = classify(now, other)
        if swapped:
            one = {TOP_FIRST: BOTTOM_FIRST, BOTTOM_FIRST: TOP_FIRST}.get(one, one)
        if one in COMBED:
            return one
        seen = one if seen == UNDECIDED else seen
    return seen


def _combing(lines: Any, where: Mask) -> float:
    return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:])[where].sum(dtype=np.float64))


def look(
    info: SourceInfo, index: FrameIndex, places: Sequence[int] | None = None, length: int = 0
) -> tuple[Looks, ...]:
    """Decode and judge pictures; what does not decode is left out.

    Args:
        info: the source.
        index: its frames.
        places: frame numbers: one result each, from the last keyframe not after the frame on.
            None looks at the whole source, as one result.
        length: number of pictures at each place.
    """
    if places is None:
        return _looks(info, index, [(0, index.frames)])
    keyframes = [int(index.keyframe_pts[index.keyframe_for(place)]) for place in places]
    starts = np.unique(np.searchsorted(index.pts, keyframes))
    return _looks(info, index, [(int(start), int(start) + length) for start in starts])


def look_from(
    info: SourceInfo, index: FrameIndex, places: Sequence[int], length: int
) -> tuple[Looks, ...]:
    """Do what :func:`look` does, from exactly the frames ``places`` on."""
    return _looks(info, index, [(place, place + length) for place in places])


def _looks(
    info: SourceInfo, index: FrameIndex, ranges: Sequence[tuple[int, int]]
) -> tuple[Looks, ...]:
    found = []
    try:
        with opened(info.path) as container:
            stream = container.streams[info.stream_index]
            assert isinstance(stream, av.video.VideoStream)
            stream.thread_type = "AUTO"
            for start, end in ranges:
                keyframe = index.keyframe_for(min(start, index.frames - 1))
                if keyframe > 0:
                    container.seek(int(index.keyframe_dts[keyframe]), stream=stream)
                pictures = _decoded(container, stream)
                until = int(index.pts[end]) if end < index.frames else None
                found.append(_judged(_before(pictures, until), index, start))
    except SourceUnusable:
        pass  # the analysis pass reports what does not decode
    return tuple(found)


def _before(pictures: Iterable[av.VideoFrame], until: int | None) -> Iterator[av.VideoFrame]:
    for picture in pictures:
        if until is not None and picture.pts is not None and picture.pts >= until:
            return
        yield picture


def _decoded(
    container: av.container.InputContainer, stream: av.video.VideoStream
) -> Iterator[av.VideoFrame]:
    for packet in packets_of(container, stream):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue


def _judged(pictures: Iterable[av.VideoFrame], index: FrameIndex, start: int) -> Looks:
    numbers: list[int] = []
    flagged: list[bool] = []
    seen = ""
    before: Any = None
    now: tuple[av.VideoFrame, Any] | None = None
    for picture in chain(pictures, (None,)):
        after = None if picture is None else _luma(picture)
        if now is not None:
            number = _number(index, now[0].pts)
            if number is not None and number >= start:
                numbers.append(number)
                flagged.append(bool(now[0].interlaced_frame))
                seen += between(before, now[1], after)
            before = now[1]
        now = None if picture is None else (picture, after)
    return Looks(np.array(numbers, np.int64), np.array(flagged, bool), seen)


def _number(index: FrameIndex, pts: int | None) -> int | None:
    if pts is None:
        return None
    number = int(np.searchsorted(index.pts, pts))
    return number if number < index.frames and index.pts[number] == pts else None


def _luma(picture: av.VideoFrame) -> Any:
    plane = picture.planes[0]
    if picture.format.name.startswith("yuv") and plane.line_size >= plane.width:
        bits = picture.format.components[0].bits
        if bits == 8 and picture.format.is_planar:
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
            return rows[:, : plane.width].copy()
    return picture.reformat(format="gray").to_ndarray()
