"""Describe the damage of a source that decoders conceal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cluster.jobs.findings import Finding
from cluster.stages.damage import Damage
from cluster.stages.tracks import HeardSound
from encoder.source.reference import ReferenceSource


def describe_damage(source: ReferenceSource, damage: Damage) -> Iterator[Finding]:
    """Describe damage to pictures and transport; that of sound is described with the sound."""
    found = []
    pictures, transport = damage.pictures, damage.transport
    if count := pictures.pictures:
        found.append(
            f"{count} of {source.index.frames} pictures {_are(count)} damaged, "
            f"the first at {pictures.first_seconds:.3f} s"
        )
    elif count := pictures.errors:
        found.append(
            f"the decoder reported {count} error{'s' * (count != 1)} in the pictures, "
            f"the first at about {pictures.first_error_seconds:.1f} s"
        )
    if count := transport.missing:
        found.append(f"{_packets(count)} {_are(count)} missing")
    if count := transport.marked:
        found.append(f"{_packets(count)} {_are(count)} marked as damaged")
    if found:
        then = "the title is what the decoder makes of it; if you can, give an undamaged copy"
        yield Finding("damage", "; ".join(found), then, "warn")


def damage_document(damage: Damage, heard: Sequence[HeardSound]) -> dict[str, Any]:
    """Return what ``run.json`` says of damage: nothing of a clean source."""
    document = damage.document()
    sound = [
        {
            "streams": list(dict.fromkeys(part.stream for part in one.sound.parts)),
            **asdict(one.facts.undecoded),
        }
        for one in heard
        if one.facts.undecoded is not None and not one.surround
    ]
    return document | ({"sound": sound} if sound else {})


def _packets(count: int) -> str:
    return f"{count} transport packet{'s' * (count != 1)}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
