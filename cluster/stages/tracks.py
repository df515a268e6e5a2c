"""The audio and subtitle stages: each track is encoded or extracted once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cluster.stages.captions import captions
from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import Title
from cluster.store import Blob, Record, Store
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.package import audio, layout
from encoder.package import styled as styled_subtitles
from encoder.package import subtitles as vtt
from encoder.package.audio_commands import BIT_RATE, SURROUND_BIT_RATE, Part, Sound
from encoder.package.audio_log import SoundFormat
from encoder.source.probe import AudioStream
from encoder.source.reference import ReferenceSource


@dataclass(frozen=True, slots=True)
class _Made:
    """A sound as it was encoded."""

    stream: AudioStream
    surround: bool
    facts: audio.SoundFacts
    media: Blob | None
    """The encode, None where nothing is audible."""


def audio_tracks(title: Title, store: Store) -> tuple[layout.AudioTrack, ...]:
    """Return the title's audio tracks, each encoded once and cut at the title's shots.

    The first audible stream of the source is what plays by default. Every stream becomes stereo;
    a stream of six channels or more, if only in part, is also kept as 5.1.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    return tuple(
        audio.segment_audio(
            store.path(sound.media).read_bytes(), _shot_ends(title), sound.stream.language
        )
        for sound in _sounds(title, store)
        if sound.media is not None
    )


def audio_facts(title: Title, store: Store) -> tuple[tuple[AudioStream, audio.SoundFacts], ...]:
    """Return what was found in each audio stream while it was encoded as stereo.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    sounds = _sounds(title, store)
    return tuple((sound.stream, sound.facts) for sound in sounds if not sound.surround)


def listened(
    reference: ReferenceSource,
) -> tuple[tuple[AudioStream, audio.SoundFacts], ...]:
    """Return what a run would find in each audio stream, from a decode of all sound.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    return tuple(
        (
            stream,
            audio.listen(
                _sound(reference, stream),
                first_video_pts=reference.index.start_seconds,
                duration=reference.timeline.duration_seconds,
            ),
        )
        for stream in reference.info.audio
    )


def _sound(reference: ReferenceSource, stream: AudioStream) -> Sound:
    return Sound((Part(Path(reference.path), stream.index),), channels=stream.channels)


def _sounds(title: Title, store: Store) -> list[_Made]:
    stereo = [_encoded(title, store, stream, False) for stream in title.reference.info.audio]
    wide = [
        sound.stream
        for sound in stereo
        if max(sound.stream.channels, sound.facts.widest) >= audio.SURROUND_CHANNELS
    ]
    return [*stereo, *(_encoded(title, store, stream, True) for stream in wide)]


def _encoded(title: Title, store: Store, stream: AudioStream, surround: bool) -> _Made:
    """Return one sound, encoded once."""
    reference = title.reference
    sound = _sound(reference, stream)
    bit_rate = SURROUND_BIT_RATE if surround else BIT_RATE
    times = {
        "first_video_pts": reference.index.start_seconds,
        "duration": reference.timeline.duration_seconds,
    }
    parameters = {
        "source": title.source.sha256,
        "stream": stream.index,
        "start": reference.index.start_seconds,
        "duration": reference.timeline.duration_seconds,
        "channels": stream.channels,
        "bit_rate": bit_rate,
        "tool": ffmpeg.version(),
        **({"surround": True} if surround else {}),
        **reference.copied.identity,
    }

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        path = scratch / "audio.mp4"
        facts = audio.encode_sound(sound, path, **times, bit_rate=bit_rate, surround=surround)
        return Made(
            {"audible": facts.audible, "facts": _document(facts)},
            {"audio": path} if facts.audible else {},
            {"other": ffmpeg.children_cpu_seconds() - before},
        )

    def find(**more: Any) -> Record:
        identity = key("audio", audio.STAGE_VERSION, **parameters, **more)
        return find_or_make(
            store, identity, make, stage="audio", version=audio.STAGE_VERSION, title=title.id
        )

    record = find()
    if "facts" not in record.value and not _as_made_now(title, store, sound, parameters, surround):
        # A release that did not know of such sound encoded it: shifted, clipped or silent.
        record = find(remade=True)
    facts = _facts(record.value)
    return _Made(stream, surround, facts, record.blobs["audio"] if facts.audible else None)


def _as_made_now(
    title: Title, store: Store, sound: Sound, parameters: Mapping[str, Any], surround: bool
) -> bool:
    """Return True where a release that looked for nothing made of a sound what is made of it now.

    That is so where the format of the sound does not change, and its mix does not clip.
    """

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        facts = audio.listen(
            sound,
            first_video_pts=parameters["start"],
            duration=parameters["duration"],
            surround=surround,
        )
        return Made(
            {"plain": not facts.rebuilt and not facts.lowered_db},
            cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before},
        )

    identity = key("audio-check", audio.STAGE_VERSION, **parameters)
    record = find_or_make(
        store, identity, make, stage="audio-check", version=audio.STAGE_VERSION, title=title.id
    )
    plain: bool = record.value["plain"]
    return plain


def _document(facts: audio.SoundFacts) -> dict[str, Any]:
    formats = [[str(f.seconds), f.channels, f.layout, f.sample_rate] for f in facts.formats]
    return {"formats": formats, "lowered_db": facts.lowered_db, "silent": list(facts.silent)}


def _facts(value: Mapping[str, Any]) -> audio.SoundFacts:
    known = value.get("facts", {})
    return audio.SoundFacts(
        audible=value["audible"],
        formats=tuple(
            SoundFormat(Fraction(seconds), channels, layout, rate)
            for seconds, channels, layout, rate in known.get("formats", ())
        ),
        lowered_db=known.get("lowered_db", 0.0),
        silent=tuple(known.get("silent", ())),
    )


def subtitle_tracks(title: Title, store: Store) -> tuple[layout.SubtitleTrack, ...]:
    """Return the title's text subtitles, then its captions, as WebVTT on the title's timeline.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    reference = title.reference
    styled = _styled_texts(title, store)
    tracks = tuple(
        vtt.subtitle_track(
            vtt.cues(
                styled.get(stream.index) or _subtitle_text(title, store, stream.index),
                reference.index.start_seconds,
                reference.timeline.duration_seconds,
            ),
            _shot_ends(title),
            language=audio.known_language(stream.language),
            forced=stream.forced,
            hearing_impaired=stream.hearing_impaired,
        )
        for stream in reference.info.subtitles
        if stream.text
    )
    return tracks + tuple(
        vtt.subtitle_track(
            cues,
            _shot_ends(title),
            language=audio.known_language(language),
            hearing_impaired=True,
            captions=name,
        )
        for name, language, cues in captions(reference)
        if cues
    )


def _subtitle_text(title: Title, store: Store, stream: int) -> str:
    identity = key(
        "subtitles",
        vtt.STAGE_VERSION,
        source=title.source.sha256,
        stream=stream,
        tool=ffmpeg.version(),
        **title.reference.copied.identity,
    )

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        text = vtt.extract(Path(title.reference.path), stream)
        return Made({"text": text}, cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before})

    record = find_or_make(
        store, identity, make, stage="subtitles", version=vtt.STAGE_VERSION, title=title.id
    )
    text: str = record.value["text"]
    return text


def _styled_texts(title: Title, store: Store) -> dict[int, str]:
    """Return the subtitles that have places, drawings or effects, by index of the stream."""
    streams = {s.index: s.codec for s in title.reference.info.subtitles if s.text and s.styled}
    if not streams:
        return {}
    identity = key(
        "styled subtitles",
        styled_subtitles.STAGE_VERSION,
        source=title.source.sha256,
        streams=list(streams),
        tool=ffmpeg.version(),
    )

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        texts = styled_subtitles.styled(Path(title.reference.path), streams)
        return Made(
            {"texts": {str(index): text for index, text in texts.items()}},
            cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before},
        )

    version = styled_subtitles.STAGE_VERSION
    record = find_or_make(store, identity, make, stage="styled subtitles", version=version)
    return {int(index): text for index, text in record.value["texts"].items()}


def _shot_ends(title: Title) -> list[Fraction]:
    return [shot.end / title.reference.frame_rate for shot in title.shots]
