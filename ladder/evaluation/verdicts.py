"""What one search came to on one title, and means over titles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ladder.choices import Policy
from ladder.complexity.prediction import TitlePrediction
from ladder.constraints import InfeasibleResult
from ladder.evaluation.losses import RungLoss, bd_at_equal_rates, rung_losses
from ladder.evaluation.predictions import PredictionError, prediction_error
from ladder.evaluation.simulate import Simulated, Truth
from ladder.profiles import Profile
from ladder.rungs import LadderPlan


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one search came to on one title."""

    title: str
    group: str
    search: str
    """Name of the search."""
    shots: int
    """Number of shots of the title."""
    rungs: tuple[RungLoss, ...]
    """Loss of each rung; empty when the search found no ladder."""
    encodes: int
    """Number of encodes that the search made."""
    delivered: int
    """Number of them that the ladder delivers."""
    grid: int
    """Number of encodes of the title's full grid."""
    exhaustive: int
    """Number of encodes that the exhaustive search makes."""
    best_delivered: int
    """Number of encodes that the exhaustive search's ladder delivers; 0 without one."""
    rounds: int
    """How often the search had something to measure."""
    seconds: float | None
    """CPU seconds of all encodes and scores; None if unknown."""
    delivered_seconds: float | None
    """CPU seconds of the delivered encodes and their scores; None if unknown."""
    exhaustive_seconds: float | None
    """CPU seconds of the exhaustive search; None if unknown."""
    best_qualities: tuple[float, float] | None
    """Lowest and highest quality of the exhaustive search's ladder; None without one."""
    bd_percent: float | None = None
    """BD-rate against the exhaustive search at equal rates; positive: more bits."""
    off: PredictionError | None = None
    """How far the prediction was from what was delivered; None where nothing was predicted."""
    failure: str = ""
    """Reason for there being no ladder."""
    seed: int = 0
    """Random seed of the initial weights of the networks that predicted."""

    @property
    def losses(self) -> tuple[float, ...]:
        """Losses of the rungs that have one and are not saturated."""
        return tuple(r.loss for r in self.rungs if r.loss is not None and not r.saturated)

    @property
    def loss(self) -> float:
        """Mean loss over rungs; NaN without any."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan

    @property
    def points(self) -> float:
        """Mean loss in points of quality over all rungs, saturated or not; NaN without any."""
        lost = [rung.points for rung in self.rungs if rung.points is not None]
        return math.fsum(lost) / len(lost) if lost else math.nan

    @property
    def saturated(self) -> int:
        """Number of rungs that are saturated: their loss in bits is in no mean."""
        return sum(rung.saturated for rung in self.rungs)

    @property
    def worst(self) -> float:
        """Largest loss of any rung; NaN without any."""
        return max(self.losses, default=math.nan)

    @property
    def extra(self) -> float:
        """Encodes beyond the delivered ones, as a share of those."""
        return self.encodes / self.delivered - 1 if self.delivered else math.nan

    @property
    def over_best(self) -> float:
        """Encodes beyond those that the exhaustive search's own ladder delivers, as a share of
        these. A search that delivers more than is needed looks thrifty by :attr:`extra` alone."""
        return self.encodes / self.best_delivered - 1 if self.best_delivered else math.nan

    @property
    def saved(self) -> float:
        """Share of the full grid's encodes that the search did not make."""
        return 1 - self.encodes / self.grid

    @property
    def cpu_saved(self) -> float | None:
        """Share of the exhaustive search's CPU time that the search did not use."""
        if self.seconds is None or not self.exhaustive_seconds:
            return None
        return 1 - self.seconds / self.exhaustive_seconds

    @property
    def cpu_ratio(self) -> float | None:
        """CPU time of all encodes and scores over that of the delivered ones."""
        if self.seconds is None or not self.delivered_seconds:
            return None
        return self.seconds / self.delivered_seconds

    @property
    def qualities(self) -> tuple[float, float] | None:
        """Lowest and highest quality of the search's ladder; None without one."""
        qualities = [rung.quality for rung in self.rungs]
        return (min(qualities), max(qualities)) if qualities else None


def judge(
    name: str,
    judged: Simulated | InfeasibleResult,
    best: Simulated | InfeasibleResult,
    truth: Truth,
    profile: Profile,
    policy: Policy = "locked",
    prediction: TitlePrediction | None = None,
) -> Verdict:
    """Return what a search came to next to the exhaustive one, ``best``."""
    title = truth.title
    reference = best if isinstance(best, Simulated) else None
    why = ""
    if isinstance(judged, InfeasibleResult):
        why = f"{judged.constraint}: {judged.detail}"
        judged = Simulated(LadderPlan(policy, ()), truth.curves, frozenset(), 0)
    plan = judged.plan
    bd = None
    if reference is not None and plan.rungs:
        bd = bd_at_equal_rates(truth, judged, reference, profile, policy)
    return Verdict(
        title=title.name,
        group=title.group,
        search=name,
        shots=len(title.shape.shots),
        rungs=rung_losses(truth, plan.rungs, profile, policy),
        encodes=len(judged.measured),
        delivered=len(plan.points),
        grid=len(title.grid),
        exhaustive=len(reference.measured) if reference else 0,
        best_delivered=len(reference.plan.points) if reference else 0,
        rounds=judged.rounds,
        seconds=truth.cpu(judged.measured),
        delivered_seconds=truth.cpu(plan.points),
        exhaustive_seconds=truth.cpu(reference.measured) if reference else None,
        best_qualities=(
            (reference.plan.rungs[0].quality, reference.plan.rungs[-1].quality)
            if reference
            else None
        ),
        bd_percent=bd.percent if bd else None,
        off=prediction_error(prediction, truth, plan) if prediction is not None else None,
        failure=why,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """Means of one search over titles, a title counting as one whatever the number of seeds.

    A mean is None where no title has the number.
    """

    search: str
    titles: int
    """Number of titles with a ladder."""
    failed: int
    """Number of searches that found no ladder; they are in no mean."""
    loss: float | None
    """Mean loss of the titles that have one."""
    median_loss: float | None
    """Median of the titles' losses."""
    worst_loss: float | None
    """Largest loss of a title, mean over seeds."""
    worst_title: str
    """Name of the title with the largest loss."""
    worst_rung: float | None
    """Largest loss of a rung."""
    seed_losses: tuple[float, ...]
    """Mean loss of the titles by seed, in the order of the seeds."""
    points: float | None
    """Mean loss in points of quality."""
    worst_points: float | None
    """Largest loss of a title in points, mean over seeds."""
    extra: float | None
    over_best: float | None
    encodes: float | None
    delivered: float | None
    saved: float | None
    cpu_saved: float | None
    cpu_ratio: float | None
    bd_percent: float | None
    rounds: float | None
    off: PredictionError | None
    """Means over titles, not over segments."""

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Summary:
        """Summarise the verdicts of one search, at least one."""
        good = [v for v in verdicts if v.rungs]
        losses = _by_title((v, v.loss) for v in good if v.losses)
        points = _by_title((v, v.points) for v in good if not math.isnan(v.points))
        worst = max(losses, key=lambda title: losses[title], default="")
        seeds = sorted({v.seed for v in good if v.losses})
        return cls(
            search=verdicts[0].search,
            titles=len({v.title for v in good}),
            failed=len(verdicts) - len(good),
            loss=_average(losses.values()),
            median_loss=statistics.median(losses.values()) if losses else None,
            worst_loss=losses.get(worst),
            worst_title=worst,
            worst_rung=max((v.worst for v in good if v.losses), default=None),
            seed_losses=tuple(
                statistics.fmean(v.loss for v in good if v.losses and v.seed == seed)
                for seed in seeds
            ),
            points=_average(points.values()),
            worst_points=max(points.values(), default=None),
            extra=_average(v.extra for v in good),
            over_best=_average(v.over_best for v in good if v.best_delivered),
            encodes=_average(v.encodes for v in good),
            delivered=_average(v.delivered for v in good),
            saved=_average(v.saved for v in good),
            cpu_saved=_average(v.cpu_saved for v in good),
            cpu_ratio=_average(v.cpu_ratio for v in good),
            bd_percent=_average(v.bd_percent for v in good),
            rounds=_average(v.rounds for v in good),
            off=_mean_error([v.off for v in good if v.off is not None]),
        )


def _by_title(values: Iterable[tuple[Verdict, float]]) -> dict[str, float]:
    """Return the mean of each title's values over its seeds."""
    titles: dict[str, list[float]] = {}
    for verdict, value in values:
        titles.setdefault(verdict.title, []).append(value)
    return {title: statistics.fmean(of_title) for title, of_title in titles.items()}


def _mean_error(errors: Sequence[PredictionError]) -> PredictionError | None:
    if not errors:
        return None
    return PredictionError(
        sum(error.segments for error in errors),
        *(
            math.fsum(getattr(error, name) for error in errors) / len(errors)
            for name in ("quality", "quality_bias", "rate", "rate_bias")
        ),
    )


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
