"""Describe the sound of a source: its tracks, what becomes of them, and what is heard in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from cluster.jobs.findings import Finding
from cluster.stages.sound_languages import language_of, missing_languages
from cluster.stages.tracks import HeardSound
from encoder.package.audio import SoundFacts
from encoder.package.sound_choices import SoundChoices
from encoder.source.probing.audio_streams import ASIDE, AudioStream
from encoder.source.reference import ReferenceSource
from encoder.source.sound.layout import EXAMPLE
from encoder.source.sound.plan import (
    SURROUND_CHANNELS,
    SourcePart,
    SourceSound,
    left_out,
    maybe_discrete,
    plan_sounds,
    tracks,
)

_LISTED = 5
_SIDES = ("left", "right")


def describe_sound(source: ReferenceSource, heard: Sequence[HeardSound] = ()) -> Iterator[Finding]:
    """Describe the audio tracks of a source, and what a run makes of them.

    What was ``heard`` tells which sounds have a 5.1; otherwise their number of channels does.
    """
    info = source.info
    if not info.audio:
        yield Finding("sound", "none")
        return
    numbers = _numbers(source)
    sounds = plan_sounds(info, source.choices.audio_layout)
    several = len(info.audio) > 1
    listed = "; ".join(_track(numbers[s.index] if several else 0, s) for s in tracks(info))
    then = "is encoded as stereo AAC" if len(sounds) == 1 else "each is encoded as stereo AAC"
    if len(sounds) > 1:
        plays = "plays" if len(sounds[0].parts) == 1 else "play"
        then += f", {_named(sounds[0], numbers)} {plays} by default"
    wide = [sound for sound in sounds if sound.channels >= SURROUND_CHANNELS]
    if any(one.surround for one in heard) if heard else wide:
        then += ", and 5.1 beside it"
    yield Finding("sound", listed, then)
    yield from _joins(source, sounds, numbers)
    yield from _order(source, sounds, numbers)
    for sound in sounds:
        if sound.channels > SURROUND_CHANNELS:
            found = f"{_named(sound, numbers)} has {sound.channels} channels"
            yield Finding("sound", found, "is mixed to 5.1 and to stereo", "warn")


def describe_heard(
    source: ReferenceSource, heard: Sequence[HeardSound], *, encoded: bool
) -> Iterator[Finding]:
    """Describe formats that change, mixes that would clip, and joined tracks that are silent.

    What was not ``encoded`` may be lowered by some decibels more than the mix needs.
    """
    numbers = _numbers(source)
    if pairs := [_named(one.sound, numbers) for one in heard if one.pairs_instead]:
        yield Finding(
            "sound",
            "the fourth of the tracks of one channel sounds above 1 kHz, so it is no LFE",
            f"the tracks are stereo pairs: {', '.join(pairs)}",
            "warn",
        )
    least = "" if encoded else "at least "
    for one in heard:
        name, facts = _named(one.sound, numbers), one.facts
        if facts.formats and not one.surround:
            yield _changes(name, one)
        if facts.jumps and not one.surround:
            yield Finding(
                "sound",
                f"timestamps of {name} jump away and back in {facts.jumps} "
                f"place{'s' * (facts.jumps != 1)}",
                "what is there plays behind what precedes it, or is left out where it has no room",
                "warn",
            )
        if (facts.steps or facts.overlap_seconds) and not one.surround:
            yield _steps(name, facts)
        if facts.undecoded and not one.surround:
            lost = facts.undecoded
            yield Finding(
                "damage",
                f"{lost.seconds:.3f} s of {name} do not decode ({lost.packets} "
                f"packet{'s' * (lost.packets != 1)}, the first at {lost.first_seconds:.3f} s)",
                "are silent",
                "warn",
            )
        if facts.lowered_db:
            yield Finding(
                "sound",
                f"the {'5.1' if one.surround else 'stereo'} mix of {name} exceeds full scale",
                f"is lowered by {least}{facts.lowered_db:.1f} dB as a whole, so as not to clip",
                "warn",
            )
        if one.instead is not None:
            heard_part = one.sound.parts[one.instead].stream
            yield Finding(
                "sound",
                f"of {name}, only track {numbers[heard_part]} is not silent",
                "goes to both sides",
                "warn",
            )


def describe_languages(source: ReferenceSource, choices: SoundChoices) -> Iterator[Finding]:
    """Say which sounds are left out by their language, and which languages there are not."""
    if not choices.languages or not source.info.audio:
        return
    lacking, left = missing_languages(source, choices.languages)
    for language in lacking:
        yield Finding("sound", f"no track is in {language}, which --audio-languages names",
                      "the others are kept", "warn")  # fmt: skip
    numbers = _numbers(source)
    if left:
        listed = ", ".join(f"{_named(sound, numbers)} ({language_of(sound)})" for sound in left)
        yield Finding("sound", f"{listed}: not among --audio-languages",
                      "is left out" if len(left) == 1 else "are left out", "warn")  # fmt: skip


def describe_loudness(source: ReferenceSource, heard: Sequence[HeardSound]) -> Iterator[str]:
    """Say of each sound that was brought to a loudness how, and whether it got there."""
    numbers = _numbers(source)
    for one in heard:
        facts = one.facts.loudness
        if facts is None:
            continue
        name = f"loudness of {_named(one.sound, numbers)} in {'5.1' if one.surround else 'stereo'}"
        if facts.source is None or facts.integrated is None:
            yield f"{name}: none can be measured, so the sound is left as it is"
            continue
        how = "by one gain" if facts.linear else "by a gain that changes, since its peaks are high"
        missed = "" if facts.reached else f", which misses the {facts.target:g} LUFS asked for"
        yield (
            f"{name}: from {facts.source:.1f} to {facts.integrated:.1f} LUFS {how}, true peak "
            f"{facts.true_peak:.1f} dBTP{missed}"
        )


def _steps(name: str, facts: SoundFacts) -> Finding:
    """Describe timestamps that step within a sound."""
    where = f" in {facts.steps} place{'s' * (facts.steps != 1)}" if facts.steps else ""
    if not facts.overlap_seconds:
        held = "sound stays at its times: what is missing there is silent"
        return Finding("sound", f"timestamps of {name} step by less than 0.1 s{where}", held)
    over = f"{facts.overlap_seconds:.3f} s of {name} are at the time of sound before them"
    return Finding("sound", over, "are left out", "warn")


def _numbers(source: ReferenceSource) -> dict[int, int]:
    """Return the number of each audio track, counted from 1 in the file, by its stream's index."""
    return {stream.index: number for number, stream in enumerate(tracks(source.info), 1)}


def _track(number: int, stream: AudioStream) -> str:
    name = f"track {number}, " if number else ""
    name += stream.language or "no language"
    name += f' "{stream.title}"' if stream.title else ""
    name += f" ({', '.join(stream.roles)})" if stream.roles else ""
    channels = f"{stream.channels} channel{'s' * (stream.channels != 1)}"
    unlabelled = " without positions" if stream.unlabelled else ""
    return f"{name}: {stream.codec}, {channels}{unlabelled}, {stream.sample_rate} Hz"


def _part(part: SourcePart, numbers: dict[int, int]) -> str:
    """Return a part as ``--audio-layout`` takes it."""
    channel = "" if part.channel is None else f".{part.channel + 1}"
    return f"{numbers[part.stream]}{channel}"


def _named(sound: SourceSound, numbers: dict[int, int]) -> str:
    """Return the tracks of a sound as people name them."""
    names = [_part(part, numbers) for part in sound.parts]
    return f"track {names[0]}" if len(names) == 1 else f"tracks {'+'.join(names)}"


def _joins(
    source: ReferenceSource, sounds: Sequence[SourceSound], numbers: dict[int, int]
) -> Iterator[Finding]:
    """Say which tracks are joined, and which are left out or may have to be joined."""
    info, asked = source.info, source.choices.audio_layout
    joined = [sound for sound in sounds if sound.layout]
    if joined:
        listed = ", ".join(f"{_named(sound, numbers)} as {sound.layout}" for sound in joined)
        by_rule = any(sound.by_rule for sound in joined)
        apart = ",".join(_part(part, numbers) for sound in joined for part in sound.parts)
        order = f"by the order of masters; if they are separate, say so with --audio-layout {apart}"
        why = order if by_rule else "as --audio-layout says" if asked else "by their labels"
        yield Finding("sound", listed, f"joined {why}", "warn" if by_rule else "ok")
    if dropped := left_out(info, sounds):
        listed = ", ".join(str(numbers[stream.index]) for stream in dropped)
        one = len(dropped) == 1
        found = f"track{'s' * (not one)} {listed}, which --audio-layout does not list"
        yield Finding("sound", found, "is left out" if one else "are left out", "warn")
    if asked is None and (alone := maybe_discrete(info, sounds)):
        listed = ", ".join(str(numbers[stream.index]) for stream in alone)
        then = "each stays a track; if they are channels of one sound, name them: --audio-layout "
        yield Finding("sound", f"tracks of one channel: {listed}", then + EXAMPLE, "warn")
    for stream in info.audio if asked is None else ():
        alone_wide = [s for s in sounds if s.layout is None and s.parts[0].stream == stream.index]
        if stream.unlabelled and alone_wide:
            found = f"track {numbers[stream.index]}: {stream.channels} channels without positions"
            then = "taken in ffmpeg's order; --audio-layout can name channels: 1.1+1.2"
            yield Finding("sound", found, then, "warn")


def _order(
    source: ReferenceSource, sounds: Sequence[SourceSound], numbers: dict[int, int]
) -> Iterator[Finding]:
    """Say of sound that is marked for an audience or use that it does not play by default."""
    aside = [s for s in sounds if ASIDE & set(s.roles)]
    first = min(sounds, key=lambda sound: min(part.stream for part in sound.parts))
    if first in aside and sounds[0] not in aside and source.choices.audio_layout is None:
        found = f"{_named(first, numbers)} ({', '.join(first.roles)}) is first in the file"
        plays = "plays" if len(sounds[0].parts) == 1 else "play"
        yield Finding("sound", found, f"{_named(sounds[0], numbers)} {plays} by default", "warn")
    for sound in sounds:
        if "narration" in sound.roles:
            found = f"{_named(sound, numbers)} is description without the title's sound"
            yield Finding("sound", found, "is a track of its own: players do not mix", "warn")


def _changes(name: str, heard: HeardSound) -> Finding:
    facts = heard.facts
    layouts = [one.layout.removesuffix("(side)") for one in facts.formats]
    rates = [one.sample_rate for one in facts.formats]
    parts = [f"{layout} at {rate} Hz" for layout, rate in zip(layouts, rates, strict=True)]
    times = [_time(one.seconds) for one in facts.formats]
    told = [f"{part} from {time}" for part, time in zip(parts, times, strict=True)]
    more = len(told) - _LISTED
    listed = ", ".join(told[:_LISTED]) + (f" and {more} more times" if more > 0 else "")
    sound = heard.sound
    then = "each part is mixed to stereo, at its own time"
    if any(part.channel is not None for part in sound.parts):
        then = "the channels are taken at their own times; one that a part lacks is silent there"
    elif sound.layout:
        then = "the tracks are joined as channels, each part at its own time"
    elif facts.widest >= SURROUND_CHANNELS:
        then += "; in the 5.1 track, what is stereo sounds in front left and right"
    changes = "changes its" if len(sound.parts) == 1 else "change their"
    return Finding("sound", f"{name} {changes} format: {listed}", then, "warn")


def _time(seconds: Fraction) -> str:
    return f"{float(seconds):.3f} s"
