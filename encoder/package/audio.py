"""The title's sound: encoded once as AAC, in step with the first video frame, cut like the video.

The encoder's priming (1024 samples of nothing at the start) stays in the media and is taken out of
the presentation by the edit list; without one, sound would be 21 ms late.
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
from encoder.ffmpeg import PATIENT_OPTIONS, SOURCE_OPTIONS, Command, does_not_decode, run
from encoder.package.layout import AudioSegment, AudioTrack

STAGE_VERSION = 1
"""Part of the key of encoded sound: raise it when its bits change."""
SAMPLE_RATE = 48_000
BIT_RATE = 128_000
SURROUND_BIT_RATE = 320_000
SURROUND_CHANNELS = 6
"""From how many channels on a stream is also kept as 5.1."""
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
    """The ffmpeg call of :func:`encode_audio`, as a value."""
    options = SOURCE_OPTIONS | PATIENT_OPTIONS
    inputs = [part for name, value in options.items() for part in (f"-{name}", value)]
    layout = "5.1" if surround else "stereo"
    filters = ",".join(
        [
            *(["pan=stereo|c0=c0|c1=c0"] if channels == 1 else []),
            # Time 0 is the first video frame, in the container's own timestamps (-copyts).
            f"asetpts=PTS-({first_video_pts.numerator}/{first_video_pts.denominator})/TB",
            # Silence where sound begins later or has a hole, a cut where it begins earlier.
            # Mixed in floating point: from integers ffmpeg would lower a surround mix by 7 dB,
            # so that its level would depend on how the source happens to be stored.
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
    """Encode a source's sound to ``out``, one fragmented MP4 of AAC-LC, 48 kHz stereo.

    It begins with the title's first video frame and lasts exactly as long as the video: cut or
    padded with silence at both ends, holes filled. Does not depend on shots, so that it is encoded
    once per title. :func:`segment_audio` cuts it.

    Args:
        source: as given by the user; opened with the allow-lists of untrusted input.
        stream_index: of the audio stream among all streams, or None for a title without one.
        out: file to write.
        first_video_pts: presentation time of the title's first frame in the source, seconds.
        duration: of the title's video, seconds.
        channels: of the stream, where known. One channel then goes to both sides unchanged, as
            players play it; ffmpeg's own mix lowers it by 3 dB.
        bit_rate: bit/s.
        surround: 5.1 instead of stereo.

    Returns:
        ``out``, or None where there is nothing to hear: no stream, no sample, or digital silence.

    Raises:
        SourceUnusable: most of the sound does not decode. A smaller part is silence.
        ToolFailed: ffmpeg failed otherwise.
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
        said = run(command).stderr
    except ToolFailed as error:
        if not does_not_decode(error):
            raise
        raise SourceUnusable(
            f"cannot use {source}: its sound (stream {stream_index}) does not decode; mend it, or "
            f"leave it out with ffmpeg -i IN -map 0 -map -0:{stream_index} -c copy OUT",
            **error.context,
        ) from error
    volume = _MAX_VOLUME.findall(said)
    if not volume or float(volume[-1]) < _SILENCE_DB:
        out.unlink(missing_ok=True)
        return None
    if not out.exists() or out.stat().st_size == 0:
        raise ToolFailed(
            "ffmpeg wrote no sound; the audio stream cannot be read",
            command=command.shell(),
            returncode=0,
            stderr=said,
        )
    return out


def segment_audio(
    data: bytes, boundaries: Sequence[Fraction], language: str | None = None
) -> AudioTrack:
    """Cut encoded sound so that each segment ends at the audio frame nearest a video boundary.

    The first segment holds the priming before its presentation begins; the last one takes all that
    is left. Two boundaries nearest the same audio frame give one segment.

    Args:
        data: what :func:`encode_audio` wrote.
        boundaries: ends of the shots, seconds, increasing, shape (shots,).
        language: BCP 47, when known; anything else counts as unknown.

    Raises:
        ValueError: ``data`` is no such file, or there are no boundaries.
    """
    init, media = mp4.split_fragmented(data)
    samples = mp4.sample_table(init, media)
    priming, rate = mp4.edit_media_time(init), mp4.track_timescale(init)
    ends = [sample.decode_time + sample.duration for sample in samples]
    cuts = [_nearest(ends, boundary * rate + priming) for boundary in boundaries[:-1]]
    segments: list[AudioSegment] = []
    begin = 0
    for cut in [*cuts, len(samples)]:
        if cut <= begin:
            continue
        run_of = samples[begin:cut]
        fragment = mp4.audio_fragment(
            len(segments) + 1,
            run_of[0].decode_time,
            [sample.size for sample in run_of],
            [sample.duration for sample in run_of],
            b"".join(media[sample.offset : sample.offset + sample.size] for sample in run_of),
        )
        start = max(run_of[0].decode_time - priming, 0)
        end = run_of[-1].decode_time + run_of[-1].duration - priming
        if end <= start:  # nothing but priming: it goes with the first segment that is heard
            continue
        segments.append(AudioSegment(Fraction(start, rate), Fraction(end - start, rate), fragment))
        begin = cut
    return AudioTrack(init=init, segments=tuple(segments), language=known_language(language))


def known_language(written: str | None) -> str | None:
    """A container's language, which is whatever somebody wrote there, where it is one.

    As playlists want it (RFC 5646): ``en`` of ``eng``, ``fr`` of ``fre`` and ``fra``.
    """
    if not written or not _LANGUAGE.match(written):
        return None
    try:
        tag = langcodes.standardize_tag(written)
    except LanguageTagError:
        return None
    return None if tag == "und" else tag


def _nearest(ends: Sequence[int], time: Fraction) -> int:
    """How many audio frames end at or nearest before or after ``time`` (ticks)."""
    after = bisect.bisect_left(ends, time)
    if after == len(ends):
        return after
    before = ends[after - 1] if after else 0
    return after if time - before < ends[after] - time else after + 1
