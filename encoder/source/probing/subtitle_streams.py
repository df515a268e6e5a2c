"""What each subtitle stream of a source is, by the container's own words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import av.container
import av.stream

from encoder.source.containers.edits import TextPart, read_text_parts
from encoder.source.later import later
from encoder.source.opening.container import MOV
from encoder.source.opening.reading import PathLike
from encoder.source.opening.streams import has_decoder, language_of

TEXT_SUBTITLES = frozenset({"subrip", "mov_text", "ass", "webvtt", "text"})
"""Subtitle codecs that hold text, by ffmpeg's canonical names."""


@dataclass(frozen=True, slots=True)
class SubtitleStream:
    """One subtitle stream of a source."""

    index: int
    """Index of the stream in the file."""
    codec: str
    """ffmpeg's canonical name of the codec, for example ``subrip``, ``mov_text`` or ``ass``."""
    language: str | None
    """Language tag as written in the file, None without one."""
    forced: bool
    """True where the stream translates only what is foreign to the title's own language."""
    hearing_impaired: bool
    """True where the stream is marked for the hard of hearing."""
    styled: bool = later(False)
    """True where the text may have places, drawings or effects
    (:mod:`encoder.source.captions.subtitle_marks`)."""
    parts: tuple[TextPart, ...] = later(())
    """Parts of the stream's media that are played, by which its text is placed; none where
    libavformat places it."""

    @property
    def text(self) -> bool:
        """True where the stream holds text, which becomes WebVTT; pictures of text cannot."""
        return self.codec in TEXT_SUBTITLES


def subtitle_streams(
    container: av.container.InputContainer, path: PathLike
) -> tuple[SubtitleStream, ...]:
    """Describe the subtitle streams that can be decoded."""
    streams = [_subtitle(s) for s in container.streams.subtitles if has_decoder(s)]
    texts = [s.index for s in streams if s.text] if container.format.name == MOV else []
    parts = read_text_parts(path, texts)
    return tuple(replace(s, parts=parts.get(s.index, ())) for s in streams)


def _subtitle(stream: Any) -> SubtitleStream:
    disposition = stream.disposition
    return SubtitleStream(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        language=language_of(stream),
        forced=bool(disposition & av.stream.Disposition.forced),
        hearing_impaired=bool(disposition & av.stream.Disposition.hearing_impaired),
    )
