"""Cues as a package declares them, read back and compared with those that it was made with.

It shares no code with :mod:`encoder.package.cues`, which writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from xml.etree import ElementTree as ET

_MPD = "{urn:mpeg:dash:schema:mpd:2011}"
_SCTE35 = "{urn:scte:scte35:2013:xml}"
_MICROSECOND = Fraction(1, 1_000_000)
_TICK = Fraction(1, 90_000)
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|\Z)')


@dataclass(frozen=True, slots=True)
class ExpectedCue:
    """A cue that a package has to declare."""

    id: str
    start: Fraction
    """Presentation time in seconds."""
    duration: Fraction
    """Duration of its break in seconds; 0 for none."""


@dataclass(frozen=True, slots=True)
class SpliceOut:
    """The fields of a SCTE 35 section of an inserted break."""

    event: int
    start: Fraction
    """Seconds, by the clock of 90 kHz."""
    duration: Fraction


def read_splice(section: bytes) -> SpliceOut:
    """Read a ``splice_info_section`` with a ``splice_insert`` out of the programme (SCTE 35).

    Raises:
        ValueError: the section is damaged, or is of another kind.
    """
    bits = int.from_bytes(section)
    size = 8 * len(section)

    def field(first: int, width: int) -> int:
        if first + width > size:
            raise ValueError("a SCTE 35 section is cut short")
        return bits >> (size - first - width) & ((1 << width) - 1)

    if field(0, 8) != 0xFC or field(12, 12) != len(section) - 3:
        raise ValueError("a SCTE 35 section has a wrong table or length")
    # The remainder of a section with its own checksum is 0 (ISO/IEC 13818-1, annex A).
    remainder = int.from_bytes(section[:4]) ^ 0xFFFF_FFFF
    for byte in (*section[4:], 0, 0, 0, 0):
        for place in range(7, -1, -1):
            top = remainder >> 31
            remainder = (remainder << 1 | byte >> place & 1) & 0xFFFF_FFFF
            remainder ^= 0x04C1_1DB7 * top
    if remainder:
        raise ValueError("a SCTE 35 section has a wrong checksum")
    if field(104, 8) != 5:
        raise ValueError(f"a SCTE 35 section has the command {field(104, 8)} instead of 5")
    # Not cancelled; out of the programme, for all of it, for a time, not at once.
    if field(144, 1) or field(152, 4) != 0b1110 or not field(160, 1):
        raise ValueError("a SCTE 35 section is no break out of the programme at a time")
    return SpliceOut(field(112, 32), field(167, 33) * _TICK, field(207, 33) * _TICK)


def check_playlist_cues(
    text: str, expected: Sequence[ExpectedCue], tolerance_seconds: Fraction = _MICROSECOND
) -> None:
    """Check the cues in a media playlist.

    Args:
        text: The playlist.
        expected: Cues of the title, in order.
        tolerance_seconds: How far a segment may begin from its cue; more than a microsecond where
            segments do not begin at frames of the picture.

    Raises:
        ValueError: a cue is missing, at another segment, or says something else.
    """
    time, dated = Fraction(), False
    found: list[dict[str, str]] = []
    outs: list[tuple[Fraction, Fraction]] = []
    ins: list[Fraction] = []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "#EXTINF":
            time += Fraction(value.split(",")[0])
        elif name == "#EXT-X-PROGRAM-DATE-TIME":
            dated = value.startswith("1970-01-01T00:00:00") and time == 0
        elif name == "#EXT-X-DATERANGE":
            found.append({one[1]: one[2].strip('"') for one in _ATTRIBUTE.finditer(value)})
        elif name == "#EXT-X-CUE-OUT":
            outs.append((time, Fraction(value.removeprefix("DURATION="))))
        elif name == "#EXT-X-CUE-IN":
            ins.append(time)
    if [one.get("ID") for one in found] != [cue.id for cue in expected]:
        raise ValueError(f"it has the cues {[one.get('ID') for one in found]}, the title has "
                         f"{[cue.id for cue in expected]}")  # fmt: skip
    if expected and not dated:
        raise ValueError("it has cues, and no EXT-X-PROGRAM-DATE-TIME at its beginning")
    if not len(outs) == len(ins) == len(expected):
        raise ValueError(f"it has {len(outs)} EXT-X-CUE-OUT and {len(ins)} EXT-X-CUE-IN for "
                         f"{len(expected)} cues")  # fmt: skip
    for cue, dates, (begins, lasts), ends in zip(expected, found, outs, ins, strict=True):
        end = cue.start + cue.duration
        if abs(begins - cue.start) > tolerance_seconds or abs(ends - end) > tolerance_seconds:
            raise ValueError(
                f"its cue {cue.id!r} is at {float(begins):.6f} to {float(ends):.6f} s instead of "
                f"{float(cue.start):.6f} to {float(end):.6f} s"
            )
        _check_date_range(cue, dates, lasts)


def _check_date_range(cue: ExpectedCue, dates: Mapping[str, str], lasts: Fraction) -> None:
    begun = datetime.fromisoformat(dates["START-DATE"]) - datetime.fromisoformat("1970-01-01T00Z")
    splice = read_splice(bytes.fromhex(dates["SCTE35-OUT"].removeprefix("0x")))
    for what, said, true, near in (
        ("START-DATE", Fraction(begun.total_seconds()), cue.start, 2 * _MICROSECOND),
        ("DURATION", Fraction(dates["DURATION"]), cue.duration, _MICROSECOND),
        ("EXT-X-CUE-OUT", lasts, cue.duration, _MICROSECOND),
        ("time of SCTE35-OUT", splice.start, cue.start, _TICK),
        ("duration of SCTE35-OUT", splice.duration, cue.duration, _TICK),
    ):
        if abs(said - true) > near:
            raise ValueError(f"the {what} of its cue {cue.id!r} is {float(said):.6f} s instead of "
                             f"{float(true):.6f} s")  # fmt: skip


def check_manifest_cues(text: str, expected: Sequence[ExpectedCue]) -> None:
    """Check the events in a DASH manifest.

    Raises:
        ValueError: an event is missing, or has another time or duration.
    """
    events: list[tuple[Fraction, Fraction]] = []
    for stream in ET.fromstring(text).iterfind(f"{_MPD}Period/{_MPD}EventStream"):
        scale = int(stream.attrib["timescale"])
        for event in stream.iterfind(f"{_MPD}Event"):
            insert = event.find(f"{_SCTE35}SpliceInfoSection/{_SCTE35}SpliceInsert")
            if insert is None or insert.get("outOfNetworkIndicator") != "true":
                raise ValueError("an event is no break out of the programme")
            events.append(
                (Fraction(event.attrib["presentationTime"]) / scale,
                 Fraction(event.attrib["duration"]) / scale)
            )  # fmt: skip
            pts = insert.find(f"{_SCTE35}Program/{_SCTE35}SpliceTime")
            if pts is None or abs(int(pts.attrib["ptsTime"]) * _TICK - events[-1][0]) > _TICK:
                raise ValueError("an event has another time in its SCTE 35 section")
    wanted = [(cue.start, cue.duration) for cue in expected]
    if events != wanted:
        raise ValueError(
            f"its events are at {[float(start) for start, _ in events]} s for "
            f"{[float(lasts) for _, lasts in events]} s, the title's cues at "
            f"{[float(start) for start, _ in wanted]} s for {[float(lasts) for _, lasts in wanted]}"
        )
