"""The audio and subtitle stages: each track is encoded or extracted once and kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from cluster.stages.captions import captions
from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import Title
from cluster.store import Store
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.package import audio, layout
from encoder.package import subtitles as vtt
from encoder.source.probe import AudioStream


def audio_tracks(title: Title, store: Store) -> tuple[layout.AudioTrack, ...]:
    """Return the title's audio tracks, each encoded once and cut at the title's shots.

    The first audible stream of the source is what plays by default. Every stream becomes stereo;
    a stream of six channels or more is also kept as 5.1.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    streams = title.reference.info.audio
    encodes = [(stream, False) for stream in streams]
    encodes += [(s, True) for s in streams if s.channels >= audio.SURROUND_CHANNELS]
    tracks = [_audio_track(title, store, stream, surround) for stream, surround in encodes]
    return tuple(track for track in tracks if track is not None)


def _audio_track(
    title: Title, store: Store, stream: AudioStream, surround: bool
) -> layout.AudioTrack | None:
    """Return one track; None where the stream is silent."""
    reference = title.reference
    bit_rate = audio.SURROUND_BIT_RATE if surround else audio.BIT_RATE
    identity = key(
        "audio",
        audio.STAGE_VERSION,
        source=title.source.sha256,
        stream=stream.index,
        start=reference.index.start_seconds,
        duration=reference.timeline.duration_seconds,
        channels=stream.channels,
        bit_rate=bit_rate,
        tool=ffmpeg.version(),
        **({"surround": True} if surround else {}),
    )

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        path = audio.encode_audio(
            Path(reference.path),
            stream.index,
            scratch / "audio.mp4",
            first_video_pts=reference.index.start_seconds,
            duration=reference.timeline.duration_seconds,
            channels=stream.channels,
            bit_rate=bit_rate,
            surround=surround,
        )
        return Made(
            {"audible": path is not None},
            {"audio": path} if path else {},
            {"other": ffmpeg.children_cpu_seconds() - before},
        )

    record = find_or_make(
        store, identity, make, stage="audio", version=audio.STAGE_VERSION, title=title.id
    )
    if not record.value["audible"]:
        return None
    return audio.segment_audio(
        store.path(record.blobs["audio"]).read_bytes(), _shot_ends(title), stream.language
    )


def subtitle_tracks(title: Title, store: Store) -> tuple[layout.SubtitleTrack, ...]:
    """Return the title's text subtitles, then its captions, as WebVTT on the title's timeline.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    reference = title.reference
    tracks = tuple(
        vtt.subtitle_track(
            vtt.cues(
                _subtitle_text(title, store, stream.index),
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
    )

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        text = vtt.extract(Path(title.reference.path), stream)
        return Made({"text": text}, cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before})

    record = find_or_make(store, identity, make, stage="subtitles", version=vtt.STAGE_VERSION)
    text: str = record.value["text"]
    return text


def _shot_ends(title: Title) -> list[Fraction]:
    return [shot.end / title.reference.frame_rate for shot in title.shots]
