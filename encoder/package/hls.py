"""HLS playlists (RFC 8216, version 7) of a written package, as pure text.

Durations are written to the microsecond such that their sums stay right to the microsecond, also
after thousands of segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import PurePosixPath

from encoder.package.layout import WrittenPackage, WrittenTrack, peak_bitrate

VERSION = 7
MASTER = "master.m3u8"
MEDIA = "media.m3u8"
IFRAMES = "iframes.m3u8"
_AUDIO_GROUP = "audio"


def master_playlist(package: WrittenPackage) -> str:
    """The multivariant playlist: every rung, its trick-play variant, and the sound."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    audio = package.audio
    if audio is not None:
        lines.append(_tag("EXT-X-MEDIA", _audio_attributes(audio)))
    for track in package.video:
        codecs = track.codecs if audio is None else f"{track.codecs},{audio.codecs}"
        attributes = {
            "BANDWIDTH": str(package.bandwidth(track)),
            "AVERAGE-BANDWIDTH": str(package.average_bandwidth(track)),
            "CODECS": f'"{codecs}"',
            "RESOLUTION": f"{track.width}x{track.height}",
            "FRAME-RATE": f"{float(package.frame_rate):.3f}",
        }
        if audio is not None:
            attributes["AUDIO"] = f'"{_AUDIO_GROUP}"'
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
            "URI": f'"{track.directory}/{IFRAMES}"',
        }
        lines.append(_tag("EXT-X-I-FRAME-STREAM-INF", attributes))
    return _text(lines)


def media_playlist(track: WrittenTrack, target_duration: int) -> str:
    """The playlist of one rung, or of the sound."""
    lines = _head(track, target_duration)
    ends = (segment.start + segment.duration for segment in track.segments)
    for segment, duration in zip(track.segments, _durations(ends), strict=True):
        lines += [f"#EXTINF:{duration},", PurePosixPath(segment.uri).name]
    return _text([*lines, "#EXT-X-ENDLIST"])


def iframe_playlist(track: WrittenTrack, target_duration: int) -> str:
    """The playlist of one rung's key frames alone, by byte ranges of its segments."""
    lines = _head(track, target_duration)
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


def _head(track: WrittenTrack, target_duration: int) -> list[str]:
    return [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target_duration}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{PurePosixPath(track.init_uri).name}"',
    ]


def _audio_attributes(audio: WrittenTrack) -> dict[str, str]:
    attributes = {
        "TYPE": "AUDIO",
        "GROUP-ID": f'"{_AUDIO_GROUP}"',
        "NAME": f'"{audio.language or "Audio"}"',
        "DEFAULT": "YES",
        "AUTOSELECT": "YES",
        "CHANNELS": f'"{audio.channels}"',
        "URI": f'"{audio.directory}/{MEDIA}"',
    }
    if audio.language is not None:
        attributes["LANGUAGE"] = f'"{audio.language}"'
    return attributes


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
