"""What one CRF for the whole title takes for the same quality: what choosing by shots saves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.jobs.setup import CodecSetup
from cluster.package.assemble import encodes_quality
from cluster.stages.encodes import MeasuredEncode
from cluster.stages.measurer import Measurer
from encoder.media import OperatingPoint
from ladder.document import Quality

_MOST_STEPS = 8
_WIDTH = 1.0
"""CRFs this far apart are near enough to interpolate between."""


@dataclass(frozen=True, slots=True)
class SingleCrf:
    """The single CRF at which a whole title has a quality, between two that were measured."""

    crf: float
    bits: float
    """Bits of the video at that CRF."""
    tried: int
    """Number of CRFs at which the whole title was encoded and scored."""


def compare_with_single_crf(
    setup: CodecSetup,
    measurer: Measurer,
    encodes: Sequence[MeasuredEncode],
    value: Callable[[Quality], float],
) -> SingleCrf | None:
    """Encode the whole title at single CRFs until two of them are around a file's quality.

    Args:
        setup: the codec of the file.
        measurer: encodes and scores; what it knows already costs nothing.
        encodes: the file's encodes, one per shot, of one size.
        value: the pooled number that is to be equal.

    Returns:
        The CRF of equal quality, with the bits interpolated in their logarithm; None where no CRF
        of the profile's grid has that quality.
    """
    model, recipe = setup.quality_model, setup.recipe
    size = encodes[0].point.size
    grid = setup.profile.crf_grid[recipe.codec]
    wanted = value(encodes_quality(encodes, model))
    frames = sum(encode.shot.frames for encode in encodes)
    crf = _half(sum(encode.point.crf * encode.shot.frames for encode in encodes) / frames)
    known: dict[float, tuple[float, float]] = {}
    for _ in range(_MOST_STEPS):
        requests = [(shot, OperatingPoint(recipe, *size, crf)) for shot in range(len(encodes))]
        measurer.measure(requests, stage=f"CRF {crf:g}")
        whole = [measurer.measured_encode(request) for request in requests]
        bits = float(sum(8 * encode.num_bytes for encode in whole))
        known[crf] = bits, value(encodes_quality(whole, model))
        following = _next_crf(known, wanted, grid[0], grid[-1])
        if following is None:
            break
        crf = following
    above = [one for one, (_, quality) in known.items() if quality >= wanted]
    below = [one for one, (_, quality) in known.items() if quality < wanted]
    if not above or not below:
        return None
    low, high = max(above), min(below)
    (low_bits, low_quality), (high_bits, high_quality) = known[low], known[high]
    share = (low_quality - wanted) / (low_quality - high_quality)
    bits = math.exp((1 - share) * math.log(low_bits) + share * math.log(high_bits))
    return SingleCrf(low + share * (high - low), bits, len(known))


def _next_crf(
    known: dict[float, tuple[float, float]], wanted: float, least: float, most: float
) -> float | None:
    """Return the CRF to try next; None where two neighbours are around the quality, or none is."""
    above = [crf for crf, (_, quality) in known.items() if quality >= wanted]
    below = [crf for crf, (_, quality) in known.items() if quality < wanted]
    if above and below:
        low, high = max(above), min(below)
        if high - low <= _WIDTH:
            return None
        between = (known[low][1] - wanted) / (known[low][1] - known[high][1])
        guess = _half(low + between * (high - low))
        return min(max(guess, low + 0.5), high - 0.5)
    crf = max(above) + 2 ** len(known) / 2 if above else min(below) - 2 ** len(known) / 2
    crf = min(max(_half(crf), least), most)
    return None if crf in known else crf


def _half(crf: float) -> float:
    return round(2 * crf) / 2
