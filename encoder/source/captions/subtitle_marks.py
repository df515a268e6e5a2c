"""Whether subtitles may be more than plain text at the usual place, judged by their packets. Pure.

A mark may be a false alarm: :mod:`encoder.package.ass` decides when it converts the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_SHORT_SECONDS = Fraction(1, 5)
"""An event of ASS that lasts no longer may be one picture of an animation."""
_FIELDS = 8  # commas before the text of an event of ASS
# A tag other than for italics, bold, underline and karaoke; a comment; a hard space; an empty line.
_IN_ASS = re.compile(rb"\\(?![ibu][01]|[kK][fo]?\d|[Nn])[A-Za-z0-9]|\{[^\\}]*\}|\\[Nn]\s*\\[Nn]")
_IN_TEXT = re.compile(rb"\{\\|\n\s*\n|\A\s*\n")


@dataclass(slots=True)
class Marks:
    """What was found in the packets of one stream."""

    codec: str
    """ffmpeg's canonical name of the codec."""
    found: bool = False
    """True where the text may have a place, a drawing, or what ffmpeg would show wrongly."""

    def look(self, packet: bytes, seconds: Fraction, *, placed: bool) -> None:
        """Look at a packet that lasts ``seconds``; ``placed`` is True where it has settings."""
        if self.found:
            return
        if self.codec == "ass":
            parts = packet.split(b",", _FIELDS)
            layered = len(parts) > 1 and parts[1].strip() not in (b"0", b"")
            text = parts[-1]
            self.found = (
                layered
                or 0 < seconds <= _SHORT_SECONDS
                or text.startswith((b"\\N", b"\\n"))
                or _IN_ASS.search(text) is not None
            )
        else:
            self.found = placed or _IN_TEXT.search(packet) is not None


def marks(codec: str, extradata: bytes | None) -> Marks:
    """Return the marks of a stream before its first packet, judged by its header."""
    header = extradata or b""
    found = False
    if codec == "ass":
        found = any(alignment not in ("", "2") for alignment in _alignments(header))
    elif codec == "mov_text" and len(header) > 5:
        found = header[4:6] != b"\x01\xff"  # centred, at the bottom
    return Marks(codec, found)


def _alignments(header: bytes) -> list[str]:
    """Return the alignments of all styles."""
    found, place = [], -1
    for line in header.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "format":
            names = [name.strip().lower() for name in value.split(",")]
            place = names.index("alignment") if "alignment" in names else -1
        elif key.strip().lower() == "style" and place >= 0:
            parts = value.split(",")
            found.append(parts[place].strip() if place < len(parts) else "")
    return found
