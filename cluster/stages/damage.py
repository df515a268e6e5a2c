"""What the analysis pass finds of damage that decoders conceal, and where the store keeps it.

It stands in the records of the pass, and only where there is some, so that the records of a clean
title are what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encoder.analysis.damage import PictureDamage
from encoder.source.reference import ReferenceSource
from encoder.source.transport.continuity import TransportDamage, transport_damage
from encoder.source.transport.survey import survey


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage to the pictures of a source and to its transport."""

    pictures: PictureDamage
    transport: TransportDamage

    def document(self) -> dict[str, Any]:
        """Return what records and ``run.json`` hold: nothing where there is no damage."""
        if self == NO_DAMAGE:
            return {}
        return {"pictures": asdict(self.pictures), "transport": asdict(self.transport)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Damage:
        """Read what :meth:`document` returned."""
        if not document:
            return NO_DAMAGE
        return cls(PictureDamage(**document["pictures"]), TransportDamage(**document["transport"]))


NO_DAMAGE = Damage(PictureDamage(), TransportDamage())
"""The damage of a clean source."""


def damage_of_transport(source: ReferenceSource) -> TransportDamage:
    """Return what a transport stream lacks of the title's programme; nothing for other files."""
    path = Path(source.named)
    if not path.is_file():  # a copy that was made elsewhere
        return TransportDamage()
    found = transport_damage(path)
    facts = source.copied.transport
    if found == TransportDamage() or facts is None or not facts.others:
        return found
    seen = survey(path)
    maps = seen.tables.maps if seen is not None else {}
    pids = {
        stream.pid
        for number in facts.programs
        for placed in maps.get(number, ())
        for stream in placed.map.streams
    }
    return transport_damage(path, pids)
