"""What an edit list of several parts plays, picture by picture and sample by sample. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoder.source.edits import Edit


@dataclass(frozen=True, slots=True)
class Part:
    """Pictures that one edit plays."""

    keyframe: int
    """Number of the keyframe, among those of the media, from which they are decoded."""
    times: dict[int, int]
    """Time of each picture in the title by its time in the media, both in ticks, in order."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples of the title ``[begin, end)``, and where in the media they come from."""

    begin: int
    end: int
    media: int | None
    """First sample in the media, None for silence."""


def plan_parts(
    edits: Sequence[Edit],
    pictures: Sequence[tuple[int, int]],
    keyframes: Sequence[int],
    tick: Fraction,
    title_tick: Fraction,
) -> tuple[list[Part], int]:
    """Return the pictures that each edit plays, and the time at which the last edit ends.

    An edit plays a picture of which it shows at least half, or half a usual picture. The first
    picture of an edit keeps its distance to the next ones, so that it may be up to half a picture
    before the edit: durations of edits are rounded, often to milliseconds.

    Args:
        edits: the edits, with those that are empty.
        pictures: presentation time and duration of each picture of the media in ticks of the
            media, in order of presentation.
        keyframes: presentation times of the keyframes, ascending.
        tick: seconds per tick of the media.
        title_tick: seconds per tick of the times in the title.
    """
    times = [time for time, _ in pictures]
    usual = int(np.median([duration for _, duration in pictures]))
    parts: list[Part] = []
    begin, latest = Fraction(0), -1
    for edit in edits:
        if edit.media_seconds is not None and edit.seconds > 0:
            start, end = edit.media_seconds / tick, (edit.media_seconds + edit.seconds) / tick
            shown: dict[int, int] = {}
            first = max(0, bisect_right(times, math.floor(start)) - 1)
            for time, duration in pictures[first : bisect_left(times, math.ceil(end))]:
                visible = min(Fraction(time + duration), end) - max(Fraction(time), start)
                if visible < Fraction(min(duration, usual), 2):
                    continue
                ahead = time - start
                if ahead < -Fraction(usual, 2):
                    ahead = Fraction(0)
                at = round((begin + ahead * tick) / title_tick)
                shown[time] = latest = max(at, latest + 1, 0)
            if shown:
                keyframe = max(0, bisect_right(keyframes, next(iter(shown))) - 1)
                parts.append(Part(keyframe, shown))
        begin += edit.seconds
    return parts, round(begin / title_tick)


def plan_stretches(edits: Sequence[Edit], rate: int) -> list[Stretch]:
    """Return what a track of sound plays.

    Args:
        edits: the edits, with those that are empty.
        rate: sample rate in Hz.
    """
    stretches = []
    begin = Fraction(0)
    for edit in edits:
        end = begin + edit.seconds
        media = None if edit.media_seconds is None else round(edit.media_seconds * rate)
        if round(end * rate) > round(begin * rate):
            stretches.append(Stretch(round(begin * rate), round(end * rate), media))
        begin = end
    return stretches
