"""A title's audio: encoded once, as AAC unless asked otherwise, aligned with the
first video frame, and cut like the video.

The encoder's priming (1024 silent samples at the start) stays in the media, and the edit list skips
it in the presentation; without an edit list, audio would be 21 ms late.
"""

from __future__ import annotations

import bisect
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import langcodes
from langcodes.tag_parser import LanguageTagError

from encoder import mp4
from encoder.errors import SourceUnusable, ToolFailed, ToolTimedOut
from encoder.ffmpeg import (
    DEFAULT_TIMEOUT_SECONDS,
    KEPT_LINES,
    Command,
    Completed,
    does_not_decode,
    run,
)
from encoder.package import audio_changes, audio_jumps, audio_log, loudness
from encoder.package.audio_commands import (
    BIT_RATE,
    CHANNELS,
    STEREO,
    SURROUND,
    UNCHANGED,
    Level,
    Part,
    Sound,
    audio_command,
    listen_command,
    loudness_command,
    peak_command,
    stamps_command,
    steady_command,
)
from encoder.package.audio_log import SoundFormat, Undecoded
from encoder.package.layout import AudioSegment, AudioTrack
from encoder.package.loudness import LoudnessFacts
from encoder.review import LOUDNESS_FILTER, parse_loudness

STAGE_VERSION = 1
"""Part of the store key of encoded audio: raise it when its bits change."""
HEADROOM_DB = 1.0
"""Decibels below full scale to which a mix that would clip is lowered: AAC overshoots."""
_CLIPS_DB = 0.01
_MOST_LOWERINGS = 4
_MOST_CORRECTIONS = 2
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*\Z")


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """What was found in a sound while it was encoded or listened to."""

    audible: bool
    """False where there is no sample, or digital silence alone."""
    formats: tuple[SoundFormat, ...] = ()
    """Formats in the order in which they are heard, where they change within the title."""
    lowered_db: float = 0.0
    """Decibels by which the mix was lowered because it would have clipped."""
    silent: tuple[int, ...] = ()
    """Joined parts that are silent, counted from 0."""
    wide_lfe: bool = False
    """True where the LFE among joined parts has sound that no LFE has."""
    jumps: int = 0
    """Stretches of sound whose timestamps jump away and come back."""
    steps: int = 0
    """Small steps of the timestamps that the sound follows."""
    overlap_seconds: float = 0.0
    """Sound that is left out because other sound is at its time."""
    rebuilt: bool = False
    """True where something about the format changes, be it heard or not."""
    broken: bool = False
    """True where ffmpeg said that something does not decode."""
    undecoded: Undecoded | None = None
    """What of the title's sound does not decode, where somebody looked for it."""
    loudness: LoudnessFacts | None = None
    """How it was brought to a loudness, where one was asked for."""

    @property
    def widest(self) -> int:
        """Most channels among :attr:`formats`; 0 where the format does not change."""
        return max((one.channels for one in self.formats), default=0)


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
    """Encode one stream of a source to ``out`` by :func:`encode_sound`.

    Returns:
        ``out``, or None where nothing is audible: no stream, no sample, or digital silence.

    Raises:
        SourceUnusable: most of the audio does not decode. A smaller part becomes silence.
        ToolFailed: ffmpeg failed for another reason.
    """
    if stream_index is None:
        return None
    facts = encode_sound(
        Sound((Part(source, stream_index),), channels=channels),
        out,
        first_video_pts=first_video_pts,
        duration=duration,
        bit_rate=bit_rate,
        surround=surround,
    )
    return out if facts.audible else None


def encode_sound(
    sound: Sound,
    out: Path,
    *,
    first_video_pts: Fraction,
    duration: Fraction,
    bit_rate: int = BIT_RATE,
    surround: bool = False,
    codec: str = "aac",
    target_lufs: float | None = None,
) -> SoundFacts:
    """Encode a sound of a source to ``out``, one fragmented MP4, 48 kHz.

    Audio begins with the title's first video frame and lasts exactly as long as the video: it is
    cut or padded with silence at both ends, and holes are filled. It does not depend on shots, so
    it is encoded once per title; :func:`segment_audio` cuts it.

    A sound whose format changes is decoded to PCM of one format first, beside ``out``. A mix whose
    peak exceeds full scale is lowered as a whole, until the encode does not clip. A mix that is to
    have a loudness is brought to it instead (:mod:`encoder.package.loudness`).

    Args:
        sound: What to encode; files are opened with the allow-lists of untrusted input.
        out: File to write; there is none where nothing is audible.
        first_video_pts: Presentation time of the title's first frame in the source, seconds.
        duration: Duration of the title's video, seconds.
        bit_rate: Bitrate in bit/s.
        surround: Whether to encode 5.1 instead of stereo.
        codec: Key of :data:`encoder.package.sound_choices.SOUND_CODECS`.
        target_lufs: Integrated loudness of the encode; None leaves the level as it is.

    Raises:
        SourceUnusable: most of the audio does not decode. A smaller part becomes silence.
        ToolFailed: ffmpeg failed for another reason.
    """

    def placed(sound: Sound) -> dict[str, Any]:
        first = Fraction(0) if sound.steady else first_video_pts
        return {"first_video_pts": first, "duration": duration, "surround": surround}

    def encoding(sound: Sound, level: Level = UNCHANGED) -> Command:
        return audio_command(
            sound, out, **placed(sound), bit_rate=bit_rate, level=level, codec=codec
        )

    def measuring(sound: Sound, filters: Sequence[str]) -> Command:
        return loudness_command(sound, filters, **placed(sound))

    def execute(call: Command) -> Completed:
        return _run(sound, call, duration)

    command = _Commands(encoding, measuring, target_lufs)
    times = {"first_video_pts": first_video_pts, "duration": duration}
    changes = _changes(sound, execute, **times)
    if changes is not None:
        with audio_changes.steady(sound, changes, out.parent, execute, **times) as made:
            done = _run(made, encoding(made), duration)
            facts = _finished(made, done, out, command, duration)
        return _changed(facts, changes)
    done = _run(sound, encoding(sound), duration)
    broken = audio_log.does_not_decode(done.kept)
    rebuilt, mended = audio_log.changes_format(done.kept), _mended(sound, done)
    if mended.sound != sound and not rebuilt:
        done = _run(mended.sound, encoding(mended.sound), duration)
    sound = mended.sound
    if not rebuilt:
        facts = _finished(sound, done, out, command, duration)
        return mended.described(replace(facts, broken=broken))
    (part,), copy = sound.parts, out.with_name(f"{out.stem}-0.nut")
    try:
        layout = SURROUND if surround else STEREO
        decoded = steady_command(part, copy, **times, layout=layout)
        formats = audio_log.formats(execute(decoded).kept, duration)
        steady = replace(sound, parts=(Part(copy, 0),), steady=True)
        done = _run(steady, encoding(steady), duration)
        facts = _finished(steady, done, out, command, duration)
    finally:
        copy.unlink(missing_ok=True)
    return replace(facts, formats=formats if len(formats) > 1 else (), rebuilt=True, broken=broken)


def listen(
    sound: Sound, *, first_video_pts: Fraction, duration: Fraction, surround: bool = False
) -> SoundFacts:
    """Return what :func:`encode_sound` would find, for the price of one decode.

    The decibels are those of the mix alone: AAC may need some more.

    Raises:
        SourceUnusable: most of the audio does not decode.
        ToolFailed: ffmpeg failed for another reason.
    """
    times = {"first_video_pts": first_video_pts, "duration": duration}

    def execute(call: Command) -> Completed:
        return _run(sound, call, duration)

    changes = _changes(sound, execute, **times)
    if changes is not None:
        with (
            tempfile.TemporaryDirectory() as folder,
            audio_changes.steady(sound, changes, Path(folder), execute, **times) as made,
        ):
            facts = _listened(
                made, first_video_pts=Fraction(0), duration=duration, surround=surround
            )
        return _changed(facts, changes)
    return _listened(sound, **times, surround=surround)


def _changes(
    sound: Sound, execute: audio_changes.Execute, *, first_video_pts: Fraction, duration: Fraction
) -> audio_changes.Changes | None:
    """Return what changes in a sound that cannot be put together where anything changes."""
    if not audio_changes.is_put_together(sound):
        return None
    return audio_changes.find_changes(
        sound, execute, first_video_pts=first_video_pts, duration=duration
    )


def _changed(facts: SoundFacts, changes: audio_changes.Changes) -> SoundFacts:
    """Return the facts of a sound that was made of steady copies of its streams."""
    formats = changes.formats if len(changes.formats) > 1 else ()
    return replace(facts, formats=formats, rebuilt=True, broken=changes.broken)


def _listened(
    sound: Sound, *, first_video_pts: Fraction, duration: Fraction, surround: bool
) -> SoundFacts:
    command = listen_command(
        sound, first_video_pts=first_video_pts, duration=duration, surround=surround
    )
    done = _run(sound, command, duration)
    mended = _mended(sound, done)
    kept = done.kept
    heard = audio_log.formats(kept, duration)
    peak = audio_log.peak_db(kept)
    rebuilt = audio_log.changes_format(kept)
    mixed = rebuilt or sound.steady or sound.width > len(CHANNELS[SURROUND if surround else STEREO])
    facts = SoundFacts(
        audible=audio_log.audible(kept),
        formats=heard if len(heard) > 1 else (),
        lowered_db=_headroom(peak) if mixed and peak > _CLIPS_DB else 0.0,
        silent=audio_log.silent_channels(kept),
        wide_lfe=audio_log.lfe_is_wide(kept),
        rebuilt=rebuilt,
        broken=audio_log.does_not_decode(kept),
    )
    return mended.described(facts)


@dataclass(frozen=True, slots=True)
class _Mended:
    """A sound that follows its timestamps, and what was wrong with them."""

    sound: Sound
    jumps: int = 0
    steps: int = 0
    overlap_seconds: float = 0.0

    def described(self, facts: SoundFacts) -> SoundFacts:
        """Add what was wrong to facts."""
        seconds = round(self.overlap_seconds, 3)
        return replace(facts, jumps=self.jumps, steps=self.steps, overlap_seconds=seconds)


def _mended(sound: Sound, done: Completed) -> _Mended:
    """Return a sound with its timestamps mended.

    Where the format changes as well, frames cannot be told by their numbers: the sound follows
    small steps, and nothing else is mended.
    """
    if not audio_log.jumps(done.kept) or sound.steady:
        return _Mended(sound)
    if audio_log.changes_format(done.kept):
        return _Mended(replace(sound, parts=tuple(replace(p, stepwise=True) for p in sound.parts)))
    parts, jumps, steps, overlap = [], 0, 0, 0.0
    for part in sound.parts:
        log = run(stamps_command(part), keep=audio_jumps.STAMPS).kept
        found = audio_jumps.runs(log)
        mending = audio_jumps.repair(found)
        jumps += len(found) - len(audio_jumps.true_runs(found)) if mending else 0
        small = len(audio_jumps.small_steps(found))
        steps, overlap = steps + small, max(overlap, audio_jumps.overlap_seconds(found))
        parts.append(replace(part, repair=mending, stepwise=small > 0 or len(log) >= KEPT_LINES))
    return _Mended(replace(sound, parts=tuple(parts)), jumps, steps, overlap)


@dataclass(frozen=True, slots=True)
class _Commands:
    """The calls that encode and measure a sound."""

    encoding: Callable[[Sound, Level], Command]
    """Encodes a sound with the level of its mix changed."""
    measuring: Callable[[Sound, Sequence[str]], Command]
    """Measures the mix by filters."""
    target_lufs: float | None


def _finished(
    sound: Sound, done: Completed, out: Path, command: _Commands, duration: Fraction
) -> SoundFacts:
    """Return the facts of an encode, after lowering what clips or bringing it to a loudness."""
    if not audio_log.audible(done.kept):
        out.unlink(missing_ok=True)
        return SoundFacts(audible=False, silent=audio_log.silent_channels(done.kept))
    if not out.exists() or out.stat().st_size == 0:
        raise ToolFailed(
            f"cannot use {sound.parts[0].path}: ffmpeg wrote no audio of stream "
            f"{sound.parts[0].stream}; leave it out with {_without(sound)}",
            command=command.encoding(sound, UNCHANGED).shell(),
            returncode=0,
            stderr=done.stderr,
        )
    silent, wide_lfe = audio_log.silent_channels(done.kept), audio_log.lfe_is_wide(done.kept)
    if command.target_lufs is not None:
        facts = _normalised(sound, out, command, command.target_lufs, duration)
        if facts.source is not None:
            return SoundFacts(True, (), 0.0, silent, wide_lfe, loudness=facts)
        heard: LoudnessFacts | None = facts
    else:
        heard = None
    lowered, over = 0.0, audio_log.peak_db(done.kept)
    for _ in range(_MOST_LOWERINGS):
        if over <= _CLIPS_DB:
            break
        lowered = _upwards(lowered + over) if lowered else _headroom(over)
        _run(sound, command.encoding(sound, Level(lowered)), duration)
        over = audio_log.peak_db(run(peak_command(out), keep=audio_log.LINES).kept)
    return SoundFacts(True, (), lowered, silent, wide_lfe, loudness=heard)


def _normalised(
    sound: Sound, out: Path, command: _Commands, target: float, duration: Fraction
) -> LoudnessFacts:
    """Encode a sound anew at a loudness; leave the encode where the sound has none."""
    log = _run(sound, command.measuring(sound, [loudness.first_pass(target)]), duration).stderr
    mix = loudness.read_first_pass(log)
    if not mix.measurable:
        return LoudnessFacts(target, None, None, None)
    aim = target
    for attempt in range(1 + _MOST_CORRECTIONS):
        level = Level(filters=loudness.second_pass(mix, aim))
        _run(sound, command.encoding(sound, level), duration)
        heard = parse_loudness(run(peak_command(out, LOUDNESS_FILTER)).stderr)
        missed = target - heard.integrated if heard.integrated is not None else 0.0
        if abs(missed) <= loudness.CORRECTED_LU or attempt == _MOST_CORRECTIONS:
            break
        aim = loudness.in_range(aim + missed)
    return LoudnessFacts(
        target, mix.integrated, heard.integrated, heard.true_peak, mix.is_linear(aim)
    )


def _headroom(peak_db: float) -> float:
    return _upwards(peak_db + HEADROOM_DB)


def _upwards(decibels: float) -> float:
    """Round decibels up to a tenth."""
    return math.ceil(decibels * 10) / 10


def _run(sound: Sound, command: Command, duration: Fraction) -> Completed:
    """Run a command about a sound; graphs of several inputs, which can hang, must end in time."""
    joins = audio_changes.is_put_together(sound)
    limit = audio_changes.time_limit(sound, duration) if joins else DEFAULT_TIMEOUT_SECONDS
    try:
        return run(command, timeout_seconds=limit, keep=audio_log.LINES)
    except ToolTimedOut as error:
        if not joins:
            raise
        raise SourceUnusable(
            f"cannot use {sound.parts[0].path}: to join its audio takes more than {limit:.0f} s; "
            "leave --audio-layout out, or name each track by itself (--audio-layout 1,2)"
        ) from error
    except ToolFailed as error:
        if not does_not_decode(error):
            raise
        streams = " and ".join(dict.fromkeys(str(part.stream) for part in sound.parts))
        raise SourceUnusable(
            f"cannot use {sound.parts[0].path}: its audio (stream {streams}) does not decode; "
            f"repair it, or leave it out with {_without(sound)}",
            **error.context,
        ) from error


def _without(sound: Sound) -> str:
    """Return the command that leaves the streams of a sound out of a file."""
    left_out = " ".join(dict.fromkeys(f"-map -0:{part.stream}" for part in sound.parts))
    return f"ffmpeg -i IN -map 0 {left_out} -c copy OUT"


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
