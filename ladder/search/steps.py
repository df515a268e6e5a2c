"""What to measure next: a pure function of what is known.

A search never encodes. A driver asks it for a :data:`Step`, carries the step out, adds the results
to what is known and asks again. The answer depends on the set of measurements alone, never on
their order or on who made them. So a killed job continues as if nothing had happened, and
measurements that another job left in the store do not change the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from encoder.media import OperatingPoint, Request, Shot, Size
from encoder.recipes import Recipe
from ladder.choices import Policy
from ladder.constraints import InfeasibleResult
from ladder.curves import Curve, Measurement
from ladder.profiles import Profile
from ladder.rungs import LadderPlan, merged, solve
from ladder.search.measured import measured_curves, measured_points
from ladder.title_curves import TitleCurves


@dataclass(frozen=True, slots=True)
class TitleShape:
    """A title as a search sees it."""

    shots: tuple[Shot, ...]
    """Shots of the title, in order."""
    frame_rate: Fraction
    """Frames per second."""
    sizes: tuple[Size, ...]
    """Sizes that rungs may have, smallest first."""
    recipe: Recipe
    source_bits: int | None = None
    """Bits of the source's video stream; None if unknown."""
    allowance_bits: int = 0
    """Bits that a rung may take beyond those (:mod:`ladder.source_limit`)."""

    def point(self, size: Size, crf: float) -> OperatingPoint:
        """Return an operating point with this title's recipe."""
        return OperatingPoint(self.recipe, size.width, size.height, crf)

    def with_curves(self, curves: Mapping[Size, Iterable[Curve]]) -> TitleCurves:
        """Return the title with one curve per shot for each size of ``curves``."""
        return TitleCurves(
            frame_rate=self.frame_rate,
            recipe=self.recipe,
            shots=self.shots,
            curves={size: tuple(by_shot) for size, by_shot in curves.items()},
            source_bits=self.source_bits,
            allowance_bits=self.allowance_bits,
            display=self.sizes[-1],
        )


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that a search decides from."""

    title: TitleShape
    profile: Profile
    policy: Policy
    measurements: Mapping[Request, Measurement]
    """Measured cells. A search uses only those of them that it asked for."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Cells to encode and score before asking again; never empty, and none is known yet."""

    requests: tuple[Request, ...]
    """Cells by shot, then smallest size, then CRF."""
    reasons: Mapping[Request, str] = field(default_factory=dict)
    """Reasons in words, for those cells that need one."""


@dataclass(frozen=True, slots=True)
class Done:
    """The ladder, all of whose cells are measured."""

    plan: LadderPlan
    title: TitleCurves
    """Curves that the plan was solved on."""


Step = Measure | Done | InfeasibleResult


class Search(Protocol):
    """A way to find a ladder."""

    @property
    def name(self) -> str:
        """Name as in ``--search``."""
        ...

    def step(self, known: Known) -> Step:
        """Return what to do next; pure, and the same for the same set of measurements."""
        ...

    def expected_requests(self, known: Known) -> tuple[Request, ...]:
        """Return the cells that the search expects to measure, for an estimate of its cost."""
        ...


def full_grid(title: TitleShape, profile: Profile) -> tuple[Request, ...]:
    """Return every shot at every size and every CRF of the profile's grid for the codec."""
    return tuple(
        (shot, title.point(size, crf))
        for shot in range(len(title.shots))
        for size in title.sizes
        for crf in profile.crf_grid[title.recipe.codec]
    )


def measured_title(
    known: Known, requests: Collection[Request], *, interpolate: bool = True
) -> TitleCurves:
    """Return the title's curves through the measurements of ``requests`` and no others.

    Sizes at which some shot has no request are left out. Without ``interpolate`` the measured
    points are the only candidates.

    Raises:
        KeyError: some request is not measured.
    """
    cells = {request: known.measurements[request] for request in requests}
    through = measured_curves if interpolate else measured_points
    return known.title.with_curves(through(cells, known.title.shots))


@dataclass(frozen=True, slots=True)
class ExhaustiveSearch:
    """Measure the whole grid, solve, measure what was chosen; repeat until nothing is new.

    With ``every`` over 1 the grid is thinner: this is the sparse search, which is used where
    nothing can be predicted.

    The choice falls on points between those of the grid, and measuring them moves the curves a
    little, so the solution can move again. After ``rounds`` solutions the choice is limited to
    measured cells. Every step replays all rounds from the grid, which makes the result
    independent of what else has been measured.
    """

    rounds: int = 4
    """Solutions after which only measured cells may be chosen."""
    every: int = 1
    """Step through the profile's CRF grid: 1 measures every CRF, 2 every second one; both ends are
    always measured."""

    @property
    def name(self) -> str:
        """Name as in ``--search``."""
        return "exhaustive" if self.every == 1 else "sparse"

    def expected_requests(self, known: Known) -> tuple[Request, ...]:
        """Return the grid."""
        return self._grid(known)

    def _grid(self, known: Known) -> tuple[Request, ...]:
        grid = known.profile.crf_grid[known.title.recipe.codec]
        kept = {*grid[:: self.every], grid[-1]}
        return tuple(r for r in full_grid(known.title, known.profile) if r[1].crf in kept)

    def step(self, known: Known) -> Step:
        """Return the grid first, then what the ladder would deliver, then the ladder."""
        used = set(self._grid(known))
        for solved in range(self.rounds + 1):
            missing = used - known.measurements.keys()
            if missing:
                return Measure(tuple(sorted(missing, key=request_order)))
            title = measured_title(known, used, interpolate=solved < self.rounds)
            plan = solve(title, known.profile, known.policy)
            if isinstance(plan, InfeasibleResult):
                return plan
            if plan.points <= used:
                return Done(merged(title, known.profile, plan), title)
            used |= plan.points
        raise AssertionError("only measured points were left to choose from")


def request_order(request: Request) -> tuple[int, int, int, float]:
    """Return a sort key: by shot, then smallest size, then CRF."""
    shot, point = request
    return shot, point.width * point.height, point.width, point.crf
