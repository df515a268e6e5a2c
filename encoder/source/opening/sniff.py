"""Name a file that no allowed demuxer accepts, from its first bytes, for a clear error.

Pure. Only common kinds, and those that could deceive a reader, have a name; the rest is ``None``.
"""

from __future__ import annotations

HEAD_BYTES = 65_536
"""Bytes of a file that are examined: MXF may have a run-in of 64 kB before its key."""

_MXF_KEY = bytes.fromhex("060e2b34020501010d010201")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"#EXTM3U", "an HLS playlist, which names other files"),
    (b"ffconcat", "a concat script, which names other files"),
    (b"<?xml", "an XML document"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture, or several"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"SDPX", "a DPX picture"),
    (b"XPDS", "a DPX picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"v=0", "a session description, which names addresses"),
)


ANIMATED_WEBP, ANIMATED_PNG = "an animated WebP picture", "an animated PNG picture"
ANIMATIONS = (ANIMATED_WEBP, ANIMATED_PNG)
"""Kinds that move, but that no allowed demuxer reads."""
_WEBP_ANIMATION = 0x02  # flag of the extended header (VP8X)


def _webp(head: bytes) -> str | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    animated = head[12:16] == b"VP8X" and len(head) > 20 and head[20] & _WEBP_ANIMATION
    return ANIMATED_WEBP if animated else "a WebP picture"


def kind(head: bytes) -> str | None:
    """Return in words what a refused file is by its first bytes, None where it has no name here."""
    if _MXF_KEY in head:
        return "MXF"
    if webp := _webp(head):
        return webp
    if head.startswith(b"\x89PNG") and b"acTL" in head[:1_024]:
        return ANIMATED_PNG
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _MAGIC:
        if head.startswith(magic) or (magic.isascii() and stripped.startswith(magic)):
            return name
    return None
