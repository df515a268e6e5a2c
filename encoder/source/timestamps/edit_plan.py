"""What an edit list of several parts plays, picture by picture and sample by sample. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoder.source.containers.edits import Edit


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

    An edit plays a picture of which it shows at least half, or half a usual picture. Durations of
    edits are rounded, often to milliseconds, so the first picture of an edit keeps its distance to
    the next ones, and may be up to half a picture before the edit. Where the pictures of the media
    are evenly spaced, those of the title are as well: each part begins at the nearest place.

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
    step = _even_step(times)
    parts: list[Part] = []
    begin, latest, place = Fraction(0), -1, 0
    for edit in edits:
        shown = []
        if edit.media_seconds is not None and edit.seconds > 0:
            start, end = edit.media_seconds / tick, (edit.media_seconds + edit.seconds) / tick
            shown = _shown(pictures, times, usual, start, end)
        if shown:
            ahead = Fraction(shown[0]) - start
            if ahead < -Fraction(usual, 2):
                ahead = Fraction(0)
            at = begin / tick + ahead  # of the first picture, in ticks of the media
            if step:
                place = max(place, math.floor(at / step + Fraction(1, 2)))
                at = place * step
                place += round((shown[-1] - shown[0]) / step) + 1
            played: dict[int, int] = {}
            origin = max(Fraction(shown[0]), start + ahead)
            for time in shown:
                own = at + max(time - origin, Fraction(0))
                played[time] = latest = max(round(own * tick / title_tick), latest + 1, 0)
            keyframe = max(0, bisect_right(keyframes, shown[0]) - 1)
            parts.append(Part(keyframe, played))
        begin += edit.seconds
    last = begin / tick
    if step:
        last = max(place, math.floor(last / step + Fraction(1, 2))) * step
    return parts, round(last * tick / title_tick)


def _even_step(times: Sequence[int]) -> Fraction | None:
    """Return the ticks between two pictures where all are evenly spaced, to a tick."""
    steps = np.diff(times)
    if not len(steps) or np.ptp(steps) > 1:
        return None
    return Fraction(times[-1] - times[0], len(steps))


def _shown(
    pictures: Sequence[tuple[int, int]],
    times: Sequence[int],
    usual: int,
    start: Fraction,
    end: Fraction,
) -> list[int]:
    """Return the times of the pictures of which ``[start, end)`` shows at least half; of a picture
    that goes on, more than half.
    """
    first = max(0, bisect_right(times, math.floor(start)) - 1)
    shown = []
    for time, duration in pictures[first : bisect_left(times, math.ceil(end))]:
        half = Fraction(min(duration, usual), 2)
        visible = min(Fraction(time + duration), end) - max(Fraction(time), start)
        if visible > half or (visible == half and time + duration <= end):
            shown.append(time)
    return shown


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
