"""How a title is divided into segments: at its shots or on a grid, and at times that are asked for.

Everything here is exact and pure. :func:`encoder.analysis.segments.plan_segments` makes the
division. A time becomes the frame that is shown nearest to it (the later one of two), on the
title's constant frame rate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from encoder.errors import BadInput

SHOTS = "shots"
"""Value of ``segments`` for boundaries at the title's shots."""
LEAST_SECONDS, MOST_SECONDS = Fraction(1, 2), Fraction(60)
"""Shortest and longest segment that can be asked for."""
_GRID = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(s|ms)|(\d{1,6})f")
_MIN_CUE_SECONDS = Fraction(1, 10)


@dataclass(frozen=True, slots=True)
class Grid:
    """Boundaries at even steps: of time, or of frames."""

    seconds: Fraction | None = None
    """Step in seconds; each boundary lies at the frame nearest a multiple of it."""
    frames: int | None = None
    """Step in frames, where the step is not one of time."""

    def step_frames(self, frame_rate: Fraction) -> Fraction:
        """Return the step in frames, which need not be whole."""
        return Fraction(self.frames) if self.frames else (self.seconds or 0) * frame_rate

    def boundaries(self, frames: int, frame_rate: Fraction) -> list[int]:
        """Return the first frame of every cell of a title but the first, rising."""
        step = self.step_frames(frame_rate)
        count = int(frames / step) + 1
        found = {nearest_frame(number * step, Fraction(1)) for number in range(1, count + 1)}
        return sorted(frame for frame in found if 0 < frame < frames)


@dataclass(frozen=True, slots=True, order=True)
class CueTime:
    """A time at which a segment has to begin, for instance because an advertisement goes there."""

    seconds: Fraction
    """Time on the title's timeline."""
    duration: Fraction = Fraction(0)
    """Length of the break whose pictures may be replaced, seconds; 0 where something goes between
    two pictures."""
    id: str = ""
    """Name of the cue; empty for its number."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue at the frames of a title."""

    frame: int
    """First frame of the segment that begins at the cue."""
    end_frame: int
    """One past the last frame of its break; ``frame`` where the break has no pictures."""
    id: str
    """Name of the cue, unique in the title."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Where the segments of a title may begin."""

    grid: Grid | None = None
    """Grid of boundaries; None for the title's shots."""
    longest: Fraction | None = None
    """Longest segment in seconds, where segments are shots; None for that of release 0.1."""
    cues: tuple[CueTime, ...] = ()
    """Times at which a segment begins in any case, rising."""

    @classmethod
    def of(
        cls, segments: str, longest: float | None, split_at: Sequence[Sequence[Any]] = ()
    ) -> Segmentation:
        """Return what the options of these names ask for.

        Args:
            segments: ``shots``, or the step of a grid: ``2s``, ``1920ms``, ``48f``.
            longest: Longest segment in seconds.
            split_at: Time in seconds, duration and id of each cue.

        Raises:
            BadInput: a value cannot be read, or two exclude one another.
        """
        grid = parse_segments(segments)
        if grid is not None and longest is not None:
            raise BadInput(
                f"segments {segments} says how long segments are, so longest_segment has no "
                "meaning; leave one of them out"
            )
        return cls(grid, parse_longest(longest), cue_times(split_at))

    def key_parameters(self) -> dict[str, Any]:
        """Return what the keys of a title's segments contain; nothing for the default."""
        parameters: dict[str, Any] = {}
        if self.grid is not None:
            parameters["grid"] = [str(self.grid.seconds), self.grid.frames]
        if self.longest is not None:
            parameters["longest"] = str(self.longest)
        if self.cues:
            parameters["cues"] = [[str(cue.seconds), str(cue.duration)] for cue in self.cues]
        return parameters

    def cues_in(self, frames: int, frame_rate: Fraction) -> tuple[Cue, ...]:
        """Return the cues at the frames of a title.

        Raises:
            BadInput: a cue lies outside the title, or two at the same frame or in one another.
        """
        found: list[Cue] = []
        for number, time in enumerate(self.cues, 1):
            frame = nearest_frame(time.seconds, frame_rate)
            end = nearest_frame(time.seconds + time.duration, frame_rate)
            if not 0 <= frame < frames or end > frames:
                raise BadInput(
                    f"split_at has {_said(time)}, and the title ends after "
                    f"{float(frames / frame_rate):.3f} s; leave it out, or correct it"
                )
            if found and frame < max(found[-1].end_frame, found[-1].frame + 1):
                raise BadInput(
                    f"split_at has {_said(time)} within {_said(self.cues[number - 2])}; give "
                    "breaks that follow each other"
                )
            found.append(Cue(frame, max(frame, end), time.id or f"cue-{number}"))
        names = [cue.id for cue in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(f"split_at has the id {twice[0]!r} twice; give every cue its own")
        return tuple(found)

    def check(self, frames: int, frame_rate: Fraction) -> None:
        """Check against a title what can only be checked there.

        Raises:
            BadInput: as :meth:`cues_in`, or the grid is finer than half a second or coarser than a
                minute at this frame rate.
        """
        self.cues_in(frames, frame_rate)
        if self.grid is not None:
            seconds = self.grid.step_frames(frame_rate) / frame_rate
            if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
                raise BadInput(
                    f"{self.grid.frames} frames are {float(seconds):.3f} s at this title's frame "
                    f"rate; segments last {float(LEAST_SECONDS):g} to {float(MOST_SECONDS):g} s"
                )


AT_SHOTS = Segmentation()
"""Segments as they are where nothing else is asked for."""


def nearest_frame(seconds: Fraction, frame_rate: Fraction) -> int:
    """Return the number of the frame that is shown nearest to a time, the later one of two."""
    return int((seconds * frame_rate + Fraction(1, 2)) // 1)


def parse_segments(text: str) -> Grid | None:
    """Return the grid that a value of ``segments`` asks for; None for shots.

    Raises:
        BadInput: it is neither ``shots`` nor a step.
    """
    if text == SHOTS:
        return None
    found = _GRID.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise BadInput(
            f"segments are {text!r:.40}; give `shots`, or the step of a grid in seconds or frames, "
            "such as 2s, 1.92s or 48f"
        )
    number, unit, frames = found.groups()
    if frames is not None:
        if int(frames) < 2:
            raise BadInput(f"segments of {int(frames)} frames; give 2 or more")
        return Grid(frames=int(frames))
    seconds = Fraction(number) / (1000 if unit == "ms" else 1)
    return Grid(seconds=_in_range(seconds, f"segments of {text}"))


def parse_longest(seconds: float | None) -> Fraction | None:
    """Return the longest segment, exactly.

    Raises:
        BadInput: it is no duration that a segment can have.
    """
    if seconds is None:
        return None
    try:
        exact = Fraction(str(seconds))
    except ValueError:
        raise BadInput(f"longest_segment is {seconds!r:.40}; give seconds, such as 4") from None
    return _in_range(exact, f"a longest_segment of {seconds:g} s")


def cue_times(rows: Sequence[Sequence[Any]]) -> tuple[CueTime, ...]:
    """Return the cues of rows of time, duration and id, in the order of time.

    Raises:
        BadInput: a row cannot be read.
    """
    found = []
    for row in rows:
        try:
            if isinstance(row, str):
                raise TypeError("a text is no row")
            time, duration, name = (*row, 0, "")[:3] if len(row) == 1 else (*row, "")[:3]
            cue = CueTime(Fraction(str(time)), Fraction(str(duration or 0)), str(name or ""))
        except (ValueError, TypeError, ArithmeticError):
            raise BadInput(
                f"split_at has {row!r:.60}; give a time in seconds, and if you like the duration "
                "of the break and an id"
            ) from None
        if cue.seconds < 0 or cue.duration < 0 or 0 < cue.duration < _MIN_CUE_SECONDS:
            raise BadInput(
                f"split_at has {_said(cue)}; times are not negative, and a break lasts "
                f"{float(_MIN_CUE_SECONDS):g} s or more, or 0 for none"
            )
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", cue.id):
            raise BadInput(
                f"split_at has the id {cue.id!r:.80}; it may have up to 64 letters, digits, dots, "
                "underscores and hyphens"
            )
        found.append(cue)
    return tuple(sorted(found))


def _in_range(seconds: Fraction, what: str) -> Fraction:
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise BadInput(
            f"{what} cannot be made; give {float(LEAST_SECONDS):g} to {float(MOST_SECONDS):g} s"
        )
    return seconds


def _said(cue: CueTime) -> str:
    text = f"a cue at {float(cue.seconds):g} s"
    return text + (f" for {float(cue.duration):g} s" if cue.duration else "")
