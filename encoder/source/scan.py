"""How a source was really scanned, judged by its pictures: flags in streams are often wrong.

Progressive film comes in streams that are marked interlaced, interlaced video in streams that are
marked progressive, and film with repeated fields (3:2 pulldown, telecine) looks like neither.
ffmpeg's ``idet`` compares the fields of some hundred frames. Measured over natural and drawn
titles, pulldown repeats 20 % of the top and 20 % of the bottom fields, anything else at most 2 %.
Drawn patterns that move by whole lines look interlaced, so against its flags a source only counts
as interlaced when nearly every picture looks so and its height is one of interlaced video.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from fractions import Fraction

from encoder.errors import ShotladderError, SourceUnusable
from encoder.ffmpeg import SOURCE_OPTIONS, Command, as_arguments, run
from encoder.source.decoding import decoding_options
from encoder.source.index import FrameIndex
from encoder.source.probe import FieldOrder, SourceInfo

WINDOW_FRAMES = 60
"""Frames that are examined at each place of a title."""
_PLACES = (0.15, 0.45, 0.75)
_WHOLE_FRAMES = WINDOW_FRAMES * len(_PLACES)
_TELECINE_RATES = (Fraction(299, 10), Fraction(301, 10))
_INTERLACED_HEIGHTS = (480, 486, 512, 576, 1080, 1088)
_INTERLACED_RATES = (25, 30, Fraction(30000, 1001))
_REPEATED = re.compile(r"Repeated Fields: Neither: *(\d+) Top: *(\d+) Bottom: *(\d+)")
_SINGLE = re.compile(r"Single frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)")


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """Counts of ``idet`` over some pictures; undecided ones are in none of the first three."""

    top_first: int = 0
    """Interlaced pictures with the top field first."""
    bottom_first: int = 0
    """Interlaced pictures with the bottom field first."""
    progressive: int = 0
    """Pictures that show no interlacing."""
    unrepeated: int = 0
    """Pictures that repeat neither field of the picture before."""
    repeated_top: int = 0
    """Pictures that repeat the top field of the picture before."""
    repeated_bottom: int = 0
    """Pictures that repeat the bottom field of the picture before."""

    def __add__(self, other: ScanCounts) -> ScanCounts:
        return ScanCounts(*map(operator.add, astuple(self), astuple(other)))

    @property
    def telecine(self) -> bool:
        """True where fields repeat as in 3:2 pulldown: one in five top and one in five bottom."""
        pictures = self.unrepeated + self.repeated_top + self.repeated_bottom
        least = min(self.repeated_top, self.repeated_bottom)
        return pictures >= 20 and least > 0.12 * pictures

    @property
    def combed(self) -> float:
        """Share of interlaced pictures among the decided ones."""
        fields = self.top_first + self.bottom_first
        return fields / max(1, fields + self.progressive)

    @property
    def decided(self) -> int:
        """Pictures that count as either interlaced or progressive."""
        return self.top_first + self.bottom_first + self.progressive


def parse(stderr: str) -> ScanCounts:
    """Return the last counts in ffmpeg's output, zeros where it has none."""
    repeated, single = _REPEATED.findall(stderr), _SINGLE.findall(stderr)
    if not repeated or not single:
        return ScanCounts()
    neither, top, bottom = map(int, repeated[-1])
    top_first, bottom_first, progressive = map(int, single[-1])
    return ScanCounts(top_first, bottom_first, progressive, neither, top, bottom)


def suspicious(info: SourceInfo, frame_rate: Fraction) -> bool:
    """Return True where the flags of a source may be wrong, so that its pictures are examined."""
    low, high = _TELECINE_RATES
    return (
        info.interlaced
        or low <= frame_rate <= high
        or (info.height in _INTERLACED_HEIGHTS and frame_rate in _INTERLACED_RATES)
    )


def correct_scan(info: SourceInfo, index: FrameIndex, frame_rate: Fraction) -> SourceInfo:
    """Return ``info`` with the scan that the pictures show, where that differs from its flags.

    Raises:
        SourceUnusable: the source is film with repeated fields, and no filter here undoes pulldown.
    """
    if not suspicious(info, frame_rate):
        return info
    counts = count(info, index)
    low, high = _TELECINE_RATES
    if counts.telecine and low <= frame_rate <= high:
        raise SourceUnusable(
            f"cannot use {info.path}: it is film at {float(frame_rate):.2f} fps with repeated "
            "fields (telecine, 3:2 pulldown), and deinterlacing it would make it judder; turn it "
            "back into 23.976 fps first, for example with "
            "ffmpeg -i IN -vf fieldmatch,yadif=deint=interlaced,decimate OUT"
        )
    return corrected(info, counts, frame_rate)


def corrected(info: SourceInfo, counts: ScanCounts, frame_rate: Fraction) -> SourceInfo:
    """Return ``info`` as ``counts`` correct it: flags hold unless nearly every picture differs."""
    if info.interlaced:
        if counts.progressive >= WINDOW_FRAMES and counts.combed < 0.02:
            return replace(
                info,
                field_order="progressive",
                first_frame_interlaced=False,
                scan_corrected="progressive",
            )
        return info
    at_video_rate = info.height in _INTERLACED_HEIGHTS and frame_rate in _INTERLACED_RATES
    if at_video_rate and counts.decided >= 20 and counts.combed > 0.9:
        order: FieldOrder = "tt" if counts.top_first >= counts.bottom_first else "bb"
        return replace(info, field_order=order, scan_corrected="interlaced")
    return info


def count(info: SourceInfo, index: FrameIndex) -> ScanCounts:
    """Run ``idet`` over up to 180 frames, at three places of a longer title.

    A place that does not decode adds nothing to the counts; the analysis pass will report it.
    """
    frames = index.frames
    places: Sequence[int] = [0]
    if frames > _WHOLE_FRAMES:
        places = [int(frames * place) for place in _PLACES]
    counts = ScanCounts()
    for place in places:
        length = WINDOW_FRAMES if frames > _WHOLE_FRAMES else frames
        seconds = float(int(index.pts[place]) * index.time_base)
        try:
            done = run(_command(info, seconds if place else None, length), timeout_seconds=300)
        except ShotladderError:
            continue
        counts += parse(done.stderr)
    return counts


def _command(info: SourceInfo, seconds: float | None, frames: int) -> Command:
    options = as_arguments(SOURCE_OPTIONS)
    seek = [] if seconds is None else ["-seek_timestamp", "1", "-ss", f"{seconds:.6f}"]
    return Command.of(
        [
            *("-hide_banner", "-nostats", "-v", "info", "-max_error_rate", "1", *options, *seek),
            *as_arguments(decoding_options(info)),
            *("-threads", 1, "-i", info.path, "-map", f"0:{info.stream_index}"),
            *("-vf", "idet", "-frames:v", frames, "-fps_mode", "passthrough", "-f", "null", "-"),
        ]
    )
