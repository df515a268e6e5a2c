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

import numpy as np

from encoder.arrays import Mask
from encoder.errors import ShotladderError, SourceUnusable
from encoder.ffmpeg import SOURCE_OPTIONS, Command, as_arguments, run
from encoder.source.decoding import decoding_options
from encoder.source.index import FrameIndex
from encoder.source.probing.source_info import FieldOrder, SourceInfo
from encoder.source.scan.looks import COMBED, PROGRESSIVE, UNDECIDED, Looks, look, look_from
from encoder.source.scan.picture_flags import suspects
from encoder.source.scan.runs import contradicts, corrected_flags, runs_of

WINDOW_FRAMES = 60
"""Frames that are examined at each place of a title."""
_PLACES = (0.15, 0.45, 0.75)
_WHOLE_FRAMES = WINDOW_FRAMES * len(_PLACES)
_TELECINE_RATES = (Fraction(299, 10), Fraction(301, 10))
_INTERLACED_HEIGHTS = (480, 486, 512, 576, 1080, 1088)
_INTERLACED_RATES = (25, 30, Fraction(30000, 1001))
_LOOK_WHOLE = 300  # frames of a source that is looked at picture by picture
_LOOK_FRAMES = 12
_FRAMES_PER_PLACE = 250
_LEAST_PLACES, _MOST_PLACES = 16, 180
_MIXED_SHARE = 0.2  # of places without repeated fields make a source a mix
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
    examined = suspicious(info, frame_rate)
    places = _places_of(info, index) if examined else ()
    whole = info
    if examined:
        counts = count(info, index)
        low, high = _TELECINE_RATES
        if counts.telecine and low <= frame_rate <= high and not _mixed(info, index):
            raise SourceUnusable(
                f"cannot use {info.path}: it is film at {float(frame_rate):.2f} fps with repeated "
                "fields (telecine, 3:2 pulldown), and deinterlacing it would make it judder; turn "
                "it back into 23.976 fps first, for example with "
                "ffmpeg -i IN -vf fieldmatch,yadif=deint=interlaced,decimate OUT"
            )
        whole = corrected(info, counts, frame_rate)
    combed = _at_video_rate(info, frame_rate)
    if any(contradicts(wanted(whole, one), one.seen, combed=combed) for one in places):
        return _by_picture(info, index, combed=combed) or whole
    return _turning(whole, index, places, combed=combed)


def wanted(info: SourceInfo, place: Looks) -> Mask:
    """Return which pictures are deinterlaced by the flags of the source alone."""
    if info.scan_corrected is None and (info.first_frame_interlaced or place.flagged.any()):
        return place.flagged
    return np.full(len(place.seen), info.interlaced)


def _places_of(info: SourceInfo, index: FrameIndex) -> tuple[Looks, ...]:
    """Look at a short source whole, at a longer one in places that are spread over it."""
    if index.frames <= _LOOK_WHOLE:
        whole = look(info, index)
        return tuple(part for one in whole for part in one.parts(_LOOK_FRAMES))
    number = min(_MOST_PLACES, max(_LEAST_PLACES, index.frames // _FRAMES_PER_PLACE))
    places = [index.frames * (2 * n + 1) // (2 * number) for n in range(number - 1)]
    return look(info, index, [*places, index.frames - _LOOK_FRAMES], _LOOK_FRAMES)


def _mixed(info: SourceInfo, index: FrameIndex) -> bool:
    """Return True where film with repeated fields is only part of a source."""
    number = min(_LEAST_PLACES, max(1, index.frames // WINDOW_FRAMES))
    starts = [index.frames * place // number for place in range(number)]
    counts = [_count(info, index, start, WINDOW_FRAMES) for start in starts]
    moving = [one for one in counts if one.telecine or one.decided > WINDOW_FRAMES // 2]
    return sum(not one.telecine for one in moving) > _MIXED_SHARE * len(moving)


def _turning(
    info: SourceInfo, index: FrameIndex, places: Sequence[Looks], *, combed: bool
) -> SourceInfo:
    """Return ``info`` with runs where the decoder marks some pictures as interlaced, some not."""
    if info.scan_corrected is not None:
        return info
    numbers = np.array([], np.int64)
    if not info.first_frame_interlaced:
        numbers = suspects(info, index)
        step = max(1, len(numbers) // _LEAST_PLACES)
        chosen = [int(number) for number in numbers[::step]]
        places = (*places, *look_from(info, index, chosen, _LOOK_FRAMES))
    marked = np.concatenate([place.flagged for place in places]) if places else np.array([], bool)
    if not marked.any() or (info.first_frame_interlaced and marked.all()):
        return info
    flagged = [
        one for one, flag in zip("".join(p.seen for p in places), marked, strict=True) if flag
    ]
    if flagged.count(PROGRESSIVE) > len(flagged) / 2 and not any(one in COMBED for one in flagged):
        return info  # flags that all pictures contradict
    if info.codec == "mpeg2video" and len(numbers):
        flags = np.zeros(index.frames, bool)
        flags[numbers] = True
        return replace(info, interlaced_runs=runs_of(flags, flags, ""))
    return _by_picture(info, index, combed=combed) or info


def _by_picture(info: SourceInfo, index: FrameIndex, *, combed: bool) -> SourceInfo | None:
    """Look at every picture; return ``info`` with runs, None where all pictures are alike.

    Without ``combed``, only flagged pictures are deinterlaced.
    """
    looks = look(info, index)
    if not looks:
        return None
    letters = np.full(index.frames, UNDECIDED)
    letters[looks[0].numbers] = list(looks[0].seen)
    seen = "".join(letters.tolist())
    marked, flags = np.zeros((2, index.frames), bool)
    marked[looks[0].numbers] = looks[0].flagged
    flags[looks[0].numbers] = wanted(info, looks[0])
    chosen = corrected_flags(flags, seen, combed=combed)
    if chosen.all() or not chosen.any():
        return None
    return replace(
        info,
        interlaced_runs=runs_of(chosen, marked, seen),
        flags_contradicted=int((chosen != flags).sum()),
    )


def _at_video_rate(info: SourceInfo, frame_rate: Fraction) -> bool:
    """Return True for sizes and rates of interlaced video; drawn pictures of other sizes are often
    taken for combed.
    """
    return info.height in _INTERLACED_HEIGHTS and frame_rate in _INTERLACED_RATES


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
    if _at_video_rate(info, frame_rate) and counts.decided >= 20 and counts.combed > 0.9:
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
    length = WINDOW_FRAMES if frames > _WHOLE_FRAMES else frames
    return sum((_count(info, index, place, length) for place in places), ScanCounts())


def _count(info: SourceInfo, index: FrameIndex, place: int, length: int) -> ScanCounts:
    seconds = float(int(index.pts[place]) * index.time_base)
    try:
        done = run(_command(info, seconds if place else None, length), timeout_seconds=300)
    except ShotladderError:
        return ScanCounts()
    return parse(done.stderr)


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
