"""What the rungs of a fixed ladder would look like, predicted on a search's own curves.

The fixed ladder is plain x264 ``medium`` in two passes, with a keyframe every two seconds. Our
curves are of shots encoded one by one, mostly by another recipe. Two passes give all shots about
the same CRF, so the quality of a fixed rung is taken from what our shots have at one CRF, not at
equal slopes, and at a *smaller* rate than the rung's. How much smaller was measured on 11 titles
of one to six shots (``docs/rungs.md``): 0.86 to 0.98 of the rung's bits on curves of plain
``medium``, 0.93 on average. The share taken here is near the upper end: a viewer whose quality was
predicted too high loses nothing, a viewer whose quality was predicted too low does. What is left
over is :data:`MARGIN`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from encoder.arrays import Float64
from encoder.media import Size
from encoder.recipes import Recipe
from ladder.baselines import APPLE_HLS_H264, FixedRung, fixed_rungs
from ladder.curves import pchip
from ladder.profiles import Profile
from ladder.tracks import Track
from ladder.viewers import Offer

REACHES = 0.97
"""Share of a fixed rung's bits at which the curve of plain x264 medium has its quality at most."""
OVERSHOOT = 5_000
"""Bit/s by which the second pass overshoots: 2 to 6 % at 145 kbit/s, nothing at 2 Mbit/s."""
MARGIN = 0.15
"""Points of the viewers' tolerance that are left to what the prediction misses."""

SAME_RATE = 1e-9
"""Difference of the logarithms of two rates up to which they are the same."""

_NEEDS = {"x264": 1.0, "x265": 0.9, "svtav1": 0.75, "vp9": 0.9}
"""Bits that a codec's medium needs for the quality of x264 medium, as a share, on titles where the
codec saves little (``docs/codecs.md``)."""
_PRESETS = {
    "ultrafast": 1.8,
    "superfast": 1.4,
    "veryfast": 1.25,
    "faster": 1.1,
    "fast": 1.05,
    "medium": 1.0,
    "slow": 0.98,
    "slower": 0.97,
    "veryslow": 0.97,
}
_TUNED = 0.95
"""The same for a tuning against the same preset without it."""


def needs(recipe: Recipe) -> float:
    """Return the bits that a recipe needs at most for the quality of plain x264 medium, as a
    share."""
    tuned = _TUNED if recipe != recipe.plain else 1.0
    return _NEEDS[recipe.codec] * _PRESETS[recipe.preset] * tuned


def reference_rungs(display: Size, profile: Profile) -> tuple[FixedRung, ...]:
    """Return the rungs of the profile's reference ladder for a title of this display size."""
    return fixed_rungs(*display, profile.reference or APPLE_HLS_H264)


def is_placed(profile: Profile, display: Size) -> bool:
    """Return whether a title's rungs are placed by what viewers receive.

    They are spaced, or listed, where the profile says so, and where the title is so small that the
    reference ladder has a single rung for it: that says nothing of what viewers would need.
    """
    placed = profile.placement != "spacing" and not profile.lists_rungs
    return placed and len(reference_rungs(display, profile)) > 1


def serves_reference(profile: Profile, display: Size) -> bool:
    """Return whether rungs take just what viewers of the reference ladder need."""
    return profile.placement == "fewest-bits" and is_placed(profile, display)


def predicted(
    rungs: Sequence[FixedRung], sizes: Sequence[Size], tracks: Sequence[Track], recipe: Recipe
) -> tuple[Offer, ...]:
    """Return the fixed ladder's rungs with the quality that they are predicted to have.

    Args:
        rungs: Rungs of the fixed ladder, from the lowest rate.
        sizes: Sizes that there are curves for, smallest first.
        tracks: Title curve of each of those sizes, without constraints.
        recipe: Recipe that the curves are of.
    """
    share = REACHES * needs(recipe)
    near = [_nearest(rung.size, sizes) for rung in rungs]
    # Once for each size: a long title has many shots, and several rungs may have one size.
    curves = {n: tracks[n].at_one_crf() for n in {*itertools.chain(*near)}}
    offers = []
    for rung, numbers in zip(rungs, near, strict=True):
        rate = (rung.rate + OVERSHOOT) * share
        quality = max(_quality(*curves[n], rate) for n in numbers)
        offers.append(Offer(float(rung.rate), quality, min(rung.size)))
    return tuple(offers)


def _quality(rates: Float64, qualities: Float64, rate: float) -> float:
    """Return the quality at a rate of a size whose shots have one CRF; that of the highest CRF
    below its rate."""
    # Measured CRFs may lie far apart, and a straight line between them is no curve.
    logs = np.log(rates)
    apart = np.append(True, np.diff(logs) > SAME_RATE)
    if apart.sum() < 2:
        return float(qualities[-1])
    within = np.clip(np.log([rate]), logs[apart][0], logs[apart][-1])
    return float(pchip(logs[apart], qualities[apart], within)[0])


def _nearest(size: Size, sizes: Sequence[Size]) -> list[int]:
    """Return the number of ``size`` among ``sizes``, or of its neighbours where it is not there."""
    pixels = size.width * size.height
    of = [each.width * each.height for each in sizes]
    if pixels in of:
        return [of.index(pixels)]
    above = [n for n, each in enumerate(of) if each > pixels][:1]
    below = [n for n, each in enumerate(of) if each < pixels][-1:]
    return above + below
