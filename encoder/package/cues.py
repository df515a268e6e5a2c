"""Cues for ad insertion in HLS and DASH, as pure text, and as the SCTE 35 section of each.

HLS: ``EXT-X-DATERANGE`` with ``SCTE35-OUT`` (RFC 8216, 4.3.2.7) and the tags ``EXT-X-CUE-OUT`` and
``EXT-X-CUE-IN`` that ad servers read. DASH: an event stream of the scheme
``urn:scte:scte35:2013:xml`` (SCTE 214-1).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from xml.etree import ElementTree as ET

from encoder.package.layout import WrittenCue

SCHEME = "urn:scte:scte35:2013:xml"
"""Scheme of DASH events with a SCTE 35 section as XML, and the namespace of that XML."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Date that playlists give the first frame: dates of a title on demand only count from there."""
_PTS_RATE = 90_000
_POLYNOMIAL = 0x04C1_1DB7  # of CRC-32/MPEG-2


def program_date_time() -> str:
    """Return the tag that dates the first segment of a playlist with cues."""
    return f"#EXT-X-PROGRAM-DATE-TIME:{_date(Fraction(0))}"


def cue_tags(cues: Sequence[WrittenCue], starts: Sequence[Fraction]) -> list[list[str]]:
    """Return the lines that stand before each segment, and those that follow the last one.

    Args:
        cues: Cues of the title, in order.
        starts: Presentation time of the start of each segment, rising.
    """
    lines: list[list[str]] = [[] for _ in range(len(starts) + 1)]
    for cue in cues:
        attributes = {
            "ID": f'"{cue.id}"',
            "START-DATE": f'"{_date(cue.start)}"',
            "DURATION": _decimal(cue.duration),
            "SCTE35-OUT": f"0x{splice_insert(cue).hex().upper()}",
        }
        described = ",".join(f"{key}={value}" for key, value in attributes.items())
        lines[_nearest(starts, cue.start)] += [
            f"#EXT-X-DATERANGE:{described}",
            f"#EXT-X-CUE-OUT:DURATION={_decimal(cue.duration)}",
        ]
        end = cue.start + cue.duration
        lines[len(starts) if cue.ends_title else _nearest(starts, end)].append("#EXT-X-CUE-IN")
    return lines


def event_stream(period: ET.Element, cues: Sequence[WrittenCue], timescale: int) -> None:
    """Add the cues to a DASH period; times are exact in ``timescale``, that of the video."""
    stream = ET.SubElement(
        period, "EventStream", {"schemeIdUri": SCHEME, "timescale": str(timescale)}
    )
    for cue in cues:
        event = ET.SubElement(
            stream,
            "Event",
            {
                "presentationTime": str(cue.start * timescale),
                "duration": str(cue.duration * timescale),
                "id": str(cue.number),
            },
        )
        section = ET.SubElement(
            event,
            "scte35:SpliceInfoSection",
            {"protocolVersion": "0", "ptsAdjustment": "0", "tier": "4095"},
        )
        insert = ET.SubElement(
            section,
            "scte35:SpliceInsert",
            {
                "spliceEventId": str(cue.number),
                "spliceEventCancelIndicator": "false",
                "outOfNetworkIndicator": "true",
                "spliceImmediateFlag": "false",
                "uniqueProgramId": "1",
                "availNum": "0",
                "availsExpected": "0",
            },
        )
        program = ET.SubElement(insert, "scte35:Program")
        ET.SubElement(program, "scte35:SpliceTime", {"ptsTime": str(_pts(cue.start))})
        ET.SubElement(
            insert,
            "scte35:BreakDuration",
            {"autoReturn": "true", "duration": str(_pts(cue.duration))},
        )


def splice_insert(cue: WrittenCue) -> bytes:
    """Return the ``splice_info_section`` (SCTE 35, 9.6) of a cue: a ``splice_insert`` out of the
    programme, with the duration of its break and a return by itself.

    Times are in ticks of 90 kHz from the first frame, rounded.
    """
    command = struct.pack(">IBB", cue.number, 0x7F, 0xEF)
    command += (1 << 39 | 0x3F << 33 | _pts(cue.start)).to_bytes(5)
    command += (1 << 39 | 0x3F << 33 | _pts(cue.duration)).to_bytes(5)
    command += struct.pack(">HBB", 1, 0, 0)
    tier_and_length = (0xFFF << 12 | len(command)).to_bytes(3)
    # Protocol version, no encryption, no adjustment of times, control word; no descriptors.
    body = bytes(1) + bytes(5) + b"\xff" + tier_and_length + b"\x05" + command + bytes(2)
    section = b"\xfc" + struct.pack(">H", 0x3000 | len(body) + 4) + body
    return section + crc32_mpeg2(section).to_bytes(4)


def crc32_mpeg2(data: bytes) -> int:
    """Return the CRC of a section of MPEG-2 systems (ISO/IEC 13818-1, annex A)."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (_POLYNOMIAL if crc >> 31 else 0)) & 0xFFFF_FFFF
    return crc


def _pts(seconds: Fraction) -> int:
    return round(seconds * _PTS_RATE) % 2**33


def _nearest(starts: Sequence[Fraction], time: Fraction) -> int:
    return min(range(len(starts)), key=lambda number: abs(starts[number] - time))


def _decimal(seconds: Fraction) -> str:
    return f"{round(seconds * 1_000_000) / 1_000_000:.6f}"


def _date(seconds: Fraction) -> str:
    date = EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
    return f"{date:%Y-%m-%dT%H:%M:%S.%f}Z"
