"""Hashes of decoded frames: options for ffmpeg's ``framehash``, and a parser of its output.

The scoring stage records the hashes of the frames that it measured; verification compares the
package's frames with them. Equal hashes mean equal pixels, so the scores hold for the package.
"""

from __future__ import annotations

from fractions import Fraction

from encoder.errors import FrameMismatch

ALGORITHM = "murmur3"
"""The cheapest of ffmpeg's hashes that is wide enough, 128 bits.

CPU time for a 1080p frame, whose decode takes 4.6 ms: CRC32 0.5 ms and adler32 1.1 ms (32 bits,
which one frame in a long title may match by chance), murmur3 0.8 ms, MD5 4.8 ms, SHA-256 8.6 ms.
"""
_HASH_DIGITS = 32


def hash_output_options(pixel_format: str = "yuv420p") -> dict[str, str]:
    """Return ffmpeg's output options that hash each frame as decoded, at its own size.

    ``-fps_mode passthrough`` keeps ffmpeg from repeating or dropping frames to fit a time base.
    Frames in another than the encode's ``pixel_format`` would be converted first.
    """
    return {
        "fps_mode": "passthrough",
        "pix_fmt": pixel_format,
        "c:v": "rawvideo",
        "f": "framehash",
        "hash": ALGORITHM,
    }


def times(text: str | bytes) -> tuple[Fraction, ...]:
    """Return the times in seconds of the frames in the ``framehash`` output of one stream.

    Raises:
        FrameMismatch: the text is not such output.
    """
    lines = (text.decode("ascii", "replace") if isinstance(text, bytes) else text).splitlines()
    try:
        base = next(line for line in lines if line.startswith("#tb 0:")).partition(":")[2]
        rows = (line.split(",") for line in lines if line and not line.startswith("#"))
        return tuple(int(row[2]) * Fraction(base.strip()) for row in rows)
    except (StopIteration, ValueError, IndexError) as error:
        raise FrameMismatch("a frame hash listing lacks its time base or a time") from error


def parse(text: str | bytes) -> tuple[str, ...]:
    """Parse the ``framehash`` output of one stream: hashes in order of presentation.

    Raises:
        FrameMismatch: the text is not such output, for instance truncated within a line.
    """
    lines = (text.decode("ascii", "replace") if isinstance(text, bytes) else text).splitlines()
    hashes = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 6 or fields[0] != "0" or len(fields[5]) != _HASH_DIGITS:
            raise FrameMismatch(
                f"line {number} of a frame hash listing is not "
                f"'0, dts, pts, duration, size, {ALGORITHM}': {line[:80]!r}"
            )
        hashes.append(fields[5])
    return tuple(hashes)
