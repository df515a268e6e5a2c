"""A clock that jumps ahead inside a file: neither pictures nor sound for a long time."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np

from encoder.errors import SourceUnusable
from encoder.source.index import FrameIndex
from encoder.source.opening.container import opened
from encoder.source.opening.streams import is_decodable

STANDING_SECONDS = 60
"""A picture that stands longer is looked at: sound may show that it is meant."""
_TOGETHER_SECONDS = 5  # within which sound stops and goes on with the pictures at a jump


def longest_standing(index: FrameIndex) -> tuple[Fraction, Fraction]:
    """Return when the picture appears that stands longest before another follows, and for how long,
    in seconds from the first one.
    """
    steps = np.diff(index.pts)
    if not len(steps):
        return Fraction(0), Fraction(0)
    place = int(np.argmax(steps))
    since = int(index.pts[place] - index.pts[0])
    return since * index.time_base, int(steps[place]) * index.time_base


def check_gaps(
    path: str | os.PathLike[str], readable: str | os.PathLike[str], index: FrameIndex
) -> None:
    """Check that no clock jumps ahead: a long time without pictures in which sound stops as well.

    A picture that stands while sound goes on, or in a file without sound, is meant to stand.

    Args:
        path: the given file, for the error.
        readable: the file to read.
        index: its frames.

    Raises:
        SourceUnusable: the clock jumps ahead.
    """
    since, standing = longest_standing(index)
    if standing <= STANDING_SECONDS:
        return
    begin = index.start_seconds + since
    end = begin + standing
    before: Fraction | None = None
    after: Fraction | None = None
    with opened(readable) as container:
        origin = Fraction(container.start_time or 0, 1_000_000)
        sounds = [each for each in container.streams.audio if is_decodable(each)]
        for packet in container.demux(*sounds) if sounds else ():
            if not packet.size or packet.pts is None:
                continue
            time = packet.pts * packet.time_base
            if begin + _TOGETHER_SECONDS < time < end - _TOGETHER_SECONDS:
                return
            if time <= begin + _TOGETHER_SECONDS:
                before = max(time, before or time)
            else:
                after = min(time, after or time)
    if before is None or after is None:
        return
    if before < begin - _TOGETHER_SECONDS or after > end + _TOGETHER_SECONDS:
        return
    step = Fraction(int(np.median(np.diff(index.pts)))) * index.time_base
    middle = float(begin + standing / 2 - origin)
    moved = ":".join(
        f"{low}={up}-gte({up}*TB\\,{middle:.0f})*{float(standing - step):.6f}/TB"
        for low, up in (("pts", "PTS"), ("dts", "DTS"))
    )
    closed = f"'setts={moved}:duration=min(DURATION\\,{float(step):.6f}/TB)'"
    raise SourceUnusable(
        f"cannot use {path}: its clock jumps ahead by {float(standing):.3f} s at "
        f"{float(since):.3f} s, with neither pictures nor sound between, as where recordings were "
        "joined; close the gap first, for example with ffmpeg -i IN -map 0:v -map 0:a -c copy "
        f"-bsf:v {closed} -bsf:a 'setts={moved}' OUT.mkv"
    )
