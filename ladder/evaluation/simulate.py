"""Run a search on a title whose full grid is measured, as it would run against encoders.

The truth of a title is the shape-preserving interpolation of its grid at every CRF in steps of
0.5.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from encoder.media import Request, Size
from ladder.choices import Policy
from ladder.constraints import InfeasibleResult
from ladder.curves import CRF_STEP, MeasuredPoints, Measurement, pchip
from ladder.profiles import Profile
from ladder.rungs import LadderPlan
from ladder.search.steps import Done, Known, Step, TitleShape
from ladder.title_curves import TitleCurves

MOST_ROUNDS = 100
"""Rounds after which a search that is not done counts as broken."""
LEAST_SECONDS = 1e-3
"""CPU time at least that an encode is taken to need, so that its logarithm is finite."""


class Steps(Protocol):
    """As much of :class:`ladder.search.steps.Search` as a simulation needs."""

    def step(self, known: Known) -> Step:
        """Return what to do next."""
        ...


@dataclass(frozen=True, slots=True)
class GridTitle:
    """A title whose full grid was measured."""

    name: str
    group: str
    """Group of titles that share footage."""
    shape: TitleShape
    grid: Mapping[Request, Measurement]
    """Measurements of every shot at every size, at the same CRFs."""
    encode_seconds: Mapping[Request, float]
    """CPU time of those encodes in seconds; empty if not all are known."""
    score_seconds: Sequence[float]
    """Modelled CPU time of scoring each shot once, in seconds."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What every operating point of a title would give, in steps of 0.5 of CRF."""

    title: GridTitle
    measurements: Mapping[Request, Measurement]
    """Measurements of the grid and what lies between them."""
    seconds: Mapping[Request, float]
    """CPU time in seconds of encode and score; empty where that of the encodes is not known."""
    curves: TitleCurves

    @classmethod
    def of(cls, title: GridTitle) -> Truth:
        """Interpolate a title's grid; bits and seconds as logarithms."""
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
            by_crf = {
                crf: Measurement(max(1, round(b)), q)
                for crf, b, q in zip(between.tolist(), bits.tolist(), quality.tolist(), strict=True)
            }
            curves[size].append(MeasuredPoints(title.shape.shots[shot].frames, by_crf))
            points = [(shot, title.shape.point(size, crf)) for crf in by_crf]
            measurements |= dict(zip(points, by_crf.values(), strict=True))
            if title.encode_seconds:
                known = np.log([max(title.encode_seconds[r], LEAST_SECONDS) for r in requests])
                encode = np.exp(pchip(crfs, known, between)) + title.score_seconds[shot]
                seconds |= dict(zip(points, encode.tolist(), strict=True))
        return cls(title, measurements, seconds, title.shape.with_curves(curves))

    def cpu(self, requests: Collection[Request]) -> float | None:
        """Return the CPU seconds of the encodes and scores of ``requests``; None if unknown."""
        return math.fsum(self.seconds[r] for r in requests) if self.seconds else None


@dataclass(frozen=True, slots=True)
class Simulated:
    """A search that has ended with a ladder."""

    plan: LadderPlan
    curves: TitleCurves
    """Curves that the plan was solved on."""
    measured: frozenset[Request]
    """Cells that the search asked for."""
    rounds: int
    """How often the search had something to measure."""


def simulate(
    search: Steps, truth: Truth, profile: Profile, policy: Policy = "locked"
) -> Simulated | InfeasibleResult:
    """Run a search from an empty store; the truth answers instead of encoders.

    Raises:
        ValueError: the search asked for something outside of the title's grid, or does not end.
    """
    known: dict[Request, Measurement] = {}
    for rounds in range(MOST_ROUNDS):
        match search.step(Known(truth.title.shape, profile, policy, known)):
            case Done(plan, curves):
                return Simulated(plan, curves, frozenset(known), rounds)
            case InfeasibleResult() as failure:
                return failure
            case measure:
                for request in measure.requests:
                    if request not in truth.measurements:
                        raise ValueError(f"{truth.title.name}: {request} is not in the table")
                    known[request] = truth.measurements[request]
    raise ValueError(f"{truth.title.name}: not done after {MOST_ROUNDS} rounds")
