"""At which rates the rungs lie that a user listed: by rate, by quality or by height.

Such rungs are never merged, and what is left out of a list is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ladder.profiles import LEAST_RATIO, Profile
from ladder.spacing import Bounds
from ladder.tracks import TitleTracks, Track
from ladder.wanted import Wanted, Wish

END = "end"
"""Kind of the wish that stands for all that is listed beyond the end of the ladder."""
STEPS_PER_DOUBLING = 32
"""Steps per doubling of the rate in which the crossing of two sizes' curves is searched."""


def listed_rungs(
    tracks: TitleTracks, profile: Profile, within: Bounds
) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """Return the rungs that a profile lists, by rising rate, and what was left out, in words.

    Args:
        tracks: The title under the profile's constraints.
        profile: Lists rates, qualities or heights of rungs.
        within: Between which rates rungs lie.
    """
    if profile.rates:
        return _by_rate(profile, within)
    if profile.qualities:
        return _by_quality(tracks, profile, within)
    return _by_height(tracks, profile, within)


def _by_rate(profile: Profile, within: Bounds) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """Return the rates that are feasible and below the end of the ladder.

    Where the list goes on above the end, the highest rung lies there, replacing a listed rate that
    is hardly below.
    """
    heights = profile.rung_heights or (None,) * len(profile.rates)
    wanted = [
        Wanted(rate, lines=_exactly(height), wish=("rate", rate))
        for rate, height in zip(profile.rates, heights, strict=True)
    ]
    notes = []
    if low := [each.rate for each in wanted if each.rate < within.lowest]:
        notes.append(f"no rung at {_kbits(low)} kbit/s: {_lowest(within)}")
    wanted = [each for each in wanted if each.rate >= within.lowest]
    if wanted and wanted[-1].rate < within.last:
        return tuple(wanted), tuple(notes)
    kept = [each for each in wanted if each.rate < within.last / LEAST_RATIO]
    beyond = [each.rate for each in wanted[len(kept) :] if each.rate > within.last]
    if beyond:
        notes.append(
            f"no rung at {_kbits(beyond)} kbit/s: the ladder ends at "
            f"{within.last / 1e3:.0f} kbit/s, where quality saturates or a limit lies"
        )
    lines = wanted[len(kept)].lines if wanted[len(kept) :] else (0.0, math.inf)
    end = Wanted(within.last, lines=lines, wish=(END, 0.0))
    return (*kept, end), tuple(notes)


def _by_quality(
    tracks: TitleTracks, profile: Profile, within: Bounds
) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """Return the lowest rate that reaches each quality; the end of the ladder for all qualities
    that are out of reach."""
    heights = profile.rung_heights or (None,) * len(profile.qualities)
    wanted: list[Wanted] = []
    low, beyond = [], []
    for quality, height in zip(profile.qualities, heights, strict=True):
        lines = _exactly(height)
        first, last = tracks.within(lines)
        rate = min(track.rate_for(quality) for track in tracks.tracks[first : last + 1])
        if rate > within.last:
            beyond.append(quality)
            wanted.append(Wanted(within.last, lines=lines, wish=(END, 0.0)))
            break
        if rate < within.lowest or tracks.quality_at(within.lowest) > quality:
            low.append(quality)
            continue
        wanted.append(Wanted(rate, quality, lines=lines, wish=("quality", quality)))
    beyond += [quality for quality in profile.qualities if beyond and quality > beyond[0]]
    notes = []
    if low:
        notes.append(f"no rung at quality {_plain(low)}: {_lowest(within)}")
    if beyond:
        notes.append(
            f"quality {_plain(beyond)} is out of reach: the ladder ends at "
            f"{within.last / 1e3:.0f} kbit/s"
        )
    if not wanted:
        wanted = [Wanted(within.lowest, wish=(END, 0.0))]
    return tuple(sorted(wanted, key=lambda each: each.rate)), tuple(notes)


def _by_height(
    tracks: TitleTracks, profile: Profile, within: Bounds
) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """Return one rung for each height: at the rate up to which it looks best among those listed,
    the highest one at the end of the ladder."""
    numbers, notes = [], []
    for height in profile.rung_heights:
        number = tracks.within(_exactly(height))[0]
        if tracks.tracks[number].lines != height & ~1:
            notes.append(f"{height} lines are not among the sizes of this title")
        if number not in numbers:
            numbers.append(number)
    chosen = [tracks.tracks[number] for number in numbers]
    wanted: list[Wanted] = []
    end = within.last
    for track, above in zip(reversed(chosen), [None, *reversed(chosen[1:])], strict=True):
        rate = end if above is None else _crossing(track, above, within.lowest, end)
        rate = max(rate, tracks.lowest_feasible(track))
        wish: Wish = ("height", float(track.lines))
        wanted.append(Wanted(rate, lines=_exactly(track.lines), wish=wish))
        end = min(end, rate)
    rungs = wanted[::-1]
    for number in range(1, len(rungs)):
        # A size whose cheapest choices take more than the next size's end leaves it no room.
        least = rungs[number - 1].rate * LEAST_RATIO
        if rungs[number].rate < least:
            rungs[number] = replace(rungs[number], rate=least)
    return tuple(rungs), tuple(notes)


def _crossing(track: Track, above: Track, low: float, high: float) -> float:
    """Return the highest rate in bit/s between two at which a size looks better than the next
    one; where there is none, the lowest."""
    if high <= low:
        return low
    count = 2 + math.ceil(math.log2(high / low) * STEPS_PER_DOUBLING)
    rates = np.geomspace(low, high, count)
    better = [track.quality_at(rate) >= above.quality_at(rate) for rate in rates.tolist()]
    at = np.flatnonzero(better)
    # The next size has its rung above: something is left to it.
    return float(min(rates[int(at[-1])], high / LEAST_RATIO)) if len(at) else low


def _exactly(height: float | None) -> tuple[float, float]:
    return (0.0, math.inf) if height is None else (int(height) & ~1, int(height) & ~1)


def _lowest(within: Bounds) -> str:
    return f"the lowest rung that the title and its limits allow has {within.lowest / 1e3:.0f}"


def _kbits(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate / 1e3:.0f}" for rate in rates)


def _plain(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
