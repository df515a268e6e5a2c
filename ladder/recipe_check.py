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

Rates at equal score are BD-rates over the three shots together. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from encoder.media import Request, Size
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import bd_claim

HARM_PERCENT = 2.0
"""Percent of rate that a title may lose by any judge before it keeps the plain recipe."""
SHOTS = 3
"""Number of shots that are checked: those that carry most bits."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is encoded for a check: some shots at one size, each at two CRFs."""

    size: Size
    crfs: Mapping[int, tuple[float, float]]
    """A lower and a higher CRF by number of the shot."""


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


def compare(
    anchor: Sequence[tuple[Judged, Judged]], test: Sequence[tuple[Judged, Judged]]
) -> dict[str, float | None]:
    """Return the rate of ``test`` over ``anchor`` at equal score, in percent, by judge.

    Args:
        anchor: Each shot's encodes at the lower and the higher CRF.
        test: The same shots, encoded the other way.

    Returns:
        Negative where the test needs fewer bits; None where the scores of the two have no common
        range, as where all are at the end of a judge's scale.
    """
    return {
        judge: claim.percent
        if isinstance(claim := bd_claim(_pooled(anchor, judge), _pooled(test, judge)), BdRate)
        else None
        for judge in anchor[0][0].scores
    }


def _pooled(shots: Sequence[tuple[Judged, Judged]], judge: str) -> list[RatePoint]:
    """Return the two points of all shots together: bits, and the mean score over their frames."""
    frames = sum(low.frames for low, _ in shots)
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
