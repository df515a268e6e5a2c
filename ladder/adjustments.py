"""Profiles with single keys changed, as a user asks for on the command line or in a job.

An adjustment has the name of the profile's key that it changes. What it means beside the other keys
is decided here, once, for ladders that are made and for ladders that are only asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from encoder.errors import BadInput
from ladder.profiles import Profile
from ladder.viewers import MEDIANS

LISTING = ("rates", "qualities", "rung_heights")
"""Adjustments that list the rungs."""
PLACING = ("viewers", "device_lines", "tolerance")
"""Adjustments of rungs that are placed by what viewers receive."""
SPREADING = ("jnd", "rung_count", "least_ratio", "merge_within", "placement", *PLACING)
"""Adjustments of rungs that are not listed."""
LIMITS = ("peak_ratio", "vbv_seconds", "floor", "max_rate", "longest_segment")
"""Limits of which 0 is none."""
QUALITY_LIMITS = ("min_quality", "max_quality")
OTHERS = ("size_limits", "native_top", "segments")
DIVIDING = ("segments", "longest_segment")
"""Adjustments that make other segments, which are other encodes."""
ADJUSTMENTS = (*LISTING, *SPREADING, *LIMITS, *QUALITY_LIMITS, *OTHERS)
"""Names of all adjustments."""


def adjusted(profile: Profile, asked: Mapping[str, Any]) -> Profile:
    """Return a profile with the keys that are asked for changed.

    Args:
        profile: The profile.
        asked: Values by the names of :data:`ADJUSTMENTS`, as values or as JSON has them; None is
            no change, nor are an empty list of rungs and a flag that is off. ``viewers`` are
            median throughputs in bit/s, or pairs as in the key ``throughputs``. Other names are
            not looked at.

    Raises:
        BadInput: a value is wrong, or two exclude one another.
    """
    changes = {name: asked[name] for name in ADJUSTMENTS if _is_asked(name, asked.get(name))}
    if not changes:
        return profile
    if "viewers" in changes:
        changes |= _audience(changes["viewers"])
    for name in LIMITS:
        if name in changes:
            changes[name] = changes[name] or None
    if changes.keys() & set(QUALITY_LIMITS):
        changes["quality_limits"] = True
    if "segments" in changes:
        changes = {"longest_segment": None, **changes}
    listed = changes.keys() & set(LISTING)
    if listed or "placement" in changes:
        changes = {**dict.fromkeys(LISTING, ()), **changes}
    new = replace(profile, **changes)
    useless = [name for name in SPREADING if name in asked and _is_asked(name, asked[name])]
    if new.lists_rungs and useless:
        where = " and ".join(name for name in LISTING if getattr(new, name))
        raise BadInput(
            f"{where} say where the rungs lie, so {useless[0]} has no meaning; leave "
            "one of them out"
        )
    if new.placement != "spacing" and "jnd" in changes:
        new = replace(new, largest_steps=True)
    return new


def check_meaning(profile: Profile, asked: Mapping[str, Any]) -> None:
    """Check that adjustments of placed rungs are asked of a profile that places them.

    Raises:
        BadInput: the profile spaces its rungs, so that they would change nothing.
    """
    useless = [name for name in PLACING if _is_asked(name, asked.get(name))]
    if profile.placement == "spacing" and useless:
        raise BadInput(
            f"the profile {profile.name} spaces its rungs by differences in quality, so "
            f"{useless[0]} has no meaning; add placement fewest-bits or most-quality"
        )


def _is_asked(name: str, value: Any) -> bool:
    if name in LISTING or name in OTHERS:
        return bool(value)
    return value is not None


def _audience(viewers: Any) -> dict[str, Any]:
    """Return the keys of the profile that viewers stand for."""
    try:
        pairs = [isinstance(each, list | tuple) for each in viewers]
    except TypeError:
        pairs = []
    if not pairs or (any(pairs) and not all(pairs)):
        raise BadInput(
            f"viewers are {viewers!r:.60}; give median throughputs in bit/s, or pairs of the upper "
            "end of a bin in bit/s and its share of the viewers"
        )
    if pairs[0]:
        return {"throughputs": viewers, "viewers": MEDIANS}
    return {"viewers": viewers, "throughputs": ()}
