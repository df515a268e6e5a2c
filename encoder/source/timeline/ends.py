"""Where a title begins and ends, when its sound and its pictures do not begin or end together.

Pictures rarely state for how long the last one stands, and a container that states it may be wrong
by hours. Sound tells: it ends where the recording ended. So the last picture stands as long as the
container says, but not beyond the end of the sound, and it stands until the sound ends; likewise
the first picture before its time. Differences of up to :data:`LEAST_SECONDS` are how encoders and
cutters leave files, and change nothing.

:func:`plan_ends` is pure; :func:`sound_spans` demuxes the sound.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av.error
import numpy as np
from av.packet import Packet
from av.stream import Discard

from encoder.errors import SourceUnusable
from encoder.source.choices import Tail
from encoder.source.index import FrameIndex
from encoder.source.opening.container import opened
from encoder.source.timeline.constant_rate import DEFAULT_RATE, Hold

LEAST_SECONDS = Fraction(1, 2)
"""Sound that precedes the first picture or follows the last one by no more than this is cut."""
SAID_SECONDS = Fraction(1, 10)
"""Sound that is cut is mentioned from this length on; shorter ends are padding of codecs."""
MOST_SECONDS = 600
"""Longest time for which a single picture is held beyond its own time."""
_UNPROVEN_SECONDS = 10  # that a last picture may claim where nothing else states the duration


@dataclass(frozen=True, slots=True)
class SoundSpan:
    """When a stream of sound begins and ends on the file's clock, by its packets."""

    start_seconds: Fraction
    end_seconds: Fraction


@dataclass(frozen=True, slots=True)
class Ends:
    """How the ends of sound and pictures were brought together; all seconds."""

    head_held_seconds: Fraction = Fraction(0)
    """Time for which the first picture is shown before its own time."""
    head_cut_seconds: Fraction = Fraction(0)
    """Sound before the first picture that is cut."""
    tail_held_seconds: Fraction = Fraction(0)
    """Time for which the last picture is shown longer than pictures of the title usually are."""
    tail_cut_seconds: Fraction = Fraction(0)
    """Sound after the last picture that is cut."""
    unshown_seconds: Fraction = Fraction(0)
    """Time that the container claims for the last picture, and that is not shown."""


NO_ENDS = Ends()
"""Sound and pictures begin and end together."""


def sound_spans(path: str | os.PathLike[str], streams: Sequence[int]) -> tuple[SoundSpan, ...]:
    """Return when the sound of each of ``streams`` begins and ends; those without packets lack.

    Raises:
        SourceUnusable: the source cannot be opened.
    """
    if not streams:
        return ()
    runs: dict[int, list[SoundSpan]] = {}
    with opened(path) as container:
        for stream in container.streams:
            if stream.index not in streams:
                stream.discard = Discard.all  # most demuxers then skip its data
        sounds = [each for each in container.streams.audio if each.index in streams]
        try:
            for packet in container.demux(*sounds):
                time = packet.dts if packet.pts is None else packet.pts
                if not packet.size or packet.is_discard or time is None:
                    continue
                tick = Fraction(packet.time_base or 0)
                start, end = time * tick, (time + (packet.duration or 0)) * tick
                start = min(start + _skipped(packet), end)
                found = runs.setdefault(packet.stream_index, [])
                if found and abs(start - found[-1].end_seconds) <= _SAME_RUN_SECONDS:
                    start = min(start, found[-1].start_seconds)
                    end = max(end, found.pop().end_seconds)
                found.append(SoundSpan(start, end))
        except av.error.FFmpegError:
            pass  # the end of a truncated file: the pictures end there as well
    return tuple(_whole(found) for found in runs.values())


def _whole(runs: Sequence[SoundSpan]) -> SoundSpan:
    """Return the span of runs of packets, but for those whose timestamps jump away and back.

    A run that is shorter than a later one, and said to be after it, is such a run.
    """
    kept = list(runs)
    if len(runs) <= _MOST_RUNS:
        kept = [
            run
            for number, run in enumerate(runs)
            if not any(
                later.start_seconds < run.start_seconds and _length(later) > _length(run)
                for later in runs[number + 1 :]
            )
        ]
    start = min(run.start_seconds for run in kept)
    return SoundSpan(start, max(run.end_seconds for run in kept))


def _length(run: SoundSpan) -> Fraction:
    return run.end_seconds - run.start_seconds


_SAME_RUN_SECONDS = Fraction(1, 10)
_MOST_RUNS = 500


def _skipped(packet: Packet[Any]) -> Fraction:
    """Return the seconds of an encoder's priming that a packet begins with."""
    if not packet.has_sidedata("skip_samples"):
        return Fraction(0)
    samples = int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")
    return Fraction(samples, packet.stream.codec_context.sample_rate or 48_000)


def plan_ends(
    path: str | os.PathLike[str],
    index: FrameIndex,
    spans: Sequence[SoundSpan],
    stated_seconds: Fraction | None,
    tail: Tail,
) -> tuple[FrameIndex, Hold, Ends]:
    """Bring the ends of sound and pictures together.

    Args:
        path: path of the source, for messages.
        index: frames of the source.
        spans: sound that is delivered.
        stated_seconds: duration of the pictures that headers state, None without one.
        tail: what the user decided.

    Returns:
        The index, whose last frame may be shorter than the container claims; how long the first
        and the last picture stand; and what was held or cut.

    Raises:
        SourceUnusable: a picture would have to stand for over :data:`MOST_SECONDS`.
    """
    tick, first, last = index.time_base, int(index.pts[0]), int(index.pts[-1])
    begin = first * tick
    steps = np.diff(index.pts)
    claimed = index.last_duration * tick
    usual = int(np.median(steps)) * tick if len(steps) else min(claimed, 1 / DEFAULT_RATE)
    least = LEAST_SECONDS if len(steps) else Fraction(0)
    own = (last - first) * tick + usual
    sound_start = min((span.start_seconds for span in spans), default=begin) - begin
    sound_end = max((span.end_seconds for span in spans), default=begin) - begin
    lead, rest = max(-sound_start, Fraction(0)), max(sound_end - own, Fraction(0))
    if tail == "cut":
        ends = Ends(
            head_cut_seconds=_said(lead),
            tail_cut_seconds=_said(rest),
            unshown_seconds=_long(claimed - usual),
        )
        shortened = replace(index, last_duration=max(1, round(usual / tick)))
        return (shortened if claimed > usual + least else index), Hold(), ends
    believed = _believed(claimed - usual, rest, bool(spans), own, stated_seconds)
    held = believed if believed > least else Fraction(0)
    if rest > max(held, LEAST_SECONDS) or (held and rest > held):
        held = rest
    before = lead if lead > LEAST_SECONDS else Fraction(0)
    for seconds, which, side in ((before, "first", "before"), (held, "last", "after")):
        if seconds > MOST_SECONDS:
            raise SourceUnusable(
                f"cannot use {path}: its {which} picture would stand for "
                f"{float(seconds) / 60:.1f} min, because there is sound {side} it; cut that sound "
                "with --tail cut, or give a source with pictures"
            )
    ends = Ends(
        head_held_seconds=before,
        head_cut_seconds=Fraction(0) if before else _said(lead),
        tail_held_seconds=held,
        tail_cut_seconds=Fraction(0) if held else _said(rest),
        unshown_seconds=_long(claimed - usual - max(believed, held)),
    )
    if believed < claimed - usual:
        index = replace(index, last_duration=max(1, round((usual + believed) / tick)))
    return index, Hold(before, own + held if held else Fraction(0)), ends


def _believed(
    extra: Fraction, rest: Fraction, sound: bool, own: Fraction, stated: Fraction | None
) -> Fraction:
    """Return for how long the last picture stands beyond its usual duration, by the container."""
    if extra <= LEAST_SECONDS:
        return max(extra, Fraction(0))
    if sound:
        return extra if extra <= rest + LEAST_SECONDS else rest
    if extra > MOST_SECONDS:
        return Fraction(0)
    if stated is None:
        return extra if extra <= _UNPROVEN_SECONDS else Fraction(0)
    return extra if own + extra <= stated + LEAST_SECONDS else Fraction(0)


def _said(seconds: Fraction) -> Fraction:
    return seconds if seconds > SAID_SECONDS else Fraction(0)


def _long(seconds: Fraction) -> Fraction:
    return seconds if seconds > LEAST_SECONDS else Fraction(0)
