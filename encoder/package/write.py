"""Write a package, media first and playlists last; the same input gives the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from encoder import mp4
from encoder.errors import OutputUnwritable, StoreUnusable
from encoder.package import dash, hls
from encoder.package.colours import stating
from encoder.package.layout import (
    AUDIO_BRAND,
    VIDEO_BRAND,
    AudioTrack,
    KeyFrame,
    Rendition,
    SubtitleTrack,
    TitlePackage,
    VideoSegment,
    WrittenCue,
    WrittenPackage,
    WrittenSegment,
    WrittenSubtitles,
    WrittenTrack,
    check_segment,
    segment_name,
    target_duration,
)

INIT = "init.mp4"
"""File name of each track's init segment."""
AUDIO_NAME = "audio"
"""Name and folder of the default audio track, which holds the folders of the others."""
SUBTITLES = "subtitles"
"""Folder of all subtitle tracks."""


def write_package(package: TitlePackage, directory: Path) -> WrittenPackage:
    """Write ``package`` into ``directory``, which must not hold a package yet.

    Writes ``master.m3u8``, ``manifest.mpd``, ``video/<rung>/`` and ``audio/``, each with
    ``init.mp4``, ``00000.m4s`` and so on, ``media.m3u8`` and, for video, ``iframes.m3u8``; and
    ``subtitles/<track>/``. Only the sequence numbers of fragments differ from the encodes.

    Returns:
        Exact sizes, times and digests of the written files.

    Raises:
        ValueError: segments of one rung differ in codec configuration, so that no init fits all of
            them, or a segment does not hold its frames at their times.
        StoreUnusable: an encode is missing, or its bytes are not those that were measured.
        OutputUnwritable: the directory holds a package already, or cannot be written.
    """
    for rendition in package.renditions:
        _check_configurations(rendition)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        video = tuple(_write_video(package, each, directory) for each in package.renditions)
        sounds = tuple(
            _write_audio(track, directory, AUDIO_NAME if number == 1 else f"{AUDIO_NAME}-{number}")
            for number, track in enumerate(package.sounds, 1)
        )
        subtitles = tuple(
            _write_subtitles(track, directory, f"{SUBTITLES}-{number}")
            for number, track in enumerate(package.subtitles, 1)
        )
        written = WrittenPackage(
            frame_rate=package.frame_rate,
            target_duration=target_duration(
                [segment.duration for segment in video[0].segments],
                [segment.duration for track in sounds for segment in track.segments],
            ),
            video=video,
            audio=sounds[0] if sounds else None,
            more_audio=sounds[1:],
            subtitles=subtitles,
            cues=_written_cues(package),
            thumbnails=package.thumbnails,
        )
        for name, text in playlists(written).items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text, encoding="utf-8", newline="\n")
    except FileExistsError as error:
        raise OutputUnwritable(
            f"{directory} holds a package already ({error.filename}); name an empty folder"
        ) from error
    except OSError as error:
        raise OutputUnwritable(
            f"cannot write the package to {directory} ({error.strerror}); free disk space or name "
            "another folder"
        ) from error
    return written


def playlists(package: WrittenPackage) -> dict[str, str]:
    """Return the text of every playlist by its path in the package; the entry points come last."""
    texts = {}
    for track in package.video:
        media = hls.media_playlist(track, package.target_duration, package.cues)
        iframes = hls.iframe_playlist(track, package.target_duration)
        texts[f"{track.directory}/{hls.MEDIA}"] = media
        texts[f"{track.directory}/{hls.IFRAMES}"] = iframes
    for sound in package.sounds:
        media = hls.media_playlist(sound, package.target_duration, package.cues)
        texts[f"{sound.directory}/{hls.MEDIA}"] = media
    for subtitles in package.subtitles:
        media = hls.subtitle_playlist(subtitles, package.target_duration, package.cues)
        texts[f"{subtitles.directory}/{hls.MEDIA}"] = media
    if package.thumbnails is not None:
        seconds = package.video[0].duration
        texts[hls.images_uri(package.thumbnails)] = hls.image_playlist(package.thumbnails, seconds)
    texts[dash.MANIFEST] = dash.manifest(package)
    texts[hls.MASTER] = hls.master_playlist(package)
    return texts


def _written_cues(package: TitlePackage) -> tuple[WrittenCue, ...]:
    rate = package.frame_rate
    return tuple(
        WrittenCue(
            number=number,
            id=cue.id,
            start=cue.frame / rate,
            duration=(cue.end_frame - cue.frame) / rate,
            ends_title=cue.end_frame == package.shots[-1][1],
        )
        for number, cue in enumerate(package.cues, 1)
    )


def _check_configurations(rendition: Rendition) -> None:
    """Check that the encodes of a rung can share its init: their configurations must be equal."""
    shared = mp4.codec_configuration(rendition.init).sha256
    for number, segment in enumerate(rendition.segments):
        if segment.configuration != shared:
            raise ValueError(
                f"segment {number} of rung {rendition.name!r} (frames [{segment.start_frame}, "
                f"{segment.end_frame})) has codec configuration {segment.configuration[:12]}, the "
                f"rung's init has {shared[:12]}: players would decode garbage; encode the rung "
                "with one recipe and size (x264: stitchable=1)"
            )


def _write_video(package: TitlePackage, rendition: Rendition, directory: Path) -> WrittenTrack:
    folder = f"video/{rendition.name}"
    init = rendition.init
    if package.colour is not None:
        init = stating(init, _read(rendition.name, rendition.segments[0]), package.colour)
    init = mp4.cmaf_header(init, VIDEO_BRAND)
    facts = _write_init(directory, folder, init)
    rate, timescale = package.frame_rate, mp4.track_timescale(init)
    segments: list[WrittenSegment] = []
    sequence_number = 1
    for number, segment in enumerate(rendition.segments):
        media = _read(rendition.name, segment)
        fragments = check_segment(rendition.name, segment, media, init, rate)
        media = mp4.number_fragments(media, sequence_number)
        sequence_number += len(fragments)
        start, end = segment.start_frame / rate, segment.end_frame / rate
        uri, keys = f"{folder}/{segment_name(number)}", keyframes(fragments, timescale, end)
        segments.append(_write_segment(directory, uri, start, end - start, media, keys))
    configuration = mp4.codec_configuration(init)
    return WrittenTrack(
        name=rendition.name,
        codecs=configuration.codecs,
        segments=tuple(segments),
        width=configuration.width,
        height=configuration.height,
        colour=configuration.colour,
        **facts,
    )


def _write_init(directory: Path, folder: str, init: bytes) -> dict[str, Any]:
    """Write the init segment of a track; return the fields of the track that describe it."""
    (directory / folder).mkdir(parents=True)
    (directory / folder / INIT).write_bytes(init)
    return {
        "directory": folder,
        "timescale": mp4.track_timescale(init),
        "init_uri": f"{folder}/{INIT}",
        "init_size": len(init),
        "init_sha256": hashlib.sha256(init).hexdigest(),
    }


def _write_segment(
    directory: Path,
    uri: str,
    start: Fraction,
    duration: Fraction,
    media: bytes,
    keys: tuple[KeyFrame, ...] = (),
) -> WrittenSegment:
    (directory / uri).write_bytes(media)
    digest = hashlib.sha256(media).hexdigest()
    return WrittenSegment(uri, start, duration, len(media), digest, keys)


def keyframes(
    fragments: Sequence[mp4.Fragment], timescale: int, end: Fraction
) -> tuple[KeyFrame, ...]:
    """Return the key frame of each fragment of a segment that ends at ``end`` seconds."""
    starts = [Fraction(f.samples[0].composition_time, timescale) for f in fragments]
    return tuple(
        KeyFrame(
            start=start,
            duration=until - start,
            offset=fragment.start,
            size=fragment.samples[0].offset + fragment.samples[0].size - fragment.start,
        )
        for fragment, start, until in zip(fragments, starts, [*starts[1:], end], strict=True)
    )


def _read(name: str, segment: VideoSegment) -> bytes:
    """Read the bytes of a segment, which must be those that were measured."""
    where = f"rung {name!r}, frames [{segment.start_frame}, {segment.end_frame})"
    try:
        media = segment.media if isinstance(segment.media, bytes) else segment.media.read_bytes()
    except OSError as error:
        raise StoreUnusable(
            f"{where}: the encode cannot be read ({error.strerror}); run the job again to encode it"
        ) from error
    if len(media) != segment.size or hashlib.sha256(media).hexdigest() != segment.sha256:
        raise StoreUnusable(
            f"{where}: the encode's {len(media)} bytes are not the {segment.size} that were "
            "measured; run the job again to encode it"
        )
    return media


def _write_subtitles(track: SubtitleTrack, directory: Path, name: str) -> WrittenSubtitles:
    folder = f"{SUBTITLES}/{name}"
    (directory / folder).mkdir(parents=True)
    whole = track.whole.encode()
    (directory / folder / hls.WHOLE_SUBTITLES).write_bytes(whole)
    for number, text in enumerate(track.segments):
        path = directory / folder / hls.subtitle_name(number)
        path.write_text(text, encoding="utf-8", newline="\n")
    starts = (Fraction(0), *track.boundaries[:-1])
    return WrittenSubtitles(
        name=name,
        directory=folder,
        durations=tuple(e - s for s, e in zip(starts, track.boundaries, strict=True)),
        size=len(whole),
        language=track.language,
        forced=track.forced,
        hearing_impaired=track.hearing_impaired,
        captions=track.captions,
    )


def _write_audio(audio: AudioTrack, directory: Path, name: str) -> WrittenTrack:
    # The default track has the folder of a title with one track, the others have folders in it.
    folder = name if name == AUDIO_NAME else f"{AUDIO_NAME}/{name}"
    init = mp4.cmaf_header(audio.init, AUDIO_BRAND)
    facts = _write_init(directory, folder, init)
    segments = []
    for number, each in enumerate(audio.segments):
        uri = f"{folder}/{segment_name(number)}"
        segments.append(_write_segment(directory, uri, each.start, each.duration, each.media))
    configuration = mp4.audio_configuration(init)
    return WrittenTrack(
        name=name,
        codecs=configuration.codecs,
        segments=tuple(segments),
        channels=configuration.channels,
        sample_rate=configuration.sample_rate,
        language=audio.language,
        title=audio.title,
        roles=audio.roles,
        priming=Fraction(mp4.edit_media_time(init), mp4.track_timescale(init)),
        **facts,
    )
