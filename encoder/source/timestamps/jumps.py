"""Clocks of program streams that jump, as where parts of a disc were joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder.arrays import Int64
from encoder.source.copy_facts import ClockJump
from encoder.source.opening.container import opened
from encoder.source.opening.streams import video_stream
from encoder.source.transport.clock import (
    Units,
    difference,
    find_epochs,
    jitter_of,
    place_epochs,
)
from encoder.source.transport.packets import CLOCK_HZ, NO_TIME


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """What to add to the times of packets so that a clock goes on."""

    ticks: dict[int, Int64]
    """For each stream, ticks to add to the times of each of its packets that are not empty."""
    origin: int
    """Time near which all times lie once they are moved, ticks."""
    jumps: tuple[ClockJump, ...]

    def moved(self, stream: int, number: int, time: int) -> int:
        """Return the time of a packet on a clock that goes on, ticks."""
        offsets = self.ticks[stream]
        offset = int(offsets[min(number, len(offsets) - 1)]) if len(offsets) else 0
        return self.origin + difference(time + offset, self.origin)


def clock_moves(path: Path) -> Moves | None:
    """Return what makes the clock of a program stream go on; None where it does not jump.

    Raises:
        SourceUnusable: the source cannot be read.
    """
    found: list[tuple[int, int, int]] = []
    with opened(path, as_stored=True) as container:
        pictures = video_stream(container, path).index
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if packet.size:
                pts = NO_TIME if packet.pts is None else packet.pts
                dts = pts if packet.dts is None else packet.dts
                found.append((packet.stream_index, dts, pts))
    if all(stream != pictures for stream, _, _ in found):
        return None
    streams, times, shown = np.array(found, np.int64).T
    lanes = np.unique(streams).tolist()
    lane = np.searchsorted(lanes, streams)
    jitter = [
        jitter_of(states_decoding=stream != pictures or bool((times != shown)[lane == n].any()))
        for n, stream in enumerate(lanes)
    ]
    units = Units(lane, times, shown, jitter)
    own = lanes.index(pictures)
    of_unit = find_epochs(units, own)
    epochs = place_epochs(units, of_unit, own)
    if not any(epoch.jump for epoch in epochs):
        return None
    offsets = np.array([epoch.offset for epoch in epochs], np.int64)[of_unit]
    known = np.flatnonzero((lane == own) & (units.shown != NO_TIME))
    origin = int(shown[known[0]])
    moved = [difference(int(shown[n] + offsets[n]), origin) for n in known.tolist()]
    jumps = []
    for epoch in epochs:
        if epoch.jump:
            after = min(moved[int(np.searchsorted(known, epoch.begins)) :])
            jumps.append(ClockJump(round(after / CLOCK_HZ, 3), round(epoch.jump / CLOCK_HZ, 3)))
    ticks = {stream: offsets[lane == n] for n, stream in enumerate(lanes)}
    return Moves(ticks, origin, tuple(jumps))
