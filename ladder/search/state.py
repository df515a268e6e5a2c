"""What the predict search knows at one moment, and what it asks for next."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from encoder.media import Request
from ladder.complexity.prediction import CorrectedTitle, TitlePrediction, correct
from ladder.constraints import InfeasibleResult
from ladder.curves import Curve, Measurement
from ladder.rungs import (
    COMMITTED_SLACK,
    LadderPlan,
    RungPlan,
    at_slope_within,
    lowest_within,
    solve,
)
from ladder.search.measured import measured_rung
from ladder.search.steps import Known, request_order
from ladder.title_curves import TitleCurves

NEAR_MISS = 0.1
"""Logarithm of the ratio of rates up to which single shots of a rung are changed for its viewers'
sake."""

NEAR_TARGET = 0.5
"""The same for a rung that was asked for by its quality."""

Reasons = dict[Request, str]
"""Cells to measure, each with the reason in words."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How many encodes beyond the delivered ones the predict search makes, and what for."""

    budget: float = 0.1
    """Encodes beyond the delivered ones at most, as a share of the delivered ones. One question
    is always allowed: without it a short title would get the wrong size unasked."""
    required_gain: float = 0.03
    """Share of a rung's bits that encoding all its shots once more has to save. A question or a
    move of fewer encodes has to save its part of that."""
    new_encode_penalty: float = 0.03
    """Share of a shot's bits that a new encode has to save to be preferred to a measured one."""
    planned_share: float = 0.3
    """Share of the best probe's value from which on a probe at points that are to be delivered
    anyway is made instead."""
    early_cost: float = 0.2
    """Cost, in encodes, of measuring such a point early: the plan may still change."""
    accepted_regret: float = 0.01
    """Share of its bits that a rung may be expected to lose by its size and still count as
    certain."""
    exceptional_gain: float = 4.0
    """A move that saves this many times the required gain is made beyond the budget, if there is
    any budget."""
    question_rounds: int = 6
    """Rounds of questions at most before rungs are committed."""
    repair_rounds: int = 6
    """Attempts at most to repair a committed rung that breaks a constraint once measured."""
    move_rounds: int = 3
    """Rounds of moves at most after all rungs are committed."""


@dataclass(frozen=True, slots=True)
class State:
    """The title as far as it is known: a prediction corrected by the search's measurements."""

    prediction: TitlePrediction
    tuning: Tuning
    known: Known
    """The question that the search answers. Its measurements may hold cells that the search did
    not request; those are not looked at."""
    measured: Mapping[Request, Measurement]
    """Cells that the search requested, in the order of :func:`~ladder.search.steps.request_order`.
    """
    corrected: CorrectedTitle
    curves: TitleCurves
    """Curves of ``corrected``."""
    given: frozenset[Request] = frozenset()
    """Those of ``measured`` that were not measured for the search, and cost it nothing."""

    @classmethod
    def of(
        cls,
        prediction: TitlePrediction,
        tuning: Tuning,
        known: Known,
        requested: Collection[Request],
        given: Collection[Request] = (),
    ) -> State:
        """Correct ``prediction`` by the measurements of ``requested``."""
        ordered = sorted(requested, key=request_order)
        measured = {request: known.measurements[request] for request in ordered}
        corrected = correct(prediction, known.title.shots, measured)
        curves = known.title.with_curves(corrected.curves())
        return cls(prediction, tuning, known, measured, corrected, curves, frozenset(given))

    def plan(
        self, committed: Collection[RungPlan] = (), curves: TitleCurves | None = None
    ) -> LadderPlan | InfeasibleResult:
        """Solve the ladder around ``committed`` rungs, on the corrected curves unless given."""
        return solve(curves or self.curves, self.known.profile, self.known.policy, tuple(committed))

    def at_slope(self, rung: RungPlan, curves: Iterable[Curve]) -> RungPlan | InfeasibleResult:
        """Return what a rung would be on these curves of its size, within its constraints."""
        return at_slope_within(
            self.known.title.with_curves({rung.size: curves}),
            self.known.profile,
            rung.size,
            rung.slope,
            self.max_rate(rung),
            rung.target_rate,
        )

    def lowest(self, rung: RungPlan, curves: Iterable[Curve]) -> RungPlan | InfeasibleResult:
        """Return the cheapest rung on these curves of a rung's size that keeps its constraints."""
        title = self.known.title.with_curves({rung.size: curves})
        return lowest_within(title, self.known.profile, rung.size, self.max_rate(rung))

    def max_rate(self, rung: RungPlan) -> float:
        """Return the rate in bit/s that a rung may have: that of the profile's list, or what the
        viewers afford for whom it was placed."""
        return rung.target_rate if self.known.profile.rates else rung.most_rate

    def serving(self, rung: RungPlan, curves: Iterable[Curve]) -> RungPlan | None:
        """Return what a measured rung has to become on these curves of its size to serve the
        viewers for whom it was placed, or to have the quality that it was asked for by.

        None where it does, and where so many shots would have to change that another rung serves
        them as well.
        """
        frames = sum(shot.frames for shot in self.known.title.shots)
        short = rung.least_quality - rung.quality
        off = abs(short) if rung.has_target else short
        if rung.rate > rung.most_rate:
            rate = rung.most_rate
        elif off > COMMITTED_SLACK and rung.slope > 0:
            per_fold = rung.slope * rung.bits / frames  # points by e times the rate
            folds = max(-1.0, min(short / per_fold, 1.0))
            rate = min(rung.rate * math.exp(folds), rung.most_rate)
        else:
            return None
        if abs(math.log(rate / rung.rate)) > (NEAR_TARGET if rung.has_target else NEAR_MISS):
            return None
        known = self.known
        title = known.title.with_curves({rung.size: curves})
        served = at_slope_within(title, known.profile, rung.size, 0.0, rate)
        if isinstance(served, InfeasibleResult):
            return None
        return replace(rung, choices=served.choices)

    def as_measured(self, rung: RungPlan) -> RungPlan:
        """Return the rung with measured bits and quality in place of the expected ones."""
        title = self.known.title
        return measured_rung(rung, self.known.measurements, title.shots, title.frame_rate)


def requests_of(rung: RungPlan) -> list[Request]:
    """Return the cells that a rung delivers, by shot."""
    return [(shot, choice.point) for shot, choice in enumerate(rung.choices)]


def column_of(prediction: TitlePrediction, crf: float) -> int:
    """Return the column of a CRF in a prediction that it was chosen from."""
    column = prediction.scale.column(crf)
    if column is None:
        raise ValueError(f"CRF {crf:g} was not predicted")
    return column
