"""Say which programme of a transport stream is the title, and where its clock jumps."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.jobs.findings import Finding, State
from encoder.source.reference import ReferenceSource
from encoder.source.timeline.gaps import STANDING_SECONDS, longest_standing

MOST_JUMPS = 5
"""Jumps of a clock that are listed one by one."""


def describe_transport(source: ReferenceSource) -> Iterator[Finding]:
    """Yield findings about a source that was copied because of its programmes, PIDs or clock,
    and about a picture that stands for long."""
    since, standing = longest_standing(source.index)
    if standing > STANDING_SECONDS:
        yield Finding(
            "frames",
            f"one picture stands for {float(standing):.3f} s from {float(since):.3f} s",
            "stays so; cut the source there if its clock jumps",
            "warn",
        )
    if source.copied.lost:
        count = source.copied.lost
        yield Finding(
            "damage",
            f"{count} picture{'s' * (count != 1)} in the middle that do not decode",
            "left out: the pictures before them stand",
            "warn",
        )
    jumps = source.copied.jumps
    for jump in jumps[:MOST_JUMPS]:
        way = "ahead" if jump.by_seconds > 0 else "back"
        yield Finding(
            "clock",
            f"jumps {way} by {abs(jump.by_seconds):.3f} s at {jump.at_seconds:.3f} s",
            "is made continuous there, for pictures and sound alike",
            "warn",
        )
    if len(jumps) > MOST_JUMPS:
        more = len(jumps) - MOST_JUMPS
        yield Finding("clock", f"jumps {more} times more", "is made continuous there", "warn")
    facts = source.copied.transport
    if facts is None:
        return
    numbers = " and then ".join(map(str, facts.programs))
    if facts.others:
        others = ", ".join(map(str, facts.others))
        state: State = "ok" if source.choices.program is not None else "warn"
        then = f"is the title; left out: {others} (--program takes another one)"
        yield Finding("programme", numbers, then, state)
    elif len(facts.programs) > 1:
        yield Finding("programme", numbers, "are joined to one title", "warn")
    if facts.moves:
        times = f"{facts.moves} time{'s' * (facts.moves != 1)}"
        yield Finding("PIDs", f"streams move to others {times}", "are followed")
    if facts.dropped:
        yield Finding(
            "frames",
            f"{facts.dropped} picture{'s' * (facts.dropped != 1)} before the first whole one after "
            "a jump or a move",
            "left out: what they depend on is missing",
            "warn",
        )
