"""Refuse files that are pictures and not video, though a video demuxer opens them."""

from __future__ import annotations

import os
from pathlib import Path

from encoder.errors import SourceUnusable
from encoder.source.containers.promise import boxes, brand
from encoder.source.opening.reading import reading

_HEAD_BYTES = 16
_SEQUENCE_BRANDS = ("avis", "msf1", "hevc", "hevx")
"""Brands of AVIF and HEIF files that hold a moving picture beside a still one."""
_PICTURE_DEMUXERS = ("gif", "mjpeg")
"""Demuxers of formats that hold one picture as often as many."""
_MAKE_VIDEO = (
    "ffmpeg -r 25 -i IN -vf tpad=stop=124:stop_mode=clone -c:v libx264 -pix_fmt yuv420p OUT.mp4"
)


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that a file is not an AVIF or HEIF picture, of which ffmpeg makes a video of a frame.

    Raises:
        SourceUnusable: it is.
    """
    with reading(path), Path(path).open("rb") as file:
        stated = brand(file.read(_HEAD_BYTES))
        if not stated:
            return
        size = file.seek(0, os.SEEK_END)
        kinds = {box.kind for box in boxes(file, 0, size)}
    if "meta" in kinds and "moov" not in kinds:
        raise _picture(path, stated.strip().upper())
    if "meta" in kinds and stated in _SEQUENCE_BRANDS:
        raise SourceUnusable(
            f"cannot use {path}: it is an animated picture ({stated.strip().upper()}), which is "
            "not supported; make a video of it first, for example with "
            "ffmpeg -i IN -map 0:v:1 -c copy OUT.mp4"
        )


def check_frames(path: str | os.PathLike[str], container: str, frames: int, sound: bool) -> None:
    """Check that a GIF or JPEG file has more than one picture.

    Args:
        path: the file, for the error.
        container: name of its demuxer.
        frames: number of its pictures.
        sound: whether it has sound.

    Raises:
        SourceUnusable: it has one.
    """
    if container in _PICTURE_DEMUXERS and frames == 1 and not sound:
        raise _picture(path, "GIF" if container == "gif" else "JPEG")


def _picture(path: str | os.PathLike[str], kind: str) -> SourceUnusable:
    return SourceUnusable(
        f"cannot use {path}: it is a single picture ({kind}), not a video; give a video, or make "
        f"one of it, for example with {_MAKE_VIDEO}"
    )
