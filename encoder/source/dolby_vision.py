"""The Dolby Vision configuration of a source, found in its container's headers.

PyAV does not expose it, so the boxes ``dvcC``, ``dvvC`` and ``dvwC`` are
searched for in the bytes of the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_BOXES = (b"dvcC", b"dvvC", b"dvwC")
_CODEC_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")
_HEADER_BYTES = 1 << 20
# Box header and 24 bytes of configuration record.
_BOX_SIZE = b"\0\0\0\x20"


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """Profile and base layer that a Dolby Vision configuration states."""

    profile: int
    """Dolby Vision profile, for example 5, 7 or 8."""
    compatibility: int
    """Meaning of the base layer alone: 0 not viewable, 1 HDR10, 2 SDR, 4 HLG, 6 Blu-ray HDR10."""


def read_dolby_vision(path: str | os.PathLike[str], codec_tag: str) -> DolbyVision | None:
    """Return the configuration in the headers of a file, None without one.

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
