"""The streams of one programme over the whole file, whatever PIDs they have at the time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from encoder.source.transport.tables import Elementary, ProgrammeMap

_FIRST_PID, _LAST_PID = 0x100, 0x1FFE


@dataclass(frozen=True, slots=True)
class Course:
    """How the lanes of a programme run through a file."""

    number: int
    """Programme that the file begins with."""
    clock_pid: int
    descriptors: bytes
    lanes: tuple[Elementary, ...]
    """Streams that go on over changes of the map, with a PID of each lane's own."""
    lane_of: tuple[dict[int, int], ...]
    """For each map of the programme, the lane of each PID."""
    changes: int
    """Number of maps by which a lane moved to another PID."""
    late: bool
    """True where a stream is announced only by a later map."""


@dataclass(frozen=True, slots=True)
class CodecChange:
    """A stream that goes on in another codec, which no single stream can hold."""

    map: int
    """Number of the map that changes it."""
    kind: str
    before: str
    after: str


def follow(maps: Sequence[ProgrammeMap]) -> Course | CodecChange:
    """Follow the pictures, sound and subtitles of a programme through its maps.

    A stream goes on in the stream of the same kind and codec with the broadcaster's tag, else with
    the PID and language, else with the language, else with the PID, else at the same place in the
    map.
    """
    lanes: list[Elementary] = []
    current: dict[int, Elementary] = {}
    """The latest stream of each lane."""
    lane_of: list[dict[int, int]] = []
    changes, late = 0, False
    for number, version in enumerate(maps):
        matched = _matched(current, version.streams) if number else {}
        if number and (change := _codec_change(number, current, version, matched)):
            return change
        table: dict[int, int] = {}
        moved = False
        for stream in version.streams:
            if stream.kind == "data":
                continue
            lane = matched.get(stream.pid)
            if lane is None:
                lane = len(lanes)
                taken = {each.pid for each in lanes}
                pid = stream.pid if stream.pid not in taken else _free(taken)
                lanes.append(replace(stream, pid=pid))
                late |= number > 0
            else:
                moved |= current[lane].pid != stream.pid
            table[stream.pid] = lane
            current[lane] = stream
        changes += moved
        lane_of.append(table)
    first = maps[0]
    clock = next(
        (t[m.clock_pid] for m, t in zip(maps, lane_of, strict=True) if m.clock_pid in t), 0
    )
    return Course(
        number=first.number,
        clock_pid=lanes[clock].pid if lanes else first.clock_pid,
        descriptors=first.descriptors,
        lanes=tuple(lanes),
        lane_of=tuple(lane_of),
        changes=changes,
        late=late,
    )


def _free(taken: set[int]) -> int:
    return next(pid for pid in range(_FIRST_PID, _LAST_PID) if pid not in taken)


_KEYS: tuple[Callable[[Elementary], Hashable], ...] = (
    lambda s: s.component and (s.component, s.language),
    lambda s: s.language and (s.language, s.pid),
    lambda s: s.language,
    lambda s: s.pid,
)


def _matched(current: dict[int, Elementary], streams: Sequence[Elementary]) -> dict[int, int]:
    """Return the lane of each PID that carries on one."""
    matched: dict[int, int] = {}
    free = dict(current)
    for key in (*_KEYS, None):
        for stream in streams:
            if stream.pid in matched:
                continue
            alike = [n for n, each in free.items() if _alike(each, stream)]
            if key is not None:
                wanted = key(stream)
                alike = [n for n in alike if wanted and key(free[n]) == wanted]
                same = [s for s in streams if _alike(s, stream) and key(s) == wanted]
                if len(alike) > 1 or len(same) > 1:
                    continue  # it does not tell streams apart
            elif stream.language:
                # Another language is another stream, unless its kind has only one.
                same = [s for s in streams if _alike(s, stream)]
                if len(same) > 1 or len(alike) > 1:
                    alike = [n for n in alike if free[n].language in (b"", stream.language)]
            if alike:
                matched[stream.pid] = alike[0]
                del free[alike[0]]
    return matched


def _alike(one: Elementary, other: Elementary) -> bool:
    return (one.kind, one.codec) == (other.kind, other.codec)


def _codec_change(
    number: int, current: dict[int, Elementary], version: ProgrammeMap, matched: dict[int, int]
) -> CodecChange | None:
    """Return the change by which pictures, or all sound, would end and go on as a new stream."""
    for kind in ("video", "audio"):
        before = [s for s in current.values() if s.kind == kind]
        after = [s for s in version.streams if s.kind == kind]
        if before and after and not any(s.pid in matched for s in after):
            return CodecChange(number, kind, before[0].codec, after[0].codec)
    return None
