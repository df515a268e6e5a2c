"""The ladders to compare with: the fixed ladder and the best per-title CRF ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encoder.media import Size
from ladder.bdrate import RatePoint
from ladder.hull import pareto
from ladder.profiles import NATIVE_MARGIN, size_within
from ladder.title_curves import TitleCurves

APPLE_HLS_H264 = (
    (145_000, 234),
    (365_000, 360),
    (730_000, 432),
    (1_100_000, 432),
    (2_000_000, 540),
    (3_000_000, 720),
    (4_500_000, 720),
    (6_000_000, 1080),
    (7_800_000, 1080),
)
"""Average video rate in bit/s and 16:9 height of the H.264 rungs in Apple's "HTTP Live Streaming
(HLS) authoring specification for Apple devices"."""


@dataclass(frozen=True, slots=True)
class FixedRung:
    """One rung of the fixed ladder, to be encoded in two passes at its rate."""

    rate: int
    """Rate in bit/s."""
    size: Size


def fixed_rungs(display_width: int, display_height: int) -> tuple[FixedRung, ...]:
    """Return the fixed ladder for a title of this display size, from the lowest rate.

    Each listed height stands for a 16:9 frame, upright for portrait titles, that the title has to
    fit into. Rungs that would enlarge the title are dropped, unless its own size is within 10 % of
    the listed one; then its own size is used. A title that is smaller than all of them keeps the
    lowest rung, at its own size.
    """
    rungs: list[FixedRung] = []
    for rate, height in APPLE_HLS_H264:
        size, scale = size_within(display_width, display_height, height)
        if scale < NATIVE_MARGIN or not rungs:
            rungs.append(FixedRung(rate, size))
    return tuple(rungs)


@dataclass(frozen=True, slots=True)
class CrfRung:
    """One rung of a per-title CRF ladder, to be encoded in one process."""

    size: Size
    crf: float
    rate: float
    """Expected rate in bit/s, from the title's shots encoded one by one."""
    quality: float
    """Expected mean quality over the title's frames."""


def crf_rungs(title: TitleCurves) -> tuple[CrfRung, ...]:
    """Return a rung for every size and every CRF that all shots' curves have."""
    seconds = float(sum(title.durations))
    frames = sum(shot.frames for shot in title.shots)
    rungs, step = [], title.recipe.crf_step
    for size in title.sizes:
        shots = [{p.crf: p for p in curve.points(step)} for curve in title.curves[size]]
        for crf in sorted(set.intersection(*(set(points) for points in shots))):
            bits = sum(points[crf].bits for points in shots)
            value = sum(
                shot.frames * points[crf].quality
                for shot, points in zip(title.shots, shots, strict=True)
            )
            rungs.append(CrfRung(size, crf, bits / seconds, value / frames))
    return tuple(rungs)


def per_title_crf_rungs(title: TitleCurves, rates: Sequence[float]) -> tuple[CrfRung, ...]:
    """Return the best per-title CRF ladder at the rates (bit/s) of another ladder's rungs.

    Each rate gets the size and CRF of the highest quality within that rate; rates below the
    cheapest rung get the cheapest. Sizes never fall as rates rise, and no rung comes twice, so
    there may be fewer rungs than rates.
    """
    candidates = crf_rungs(title)
    unbeaten = pareto([rung.rate for rung in candidates], [rung.quality for rung in candidates])
    kept = [candidates[index] for index in unbeaten]
    ladder: list[CrfRung] = []
    for rate in sorted(rates):
        within = [rung for rung in kept if rung.rate <= rate] or kept[:1]
        if ladder:
            least = ladder[-1].size.width * ladder[-1].size.height
            within = [rung for rung in within if rung.size.width * rung.size.height >= least]
        if within and within[-1] not in ladder:
            ladder.append(within[-1])
    return tuple(ladder)


def rate_points(rungs: Sequence[CrfRung]) -> tuple[RatePoint, ...]:
    """Return the expected rate and quality of each rung."""
    return tuple(RatePoint(rung.rate, rung.quality) for rung in rungs)
