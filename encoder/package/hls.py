"""HLS playlists (RFC 8216, version 7) of a written package, as pure text.

Durations are rounded to the microsecond such that their sums stay exact to the microsecond even
after thousands of segments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import PurePosixPath

from encoder.package.cues import cue_tags, program_date_time
from encoder.package.layout import (
    Thumbnails,
    WrittenCue,
    WrittenPackage,
    WrittenSubtitles,
    WrittenTrack,
    peak_bitrate,
)

VERSION = 7
"""``EXT-X-VERSION`` of all playlists."""
MASTER = "master.m3u8"
"""File name of the multivariant playlist."""
MEDIA = "media.m3u8"
"""File name of each track's media playlist."""
IFRAMES = "iframes.m3u8"
"""File name of each rung's trick-play playlist."""
IMAGES = "thumbnails.m3u8"
"""File name of the playlist of thumbnails."""
WHOLE_SUBTITLES = "subtitles.vtt"
"""File name of each subtitle track as one file."""
_AUDIO_GROUP = "audio"
_SUBTITLE_GROUP = "subtitles"
_STEREO = 2


def master_playlist(package: WrittenPackage) -> str:
    """Write the multivariant playlist: rungs, their trick-play variants, audio and subtitles."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    audio = package.audio
    lines += [_tag("EXT-X-MEDIA", each) for each in _audio_attributes(package.sounds)]
    lines += [_tag("EXT-X-MEDIA", each) for each in _subtitle_attributes(package.subtitles)]
    for track in package.video:
        codecs = track.codecs if audio is None else f"{track.codecs},{audio.codecs}"
        attributes = {
            "BANDWIDTH": str(package.bandwidth(track)),
            "AVERAGE-BANDWIDTH": str(package.average_bandwidth(track)),
            "CODECS": f'"{codecs}"',
            "RESOLUTION": f"{track.width}x{track.height}",
            "FRAME-RATE": f"{float(package.frame_rate):.3f}",
            **_video_range(track),
        }
        if audio is not None:
            attributes["AUDIO"] = f'"{_AUDIO_GROUP}"'
        if package.subtitles:
            attributes["SUBTITLES"] = f'"{_SUBTITLE_GROUP}"'
        if any(subtitles.captions for subtitles in package.subtitles):
            # Players look for captions in the pictures as well, unless told that there are none.
            attributes["CLOSED-CAPTIONS"] = "NONE"
        lines += [_tag("EXT-X-STREAM-INF", attributes), f"{track.directory}/{MEDIA}"]
    for track in package.video:
        frames = [frame for segment in track.segments for frame in segment.keyframes]
        bits = [8 * frame.size for frame in frames]
        durations = [frame.duration for frame in frames]
        attributes = {
            "BANDWIDTH": str(math.ceil(peak_bitrate(bits, durations, package.target_duration))),
            "AVERAGE-BANDWIDTH": str(math.ceil(sum(bits) / sum(durations))),
            "CODECS": f'"{track.codecs}"',
            "RESOLUTION": f"{track.width}x{track.height}",
            **_video_range(track),
            "URI": f'"{track.directory}/{IFRAMES}"',
        }
        lines.append(_tag("EXT-X-I-FRAME-STREAM-INF", attributes))
    if package.thumbnails is not None:
        lines.append(_image_stream(package.thumbnails, package.video[0].duration))
    return _text(lines)


def _image_stream(thumbnails: Thumbnails, seconds: Fraction) -> str:
    attributes = {
        "BANDWIDTH": str(thumbnails.bandwidth(seconds)),
        "RESOLUTION": f"{thumbnails.width}x{thumbnails.height}",
        "CODECS": '"jpeg"',
        "URI": f'"{images_uri(thumbnails)}"',
    }
    return _tag("EXT-X-IMAGE-STREAM-INF", attributes)


def images_uri(thumbnails: Thumbnails) -> str:
    """Return the path of the playlist of thumbnails, which lies beside their sheets."""
    return str(PurePosixPath(thumbnails.uris[0]).with_name(IMAGES))


def image_playlist(thumbnails: Thumbnails, seconds: Fraction) -> str:
    """Write the playlist of thumbnails (Image Media Playlist 0.4, which Roku and others play)."""
    durations = thumbnails.durations(seconds)
    lines = _head(math.ceil(max(durations)))
    lines.append("#EXT-X-IMAGES-ONLY")
    (step,) = _durations([thumbnails.step])
    sheets = zip(
        thumbnails.uris, thumbnails.rows, _durations(itertools.accumulate(durations)), strict=True
    )
    for uri, rows, duration in sheets:
        attributes = {
            "RESOLUTION": f"{thumbnails.width}x{thumbnails.height}",
            "LAYOUT": f"{thumbnails.columns}x{rows}",
            "DURATION": step,
        }
        lines += [f"#EXTINF:{duration},", _tag("EXT-X-TILES", attributes), PurePosixPath(uri).name]
    return _text([*lines, "#EXT-X-ENDLIST"])


def _video_range(track: WrittenTrack) -> dict[str, str]:
    """Return the range attribute; players assume ``SDR`` without it."""
    return {"VIDEO-RANGE": track.video_range} if track.video_range else {}


def media_playlist(
    track: WrittenTrack, target_duration: int, cues: Sequence[WrittenCue] = ()
) -> str:
    """Write the media playlist of one rung or audio track.

    The first audio segment lasts as long as its media, priming included: segments then begin in the
    playlist at the time of their ``tfdt``, by which players place them. Otherwise Shaka Player
    shifts audio by the difference, 21 ms early.
    """
    ends = (segment.start + segment.duration + track.priming for segment in track.segments)
    names = [PurePosixPath(segment.uri).name for segment in track.segments]
    starts = [segment.start for segment in track.segments]
    listed = _segments(names, starts, _durations(ends), cues)
    return _text([*_media_head(track, target_duration), *listed, "#EXT-X-ENDLIST"])


def _segments(
    names: Sequence[str],
    starts: Sequence[Fraction],
    durations: Iterable[str],
    cues: Sequence[WrittenCue],
) -> list[str]:
    """List segments of some names that begin at some times, with the tags of the cues there."""
    lines = [program_date_time()] if cues else []
    *before, after = cue_tags(cues, starts)
    for name, duration, tags in zip(names, durations, before, strict=True):
        lines += [*tags, f"#EXTINF:{duration},", name]
    return [*lines, *after]


def iframe_playlist(track: WrittenTrack, target_duration: int) -> str:
    """Write the playlist of one rung's key frames alone, as byte ranges of its segments."""
    lines = _media_head(track, target_duration)
    lines.insert(2, "#EXT-X-I-FRAMES-ONLY")
    frames = [(segment, frame) for segment in track.segments for frame in segment.keyframes]
    ends = (frame.start + frame.duration for _, frame in frames)
    for (segment, frame), duration in zip(frames, _durations(ends), strict=True):
        lines += [
            f"#EXTINF:{duration},",
            f"#EXT-X-BYTERANGE:{frame.size}@{frame.offset}",
            PurePosixPath(segment.uri).name,
        ]
    return _text([*lines, "#EXT-X-ENDLIST"])


def _media_head(track: WrittenTrack, target_duration: int) -> list[str]:
    init = PurePosixPath(track.init_uri).name
    return [*_head(target_duration), "#EXT-X-INDEPENDENT-SEGMENTS", f'#EXT-X-MAP:URI="{init}"']


def _head(target_duration: int) -> list[str]:
    return [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
    ]


def subtitle_playlist(
    track: WrittenSubtitles, target_duration: int, cues: Sequence[WrittenCue] = ()
) -> str:
    """Write the media playlist of one subtitle track."""
    ends = list(itertools.accumulate(track.durations))
    names = [subtitle_name(number) for number in range(len(ends))]
    listed = _segments(names, [Fraction(0), *ends[:-1]], _durations(ends), cues)
    return _text([*_head(target_duration), *listed, "#EXT-X-ENDLIST"])


def subtitle_name(number: int) -> str:
    """Return the file name of a subtitle segment, counted from 0."""
    return f"{number:05d}.vtt"


def _audio_attributes(sounds: Sequence[WrittenTrack]) -> Iterator[dict[str, str]]:
    """Yield the attributes of every audio track.

    Players select the first stereo track of each language and audience automatically, and never
    commentary or other sound that a viewer has to want.
    """
    names: set[str] = set()
    selected: set[tuple[str | None, str]] = set()
    for number, track in enumerate(sounds):
        surround = f" {track.channels - 1}.1" if track.channels > _STEREO else ""
        traits = ",".join(
            _CHARACTERISTICS[role] for role in track.roles if role in _CHARACTERISTICS
        )
        wanted = bool(_BY_CHOICE & set(track.roles))
        automatic = not surround and not wanted and (track.language, traits) not in selected
        attributes = {
            "TYPE": "AUDIO",
            "GROUP-ID": f'"{_AUDIO_GROUP}"',
            "NAME": f'"{_unique(_audio_name(track, surround), names)}"',
            "DEFAULT": "NO" if number else "YES",
            # RFC 8216, 4.3.4.1: what plays by default is selected automatically.
            "AUTOSELECT": "YES" if automatic or not number else "NO",
            "CHANNELS": f'"{track.channels}"',
            "URI": f'"{track.directory}/{MEDIA}"',
        }
        if automatic:
            selected.add((track.language, traits))
        if track.language is not None:
            attributes["LANGUAGE"] = f'"{track.language}"'
        if traits:
            attributes["CHARACTERISTICS"] = f'"{traits}"'
        yield attributes


def _audio_name(track: WrittenTrack, surround: str) -> str:
    """Return the name of an audio track in a player's menu: its title, or what is known of it."""
    roles = " ".join(_ROLE_NAMES[role] for role in track.roles if role in _ROLE_NAMES)
    known = " ".join(filter(None, (track.language or "Audio", roles)))
    name = (track.title or known).replace('"', "'")
    return name if surround.strip() in name and surround else name + surround


_CHARACTERISTICS = {
    "description": "public.accessibility.describes-video",
    "clear speech": "public.accessibility.enhances-speech-intelligibility",
}
"""Values of ``CHARACTERISTICS`` for roles of sound."""
_BY_CHOICE = frozenset({"commentary", "effects", "narration"})
_ROLE_NAMES = {
    "description": "audio description",
    "commentary": "commentary",
    "clear speech": "clear speech",
    "effects": "music and effects",
    "narration": "audio description alone",
    "dub": "dub",
    "original": "original",
}


def _subtitle_attributes(tracks: Sequence[WrittenSubtitles]) -> Iterator[dict[str, str]]:
    names: set[str] = set()
    offered: set[tuple[str | None, bool, bool]] = set()
    for track in tracks:
        kind = (track.language, track.forced, track.hearing_impaired)
        name = (track.language or "Subtitles") + " forced" * track.forced
        if track.captions:
            name = f"{track.language} captions" if track.language else "Captions"
        attributes = {
            "TYPE": "SUBTITLES",
            "GROUP-ID": f'"{_SUBTITLE_GROUP}"',
            "NAME": f'"{_unique(name, names)}"',
            "DEFAULT": "NO",
            "AUTOSELECT": "NO" if kind in offered else "YES",
            "FORCED": "YES" if track.forced else "NO",
            "URI": f'"{track.directory}/{MEDIA}"',
        }
        offered.add(kind)
        if track.language is not None:
            attributes["LANGUAGE"] = f'"{track.language}"'
        if track.hearing_impaired:
            attributes["CHARACTERISTICS"] = f'"{_HARD_OF_HEARING}"'
        yield attributes


_HARD_OF_HEARING = (
    "public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound"
)


def _unique(name: str, given: set[str]) -> str:
    """Return ``name``, numbered where the group has it already: RFC 8216, 4.3.4.1.1."""
    numbered = (f"{name} {number}" for number in itertools.count(2))
    unique = next(each for each in itertools.chain([name], numbered) if each not in given)
    given.add(unique)
    return unique


def _durations(ends: Iterable[Fraction]) -> Iterable[str]:
    before = 0
    for end in ends:
        now = round(end * 1_000_000)
        yield f"{(now - before) // 1_000_000}.{(now - before) % 1_000_000:06d}"
        before = now


def _tag(name: str, attributes: dict[str, str]) -> str:
    return f"#{name}:" + ",".join(f"{key}={value}" for key, value in attributes.items())


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
