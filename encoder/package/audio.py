"""A title's audio: encoded once as AAC, aligned with the first video frame, cut like the video.

The encoder's priming (1024 silent samples at the start) stays in the media, and the edit list skips
it in the presentation; without an edit list, audio would be 21 ms late.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import langcodes
from langcodes.tag_parser import LanguageTagError

from encoder import mp4
from encoder.errors import SourceUnusable, ToolFailed
from encoder.ffmpeg import (
    PATIENT_OPTIONS,
    SOURCE_OPTIONS,
    Command,
    as_arguments,
    does_not_decode,
    run,
)
from encoder.package.layout import AudioSegment, AudioTrack

STAGE_VERSION = 1
"""Part of the store key of encoded audio: raise it when its bits change."""
SAMPLE_RATE = 48_000
"""Sample rate of all audio in packages, Hz."""
BIT_RATE = 128_000
"""Bitrate of stereo, bit/s."""
SURROUND_BIT_RATE = 320_000
"""Bitrate of 5.1, bit/s."""
SURROUND_CHANNELS = 6
"""Least number of channels of a stream that is encoded as 5.1 as well."""
_SILENCE_DB = -90.0
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*\Z")
_MAX_VOLUME = re.compile(r"max_volume: (\S+) dB")


def audio_command(
    source: Path,
    stream_index: int,
    out: Path,
    *,
    first_video_pts: Fraction,
    duration: Fraction,
    channels: int | None = None,
    bit_rate: int = BIT_RATE,
    surround: bool = False,
) -> Command:
    """Build the ffmpeg call of :func:`encode_audio`."""
    inputs = as_arguments(SOURCE_OPTIONS | PATIENT_OPTIONS)
    layout = "5.1" if surround else "stereo"
    filters = ",".join(
        [
            *(["pan=stereo|c0=c0|c1=c0"] if channels == 1 else []),
            # Time 0 is the first video frame, in the container's own timestamps (-copyts).
            f"asetpts=PTS-({first_video_pts.numerator}/{first_video_pts.denominator})/TB",
            # Adds silence where audio begins later or has a hole, cuts where it begins earlier.
            # Mixes in floating point: from integers ffmpeg would lower a surround mix by 7 dB,
            # and its level would depend on the sample format of the source.
            f"aresample={SAMPLE_RATE}:async=1:first_pts=0:osf=fltp:ochl={layout}",
            "volumedetect",
            "apad",
            f"atrim=end_sample={round(duration * SAMPLE_RATE)}",
        ]
    )
    return Command.of(
        [
            *("-hide_banner", "-nostats", "-v", "info", "-y", "-copyts", *inputs),
            *("-i", source, "-map", f"0:{stream_index}", "-map_metadata", -1, "-map_chapters", -1),
            *("-af", filters, "-c:a", "aac", "-b:a", bit_rate, "-threads", 1),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact"),
            *("-movflags", "+cmaf+delay_moov", "-frag_duration", 10_000_000, "-f", "mp4", out),
        ]
    )


def encode_audio(
    source: Path,
    stream_index: int | None,
    out: Path,
    *,
    first_video_pts: Fraction,
    duration: Fraction,
    channels: int | None = None,
    bit_rate: int = BIT_RATE,
    surround: bool = False,
) -> Path | None:
    """Encode a source's audio to ``out``, one fragmented MP4 of AAC-LC, 48 kHz stereo.

    Audio begins with the title's first video frame and lasts exactly as long as the video: it is
    cut or padded with silence at both ends, and holes are filled. It does not depend on shots, so
    it is encoded once per title; :func:`segment_audio` cuts it.

    Args:
        source: The given file, opened with the allow-lists of untrusted input.
        stream_index: Index of the audio stream in the file, None for a title without audio.
        out: File to write.
        first_video_pts: Presentation time of the title's first frame in the source, seconds.
        duration: Duration of the title's video, seconds.
        channels: Channels of the stream, where known. A single channel then goes to both sides
            unchanged, as players play it; ffmpeg's own mix would lower it by 3 dB.
        bit_rate: Bitrate in bit/s.
        surround: Whether to encode 5.1 instead of stereo.

    Returns:
        ``out``, or None where nothing is audible: no stream, no sample, or digital silence.

    Raises:
        SourceUnusable: most of the audio does not decode. A smaller part becomes silence.
        ToolFailed: ffmpeg failed for another reason.
    """
    if stream_index is None:
        return None
    command = audio_command(
        source,
        stream_index,
        out,
        first_video_pts=first_video_pts,
        duration=duration,
        channels=channels,
        bit_rate=bit_rate,
        surround=surround,
    )
    try:
        stderr = run(command).stderr
    except ToolFailed as error:
        if not does_not_decode(error):
            raise
        raise SourceUnusable(
            f"cannot use {source}: its audio (stream {stream_index}) does not decode; repair it, "
            f"or leave it out with ffmpeg -i IN -map 0 -map -0:{stream_index} -c copy OUT",
            **error.context,
        ) from error
    volume = _MAX_VOLUME.findall(stderr)
    if not volume or float(volume[-1]) < _SILENCE_DB:
        out.unlink(missing_ok=True)
        return None
    if not out.exists() or out.stat().st_size == 0:
        raise ToolFailed(
            f"cannot use {source}: ffmpeg wrote no audio of stream {stream_index}; leave it out "
            f"with ffmpeg -i IN -map 0 -map -0:{stream_index} -c copy OUT",
            command=command.shell(),
            returncode=0,
            stderr=stderr,
        )
    return out


def segment_audio(
    data: bytes, boundaries: Sequence[Fraction], language: str | None = None
) -> AudioTrack:
    """Cut encoded audio so that each segment ends at the audio frame nearest a video boundary.

    The first segment holds the priming before its presentation begins; the last one takes the
    rest. Two boundaries nearest the same audio frame give one segment.

    Args:
        data: The file that :func:`encode_audio` wrote.
        boundaries: Ends of the shots in seconds, increasing, shape (shots,).
        language: Language as written in the source; unknown tags are dropped.
    """
    init, media = mp4.split_fragmented(data)
    samples = mp4.sample_table(init, media)
    priming, rate = mp4.edit_media_time(init), mp4.track_timescale(init)
    ends = [sample.decode_time + sample.duration for sample in samples]
    cuts = [nearest_cut(ends, boundary * rate + priming) for boundary in boundaries[:-1]]
    segments: list[AudioSegment] = []
    begin = 0
    for cut in [*cuts, len(samples)]:
        if cut <= begin:
            continue
        inside = samples[begin:cut]
        fragment = mp4.audio_fragment(
            len(segments) + 1,
            inside[0].decode_time,
            [sample.size for sample in inside],
            [sample.duration for sample in inside],
            b"".join(media[sample.offset : sample.offset + sample.size] for sample in inside),
        )
        start = max(inside[0].decode_time - priming, 0)
        end = inside[-1].decode_time + inside[-1].duration - priming
        if end <= start:  # only priming: it goes into the first audible segment
            continue
        segments.append(AudioSegment(Fraction(start, rate), Fraction(end - start, rate), fragment))
        begin = cut
    return AudioTrack(init=init, segments=tuple(segments), language=known_language(language))


def known_language(written: str | None) -> str | None:
    """Return a container's language as a tag for playlists (RFC 5646), None where it is not one.

    ``eng`` becomes ``en``, ``fre`` and ``fra`` become ``fr``.
    """
    if not written or not _LANGUAGE.match(written):
        return None
    try:
        tag = langcodes.standardize_tag(written)
    except LanguageTagError:
        return None
    return None if tag == "und" else tag


def nearest_cut(ends: Sequence[int], time: Fraction) -> int:
    """Return how many audio frames to take so that the last one ends nearest ``time`` (ticks)."""
    after = bisect.bisect_left(ends, time)
    if after == len(ends):
        return after
    before = ends[after - 1] if after else 0
    return after if time - before < ends[after] - time else after + 1
