"""A title whose rate-quality curves are formulas, so that ladders can be checked exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from fractions import Fraction

from encoder.media import Request, Shot, Size
from encoder.recipes import x264
from ladder.curves import Measurement
from ladder.profiles import load_profile
from ladder.search.steps import Known, TitleShape

SIZES = (Size(416, 234), Size(640, 360), Size(960, 540), Size(1280, 720))
FRAME_RATE = Fraction(24000, 1001)

# (frames, complexity): shots of 1 to 6 s, from still to busy.
SHOTS = ((48, 0.6), (120, 1.0), (72, 2.2), (144, 0.8), (30, 1.4), (96, 1.1), (60, 0.5), (84, 1.7))


def measure(request: Request, shots: tuple[tuple[int, float], ...] = SHOTS) -> Measurement:
    """Larger pictures cost more bits and lose less detail; a busy shot costs more and hides less.

    A little deterministic noise stands for what real encoders do.
    """
    shot, point = request
    frames, complexity = shots[shot]
    pixels = point.width * point.height
    wobble = 0.01 * math.sin(37.0 * shot + 11.0 * point.crf + pixels)
    per_frame = complexity * pixels**0.8 * 9 * math.exp(-0.125 * (point.crf - 20) + wobble)
    detail_lost = 28 * (1 - math.sqrt(pixels / (1280 * 720))) ** 1.5 * complexity**0.3
    coding_loss = 1.2 * math.exp(0.085 * (point.crf - 14)) * complexity**0.2
    quality = 99 - detail_lost - coding_loss * (1 - detail_lost / 120) + wobble
    return Measurement(max(1, round(frames * per_frame)), quality)


def shape(
    shots: tuple[tuple[int, float], ...] = SHOTS, sizes: Iterable[Size] = SIZES
) -> TitleShape:
    starts = [sum(frames for frames, _ in shots[:i]) for i in range(len(shots) + 1)]
    return TitleShape(
        shots=tuple(Shot(a, b) for a, b in itertools.pairwise(starts)),
        frame_rate=FRAME_RATE,
        sizes=tuple(sizes),
        recipe=x264(),
    )


def known(requests: Iterable[Request], title: TitleShape | None = None) -> Known:
    return Known(
        title or shape(),
        load_profile("default-0.1"),
        "locked",
        {request: measure(request) for request in requests},
    )
