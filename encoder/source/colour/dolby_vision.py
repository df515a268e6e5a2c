"""The Dolby Vision configuration of a source, found in its container or in its coded pictures.

PyAV does not expose the record of a container. In MP4 and MOV the boxes ``dvcC``, ``dvvC`` and
``dvwC`` are searched for in the bytes of the file; Matroska (BlockAdditionMapping) and MPEG-TS
(descriptor 0xB0) are read by the ffmpeg program, which prints the record. A stream whose container
says nothing still has reference picture units (RPU), which the decoder hands out with each picture.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from encoder.errors import ShotladderError
from encoder.ffmpeg import SOURCE_OPTIONS, Command, as_arguments, run

_BOXES = (b"dvcC", b"dvvC", b"dvwC")
_CODEC_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")
_HEADER_BYTES = 1 << 20
# Box header and 24 bytes of configuration record.
_BOX_SIZE = b"\0\0\0\x20"
_PRINTED = re.compile(r"DOVI configuration record:.*? profile: (\d+),.*? compatibility id: (\d+)")
_NOT_VIEWABLE_PROFILE = 5
_AV1_PROFILE = 10
# Base layers of profile 8 and 10, by the transfer that the pictures are tagged with.
_COMPATIBILITY = {"smpte2084": 1, "arib-std-b67": 4}


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """Profile and base layer that a Dolby Vision configuration states."""

    profile: int
    """Dolby Vision profile, for example 5, 7 or 8."""
    compatibility: int
    """Meaning of the base layer alone: 0 not viewable, 1 HDR10, 2 SDR, 4 HLG, 6 Blu-ray HDR10."""

    @property
    def viewable(self) -> bool:
        """True where the base layer alone is a picture that players show."""
        return self.compatibility != 0 and self.profile != _NOT_VIEWABLE_PROFILE


def read_dolby_vision(path: str | os.PathLike[str], codec_tag: str) -> DolbyVision | None:
    """Return the configuration in the headers of an MP4 or MOV file, None without one.

    A stream that has only a Dolby Vision ``codec_tag`` counts as profile 5, whose base layer is
    not viewable.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for start in {0, max(0, size - _HEADER_BYTES)}:  # moov is at either end
            file.seek(start)
            configuration = dolby_vision_in(file.read(_HEADER_BYTES))
            if configuration is not None:
                return configuration
    if codec_tag in _CODEC_TAGS:
        return DolbyVision(profile=5, compatibility=0)
    return None


def dolby_vision_in(data: bytes) -> DolbyVision | None:
    """Return the first Dolby Vision configuration in the bytes of a file's headers."""
    for name in _BOXES:
        at = data.find(name)
        # The size tells a box from four letters that occur in media data by chance.
        if at >= 4 and len(data) >= at + 9 and data[at - 4 : at] == _BOX_SIZE:
            return DolbyVision(profile=data[at + 6] >> 1, compatibility=data[at + 8] >> 4)
    return None


def record_of_stream(path: str | os.PathLike[str], stream_index: int) -> DolbyVision | None:
    """Return the configuration that ffmpeg finds in the container of a stream, None without one."""
    # Mapped without metadata: only the end of what ffmpeg prints is kept, and a title's metadata
    # may be long.
    arguments: list[str] = [
        *("-hide_banner", "-nostats", "-v", "info", *as_arguments(SOURCE_OPTIONS)),
        *("-i", str(Path(path).resolve()), "-map", f"0:{stream_index}", "-map_metadata", "-1"),
        *("-map_chapters", "-1", "-c", "copy", "-t", "0", "-f", "null", "-"),
    ]
    try:
        done = run(Command.of(arguments), timeout_seconds=60)
    except ShotladderError:
        return None  # whatever is wrong is reported where the stream is read
    return printed_record(done.stderr)


def printed_record(stderr: str) -> DolbyVision | None:
    """Return the last configuration that ffmpeg printed, None without one."""
    printed = _PRINTED.findall(stderr)
    if not printed:
        return None
    profile, compatibility = map(int, printed[-1])
    return DolbyVision(profile, compatibility)


def guessed(metadata: bytes, codec: str, transfer: str | None) -> DolbyVision | None:
    """Return the configuration that the RPU of a picture implies, None where it tells nothing.

    Args:
        metadata: libavutil's ``AVDOVIMetadata`` with its header, of the first picture.
        codec: ffmpeg's canonical name of the codec.
        transfer: ffmpeg's name of the picture's transfer, which tells the base layer's kind.
    """
    # The rules are those of libavcodec's ff_dovi_guess_profile_hevc (dovi_rpu.c).
    (offset,) = struct.unpack_from("@N", metadata)
    header = struct.unpack_from("@BHBBBBBBBBBBBBB", metadata, offset)
    profile, full_range, depth = header[2], header[8], header[11]
    resampled, no_residual = header[13], header[14]
    base = _COMPATIBILITY.get(transfer or "", 2)
    if profile == 0:
        own = _AV1_PROFILE if codec == "av1" else _NOT_VIEWABLE_PROFILE
        return DolbyVision(own, 0) if full_range else None
    if codec == "av1":
        return DolbyVision(_AV1_PROFILE, base)
    if resampled and not no_residual:
        return DolbyVision(7, 6) if depth == 12 else DolbyVision(4, 2)
    return DolbyVision(8, base)
