"""Prove from a package's files alone that it holds the frames that were scored.

Three readings must agree: the playlists (:mod:`encoder.package.readback`), the boxes
(:mod:`encoder.mp4`; libavformat reports times late by the reorder depth) and the decoder, one
ffmpeg process per rung over all its segments in a row. Every decoded frame must have the hash that
was recorded when its segment was scored, so that the scores hold for the package.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from encoder import framehash, mp4
from encoder.errors import FrameMismatch, ToolFailed, VerificationFailed
from encoder.ffmpeg import Command, as_arguments, run
from encoder.package import readback
from encoder.package.cue_check import ExpectedCue, check_manifest_cues, check_playlist_cues
from encoder.package.declared import check_declarations
from encoder.package.layout import check_timeline, peak_bitrate
from encoder.package.thumbnail_check import check_thumbnails
from encoder.package.verify_sound import ExpectedSound, FoundSound, difference
from encoder.review import LOUDNESS_FILTER, parse_loudness

_T = TypeVar("_T")
_MICROSECOND = Fraction(1, 1_000_000)
_NEAR_CUE_SECONDS = Fraction(2 * 1536, 48_000)
"""How far a segment of sound may begin from a cue: its priming, and one frame of AC-3."""
_IN_BAND_CAPTIONS = b"GA94\x03"  # caption data in user data, ATSC A/53 part 4
_FROM_PIPE = ("-hide_banner", "-v", "error", "-protocol_whitelist", "pipe", "-f", "mp4")
_DIMENSIONS = re.compile(rb"^#dimensions 0: (\d+)x(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ExpectedSegment:
    """Facts of one segment that were recorded when it was scored."""

    start_frame: int
    """First frame of the segment."""
    end_frame: int
    """One past the last frame of the segment."""
    frame_hashes: tuple[str, ...]
    """Hash of each frame by :mod:`encoder.framehash`, shape (end_frame - start_frame,)."""
    sha256: str | None = None
    """Hex digest of the file in the package, where known."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Extent and cost of a verification."""

    rungs: tuple[str, ...]
    frames: int
    """Number of frames of each rung."""
    segments: int
    """Number of segments of each rung."""
    cpu_seconds: float
    """CPU time of ffmpeg and of this process."""


@dataclass(frozen=True, slots=True)
class _Segment:
    uri: str
    fragments: tuple[mp4.Fragment, ...]
    size: int


def verify_package(
    directory: Path,
    frame_rate: Fraction,
    expected: Mapping[str, Sequence[ExpectedSegment]],
    *,
    pixel_formats: Mapping[str, str] | None = None,
    sounds: Sequence[ExpectedSound] | None = None,
    cues: Sequence[ExpectedCue] = (),
) -> VerifyReport:
    """Read a package back, decode every rung and compare every frame with its recorded hash.

    Also checked: all playlists name the same existing files with the same times and rates; frames
    are complete and at exactly n / frame_rate; sizes are those announced; keyframes are at the
    same times in all rungs; audio is gapless, as long as the video, and decodes.

    Args:
        directory: Folder of the package.
        frame_rate: Frames per second of the title.
        expected: Recorded segments of each rung, in the order of the playlists; at least one rung.
        pixel_formats: Pixel format of each rung's encodes, by default ``yuv420p``.
        sounds: What was asked of each track of sound; None where nobody asked for anything.
        cues: Cues for ad insertion that all playlists have to declare.

    Raises:
        VerificationFailed: the first difference; ``context`` names ``rung``, ``segment`` (number),
            ``frame`` and ``file`` as far as they apply.
    """
    if not expected:
        raise ValueError("a package is verified against the frames of at least one rung")
    started = time.thread_time()
    master = _playlist(directory, "master.m3u8", readback.parse_master)
    tracks = _playlist(directory, "manifest.mpd", readback.parse_manifest)
    dash = {track.name: track for track in tracks}
    variants = _check_rungs(master, dash, list(expected))
    video_seconds = max(s.end_frame for s in next(iter(expected.values()))) / frame_rate
    found = _check_sounds(directory, master, dash, video_seconds)
    cpu_seconds = sum(sound.cpu_seconds for sound in found)
    if sounds is not None:
        cpu_seconds += _check_asked(directory, master, found, sounds)
    keyframe_times: dict[str, list[Fraction]] = {}
    targets = {Path(s.folder).name: s.playlist.target_duration for s in found}
    targets |= _check_subtitles(directory, master, video_seconds)
    _check_declarations(directory, master)
    _check_cues(directory, master, cues)
    _check_thumbnails(directory, video_seconds)
    for rung, segments in expected.items():
        track = _check_rung(directory, rung, variants[rung], segments, frame_rate, dash[rung])
        keyframe_times[rung] = track.keyframe_times
        targets[rung] = track.playlist.target_duration
        pixel_format = (pixel_formats or {}).get(rung, "yuv420p")
        cpu_seconds += _check_frames(directory, rung, track, segments, pixel_format)
        _check_rates(rung, variants[rung], track, found)
        _check_iframes(directory, rung, track, master)
    if len(set(targets.values())) != 1:
        _fail(f"playlists differ in EXT-X-TARGETDURATION: {targets}")
    _check_keyframes(keyframe_times)
    segments = next(iter(expected.values()))
    return VerifyReport(
        rungs=tuple(expected),
        frames=sum(len(segment.frame_hashes) for segment in segments),
        segments=len(segments),
        cpu_seconds=cpu_seconds + time.thread_time() - started,
    )


def _check_rungs(
    master: readback.MasterPlaylist, dash: Mapping[str, readback.DashTrack], rungs: list[str]
) -> dict[str, readback.Variant]:
    """Check that both entry playlists have exactly ``rungs``; return their HLS variants."""
    variants = {Path(variant.uri).parent.name: variant for variant in master.variants}
    if list(variants) != rungs or len(variants) != len(master.variants):
        _fail(f"master.m3u8 has the rungs {list(variants)} instead of {rungs}")
    video_in_dash = [track.name for track in dash.values() if track.content_type == "video"]
    if video_in_dash != rungs:
        _fail(f"manifest.mpd has the rungs {video_in_dash} instead of {rungs}")
    return variants


def _check_declarations(directory: Path, master: readback.MasterPlaylist) -> None:
    """Check that both entry playlists declare the same sound and text."""
    try:
        check_declarations(master, _playlist(directory, "manifest.mpd", readback.parse_sets))
    except ValueError as error:
        _fail(str(error), file="manifest.mpd")


def _check_cues(
    directory: Path, master: readback.MasterPlaylist, cues: Sequence[ExpectedCue]
) -> None:
    """Check that all media playlists and the manifest declare the title's cues and no others."""
    video = [variant.uri for variant in master.variants]
    others = [medium.uri for medium in master.media]
    uri = "manifest.mpd"
    try:
        check_manifest_cues(_read(directory, uri).decode(), cues)
        for uri in video:
            check_playlist_cues(_read(directory, uri).decode(), cues)
        for uri in others:
            # A segment of sound begins up to a frame from its picture, after the priming.
            check_playlist_cues(_read(directory, uri).decode(), cues, _NEAR_CUE_SECONDS)
    except (ValueError, KeyError) as error:
        _fail(f"{uri} does not declare the title's cues: {error}", file=uri)


def _check_thumbnails(directory: Path, video_seconds: Fraction) -> None:
    """Check that thumbnails are what HLS and DASH say of them; older packages declare none."""
    master, manifest = (_read(directory, uri).decode() for uri in ("master.m3u8", "manifest.mpd"))
    try:
        check_thumbnails(master, manifest, lambda uri: _read(directory, uri), video_seconds)
    except (ValueError, KeyError) as error:
        _fail(f"the thumbnails are not what is declared: {error}", file="master.m3u8")


def _check_sounds(
    directory: Path,
    master: readback.MasterPlaylist,
    dash: Mapping[str, readback.DashTrack],
    video_seconds: Fraction,
) -> list[_Track]:
    """Check all audio tracks, which must last as long as the video."""
    sounds = []
    for medium in master.media:
        if medium.attributes.get("TYPE") != "AUDIO":
            continue
        name = Path(medium.uri).parent.name
        sound = _check_audio(directory, medium.uri, dash, name)
        seconds = sum(sound.durations)
        if abs(seconds - video_seconds) > sound.frame_seconds:
            _fail_length(name, seconds, video_seconds)
        sounds.append(sound)
    return sounds


def _check_asked(
    directory: Path,
    master: readback.MasterPlaylist,
    tracks: Sequence[_Track],
    expected: Sequence[ExpectedSound],
) -> float:
    """Check that the sound has what was asked of it; return the CPU seconds of measuring it."""
    names = [Path(track.folder).name for track in tracks]
    if names != [sound.name for sound in expected]:
        _fail(f"the package has the sound {names}, ladder.json {[s.name for s in expected]}")
    media = [m for m in master.media if m.attributes.get("TYPE") == "AUDIO"]
    cpu_seconds = 0.0
    for track, medium, asked in zip(tracks, media, expected, strict=True):
        heard = None
        if asked.integrated_lufs is not None:
            command = Command.of(
                [
                    *("-hide_banner", "-nostats", "-v", "info", *_FROM_PIPE[3:], "-i", "pipe:0"),
                    *("-map", "0:a:0", "-af", LOUDNESS_FILTER, "-f", "null", "-"),
                ]
            )
            done = run(command, stdin=_bytes(directory, track))
            heard, cpu_seconds = parse_loudness(done.stderr), cpu_seconds + done.cpu_seconds
        configuration = mp4.audio_configuration(track.init)
        found = FoundSound(
            name=asked.name,
            codecs=configuration.codecs,
            channels=configuration.channels,
            bit_rate=track.average,
            language=medium.attributes.get("LANGUAGE", ""),
            integrated_lufs=heard.integrated if heard else None,
        )
        if (what := difference(asked, found)) is not None:
            _fail(f"{asked.name!r} has {what}", rung=asked.name)
    return cpu_seconds


def _check_keyframes(times: Mapping[str, list[Fraction]]) -> None:
    """Check that keyframes are at the same times in all rungs, where players switch."""
    first, *others = times
    for rung in others:
        if times[rung] != times[first]:
            apart = sorted(set(times[rung]) ^ set(times[first]))
            _fail(
                f"rungs {first!r} and {rung!r} have keyframes at different times, first at "
                f"{float(apart[0]):.3f} s",
                rung=rung,
            )


@dataclass(frozen=True, slots=True)
class _Track:
    """A track whose boxes and playlists agree."""

    folder: str
    init: bytes
    playlist: readback.MediaPlaylist
    segments: tuple[_Segment, ...]
    durations: tuple[Fraction, ...]
    """Exact durations in seconds."""
    keyframe_times: list[Fraction]
    """Presentation times of the keyframes in seconds; none for audio."""
    cpu_seconds: float = 0.0
    frame_seconds: Fraction = Fraction(0)
    """Duration of a coded frame of sound."""

    @property
    def bits(self) -> list[int]:
        return [8 * segment.size for segment in self.segments]

    @property
    def peak(self) -> float:
        return peak_bitrate(self.bits, self.durations, self.playlist.target_duration)

    @property
    def average(self) -> float:
        return float(sum(self.bits) / sum(self.durations))


def _check_rung(
    directory: Path,
    rung: str,
    variant: readback.Variant,
    expected: Sequence[ExpectedSegment],
    frame_rate: Fraction,
    dash: readback.DashTrack,
) -> _Track:
    """Check the files, the boxes and both playlists of one rung."""
    folder = str(Path(variant.uri).parent)
    playlist = _playlist(directory, variant.uri, readback.parse_media, rung=rung)
    init = _read(directory, f"{folder}/{playlist.init_uri}", rung=rung)
    try:
        configuration = mp4.codec_configuration(init)
        ticks = mp4.track_timescale(init) / frame_rate
    except ValueError as error:
        _fail(f"rung {rung!r}: {folder}/{playlist.init_uri}: {error}", rung=rung)
    announced = variant.attributes
    size = f"{configuration.width}x{configuration.height}"
    codecs = announced.get("CODECS", "").split(",")[0]
    if (announced.get("RESOLUTION"), codecs) != (size, configuration.codecs):
        _fail(f"rung {rung!r}: master.m3u8 says {announced.get('RESOLUTION')} {codecs}, "
              f"its init {size} {configuration.codecs}", rung=rung)  # fmt: skip
    if announced.get("FRAME-RATE") != f"{float(frame_rate):.3f}":
        _fail(f"rung {rung!r}: master.m3u8 says FRAME-RATE={announced.get('FRAME-RATE')} for "
              f"{frame_rate}", rung=rung)  # fmt: skip
    if len(playlist.entries) != len(expected):
        _fail(f"rung {rung!r}: {variant.uri} has {len(playlist.entries)} segments instead of "
              f"{len(expected)}", rung=rung)  # fmt: skip
    captionless = announced.get("CLOSED-CAPTIONS") == "NONE"
    segments = []
    for number, (entry, known) in enumerate(zip(playlist.entries, expected, strict=True)):
        uri = f"{folder}/{entry.uri}"
        where: dict[str, Any] = {"rung": rung, "segment": number, "file": uri}
        media = _read(directory, uri, **where)
        try:
            fragments = tuple(mp4.fragments(init, media))
            check_timeline("boxes", fragments, known.start_frame, known.end_frame, ticks)
        except ValueError as error:
            _fail(f"rung {rung!r}, segment {number} ({uri}): {error}", **where)
        if known.sha256 not in (None, hashlib.sha256(media).hexdigest()):
            _fail(f"rung {rung!r}, segment {number} ({uri}): its bytes are not those that were "
                  "written", **where)  # fmt: skip
        if captionless and _IN_BAND_CAPTIONS in media:
            _fail(f"rung {rung!r}, segment {number} ({uri}): its pictures carry captions, but "
                  "master.m3u8 says CLOSED-CAPTIONS=NONE", **where)  # fmt: skip
        segments.append(_Segment(uri, fragments, len(media)))
    keyframe_times = [
        sample.composition_time / ticks / frame_rate
        for segment in segments
        for fragment in segment.fragments
        for sample in fragment.samples
        if sample.is_sync
    ]
    durations = [(known.end_frame - known.start_frame) / frame_rate for known in expected]
    track = _Track(folder, init, playlist, tuple(segments), tuple(durations), keyframe_times)
    _check_times(rung, track, dash)
    return track


def _check_times(
    name: str, track: _Track, dash: readback.DashTrack, priming: Fraction = Fraction(0)
) -> None:
    """Check that both playlists give the same files the times of the boxes.

    DASH states times of presentation, HLS those of the media, which begin ``priming`` seconds
    earlier.
    """
    start, announced = Fraction(), -priming
    if len(dash.segments) != len(track.segments):
        _fail(f"{name!r}: manifest.mpd has {len(dash.segments)} segments instead of "
              f"{len(track.segments)}", rung=name)  # fmt: skip
    if dash.init_uri != f"{track.folder}/{track.playlist.init_uri}":
        _fail(f"{name!r}: manifest.mpd begins with {dash.init_uri!r}, HLS with "
              f"{track.folder}/{track.playlist.init_uri}", rung=name)  # fmt: skip
    for number, (segment, duration, entry, in_dash) in enumerate(
        zip(track.segments, track.durations, track.playlist.entries, dash.segments, strict=True)
    ):
        where: dict[str, Any] = {"rung": name, "segment": number, "file": segment.uri}
        if in_dash != (segment.uri, start, duration):
            _fail(
                f"{name!r}, segment {number} ({segment.uri}): manifest.mpd has {in_dash[0]} at "
                f"{in_dash[1]} s for {in_dash[2]} s instead of {start} s for {duration} s",
                **where,
            )
        start += duration
        announced += entry.duration
        if abs(announced - start) > _MICROSECOND:
            _fail(
                f"{name!r}, segment {number} ({segment.uri}): HLS ends it at "
                f"{float(announced):.6f} s, it ends at {float(start):.6f} s",
                **where,
            )
        if math.floor(entry.duration + Fraction(1, 2)) > track.playlist.target_duration:
            _fail(
                f"{name!r}, segment {number} lasts {float(duration):.3f} s, more than "
                f"EXT-X-TARGETDURATION {track.playlist.target_duration}",
                **where,
            )


def _check_subtitles(
    directory: Path, master: readback.MasterPlaylist, video_seconds: Fraction
) -> dict[str, int]:
    """Check that every subtitle track exists, whole and in segments as long as the video.

    Return the target durations by the names of the tracks.
    """
    tracks = [medium for medium in master.media if medium.attributes.get("TYPE") == "SUBTITLES"]
    wholes = _playlist(directory, "manifest.mpd", readback.parse_texts)
    in_hls = [str(Path(track.uri).parent) for track in tracks]
    if [str(Path(uri).parent) for uri in wholes] != in_hls:
        _fail(f"manifest.mpd has the subtitles {list(wholes)}, master.m3u8 has {in_hls}")
    targets = {}
    for track, whole in zip(tracks, wholes, strict=True):
        folder = Path(track.uri).parent
        targets[folder.name], entries = _playlist(
            directory, track.uri, readback.parse_subtitles, rung=folder.name
        )
        seconds = sum(entry.duration for entry in entries)
        if abs(seconds - video_seconds) > _MICROSECOND:
            _fail_length(folder.name, seconds, video_seconds)
        for uri in (whole, *(str(folder / entry.uri) for entry in entries)):
            if not _read(directory, uri, rung=folder.name).startswith(b"WEBVTT\n"):
                _fail(f"{uri} is not WebVTT", rung=folder.name, file=uri)
    return targets


def _check_rates(
    rung: str, variant: readback.Variant, track: _Track, sounds: Sequence[_Track]
) -> None:
    peak = track.peak + max((audio.peak for audio in sounds), default=0)
    average = track.average + max((audio.average for audio in sounds), default=0)
    for name, value in (("BANDWIDTH", peak), ("AVERAGE-BANDWIDTH", average)):
        announced = variant.attributes.get(name, "")
        if not announced.isdecimal() or not value <= int(announced) < value + 2:
            _fail(f"rung {rung!r}: master.m3u8 says {name}={announced}, its files have "
                  f"{value:.0f}", rung=rung)  # fmt: skip


def _check_iframes(
    directory: Path, rung: str, track: _Track, master: readback.MasterPlaylist
) -> None:
    """Check that the trick-play playlist has one entry per fragment, up to its key frame's end."""
    uri = next((v.uri for v in master.iframes if str(Path(v.uri).parent) == track.folder), "")
    if not uri:
        _fail(f"rung {rung!r}: master.m3u8 has no EXT-X-I-FRAME-STREAM-INF for it", rung=rung)
    entries = _playlist(directory, uri, readback.parse_media, rung=rung).entries
    ranges = [(f"{track.folder}/{entry.uri}", entry.byte_range) for entry in entries]
    key_frames = [
        (segment.uri, (key.offset + key.size - fragment.start, fragment.start))
        for segment in track.segments
        for fragment in segment.fragments
        for key in fragment.samples[:1]
    ]
    if ranges != key_frames:
        _fail(f"rung {rung!r}: {uri} does not list the key frames that its files have", rung=rung)


def _check_frames(
    directory: Path,
    rung: str,
    track: _Track,
    expected: Sequence[ExpectedSegment],
    pixel_format: str,
) -> float:
    """Decode a rung in one process, compare all frames and return the CPU seconds."""
    try:
        done = run(decode_command(pixel_format), stdin=_bytes(directory, track))
        hashes = framehash.parse(done.stdout)
    except (ToolFailed, FrameMismatch) as error:
        _fail_segment(directory, rung, track, expected, pixel_format)
        _fail(f"rung {rung!r} does not decode: {error.message}", rung=rung, **error.context)
    recorded = [
        (number, segment.start_frame + index, digest)
        for number, segment in enumerate(expected)
        for index, digest in enumerate(segment.frame_hashes)
    ]
    for (number, frame, digest), got in zip(recorded, hashes, strict=False):
        if got != digest:
            uri = track.segments[number].uri
            _fail(
                f"rung {rung!r}, segment {number} ({uri}): frame {frame} does not decode to what "
                "was measured; run the job again to write the package again",
                rung=rung,
                segment=number,
                frame=frame,
                file=uri,
            )
    if len(hashes) != len(recorded):
        _fail_segment(directory, rung, track, expected, pixel_format)
        _fail(f"rung {rung!r}: {len(hashes)} frames decode instead of {len(recorded)}", rung=rung)
    configuration = mp4.codec_configuration(track.init)
    size = _DIMENSIONS.search(done.stdout)
    if size is None or (int(size[1]), int(size[2])) != (configuration.width, configuration.height):
        _fail(f"rung {rung!r} does not decode to {configuration.width}x{configuration.height}",
              rung=rung)  # fmt: skip
    return done.cpu_seconds


def decode_command(pixel_format: str = "yuv420p") -> Command:
    """Build the ffmpeg call that hashes all frames of the fragmented MP4 on stdin.

    It uses one thread, which costs the least CPU.
    """
    return Command.of(
        [
            *(*_FROM_PIPE, "-threads", 1, "-i", "pipe:0", "-map", "0:v:0"),
            *as_arguments(framehash.hash_output_options(pixel_format)),
            "pipe:1",
        ]
    )


def _fail_segment(
    directory: Path,
    rung: str,
    track: _Track,
    expected: Sequence[ExpectedSegment],
    pixel_format: str,
) -> None:
    """Fail for the first segment that does not decode alone to its recorded frames, if any."""
    for number, (segment, known) in enumerate(zip(track.segments, expected, strict=True)):
        data = [track.init, _read(directory, segment.uri)]
        try:
            hashes = framehash.parse(run(decode_command(pixel_format), stdin=data).stdout)
            difference = f"{len(hashes)} frames instead of {len(known.frame_hashes)}"
        except (ToolFailed, FrameMismatch) as error:
            hashes, difference = (), error.message
        if hashes != known.frame_hashes:
            wrong = [a != b for a, b in zip(hashes, known.frame_hashes, strict=False)]
            frame = known.start_frame + (wrong.index(True) if True in wrong else len(wrong))
            _fail(
                f"rung {rung!r}, segment {number} ({segment.uri}): it does not decode to what was "
                f"measured from frame {frame} on ({difference})",
                rung=rung,
                segment=number,
                frame=frame,
                file=segment.uri,
            )


def _check_audio(
    directory: Path, uri: str, dash: Mapping[str, readback.DashTrack], rung: str
) -> _Track:
    """Check that audio is gapless from its first sample, decodes to as many samples as its boxes
    say, and both playlists agree.
    """
    folder = str(Path(uri).parent)
    playlist = _playlist(directory, uri, readback.parse_media, rung=rung)
    init = _read(directory, f"{folder}/{playlist.init_uri}", rung=rung)
    segments: list[_Segment] = []
    durations: list[Fraction] = []
    try:
        scale, priming = mp4.track_timescale(init), mp4.edit_media_time(init)
        configuration = mp4.audio_configuration(init)
        frame = Fraction(configuration.frame_samples, configuration.sample_rate)
        expected_time, ticks = 0, frame * scale
    except ValueError as error:
        _fail(f"{rung}: {folder}/{playlist.init_uri}: {error}", rung=rung)
    for number, entry in enumerate(playlist.entries):
        name = f"{folder}/{entry.uri}"
        where: dict[str, Any] = {"rung": rung, "segment": number, "file": name}
        media = _read(directory, name, **where)
        try:
            fragments = tuple(mp4.fragments(init, media))
            samples = [sample for fragment in fragments for sample in fragment.samples]
        except ValueError as error:
            _fail(f"{rung}, segment {number} ({name}): {error}", **where)
        if not samples or samples[0].decode_time != expected_time:
            _fail(f"{rung}, segment {number} ({name}): does not follow its predecessor", **where)
        last = 1 if number == len(playlist.entries) - 1 else 0
        for sample in samples[: len(samples) - last]:
            if sample.duration != ticks:
                _fail(f"{rung}, segment {number} ({name}): a frame of sound lasts "
                      f"{sample.duration} ticks instead of {float(ticks):g}", **where)  # fmt: skip
        if not 0 < samples[-1].duration <= ticks:
            _fail(f"{rung}, segment {number} ({name}): its last frame of sound lasts "
                  f"{samples[-1].duration} ticks, a frame {float(ticks):g}", **where)  # fmt: skip
        audible_from = max(expected_time - priming, 0)
        expected_time = samples[-1].decode_time + samples[-1].duration
        durations.append(Fraction(expected_time - priming - audible_from, scale))
        segments.append(_Segment(name, fragments, len(media)))
    if rung not in dash:
        _fail(f"{rung!r} is in master.m3u8 but not in manifest.mpd", rung=rung)
    track = _Track(folder, init, playlist, tuple(segments), tuple(durations), [])
    _check_times(rung, track, dash[rung], Fraction(priming, scale))
    command = Command.of(
        [*_FROM_PIPE, "-xerror", "-i", "pipe:0", "-map", "0:a:0", "-f", "framecrc", "-"]
    )
    try:
        done = run(command, stdin=_bytes(directory, track))
    except ToolFailed as error:
        _fail(f"{rung!r} does not decode: {error.message}", rung=rung, **error.context)
    # Unlike that of AAC, ffmpeg plays the priming of AC-3, and skips that of Opus without moving
    # what follows.
    slack = Fraction(0 if configuration.codecs.startswith("mp4a") else priming, scale)
    _check_decoded(rung, done.stdout, sum(durations), frame, slack)
    return replace(track, cpu_seconds=done.cpu_seconds, frame_seconds=frame)


def _check_decoded(
    rung: str, listing: bytes, seconds: Fraction | int, frame: Fraction, slack: Fraction
) -> None:
    """Check that decoded audio, listed by ffmpeg's ``framecrc``, is gapless and of this length.

    It may begin ``slack`` seconds late, or be longer by so much.
    """
    scale, end = Fraction(48_000), 0
    for line in listing.decode().splitlines():
        if line.startswith("#tb 0:"):
            scale = 1 / Fraction(line.partition(":")[2].strip())
        if line.startswith("#") or not line:
            continue
        _, _, start, samples, _ = (int(field) for field in line.split(",")[:5])
        if end == 0 and start == slack * scale:
            end = start
        if start != end:
            _fail(f"{rung!r}: audio has {'a gap' if start > end else 'an overlap'} at "
                  f"{float(end / scale):.3f} s", rung=rung)  # fmt: skip
        end += samples
    # The last frame decodes whole; what it lasts is in the boxes.
    if not 0 <= end - seconds * scale < (frame + slack) * scale:
        _fail(f"{rung!r}: {float(end / scale):.3f} s of audio decode, its boxes say "
              f"{float(seconds):.3f} s", rung=rung)  # fmt: skip


def _bytes(directory: Path, track: _Track) -> Iterator[bytes]:
    yield track.init
    for segment in track.segments:
        yield (directory / segment.uri).read_bytes()


def _playlist(directory: Path, uri: str, parse: Callable[[str], _T], **where: Any) -> _T:
    try:
        return parse(_read(directory, uri, **where).decode())
    except ValueError as error:  # UnicodeDecodeError is one
        _fail(f"{uri} cannot be read: {error}", file=uri, **where)


def _read(directory: Path, uri: str, **where: Any) -> bytes:
    path, where = directory / uri, where | {"file": uri}
    if not path.resolve().is_relative_to(directory.resolve()):
        _fail(f"{uri!r} is outside the package", **where)
    try:
        return path.read_bytes()
    except OSError as error:
        _fail(f"{_place(where)}{uri} is missing or cannot be read ({error.strerror})", **where)


def _fail_length(name: str, seconds: Fraction | int, video_seconds: Fraction) -> NoReturn:
    _fail(f"{name!r} lasts {float(seconds):.3f} s, video {float(video_seconds):.3f} s", rung=name)


def _place(where: Mapping[str, Any]) -> str:
    parts = [f"{name} {where[name]!r}" for name in ("rung", "segment") if name in where]
    return ", ".join(parts) + ": " if parts else ""


def _fail(message: str, **where: Any) -> NoReturn:
    raise VerificationFailed(message, **where)
