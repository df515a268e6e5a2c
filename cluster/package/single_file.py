"""A package of one rung as one file, with the sound of the source where that can be copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av.error

from cluster.package.assemble import expected_segments
from encoder import likeness
from encoder.errors import SourceUnusable, ToolFailed, VerificationFailed
from encoder.package.audio import known_language
from encoder.package.progressive import (
    MediaFiles,
    Progressive,
    SourceSound,
    check_progressive,
    format_of,
    read_sounds,
    read_texts,
    write_progressive,
)
from encoder.source.reference import ReferenceSource
from ladder.document import Rung

_COPYABLE = {
    "mp4": {"aac", "ac3", "eac3", "mp3", "opus", "flac", "alac"},
    "matroska": {"aac", "ac3", "eac3", "mp3", "opus", "flac", "vorbis", "dts", "truehd",
                 "pcm_s16le", "pcm_s24le"},
}  # fmt: skip
"""Codecs of sound that players expect in each format."""
_IN_TIME_SECONDS = 0.04


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written and checked."""

    file: Progressive
    copied: bool
    """True where the sound is the source's own bits."""
    why_not: str
    """Why sound that was to be copied was encoded; empty otherwise."""
    lost: tuple[str, ...]
    """What of the source's sound and text the file does not have as it was, in words."""


def write_single_file(
    folder: Path,
    rung: Rung,
    source: ReferenceSource,
    out: Path,
    sound: str,
    *,
    pixel_format: str = "yuv420p",
) -> Written:
    """Write a rung with its sound and subtitles, and read it back.

    Sound is copied where each stream is one that the format holds and the copy proves to be in
    time with the source; else the package's AAC takes its place. ``sound`` is ``copy``, ``aac`` or
    ``none``.

    Raises:
        VerificationFailed: the file is not what was scored.
        ToolFailed: ffmpeg failed.
    """
    video = MediaFiles(folder / rung.init_uri, tuple(folder / one.uri for one in rung.segments))
    encoded, texts = read_sounds(folder) if sound != "none" else [], read_texts(folder)
    hashes = [one for segment in expected_segments(folder, rung) for one in segment.frame_hashes]
    lost = []
    if texts and format_of(out) == "mp4":
        lost.append("the subtitles are plain text; .mkv keeps their places and styles")
    pictures = sum(not stream.text for stream in source.info.subtitles)
    if pictures:
        lost.append(f"{pictures} tracks of picture subtitles are left out")
    why_not = ""
    if sound == "copy" and encoded:
        copied, why_not = _copyable(source, format_of(out))
        if not why_not:
            try:
                write_progressive(out, video, copied, texts, seconds=source_seconds(source))
                done = check_progressive(out, source.frame_rate, hashes, [], len(texts),
                                         pixel_format=pixel_format)  # fmt: skip
                why_not = _out_of_time(out, copied, source)
                if not why_not:
                    file = Progressive(done.bytes, done.frames, len(copied), done.texts)
                    return Written(file, True, "", tuple(lost))
            except (ToolFailed, VerificationFailed) as error:
                why_not = f"a copy of it failed ({error.message.splitlines()[0]:.120})"
            out.unlink(missing_ok=True)
    write_progressive(out, video, encoded, texts)
    done = check_progressive(out, source.frame_rate, hashes, encoded, len(texts),
                             pixel_format=pixel_format)  # fmt: skip
    return Written(done, False, why_not, tuple(lost))


def source_seconds(source: ReferenceSource) -> Fraction:
    """Return the duration of the title in seconds."""
    return source.frames / source.frame_rate


def _copyable(source: ReferenceSource, form: str) -> tuple[list[SourceSound], str]:
    """Return the streams to copy, and why they cannot be."""
    if source.given and source.given != source.path:
        return [], "the source had to be mended, so its sound has other times than the file"
    if source.choices.audio_layout is not None:
        return [], "--audio-layout makes sounds of its own"
    for stream in source.info.audio:
        if stream.codec not in _COPYABLE[form]:
            name = "MP4" if form == "mp4" else "Matroska"
            return [], f"{stream.codec} is not usual in {name}; .mkv or --sound aac"
    return [
        SourceSound(
            path=source.path,
            stream=stream.index,
            start_seconds=source.start_seconds,
            language=known_language(stream.language) or "",
            label=stream.title or "",
            default=number == 0,
        )
        for number, stream in enumerate(source.info.audio)
    ], ""


def _out_of_time(out: Path, copied: Sequence[SourceSound], source: ReferenceSource) -> str:
    """Return why a copy cannot be trusted to be in time; empty where it proves to be."""
    seconds = float(source_seconds(source))
    held = source.timeline.head / source.frame_rate
    try:
        _, here = likeness.source_levels(out, 0, seconds)
        _, there = likeness.source_levels(source.path, source.info.stream_index, seconds, held)
    except (SourceUnusable, av.error.FFmpegError) as error:
        return f"a copy of it cannot be read back ({error})"
    for number, sound in enumerate(copied, 1):
        mine, original = here.get(number), there.get(sound.stream)
        if mine is None or original is None:
            return "a copy of it does not decode"
        if not original.audible and not mine.audible:
            continue
        if not likeness.varied(original):
            return "it varies too little to prove a copy to be in time"
        late, alike = likeness.shift(mine, original)
        if abs(late) > _IN_TIME_SECONDS or not likeness.like(alike):
            return f"a copy of it is {abs(late):.2f} s {'late' if late > 0 else 'early'}"
    return ""
