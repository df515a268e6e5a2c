"""The search loop: measure what the search asks for until one codec's ladder is solved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cluster import events
from cluster.jobs.setup import CodecSetup, infeasible
from cluster.stages.encodes import Costs
from cluster.stages.measurer import Measurer
from encoder.media import Request
from ladder.bdrate import RatePoint
from ladder.constraints import InfeasibleResult
from ladder.rungs import LadderPlan
from ladder.search.steps import Done

REASONS_SHOWN = 4
"""Reasons that the event of a round shows; a round over many shots can have hundreds."""


@dataclass(frozen=True, slots=True)
class SolvedCodec:
    """The ladder of one codec, all of it measured."""

    setup: CodecSetup
    done: Done
    """Answer of the search."""
    reasons: Mapping[Request, str]
    """Why the search asked for each encode."""
    measured: frozenset[Request]
    """Encodes that were measured for this codec."""
    costs: Costs
    """What the measurements for this codec took."""

    @property
    def codec(self) -> str:
        """Name of the codec."""
        return self.setup.recipe.codec

    @property
    def plan(self) -> LadderPlan:
        """Rungs, each with a chosen operating point per shot."""
        return self.done.plan

    @property
    def requests(self) -> list[list[Request]]:
        """Encodes of the ladder: one list per rung, in order of shots."""
        return [
            [(shot, choice.point) for shot, choice in enumerate(rung.choices)]
            for rung in self.plan.rungs
        ]

    def rate_points(self, measurer: Measurer) -> list[RatePoint]:
        """Return measured rate (bit/s) and mean quality of every rung."""
        frames = [shot.frames for shot in self.setup.title.shots]
        seconds = float(sum(frames) / self.setup.title.reference.frame_rate)
        points = []
        for requests in self.requests:
            encodes = [measurer.known[request] for request in requests]
            total = sum(n * encode.quality for n, encode in zip(frames, encodes, strict=True))
            rate = sum(encode.bits for encode in encodes) / seconds
            points.append(RatePoint(rate, total / sum(frames)))
        return points


def solve(setup: CodecSetup, measurer: Measurer) -> SolvedCodec:
    """Measure what the search asks for until it is done.

    Raises:
        Infeasible: no ladder keeps the constraints.
        ShotladderError: some of the encodes failed for good.
    """
    reasons: dict[Request, str] = {}
    costs_before = replace(measurer.costs)
    while True:
        step = setup.search.step(setup.known(measurer.known))
        if isinstance(step, Done):
            return SolvedCodec(
                setup,
                step,
                reasons,
                frozenset(measurer.measurements(setup.recipe)),
                measurer.costs.since(costs_before),
            )
        if isinstance(step, InfeasibleResult):
            raise infeasible(step)
        measurer.rounds += 1
        reasons |= step.reasons
        why = _in_one_line(step.reasons.values())
        measurer.on_event(events.Round(measurer.rounds, len(step.requests), why))
        measurer.measure(step.requests, stage=f"encode {measurer.rounds}")


def _in_one_line(reasons: Iterable[str]) -> str:
    """Return the first few of the reasons; ``measurements.json`` has them all."""
    different = list(dict.fromkeys(reasons))
    shown = different[:REASONS_SHOWN]
    more = len(different) - len(shown)
    return "; ".join([*shown, *([f"and {more} more like these"] if more else [])])
