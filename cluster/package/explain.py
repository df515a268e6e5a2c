"""What is known of each shot in each rung, as rows that can be filtered, sorted and explained.

Measured numbers are those of the delivered segments; predicted ones are what the complexity model
expected of the same encode before anything of the title was measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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
"""Share of the rung's rate from which a shot counts as costly, and under which as cheap."""
APART = 1.0
"""Quality by which a shot counts as better or worse than its rung."""
NEAR_CEILING = 1.0
"""Quality within which a shot counts as at the end of what its size can show."""
BINDING = 0.97
"""Share of a limit from which it counts as reached."""


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """One shot of one rung: measured, what was expected of it, and why it is as it is."""

    rung: str
    segment: Segment
    start_seconds: float
    seconds: float
    bitrate: float
    """bit/s, measured."""
    share: float
    """Of the rung's bits, measured."""
    quality: float
    """Mean by the ladder's quality model, measured."""
    predicted_bytes: int | None
    predicted_quality: float | None
    reason: str | None
    """Why the search measured it, in its words."""
    why: str
    """Where the shot stands in its rung, from measured numbers."""

    @property
    def shot(self) -> int:
        """Its number."""
        return self.segment.shot

    @property
    def bytes_error(self) -> float | None:
        """Measured over predicted bytes, less one."""
        return None if not self.predicted_bytes else self.segment.bytes / self.predicted_bytes - 1

    @property
    def quality_error(self) -> float | None:
        """Measured less predicted quality."""
        return None if self.predicted_quality is None else self.quality - self.predicted_quality


@dataclass(frozen=True, slots=True)
class ShotFacts:
    """One shot over all rungs."""

    shot: int
    segments: tuple[SegmentFacts, ...]
    """One per rung, lowest rate first."""
    bytes: int
    """In all rungs together."""
    share: float
    """Of the ladder's bytes."""
    time_share: float
    """Of the title's frames."""

    @property
    def quality(self) -> float:
        """Mean over the rungs."""
        return math.fsum(one.quality for one in self.segments) / len(self.segments)

    @property
    def worst_error(self) -> float:
        """Largest difference of measured and predicted quality; 0 where nothing was predicted."""
        return max(abs(one.quality_error or 0.0) for one in self.segments)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows, in which order."""

    sort: Sort = "shot"
    reverse: bool = False
    limit: int | None = None
    shots: tuple[tuple[int, int], ...] = ()
    """Ranges of shots, both ends in; () is all."""
    below: float | None = None
    """Only shots of less quality: in the rung looked at, or in every rung."""


def shot_facts(package: Package) -> tuple[ShotFacts, ...]:
    """Return the facts of every shot in every rung, in order of shots."""
    rungs = [segment_facts(package, rung) for rung in package.ladder.rungs]
    sizes = [sum(one.segment.bytes for one in of) for of in zip(*rungs, strict=True)]
    total = sum(sizes)
    return tuple(
        ShotFacts(
            shot=of[0].shot,
            segments=of,
            bytes=num_bytes,
            share=num_bytes / total,
            time_share=(of[0].segment.end_frame - of[0].segment.start_frame)
            / package.ladder.title.frames,
        )
        for of, num_bytes in zip(zip(*rungs, strict=True), sizes, strict=True)
    )


def segment_facts(package: Package, rung: Rung) -> tuple[SegmentFacts, ...]:
    """Return the facts of every shot of one rung, in order."""
    ladder, rate = package.ladder, package.frame_rate
    cells: dict[tuple[int, Size], list[Cell]] = {}
    for cell in package.cells(package.recipe_of(rung)).values():
        cells.setdefault((cell.shot, cell.size), []).append(cell)
    total = sum(segment.bytes for segment in rung.segments)
    capped = capped_shots(package, rung)
    found = []
    for segment in rung.segments:
        near = cells.get((segment.shot, segment.size), [])
        own = next((cell for cell in near if cell.crf == segment.crf), None)
        seconds = float((segment.end_frame - segment.start_frame) / rate)
        facts = SegmentFacts(
            rung=rung.name,
            segment=segment,
            start_seconds=float(segment.start_frame / rate),
            seconds=seconds,
            bitrate=8 * segment.bytes / seconds,
            share=segment.bytes / total,
            quality=segment.quality[ladder.quality_model],
            predicted_bytes=own.predicted_bytes if own else None,
            predicted_quality=own.predicted_quality if own else None,
            reason=own.reason if own else None,
            why="",
        )
        why = _explained(facts, near, ladder, rung, segment.shot in capped)
        found.append(replace(facts, why=why))
    return tuple(found)


def capped_shots(package: Package, rung: Rung) -> frozenset[int]:
    """Return the shots in a window that reaches the peak rate of the ladder's profile."""
    try:
        ratio = package.profile.peak_ratio
    except BadInput:  # a profile of another version
        return frozenset()
    if ratio is None:
        return frozenset()
    rate = package.frame_rate
    durations = [Fraction(s.end_frame - s.start_frame) / rate for s in rung.segments]
    caps = peak_rate_caps(durations, math.ceil(max(durations)), ratio * rung.bitrate)
    bits = [8 * segment.bytes for segment in rung.segments]
    return frozenset(
        shot
        for cap in caps
        if sum(bits[cap.first_shot : cap.end_shot]) >= BINDING * cap.bits
        for shot in range(cap.first_shot, cap.end_shot)
    )


def _explained(
    facts: SegmentFacts, near: Sequence[Cell], ladder: Ladder, rung: Rung, capped: bool
) -> str:
    """In words, from measured numbers: how hard, how near its limits, what more bits would buy."""
    dense = facts.bitrate / rung.bitrate
    apart = facts.quality - rung.quality[ladder.quality_model].mean
    takes = f"{dense:.2g}x the rung's rate"
    if apart < -APART and dense > DENSE:
        said = f"hard: {takes}, still {-apart:.1f} under its mean"
    elif apart < -APART and dense < SPARSE:
        said = f"bits buy little here: {takes}, {-apart:.1f} under its mean"
    elif apart < -APART:
        said = f"hard: {-apart:.1f} under the rung's mean at {takes}"
    elif apart > APART and dense < SPARSE:
        said = f"easy: {takes}, {apart:.1f} over its mean"
    elif apart > APART:
        said = f"bits pay here: {takes}, {apart:.1f} over its mean"
    else:
        said = f"near the rung's mean at {takes}"
    parts = [said]
    best = max((cell.quality for cell in near), default=facts.quality)
    lowest_crf = min((cell.crf for cell in near), default=facts.segment.crf)
    if facts.segment.crf > lowest_crf and best - facts.quality < NEAR_CEILING:
        parts.append(
            f"{facts.segment.width}x{facts.segment.height} reaches {best:.1f} at most (measured)"
        )
    if capped:
        parts.append("at the peak-rate limit")
    elif (gain := _gain(facts.segment, near)) is not None:
        parts.append(f"10 % more of its bits would add {gain:.1f}")
    return "; ".join(parts)


def _gain(segment: Segment, near: Sequence[Cell]) -> float | None:
    """Quality that a tenth more bits would add: the next edge of the measured hull, to first
    order. None past the last measured point."""
    bits = [float(cell.bytes) for cell in near]
    quality = [cell.quality for cell in near]
    hull = upper_hull(bits, quality) if near else []
    for left, edge in zip(hull, slopes(bits, quality, hull), strict=False):
        following = hull[hull.index(left) + 1]
        if bits[left] <= segment.bytes < bits[following]:
            return edge * 0.1 * segment.bytes
    return None


def find_rung(ladder: Ladder, asked: str) -> Rung:
    """The rung of a name, or the one whose rate is nearest to a rate such as ``800k`` or ``1M``.

    Raises:
        BadInput: it is neither.
    """
    for rung in ladder.rungs:
        if rung.name == asked:
            return rung
    rate = parse_rate(asked)
    if rate is None:
        raise BadInput(
            f"no rung {asked!r}; name one of {', '.join(r.name for r in ladder.rungs)}, "
            "or a rate such as 800k or 1M"
        )
    return min(ladder.rungs, key=lambda rung: abs(math.log(rung.bitrate / rate)))


def parse_rate(text: str) -> float | None:
    """bit/s of ``1M``, ``1.5Mbit/s``, ``800k`` or ``800000``; None when it is no rate."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:bit/s|bps)?", text.strip())
    if found is None or float(found[1]) <= 0:
        return None
    return float(found[1]) * {"": 1, "k": 1e3, "m": 1e6}[found[2].lower()]


def parse_shots(texts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Ranges from ``3`` and ``10-19``.

    Raises:
        BadInput: one is neither.
    """
    found = []
    for text in texts:
        matched = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
        if matched is None:
            raise BadInput(f"--shot takes a number or a range, as 3 or 10-19; got {text!r}")
        first = int(matched[1])
        found.append((first, int(matched[2] or first)))
    return tuple(found)


def parse_sort(text: str) -> Sort:
    """A sort key.

    Raises:
        BadInput: there is no such key.
    """
    for name in get_args(Sort):
        if text == name:
            return name  # type: ignore[no-any-return]
    raise BadInput(f"cannot sort by {text!r}; choose one of {', '.join(get_args(Sort))}")


def chosen_shots(facts: Sequence[ShotFacts], wanted: Wanted) -> tuple[ShotFacts, ...]:
    """The shots that are wanted, most or worst first unless by number."""
    keys: dict[Sort, Callable[[ShotFacts], float]] = {
        "shot": lambda one: one.shot,
        "bytes": lambda one: -one.bytes,
        "rate": lambda one: -one.bytes / one.segments[0].seconds,
        "quality": lambda one: one.quality,
        "error": lambda one: -one.worst_error,
    }
    kept = [
        one
        for one in facts
        if _asked(one.shot, wanted)
        and (wanted.below is None or all(s.quality < wanted.below for s in one.segments))
    ]
    return _cut(sorted(kept, key=keys[wanted.sort]), wanted)


def chosen_segments(facts: Sequence[SegmentFacts], wanted: Wanted) -> tuple[SegmentFacts, ...]:
    """As :func:`chosen_shots`, within a rung."""
    keys: dict[Sort, Callable[[SegmentFacts], float]] = {
        "shot": lambda one: one.shot,
        "bytes": lambda one: -one.segment.bytes,
        "rate": lambda one: -one.bitrate,
        "quality": lambda one: one.quality,
        "error": lambda one: -abs(one.quality_error or 0.0),
    }
    kept = [
        one
        for one in facts
        if _asked(one.shot, wanted) and (wanted.below is None or one.quality < wanted.below)
    ]
    return _cut(sorted(kept, key=keys[wanted.sort]), wanted)


def _asked(shot: int, wanted: Wanted) -> bool:
    return not wanted.shots or any(first <= shot <= last for first, last in wanted.shots)


def _cut(rows: list[_T], wanted: Wanted) -> tuple[_T, ...]:
    ordered = rows[::-1] if wanted.reverse else rows
    return tuple(ordered[: wanted.limit])
