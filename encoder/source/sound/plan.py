"""Which sounds a source has: streams as they are, and discrete channels that belong together.

Masters keep the channels of a sound as tracks of one channel each, or as one stream that does not
state their positions. They are joined by what the file or the user says, otherwise by a rule that
is applied only where nothing speaks against it. All of it is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from encoder.errors import BadInput
from encoder.source.probing.audio_streams import ASIDE, AudioRole, AudioStream
from encoder.source.probing.source_info import SourceInfo
from encoder.source.sound.layout import LAYOUT_OF, Layout, LayoutSound, parse_layout

SURROUND_CHANNELS = 6
"""Least number of channels of a stream that is also delivered as 5.1."""
POSITIONS: dict[Layout, tuple[tuple[str, ...], ...]] = {
    "stereo": (("FL", "FR"), ("DL", "DR")),
    "5.1": (("FL", "FR", "FC", "LFE", "SL", "SR"), ("FL", "FR", "FC", "LFE", "BL", "BR")),
}
"""Labels of the channels of each layout, in the order in which they are joined."""
RULES: dict[int, tuple[Layout, ...]] = {
    2: ("stereo",),
    4: ("stereo", "stereo"),
    6: ("5.1",),
    8: ("5.1", "stereo"),
    10: ("5.1", "stereo", "stereo"),
}
"""Layouts that so many tracks without labels form in masters (SMPTE ST 320 for eight)."""

_LOSSLESS = ("pcm_", "flac", "alac", "s302m", "wavpack")
_MASTERS = ("mov", "mxf")
_SAME_SECONDS = Fraction(1, 10)
_NAMED_POSITIONS = {
    name: position
    for position, names in {
        "FL": ("l", "left", "front left"),
        "FR": ("r", "right", "front right"),
        "FC": ("c", "center", "centre"),
        "LFE": ("lfe", "sub"),
        "SL": ("ls", "sl", "left surround", "surround left"),
        "SR": ("rs", "sr", "right surround", "surround right"),
        "DL": ("lt", "left total"),
        "DR": ("rt", "right total"),
    }.items()
    for name in names
}


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A stream, or one channel of it."""

    stream: int
    """Index of the stream in the file."""
    channel: int | None = None
    """Channel, counted from 0; None is the whole stream."""


@dataclass(frozen=True, slots=True)
class SourceSound:
    """One sound of a source."""

    parts: tuple[SourcePart, ...]
    """One stream, or a part for every channel of :attr:`layout`."""
    layout: Layout | None
    """Layout that several parts form, None for a single part."""
    channels: int
    """Number of channels."""
    language: str | None
    title: str | None = None
    roles: tuple[AudioRole, ...] = ()
    by_rule: bool = False
    """True where the parts were joined although neither file nor user says so."""
    mixed_as: int | None = None
    """Number of the sound, counted from 0, that is the stereo mix of this 5.1."""


def plan_sounds(
    info: SourceInfo, layout: str | None = None, kept: Sequence[int] | None = None
) -> tuple[SourceSound, ...]:
    """Return the sounds of a source; the first that is audible plays by default.

    Args:
        info: The source.
        layout: What the user says (:mod:`encoder.source.sound.layout`).
        kept: Numbers of the sounds to return, counted from 0, in their order; None for all.

    Raises:
        BadInput: the user names tracks or channels that the source does not have.
    """
    if layout is not None:
        sounds = [_asked(info, sound) for sound in parse_layout(layout)]
        if len({sound.parts for sound in sounds}) < len(sounds):
            raise BadInput(f"--audio-layout {layout} lists a sound twice; list it once")
        return _mixes(_kept(sounds, kept))
    joined = _joined(info)
    sounds = [_alone(stream) for stream in info.audio if stream not in joined[0]]
    # Joined sounds stand where the first of their tracks stood.
    first = next((n for n, stream in enumerate(info.audio) if stream in joined[0]), 0)
    before = sum(stream not in joined[0] for stream in info.audio[:first])
    return _mixes(_kept([*sounds[:before], *joined[1], *sounds[before:]], kept))


def _kept(sounds: Sequence[SourceSound], numbers: Sequence[int] | None) -> Sequence[SourceSound]:
    return sounds if numbers is None else [sounds[number] for number in numbers]


def as_pairs(sounds: Sequence[SourceSound]) -> tuple[SourceSound, ...]:
    """Return sounds with stereo pairs instead of what was joined by rule."""
    found: list[SourceSound] = []
    for sound in sounds:
        size = 2 if sound.by_rule else len(sound.parts)
        for begin in range(0, len(sound.parts), size):
            pair = sound.parts[begin : begin + size]
            layout = LAYOUT_OF[size] if sound.by_rule else sound.layout
            channels = size if sound.by_rule else sound.channels
            found.append(
                replace(sound, parts=pair, layout=layout, channels=channels, mixed_as=None)
            )
    return tuple(found)


def left_out(info: SourceInfo, sounds: Sequence[SourceSound]) -> tuple[AudioStream, ...]:
    """Return the streams that no sound uses."""
    used = {part.stream for sound in sounds for part in sound.parts}
    return tuple(stream for stream in info.audio if stream.index not in used)


def tracks(info: SourceInfo) -> list[AudioStream]:
    """Return the audio streams in the order of the file; people count them from 1."""
    return sorted(info.audio, key=lambda stream: stream.index)


def maybe_discrete(info: SourceInfo, sounds: Sequence[SourceSound]) -> tuple[AudioStream, ...]:
    """Return tracks that may be channels of one sound, but were not joined."""
    joined = {part.stream for sound in sounds for part in sound.parts if sound.layout}
    alone = [s for s in tracks(info) if s.channels == 1 and not s.roles and s.index not in joined]
    named = {(s.language, s.title) for s in alone}
    return tuple(alone) if len(alone) > 1 and len(named) == 1 else ()


def _alone(stream: AudioStream) -> SourceSound:
    return SourceSound(
        (SourcePart(stream.index),),
        None,
        stream.channels,
        stream.language,
        stream.title,
        stream.roles,
    )


def _asked(info: SourceInfo, asked: LayoutSound) -> SourceSound:
    """Return a sound that the user asks for."""
    listed = tracks(info)
    parts = []
    for part in asked.parts:
        name = f"{part.track}" if part.channel is None else f"{part.track}.{part.channel}"
        if not listed:
            raise BadInput(
                f"--audio-layout names track {name}, and the source has no sound; leave the option "
                "out"
            )
        if part.track > len(listed):
            has = f"{len(listed)} audio track{'s' * (len(listed) != 1)}"
            raise BadInput(
                f"--audio-layout names track {name}, and the source has {has}; "
                "`shotladder doctor` lists them"
            )
        stream = listed[part.track - 1]
        if (part.channel or 1) > stream.channels:
            raise BadInput(
                f"--audio-layout names track {name}, and that track of the source has "
                f"{stream.channels} channel{'s' * (stream.channels != 1)}; `shotladder doctor` "
                "lists them"
            )
        if len(asked.parts) > 1 and part.channel is None and stream.channels > 1:
            raise BadInput(
                f"--audio-layout joins track {name}, which has {stream.channels} channels; "
                f"name one of them, such as {name}.1"
            )
        channel = part.channel - 1 if part.channel and stream.channels > 1 else None
        parts.append((stream, SourcePart(stream.index, channel)))
    first = parts[0][0]
    single = len(parts) == 1
    languages = {stream.language for stream, _ in parts}
    whole = single and asked.parts[0].channel is None
    channels = first.channels if whole else len(parts)
    if len({part for _, part in parts}) < len(parts):
        raise BadInput(
            f"--audio-layout lists channel {asked.parts[0].track}.1 twice in one sound; a single "
            f"channel goes to both sides by itself: {asked.parts[0].track}"
        )
    if asked.channels not in (None, channels):
        raise BadInput(_other_channels(asked, channels))
    return SourceSound(
        tuple(part for _, part in parts),
        None if single else LAYOUT_OF[len(parts)],
        channels,
        first.language if len(languages) == 1 else None,
        first.title if single else None,
        (asked.role,) if asked.role else first.roles if single else (),
    )


def _other_channels(asked: LayoutSound, channels: int) -> str:
    """Return why a layout is refused that says another number of channels than there are."""
    track, channel = asked.parts[0].track, asked.parts[0].channel
    has = f"{channels} channel{'s' * (channels != 1)}"
    if channel is not None:
        return (
            f"--audio-layout calls {track}.{channel}, one channel, {asked.name}; "
            f"leave the name out: {track}.{channel}"
        )
    wanted = asked.channels or 1
    instead = f"leave the name out to keep the track as it is ({track})"
    if wanted < channels:
        named = "+".join(f"{track}.{number}" for number in range(1, wanted + 1))
        instead += f", or name channels of it ({asked.name}={named})"
    return f"--audio-layout calls track {track} {asked.name}, and it has {has}; {instead}"


def _joined(info: SourceInfo) -> tuple[list[AudioStream], list[SourceSound]]:
    """Return the streams that are joined without being asked, and the sounds that they form."""
    wide = [s for s in info.audio if s.unlabelled and _is_master(info, s) and not s.roles]
    if len(wide) == 1 and wide[0].channels in RULES and wide[0].channels != SURROUND_CHANNELS:
        parts = [SourcePart(wide[0].index, channel) for channel in range(wide[0].channels)]
        return wide, _by_rule(parts, wide[0].language)
    singles = [stream for stream in tracks(info) if stream.channels == 1 and not stream.roles]
    places = [stream.position or _NAMED_POSITIONS.get((stream.title or "").lower())
              for stream in singles]  # fmt: skip
    same = len({stream.language for stream in singles}) == 1
    if same and len(singles) > 1 and all(places):
        sounds = _by_labels(singles, [place or "" for place in places])
        if sounds:
            return singles, sounds
    if same and len(singles) in RULES and _alike(info, singles):
        parts = [SourcePart(stream.index) for stream in singles]
        return singles, _by_rule(parts, singles[0].language)
    return [], []


def _by_labels(singles: Sequence[AudioStream], places: Sequence[str]) -> list[SourceSound]:
    """Return the sounds that labelled tracks form, none if a track is left over."""
    sounds: list[SourceSound] = []
    begin = 0
    while begin < len(singles):
        for size in (SURROUND_CHANNELS, 2):
            part = dict(zip(places[begin : begin + size], singles[begin:], strict=False))
            orders = [order for order in POSITIONS[LAYOUT_OF[size]] if set(order) == part.keys()]
            if orders:
                parts = tuple(SourcePart(part[place].index) for place in orders[0])
                language = singles[begin].language
                sounds.append(SourceSound(parts, LAYOUT_OF[size], size, language))
                begin += size
                break
        else:
            return []
    return sounds


def _by_rule(parts: Sequence[SourcePart], language: str | None) -> list[SourceSound]:
    sounds, begin = [], 0
    for layout in RULES[len(parts)]:
        size = next(size for size, name in LAYOUT_OF.items() if name == layout)
        joined = tuple(parts[begin : begin + size])
        sounds.append(SourceSound(joined, layout, size, language, by_rule=True))
        begin += size
    return sounds


def _is_master(info: SourceInfo, stream: AudioStream) -> bool:
    lossless = stream.codec.startswith(_LOSSLESS)
    return lossless and any(name in info.container.split(",") for name in _MASTERS)


def _alike(info: SourceInfo, singles: Sequence[AudioStream]) -> bool:
    """Return True where nothing tells tracks apart: they can only be channels of one sound.

    Compressed tracks are languages or commentary more often than channels, unless a QuickTime file
    plays all of them at once.
    """
    first = singles[0]
    formats = {(s.codec, s.sample_rate, s.title, s.start_seconds) for s in singles}
    lengths = [s.seconds for s in singles if s.seconds is not None]
    together = "mov" in info.container.split(",") and all(s.enabled for s in singles)
    return (
        len(formats) == 1
        and first.title is None
        and (not lengths or max(lengths) - min(lengths) < _SAME_SECONDS)
        and (first.codec.startswith(_LOSSLESS) or together)
    )


def _mixes(sounds: Sequence[SourceSound]) -> tuple[SourceSound, ...]:
    """Say of each joined 5.1 which stereo of the same language is its mix, if there is one."""
    own = [n for n, s in enumerate(sounds) if not ASIDE & set(s.roles)]
    found = []
    for sound in sounds:
        mix = next(
            (n for n in own if sounds[n].channels == 2 and sounds[n].language == sound.language),
            None,
        )
        joined = sound.layout == "5.1" and not ASIDE & set(sound.roles)
        found.append(replace(sound, mixed_as=mix) if joined and mix is not None else sound)
    return tuple(found)
