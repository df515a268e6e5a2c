"""From the curves of a title's shots to the rungs of its ladder.

Under the policy ``locked`` all shots of a rung have one size; under ``mixed`` each shot's
candidates of all sizes compete (:mod:`ladder.tracks`). The profile says at which rates rungs lie:
spaced (:mod:`ladder.spacing`) or placed by what viewers receive (:mod:`ladder.placed`). Each rung
is then solved under the profile's constraints.

Everything here takes any :class:`~ladder.curves.Curve`: measured, predicted or corrected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoder.media import OperatingPoint, Size
from ladder.allocation import Allocation, Problem, at_slope, for_budget
from ladder.bdrate import RatePoint
from ladder.choices import Choice, Policy
from ladder.constraints import CapSet, InfeasibleResult
from ladder.listed import END, listed_rungs
from ladder.placed import (
    are_near,
    placed_rates,
    reference_offers,
    worth_encoding,
    worth_keeping,
)
from ladder.profiles import Profile
from ladder.reference_ladder import is_placed, serves_reference
from ladder.spacing import apart, bounds, kept_apart, rung_rates
from ladder.title_curves import TitleCurves
from ladder.tracks import TitleTracks, Track, tracks_of
from ladder.viewers import Offer
from ladder.wanted import Wanted, Wish

NOTEWORTHY = 0.05
"""Points of quality that a constraint must cost to be mentioned."""
REPAIRS = 5
"""Times at most to solve again a rung that constraints keep from the quality it is wanted for."""
COMMITTED_SLACK = 0.1
"""Points of quality that a committed rung may be short of what its viewers need before they get
another rung. Such a rung was put where the curve was thought to be."""
REACHED = (0.97, 0.9, 0.8)
"""Shares of a limit from which on an allocation reaches it, the first by which one is reached:
whole points leave some room."""
_LIMITS = {"peak rate": "peak limit", "VBV": "decoder's buffer"}
HARDLY_HIGHER = 1.02
"""Factor on a rung's rate up to which another rate counts as hardly higher."""
SHORT_AT_MOST = 0.02
"""Points of quality that a rung may be short of what it is wanted for."""


@dataclass(frozen=True, slots=True)
class RungPlan:
    """One rung: how each shot is to be encoded, and the rate and quality to expect of that."""

    size: Size
    """Size of all shots under ``locked``; the largest size of any shot under ``mixed``."""
    target_rate: float
    """Rate in bit/s that the rung was solved for."""
    slope: float
    """Quality-frames per bit that all shots outside of active caps have in common."""
    choices: tuple[Choice, ...]
    """Operating point of each shot, with its bits and quality."""
    bits: float
    """Expected bits of the whole title."""
    rate: float
    """Expected rate in bit/s over the whole title."""
    quality: float
    """Expected mean quality over the title's frames."""
    gap: float
    """Mean quality by which this rung is at most below the best possible one for its rate, sizes
    and caps."""
    notes: tuple[str, ...] = ()
    """Sentences for people: what bounded the rung, and what that cost."""
    least_quality: float = -math.inf
    """Quality that the viewers need for whom the rung was placed."""
    most_rate: float = math.inf
    """Rate in bit/s that those viewers afford."""
    lines: tuple[float, float] = (0, math.inf)
    """Fewest and most lines that the rung may have."""
    wish: Wish | None = None
    """What the rung was listed by; None where rungs are placed or spaced."""

    @property
    def has_target(self) -> bool:
        """True where the rung was asked for by its quality, which is :attr:`least_quality`."""
        return self.wish is not None and self.wish[0] == "quality"

    def may_have(self, size: Size) -> bool:
        """Return whether the rung may have a size."""
        fewest, most = self.lines
        return size == self.size or fewest <= min(size) <= most


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The rungs of a title, rising in rate and quality and never falling in size."""

    policy: Policy
    rungs: tuple[RungPlan, ...]
    notes: tuple[str, ...] = ()
    """Sentences for people: what bounded the whole ladder."""

    @property
    def points(self) -> frozenset[tuple[int, OperatingPoint]]:
        """Every (shot, operating point) that the ladder delivers."""
        return frozenset(
            (shot, choice.point) for rung in self.rungs for shot, choice in enumerate(rung.choices)
        )

    @property
    def rate_points(self) -> tuple[RatePoint, ...]:
        """Expected rate in bit/s and quality of each rung."""
        return tuple(RatePoint(rung.rate, rung.quality) for rung in self.rungs)


def solve(
    title: TitleCurves,
    profile: Profile,
    policy: Policy = "locked",
    committed: Sequence[RungPlan] = (),
) -> LadderPlan | InfeasibleResult:
    """Return the ladder of a title.

    Rungs whose constraints would break at the lowest usable rate start at the lowest rate that
    keeps them, and a note says so. The result is infeasible when no rate does: the floor is out
    of reach, or the user's highest rate is below what the other constraints need.

    Args:
        title: Curves of the title.
        profile: Where rungs lie, and which constraints they keep.
        policy: Whether all shots of a rung have one size.
        committed: Rungs that are measured already, rising. Where rungs are spaced, all of them
            become part of the ladder unchanged, and others are put between and beside them; where
            rungs are placed, those do that serve viewers.
    """
    tracks = _tracks(title, policy, profile)
    if isinstance(tracks, InfeasibleResult):
        return tracks
    by_viewers = is_placed(profile, title.shown_size)
    within = bounds(tracks, profile, placed=by_viewers)
    if isinstance(within, InfeasibleResult):
        return within
    notes = within.notes
    if by_viewers:
        reference = _reference(title, tracks, profile, policy)
        first = max(within.feasible, within.lowest)
        placed = placed_rates(tracks, profile, reference, first, within.last, _offers(committed))
        notes += placed.notes
        kept = [committed[number] for number in placed.kept]
        targets = _merged(placed.rates, [(rung.rate, rung) for rung in kept])
    elif profile.lists_rungs:
        wanted, left_out = listed_rungs(tracks, profile, within)
        notes += left_out
        targets = _listed_targets(profile, committed, wanted)
    else:
        rates = rung_rates(tracks, profile, within, [rung.rate for rung in committed])
        targets = _spaced_targets(tracks, profile, committed, rates)
    rungs = _solved(tracks, targets, within.last)
    if isinstance(rungs, InfeasibleResult):
        return rungs
    if by_viewers and committed:
        rungs = _worth_encoding(title, rungs, committed, reference, profile, first)
    elif not by_viewers and not profile.lists_rungs:
        rungs = _apart(rungs, profile)
    notes += _repeated(targets, rungs) if profile.lists_rungs else ()
    if profile.native_top and min(rungs[-1].size) < tracks.most_lines:
        notes += (
            f"the highest rung has {min(rungs[-1].size)} lines: the limits leave no room for the "
            f"source's {tracks.most_lines}",
        )
    return LadderPlan(policy, tuple(rungs), (*notes, *_beyond_source(title, profile, rungs)))


def _apart(rungs: Sequence[RungPlan], profile: Profile) -> list[RungPlan]:
    """Return spaced rungs without those that are merged with a neighbour."""
    points = [RatePoint(rung.rate, rung.quality) for rung in rungs]
    return [rungs[number] for number in kept_apart(points, profile)]


def _repeated(targets: Sequence[_Target], rungs: Sequence[RungPlan]) -> tuple[str, ...]:
    """Say which listed rungs are no better than the ones below them."""
    there = {rung.wish for rung in rungs}
    return tuple(
        f"no rung for {_wish(wanted.wish)}: it would be no better than the one below"
        for wanted, _ in targets
        if wanted.wish is not None and wanted.wish not in there
    )


def _wish(wish: Wish) -> str:
    kind, value = wish
    return {
        "rate": f"{value / 1e3:.0f} kbit/s",
        "quality": f"quality {value:g}",
        "height": f"{value:.0f} lines",
    }.get(kind, "the end of the ladder")


def _solved(
    tracks: TitleTracks, targets: Sequence[_Target], last: float
) -> list[RungPlan] | InfeasibleResult:
    """Solve the rungs that are not measured; sizes never fall."""
    rungs: list[RungPlan] = []
    track = 0
    for wanted, decided in targets:
        if decided is not None:
            rungs.append(decided)
            track = max(track, _track_of(tracks, decided))
            continue
        above = (
            _track_of(tracks, r) for w, r in targets if r is not None and w.rate >= wanted.rate
        )
        highest = min(above, default=len(tracks.tracks) - 1)
        rung = _best_rung(tracks, wanted, track, highest, last)
        if _is_native(wanted) and (
            isinstance(rung, InfeasibleResult) or (rungs and rung.quality <= rungs[-1].quality)
        ):
            # Within the limits the size of the source is worse than what is there.
            rung = _best_rung(tracks, replace(wanted, lines=(0, math.inf)), track, highest, last)
        if isinstance(rung, InfeasibleResult):
            return rung
        # Equal curves, or a cap that binds at every rate, can make a step pointless.
        if not rungs or (rung.bits > rungs[-1].bits and rung.quality > rungs[-1].quality):
            rungs.append(rung)
            track = max(track, _track_of(tracks, rung))
    return rungs


def _is_native(wanted: Wanted) -> bool:
    """Return whether a rung is wanted at the size of the source, as the highest one."""
    return wanted.wish is None and wanted.lines[0] > 0


def _worth_encoding(
    title: TitleCurves,
    rungs: Sequence[RungPlan],
    committed: Sequence[RungPlan],
    reference: Sequence[Offer],
    profile: Profile,
    first: float,
) -> list[RungPlan]:
    """Return the ladder without new rungs that are no longer worth their encodes, because
    constraints keep them from being better than the measured ones."""
    measured = dict(zip(_offers(committed), committed, strict=True))
    new = {_offer(rung, SHORT_AT_MOST): rung for rung in rungs if rung not in committed}
    top = _top_lines(title, profile)
    chosen = worth_encoding(list(new), list(measured), reference, profile, first, top)
    return [{**new, **measured}[offer] for offer in chosen]


def _beyond_source(title: TitleCurves, profile: Profile, rungs: Sequence[RungPlan]) -> list[str]:
    """Say where rungs take more bits than the source's cap would let them have."""
    if title.source_bits is None or not profile.source_cap:
        return []
    if not serves_reference(profile, title.shown_size):
        return []
    most = title.source_bits + title.allowance_bits
    over = [rung for rung in rungs if rung.bits > most]
    if not over:
        return []
    seconds = float(sum(title.durations))
    return [
        f"rungs from {over[0].rate / 1e3:.0f} kbit/s on take more than the source's "
        f"{title.source_bits / seconds / 1e3:.0f} kbit/s: with less, viewers of the reference "
        "ladder would lose quality"
    ]


def _reference(
    title: TitleCurves, tracks: TitleTracks, profile: Profile, policy: Policy
) -> tuple[Offer, ...]:
    """Return the ladder that viewers may not lose against."""
    if policy != "locked" or profile.floor is not None:
        return reference_ladder(title, profile)
    return reference_offers(title, profile, list(zip(title.sizes, tracks.tracks, strict=True)))


def reference_ladder(title: TitleCurves, profile: Profile) -> tuple[Offer, ...]:
    """Return the rungs of the profile's reference ladder, with the quality that they are predicted
    to have on the title's curves."""
    alone = _tracks(title, "locked", None)
    assert not isinstance(alone, InfeasibleResult)  # without a profile nothing can fail
    return reference_offers(title, profile, list(zip(title.sizes, alone.tracks, strict=True)))


def _offer(rung: RungPlan, slack: float) -> Offer:
    return Offer(rung.rate, rung.quality + slack, min(rung.size))


def _offers(measured: Sequence[RungPlan]) -> list[Offer]:
    return [_offer(rung, COMMITTED_SLACK) for rung in measured]


def worth_delivering(
    title: TitleCurves, profile: Profile, rungs: Sequence[RungPlan]
) -> tuple[RungPlan, ...]:
    """Return those measured ``rungs`` that serve the profile's viewers best, with what these need.
    Where rungs are spaced, all but those that are merged; all where they are listed.

    Args:
        title: Curves of the title.
        profile: What the rungs were placed by.
        rungs: Rungs that rise in rate and quality.
    """
    if profile.lists_rungs:
        return tuple(rungs)
    if not is_placed(profile, title.shown_size):
        return tuple(_apart(rungs, profile))
    reference, top = reference_ladder(title, profile), _top_lines(title, profile)
    return tuple(
        replace(rungs[number], least_quality=needed.least_quality, most_rate=needed.most_rate)
        for number, needed in worth_keeping(_offers(rungs), reference, profile, top)
    )


def merged(title: TitleCurves, profile: Profile, plan: LadderPlan) -> LadderPlan:
    """Return a ladder whose rungs are apart as its profile wants them.

    Whole points may take less than the rates that rungs were placed at.
    """
    near = are_near([_offer(rung, 0.0) for rung in plan.rungs], profile)
    if not near or not is_placed(profile, title.shown_size):
        return plan
    return replace(plan, rungs=worth_delivering(title, profile, plan.rungs))


def _top_lines(title: TitleCurves, profile: Profile) -> int:
    """Return the lines that the highest rung has at least."""
    return min(title.sizes[-1]) if profile.native_top else 0


def _best_rung(
    tracks: TitleTracks, wanted: Wanted, lowest: int, highest: int, last: float
) -> RungPlan | InfeasibleResult:
    """Solve one rung on the tracks ``lowest`` to ``highest``.

    Where constraints cost quality that its viewers need, it gets more bits, as long as they afford
    it.
    """
    profile, lines = tracks.profile, wanted.lines
    if profile is not None and profile.size_limits:
        lines = (lines[0], min(lines[1], profile.most_lines(wanted.rate)))
    first, end = tracks.within(lines)
    lowest, highest = max(lowest, first), min(highest, end)
    rate, most = wanted.rate, min(wanted.most_rate, last)
    target = tracks.quality_at(rate)
    least = wanted.least_quality
    if lines[0] > 0:
        rate, least = _at_size(tracks, tracks.tracks[lowest], wanted)
        most = max(rate, most)
    best = tracks.best_at(rate, lowest, highest)
    for _ in range(REPAIRS):
        if isinstance(best, InfeasibleResult) or rate >= most:
            break
        short = least - best.allocation.quality
        if short <= SHORT_AT_MOST:
            break
        target += short
        rate = min(max(tracks.rate_for(target), rate * 1.002), most)
        best = tracks.best_at(rate, lowest, highest)
    if isinstance(best, InfeasibleResult):
        return best
    rung = _rung_plan(tracks, rate, best.allocation, best.unconstrained_quality)
    if wanted.wish is not None and rate > wanted.rate * HARDLY_HIGHER:
        note = (
            f"{min(rung.size)} lines take {rate / 1e3:.0f} kbit/s at least, more than the "
            f"{wanted.rate / 1e3:.0f} for {_wish(wanted.wish)}"
        )
        rung = replace(rung, notes=(*rung.notes, note))
    return replace(
        rung,
        least_quality=wanted.least_quality,
        most_rate=wanted.most_rate,
        lines=lines,
        wish=wanted.wish,
    )


def _at_size(tracks: TitleTracks, track: Track, wanted: Wanted) -> tuple[float, float]:
    """Return the rate in bit/s and the least quality of a rung whose size is asked for, which may
    need more than the best size does.

    A rung that is listed has its rate; the highest one, with the size of the source, is no worse
    than it would be at another.
    """
    rate = max(wanted.rate, tracks.lowest_feasible(track))
    if not _is_native(wanted):
        return rate, wanted.least_quality
    least = min(tracks.quality_at(wanted.rate), float(track.qualities[-1]))
    return max(rate, track.rate_for(least)), max(least, wanted.least_quality)


def at_slope_within(
    title: TitleCurves,
    profile: Profile,
    size: Size,
    slope: float,
    max_rate: float = math.inf,
    solved_rate: float = 0.0,
) -> RungPlan | InfeasibleResult:
    """Return a rung of one size at a slope: every shot takes its best point there.

    Where that breaks a cap, or takes more than ``max_rate`` bit/s, the best choice within those
    limits is taken. Caps follow from the rate that the rung takes, or from ``solved_rate`` where
    that is hardly higher: whole points seldom take all of the rate that a rung was solved for.
    """
    tracks = _tracks(replace(title, curves={size: title.curves[size]}), "locked", profile)
    if isinstance(tracks, InfeasibleResult):
        return tracks
    allocation = at_slope(tracks.tracks[0].problem, slope)
    rate = min(allocation.bits / tracks.seconds, max_rate)
    over = allocation.bits > max_rate * tracks.seconds
    if over or not _keeps_caps(tracks, allocation, solved_rate):
        within = _within_caps(tracks, rate, solved_rate)
        if isinstance(within, InfeasibleResult):
            return within
        allocation = within
    return replace(_rung_plan(tracks, rate, allocation, allocation.quality), slope=slope)


def lowest_within(
    title: TitleCurves, profile: Profile, size: Size, max_rate: float = math.inf
) -> RungPlan | InfeasibleResult:
    """Return the cheapest rung of one size that keeps its caps, of at most ``max_rate`` bit/s."""
    tracks = _tracks(replace(title, curves={size: title.curves[size]}), "locked", profile)
    if isinstance(tracks, InfeasibleResult):
        return tracks
    rate = min(tracks.lowest_feasible(tracks.tracks[0]), max_rate)
    while True:
        found = _within_caps(tracks, rate, rate)
        if isinstance(found, Allocation):
            return _rung_plan(tracks, rate, found, found.quality)
        if rate >= min(max_rate, tracks.highest_rate):
            return found
        # Whole points may leave so many bits that the caps of what is taken do not hold.
        rate = min(rate * HARDLY_HIGHER, max_rate)


def _within_caps(
    tracks: TitleTracks, rate: float, solved_rate: float
) -> Allocation | InfeasibleResult:
    """Return the best choice on the only track of at most ``rate`` bit/s that keeps its caps."""
    while True:
        caps = tracks.caps(_rate_of_caps(rate, solved_rate))
        found = for_budget(tracks.tracks[0].problem, rate * tracks.seconds, caps)
        if isinstance(found, InfeasibleResult) or _keeps_caps(tracks, found, solved_rate):
            return found
        rate = found.bits / tracks.seconds


def _keeps_caps(tracks: TitleTracks, allocation: Allocation, solved_rate: float) -> bool:
    bits = np.array([choice.bits for choice in allocation.choices])
    caps = tracks.caps(_rate_of_caps(allocation.bits / tracks.seconds, solved_rate))
    return not CapSet(caps, len(bits)).violations(bits)


def _rate_of_caps(rate: float, solved_rate: float) -> float:
    """Return the rate in bit/s that a rung's caps follow from."""
    return solved_rate if rate < solved_rate < rate * HARDLY_HIGHER else rate


def slope_at(title: TitleCurves, size: Size, bits: float) -> float:
    """Return the slope of a size's title curve at ``bits`` in total, without constraints."""
    problem = Problem(title.choices([size]))
    return problem.level_within(bits, np.zeros(len(problem.shots)))[1]


def solve_at_rates(
    title: TitleCurves,
    rates: Sequence[float],
    policy: Policy = "locked",
    profile: Profile | None = None,
) -> LadderPlan | InfeasibleResult:
    """Return one rung for each of ``rates`` (bit/s), for comparing ladders at equal rates.

    Each rung is solved alone, so sizes need not rise. Constraints hold only when a profile is
    given. The result is infeasible when a rate is below that of the cheapest choices.
    """
    tracks = _tracks(title, policy, profile)
    if isinstance(tracks, InfeasibleResult):
        return tracks
    rungs = []
    for rate in rates:
        best = tracks.best_at(rate)
        if isinstance(best, InfeasibleResult):
            return best
        rungs.append(_rung_plan(tracks, rate, best.allocation, best.unconstrained_quality))
    return LadderPlan(policy, tuple(rungs))


def _tracks(
    title: TitleCurves, policy: Policy, profile: Profile | None
) -> TitleTracks | InfeasibleResult:
    groups = [[size] for size in title.sizes] if policy == "locked" else [list(title.sizes)]
    if profile is not None and serves_reference(profile, title.shown_size):
        # Such rungs take what their viewers need, and never more than the reference ladder's.
        profile = replace(profile, source_cap=False)
    return tracks_of(title, groups, profile)


def _track_of(tracks: TitleTracks, rung: RungPlan) -> int:
    """Return the number of the track that a rung was solved on."""
    return tracks.number_with(rung.choices[0].point.size)


_Target = tuple[Wanted, RungPlan | None]
"""Where to solve a rung, or where a committed one lies."""


def _spaced_targets(
    tracks: TitleTracks,
    profile: Profile,
    committed: Sequence[RungPlan],
    rates: Sequence[float],
) -> list[_Target]:
    """Return the rates to solve at and the committed rungs with theirs, ascending.

    Rates that are not apart from those of a committed rung are dropped.
    """
    kept = [(rung.rate, rung) for rung in committed]
    added = [rate for rate in rates if all(apart(rate, other) for other, _ in kept)]
    targets = _merged([Wanted(rate) for rate in added], kept)
    native = tracks.lowest_feasible(tracks.tracks[-1])
    room = min((cap.bits / tracks.seconds for cap in tracks.fixed_caps()), default=math.inf)
    if profile.native_top and targets[-1][1] is None and native <= room:
        lines = (tracks.most_lines, math.inf)
        targets[-1] = (replace(targets[-1][0], lines=lines), None)
    return targets


def _listed_targets(
    profile: Profile, committed: Sequence[RungPlan], wanted: Sequence[Wanted]
) -> list[_Target]:
    """Return the listed rungs and the committed ones, ascending.

    The end of the ladder is no rung beside a committed one that is hardly below or above it.
    """
    there = {rung.wish for rung in committed}
    kept = [(rung.target_rate if profile.rates else rung.rate, rung) for rung in committed]
    added = [
        each
        for each in wanted
        if each.wish not in there
        and (
            each.wish is None
            or each.wish[0] != END
            or all(apart(each.rate, other) and other < each.rate for other, _ in kept)
        )
    ]
    return _merged(added, kept)


def _merged(wanted: Sequence[Wanted], committed: Sequence[tuple[float, RungPlan]]) -> list[_Target]:
    """Return wanted and committed rungs, ascending."""
    targets: list[_Target] = [(rate, None) for rate in wanted]
    targets += [(Wanted(rate, wish=rung.wish), rung) for rate, rung in committed]
    return sorted(targets, key=lambda target: target[0].rate)


def _reached(tracks: TitleTracks, rate: float, allocation: Allocation) -> list[str]:
    """Return the names of the limits that an allocation reaches; [] where it is only the gap of
    whole points that costs quality."""
    bits = np.array([choice.bits for choice in allocation.choices])
    caps = tracks.caps(rate)
    kinds = {cap.why: [one for one in caps if one.why == cap.why] for cap in caps}
    for share in REACHED:
        reached = [
            why for why, of in kinds.items() if CapSet(of, len(bits)).violations(bits / share)
        ]
        if reached:
            return [_LIMITS.get(why, why) for why in reached]
    return []


def _rung_plan(
    tracks: TitleTracks, rate: float, allocation: Allocation, unconstrained_quality: float
) -> RungPlan:
    notes: tuple[str, ...] = ()
    lost = unconstrained_quality - allocation.quality
    if lost > NOTEWORTHY and (limits := _reached(tracks, rate, allocation)):
        cost = "costs" if len(limits) == 1 else "cost"
        notes = (f"the {' and the '.join(limits)} {cost} {lost:.2f} points of quality",)
    return RungPlan(
        size=max(
            (choice.point.size for choice in allocation.choices),
            key=lambda size: size.width * size.height,
        ),
        target_rate=rate,
        slope=allocation.slope,
        choices=allocation.choices,
        bits=allocation.bits,
        rate=allocation.bits / tracks.seconds,
        quality=allocation.quality,
        gap=allocation.gap,
        notes=notes,
    )
