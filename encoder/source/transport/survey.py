"""What is where in a transport stream: its tables, and when each stream's units are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from encoder.arrays import Int64
from encoder.source.transport.packets import (
    PIDS,
    Layout,
    Packets,
    PesStarts,
    joined,
    layout_of,
    payload_offsets,
    pes_starts,
    pids_of,
    read_packets,
)
from encoder.source.transport.tables import (
    ProgrammeMap,
    SectionReader,
    read_association,
    read_map,
)

_MOST_TABLES = 10_000  # versions; a stream with more was made to exhaust memory


@dataclass(frozen=True, slots=True)
class Placed:
    """A map and the packet that completed it."""

    row: int
    map: ProgrammeMap


@dataclass(slots=True)
class Tables:
    """The tables of a stream, each only where it changes."""

    associations: list[tuple[int, dict[int, int]]] = field(default_factory=list)
    """Number of a packet, and the programmes that are listed from there on with their map PIDs."""
    maps: dict[int, list[Placed]] = field(default_factory=dict)
    """Maps of each programme, in order."""

    @property
    def listed(self) -> dict[int, int]:
        """Programmes that are listed by the latest association table."""
        return self.associations[-1][1] if self.associations else {}

    @property
    def numbers(self) -> list[int]:
        """All programmes that were ever listed, in the order of appearance."""
        return list(dict.fromkeys(n for _, listed in self.associations for n in listed))


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """A whole transport stream at a glance."""

    layout: Layout
    packets: int
    tables: Tables
    starts: PesStarts
    """Where the coded units of all streams begin, in the order of the file."""
    clear: Int64
    """(PIDs,) packets of each PID with a payload that is not scrambled."""
    scrambled: Int64
    """(PIDs,) packets of each PID that are scrambled."""


def survey(path: Path) -> Survey | None:
    """Read a whole stream once; None where it is no transport stream or lists no programme."""
    layout = layout_of(path)
    if layout is None:
        return None
    reader = _TableReader()
    starts: list[PesStarts] = []
    clear, scrambled = np.zeros(PIDS, np.int64), np.zeros(PIDS, np.int64)
    count = 0
    for number, packets in read_packets(path, layout):
        pids = pids_of(packets)
        reader.feed(number, packets, pids)
        starts.append(pes_starts(number, packets))
        hidden = packets[:, 3] & 0xC0 != 0
        filled = packets[:, 3] & 0x10 != 0
        clear += np.bincount(pids[filled & ~hidden], minlength=PIDS)
        scrambled += np.bincount(pids[filled & hidden], minlength=PIDS)
        count = number + len(packets)
    if not reader.tables.associations:
        return None
    return Survey(layout, count, reader.tables, joined(starts), clear, scrambled)


class _TableReader:
    """Collects tables from runs of packets."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._sections: dict[int, SectionReader] = {}
        self._seen: dict[int, list[bytes]] = {}
        self._versions = 0

    def feed(self, number: int, packets: Packets, pids: Int64) -> None:
        """Read the tables in a run of packets, the first of which is ``number``."""
        done = 0
        while done < len(packets):
            # A new list of programmes may bring PIDs of which this run has packets already.
            wanted = {0, *self.tables.listed.values()}
            rows = done + np.flatnonzero(np.isin(pids[done:], list(wanted)))
            offsets = payload_offsets(packets[rows])
            done = len(packets)
            for row, offset in zip(rows.tolist(), offsets.tolist(), strict=True):
                self._packet(number + row, int(pids[row]), packets[row, 1:].tobytes(), offset - 1)
                if not wanted.issuperset(self.tables.listed.values()):
                    done = row + 1
                    break

    def _packet(self, row: int, pid: int, packet: bytes, offset: int) -> None:
        """Read a packet without its synchronisation byte."""
        payload, begins = packet[offset:], bool(packet[0] & 0x40)
        # Tables are repeated many times a second: most packets have been seen.
        if begins:
            if self._seen.get(pid) == [payload]:
                return
            self._seen[pid] = [payload]
        sections = self._sections.setdefault(pid, SectionReader()).feed(payload, begins)
        if not begins and not sections:
            self._seen.pop(pid, None)
        for section in sections:
            if self._versions < _MOST_TABLES:
                self._section(row, pid, section)
        if begins and not sections:  # it goes on in the next packet, which has to be read as well
            self._seen.pop(pid, None)

    def _section(self, row: int, pid: int, section: bytes) -> None:
        if pid == 0:
            association = read_association(section)
            if association is None:
                return
            listed = dict(association.maps)
            if not association.alone:
                listed = {**self.tables.listed, **listed}
            if listed != self.tables.listed:
                self._versions += 1
                self.tables.associations.append((row, listed))
            return
        found = read_map(section)
        if found is None or self.tables.listed.get(found.number) != pid:
            return
        maps = self.tables.maps.setdefault(found.number, [])
        if not maps or maps[-1].map != found:
            self._versions += 1
            maps.append(Placed(row, found))
