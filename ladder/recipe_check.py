"""Do no harm: whether a recipe's options and a further codec do one title good.

A default recipe was chosen on other titles, and VMAF is easily pleased. So before the search, three
shots of the title itself are encoded both ways at one size and two CRFs near where the ladder will
spend, and are judged by the title's quality model and by the fidelity judges:

- the *options* of a recipe, against the same preset without them. A title that would lose more than
  :data:`HARM_PERCENT` by any judge keeps the plain recipe. A loss by the quality model alone counts
  only as far as it is more than every fidelity judge gains. Of a further codec, what counts is the
  saving over the first codec by the judge that sees least, with the options and without: SVT-AV1's
  ``tune=2`` gives back a part of what VMAF sees and saves more by fidelity, where AV1 saves least.
- a *further codec*, against the first codec of the ladder. A codec that saves nothing by some judge
  is left out where the profile, not the user, chose it: its saving would be detail that is gone.

Rates at equal score are BD-rates over the three shots together.

Two CRFs are enough to see that a codec saves, and too few to leave one out: the two codecs then
have little quality in common, and a BD-rate of two points differs by 16 % (rms) from one over the
whole range of CRFs. So where two points say that a codec saves nothing, two more are measured of
each shot and codec (:func:`wider_crfs`), and the codec is left out only if the loss by some judge
is beyond what the noise of the sample explains (:func:`least_losses`), or if no judge sees a
saving. Pure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from encoder.media import Request, Size
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import bd_claim
from ladder.recipe_evidence import student_t

HARM_PERCENT = 2.0
"""Percent of rate that a title may lose by any judge before it keeps the plain recipe."""
SHOTS = 3
"""Number of shots that are checked: those that carry most bits."""
POINTS = 4
"""Number of CRFs of each shot that decide whether a codec is left out."""
NEAREST, FARTHEST = 4.0, 10.0
"""Least and greatest distance in CRF from the two CRFs of a shot to the further ones. At four, x264
spends about 1.6 times the bits; scores are no straight lines beyond ten."""
MARGIN = 1.25
"""Factor on the distance at which scores are expected to meet: they are no straight lines."""

LEAST_OVERLAP = 0.25
"""Share of the scores of both codecs that must be common before a codec is left out by a judge."""

CURVE_SPREAD = 0.065
"""Standard deviation of the logarithm of a rate that is due to which CRFs were measured: BD-rates
of four CRFs around BD-rates of five, by VMAF v1, XPSNR and SSIM."""
SHOT_SPREAD = 0.09
"""Standard deviation of the logarithm of the rate over the shots of a title."""
SHOT_FREEDOM = 6
"""Degrees of freedom of :data:`SHOT_SPREAD`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is encoded for a check: some shots at one size, each at two CRFs or more."""

    size: Size
    crfs: Mapping[int, tuple[float, ...]]
    """Ascending CRFs by number of the shot, equally many of each shot."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One encode of a shot, judged."""

    frames: int
    """Number of frames of the shot."""
    bits: float
    scores: Mapping[str, float]
    """Mean score by quality model or judge; higher is better."""


def heaviest(bits: Mapping[int, float], count: int = SHOTS) -> tuple[int, ...]:
    """Return the numbers of the ``count`` shots with most bits, in order; the earlier of equals."""
    return tuple(sorted(sorted(bits, key=lambda shot: (-bits[shot], shot))[:count]))


def sample_of_plan(bits: Mapping[Request, float], middle: tuple[float, float]) -> Sample:
    """Return what to check of a planned ladder: where it will spend most bits.

    Args:
        bits: Expected bits of every encode that the ladder would deliver, at least one.
        middle: A lower and a higher CRF for shots for which the plan has a single one.
    """
    by_size: dict[Size, float] = {}
    by_shot: dict[int, float] = {}
    for (shot, point), spent in bits.items():
        by_size[point.size] = by_size.get(point.size, 0.0) + spent
        by_shot[shot] = by_shot.get(shot, 0.0) + spent
    size = max(by_size, key=lambda one: (by_size[one], one))
    return sample_at(bits, heaviest(by_shot), size, middle)


def sample_at(
    planned: Sequence[Request] | Mapping[Request, float],
    shots: Sequence[int],
    size: Size,
    middle: tuple[float, float],
) -> Sample:
    """Return these shots at this size, at two neighbouring CRFs that the plan has for each.

    A shot for which the plan has fewer takes the CRFs of ``middle``.
    """
    crfs: dict[int, tuple[float, float]] = {}
    for shot in shots:
        own = sorted({p.crf for number, p in planned if number == shot and p.size == size})
        # Of the planned CRFs the two in the middle, rather worse: the best rungs saturate.
        upper = (len(own) + 1) // 2
        crfs[shot] = (own[upper - 1], own[upper]) if len(own) > 1 else middle
    return Sample(size, crfs)


def wider_crfs(
    crfs: Sequence[float],
    own: Sequence[Judged],
    other: Sequence[Judged],
    limits: tuple[float, float],
    step: float,
) -> tuple[float, ...]:
    """Return a shot's two CRFs and two more, :data:`POINTS` in ascending order.

    The further ones lie on both sides, at the distance where the scores are expected to reach those
    of the other recipe by every judge. At the end of the codec's scale they lie between or beyond
    the others.

    Args:
        crfs: The lower and the higher CRF.
        own: The shot's encodes at these two.
        other: The shot's encodes with the other recipe.
        limits: Lowest and highest CRF of the recipe.
        step: Smallest difference between two CRFs.
    """
    low, high = crfs
    below, above = NEAREST, NEAREST
    for judge, best in own[0].scores.items():
        worst = own[-1].scores[judge]
        falls = (best - worst) / (high - low)
        if falls > 0:
            theirs = [one.scores[judge] for one in other]
            below = max(below, MARGIN * (max(theirs) - best) / falls)
            above = max(above, MARGIN * (worst - min(theirs)) / falls)
    lowest = math.floor((low - min(below, FARTHEST)) / step) * step
    highest = math.ceil((high + min(above, FARTHEST)) / step) * step
    chosen = {max(limits[0], lowest), low, high, min(limits[1], highest)}
    while len(chosen) < POINTS:
        ordered = sorted(chosen)
        gap, start = max((b - a, a) for a, b in itertools.pairwise(ordered))
        chosen.add(start + round(gap / 2 / step) * step)
    return tuple(sorted(chosen))


def compare(
    anchor: Sequence[Sequence[Judged]],
    test: Sequence[Sequence[Judged]],
    least_overlap: float = 0.0,
) -> dict[str, float | None]:
    """Return the rate of ``test`` over ``anchor`` at equal score, in percent, by judge.

    Args:
        anchor: Each shot's encodes by ascending CRF, equally many of each shot.
        test: The same shots, encoded the other way.
        least_overlap: Share of the range of all scores that the two must have in common, 0 to 1.

    Returns:
        Negative where the test needs fewer bits; None where the scores of the two have no common
        range, or too little of one, as where all are at the end of a judge's scale.
    """
    return {
        judge: _rate_percent(anchor, test, judge, least_overlap) for judge in anchor[0][0].scores
    }


def least_losses(
    anchor: Sequence[Sequence[Judged]],
    test: Sequence[Sequence[Judged]],
    sampled_share: float,
) -> dict[str, float | None]:
    """Return by judge the rate over ``anchor`` in percent that the title exceeds with
    :data:`~ladder.recipe_evidence.CONFIDENCE`, given what the sample says.

    The noise has two parts, in logarithms of the rate. :data:`CURVE_SPREAD` is common to all shots,
    because a codec saves less or more at better quality in all shots alike. The spread over shots
    is that of the sample's own shots, as far as three can tell: it is pooled with that of other
    titles (:data:`SHOT_SPREAD`), weighted by degrees of freedom. It shrinks with the number of
    shots, and vanishes where the sample is the whole title (the correction for finite populations).

    Args:
        anchor: Each shot's encodes by ascending CRF, :data:`POINTS` of each.
        test: The same shots, encoded the other way.
        sampled_share: Share of the title's frames that lie in these shots, 0 to 1.

    Returns:
        None where the scores of the two have less than :data:`LEAST_OVERLAP` in common.
    """
    return {judge: _least_loss(anchor, test, judge, sampled_share) for judge in anchor[0][0].scores}


def _least_loss(
    anchor: Sequence[Sequence[Judged]],
    test: Sequence[Sequence[Judged]],
    judge: str,
    sampled_share: float,
) -> float | None:
    pooled = _rate_percent(anchor, test, judge, LEAST_OVERLAP)
    if pooled is None:
        return None
    of_shots = [_rate_percent([a], [t], judge, 0.0) for a, t in zip(anchor, test, strict=True)]
    told = [math.log1p(percent / 100) for percent in of_shots if percent is not None]
    squares = sum((ratio - fmean(told)) ** 2 for ratio in told)
    freedom = SHOT_FREEDOM + max(0, len(told) - 1)
    shot_variance = (SHOT_FREEDOM * SHOT_SPREAD**2 + squares) / freedom
    unseen = max(0.0, 1 - sampled_share)
    noise = math.sqrt(CURVE_SPREAD**2 + unseen * shot_variance / len(anchor))
    return math.expm1(math.log1p(pooled / 100) - student_t(freedom) * noise) * 100


def _rate_percent(
    anchor: Sequence[Sequence[Judged]],
    test: Sequence[Sequence[Judged]],
    judge: str,
    least_overlap: float,
) -> float | None:
    claim = bd_claim(_pooled(anchor, judge), _pooled(test, judge))
    if not isinstance(claim, BdRate) or claim.overlap < least_overlap:
        return None
    return claim.percent


def _pooled(shots: Sequence[Sequence[Judged]], judge: str) -> list[RatePoint]:
    """Return the points of all shots together: bits, and the mean score over their frames."""
    frames = sum(encodes[0].frames for encodes in shots)
    return [
        RatePoint(
            sum(one.bits for one in column),
            sum(one.frames * one.scores[judge] for one in column) / frames,
        )
        for column in zip(*shots, strict=True)
    ]


def options_loss(percents: Mapping[str, float | None], quality_model: str) -> float | None:
    """Return what a recipe's options lose on a title, in percent, by the judge that decides.

    Args:
        percents: Rates over the plain recipe's by judge, as :func:`compare` returns them.
        quality_model: Name of the judge that is the title's quality model.

    Returns:
        The options do harm where this is over :data:`HARM_PERCENT`; None where no judge can tell.
    """
    by_model = percents.get(quality_model)
    fidelity = codec_loss({j: p for j, p in percents.items() if j != quality_model})
    if by_model is None or fidelity is None:
        return fidelity if by_model is None else by_model
    excused = max(0.0, -fidelity - HARM_PERCENT)
    return max(fidelity, by_model - excused)


def further_options_loss(
    tuned: Mapping[str, float | None], plain: Mapping[str, float | None]
) -> float | None:
    """Return what the options of a further codec's recipe lose on a title, in percent, by the
    least content judge.

    Args:
        tuned: Rates with the options over the first codec's by judge.
        plain: Rates without them over the first codec's.

    Returns:
        The options do harm where this is over :data:`HARM_PERCENT`; None where no judge can tell.
    """
    with_options, without = codec_loss(tuned), codec_loss(plain)
    if with_options is None or without is None:
        return None
    return ((1 + with_options / 100) / (1 + without / 100) - 1) * 100


def codec_loss(percents: Mapping[str, float | None]) -> float | None:
    """Return the rate of a further codec over the first, in percent, by the least content judge.

    The codec saves nothing where this is not negative; None where no judge can tell.
    """
    return max((percent for percent in percents.values() if percent is not None), default=None)


def saves_nothing(losses: Mapping[str, float | None], quality_model: str) -> bool:
    """Return whether a further codec saves nothing by some judge.

    Args:
        losses: Rates over the first codec's in percent by judge, or what they exceed for certain.
        quality_model: Name of the judge that is the title's quality model. Where it finds no common
            range, the sample compares unlike qualities, and nothing follows.
    """
    loss = codec_loss(losses)
    return losses[quality_model] is not None and loss is not None and loss >= 0


def confirmed_useless(
    percents: Mapping[str, float | None],
    certain: Mapping[str, float | None],
    quality_model: str,
) -> bool:
    """Return whether :data:`POINTS` CRFs of each shot confirm that a further codec saves nothing.

    They do where some judge sees a loss that noise does not explain, and where no judge sees a
    saving: what is left out then is nothing that anybody measured.

    Args:
        percents: Rates over the first codec's in percent by judge.
        certain: What these rates exceed for certain, as :func:`least_losses` returns it.
        quality_model: Name of the judge that is the title's quality model.
    """
    agreed = all(percent is not None and percent >= 0 for percent in percents.values())
    return agreed or saves_nothing(certain, quality_model)
