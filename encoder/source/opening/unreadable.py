"""Say why no allowed demuxer opens a file, judged by its first bytes and its boxes."""

from __future__ import annotations

from pathlib import Path

import av.error

from encoder.errors import SourceUnusable
from encoder.source.containers.promise import lacks_index, torn_fragment
from encoder.source.opening import sniff
from encoder.source.opening.reading import reading


def why_not_opened(given: Path, error: av.error.FFmpegError) -> SourceUnusable:
    """Return the error for a file that libav did not open, with what to do about it."""
    with reading(given), given.open("rb") as file:
        kind = sniff.kind(file.read(sniff.HEAD_BYTES))
        unfinished = lacks_index(file)
        torn = torn_fragment(file)
    if kind is None and unfinished:
        return SourceUnusable(
            f"cannot use {given}: it is an MP4 or MOV file without its index (moov box), whose "
            "end is missing or was never written; copy it again, or repair the recording with a "
            "tool such as untrunc"
        )
    if torn:
        return SourceUnusable(
            f"cannot use {given}: it is not complete (it ends within the header of a fragment); "
            f"copy it again, or cut the torn fragment off with head -c {torn} IN > OUT.mp4"
        )
    if kind in sniff.ANIMATIONS:
        return SourceUnusable(
            f"cannot use {given}: it is {kind}, which is not supported; convert it first, for "
            "example with ffmpeg -i IN -c:v ffv1 OUT.mkv"
        )
    return SourceUnusable(
        f"cannot read {given}: not a supported kind of video ({kind or error.strerror}); "
        "give an MP4, MOV, MKV, WebM, MPEG-TS, AVI or raw H.264/HEVC file"
    )
