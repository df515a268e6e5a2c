"""How good a search is, told on titles whose full grid is measured.

The truth of a title is the shape-preserving interpolation of its grid at every CRF in steps of
0.5; a search is run against it as it would be against encoders. What it delivers is compared at
its own rates with the best ladder of that truth:

    loss = (J* - J) / (slope x bits*),   J = sum of frames x quality - slope x bits

with the slope, J* and bits* of what the exhaustive search would deliver at the rung's rate. Loss
is a share of the rung's bits, needs no interpolation between rungs and does not depend on where
rungs lie. It can be negative.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol

import numpy as np

from encoder.arrays import Float64
from encoder.media import Request, Size
from ladder.bdrate import BdRate, RatePoint, bd_rate, monotone
from ladder.complexity.prediction import TitlePrediction, correct
from ladder.complexity.residuals import QUALITY, RATE, Cells, ShotResiduals
from ladder.complexity.scale import censored, warp
from ladder.constraints import InfeasibleResult
from ladder.curves import CRF_STEP, MeasuredPoints, Measurement, pchip
from ladder.profiles import Profile
from ladder.rungs import LadderPlan, Policy, RungPlan, solve, solve_at_rates
from ladder.search.steps import Done, Known, Step, TitleShape
from ladder.title_curves import TitleCurves

EQUAL_RATES = 8
"""Rates at which two ladders are solved for their BD-rate."""
LEVELS = (0.5, 0.8, 0.95)
"""Shares that intervals promise to hold."""
MOST_ROUNDS = 100
"""A search that is not done after so many is broken."""


class Steps(Protocol):
    """As much of :class:`ladder.search.steps.Search` as a simulation needs."""

    def step(self, known: Known) -> Step:
        """What to do next."""
        ...


@dataclass(frozen=True, slots=True)
class GridTitle:
    """A title whose full grid was measured."""

    name: str
    group: str
    shape: TitleShape
    grid: Mapping[Request, Measurement]
    """Every shot at every size, at the same CRFs."""
    encode_seconds: Mapping[Request, float]
    """CPU time of those encodes; empty if not all are known."""
    score_seconds: Sequence[float]
    """CPU time that a score of each shot takes, as modelled."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What every operating point of a title would give, in steps of 0.5 of CRF."""

    title: GridTitle
    measurements: Mapping[Request, Measurement]
    seconds: Mapping[Request, float]
    """CPU time of encode and score; empty where encodes' is not known."""
    curves: TitleCurves

    @classmethod
    def of(cls, title: GridTitle) -> Truth:
        """Bits and seconds are interpolated as logarithms."""
        cells: dict[tuple[int, Size], list[Request]] = {}
        for request in sorted(title.grid, key=lambda r: r[1].crf):
            shot, point = request
            cells.setdefault((shot, point.size), []).append(request)
        measurements: dict[Request, Measurement] = {}
        seconds: dict[Request, float] = {}
        curves: dict[Size, list[MeasuredPoints]] = {size: [] for size in title.shape.sizes}
        for (shot, size), requests in sorted(cells.items()):
            crfs = np.array([point.crf for _, point in requests])
            between = np.arange(crfs[0], crfs[-1] + CRF_STEP / 2, CRF_STEP)
            grid = [title.grid[request] for request in requests]
            bits = np.exp(pchip(crfs, np.log([float(m.bits) for m in grid]), between))
            quality = pchip(crfs, np.array([m.quality for m in grid]), between)
            found = {
                crf: Measurement(max(1, round(b)), q)
                for crf, b, q in zip(between.tolist(), bits.tolist(), quality.tolist(), strict=True)
            }
            curves[size].append(MeasuredPoints(title.shape.shots[shot].frames, found))
            points = [(shot, title.shape.point(size, crf)) for crf in found]
            measurements |= dict(zip(points, found.values(), strict=True))
            if title.encode_seconds:
                known = np.log([max(title.encode_seconds[r], 1e-3) for r in requests])
                encode = np.exp(pchip(crfs, known, between)) + title.score_seconds[shot]
                seconds |= dict(zip(points, encode.tolist(), strict=True))
        return cls(title, measurements, seconds, title.shape.with_curves(curves))

    def cpu(self, requests: Collection[Request]) -> float | None:
        """CPU seconds of the encodes and scores of ``requests``."""
        return math.fsum(self.seconds[r] for r in requests) if self.seconds else None


@dataclass(frozen=True, slots=True)
class Simulated:
    """A search that has ended."""

    plan: LadderPlan
    curves: TitleCurves
    """That the plan was solved on."""
    measured: frozenset[Request]
    rounds: int
    """How often it had something to measure."""


def simulate(
    search: Steps, truth: Truth, profile: Profile, policy: Policy = "locked"
) -> Simulated | InfeasibleResult:
    """Run a search from an empty store, with the truth in place of encodes.

    Raises:
        ValueError: it asked for something outside of the title's grid, or does not end.
    """
    known: dict[Request, Measurement] = {}
    for done in range(MOST_ROUNDS):
        match search.step(Known(truth.title.shape, profile, policy, known)):
            case Done(plan, curves):
                return Simulated(plan, curves, frozenset(known), done)
            case InfeasibleResult() as failure:
                return failure
            case measure:
                for request in measure.requests:
                    if request not in truth.measurements:
                        raise ValueError(f"{truth.title.name}: {request} is not in the table")
                    known[request] = truth.measurements[request]
    raise ValueError(f"{truth.title.name}: not done after {MOST_ROUNDS} rounds")


# -- loss --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RungLoss:
    """A delivered rung beside the best one of its rate."""

    rate: float
    """bit/s."""
    size: Size
    quality: float
    best_size: Size | None
    """Of the best rung at this rate; None where there is none within the constraints."""
    best_quality: float | None
    loss: float | None
    """Share of the rung's bits; None without a best rung, and where that takes the best choice
    of every shot: more bits are worth nothing there, so nothing can be a share of them."""


def rung_losses(
    truth: Truth, rungs: Sequence[RungPlan], profile: Profile, policy: Policy = "locked"
) -> tuple[RungLoss, ...]:
    """The loss of each of ``rungs``, whose choices are measured."""
    return tuple(_rung_loss(truth, rung, profile, policy) for rung in rungs)


def _rung_loss(truth: Truth, rung: RungPlan, profile: Profile, policy: Policy) -> RungLoss:
    solved = solve_at_rates(truth.curves, [rung.rate], policy, profile)
    if isinstance(solved, InfeasibleResult):
        return RungLoss(rung.rate, rung.size, rung.quality, None, None, None)
    best = solved.rungs[0]
    loss = None
    if best.slope > 0:
        frames = sum(shot.frames for shot in truth.title.shape.shots)
        short = (best.quality - rung.quality) * frames - best.slope * (best.bits - rung.bits)
        loss = short / (best.slope * best.bits)
    return RungLoss(rung.rate, rung.size, rung.quality, best.size, best.quality, loss)


def bd_at_equal_rates(
    truth: Truth,
    found: Simulated,
    best: Simulated,
    profile: Profile,
    policy: Policy = "locked",
) -> BdRate | None:
    """BD-rate of a search against the exhaustive one, both solved at the same rates.

    Each is solved on the curves that it ended with, and what it chooses counts with what that
    really gives, whether it was measured or not. None where the ladders share nothing.
    """
    same = found.curves.shots == best.curves.shots
    if not same or min(len(found.plan.rungs), len(best.plan.rungs)) < 2:
        return None
    first, last = best.plan.rungs[0].rate, best.plan.rungs[-1].rate
    anchor: list[RatePoint] = []
    test: list[RatePoint] = []
    for rate in np.geomspace(first, last, EQUAL_RATES).tolist():
        pair = [
            _really(truth, curves, rate, profile, policy) for curves in (best.curves, found.curves)
        ]
        if pair[0] is not None and pair[1] is not None:
            anchor.append(pair[0])
            test.append(pair[1])
    both = monotone(anchor), monotone(test)
    if min(map(len, both)) < 2:
        return None
    result = bd_rate(*both)
    return result if isinstance(result, BdRate) else None


def _really(
    truth: Truth, curves: TitleCurves, rate: float, profile: Profile, policy: Policy
) -> RatePoint | None:
    """What the rung that ``curves`` give at ``rate`` would measure."""
    solved = solve_at_rates(curves, [rate], policy, profile)
    if isinstance(solved, InfeasibleResult):
        return None
    choices = solved.rungs[0].choices
    made = [truth.measurements[shot, choice.point] for shot, choice in enumerate(choices)]
    seconds = float(sum(truth.curves.durations))
    return RatePoint(sum(m.bits for m in made) / seconds, _mean(truth, made))


def _mean(truth: Truth, made: Sequence[Measurement]) -> float:
    frames = [shot.frames for shot in truth.title.shape.shots]
    return sum(f * m.quality for f, m in zip(frames, made, strict=True)) / sum(frames)


# -- predictions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Off:
    """Delivered minus predicted before any measurement, over delivered segments."""

    segments: int
    quality: float
    """Mean absolute difference, points."""
    quality_bias: float
    rate: float
    """Mean absolute difference, as a share of the predicted bits."""
    rate_bias: float


def off(prediction: TitlePrediction, truth: Truth, plan: LadderPlan) -> Off | None:
    """How far a prediction is from what was delivered; None where it says nothing about it."""
    quality, rate = [], []
    for shot, point in sorted(plan.points):
        expected = prediction.expected(shot, point)
        if expected is None:
            continue
        made = truth.measurements[shot, point]
        frames = truth.title.shape.shots[shot].frames
        quality.append(made.quality - expected.quality)
        rate.append(made.bits / (expected.bits_per_frame * frames) - 1)
    if not quality:
        return None
    return Off(
        len(quality),
        float(np.abs(quality).mean()),
        float(np.mean(quality)),
        float(np.abs(rate).mean()),
        float(np.mean(rate)),
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many measured numbers fell into the intervals that were given for them."""

    cells: int = 0
    within: tuple[int, ...] = (0,) * len(LEVELS)
    """By :data:`LEVELS`."""

    def __add__(self, other: Coverage) -> Coverage:
        """Of both together."""
        both = zip(self.within, other.within, strict=True)
        return Coverage(self.cells + other.cells, tuple(a + b for a, b in both))

    @property
    def shares(self) -> tuple[float, ...]:
        """By :data:`LEVELS`; NaN of no cells."""
        return tuple(n / self.cells if self.cells else math.nan for n in self.within)


def coverage(
    prediction: TitlePrediction,
    shape: TitleShape,
    cells: Mapping[Request, Measurement],
    given: Mapping[Request, Measurement],
) -> tuple[Coverage, Coverage]:
    """Of rate and of quality: how ``cells`` lie in the intervals that hold once ``given`` is
    measured. Cells that are given, and scores that are cut off at an end, do not count.
    """
    posterior = correct(prediction, shape.shots, given).posterior
    found = [Coverage(), Coverage()]
    for number, shot in enumerate(shape.shots):
        of = [r for r in sorted(cells) if r[0] == number and r not in given]
        at, left = _left_over(prediction, shot.frames, {r: cells[r] for r in of})
        if not len(at):
            continue
        variance = np.diag(posterior.covariance(number, at)) + posterior.model.noise[at.kind]
        z = np.abs(left - posterior.mean(number, at)) / np.sqrt(variance)
        for kind in (RATE, QUALITY):
            own = z[at.kind == kind]
            within = (int((own <= _quantile(level)).sum()) for level in LEVELS)
            found[kind] += Coverage(len(own), tuple(within))
    return found[RATE], found[QUALITY]


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _left_over(
    prediction: TitlePrediction, frames: int, cells: Mapping[Request, Measurement]
) -> tuple[Cells, Float64]:
    """Measured minus predicted on the scales of predictions, and where that is."""
    sizes = {(size.width, size.height): n for n, size in enumerate(prediction.sizes)}
    place, size, kind, left = [], [], [], []
    for (shot, point), made in cells.items():
        number = sizes[point.width, point.height]
        column = prediction.scale.column(point.crf)
        if column is None:
            continue
        rate = math.log(made.bits / (point.width * point.height * frames))
        both = [rate - prediction.log_bpp[shot, number, column]]
        if not censored(np.array(made.quality)):
            score = float(warp(np.array(made.quality)))
            both.append(score - prediction.warped_quality[shot, number, column])
        place += [float(prediction.scale.position(point.crf))] * len(both)
        size += [prediction.log2_scale(prediction.sizes[number])] * len(both)
        kind += [RATE, QUALITY][: len(both)]
        left += both
    return Cells(np.array(place), np.array(size), np.array(kind, dtype=np.intp)), np.array(left)


def first_rung(
    prediction: TitlePrediction, truth: Truth, profile: Profile, policy: Policy = "locked"
) -> dict[Request, Measurement]:
    """What the middle rung of the predicted ladder measures, before anything else was."""
    shape = truth.title.shape
    curves = correct(prediction, shape.shots, {}).curves()
    plan = solve(shape.with_curves(curves), profile, policy)
    if isinstance(plan, InfeasibleResult):
        return {}
    rung = plan.rungs[len(plan.rungs) // 2]
    requests = [(shot, choice.point) for shot, choice in enumerate(rung.choices)]
    return {request: truth.measurements[request] for request in requests}


# -- a verdict ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """One search on one title."""

    title: str
    group: str
    search: str
    shots: int
    rungs: tuple[RungLoss, ...]
    """Empty when it found no ladder."""
    encodes: int
    delivered: int
    grid: int
    """Encodes of the title's full grid."""
    exhaustive: int
    """Encodes that the exhaustive search makes."""
    rounds: int
    seconds: float | None
    """CPU of all encodes and scores."""
    delivered_seconds: float | None
    exhaustive_seconds: float | None
    best_qualities: tuple[float, float] | None
    """Lowest and highest of the exhaustive search's ladder."""
    bd_percent: float | None = None
    off: Off | None = None
    failure: str = ""
    """Why there is no ladder."""

    @property
    def losses(self) -> tuple[float, ...]:
        """Of the rungs that have one."""
        return tuple(rung.loss for rung in self.rungs if rung.loss is not None)

    @property
    def loss(self) -> float:
        """Mean over rungs; NaN without any."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan

    @property
    def worst(self) -> float:
        """Of any rung."""
        return max(self.losses, default=math.nan)

    @property
    def extra(self) -> float:
        """Encodes beyond the delivered ones, as a share of those."""
        return self.encodes / self.delivered - 1 if self.delivered else math.nan

    @property
    def saved(self) -> float:
        """Share of the full grid's encodes that it did not make."""
        return 1 - self.encodes / self.grid

    @property
    def cpu_saved(self) -> float | None:
        """Share of the exhaustive search's CPU that it did not use."""
        if self.seconds is None or not self.exhaustive_seconds:
            return None
        return 1 - self.seconds / self.exhaustive_seconds

    @property
    def cpu_ratio(self) -> float | None:
        """CPU of all its encodes and scores over that of the delivered ones."""
        if self.seconds is None or not self.delivered_seconds:
            return None
        return self.seconds / self.delivered_seconds

    @property
    def qualities(self) -> tuple[float, float] | None:
        """Lowest and highest of its ladder."""
        found = [rung.quality for rung in self.rungs]
        return (min(found), max(found)) if found else None


def judge(
    name: str,
    found: Simulated | InfeasibleResult,
    best: Simulated | InfeasibleResult,
    truth: Truth,
    profile: Profile,
    policy: Policy = "locked",
    prediction: TitlePrediction | None = None,
) -> Verdict:
    """What a search came to, beside what the exhaustive one did."""
    title = truth.title
    reference = best if isinstance(best, Simulated) else None
    why = ""
    if isinstance(found, InfeasibleResult):
        why = f"{found.constraint}: {found.detail}"
        found = Simulated(LadderPlan(policy, ()), truth.curves, frozenset(), 0)
    plan = found.plan
    bd = None
    if reference is not None and plan.rungs:
        bd = bd_at_equal_rates(truth, found, reference, profile, policy)
    return Verdict(
        title=title.name,
        group=title.group,
        search=name,
        shots=len(title.shape.shots),
        rungs=rung_losses(truth, plan.rungs, profile, policy),
        encodes=len(found.measured),
        delivered=len(plan.points),
        grid=len(title.grid),
        exhaustive=len(reference.measured) if reference else 0,
        rounds=found.rounds,
        seconds=truth.cpu(found.measured),
        delivered_seconds=truth.cpu(plan.points),
        exhaustive_seconds=truth.cpu(reference.measured) if reference else None,
        best_qualities=(
            (reference.plan.rungs[0].quality, reference.plan.rungs[-1].quality)
            if reference
            else None
        ),
        bd_percent=bd.percent if bd else None,
        off=off(prediction, truth, plan) if prediction is not None else None,
        failure=why,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """Means of one search over titles, a title counting as one."""

    search: str
    titles: int
    """With a ladder."""
    failed: int
    """Titles without a ladder; they are in no mean."""
    loss: float | None
    """Of titles that have one; None without any."""
    worst_loss: float | None
    """Of a title."""
    worst_title: str
    worst_rung: float | None
    extra: float | None
    encodes: float | None
    delivered: float | None
    saved: float | None
    cpu_saved: float | None
    cpu_ratio: float | None
    bd_percent: float | None
    rounds: float | None
    off: Off | None
    """Of titles, not of segments."""

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Summary:
        """Of the verdicts of one search, at least one."""
        good = [v for v in verdicts if v.rungs]
        lost = [v for v in good if v.losses]
        worst = max(lost, key=lambda v: v.loss, default=None)
        offs = [v.off for v in good if v.off is not None]
        return cls(
            search=verdicts[0].search,
            titles=len(good),
            failed=len(verdicts) - len(good),
            loss=_average(v.loss for v in lost),
            worst_loss=worst.loss if worst else None,
            worst_title=worst.title if worst else "",
            worst_rung=max((v.worst for v in lost), default=None),
            extra=_average(v.extra for v in good),
            encodes=_average(v.encodes for v in good),
            delivered=_average(v.delivered for v in good),
            saved=_average(v.saved for v in good),
            cpu_saved=_average(v.cpu_saved for v in good),
            cpu_ratio=_average(v.cpu_ratio for v in good),
            bd_percent=_average(v.bd_percent for v in good),
            rounds=_average(v.rounds for v in good),
            off=Off(
                sum(one.segments for one in offs),
                *(
                    math.fsum(getattr(one, name) for one in offs) / len(offs)
                    for name in ("quality", "quality_bias", "rate", "rate_bias")
                ),
            )
            if offs
            else None,
        )


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


# -- a proxy encode ----------------------------------------------------------------------------


def corrected_by_proxies(
    prediction: TitlePrediction, shape: TitleShape, given: Mapping[Request, Measurement]
) -> TitlePrediction:
    """The expected curves once ``given`` is measured. The covariance is still that of before."""
    posterior = correct(prediction, shape.shots, given).posterior
    place = prediction.scale.position(prediction.scale.crfs)
    sizes = [prediction.log2_scale(size) for size in prediction.sizes]
    count = len(place) * len(sizes)
    cells = Cells(
        np.tile(place, 2 * len(sizes)),
        np.tile(np.repeat(sizes, len(place)), 2),
        np.repeat([RATE, QUALITY], count),
    )
    moved = np.stack(
        [
            posterior.mean(shot, cells).reshape(2, len(sizes), len(place))
            for shot in range(len(shape.shots))
        ]
    )
    return replace(
        prediction,
        log_bpp=prediction.log_bpp + moved[:, RATE],
        warped_quality=prediction.warped_quality + moved[:, QUALITY],
    )


def shot_residuals(
    prediction: TitlePrediction,
    shape: TitleShape,
    cells: Mapping[Request, Measurement],
    most: int,
) -> list[ShotResiduals]:
    """Of every shot, measured minus predicted at no more than ``most`` of ``cells``."""
    found = []
    for number, shot in enumerate(shape.shots):
        of = [r for r in sorted(cells) if r[0] == number]
        of = of[:: max(1, math.ceil(len(of) / most))]
        found.append(ShotResiduals(*_left_over(prediction, shot.frames, {r: cells[r] for r in of})))
    return found
