"""Which part of a decoded picture is to be shown, where the container or the format says so.

MP4 and MOV state a clean aperture (``clap``), Matroska a ``PixelCrop`` on each side. The ffmpeg
program would crop by itself and PyAV would not, so both are told to leave pictures whole, and the
canonical graph crops (:func:`encoder.source.reference.pixel_filters`). PyAV does not expose the
values; ffmpeg prints them, and applies its own rules to apertures that are no whole pixels or do
not fit.

IMX (MPEG-2 at 720x608 or 720x512) has 32 lines of the vertical blanking interval above the picture.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from encoder.errors import ShotladderError
from encoder.ffmpeg import SOURCE_OPTIONS, Command, as_arguments, run

_EXAMINED_BYTES = 1 << 20
# A box with its size, and the EBML ids of PixelCropBottom, Top, Left and Right with theirs.
_STATED = {
    "mov": re.compile(rb"\0\0\0\x28clap"),
    "matroska": re.compile(rb"\x54[\xaa\xbb\xcc\xdd](?:\x81|\x82|\x01\0{6}[\x01-\x08]|\x88)"),
}
_PRINTED = re.compile(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)")
_VBI_LINES = {(720, 608): 32, (720, 512): 32}
_STEPS = {"420": (2, 2), "422": (2, 1), "411": (4, 1)}


@dataclass(frozen=True, slots=True)
class Crop:
    """Stored pixels that are not shown, on each side of a picture before it is turned upright."""

    left: int
    right: int
    top: int
    bottom: int


def read_crop(
    path: str | os.PathLike[str], container: str, stream_index: int
) -> tuple[int, int, int, int]:
    """Return the pixels that the container crops at the left, right, top and bottom."""
    stated = next((what for name, what in _STATED.items() if name in container), None)
    if stated is None or not _found(path, stated):
        return 0, 0, 0, 0
    arguments: list[str] = [
        *("-hide_banner", "-nostats", "-v", "info", *as_arguments(SOURCE_OPTIONS)),
        *("-i", str(Path(path).resolve()), "-map", f"0:{stream_index}", "-map_metadata", "-1"),
        *("-map_chapters", "-1", "-c", "copy", "-t", "0", "-f", "null", "-"),
    ]
    try:
        printed = run(Command.of(arguments), timeout_seconds=60).stderr
    except ShotladderError:
        return 0, 0, 0, 0  # whatever is wrong is reported where the stream is read
    return printed_crop(printed)


def printed_crop(stderr: str) -> tuple[int, int, int, int]:
    """Return left, right, top and bottom as ffmpeg printed them last, zeros without."""
    printed = _PRINTED.findall(stderr)
    left, right, top, bottom = map(int, printed[-1] if printed else (0, 0, 0, 0))
    return left, right, top, bottom


def _found(path: str | os.PathLike[str], stated: re.Pattern[bytes]) -> bool:
    """Return True where the headers at either end of a file state a cropping."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for start in {0, max(0, size - _EXAMINED_BYTES)}:
            file.seek(start)
            if stated.search(file.read(_EXAMINED_BYTES)):
                return True
    return False


def vbi_lines(codec: str, width: int, height: int) -> int:
    """Return the number of lines above the picture that belong to the blanking interval."""
    return _VBI_LINES.get((width, height), 0) if codec == "mpeg2video" else 0


def whole_chroma(
    edges: tuple[int, int, int, int], width: int, height: int, chroma: str
) -> Crop | None:
    """Return a crop inside ``edges`` that cuts no chroma sample, None where nothing is cropped.

    Args:
        edges: pixels to crop at the left, right, top and bottom.
        width: width of the stored picture.
        height: its height.
        chroma: sampling, as in :attr:`encoder.source.probing.source_info.SourceInfo.chroma`.
    """
    if not any(edges):
        return None
    left, right, top, bottom = edges
    across, down = _STEPS.get(chroma, (1, 1))
    left, top = left + -left % across, top + -top % down
    right += (width - left - right) % across
    bottom += (height - top - bottom) % down
    return Crop(left, right, top, bottom)
