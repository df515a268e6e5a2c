"""Which operating point each shot gets: equal slopes, within a budget and under caps.

For a slope (lambda, quality per bit) every shot takes the point that maximises
``frames x quality - slope x bits`` (Shoham and Gersho, "Efficient bit allocation for an arbitrary
set of quantizers", IEEE Trans. ASSP 36, 1988); that is optimal for the bits it takes. Choices
change only at the slopes of the hulls' edges, a finite set, so a budget is met by sorting edges and
not by bisecting floats. Every cap on a run of shots adds a multiplier to the slope of its shots,
found by coordinate ascent on the dual. Bits that a capped run gives up lower the slope of the rest
and so are spent elsewhere. Gaps that whole points leave are filled greedily. Each
:class:`Allocation` carries the dual's value, an upper bound on any choice, so its distance from the
optimum is known.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from encoder.arrays import Float64, Index
from ladder.choices import Choice, ShotChoices
from ladder.constraints import (
    BIT_TOLERANCE,
    Cap,
    CapSet,
    InfeasibleResult,
    WindowCap,
)
from ladder.hull import hull_of_pareto, pareto, slopes

DUAL_ROUNDS = 40
"""Sweeps over violated windows before remaining violations are repaired by stepping down."""
GAP_WORTH_A_SECOND_LOOK = 0.02
"""Mean quality between the result and its bound above which a second start is tried."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """A choice for every shot, with its sums over the title."""

    choices: tuple[Choice, ...]
    """Choice of each shot."""
    slope: float
    """Quality-frames per bit at which the shots outside of active caps were chosen."""
    bits: float
    """Bits of the whole title."""
    quality_sum: float
    """Sum over shots of frames x quality."""
    frames: int
    """Number of frames of the title."""
    bound: float
    """Upper bound on ``quality_sum`` for any allocation within the same budget and caps."""

    @property
    def quality(self) -> float:
        """Mean quality over the title's frames."""
        return self.quality_sum / self.frames

    @property
    def gap(self) -> float:
        """Mean quality that the best possible choice could add at most."""
        return max(0.0, self.bound - self.quality_sum) / self.frames


class Problem:
    """The shots of a title prepared for allocation: hulls and options, flattened.

    Build it once and use it for every budget; it never changes. A ``level`` is a hull vertex per
    shot, shape ``[shots]``; level 0 is the cheapest choice, and the better of equally cheap ones.
    An ``option`` is a candidate that no other of its shot beats, on the hull or not, given as its
    index in the flat arrays. Values are frames x quality, so slopes of different shots compare.
    """

    def __init__(self, shots: Sequence[ShotChoices]) -> None:
        if not shots:
            raise ValueError("a title has at least one shot")
        self.shots = tuple(shots)
        self.frames = sum(shot.frames for shot in self.shots)
        options: list[tuple[int, float, float]] = []
        starts: list[int] = []
        vertices: list[int] = []
        vertex_counts: list[int] = []
        edge_slopes: list[float] = []
        for shot in self.shots:
            bits = [choice.bits for choice in shot.candidates]
            value = [choice.quality * shot.frames for choice in shot.candidates]
            useful = pareto(bits, value)
            hull = hull_of_pareto(bits, value, useful)
            option_of = {index: len(options) + at for at, index in enumerate(useful)}
            starts.append(len(options))
            options += [(index, bits[index], value[index]) for index in useful]
            vertices += [option_of[index] for index in hull]
            vertex_counts.append(len(hull))
            edge_slopes += slopes(bits, value, hull)

        shot_numbers = np.arange(len(self.shots))
        self.option_start: Index = np.array([*starts, len(options)], dtype=np.intp)
        """First option of each shot; shot ``s`` ends at ``option_start[s + 1]``."""
        self.option_index: Index = np.array([o[0] for o in options], dtype=np.intp)
        self.option_bits: Float64 = np.array([o[1] for o in options], dtype=np.float64)
        self.option_value: Float64 = np.array([o[2] for o in options], dtype=np.float64)

        counts = np.array(vertex_counts, dtype=np.intp)
        self._vertices: Index = np.array(vertices, dtype=np.intp)
        self._vertex_start: Index = np.cumsum(counts) - counts
        self.edge_start: Index = np.concatenate(([0], np.cumsum(counts - 1)))
        """First hull edge of each shot; shot ``s`` ends at ``edge_start[s + 1]``, slopes fall."""
        self.edge_shot: Index = np.repeat(shot_numbers, counts - 1)
        self.edge_slope: Float64 = np.array(edge_slopes, dtype=np.float64)
        lower = np.delete(np.arange(len(vertices)), np.cumsum(counts) - 1)
        self.edge_bits: Float64 = (
            self.option_bits[self._vertices[lower + 1]] - self.option_bits[self._vertices[lower]]
        )
        self.cheapest: Index = np.zeros(len(self.shots), dtype=np.intp)
        """Level 0 of every shot."""
        self.cheapest_bits: Float64 = self.option_bits[self.options_at(self.cheapest)]

    def options_at(self, level: Index) -> Index:
        """Return the option that each shot takes at ``level``, shape ``[shots]``."""
        options: Index = self._vertices[self._vertex_start + level]
        return options

    def level_at(self, slope: float) -> Index:
        """Return the level that is optimal at a slope; ties take fewer bits."""
        taken = self.edge_shot[self.edge_slope > slope]
        return self._levels(taken)

    def level_within(self, bits: float, penalty: Float64) -> tuple[Index, float]:
        """Return the best level of at most ``bits`` in total, and its slope.

        ``penalty`` is subtracted from the slopes of each shot's edges, shape ``[shots]``. Edges
        are taken by falling slope while they fit and their slope stays positive.
        """
        net = self.edge_slope - penalty[self.edge_shot]
        order = _falling(net)
        fit, slope = _fitting(self.edge_bits, net, order, bits - float(self.cheapest_bits.sum()))
        return self._levels(self.edge_shot[order[:fit]]), slope

    def _levels(self, taken: Index) -> Index:
        return np.bincount(taken, minlength=len(self.shots)).astype(np.intp, copy=False)

    def title_curve(self) -> tuple[Float64, Float64]:
        """Return total bits and sums of frames x quality as the slope falls: the title's hull."""
        order = np.argsort(-self.edge_slope, kind="stable")
        base = self.options_at(self.cheapest)
        bits = np.concatenate(([self.option_bits[base].sum()], self.edge_bits[order]))
        gains = self.edge_bits[order] * self.edge_slope[order]
        value = np.concatenate(([self.option_value[base].sum()], gains))
        return np.cumsum(bits), np.cumsum(value)


def _falling(net: Float64) -> Index:
    """Return the edges of positive slope, steepest first; equal ones keep their order."""
    worth = np.flatnonzero(net > 0)
    return worth[np.argsort(-net[worth], kind="stable")]


def _fitting(edge_bits: Float64, net: Float64, order: Index, room: float) -> tuple[int, float]:
    """Return how many edges of ``order`` fit ``room`` bits, and the slope of the next one."""
    spent = np.cumsum(edge_bits[order])
    fit = int(np.searchsorted(spent, room + BIT_TOLERANCE, side="right"))
    return fit, float(net[order[fit]]) if fit < len(order) else 0.0


def at_slope(problem: Problem, slope: float) -> Allocation:
    """Choose for each shot what maximises frames x quality - ``slope`` x bits.

    Of equally good choices the one with fewer bits is taken. The result is optimal for its bits.
    """
    options = problem.options_at(problem.level_at(slope))
    return _allocation(problem, options, slope, float(problem.option_value[options].sum()))


def for_budget(
    problem: Problem, total_bits: float, caps: Sequence[Cap] = ()
) -> Allocation | InfeasibleResult:
    """Find a good allocation of at most ``total_bits`` that keeps every cap.

    Without caps the result is within one hull edge of the optimum; with caps ``Allocation.gap``
    bounds the distance. It is infeasible only when no choice keeps all caps. ``total_bits`` may be
    infinite.
    """
    shots = len(problem.shots)
    limits = CapSet([*caps, WindowCap(0, shots, total_bits, "budget")], shots)
    broken = limits.violations(problem.cheapest_bits)
    if broken:
        return broken[0].as_infeasible()

    dual = _Dual(problem, total_bits)
    level = dual.solve()
    for _ in range(DUAL_ROUNDS):
        broken = limits.violations(problem.option_bits[problem.options_at(level)])
        if not broken:
            break
        dual.tighten([violation.cap for violation in broken])
        level = dual.solve()

    best = _round(problem, level, limits, dual.penalty)
    slope = dual.slope
    if dual.active and dual.bound - best.value > GAP_WORTH_A_SECOND_LOOK * problem.frames:
        # Multipliers round badly where few shots share a cap; the plain greedy is complementary.
        nothing = np.zeros(shots)
        other = _round(problem, problem.level_at(slope), limits, nothing)
        best = max(best, other, key=lambda rounded: rounded.value)
    return _allocation(problem, best.options, slope, dual.bound)


def _allocation(problem: Problem, options: Index, slope: float, bound: float) -> Allocation:
    picked = zip(problem.shots, problem.option_index[options].tolist(), strict=True)
    return Allocation(
        choices=tuple(shot.candidates[index] for shot, index in picked),
        slope=slope,
        bits=float(problem.option_bits[options].sum()),
        quality_sum=float(problem.option_value[options].sum()),
        frames=problem.frames,
        bound=bound,
    )


class _Dual:
    """Multipliers of the budget (the slope) and of the windows that were violated."""

    def __init__(self, problem: Problem, total_bits: float) -> None:
        self.problem = problem
        self.total_bits = total_bits
        self.slope = 0.0
        self.active: dict[WindowCap, float] = {}
        self.penalty = np.zeros(len(problem.shots))
        """Sum of the active windows' multipliers for each shot."""
        self.bound = math.inf
        """Lowest upper bound so far on the sum of frames x quality."""

    def solve(self) -> Index:
        """Return the best level within the budget for these multipliers; updates the bound."""
        level, self.slope = self.problem.level_within(self.total_bits, self.penalty)
        options = self.problem.options_at(level)
        price = self.slope + self.penalty
        earned = self.problem.option_value[options] - price * self.problem.option_bits[options]
        paid = sum(multiplier * cap.bits for cap, multiplier in self.active.items())
        budget = self.slope * self.total_bits if self.slope else 0.0
        self.bound = min(self.bound, float(earned.sum()) + paid + budget)
        return level

    def tighten(self, violated: Sequence[WindowCap]) -> None:
        """Set each active window's multiplier, in turn, to the lowest that makes it hold."""
        for cap in violated:
            self.active.setdefault(cap, 0.0)
        self.penalty[:] = 0.0  # summed afresh, so that rounding does not pile up
        for cap, multiplier in self.active.items():
            self.penalty[cap.first_shot : cap.end_shot] += multiplier
        for cap, multiplier in self.active.items():
            run = slice(cap.first_shot, cap.end_shot)
            others = np.maximum(self.penalty[run] - multiplier, 0.0)
            self.active[cap] = self._least_multiplier(cap, others)
            self.penalty[run] = others + self.active[cap]

    def _least_multiplier(self, cap: WindowCap, others: Float64) -> float:
        problem = self.problem
        edges = slice(problem.edge_start[cap.first_shot], problem.edge_start[cap.end_shot])
        shots = problem.edge_shot[edges] - cap.first_shot
        net = problem.edge_slope[edges] - (self.slope + others)[shots]
        room = cap.bits - float(problem.cheapest_bits[cap.first_shot : cap.end_shot].sum())
        return _fitting(problem.edge_bits[edges], net, _falling(net), room)[1]


class _Rounded(NamedTuple):
    """Options that keep every cap, with their sum of frames x quality."""

    options: Index
    value: float


def _round(problem: Problem, level: Index, limits: CapSet, penalty: Float64) -> _Rounded:
    options = _fill(problem, _step_down(problem, level, limits, penalty), limits, penalty)
    return _Rounded(options, float(problem.option_value[options].sum()))


def _step_down(problem: Problem, level: Index, limits: CapSet, penalty: Float64) -> Index:
    """Take back the least valuable edges of each violated window until every cap holds."""
    level = level.copy()

    def last_edge(shot: int) -> tuple[float, int]:
        edge = problem.edge_start[shot] + level[shot] - 1
        return float(problem.edge_slope[edge] - penalty[shot]), shot

    while True:
        bits = problem.option_bits[problem.options_at(level)]
        broken = limits.violations(bits)
        if not broken:
            return level
        for violation in broken:
            run = range(violation.cap.first_shot, violation.cap.end_shot)
            heap = [last_edge(shot) for shot in run if level[shot] > 0]
            heapq.heapify(heap)
            excess = violation.excess
            while excess > BIT_TOLERANCE and heap:
                _, shot = heapq.heappop(heap)
                excess -= problem.edge_bits[problem.edge_start[shot] + level[shot] - 1]
                level[shot] -= 1
                if level[shot] > 0:
                    heapq.heappush(heap, last_edge(shot))


def _fill(problem: Problem, level: Index, limits: CapSet, penalty: Float64) -> Index:
    """Return the options reached from ``level`` by moving up while the caps have room.

    The best slope comes first. Candidates off the hull are used too: they fit gaps that are
    smaller than an edge.
    """
    options = problem.options_at(level).copy()
    bits = problem.option_bits[options].copy()
    room = limits.headroom(bits)
    heap = _moves(problem, options, room, penalty)
    heapq.heapify(heap)
    while heap:
        _, shot, option = heapq.heappop(heap)
        room = limits.headroom(bits)
        if problem.option_bits[option] - bits[shot] <= room[shot]:
            options[shot] = option
            bits[shot] = problem.option_bits[option]
            room = limits.headroom(bits)
        again = _best_move(problem, shot, int(options[shot]), float(room[shot]), penalty)
        if again is not None:
            heapq.heappush(heap, again)
    return options


_Move = tuple[float, int, int]
"""Negated net slope, shot, option: a heap yields the best move first, ties by shot."""


def _best_move(
    problem: Problem, shot: int, option: int, room: float, penalty: Float64
) -> _Move | None:
    """Return the move of one shot with the best slope that fits ``room`` bits."""
    higher = slice(option + 1, problem.option_start[shot + 1])  # options rise in bits and value
    extra = problem.option_bits[higher] - problem.option_bits[option]
    fits = int(np.searchsorted(extra, room, side="right"))
    if fits == 0:
        return None
    gain = problem.option_value[higher][:fits] - problem.option_value[option]
    slope = gain / extra[:fits]
    best = int(np.argmax(slope))
    return -(float(slope[best]) - float(penalty[shot])), shot, option + 1 + best


def _moves(problem: Problem, options: Index, room: Float64, penalty: Float64) -> list[_Move]:
    extra_to_next = np.full(len(options), np.inf)
    has_next = options + 1 < problem.option_start[1:]
    following = np.where(has_next, options + 1, options)
    extra_to_next[has_next] = (problem.option_bits[following] - problem.option_bits[options])[
        has_next
    ]
    possible = np.flatnonzero(extra_to_next <= room).tolist()
    moves = (
        _best_move(problem, shot, int(options[shot]), float(room[shot]), penalty)
        for shot in possible
    )
    return [move for move in moves if move is not None]
