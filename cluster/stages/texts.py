"""The texts of a title: its subtitles, read once and kept, and its captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.stages.captions import captions
from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import Title
from cluster.store import Store
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.package import audio
from encoder.package import styled as styled_subtitles
from encoder.package import subtitles as vtt
from encoder.source.probing.subtitle_streams import SubtitleStream
from encoder.source.reference import ReferenceSource


@dataclass(frozen=True, slots=True)
class Text:
    """One stream of subtitles, or one channel of captions, on the title's timeline."""

    name: str
    """What it is called in messages."""
    cues: tuple[vtt.Cue, ...]
    unshown: vtt.Unshown
    """What the title does not show of it."""
    language: str | None = None
    """Language tag as written in the source, None without one."""
    forced: bool = False
    hearing_impaired: bool = False
    captions: str = ""
    """Name of the channel; empty for subtitles."""
    encoding: str = ""
    """Encoding that the text is taken to have in the source, empty for UTF-8."""
    stream: int | None = None
    """Index of the stream in the file, None for captions."""


Read = Callable[[SubtitleStream], tuple[str, str]]
"""Returns a stream as WebVTT on the clock of its file, and its encoding, empty for UTF-8."""


def texts_in_title(title: Title, store: Store) -> tuple[Text, ...]:
    """Return the subtitles of a title, then its captions.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    styled = _kept_styled(title, store)

    def read(stream: SubtitleStream) -> tuple[str, str]:
        placed = styled.get(stream.index)
        return (placed, "") if placed else _kept(title, store, stream)

    return _texts(title.reference, read)


def texts_in_source(reference: ReferenceSource) -> tuple[Text, ...]:
    """Return the subtitles and captions that a title would have.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    styled = _read_styled(reference)

    def read(stream: SubtitleStream) -> tuple[str, str]:
        placed = styled.get(stream.index)
        return (placed, "") if placed else _extracted(reference, stream)

    return _texts(reference, read)


def _texts(reference: ReferenceSource, read: Read) -> tuple[Text, ...]:
    start, duration = reference.text_start_seconds, reference.timeline.duration_seconds
    subtitles = []
    for stream in reference.info.subtitles:
        if stream.text:
            text, encoding = read(stream)
            parts = [(part.start, part.seconds, part.at) for part in stream.parts]
            subtitles.append(
                Text(
                    f"subtitles (stream {stream.index})",
                    *vtt.cues_in_title(text, start, duration, parts),
                    language=stream.language,
                    forced=stream.forced,
                    hearing_impaired=stream.hearing_impaired,
                    encoding=encoding,
                    stream=stream.index,
                )
            )
    return tuple(subtitles) + tuple(
        Text(f"captions ({name})", cues, unshown, language, hearing_impaired=True, captions=name)
        for name, language, cues, unshown in captions(reference)
    )


def _extracted(reference: ReferenceSource, stream: SubtitleStream) -> tuple[str, str]:
    language = audio.known_language(stream.language)
    return vtt.extract(reference.text_path, stream.index, _options(stream), language)


def _options(*streams: SubtitleStream) -> tuple[str, ...]:
    """Return the options of ffmpeg for reading these streams."""
    return vtt.IGNORE_EDITS if any(stream.parts for stream in streams) else ()


def _kept(title: Title, store: Store, stream: SubtitleStream) -> tuple[str, str]:
    identity = key(
        "subtitles",
        vtt.STAGE_VERSION,
        source=title.source.sha256,
        stream=stream.index,
        tool=ffmpeg.version(),
        **title.reference.copied.identity,
        **_as_read(stream),
    )

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        text, encoding = _extracted(title.reference, stream)
        value = {"text": text, **({"encoding": encoding} if encoding else {})}
        return Made(value, cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before})

    record = find_or_make(
        store, identity, make, stage="subtitles", version=vtt.STAGE_VERSION, title=title.id
    )
    return record.value["text"], record.value.get("encoding", "")


def _as_read(*streams: SubtitleStream) -> dict[str, Any]:
    """What keys contain of how streams are read: nothing where that is as always."""
    options = _options(*streams)
    return {"options": list(options)} if options else {}


def _styled(reference: ReferenceSource) -> tuple[SubtitleStream, ...]:
    """Return the subtitles that may have places, drawings or effects."""
    return tuple(s for s in reference.info.subtitles if s.text and s.styled)


def _read_styled(reference: ReferenceSource) -> dict[int, str]:
    streams = _styled(reference)
    if not streams:
        return {}
    codecs = {stream.index: stream.codec for stream in streams}
    return styled_subtitles.styled(reference.text_path, codecs, _options(*streams))


def _kept_styled(title: Title, store: Store) -> dict[int, str]:
    streams = _styled(title.reference)
    if not streams:
        return {}
    identity = key(
        "styled subtitles",
        styled_subtitles.STAGE_VERSION,
        source=title.source.sha256,
        streams=[stream.index for stream in streams],
        tool=ffmpeg.version(),
        **_as_read(*streams),
    )

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        texts = _read_styled(title.reference)
        return Made(
            {"texts": {str(index): text for index, text in texts.items()}},
            cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before},
        )

    version = styled_subtitles.STAGE_VERSION
    record = find_or_make(store, identity, make, stage="styled subtitles", version=version)
    return {int(index): text for index, text in record.value["texts"].items()}
