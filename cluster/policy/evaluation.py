"""Judges a policy by hours of the log that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.policy.files import TrainedPolicy
from cluster.policy.logbook import Logbook, Tried
from cluster.policy.registry import Question, Registry
from encoder.arrays import Float64, Int64
from encoder.errors import BadInput
from recommender.policy import exploring, gate
from recommender.policy.contrast import Contrast, contrast
from recommender.policy.drawing import unlike
from recommender.policy.drift import Drift, drift
from recommender.policy.estimates import (
    Estimate,
    Interval,
    Judged,
    crossed,
    doubly_robust,
    estimate,
    interval,
)
from recommender.policy.features import FEATURES


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a policy would have earned."""

    policy: str
    estimates: tuple[Estimate, ...]
    gain: Interval
    """Of DR over what the logged policies earned on the same decisions."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Policies judged on the same decisions."""

    hours: tuple[str, ...]
    decisions: int
    clusters: int
    """Viewers and days."""
    logged_policies: tuple[str, ...]
    logged: Interval
    """What they earned."""
    policies: tuple[Evaluated, ...]
    """The judged policy first, then those it is compared with."""
    gain: Interval
    """Of the judged policy over the last of the others, both by DR."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Decisions as arrays."""

    tried: list[Tried]
    rewards: Float64
    clusters: Int64
    shown: Float64
    """Features of the shown pictures, (n, features)."""
    context: Float64


def evaluate(
    logbook: Logbook,
    registry: Registry,
    name: str,
    *,
    against: Sequence[str],
    until: float,
    confidence: float = 0.9,
) -> Evaluation:
    """Judge a policy, and those ``against`` which it is compared, on hours that none of them has
    learned from.

    Args:
        logbook: the log.
        registry: the policies.
        name: the judged policy.
        against: other policies, the incumbent last.
        until: hours that ended before this moment are used, whose outcomes are settled.
        confidence: of the interval of the gain over the incumbent.

    Raises:
        BadInput: there is no such policy, or no later hour.
    """
    policies = {one: registry.policy(one) for one in dict.fromkeys([name, *against])}
    learned = [policy.hours[-1] for policy in policies.values() if policy is not None]
    last = max(learned, default="")
    hours = [hour for hour in logbook.hours(until=until) if hour > last]
    sample = _sample(logbook.tried(hours))
    if sample is None:
        raise BadInput(
            f"no settled hour of the log is later than {last or 'its beginning'} and has pictures "
            f"of two viewers on the screen, so {name} cannot be judged by what it did not learn "
            "from; wait for more"
        )
    judged = {one: _judged(logbook, sample, policy) for one, policy in policies.items()}
    values = {one: doubly_robust(found) for one, found in judged.items()}
    evaluated = tuple(
        Evaluated(one, estimate(found), interval(values[one] - sample.rewards, sample.clusters))
        for one, found in judged.items()
    )
    incumbent = against[-1] if against else name
    return Evaluation(
        hours=tuple(hours),
        decisions=len(sample.tried),
        clusters=int(sample.clusters.max()) + 1,
        logged_policies=tuple(sorted({one.decision.policy for one in sample.tried})),
        logged=interval(sample.rewards, sample.clusters),
        policies=evaluated,
        gain=interval(values[name] - values[incumbent], sample.clusters, confidence=confidence),
    )


def ask_promotion(
    logbook: Logbook, registry: Registry, name: str, *, until: float, now: float
) -> tuple[gate.Verdict, Evaluation]:
    """Ask whether a policy may replace the one that was promoted last, and note the question.

    Raises:
        BadInput: as :func:`evaluate`, or it is live already.
    """
    incumbent = registry.newest()
    if name == incumbent:
        raise BadInput(f"{name} was promoted already; `shotladder policy show` says since when")
    asked = len(registry.questions(incumbent)) + 1
    evaluation = evaluate(
        logbook, registry, name, against=[incumbent], until=until,
        confidence=gate.confidence_of(asked),
    )  # fmt: skip
    dr = evaluation.policies[0].estimates[-1]
    verdict = gate.judge(evaluation.gain, dr.effective_size, dr.mean_weight, asked)
    registry.note(Question(name, incumbent, now, verdict.passed))
    return verdict, evaluation


def contrast_of(tried: Sequence[Tried], name: str) -> Contrast:
    """Return what a property of pictures went with.

    Raises:
        BadInput: there is no such property, it never varies, or the log is too short.
    """
    if name not in FEATURES:
        raise BadInput(f"there is no property {name!r}; there are {', '.join(FEATURES)}")
    sample = _sample(tried)
    if sample is None:
        raise BadInput("the log has no pictures of two viewers on the screen; wait for more")
    expected = np.array([one.logged() @ one.pictures.features for one in sample.tried])
    try:
        return contrast(
            name, FEATURES, sample.shown, expected, sample.context, sample.rewards, sample.clusters
        )
    except ValueError as error:
        raise BadInput(f"no contrast of {name} can be told: {error}") from error


def drift_of(before: Sequence[Tried], now: Sequence[Tried]) -> list[Drift]:
    """Compare contexts and shown pictures of two parts of the log, the most moved first.

    Raises:
        BadInput: one of them is empty.
    """
    if not before or not now:
        raise BadInput("drift needs hours before and hours now; wait for more")
    names = sorted({name for one in [*before, *now] for name in one.decision.context})

    def rows(tried: Sequence[Tried]) -> Float64:
        return np.array(
            [
                [*(one.decision.context.get(name, 0.0) for name in names),
                 *one.pictures.features[one.position]]
                for one in tried
            ]
        )  # fmt: skip

    labels = [*(f"context {name}" for name in names), *(f"picture {name}" for name in FEATURES)]
    return drift(labels, rows(before), rows(now))


def _sample(tried: Sequence[Tried]) -> _Sample | None:
    """Return decisions as arrays; None for those of fewer than two viewers and days."""
    numbers: dict[str, int] = {}
    clusters = [numbers.setdefault(one.decision.viewer_day, len(numbers)) for one in tried]
    if len(numbers) < 2:
        return None
    names = sorted({name for one in tried for name in one.decision.context})
    context = np.array(
        [[one.decision.context.get(name, 0.0) for name in names] for one in tried]
    ).reshape(len(tried), -1)
    deviation = context.std(axis=0)
    return _Sample(
        list(tried),
        np.array([one.reward for one in tried]),
        np.array(clusters, np.int64),
        np.array([one.pictures.features[one.position] for one in tried]),
        np.asarray((context - context.mean(axis=0)) / np.where(deviation > 0, deviation, 1)),
    )


def _judged(logbook: Logbook, sample: _Sample, policy: TrainedPolicy | None) -> Judged:
    """Return what a policy would have done with decisions, given the same earlier slots."""
    effects: dict[tuple[str, str], Float64] = {}
    weights, expected = np.empty(len(sample.tried)), np.empty_like(sample.shown)
    for row, one in enumerate(sample.tried):
        pictures, allowed = one.pictures, one.allowed()
        if policy is None:
            chances = exploring.untrained(pictures.quality, allowed)
        else:
            key = pictures.title, pictures.pool
            if key not in effects:
                effects[key] = policy.effects.picture_effects(pictures)
            context = policy.context.scaled(one.decision.context)
            chances = exploring.trained(effects[key], context, allowed)
        chances = unlike(chances, pictures.looks, logbook.neighbours(one))
        weights[row] = chances[one.position] / one.decision.propensity
        expected[row] = chances @ pictures.features
    return Judged(
        sample.rewards,
        weights,
        sample.clusters,
        crossed(sample.shown, sample.context),
        crossed(expected, sample.context),
    )
