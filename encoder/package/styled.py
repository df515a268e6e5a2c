"""Subtitles that are more than plain text: read with their places, for :mod:`encoder.package.ass`.

One pass over the source converts all text streams to ASS in Matroska, which keeps times to the
millisecond; the settings of WebVTT are copied as they are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from encoder.errors import ToolFailed
from encoder.ffmpeg import (
    DEFAULT_TIMEOUT_SECONDS,
    SOURCE_OPTIONS,
    Command,
    as_arguments,
    default_limits,
    run,
)
from encoder.package import ass
from encoder.package.subtitles import MAX_BYTES, cues

STAGE_VERSION = 1
"""Part of the store key of styled subtitles: raise it when their text or places change."""

# Matroska has no times before 0, but a source may.
_OFFSET_SECONDS = 3600
_FOREVER = Fraction(10**9)


def styled(source: Path, streams: Mapping[int, str], options: Sequence[str] = ()) -> dict[int, str]:
    """Return subtitles as WebVTT files on the source's own clock, by index of the stream: of those
    streams that plain text without places does not represent.

    Args:
        source: file with the streams.
        streams: ffmpeg's canonical names of the codecs, by index of the stream.
        options: further options of ffmpeg for reading the source.

    Raises:
        ToolFailed: ffmpeg was killed, or cannot be run.
    """
    native = [index for index, codec in streams.items() if codec == "webvtt"]
    other = {index: codec for index, codec in streams.items() if index not in native}
    found = {index: _native(source, index) for index in native}
    found |= dict(zip(other, _converted(source, other, options), strict=True))
    return {index: text for index, text in found.items() if text is not None}


def _native(source: Path, stream: int) -> str | None:
    """Return WebVTT as the source has it, None where no cue has settings."""
    out = _run(source, [stream], ("-c:s", "copy", "-f", "webvtt", "pipe:1"))
    text = out.decode("utf-8", "replace")
    try:
        placed = any(cue.settings for cue in cues(text, -_FOREVER, 2 * _FOREVER))
    except ValueError:
        return None
    return text if placed else None


def _converted(
    source: Path, streams: Mapping[int, str], options: Sequence[str]
) -> list[str | None]:
    if not streams:
        return []
    form = ("-output_ts_offset", _OFFSET_SECONDS, "-f", "matroska", "pipe:1")
    made = _run(source, list(streams), ("-c:s", "ass", *form), options)
    return [
        ass.webvtt(header, events, comments=streams[index] == "ass")
        for index, (header, events) in zip(streams, _events(made, len(streams)), strict=True)
    ]


def _run(
    source: Path, streams: Sequence[int], output: Sequence[object], options: Sequence[str] = ()
) -> bytes:
    """Return what ffmpeg makes of the streams; nothing where it cannot: the plain text stands."""
    command = Command.of(
        [
            *("-hide_banner", "-nostats", "-v", "error", "-copyts"),
            *as_arguments(SOURCE_OPTIONS),
            *options,
            *("-i", source),
            *(part for stream in streams for part in ("-map", f"0:{stream}")),
            *("-map_metadata", "-1", "-map_chapters", "-1"),
            *map(str, output),
        ]
    )
    limits = replace(
        default_limits(DEFAULT_TIMEOUT_SECONDS), output_bytes=MAX_BYTES * max(1, len(streams))
    )
    try:
        return run(command, limits=limits).stdout
    except ToolFailed as error:
        if error.context.get("returncode", -1) < 0:
            raise
        return b""


def _events(made: bytes, streams: int) -> list[tuple[str, list[ass.Event]]]:
    """Read the events of each stream from a Matroska file of our own."""
    nothing: list[tuple[str, list[ass.Event]]] = [("", []) for _ in range(streams)]
    if not made:
        return nothing
    try:
        with av.open(io.BytesIO(made), "r", format="matroska") as container:
            tracks: list[Any] = list(container.streams)
            found: list[tuple[str, list[ass.Event]]] = [
                (_text(track.codec_context.extradata), []) for track in tracks
            ]
            for packet in container.demux():
                if packet.size and packet.pts is not None and packet.time_base:
                    start = packet.pts * packet.time_base - _OFFSET_SECONDS
                    end = start + (packet.duration or 0) * packet.time_base
                    found[packet.stream_index][1].append(
                        ass.Event(start, end, _text(bytes(packet)))
                    )
    except av.error.FFmpegError:
        return nothing
    return found if len(found) == streams else nothing


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")
