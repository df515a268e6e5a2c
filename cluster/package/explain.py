"""What is known about each shot in each rung, as rows to select, sort and explain.

Measured numbers are those of the delivered segments. Predicted numbers are those of the complexity
model for the same encode, from before anything of the title was measured.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar, get_args

from cluster.package.package import Package
from encoder.errors import BadInput
from encoder.media import Size
from ladder.constraints import peak_rate_caps
from ladder.document import Cell, Ladder, Rung, Segment
from ladder.hull import slopes, upper_hull

_T = TypeVar("_T")

Sort = Literal["shot", "bytes", "rate", "quality", "error"]

DENSE, SPARSE = 1.25, 0.8
"""Ratios of a shot's rate to its rung's, above which it counts as costly and below as cheap."""
APART = 1.0
"""Distance from the rung's mean quality at which a shot counts as better or worse."""
_LEAST_PLAIN_RATE = 1000
"""Number below which digits alone are the number of a rung, not a rate in bit/s."""
NEAR_CEILING = 1.0
"""Distance from the best measured quality of its size at which a shot counts as near its limit."""
BINDING = 0.97
"""Share of a limit from which the limit counts as reached."""


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """One shot in one rung: what was measured and predicted, and why the shot is as it is."""

    rung: str
    """Name of the rung."""
    segment: Segment
    start_seconds: float
    """Time at which the shot begins."""
    seconds: float
    """Duration of the shot."""
    bitrate: float
    """Measured rate of the segment in bit/s."""
    share: float
    """Measured share of the rung's bytes, 0 to 1."""
    quality: float
    """Measured mean by the ladder's quality model."""
    predicted_bytes: int | None
    """Predicted size of the segment; None where nothing was predicted."""
    predicted_quality: float | None
    """Predicted mean quality; None where nothing was predicted."""
    reason: str | None
    """Why the search measured this encode, in the search's words."""
    explanation: str
    """How the shot compares with its rung, from measured numbers."""
    word: str = ""
    """The same in a word or two: hard, easy, peak, end of grid; empty for an average shot."""
    gain: float | None = None
    """Quality that a tenth more bits would add; None where a limit is reached."""

    @property
    def shot(self) -> int:
        """Number of the shot."""
        return self.segment.shot

    @property
    def bytes_error(self) -> float | None:
        """Ratio of measured to predicted bytes, minus one."""
        return None if not self.predicted_bytes else self.segment.bytes / self.predicted_bytes - 1

    @property
    def quality_error(self) -> float | None:
        """Measured minus predicted quality."""
        return None if self.predicted_quality is None else self.quality - self.predicted_quality


@dataclass(frozen=True, slots=True)
class ShotFacts:
    """One shot over all rungs."""

    shot: int
    """Number of the shot."""
    segments: tuple[SegmentFacts, ...]
    """One per rung, lowest rate first."""
    bytes: int
    """Bytes of the shot in all rungs together."""
    share: float
    """Share of the ladder's bytes, 0 to 1."""
    time_share: float
    """Share of the title's frames, 0 to 1."""

    @property
    def quality(self) -> float:
        """Mean quality over the rungs."""
        return math.fsum(facts.quality for facts in self.segments) / len(self.segments)

    @property
    def worst_error(self) -> float:
        """Largest difference between measured and predicted quality; 0 without predictions."""
        return max(abs(facts.quality_error or 0.0) for facts in self.segments)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which shots to list, and in which order."""

    sort: Sort = "shot"
    """Key to sort by: the number ascending, sizes and errors descending, quality ascending."""
    reverse: bool = False
    """True reverses the order."""
    limit: int | None = None
    """Largest number of rows, after sorting."""
    shots: tuple[tuple[int, int], ...] = ()
    """Ranges of shot numbers, both ends included; () selects all."""
    below: float | None = None
    """Quality that a selected shot stays below: in the rung listed, or in every rung."""


def shot_facts(package: Package) -> tuple[ShotFacts, ...]:
    """Return the facts of every shot in every rung, in order of shots."""
    rungs = [segment_facts(package, rung) for rung in package.ladder.rungs]
    total = sum(facts.segment.bytes for rung in rungs for facts in rung)
    shots = []
    for segments in zip(*rungs, strict=True):
        segment = segments[0].segment
        num_bytes = sum(facts.segment.bytes for facts in segments)
        shots.append(
            ShotFacts(
                shot=segment.shot,
                segments=segments,
                bytes=num_bytes,
                share=num_bytes / total,
                time_share=(segment.end_frame - segment.start_frame) / package.ladder.title.frames,
            )
        )
    return tuple(shots)


def segment_facts(package: Package, rung: Rung) -> tuple[SegmentFacts, ...]:
    """Return the facts of every shot of one rung, in order."""
    ladder, frame_rate = package.ladder, package.frame_rate
    cells_at: dict[tuple[int, Size], list[Cell]] = {}
    for cell in package.cells(package.recipe_of(rung)).values():
        cells_at.setdefault((cell.shot, cell.size), []).append(cell)
    total = sum(segment.bytes for segment in rung.segments)
    capped = capped_shots(package, rung)
    rows = []
    for segment in rung.segments:
        cells = cells_at.get((segment.shot, segment.size), [])
        measured = next((cell for cell in cells if cell.crf == segment.crf), None)
        seconds = float((segment.end_frame - segment.start_frame) / frame_rate)
        rows.append(
            SegmentFacts(
                rung=rung.name,
                segment=segment,
                start_seconds=float(segment.start_frame / frame_rate),
                seconds=seconds,
                bitrate=8 * segment.bytes / seconds,
                share=segment.bytes / total,
                quality=segment.quality[ladder.quality_model],
                predicted_bytes=measured.predicted_bytes if measured else None,
                predicted_quality=measured.predicted_quality if measured else None,
                reason=measured.reason if measured else None,
                explanation="; ".join(
                    [
                        _standing(ladder, rung, segment, seconds),
                        *_limits(ladder, segment, cells, capped=segment.shot in capped),
                    ]
                ),
                word=_word(ladder, rung, segment, seconds, cells, capped=segment.shot in capped),
                gain=None if segment.shot in capped else _gain(segment, cells),
            )
        )
    return tuple(rows)


def capped_shots(package: Package, rung: Rung) -> frozenset[int]:
    """Return the shots in a window that reaches the peak rate of the ladder's profile."""
    try:
        ratio = package.profile.peak_ratio
    except BadInput:  # a built-in profile that this version lacks
        return frozenset()
    if ratio is None:
        return frozenset()
    durations = [
        Fraction(segment.end_frame - segment.start_frame) / package.frame_rate
        for segment in rung.segments
    ]
    caps = peak_rate_caps(durations, math.ceil(max(durations)), ratio * rung.bitrate)
    bits = [8 * segment.bytes for segment in rung.segments]
    return frozenset(
        shot
        for cap in caps
        if sum(bits[cap.first_shot : cap.end_shot]) >= BINDING * cap.bits
        for shot in range(cap.first_shot, cap.end_shot)
    )


# -- explanations ------------------------------------------------------------------------------


def _standing(ladder: Ladder, rung: Rung, segment: Segment, seconds: float) -> str:
    """Say how hard a shot is: its rate and its quality against those of its rung."""
    density = 8 * segment.bytes / seconds / rung.bitrate
    model = ladder.quality_model
    apart = segment.quality[model] - rung.quality[model].mean
    rate = f"{density:.2g}x the rung's rate"
    if apart < -APART and density > DENSE:
        return f"hard: {rate}, still {-apart:.1f} below its mean quality"
    if apart < -APART and density < SPARSE:
        return f"gains little from more bits: {rate}, {-apart:.1f} below its mean quality"
    if apart < -APART:
        return f"hard: {rate}, {-apart:.1f} below its mean quality"
    if apart > APART and density < SPARSE:
        return f"easy: {rate}, {apart:.1f} above its mean quality"
    if apart > APART:
        return f"gains much from its bits: {rate}, {apart:.1f} above its mean quality"
    return f"average: {rate}, near its mean quality"


def _word(
    ladder: Ladder,
    rung: Rung,
    segment: Segment,
    seconds: float,
    cells: Sequence[Cell],
    *,
    capped: bool,
) -> str:
    """Say in a word what sets a shot apart in its rung, and the limit that it is at."""
    density = 8 * segment.bytes / seconds / rung.bitrate
    model = ladder.quality_model
    apart = segment.quality[model] - rung.quality[model].mean
    words = []
    if apart < -APART and density >= SPARSE:
        words.append("hard")
    elif apart > APART and density < SPARSE:
        words.append("easy")
    if capped:
        words.append("peak")
    elif cells and segment.crf == min(cell.crf for cell in cells) and len(cells) > 1:
        words.append("end of grid")
    elif any("reaches at most" in text for text in _limits(ladder, segment, cells, capped=False)):
        words.append("saturated")
    return ", ".join(words)


def _limits(
    ladder: Ladder, segment: Segment, cells: Sequence[Cell], *, capped: bool
) -> Iterable[str]:
    """Say how near a shot is to its limits, or what more bits would gain.

    Args:
        ladder: ladder of the segment.
        segment: segment of the shot in one rung.
        cells: measured cells of the shot at the segment's size.
        capped: True where the peak rate limits the shot.
    """
    quality = segment.quality[ladder.quality_model]
    best = max((cell.quality for cell in cells), default=quality)
    lowest_crf = min((cell.crf for cell in cells), default=segment.crf)
    if segment.crf > lowest_crf and best - quality < NEAR_CEILING:
        yield f"{segment.width}x{segment.height} reaches at most {best:.1f} (measured)"
    if capped:
        yield "at the peak-rate limit"
    elif (gain := _gain(segment, cells)) is not None:
        yield f"10 % more bits would add {gain:.1f}"


def _gain(segment: Segment, cells: Sequence[Cell]) -> float | None:
    """Return the quality that a tenth more bits would add, to first order.

    The slope is that of the measured hull's edge above the segment's bytes; None past the last
    measured point.
    """
    num_bytes = [float(cell.bytes) for cell in cells]
    quality = [cell.quality for cell in cells]
    hull = upper_hull(num_bytes, quality) if cells else []
    edges = zip(slopes(num_bytes, quality, hull), itertools.pairwise(hull), strict=True)
    for slope, (start, end) in edges:
        if num_bytes[start] <= segment.bytes < num_bytes[end]:
            return slope * 0.1 * segment.bytes
    return None


# -- what users ask for ------------------------------------------------------------------------


def find_rung(ladder: Ladder, text: str) -> Rung:
    """Return a rung by its name, by its number in the ladder, or the nearest to a rate.

    ``3`` is the third rung of the ladder, ``top`` the one of the highest rate, and a rate is
    written as ``800k`` or ``1M``.

    Raises:
        BadInput: the text is none of them.
    """
    for rung in ladder.rungs:
        if rung.name == text:
            return rung
    if text == "top":
        return max(ladder.rungs, key=lambda rung: rung.bitrate)
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= len(ladder.rungs):
        return ladder.rungs[int(text) - 1]
    rate = parse_rate(text)
    if rate is None or (text.isdecimal() and rate < _LEAST_PLAIN_RATE):
        raise BadInput(
            f"no rung {text!r}; name one of {', '.join(rung.name for rung in ladder.rungs)}, a "
            f"number from 1 to {len(ladder.rungs)}, `top`, or a rate such as 800k or 1M"
        )
    return min(ladder.rungs, key=lambda rung: abs(math.log(rung.bitrate / rate)))


def parse_rate(text: str) -> float | None:
    """Return the bit/s of ``1M``, ``1.5Mbit/s``, ``800k`` or ``800000``; None for other text."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:bit/s|bps)?", text.strip())
    if match is None or float(match[1]) <= 0:
        return None
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()]


def parse_shots(texts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Return ranges of shot numbers, both ends included, from texts such as ``3`` and ``10-19``.

    Raises:
        BadInput: a text is neither a number nor a range.
    """
    ranges = []
    for text in texts:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
        if match is None:
            raise BadInput(f"--shot takes a number or a range, such as 3 or 10-19; got {text!r}")
        first = int(match[1])
        ranges.append((first, int(match[2] or first)))
    return tuple(ranges)


def parse_sort(text: str) -> Sort:
    """Return the sort key of a name.

    Raises:
        BadInput: there is no such key.
    """
    for name in get_args(Sort):
        if text == name:
            return name  # type: ignore[no-any-return]
    raise BadInput(f"cannot sort by {text!r}; choose one of {', '.join(get_args(Sort))}")


_SHOT_KEYS: Mapping[Sort, Callable[[ShotFacts], float]] = {
    "shot": lambda shot: shot.shot,
    "bytes": lambda shot: -shot.bytes,
    "rate": lambda shot: -shot.bytes / shot.segments[0].seconds,
    "quality": lambda shot: shot.quality,
    "error": lambda shot: -shot.worst_error,
}
_SEGMENT_KEYS: Mapping[Sort, Callable[[SegmentFacts], float]] = {
    "shot": lambda facts: facts.shot,
    "bytes": lambda facts: -facts.segment.bytes,
    "rate": lambda facts: -facts.bitrate,
    "quality": lambda facts: facts.quality,
    "error": lambda facts: -abs(facts.quality_error or 0.0),
}


def select_shots(shots: Sequence[ShotFacts], selection: Selection) -> tuple[ShotFacts, ...]:
    """Return the selected shots, sorted."""
    selected = [
        shot
        for shot in shots
        if _in_ranges(shot.shot, selection)
        and all(_is_below(facts.quality, selection) for facts in shot.segments)
    ]
    return _ordered(sorted(selected, key=_SHOT_KEYS[selection.sort]), selection)


def select_segments(
    segments: Sequence[SegmentFacts], selection: Selection
) -> tuple[SegmentFacts, ...]:
    """Return the segments of one rung whose shots are selected, sorted."""
    selected = [
        facts
        for facts in segments
        if _in_ranges(facts.shot, selection) and _is_below(facts.quality, selection)
    ]
    return _ordered(sorted(selected, key=_SEGMENT_KEYS[selection.sort]), selection)


def _in_ranges(shot: int, selection: Selection) -> bool:
    return not selection.shots or any(first <= shot <= last for first, last in selection.shots)


def _is_below(quality: float, selection: Selection) -> bool:
    return selection.below is None or quality < selection.below


def _ordered(rows: list[_T], selection: Selection) -> tuple[_T, ...]:
    ordered = rows[::-1] if selection.reverse else rows
    return tuple(ordered[: selection.limit])
