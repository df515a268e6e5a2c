"""The audio and subtitle stages: each track is encoded or extracted once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cluster.stages.sound_languages import chosen_sounds
from cluster.stages.stage import Made, find_or_make
from cluster.stages.texts import texts_in_title
from cluster.stages.title import Title
from cluster.store import Blob, Record, Store
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.package import audio, layout
from encoder.package import subtitles as vtt
from encoder.package.audio_commands import Part, Sound
from encoder.package.audio_log import SoundFormat, Undecoded
from encoder.package.loudness import LoudnessFacts
from encoder.package.sound_choices import DEFAULT_SOUND, SoundChoices
from encoder.source.reference import ReferenceSource
from encoder.source.sound.plan import SURROUND_CHANNELS, SourceSound, as_pairs
from encoder.source.sound.undecoded import undecoded_packets


@dataclass(frozen=True, slots=True)
class HeardSound:
    """A sound of a source, and what was found in it."""

    sound: SourceSound
    facts: audio.SoundFacts
    surround: bool = False
    """True where the sound was made as 5.1, beside or instead of stereo."""
    instead: int | None = None
    """Number of the only part that is audible, counted from 0, where a pair that was joined by rule
    is no pair: that part goes to both sides."""
    pairs_instead: bool = False
    """True where tracks are stereo pairs, since the fourth cannot be the LFE of a 5.1."""
    media: Blob | None = None
    """The encode, None where nothing is audible or nothing was encoded."""


Hear = Callable[[Sound, SourceSound, bool], tuple[audio.SoundFacts, Blob | None]]
"""Returns what is in a sound, mixed to stereo or, if True, to 5.1; and its encode, if one is made.
"""


def audio_tracks(
    title: Title, store: Store, choices: SoundChoices = DEFAULT_SOUND
) -> tuple[layout.AudioTrack, ...]:
    """Return the title's audio tracks, each encoded once and cut at the title's shots.

    The first audible sound of the source is what plays by default. Every sound becomes stereo, but
    for a 5.1 whose stereo mix is another sound; one of six channels or more, if only in part, is
    also kept as 5.1.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    return tuple(
        replace(
            audio.segment_audio(
                store.path(heard.media).read_bytes(), _shot_ends(title), heard.sound.language
            ),
            title=heard.sound.title,
            roles=heard.sound.roles,
        )
        for heard in heard_in_title(title, store, choices)
        if heard.media is not None
    )


def heard_in_title(
    title: Title, store: Store, choices: SoundChoices = DEFAULT_SOUND
) -> tuple[HeardSound, ...]:
    """Return the sounds of a title as they are encoded, stereo first.

    Raises:
        BadInput: the title has no sound of a language that was asked for.
        SourceUnusable: a stream does not decode.
    """
    return decide(
        title.reference,
        lambda *asked: _encoded(title, store, choices, *asked),
        choices.languages,
    )


def heard_in_source(reference: ReferenceSource) -> tuple[HeardSound, ...]:
    """Return the sounds that a title would have, from a decode of all sound.

    Raises:
        SourceUnusable: a stream does not decode.
    """

    def hear(sound: Sound, _: SourceSound, surround: bool) -> tuple[audio.SoundFacts, None]:
        facts = audio.listen(
            sound,
            first_video_pts=reference.start_seconds,
            duration=reference.timeline.duration_seconds,
            surround=surround,
        )
        return _with_losses(facts, sound, reference), None

    return decide(reference, hear)


def decide(
    reference: ReferenceSource, hear: Hear, languages: Sequence[str] = ()
) -> tuple[HeardSound, ...]:
    """Decide which sounds are made as stereo and as 5.1, by what is heard in them."""
    planned = chosen_sounds(reference, languages)
    found = _decided(reference, planned, hear)
    if any(one.sound.by_rule and one.facts.wide_lfe for one in found):
        found = tuple(
            replace(one, pairs_instead=one.sound.by_rule)
            for one in _decided(reference, as_pairs(planned), hear)
        )
    return found


def _decided(
    reference: ReferenceSource, planned: Sequence[SourceSound], hear: Hear
) -> tuple[HeardSound, ...]:
    stereo: dict[int, HeardSound] = {}
    wide: list[HeardSound] = []
    # Last come joined 5.1 that need no stereo of their own, if the other is audible.
    for number in sorted(range(len(planned)), key=lambda n: planned[n].mixed_as is not None):
        sound = planned[number]
        surround = None
        if sound.mixed_as is not None:
            surround = _made(reference, sound, hear, surround=True)
            if stereo[sound.mixed_as].facts.audible and _is_surround(surround):
                wide.append(surround)
                continue
        heard = _made(reference, sound, hear)
        stereo[number] = heard
        whole = sound.layout is None and sound.parts[0].channel is None
        widest = max(sound.channels, heard.facts.widest if whole else 0)
        if widest >= SURROUND_CHANNELS and _is_surround(heard):
            wide.append(surround or _made(reference, sound, hear, surround=True))
    return (*(stereo[number] for number in sorted(stereo)), *wide)


def _is_surround(heard: HeardSound) -> bool:
    """Return False where tracks that were joined by rule are silent but for the first two."""
    behind = set(range(2, SURROUND_CHANNELS))
    return heard.facts.audible and not (heard.sound.by_rule and behind <= set(heard.facts.silent))


def _made(
    reference: ReferenceSource, planned: SourceSound, hear: Hear, *, surround: bool = False
) -> HeardSound:
    path = Path(reference.path)
    parts = tuple(Part(path, part.stream, part.channel) for part in planned.parts)
    sound = Sound(parts, planned.layout, planned.channels)
    facts, media = hear(sound, planned, surround)
    if planned.by_rule and planned.layout == "stereo" and facts.audible and facts.silent:
        (instead,) = {0, 1} - set(facts.silent)
        sound = Sound((parts[instead],), channels=1)
        alone = replace(planned, parts=(planned.parts[instead],), layout=None, channels=1)
        facts, media = hear(sound, alone, surround)
        return HeardSound(planned, facts, surround, instead, media=media)
    return HeardSound(planned, facts, surround, media=media)


def _encoded(
    title: Title,
    store: Store,
    choices: SoundChoices,
    sound: Sound,
    planned: SourceSound,
    surround: bool,
) -> tuple[audio.SoundFacts, Blob | None]:
    """Return the facts and the encode of one sound, encoded once."""
    reference = title.reference
    bit_rate = choices.bit_rate(surround=surround)
    plain = planned.layout is None and planned.parts[0].channel is None
    parameters = {
        "source": title.source.sha256,
        **({"stream": planned.parts[0].stream} if plain else {"parts": planned.parts}),
        "start": reference.start_seconds,
        "duration": reference.timeline.duration_seconds,
        "channels": planned.channels,
        "bit_rate": bit_rate,
        "tool": ffmpeg.version(),
        **({"surround": True} if surround else {}),
        **({"codec": choices.codec} if choices.codec != "aac" else {}),
        **({"loudness": choices.loudness} if choices.loudness is not None else {}),
        **reference.copied.identity,
    }

    def make(scratch: Path) -> Made:
        before = ffmpeg.children_cpu_seconds()
        path = scratch / "audio.mp4"
        facts = audio.encode_sound(
            sound,
            path,
            first_video_pts=reference.start_seconds,
            duration=reference.timeline.duration_seconds,
            bit_rate=bit_rate,
            surround=surround,
            codec=choices.codec,
            target_lufs=choices.loudness,
        )
        facts = _with_losses(facts, sound, reference)
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
    return facts, record.blobs["audio"] if facts.audible else None


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
            {"plain": not (facts.rebuilt or facts.lowered_db or facts.jumps or facts.steps)},
            cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before},
        )

    identity = key("audio-check", audio.STAGE_VERSION, **parameters)
    record = find_or_make(
        store, identity, make, stage="audio-check", version=audio.STAGE_VERSION, title=title.id
    )
    plain: bool = record.value["plain"]
    return plain


def _with_losses(
    facts: audio.SoundFacts, sound: Sound, reference: ReferenceSource
) -> audio.SoundFacts:
    """Add to facts what does not decode of a sound, by one more decode if something does not."""
    if not facts.broken:
        return facts
    duration = reference.timeline.duration_seconds
    lost = sorted(
        (start - reference.start_seconds, length)
        for path, stream in dict.fromkeys((part.path, part.stream) for part in sound.parts)
        for start, length in undecoded_packets(path, stream)
        if 0 <= start - reference.start_seconds < duration
    )
    if not lost:
        return facts
    seconds = sum((length for _, length in lost), Fraction(0))
    return replace(
        facts, undecoded=Undecoded(len(lost), round(float(seconds), 3), round(float(lost[0][0]), 3))
    )


def _document(facts: audio.SoundFacts) -> dict[str, Any]:
    lost = facts.undecoded
    formats = [[str(f.seconds), f.channels, f.layout, f.sample_rate] for f in facts.formats]
    return {
        "formats": formats,
        "lowered_db": facts.lowered_db,
        "silent": list(facts.silent),
        "wide_lfe": facts.wide_lfe,
        "jumps": facts.jumps,
        **({"steps": facts.steps} if facts.steps else {}),
        **({"overlap_seconds": facts.overlap_seconds} if facts.overlap_seconds else {}),
        **({"undecoded": asdict(lost)} if lost else {}),
        **({"loudness": facts.loudness.document()} if facts.loudness else {}),
    }


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
        wide_lfe=known.get("wide_lfe", False),
        jumps=known.get("jumps", 0),
        steps=known.get("steps", 0),
        overlap_seconds=known.get("overlap_seconds", 0.0),
        undecoded=Undecoded(**known["undecoded"]) if "undecoded" in known else None,
        loudness=LoudnessFacts(**known["loudness"]) if "loudness" in known else None,
    )


def subtitle_tracks(title: Title, store: Store) -> tuple[layout.SubtitleTrack, ...]:
    """Return the title's text subtitles, then its captions, as WebVTT on the title's timeline.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    return tuple(
        vtt.subtitle_track(
            text.cues,
            _shot_ends(title),
            language=audio.known_language(text.language),
            forced=text.forced,
            hearing_impaired=text.hearing_impaired,
            captions=text.captions,
        )
        for text in texts_in_title(title, store)
        if text.cues or not text.captions
    )


def _shot_ends(title: Title) -> list[Fraction]:
    return [shot.end / title.reference.frame_rate for shot in title.shots]
