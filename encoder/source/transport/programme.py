"""Choosing the programme of a transport stream that is the title, and planning its copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from encoder.arrays import Int64
from encoder.errors import SourceUnusable
from encoder.source.copy_facts import ClockJump, TransportFacts
from encoder.source.transport.clock import (
    Epoch,
    Units,
    difference,
    find_epochs,
    jitter_of,
    offset_at,
    place_epochs,
)
from encoder.source.transport.lanes import CodecChange, Course, follow
from encoder.source.transport.packets import CLOCK_HZ, NO_TIME, joined
from encoder.source.transport.paths import LanePath, overlapping, segments, trace, undecodable
from encoder.source.transport.rewrite import Track, rewritten
from encoder.source.transport.survey import Placed, Survey
from encoder.source.transport.tables import ProgrammeMap

_PROBED_BYTES = 4_000_000  # libavformat looks for tables in the first 5 MB


@dataclass(frozen=True, slots=True, eq=False)
class ProgrammePlan:
    """How a stream that holds one programme of a file is written."""

    facts: TransportFacts
    jumps: tuple[ClockJump, ...]
    write: Callable[[Path], None]
    """Writes the stream to a file; raises OSError where it cannot."""


def plan_programme(path: Path, survey: Survey, wanted: int | None) -> ProgrammePlan | None:
    """Plan a copy of the programme that is the title; None where the file can be read as it is.

    Args:
        path: file of the stream, for reading and for errors.
        survey: what is in it.
        wanted: number of the programme, None for the first one that has pictures.

    Raises:
        SourceUnusable: there is no such programme, it has no pictures, it is scrambled, or it
            changes its codec.
    """
    found = _versions(path, survey, wanted)
    if found is None:
        return None
    numbers, versions = found
    course = follow([placed.map for placed in versions])
    if isinstance(course, CodecChange):
        raise _codec_changes(path, survey, versions, course)
    others = _others(survey, numbers, course)
    traced = [
        trace(survey.starts, [v.row for v in versions], course.lane_of, lane)
        for lane in range(len(course.lanes))
    ]
    filled = [each for each in traced if len(each.starts.row)]
    pictures = next((p.lane for p in filled if course.lanes[p.lane].kind == "video"), None)
    if pictures is None:
        return None
    tracks, epochs, rows = _tracks(course, filled, pictures)
    late = versions[0].row * survey.layout.stride > _PROBED_BYTES
    jumps = _jumps(tracks, epochs, rows, pictures)
    if not (others or course.changes or course.late or jumps or late or len(numbers) > 1):
        return None
    dropped = next(int(t.dropped.sum()) for t in tracks if t.path.lane == pictures)
    programme = ProgrammeMap(
        course.number,
        course.clock_pid,
        course.descriptors,
        tuple(course.lanes[path.lane] for path in filled),
    )
    moved = any(epoch.offset for epoch in epochs)
    offset = partial(_clock_offset, epochs, rows) if moved else None

    def write(made: Path) -> None:
        with made.open("wb") as file:
            for part in rewritten(path, survey.layout, programme, tracks, offset):
                file.write(part)

    facts = TransportFacts(tuple(numbers), others, course.changes, dropped)
    return ProgrammePlan(facts, jumps, write)


# -- which programme ---------------------------------------------------------------------------


def _versions(
    path: Path, survey: Survey, wanted: int | None
) -> tuple[list[int], list[Placed]] | None:
    """Return the numbers of the programme, and its maps over the file."""
    tables = survey.tables
    if wanted is not None:
        _check_wanted(path, survey, wanted)
        return [wanted], tables.maps[wanted]
    numbers: list[int] = []
    versions: list[Placed] = []
    ends = [row for row, _ in tables.associations[1:]] + [survey.packets]
    for (row, listed), end in zip(tables.associations, ends, strict=True):
        current = numbers[-1] if numbers else None
        if current not in listed:
            clear = (n for n in listed if _pictured(survey, n, survey.clear))
            current = next(clear, None)
            if current is None:
                continue
            numbers.append(current)
        placed = tables.maps[current]
        inside = [p for p in placed if row <= p.row < end]
        before = [p for p in placed if p.row < row][-1:]
        if not versions or versions[-1].map.number != current:
            versions += [Placed(row, p.map) for p in before]
        versions += inside
    if versions:
        _check_clear(path, survey, numbers[0])
        return list(dict.fromkeys(numbers)), versions
    for number in tables.numbers:
        if _pictured(survey, number, survey.scrambled):
            raise _scrambled(path, survey, number)
    return None


def _pictured(survey: Survey, number: int, packets: Int64) -> bool:
    """Return True where a programme has pictures, by the packets of each PID."""
    return any(
        stream.kind == "video" and packets[stream.pid]
        for placed in survey.tables.maps.get(number, [])
        for stream in placed.map.streams
    )


def _check_wanted(path: Path, survey: Survey, wanted: int) -> None:
    pictured = [n for n in survey.tables.numbers if _pictured(survey, n, survey.clear)]
    named = ", ".join(map(str, pictured)) or "none"
    if wanted in pictured:
        _check_clear(path, survey, wanted)
        return
    if _pictured(survey, wanted, survey.scrambled):
        raise _scrambled(path, survey, wanted)
    if wanted not in survey.tables.maps:
        problem = f"it has no programme {wanted}"
    else:
        problem = f"its programme {wanted} has no pictures"
    raise SourceUnusable(
        f"cannot use {path}: {problem}; give --program one of those with pictures ({named})"
    )


def _check_clear(path: Path, survey: Survey, number: int) -> None:
    pids = {s.pid for p in survey.tables.maps[number] for s in p.map.streams if s.kind == "video"}
    if sum(int(survey.scrambled[p]) for p in pids) > sum(int(survey.clear[p]) for p in pids):
        raise _scrambled(path, survey, number)


def _scrambled(path: Path, survey: Survey, number: int) -> SourceUnusable:
    clear = [n for n in survey.tables.numbers if n != number and _pictured(survey, n, survey.clear)]
    way = f"--program {clear[0]} is not, or " if clear else ""
    return SourceUnusable(
        f"cannot use {path}: its programme {number} is scrambled (encrypted by the broadcaster); "
        f"{way}give a recording that a receiver has descrambled"
    )


def _others(survey: Survey, numbers: Sequence[int], course: Course) -> tuple[int, ...]:
    """Return the other programmes that have streams of their own."""
    mine = {pid for table in course.lane_of for pid in table}
    return tuple(
        number
        for number in survey.tables.numbers
        if number not in numbers
        and any(
            stream.kind != "data" and stream.pid not in mine
            for placed in survey.tables.maps.get(number, [])
            for stream in placed.map.streams
        )
    )


def _codec_changes(
    path: Path, survey: Survey, versions: Sequence[Placed], change: CodecChange
) -> SourceUnusable:
    row = versions[change.map].row
    before = [s for p in versions[: change.map] for s in p.map.streams if s.kind == "video"]
    starts = survey.starts
    mine = starts[np.isin(starts.pid, [s.pid for s in before]) & (starts.pts != NO_TIME)]
    until = mine.pts[mine.row < row]
    seconds = difference(int(until[-1]), int(until[0])) / CLOCK_HZ if len(until) else 0.0
    what = "pictures change" if change.kind == "video" else "sound changes"
    return SourceUnusable(
        f"cannot use {path}: its {what} from {change.before} to {change.after} at about "
        f"{seconds:.1f} s; cut it there, for example with head -c {row * survey.layout.stride} IN "
        f"> FIRST and tail -c +{row * survey.layout.stride + 1} IN > SECOND"
    )


# -- what becomes of it ------------------------------------------------------------------------


def _tracks(
    course: Course, paths: Sequence[LanePath], pictures: int
) -> tuple[list[Track], list[Epoch], Int64]:
    """Return the lanes as they are written, the stretches of their clock, and the number of the
    packet at which each coded unit begins.
    """
    timed = [p for p in paths if course.lanes[p.lane].kind in ("video", "audio")]
    order = np.argsort(np.concatenate([p.starts.row for p in timed]), kind="stable")
    starts = joined([p.starts for p in timed])[order]
    lane = np.concatenate([np.full(len(p.starts.row), n) for n, p in enumerate(timed)])[order]
    jitter = [
        jitter_of(
            states_decoding=bool(p.starts.has_dts.any()) or course.lanes[p.lane].kind == "audio"
        )
        for p in timed
    ]
    picture_lane = next(n for n, p in enumerate(timed) if p.lane == pictures)
    units = Units(lane, starts.dts, starts.pts, jitter)
    of_unit = find_epochs(units, picture_lane)
    dropped: dict[int, np.ndarray] = {}
    epoch_of: dict[int, Int64] = {}
    shown = starts.pts.copy()
    for number, each in enumerate(timed):
        epoch_of[each.lane] = of_unit[lane == number]
        if course.lanes[each.lane].kind == "video":
            parts = segments(each.starts.pid, epoch_of[each.lane])
            dropped[each.lane] = undecodable(each, parts)
            shown[np.flatnonzero(lane == number)[dropped[each.lane]]] = NO_TIME
    epochs = place_epochs(Units(lane, starts.dts, shown, jitter), of_unit, picture_lane)
    offsets = np.array([epoch.offset for epoch in epochs], np.int64)
    tracks = []
    for each in paths:
        count = len(each.starts.row)
        out = dropped.get(each.lane, np.zeros(count, bool))
        if each.lane in epoch_of:
            epoch = epoch_of[each.lane]
            offset = offsets[epoch]
            if course.lanes[each.lane].kind == "audio":
                times = np.where(each.starts.pts == NO_TIME, NO_TIME, each.starts.pts + offset)
                out = overlapping(times, segments(each.starts.pid, epoch))
        else:
            offset = _sparse_offsets(each, epochs, starts.row)
            epoch = offset
        gaps = np.concatenate([[0], np.cumsum(out[:-1])]) if count else out.astype(np.int64)
        segment = segments(each.starts.pid, epoch) + gaps
        tracks.append(Track(each, course.lanes[each.lane].pid, offset, segment, out))
    return tracks, epochs, starts.row


def _sparse_offsets(path: LanePath, epochs: Sequence[Epoch], rows: Int64) -> Int64:
    """Return the offsets of subtitles, which may be shown much later than what lies beside them."""
    if len(epochs) == 1:
        return np.zeros(len(path.starts.row), np.int64)
    pairs = zip(path.starts.row.tolist(), path.starts.pts.tolist(), strict=True)
    return np.array([_clock_offset(epochs, rows, row, time) for row, time in pairs], np.int64)


def _clock_offset(epochs: Sequence[Epoch], rows: Int64, row: int, time: int) -> int:
    return offset_at(epochs, int(np.searchsorted(rows, row)), time)


def _jumps(
    tracks: Sequence[Track], epochs: Sequence[Epoch], unit_rows: Int64, pictures: int
) -> tuple[ClockJump, ...]:
    track = next(t for t in tracks if t.path.lane == pictures)
    starts = track.path.starts
    kept = ~track.dropped & (starts.pts != NO_TIME)
    shown, rows = (starts.pts + track.offset)[kept], starts.row[kept]
    if not len(shown):
        return ()
    jumps = []
    for epoch in epochs[1:]:
        if epoch.jump:
            after = shown[rows >= unit_rows[epoch.begins]]
            first = min(difference(t, int(shown[0])) for t in after.tolist()) if len(after) else 0
            jumps.append(ClockJump(round(first / CLOCK_HZ, 3), round(epoch.jump / CLOCK_HZ, 3)))
    return tuple(jumps)
